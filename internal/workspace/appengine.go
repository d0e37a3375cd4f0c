package workspace

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/test/appengine"
	"github.com/pantavisor/pantavisor/test/vm"
)

// Inside is for the begin of the front door's program: process 1 of an App Engine
// test is this program again.
func Inside() { appengine.Inside() }

func (d *Workspace) suites() string {
	return filepath.Join(d.Root, filepath.FromSlash(appengine.Suites))
}

// AppEngineTests lists the App Engine tests.
func (d *Workspace) AppEngineTests() error {
	all, err := appengine.Find(d.suites())
	if err != nil {
		return err
	}
	if !d.JSON {
		return appengine.List(d.Stdout, all)
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
	return d.print(list)
}

// AppEngineRun runs the tests that a word names, all with "". It is an error of kind
// fault.Goal when one fails.
func (d *Workspace) AppEngineRun(ctx context.Context, word string, mode appengine.Mode) error {
	all, err := appengine.Find(d.suites())
	if err != nil {
		return err
	}
	chosen, single, err := appengine.Select(all, word)
	if err != nil {
		return err
	}
	target, err := appengine.HostTarget(runtime.GOARCH)
	if err != nil {
		return err
	}
	shop, err := vm.Open(ctx, d.Root, target, func(text string) { fmt.Fprintln(d.Stderr, "warning ", text) })
	if err != nil {
		return err
	}
	r := &appengine.Runner{Builder: shop, Stdout: d.Stdout, Stderr: d.Stderr, Mode: mode}
	if d.JSON {
		r.Stdout = d.Stderr
	}
	results, err := r.Run(ctx, chosen, single)
	if err != nil {
		return err
	}
	line, err := appengine.Sum(results)
	if d.JSON {
		if perr := d.print(results); perr != nil {
			return perr
		}
		return err
	}
	fmt.Fprintln(d.Stdout, line)
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

// AppEngineAdd makes a new test in a group and prints its folder and name.
func (d *Workspace) AppEngineAdd(group string) error {
	dir, err := appengine.Add(d.suites(), group)
	if err != nil {
		return err
	}
	word := group
	all, _ := appengine.Find(d.suites()) // other tests may be broken
	for _, t := range all {
		if t.Dir == dir {
			word = t.ID()
		}
	}
	if rel, err := filepath.Rel(d.Root, dir); err == nil {
		dir = rel
	}
	_, err = fmt.Fprintf(d.Stdout, "edit %s, then record its result: mage appengine:run %s -o\n", dir+string(os.PathSeparator), word)
	return fault.Wrap(fault.IO, err, "telling where the test is")
}
