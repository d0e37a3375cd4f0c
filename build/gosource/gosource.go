// Package gosource lists the files of this module that go into a Go program, for the key
// of the step that compiles it. It reads import clauses in this process; `go list` takes
// longer than a whole build without changes.
//
// The set is that of the go command for one GOOS, GOARCH and list of tags without cgo: Go
// and assembly files, embedded files, go.mod and go.sum. Packages outside the module are
// pinned by go.sum; the tool chain is not a file and is a separate part of the step's
// key.
package gosource

import (
	"errors"
	"fmt"
	"go/build"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// Platform is what build constraints are evaluated against.
type Platform struct {
	GOOS   string   // empty: linux
	GOARCH string   // for example arm64
	Tags   []string // further build tags
}

// Module is a Go module's directory. It remembers what it read, so use a Module for one
// build only.
type Module struct {
	root string
	path string
	mu   sync.Mutex
	pkgs map[string]*pkg
}

// pkg is one directory read for one platform.
type pkg struct {
	files   []string // relative to the module's root
	imports []string // directories of this module, relative to its root
}

// Open reads the go.mod of the module in root.
func Open(root string) (*Module, error) {
	data, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		return nil, fault.New(fault.Missing, "opening the Go module: %w", err)
	}
	for line := range strings.Lines(string(data)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "module "); ok {
			return &Module{root: root, path: strings.Trim(strings.TrimSpace(name), `"`), pkgs: map[string]*pkg{}}, nil
		}
	}
	return nil, fault.New(fault.BadInput, "opening the Go module: %s/go.mod has no module line", root)
}

// Host returns the platform that this program runs on.
func Host() Platform { return Platform{GOOS: runtime.GOOS, GOARCH: runtime.GOARCH} }

// Path returns the module's import path.
func (m *Module) Path() string { return m.path }

// Root returns the module's directory.
func (m *Module) Root() string { return m.root }

// Files returns the files of the package in dir (relative to the module's root, for
// example "cmd/pantavisor") and of all packages of the module that it needs, sorted, with
// '/', relative to the root.
func (m *Module) Files(dir string, p Platform) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	files := map[string]bool{"go.mod": true}
	if _, err := os.Stat(filepath.Join(m.root, "go.sum")); err == nil {
		files["go.sum"] = true
	}
	seen := map[string]bool{}
	if err := m.walk(path.Clean(filepath.ToSlash(dir)), p, seen, files); err != nil {
		return nil, err
	}
	return slices.Sorted(maps.Keys(files)), nil
}

func (m *Module) walk(dir string, p Platform, seen, files map[string]bool) error {
	if seen[dir] {
		return nil
	}
	seen[dir] = true
	found, err := m.read(dir, p)
	if err != nil {
		return err
	}
	for _, f := range found.files {
		files[f] = true
	}
	for _, next := range found.imports {
		if err := m.walk(next, p, seen, files); err != nil {
			return err
		}
	}
	return nil
}

func (m *Module) read(dir string, p Platform) (*pkg, error) {
	id := fmt.Sprint(dir, p)
	if found := m.pkgs[id]; found != nil {
		return found, nil
	}
	ctx := build.Default
	ctx.GOOS, ctx.GOARCH, ctx.BuildTags, ctx.CgoEnabled = p.GOOS, p.GOARCH, p.Tags, false
	if ctx.GOOS == "" {
		ctx.GOOS = "linux"
	}
	directory := filepath.Join(m.root, filepath.FromSlash(dir))
	if _, err := os.Stat(directory); err != nil {
		return nil, fault.New(fault.Missing, "reading Go package %s: %w", dir, err)
	}
	bp, err := ctx.ImportDir(directory, 0)
	if err != nil {
		return nil, fault.New(kindOf(err), "reading Go package %s for %s/%s: %w", dir, ctx.GOOS, ctx.GOARCH, err)
	}
	found := &pkg{imports: m.local(bp.Imports)}
	for _, list := range [][]string{bp.GoFiles, bp.SFiles, bp.HFiles, bp.SysoFiles} {
		for _, name := range list {
			found.files = append(found.files, path.Join(dir, name))
		}
	}
	embedded, err := embeds(bp.Dir, bp.EmbedPatterns)
	if err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "reading the embedded files of Go package %s", dir)
	}
	for _, name := range embedded {
		found.files = append(found.files, path.Join(dir, name))
	}
	m.pkgs[id] = found
	return found, nil
}

// kindOf returns the kind of an error of go/build.
func kindOf(err error) fault.Kind {
	var none *build.NoGoError
	if errors.As(err, &none) || errors.Is(err, fs.ErrNotExist) {
		return fault.Missing
	}
	return fault.BadInput
}

// local returns the directories of the imports that lie in this module.
func (m *Module) local(imports []string) []string {
	var dirs []string
	for _, i := range imports {
		if i == m.path {
			dirs = append(dirs, ".")
		} else if dir, ok := strings.CutPrefix(i, m.path+"/"); ok {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// embeds resolves patterns of //go:embed as package embed describes: a directory
// means its files without those that begin with '.' or '_', unless the pattern
// begins with "all:".
func embeds(dir string, patterns []string) ([]string, error) {
	var files []string
	for _, pattern := range patterns {
		glob, all := strings.CutPrefix(pattern, "all:")
		matches, err := filepath.Glob(filepath.Join(dir, filepath.FromSlash(glob)))
		if err != nil {
			return nil, fmt.Errorf("reading pattern %s: %w", pattern, err)
		}
		if len(matches) == 0 {
			return nil, fmt.Errorf("pattern %s: no matching files", pattern)
		}
		for _, match := range matches {
			found, err := below(dir, match, all)
			if err != nil {
				return nil, err
			}
			files = append(files, found...)
		}
	}
	return files, nil
}

func below(dir, match string, all bool) ([]string, error) {
	var files []string
	err := filepath.WalkDir(match, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		hidden := strings.HasPrefix(d.Name(), ".") || strings.HasPrefix(d.Name(), "_")
		if p != match && hidden && !all {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if d.IsDir() {
			return nil
		}
		rel, err := filepath.Rel(dir, p)
		files = append(files, filepath.ToSlash(rel))
		return err
	})
	return files, err
}
