package cross

import (
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/fault"
)

// walk follows the imports of packages inside one module. It reads import
// clauses only: no go command, so that a build that changes nothing costs
// nothing.
type walk struct {
	root, module string
	seen         map[string]bool
	files        []string // relative to root
}

// sources returns all files that enter a program, for any board: build
// constraints are not evaluated, a file too many does no harm.
func sources(root, pkg string) ([]build.Source, error) {
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		return nil, fault.New(fault.Missing, "looking for the sources of %s: %w", pkg, err)
	}
	w := &walk{root: root, module: modulePath(mod), seen: map[string]bool{}, files: []string{"go.mod", "go.sum"}}
	if err := w.visit(pkg); err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "looking for the sources of %s", pkg)
	}
	slices.Sort(w.files)
	var out []build.Source
	for _, f := range w.files {
		out = append(out, build.Source{Name: f, Path: filepath.Join(root, f)})
	}
	return out, nil
}

// modulePath reads the module line of a go.mod.
func modulePath(mod []byte) string {
	for line := range strings.Lines(string(mod)) {
		if name, ok := strings.CutPrefix(line, "module "); ok {
			return strings.TrimSpace(name)
		}
	}
	return ""
}

func (w *walk) visit(pkg string) error {
	if w.seen[pkg] {
		return nil
	}
	w.seen[pkg] = true
	names, err := os.ReadDir(filepath.Join(w.root, pkg))
	if err != nil {
		return err
	}
	embeds := false
	for _, n := range names {
		if n.IsDir() || !strings.HasSuffix(n.Name(), ".go") || strings.HasSuffix(n.Name(), "_test.go") {
			continue
		}
		e, err := w.file(filepath.Join(pkg, n.Name()))
		if err != nil {
			return err
		}
		embeds = embeds || e
	}
	if embeds {
		return w.embedded(pkg, names)
	}
	return nil
}

// file notes one Go file and visits what it imports; it tells whether the file
// may embed others.
func (w *walk) file(name string) (embeds bool, err error) {
	w.files = append(w.files, name)
	f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(w.root, name), nil, parser.ImportsOnly)
	if err != nil {
		return false, err
	}
	for _, spec := range f.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return false, err
		}
		embeds = embeds || p == "embed"
		if inside, ok := strings.CutPrefix(p, w.module+"/"); ok {
			if err := w.visit(inside); err != nil {
				return false, err
			}
		}
	}
	return embeds, nil
}

// embedded notes everything else in the folder of a package that embeds files:
// a superset of what its patterns may name.
func (w *walk) embedded(pkg string, names []os.DirEntry) error {
	for _, n := range names {
		if !strings.HasSuffix(n.Name(), ".go") {
			w.files = append(w.files, filepath.Join(pkg, n.Name()))
		}
	}
	return nil
}
