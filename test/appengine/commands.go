package appengine

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/workspace"
)

func suitesOf(w *workspace.Workspace) string {
	return filepath.Join(w.Root, filepath.FromSlash(Suites))
}

// ListCommand prints the App Engine tests of a workspace.
func ListCommand(w *workspace.Workspace) error {
	all, err := findTests(suitesOf(w))
	if err != nil {
		return err
	}
	if !w.JSON {
		return listTests(w.Stdout, all)
	}
	type item struct {
		ID          string `json:"id"`
		Name        string `json:"name"`
		Description string `json:"description"`
		Skip        string `json:"skip"`
	}
	list := []item{}
	for _, t := range all {
		list = append(list, item{t.ID(), t.Name, t.Spec.Description, t.Spec.Skip})
	}
	return w.Print(list)
}

// RunCommand runs the tests that a word names, all with "". It is an error of kind
// fault.Goal when one fails.
func RunCommand(ctx context.Context, w *workspace.Workspace, word string, mode Mode) error {
	all, err := findTests(suitesOf(w))
	if err != nil {
		return err
	}
	chosen, single, err := selectTests(all, word)
	if err != nil {
		return err
	}
	target, err := HostTarget(runtime.GOARCH)
	if err != nil {
		return err
	}
	maker, err := workspace.OpenMaker(ctx, w.Root, target, func(text string) { fmt.Fprintln(w.Stderr, "warning ", text) })
	if err != nil {
		return err
	}
	r := &Runner{Builder: maker, Stdout: w.Stdout, Stderr: w.Stderr, Mode: mode}
	if w.JSON {
		r.Stdout = w.Stderr
	}
	results, err := r.Run(ctx, chosen, single)
	if err != nil {
		return err
	}
	line, err := summary(results)
	if w.JSON {
		if perr := w.Print(results); perr != nil {
			return perr
		}
		return err
	}
	fmt.Fprintln(w.Stdout, line)
	return err
}

// TestWords turns the words "appengine:test VERB ..." into "appengine:VERB ...", which
// mage knows; args begin with the program. Others come back as they are.
func TestWords(args []string) []string {
	if len(args) < 3 || !strings.EqualFold(args[1], "appengine:test") || !slices.Contains([]string{"ls", "run", "add"}, args[2]) {
		return args
	}
	return slices.Concat(args[:1], []string{"appengine:" + args[2]}, args[3:])
}

// AddCommand makes a new test in a group and prints its directory and name.
func AddCommand(w *workspace.Workspace, group string) error {
	dir, err := addTest(suitesOf(w), group)
	if err != nil {
		return err
	}
	word := group
	all, _ := findTests(suitesOf(w)) // other tests may be broken
	for _, t := range all {
		if t.Dir == dir {
			word = t.ID()
		}
	}
	if rel, err := filepath.Rel(w.Root, dir); err == nil {
		dir = rel
	}
	_, err = fmt.Fprintf(w.Stdout, "edit %s, then record its result: mage appengine:run %s -o\n", dir+string(os.PathSeparator), word)
	return fault.Wrap(fault.IO, err, "telling where the test is")
}
