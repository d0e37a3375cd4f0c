package appengine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/junit"
	"github.com/pantavisor/pantavisor/internal/layers"
	"github.com/pantavisor/pantavisor/internal/workspace"
)

func suitesOf(w *workspace.Workspace) string {
	return filepath.Join(w.Root, filepath.FromSlash(Suites))
}

// testsFor lists the tests that a workspace sees: its own and those of this module.
func testsFor(w *workspace.Workspace) ([]*Test, error) {
	l, err := w.Sources()
	if err != nil {
		return nil, err
	}
	return findTests(l)
}

// ListCommand prints the App Engine tests of a workspace and those of this module, with
// where each comes from.
func ListCommand(w *workspace.Workspace) error {
	all, err := testsFor(w)
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
		From        string `json:"from"`
		Skip        string `json:"skip"`
	}
	list := []item{}
	for _, t := range all {
		list = append(list, item{t.ID(), t.Name, t.Spec.Description, t.From, t.Spec.Skip})
	}
	return w.Print(list)
}

// RunCommand runs the tests that a word names, all of the workspace's own with "". It is an error of kind
// fault.Goal when one fails.
func RunCommand(ctx context.Context, w *workspace.Workspace, word string, mode Mode) error {
	all, err := testsFor(w)
	if err != nil {
		return err
	}
	chosen, single, err := selectTests(all, word)
	if err != nil {
		return err
	}
	if i := slices.IndexFunc(chosen, func(t *Test) bool { return t.From != layers.Workspace }); i >= 0 && mode.Overwrite {
		return fault.New(fault.BadInput, "recording %s: it is a test of the %s; only those of the workspace are recorded", chosen[i].ID(), chosen[i].From)
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
	if mode.JUnit != "" {
		err = errors.Join(err, suite(results).Save(mode.JUnit))
	}
	err = errors.Join(err, w.Log.Summarize("- App Engine tests: "+line))
	if w.JSON {
		if perr := w.Print(results); perr != nil {
			return perr
		}
		return err
	}
	fmt.Fprintln(w.Stdout, line)
	return err
}

// suite returns the report of tests in JUnit's form.
func suite(results []Result) junit.Suite {
	s := junit.Suite{Name: "appengine"}
	for _, r := range results {
		group, _, _ := strings.Cut(r.ID, ":")
		one := junit.Case{Class: "appengine." + group, Name: r.ID + " " + r.Name, Seconds: r.Seconds}
		switch r.Verdict {
		case Failed:
			one.Failure = cmp.Or(r.Why, "it failed")
		case Skipped:
			one.Skip = cmp.Or(r.Why, "it is skipped")
		}
		s.Seconds += r.Seconds
		s.Cases = append(s.Cases, one)
	}
	return s
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
	all, _ := testsFor(w) // other tests may be broken
	for _, t := range all {
		if t.Dir == dir {
			word = t.ID()
		}
	}
	if rel, err := filepath.Rel(w.Root, dir); err == nil {
		dir = rel
	}
	if w.JSON {
		return w.Print(map[string]string{"directory": dir, "id": word})
	}
	_, err = fmt.Fprintf(w.Stdout, "edit %s, then record its result: mage appengine:run %s -o\n", dir+string(os.PathSeparator), word)
	return fault.Wrap(fault.IO, err, "telling where the test is")
}
