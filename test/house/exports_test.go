package house

import (
	"go/ast"
	"go/token"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// exportedFor are names that no other package of the repository names, with the reason
// why they are exported all the same.
var exportedFor = map[string]string{}

// TestExportedNamesAreUsed wants every exported function, variable and constant to be
// named by another package, if only by tests. The external tests of a package, as those of
// the formats, are another package.
func TestExportedNamesAreUsed(t *testing.T) {
	t.Parallel()
	exported, used := map[string]string{}, map[string]bool{}
	for _, s := range sources(t) {
		dir := path.Dir(s.path)
		if !s.test() && s.file.Name.Name != "main" && dir != "mage" {
			for _, name := range exports(s.file) {
				exported[dir+"."+name] = s.path
			}
		}
		for _, name := range uses(s.file) {
			used[name] = true
		}
	}
	if len(used) < 500 {
		t.Fatalf("found only %d uses: the walk does not see them", len(used))
	}
	for name, file := range exported {
		if !used[name] && exportedFor[name] == "" {
			t.Errorf("%s: no other package names %s: make it unexported, or remove it", file, name)
		}
	}
	for name := range exportedFor {
		if exported[name] == "" || used[name] {
			t.Errorf("the exception for %s is not needed", name)
		}
	}
}

// exports returns the exported functions, variables and single constants of a file. Types
// are left out, as a user of a function need not name what it returns, and so are
// constants of a group, which are documented and complete together.
func exports(f *ast.File) (names []string) {
	note := func(ids ...*ast.Ident) {
		for _, id := range ids {
			if id.IsExported() {
				names = append(names, id.Name)
			}
		}
	}
	for _, decl := range f.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil {
				note(d.Name)
			}
		case *ast.GenDecl:
			if d.Tok == token.CONST && len(d.Specs) > 1 {
				continue
			}
			for _, spec := range d.Specs {
				if v, ok := spec.(*ast.ValueSpec); ok {
					note(v.Names...)
				}
			}
		}
	}
	return names
}

// uses returns what a file names of the module's packages, as "runtime/logs.Server".
func uses(f *ast.File) (names []string) {
	imported := map[string]string{}
	for _, imp := range f.Imports {
		p, err := strconv.Unquote(imp.Path.Value)
		dir, ours := strings.CutPrefix(p, module+"/")
		if err != nil || !ours {
			continue
		}
		name := path.Base(dir)
		if imp.Name != nil {
			name = imp.Name.Name
		}
		imported[name] = dir
	}
	ast.Inspect(f, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok {
			if dir := imported[nameOf(sel.X)]; dir != "" {
				names = append(names, dir+"."+sel.Sel.Name)
			}
		}
		return true
	})
	slices.Sort(names)
	return slices.Compact(names)
}
