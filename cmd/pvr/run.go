package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
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

// Run runs the tool with the words of a command line, args[0] being the tool's own
// name, and returns its exit code.
func Run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	limitGarbage()
	log.SetOutput(io.Discard) // net/http's remarks on how remotes break the protocol
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	t := &tool{stdin: stdin, stdout: forTerminal(stdout), stderr: forTerminal(stderr), name: args[0]}
	if isTerminal(stderr) {
		t.terminal = stderr
	}
	root := newRoot(t)
	words := args[1:]
	if n := len(words); n > 0 && words[n-1] == "--generate-bash-completion" {
		return oldCompletion(ctx, t, root, words[:n-1])
	}
	words, err := normalise(root, words)
	if err == nil {
		root.SetArgs(words)
		err = root.ExecuteContext(ctx)
	}
	return t.report(err)
}

// tool is what all commands share.
type tool struct {
	name           string
	stdin          io.Reader
	stdout, stderr io.Writer
	terminal       io.Writer // the standard error when it is one, for progress; else nil
	global
}

// exitError is an error with its exit code.
type exitError struct {
	code int
	err  error
}

// Error implements error.
func (e *exitError) Error() string { return e.err.Error() }

// Unwrap returns the cause.
func (e *exitError) Unwrap() error { return e.err }

// fail gives an error an exit code; nil stays nil.
func fail(code int, err error) error {
	if err == nil {
		return nil
	}
	return &exitError{code, err}
}

func failf(code int, format string, args ...any) error {
	return &exitError{code, fmt.Errorf(format, args...)}
}

// usageError is an error in the words of the command line.
type usageError struct {
	cmd *cobra.Command
	err error
}

// Error implements error.
func (e *usageError) Error() string { return e.err.Error() }

// interrupted is the exit code after SIGINT: 128 and the signal.
const interrupted = 130

// report tells the user of an error and returns the exit code. Errors without a
// code are marked and give 1.
func (t *tool) report(err error) int {
	var usage *usageError
	var exit *exitError
	switch {
	case err == nil:
		return 0
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(t.stderr, "Interrupted.")
		return interrupted
	case errors.As(err, &usage):
		fmt.Fprintf(t.stderr, "Incorrect Usage: %v\n\n%s", err, usage.cmd.UsageString())
		return 1
	case errors.As(err, &exit):
		fmt.Fprintln(t.stderr, strings.TrimSuffix(exit.Error(), "\n"))
		return exit.code
	}
	fmt.Fprintf(t.stderr, "ERROR: %v\n", err)
	return 1
}
