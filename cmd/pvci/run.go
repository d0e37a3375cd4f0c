package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// release is set by the build: -ldflags "-X main.release=...".
var release string

// versionText returns the version: the build's word, or the module's version.
func versionText() string {
	if release != "" {
		return release
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}

// tool is what all commands share.
type tool struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	json           bool // results as JSON on standard output
}

// Run runs the tool with the words of a command line, args[0] being its own name, and returns its exit
// code (docs/exit-codes.md).
func Run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	t := &tool{stdin: stdin, stdout: stdout, stderr: stderr}
	root := newRoot(t)
	root.SetArgs(words(args))
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	if cause := context.Cause(ctx); cause != nil && errors.Is(err, context.Canceled) {
		err = fault.New(fault.Cancelled, "%w", err)
	}
	fmt.Fprintln(stderr, "pvci: "+strings.TrimSpace(err.Error()))
	return int(fault.Of(err))
}

// former are the names of programs that pvci stands in for, as links to it, with its words for them.
var former = map[string][]string{
	"build_exports":  {"container", "build"},
	"mkdocker.sh":    {"container"},
	"pvpkg_install":  {"container", "install"},
	"mkdevice-ci.sh": {"device"},
}

// words returns the words of a command line after the program's name.
func words(args []string) []string {
	name := path.Base(filepath.ToSlash(args[0]))
	return append(append([]string(nil), former[name]...), args[1:]...)
}

func newRoot(t *tool) *cobra.Command {
	root := &cobra.Command{
		Use:           "pvci",
		Short:         "Do the work of pipelines: packages, devices, images, the catalogue",
		Version:       versionText(),
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetIn(t.stdin)
	root.SetOut(t.stdout)
	root.SetErr(t.stderr)
	root.PersistentFlags().BoolVar(&t.json, "json", false, "print results as JSON")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fault.New(fault.BadInput, "%w; see %s --help", err, cmd.CommandPath())
	})
	root.AddCommand(commands(t)...)
	return root
}

// commands returns all commands.
func commands(t *tool) []*cobra.Command {
	return []*cobra.Command{
		containerCommand(t),
		deviceCommand(t),
		catalogueCommand(t),
		bspCommand(t),
		storeCommand(t),
		commentCommand(t),
		doctorCommand(t),
		templateCommand(t),
	}
}

// print writes a result: text for people, or value as JSON.
func (t *tool) print(text string, value any) error {
	if !t.json {
		_, err := io.WriteString(t.stdout, text)
		return fault.Wrap(fault.IO, err, "writing the result")
	}
	e := json.NewEncoder(t.stdout)
	e.SetIndent("", "  ")
	return fault.Wrap(fault.IO, e.Encode(value), "writing the result")
}
