package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pantavisor/pantavisor/internal/spelling"
	"github.com/pantavisor/pantavisor/revision/remote"
	"github.com/pantavisor/pantavisor/revision/repo"
	"github.com/pantavisor/pantavisor/revision/state"
)

// newGet makes get, or merge.
func newGet(t *tool, merge bool) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "get [REPO[#PARTS]]... [CHECKOUT]",
		Aliases: []string{"g"},
		Short:   "Take a state, or parts of it, from another repository",
		Long: `Take a state from another repository in place of the committed one. With parts only
they are replaced; a part with a leading '-' is removed. Several repositories are
taken in their order, all of them or none. They go to the repository of the working
directory, or to that of the checkout that the last word names. The working tree stays
as it is: see pvr checkout.`,
		Example: "  pvr get device.tgz\n  pvr get nick/device#bsp,_sigs/bsp.json\n  pvr get https://example.com/bsp.tgz#bsp\n  pvr get other/.pvr#app,-old\n  pvr get bsp.tgz#bsp apps.tgz#nginx,redis\n  pvr get device.tgz#bsp ../other-checkout",
	}
	if merge {
		cmd.Use, cmd.Aliases = "merge [REPO[#PARTS]]... [CHECKOUT]", []string{"m"}
		cmd.Short = "Merge a state, or parts of it, from another repository"
		cmd.Long = `Merge a state from another repository into the committed one: JSON objects member by
member, everything else is replaced. They go to the repository of the working
directory, or to that of the checkout that the last word names. The working tree stays
as it is: see pvr checkout.`
		cmd.Example = "  pvr merge device.tgz\n  pvr merge nick/device#app"
	}
	cmd.ValidArgsFunction = completeRepos
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return t.get(cmd, args, merge) }
	return cmd
}

func (t *tool) get(cmd *cobra.Command, args []string, merge bool) error {
	args, target := cutTarget(args)
	if len(args) > 1 && !t.areRepos(args) {
		return fmt.Errorf("%s can have at most 1 argument. See --help.", map[bool]string{false: "Get", true: "Merge"}[merge]) //nolint:revive,staticcheck // the customary text
	}
	r, err := t.openTarget(cmd.Context(), target)
	if err != nil {
		return err
	}
	defer r.Close()
	if len(args) == 0 && r.Config().DefaultPutUrl == "" {
		return noRemote(cmd, 3)
	}
	if len(args) == 0 {
		args = []string{r.Config().DefaultPutUrl}
	}
	var from []repo.Taken
	for _, name := range args {
		ref, src, err := t.source(name, false)
		if err != nil {
			return fail(3, err)
		}
		if far, ok := src.(*far); ok {
			far.merge = merge
		}
		from = append(from, repo.Taken{Source: src, Ref: ref})
	}
	all, err := r.GetAll(cmd.Context(), merge, from...)
	if err != nil {
		return fail(3, err)
	}
	count := 0
	for i, pulled := range all {
		t.pulledLines(pulled)
		t.warnUnmatched(pulled.Unmatched, from[i].Ref.Text, pulled.State)
		count += pulled.Count
	}
	fmt.Fprintf(t.stdout, "\nImported %d objects to %s\n\n\nRun pvr checkout to checkout the changed files into the workspace.\n",
		count, storeOf(r))
	return nil
}

// cutTarget cuts off the last of several words when it names a checkout, which no
// repository's name does.
func cutTarget(args []string) (sources []string, target string) {
	last := len(args) - 1
	if last < 1 {
		return args, ""
	}
	if info, err := os.Stat(filepath.Join(args[last], repo.Dir)); err != nil || !info.IsDir() {
		return args, ""
	}
	return args[:last], args[last]
}

// openTarget opens the repository of a checkout, or of the working directory.
func (t *tool) openTarget(ctx context.Context, target string) (*repo.Repo, error) {
	if target == "" {
		return t.open(ctx, true)
	}
	r, err := t.openAt(ctx, target, true)
	if err != nil {
		return nil, fail(2, err)
	}
	return r, nil
}

// areRepos reports whether all words can name repositories.
func (t *tool) areRepos(names []string) bool {
	for _, name := range names {
		if _, err := repo.ParseRef(name, t.repoBaseURL); err != nil {
			return false
		}
	}
	return true
}

func storeOf(r *repo.Repo) string {
	store, err := r.Objects()
	if err != nil {
		return r.Dir()
	}
	return store.Dir()
}

// pulledLines tells what came from a source.
func (t *tool) pulledLines(p *repo.Pulled) {
	var lines bytes.Buffer // of thousands of objects
	for _, o := range p.Objects {
		mark := "[OK]"
		if o.Cached {
			mark = "[OK cache]"
		}
		fmt.Fprintf(&lines, "%.15s %s\n", o.Path, mark)
	}
	_, _ = t.stderr.Write(lines.Bytes())
}

// warnUnmatched tells of parts that a repository does not have.
func (t *tool) warnUnmatched(parts []string, name string, st *state.State) {
	for _, p := range parts {
		hint := ""
		if near := spelling.Nearest(p, st.Parts()); len(near) > 0 {
			hint = "; did you mean " + strings.Join(near, " or ") + "?"
		}
		fmt.Fprintf(t.stderr, "WARNING: %s matches nothing of %s%s\n", p, name, hint)
	}
}

// source opens a repository by its name. With link its objects may be linked
// instead of copied.
func (t *tool) source(name string, link bool) (repo.Ref, repo.Source, error) {
	ref, err := repo.ParseRef(name, t.repoBaseURL)
	if err != nil {
		return ref, nil, err
	}
	if ref.Export != "" {
		client, err := remote.HTTPClient(remote.Options{Proxy: t.httpProxy, Insecure: t.insecure})
		if err != nil {
			return ref, nil, err
		}
		src, err := repo.Web(ref.Export, filepath.Join(t.configDir, "cache"), client)
		return ref, src, err
	}
	if ref.URL != "" {
		src, err := t.remoteSource(ref)
		return ref, src, err
	}
	src, err := repo.Local(ref.Path, link)
	return ref, src, err
}
