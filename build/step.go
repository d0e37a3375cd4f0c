// Package build is the build graph: typed steps with content digests as keys, an
// on-disk cache, a parallel executor, events and explanations.
package build

import (
	"context"
	"os"
	"path/filepath"
	"slices"
)

// A Step is one typed unit of work: a node of the build graph. An implementation
// is a struct whose exported fields are its parameters. What decides the result
// must be in one of four places, because together they are the step's key:
//
//   - the Go type, the code of its package and of all packages that it needs in the
//     module ([Builder].Code) and, if it has one, its [Versioned] number,
//   - the exported fields as JSON (fields that hold other steps are `json:"-"`),
//   - the contents of its [Sourced] files,
//   - the content digests of the outputs of its Deps, in order.
//
// Equal key, equal output: a step reads nothing else, neither clock nor
// environment, and stamps all times with a [Stamp].
type Step interface {
	// Name is unique within a graph: lower-case words joined by '/', for
	// example "initrd/base".
	Name() string
	// Deps are the steps whose outputs Run reads, in a fixed order.
	Deps() []Step
	// Run fills w.Out. Everything it leaves there is the output.
	Run(ctx context.Context, w *Work) error
}

// Versioned steps state the version of their own logic, for builders without
// [Builder].Code. Raise the number when Run would produce other bytes from the same
// inputs.
type Versioned interface{ Version() int }

// Large steps say how much memory Run needs, in bytes, because it is much: those that run at the
// same time share [Builder].Memory.
type Large interface{ Memory() int64 }

// Sourced steps read files of the source tree or of the user.
type Sourced interface{ Sources() ([]Source, error) }

// Delegating steps leave their work to programs in outputs of other steps, which see nothing of
// this program, and are too long to be done again for each change of a package that they need.
// Of the module's code only the packages that Packages lists, by their directories, are in the
// key.
type Delegating interface{ Packages() []string }

// Source is a file or directory whose content enters a step's key.
type Source struct {
	// Name is stable: it is used in the key and in explanations, for example
	// "config/x64-uefi".
	Name string `json:"name"`
	// Path is where it is on this machine; it does not enter the key.
	Path string `json:"path"`
	// Under are directories below the one at Path, the uppermost first: their files count
	// where no directory above has one of that name.
	Under []string `json:"under,omitempty"`
}

// Dirs returns the directories of the source, the lowest first: files that are added in
// this order replace those of the directories below.
func (s Source) Dirs() []string {
	dirs := append([]string{s.Path}, s.Under...)
	slices.Reverse(dirs)
	return dirs
}

// File returns the path of a file in the uppermost directory that has it, or else in the
// directory at Path.
func (s Source) File(name string) string {
	for _, dir := range slices.Backward(s.Dirs()) {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return filepath.Join(s.Path, filepath.FromSlash(name))
}

// Epoch is the default of [Stamp], so that two builds of one tree agree.
const Epoch = 1577836800 // 2020-01-01T00:00:00Z
