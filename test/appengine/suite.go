package appengine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/layers"
	"github.com/pantavisor/pantavisor/internal/spelling"
)

// Suites is the directory of a source tree that holds the groups of tests.
const Suites = "test/suites"

// specFile is the name of a test's description in its directory.
const specFile = "test.json"

// Test is one test.
type Test struct {
	Group  string
	Number int    // its place among the group's names, from 0
	Name   string // of its directory
	Dir    string
	From   string // label of the layer that has its group, see package layers
	Spec   *Spec
}

// ID is how commands name the test: "GROUP:NUMBER".
func (t *Test) ID() string { return t.Group + ":" + strconv.Itoa(t.Number) }

// findTests lists the tests of the layers, by group and number. Of two groups with one
// name the first layer's counts. What is wrong with any test is told in one error.
func findTests(l *layers.Layers) ([]*Test, error) {
	groups, err := l.Names(Suites, "data")
	if err != nil {
		return nil, fault.Wrap(fault.IO, err, "looking for tests")
	}
	var out []*Test
	var errs []error
	for _, name := range groups {
		place, _ := l.Find(path.Join(Suites, name, "data"))
		group, err := testsOf(place, name)
		out, errs = append(out, group...), append(errs, err)
	}
	return out, errors.Join(errs...)
}

// testsOf lists the tests of a group, whose directory data is at place.
func testsOf(place layers.Place, group string) ([]*Test, error) {
	files, err := filepath.Glob(filepath.Join(place.Path, "*", specFile))
	if err != nil {
		return nil, fault.Wrap(fault.IO, err, "looking for tests")
	}
	slices.Sort(files)
	out, errs := make([]*Test, len(files)), make([]error, len(files))
	for i, f := range files {
		dir := filepath.Dir(f)
		out[i] = &Test{Dir: dir, Name: filepath.Base(dir), Group: group, Number: i, From: place.Layer.Label}
		out[i].Spec, errs[i] = load(f)
	}
	return out, errors.Join(errs...)
}

// selectTests returns the tests that a word means: "GROUP", "GROUP:NUMBER", or all of the
// workspace's when it is empty. single tells that it means one test, which then runs even if it
// is to be skipped.
func selectTests(all []*Test, word string) (chosen []*Test, single bool, err error) {
	if word == "" {
		own := slices.DeleteFunc(slices.Clone(all), func(t *Test) bool { return t.From != layers.Workspace })
		return own, false, nil
	}
	group, number, single := strings.Cut(word, ":")
	var groups []string
	for _, t := range all {
		if !slices.Contains(groups, t.Group) {
			groups = append(groups, t.Group)
		}
		if t.Group == group && (!single || strconv.Itoa(t.Number) == number) {
			chosen = append(chosen, t)
		}
	}
	switch {
	case !slices.Contains(groups, group):
		return nil, false, spelling.Unknown("test group", group, groups)
	case len(chosen) == 0:
		return nil, false, fault.New(fault.BadInput, "test %s: group %s has no such number; mage appengine:ls lists them", word, group)
	}
	return chosen, single, nil
}

var groupForm = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]*$`)

// The files of a new test.
var template = map[string]string{
	specFile: `{
  "#spec": "pv-test@1",
  "description": "say in a line what this test shows",
  "setup": {
    "cmdline": "",
    "pantavisor.config": "../../common/configs/pantavisor.config",
    "pvs": "",
    "containers": {
      "control": "",
      "tarballs": [],
      "urls": []
    },
    "ready-script": "resources/ready"
  },
  "test-script": "resources/test",
  "skip": "false"
}
`,
	"resources/ready": "#!/bin/sh\n# Runs before the status READY is waited for.\n",
	"resources/test":  "#!/bin/sh\n# What this prints is the result.\npvcontrol groups ls\n",
}

const commonConfig = "common/configs/pantavisor.config"

// addTest makes a new test in a group, which may be new too, and returns its directory. The
// test is the last of its group, so that the others keep their numbers.
func addTest(suites, group string) (string, error) {
	if !groupForm.MatchString(group) {
		return "", fault.New(fault.BadInput, "test group %q: want lower-case letters, digits, '-', '_'", group)
	}
	data := filepath.Join(suites, group, "data")
	next, err := nextNumber(data)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(data, fmt.Sprintf("%02d-new", next))
	files := map[string]string{}
	for name, text := range template {
		files[filepath.Join(dir, name)] = text
	}
	if config := filepath.Join(suites, group, commonConfig); !exists(config) {
		files[config] = "PV_SYSTEM_INIT_MODE=appengine\nPV_CONTROL_REMOTE=0\nPV_SECUREBOOT_MODE=disabled\nPV_LOG_LEVEL=4\n"
	}
	if err := os.MkdirAll(filepath.Join(dir, "output"), 0o755); err != nil {
		return "", fault.Wrap(fault.IO, err, "adding a test")
	}
	for path, text := range files {
		if err := writeNew(path, text); err != nil {
			return "", fault.Wrap(fault.IO, err, "adding a test")
		}
	}
	return dir, nil
}

// nextNumber is one more than the highest number that a directory begins with.
func nextNumber(data string) (int, error) {
	entries, err := os.ReadDir(data)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fault.Wrap(fault.IO, err, "adding a test")
	}
	next := 0
	for _, e := range entries {
		number, _, _ := strings.Cut(e.Name(), "-")
		if n, err := strconv.Atoi(number); err == nil {
			next = max(next, n+1)
		}
	}
	return next, nil
}

func writeNew(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	mode := fs.FileMode(0o644)
	if strings.HasPrefix(text, "#!") {
		mode = 0o755
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
