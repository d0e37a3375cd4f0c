package adapters

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/images/inputs"
	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/yamlfile"
	"github.com/pantavisor/pantavisor/targets"
)

// A partial list is what a build system does not know: a list of inputs (docs/compose.md) whose
// fields may be left out. An adapter adds what was built. Relative paths begin at the directory of
// its file.
var partialKind = yamlfile.Kind{Name: "a partial list of inputs", Text: targets.CheckValue, Limit: maxList, Optional: func(path string) bool {
	return !strings.Contains(path, ".") || path == "kernel.image" || containerRoot.MatchString(path)
}}

// containerRoot matches the field that a container lacks when the list says more of one that the
// build system has made.
var containerRoot = regexp.MustCompile(`^containers\[\d+\]\.root$`)

// fromBuild are fields that partial lists do not have.
var fromBuild = []string{"#spec", "kernel.image", "kernel.modules"}

// maxList bounds the file of a list, in bytes.
const maxList = 1 << 20

// readPartial reads a partial list, and returns it as a list with absolute paths and the
// containers that have no root file system of their own, by their names.
func readPartial(file string) (*inputs.List, map[string]inputs.Container, error) {
	text, err := bounded.ReadRegular(file, maxList)
	if err != nil {
		return nil, nil, fault.Wrap(fault.BadInput, err, "reading the partial list of inputs")
	}
	dir, err := filepath.Abs(filepath.Dir(file))
	if err != nil {
		return nil, nil, fault.Wrap(fault.IO, err, "reading the partial list of inputs")
	}
	l := &inputs.List{}
	f, _ := yamlfile.Read(file, partialKind, text, l)
	for _, field := range fromBuild {
		if f.Given(field) {
			f.Wrong(field, "a partial list does not have it: it is what was built")
		}
	}
	if err := f.Err(); err != nil {
		return nil, nil, err
	}
	l.Spec = inputs.Spec
	l.Absolute(dir)
	more := map[string]inputs.Container{}
	l.Containers = slices.DeleteFunc(l.Containers, func(c inputs.Container) bool {
		if c.Root.Form != "" {
			return false
		}
		more[c.Name] = c
		return true
	})
	return l, more, nil
}
