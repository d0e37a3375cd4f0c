package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/pantavisor/pantavisor/revision/repo"
)

func newDeploy(t *tool) *cobra.Command {
	var replace bool
	cmd := &cobra.Command{
		Use:   "deploy DIR [REPO[#PARTS]]...",
		Short: "Lay out a device's revision of one or more repositories",
		Long: `Lay out a revision in DIR, as a device has it: objects are hard links into the
store, JSON is canonical, and .pv holds the boot links. The repositories are merged
in their order; without one the current checkout's commit is deployed. Files in DIR
that belong to none of them are deleted.`,
		Example: "  pvr deploy trails/0 bsp.tgz apps.tgz#nginx\n  pvr deploy --nomerge trails/0 device.tgz",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) < 1 {
				return failf(101, "Deploy needs at least 1 argument. See --help.")
			}
			return t.deploy(cmd.Context(), args[0], args[1:], !replace)
		},
		ValidArgsFunction: completeRepos,
	}
	flag(cmd.Flags(), &replace, "nomerge", "n", "", "replace parts instead of merging their JSON")
	return cmd
}

// deployCodes are the exit codes of the stages of deploy.
var deployCodes = map[repo.Stage]int{repo.StageClean: 9, repo.StageBoot: 10}

func (t *tool) deploy(ctx context.Context, dir string, sources []string, merge bool) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fail(5, err)
	}
	if len(sources) == 0 {
		sources = []string{repo.Dir}
	}
	fmt.Fprintln(t.stdout, "Starting deployment ...\n... initializing deploy repository ...")
	r, err := t.deployRepo(ctx, dir)
	if err != nil {
		return fail(5, err)
	}
	defer r.Close()
	for _, name := range sources {
		fmt.Fprintf(t.stdout, "   - deploying %s\n", name)
		if err := t.deployOne(ctx, r, name, merge); err != nil {
			return err
		}
	}
	if err := t.layOut(ctx, r); err != nil {
		return err
	}
	fmt.Fprintf(t.stdout, "Deployment finished. Now now available at: %s\n", dir)
	return nil
}

// deployRepo opens the directory's repository, which is made when it is missing.
func (t *tool) deployRepo(ctx context.Context, dir string) (*repo.Repo, error) {
	if err := repo.CanDeploy(dir); err != nil {
		return nil, err
	}
	if _, err := os.Lstat(filepath.Join(dir, repo.Dir)); err != nil {
		opt := repo.InitOptions{}
		if err := t.storeDir(&opt); err != nil {
			return nil, err
		}
		if err := repo.Init(dir, opt); err != nil {
			return nil, err
		}
	}
	return t.openAt(ctx, dir, true)
}

func (t *tool) deployOne(ctx context.Context, r *repo.Repo, name string, merge bool) error {
	ref, src, err := t.source(name, false)
	if err != nil {
		return fail(7, err)
	}
	pulled, err := r.Get(ctx, src, ref, merge)
	if err != nil {
		return fail(6, err)
	}
	t.pulledLines(pulled)
	t.warnUnmatched(pulled.Unmatched, name, pulled.State)
	return nil
}

func (t *tool) layOut(ctx context.Context, r *repo.Repo) error {
	steps := []struct {
		title string
		run   func() error
	}{
		{"... Cleanup repo ...", func() error { return r.Clean(ctx) }},
		{"... deploying hardlinks ...", func() error { return r.Checkout(ctx, repo.CheckoutOptions{Hardlink: true, Copied: t.tellCopied}) }},
		{"... deploying .pv/ links...", r.BootLinks},
	}
	for _, s := range steps {
		fmt.Fprintln(t.stdout, s.title)
		err := s.run()
		var stage *repo.StageError
		if errors.As(err, &stage) {
			return fail(deployCodes[stage.Stage], err)
		}
		if err != nil {
			return fail(3, err)
		}
	}
	return nil
}
