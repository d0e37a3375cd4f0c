// Package gosource lists the files of a module that go into a Go program, for the key
// of the step that compiles it. It reads import clauses in this process; `go list` takes
// longer than a whole build without changes.
//
// The set is that of the go command for one GOOS, GOARCH and list of tags without cgo: Go
// and assembly files, embedded files, go.mod and go.sum, also those of modules that a line
// "replace" of go.mod finds in a directory. All other packages are pinned by go.sum; the
// tool chain is not a file and is a separate part of the step's
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

	"golang.org/x/mod/modfile"

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
	// trees are this module and those that it replaces by directories.
	trees []tree
	mu    sync.Mutex
	pkgs  map[pkgKey]*pkg
	// signed are the signatures of directories, which packages of several platforms share.
	signed map[string]signed
	// Memory, when it is set, keeps what was read for later builds.
	Memory Memory
}

// Memory keeps values from one build to the next, each while the id of its entry is the
// same.
type Memory interface {
	Recall(entry, id string) (value string, ok bool)
	Keep(entry, id, value string)
}

// tree is a module in a directory.
type tree struct {
	pinned []File // see pins
	path   string // import path
	dir    string
	prefix string // of names of files: empty for the main module, else the path and "/"
}

// File is a file that goes into a program.
type File struct {
	// Name is the path relative to the module's root, with '/'; for a file of another module
	// the import path of that module comes first. It does not depend on where modules are.
	Name string
	// Path is where it is on this machine.
	Path string
}

// pkgKey names a package for one platform.
type pkgKey struct{ imported, goos, goarch, tags string }

// pkg is one directory read for one platform.
type pkg struct {
	tree    *tree
	files   []File
	imports []string // import paths in the module's trees
}

// Open reads the go.mod of the module in root.
func Open(root string) (*Module, error) {
	data, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		return nil, fault.New(fault.Missing, "opening the Go module: %w", err)
	}
	mod, err := modfile.Parse(filepath.Join(root, "go.mod"), data, nil)
	if err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "opening the Go module")
	}
	if mod.Module == nil {
		return nil, fault.New(fault.BadInput, "opening the Go module: %s/go.mod has no module line", root)
	}
	m := &Module{root: root, path: mod.Module.Mod.Path, pkgs: map[pkgKey]*pkg{}, signed: map[string]signed{}}
	m.trees = append(m.trees, tree{path: m.path, dir: root})
	for _, r := range mod.Replace {
		if r.New.Version != "" || r.Old.Path == m.path {
			continue // a module that go.sum pins, or this one, which is not replaced
		}
		dir := filepath.FromSlash(r.New.Path)
		if !filepath.IsAbs(dir) {
			dir = filepath.Join(root, dir)
		}
		m.trees = append(m.trees, tree{path: r.Old.Path, dir: dir, prefix: r.Old.Path + "/"})
	}
	return m, nil
}

// Host returns the platform that this program runs on.
func Host() Platform { return Platform{GOOS: runtime.GOOS, GOARCH: runtime.GOARCH} }

// Path returns the module's import path.
func (m *Module) Path() string { return m.path }

// Root returns the module's directory.
func (m *Module) Root() string { return m.root }

// Files returns the files of the package in dir (relative to the module's root, for
// example "cmd/pantavisor") and of all packages that it needs of the module and of those
// replaced by directories, sorted by name.
func (m *Module) Files(dir string, p Platform) ([]File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	files := map[string]File{}
	start := path.Join(m.path, filepath.ToSlash(dir))
	if err := m.walk(start, p, map[string]bool{}, files); err != nil {
		return nil, err
	}
	return slices.SortedFunc(maps.Values(files), func(a, b File) int { return strings.Compare(a.Name, b.Name) }), nil
}

func (m *Module) walk(dir string, p Platform, seen map[string]bool, files map[string]File) error {
	if seen[dir] {
		return nil
	}
	seen[dir] = true
	found, err := m.read(dir, p)
	if err != nil {
		return err
	}
	for _, f := range slices.Concat(found.files, found.tree.pins()) {
		files[f.Name] = f
	}
	for _, next := range found.imports {
		if err := m.walk(next, p, seen, files); err != nil {
			return err
		}
	}
	return nil
}

// pins returns the files that decide on the versions of other modules.
func (t *tree) pins() []File {
	if t.pinned != nil {
		return t.pinned
	}
	t.pinned = []File{t.file("go.mod")}
	if sum := t.file("go.sum"); exists(sum.Path) {
		t.pinned = append(t.pinned, sum)
	}
	return t.pinned
}

func (t *tree) file(name string) File {
	return File{Name: t.prefix + name, Path: filepath.Join(t.dir, filepath.FromSlash(name))}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// owner returns the tree that has an import path and the package's directory in it. Of
// nested modules the longest path owns it.
func (m *Module) owner(imported string) (best *tree, dir string) {
	for i := range m.trees {
		t := &m.trees[i]
		if best != nil && len(t.path) <= len(best.path) {
			continue
		}
		if imported == t.path {
			best, dir = t, "."
		} else if rest, ok := strings.CutPrefix(imported, t.path+"/"); ok {
			best, dir = t, rest
		}
	}
	return best, dir
}

// read reads the package with an import path of one of the trees.
func (m *Module) read(imported string, p Platform) (*pkg, error) {
	id := pkgKey{imported, p.GOOS, p.GOARCH, strings.Join(p.Tags, ",")}
	if found := m.pkgs[id]; found != nil {
		return found, nil
	}
	ctx := build.Default
	ctx.GOOS, ctx.GOARCH, ctx.BuildTags, ctx.CgoEnabled = p.GOOS, p.GOARCH, p.Tags, false
	if ctx.GOOS == "" {
		ctx.GOOS = "linux"
	}
	t, dir := m.owner(imported)
	if t == nil {
		return nil, fault.New(fault.Missing, "reading Go package %s: it is not in module %s", imported, m.path)
	}
	directory := filepath.Join(t.dir, filepath.FromSlash(dir))
	if _, err := os.Stat(directory); err != nil {
		return nil, fault.New(fault.Missing, "reading Go package %s: %w", t.prefix+dir, err)
	}
	in, err := m.contents(&ctx, directory)
	if err != nil {
		return nil, fault.New(kindOf(err), "reading Go package %s for %s/%s: %w", t.prefix+dir, ctx.GOOS, ctx.GOARCH, err)
	}
	found := &pkg{tree: t, imports: m.local(in.Imports)}
	for _, name := range in.Files {
		found.files = append(found.files, t.file(path.Join(dir, name)))
	}
	embedded, err := embeds(directory, in.Embeds)
	if err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "reading the embedded files of Go package %s", t.prefix+dir)
	}
	for _, name := range embedded {
		found.files = append(found.files, t.file(path.Join(dir, name)))
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

// local returns those of the imports that the trees have.
func (m *Module) local(imports []string) []string {
	var own []string
	for _, i := range imports {
		if t, _ := m.owner(i); t != nil {
			own = append(own, i)
		}
	}
	return own
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
