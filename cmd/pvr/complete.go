package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pantavisor/pantavisor/revision/repo"
)

func goVersion() string { return runtime.Version() }

func newCompletion(t *tool) *cobra.Command {
	return &cobra.Command{
		Use:       "completion [bash|zsh|fish]",
		Aliases:   []string{"com"},
		Short:     "Print a shell's completion script",
		Example:   "  source <(pvr completion)\n  pvr completion fish > ~/.config/fish/completions/pvr.fish",
		ValidArgs: []string{"bash", "zsh", "fish"},
		RunE: func(cmd *cobra.Command, args []string) error {
			shell := "bash"
			if len(args) > 0 {
				shell = args[0]
			}
			root := cmd.Root()
			root.Use = filepath.Base(t.name) // the name that the user types
			switch shell {
			case "bash":
				return root.GenBashCompletionV2(t.stdout, true)
			case "zsh":
				return root.GenZshCompletion(t.stdout)
			case "fish":
				return root.GenFishCompletion(t.stdout, true)
			}
			return fmt.Errorf("%s: no completion for this shell; bash, zsh and fish have one", shell)
		},
	}
}

// oldCompletion answers the scripts of older builds, which append a hidden flag to
// the words so far: one candidate a line.
func oldCompletion(ctx context.Context, t *tool, root *cobra.Command, words []string) int {
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetArgs(append(append([]string{cobra.ShellCompNoDescRequestCmd}, words...), ""))
	if err := root.ExecuteContext(ctx); err != nil {
		return t.report(err)
	}
	for line := range strings.Lines(out.String()) {
		if !strings.HasPrefix(line, ":") && !strings.HasPrefix(line, "Completion ended") {
			fmt.Fprint(t.stdout, line)
		}
	}
	return 0
}

// candidates filters words by what is typed.
func candidates(words []string, typed string) ([]string, cobra.ShellCompDirective) {
	var out []string
	for _, w := range words {
		if strings.HasPrefix(w, typed) {
			out = append(out, w)
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

func completeApps(_ *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	names, err := apps()
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return candidates(names, typed)
}

// completeParts completes the last of a list of parts.
func completeParts(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	r, err := repo.Open(cmd.Context(), ".", repo.Options{})
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer r.Close()
	before := typed[:strings.LastIndexByte(typed, ',')+1]
	var words []string
	for _, p := range r.Committed().Parts() {
		words = append(words, before+p)
	}
	return candidates(words, typed)
}

func completeSignatures(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	r, err := repo.Open(cmd.Context(), ".", repo.Options{})
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer r.Close()
	keys, err := r.Signatures(repo.SigDir + "/*.json")
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var words []string
	for _, key := range keys {
		words = append(words, strings.TrimSuffix(filepath.Base(key), ".json"))
	}
	return candidates(words, typed)
}

// completeFragment completes the last part behind the name of a repository of this
// machine; a part that is to be dropped has a '-'.
func completeFragment(ctx context.Context, typed string) ([]string, cobra.ShellCompDirective) {
	name, _, _ := strings.Cut(typed, "#")
	before := typed[:strings.LastIndexAny(typed, "#,")+1]
	if strings.HasPrefix(typed[len(before):], "-") {
		before += "-"
	}
	src, err := repo.Local(name, false)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	st, err := src.State(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var words []string
	for _, p := range st.Parts() {
		words = append(words, before+p)
	}
	return candidates(words, typed)
}

// completeVolumes completes a container and then one of its file systems.
func completeVolumes(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return completeApps(cmd, args, typed)
	}
	var words []string
	if len(args) == 1 {
		entries, err := os.ReadDir(args[0])
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		for _, e := range entries {
			if e.Type().IsRegular() && strings.HasSuffix(e.Name(), ".squashfs") {
				words = append(words, e.Name())
			}
		}
	}
	return candidates(words, typed)
}

// completeFlags declares what the values of flags are, for completion: words, or
// the applications where there are none.
func completeFlags(cmd *cobra.Command, values map[string][]string) {
	for name, words := range values {
		_ = cmd.RegisterFlagCompletionFunc(name, func(_ *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
			if words == nil {
				return completeApps(nil, nil, typed)
			}
			return candidates(words, typed)
		})
	}
}

// completeRepos completes the remotes that the repository remembers, beside files,
// and the parts of a repository of this machine.
func completeRepos(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	if strings.Contains(typed, "#") {
		return completeFragment(cmd.Context(), typed)
	}
	r, err := repo.Open(cmd.Context(), ".", repo.Options{})
	if err != nil {
		return nil, cobra.ShellCompDirectiveDefault
	}
	defer r.Close()
	c := r.Config()
	seen := map[string]bool{"": true}
	var words []string
	for _, url := range []string{c.DefaultGetUrl, c.DefaultPutUrl, c.DefaultPostUrl} {
		if !seen[url] {
			seen[url] = true
			words = append(words, url)
		}
	}
	words, _ = candidates(words, typed)
	return words, cobra.ShellCompDirectiveDefault
}
