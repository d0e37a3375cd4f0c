package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"

	"github.com/pantavisor/pantavisor/runtime/appengine"
	"github.com/pantavisor/pantavisor/runtime/container"
	"github.com/pantavisor/pantavisor/runtime/device"
	pid1 "github.com/pantavisor/pantavisor/runtime/init"
	"github.com/pantavisor/pantavisor/runtime/pvcontrol"
	"github.com/pantavisor/pantavisor/runtime/pvcurl"
	"github.com/pantavisor/pantavisor/runtime/pventer"
)

// command is one of the programs in this one.
type command struct {
	name string
	help string // empty: only the runtime itself uses it
	run  func(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int
}

// commands are found by the program's own name or the first word.
var commands = []command{
	{"-i", "App Engine: run the containers of this installation on this machine", runAppEngine},
	{"init", "process 1 of a device; started by the kernel", pid1.Run},
	{"cold-plug", "", pid1.ColdPlug},
	{"engine", "", runEngine},
	{container.StageArg, "", stage},
	{"pvcontrol", "talk to the control socket", pvcontrol.Run},
	{"pvcurl", "send one HTTP request to a unix socket", pvcurl.Run},
	{"pventer", "run a command inside a container", pventer.Run},
}

// stage is the first stage of a container; it ends in the container's own program.
// It is process 1 too, of the container, and so goes by its name before anything
// asks for the process ID.
func stage(context.Context, []string, io.Reader, io.Writer, io.Writer) int {
	container.Init()
	return noStage
}

// noStage is the exit code of a first stage that comes back, which none does.
const noStage = 125

func runEngine(ctx context.Context, args []string, _ io.Reader, stdout, stderr io.Writer) int {
	return device.Command(ctx, args, version(), stdout, stderr)
}

func runAppEngine(ctx context.Context, args []string, _ io.Reader, stdout, stderr io.Writer) int {
	return appengine.Command(ctx, args, version(), stdout, stderr)
}

// usage is the exit code for words that mean nothing.
const usage = 2

// Run chooses a command: the base name of args[0] if it is one, else init for
// process 1, else the first word.
func Run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		args = []string{"pantavisor"}
	}
	own, rest := filepath.Base(args[0]), args[1:]
	if c := find(own); c != nil && (own != "init" || os.Getpid() == 1) {
		return c.run(ctx, rest, stdin, stdout, stderr)
	}
	if os.Getpid() == 1 && (len(rest) == 0 || find(rest[0]) == nil) {
		return find("init").run(ctx, rest, stdin, stdout, stderr)
	}
	if len(rest) == 0 {
		help(stderr)
		return usage
	}
	switch rest[0] {
	case "-h", "-help", "--help", "help":
		help(stdout)
		return 0
	case "--version", "version":
		_, _ = fmt.Fprintln(stdout, "pantavisor", version())
		return 0
	}
	c := find(rest[0])
	if c == nil {
		_, _ = fmt.Fprintf(stderr, "pantavisor: unknown command %q; --help lists them\n", rest[0])
		return usage
	}
	return c.run(ctx, rest[1:], stdin, stdout, stderr)
}

func find(name string) *command {
	for i := range commands {
		if commands[i].name == name {
			return &commands[i]
		}
	}
	return nil
}

func help(w io.Writer) {
	_, _ = fmt.Fprint(w, "usage: pantavisor COMMAND [WORD...]\n       pantavisor --version | --help\n\nA link with a command's name works too.\n\n")
	for _, c := range commands {
		if c.help != "" {
			_, _ = fmt.Fprintf(w, "  %-14s %s\n", c.name, c.help)
		}
	}
}

// release is set by the build: -ldflags "-X main.release=...".
var release string

func version() string {
	if release != "" {
		return release
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
