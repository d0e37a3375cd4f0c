package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/revision/remote"
	"github.com/pantavisor/pantavisor/revision/repo"
)

// global are the settings that stand before the command.
type global struct {
	token       string
	baseURL     string
	repoBaseURL string
	configDir   string
	httpProxy   string
	debug       bool
	noUpgrade   bool
	insecure    bool
	version     bool
}

func newRoot(t *tool) *cobra.Command {
	root := &cobra.Command{
		Use:   "pvr",
		Short: "Make, change, sign and move the revisions of Pantavisor devices",
		Example: `  pvr clone https://pvr.pantahub.com/nick/device
  pvr add . && pvr commit -m "new configuration"
  pvr export device.tgz`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		TraverseChildren:  true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		Args:              cobra.ArbitraryArgs,
		PersistentPreRun:  func(*cobra.Command, []string) { t.prepare() },
		RunE: func(cmd *cobra.Command, _ []string) error {
			if t.version {
				fmt.Fprintf(t.stdout, "pvr version %s\n", versionText())
				return nil
			}
			return cmd.Help()
		},
	}
	t.global.flags(root.Flags())
	root.SetIn(t.stdin)
	root.SetOut(t.stdout)
	root.SetErr(t.stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return &usageError{cmd, err} })
	root.AddCommand(commands(t)...)
	help := newHelp(root)
	root.AddCommand(help)
	root.SetHelpCommand(help)
	refuseWords(root)
	return root
}

// refuseWords has the commands whose usage names no arguments reject them: a word that is
// passed over without a word looks as if it had been done.
func refuseWords(cmd *cobra.Command) {
	for _, c := range cmd.Commands() {
		refuseWords(c)
	}
	if cmd.HasSubCommands() || strings.Contains(cmd.Use, " ") {
		return
	}
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		return failf(1, "%s takes no arguments, and %q is one. See --help", cmd.Name(), args[0])
	}
}

// commands returns all commands.
func commands(t *tool) []*cobra.Command {
	return append([]*cobra.Command{
		newInit(t), newAdd(t), newJSON(t), newDiff(t), newStatus(t), newCommit(t), newSig(t),
		newGet(t, false), newGet(t, true), newInspect(t), newDeploy(t), newCheckout(t),
		newClone(t), newExport(t), newImport(t), newApp(t), newSBOM(t), newSelfUpgrade(t),
		newGlobalConfig(t), newCompletion(t), newVersion(t),
	}, remoteCommands(t)...)
}

func (g *global) flags(fs *pflag.FlagSet) {
	fs.SortFlags = false
	text(fs, &g.token, "access-token", "a", "PVR_ACCESSTOKEN", "", "bearer `token` for every authenticated call; there is no login then")
	text(fs, &g.baseURL, "baseurl", "b", "PVR_BASEURL", "https://api.pantahub.com", "`address` of the hub's API")
	text(fs, &g.repoBaseURL, "repo-baseurl", "r", "PVR_REPO_BASEURL", "https://pvr.pantahub.com", "`address` below which nick/device is")
	text(fs, &g.configDir, "config-dir", "c", "PVR_CONFIG_DIR", remote.DefaultConfigDir(), "`directory` of keys, tokens, caches and the default object store")
	text(fs, &g.httpProxy, "http-proxy", "", "PVR_HTTP_PROXY", "system", "system, no, or the `URL` of a proxy")
	flag(fs, &g.debug, "debug", "d", "PVR_DEBUG", "show HTTP traffic")
	flag(fs, &g.noUpgrade, "disable-self-upgrade", "", "PVR_DISABLE_SELF_UPGRADE", "accepted; this build never replaces itself")
	flag(fs, &g.insecure, "insecure", "i", "PVR_INSECURE", "do not verify TLS certificates of the API and of exports")
	flag(fs, &g.version, "version", "v", "", "print the version")
}

// text declares a flag with a value; the environment variable gives the default.
func text(fs *pflag.FlagSet, p *string, name, short, env, value, usage string) {
	if v, ok := os.LookupEnv(env); env != "" && ok {
		value = v
	}
	fs.StringVarP(p, name, short, value, withEnv(usage, env))
}

// flag declares a switch; the environment variable gives the default.
func flag(fs *pflag.FlagSet, p *bool, name, short, env, usage string) {
	value := false
	if env != "" {
		value, _ = strconv.ParseBool(os.Getenv(env))
	}
	fs.BoolVarP(p, name, short, value, withEnv(usage, env))
}

func withEnv(usage, env string) string {
	if env == "" {
		return usage
	}
	return usage + " [$" + env + "]"
}

// prepare makes the config directory with the tool's settings. What cannot be made is
// complained about by the commands that need it.
func (t *tool) prepare() {
	if abs, err := filepath.Abs(t.configDir); err == nil {
		t.configDir = abs
	}
	for _, dir := range []string{"", "cache", "pvs"} {
		atomicfile.Sweep(filepath.Join(t.configDir, dir))
	}
	file := filepath.Join(t.configDir, "config.json")
	if _, err := os.Lstat(file); err == nil || os.MkdirAll(t.configDir, 0o700) != nil {
		return
	}
	_ = atomicfile.Write(file, defaultSettings().encode(), 0o644)
}

// open opens the repository of the working directory.
func (t *tool) open(ctx context.Context, write bool) (*repo.Repo, error) {
	dir, err := checkout()
	if err != nil {
		return nil, err
	}
	r, err := t.openAt(ctx, dir, write)
	return r, fail(2, err)
}

// checkout returns the working directory, which must have a repository: without one a
// query would answer for an empty state, and an export would be of nothing.
func checkout() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fail(1, err)
	}
	if _, err := os.Stat(filepath.Join(dir, repo.Dir)); !missing(err) {
		return dir, nil
	}
	if err := inCheckout(dir); err != nil {
		return "", err
	}
	return "", failf(2, "%s: %w", dir, repo.ErrNone)
}

// inCheckout returns an error for a directory that is below a checkout: its files are
// part of that, and would be shown as those of another one.
func inCheckout(dir string) error {
	for up := filepath.Dir(dir); up != dir; dir, up = up, filepath.Dir(up) {
		if info, err := os.Stat(filepath.Join(up, repo.Dir, "json")); err == nil && info.Mode().IsRegular() {
			return failf(2, "this directory is part of the checkout %s; run pvr there", up)
		}
	}
	return nil
}

func (t *tool) openAt(ctx context.Context, dir string, write bool) (*repo.Repo, error) {
	return repo.Open(ctx, dir, repo.Options{
		Write:   write,
		Cache:   filepath.Join(t.configDir, "cache"),
		Waiting: func() { fmt.Fprintln(t.stderr, "Waiting for another pvr command on this repository ...") },
	})
}

// newHelp replaces the library's help command, for the exit code.
func newHelp(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:     "help [COMMAND]...",
		Aliases: []string{"h"},
		Short:   "Explain a command",
		Example: "  pvr help sig add",
		RunE: func(cmd *cobra.Command, args []string) error {
			target := root
			for _, word := range args {
				sub := subcommand(target, word)
				if sub == nil {
					return unknownCommand(target, word)
				}
				target = sub
			}
			target.InitDefaultHelpFlag()
			return target.Help()
		},
	}
}
