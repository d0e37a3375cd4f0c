package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pantavisor/pantavisor/revision/canon"
	"github.com/pantavisor/pantavisor/revision/state"
)

func newApp(t *tool) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "app",
		Aliases: []string{"ap"},
		Short:   "Work on the applications of a checkout",
		Example: "  pvr app ls\n  pvr app info nginx",
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newAppList(t), newAppInfo(t), newAppRemove(t))
	cmd.AddCommand(appCommands(t)...)
	return cmd
}

// apps returns the names of the checkout's directories that hold an application's manifest.
func apps() ([]string, error) {
	dir, err := checkout()
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fail(3, err)
	}
	out := []string{}
	for _, e := range entries {
		if _, err := os.Stat(filepath.Join(e.Name(), "src.json")); err == nil {
			out = append(out, e.Name())
		}
	}
	return out, nil
}

func newAppList(t *tool) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"l"},
		Short:   "List the applications",
		Example: "  pvr app ls",
		RunE: func(*cobra.Command, []string) error {
			names, err := apps()
			if err != nil {
				return err
			}
			if asJSON {
				return t.printJSON(names)
			}
			for _, n := range names {
				fmt.Fprintln(t.stdout, n)
			}
			return nil
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

// appDirectory checks an application's name and returns its directory.
func appDirectory(name string) (string, error) {
	name = strings.Trim(name, "/")
	if err := state.CheckKey(name); err != nil {
		return "", err
	}
	info, err := os.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
		return "", fmt.Errorf("App '%s' doesn't exist", name) //nolint:revive,staticcheck // scripts know the text
	}
	return name, err
}

func newAppInfo(t *tool) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "info APP",
		Aliases: []string{"i"},
		Short:   "Print an application's manifest",
		Example: "  pvr app info nginx",
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return failf(2, "'pvr app info' needs appname argument(eg:app info <appname>). See --help")
			}
			if _, err := checkout(); err != nil {
				return err
			}
			dir, err := appDirectory(args[0])
			if err != nil {
				return fail(3, err)
			}
			text, err := readPEM(filepath.Join(dir, "src.json"))
			if err != nil {
				return fail(3, err)
			}
			v, err := canon.One(text)
			if err != nil {
				return failf(3, "reading %s/src.json: %w", dir, err)
			}
			style := wide
			style.HTML = true
			return t.print(v.Pretty(style))
		},
		ValidArgsFunction: completeApps,
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func newAppRemove(t *tool) *cobra.Command {
	return &cobra.Command{
		Use:     "rm APP",
		Aliases: []string{"r"},
		Short:   "Remove an application's directory from the working tree",
		Long: `Remove an application's directory from the working tree. Its configuration
(_config/APP) and signature (_sigs/APP.json) stay.`,
		Example: "  pvr app rm nginx && pvr commit",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return failf(2, "'pvr app rm' needs appname argument(eg:app rm <appname> ). See --help")
			}
			r, err := t.open(cmd.Context(), true)
			if err != nil {
				return err
			}
			defer r.Close()
			dir, err := appDirectory(args[0])
			if err != nil {
				return fail(3, err)
			}
			return fail(3, os.RemoveAll(dir))
		},
		ValidArgsFunction: completeApps,
	}
}
