// Command pv-sdk is the programs of the container sdk in one: its web server, and the tools
// that change and control the device from inside a container. Its own name or its first word
// chooses which.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/pantavisor/pantavisor/runtime/pvcontrol"
	"github.com/pantavisor/pantavisor/runtime/pvcurl"
	"github.com/pantavisor/pantavisor/runtime/pventer"
	"github.com/pantavisor/pantavisor/runtime/pvtx/cli"
)

// command is one of the programs.
type command struct {
	name, help string
	run        func(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int
}

var commands = []command{
	{"pv-web", "web server of this device", webServer},
	{"pvtx", "change the software of this device", cli.Run},
	{"pvcontrol", "talk to the control socket", pvcontrol.Run},
	{"pvcurl", "send one HTTP request to a unix socket", pvcurl.Run},
	{"pventer", "run a command inside a container", pventer.Run},
}

// usage is the exit code for words that mean nothing.
const usage = 2

func main() { os.Exit(run(context.Background(), os.Args, os.Stdin, os.Stdout, os.Stderr)) }

// run chooses a command: by the base name of args[0], else by the first word.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	for i, word := range args[:min(len(args), 2)] {
		if i == 0 {
			word = filepath.Base(word)
		}
		for _, c := range commands {
			if c.name == word {
				return c.run(ctx, args[i+1:], stdin, stdout, stderr)
			}
		}
	}
	if len(args) == 2 && (args[1] == "--help" || args[1] == "-h" || args[1] == "help") {
		help(stdout)
		return 0
	}
	help(stderr)
	return usage
}

func help(w io.Writer) {
	_, _ = fmt.Fprint(w, "usage: pv-sdk COMMAND [WORD...]\n\nA link with a command's name works too.\n\n")
	for _, c := range commands {
		_, _ = fmt.Fprintf(w, "  %-14s %s\n", c.name, c.help)
	}
}
