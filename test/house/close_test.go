package house

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strings"
	"testing"
)

// devices are functions that open a device, of which nothing is lost when it is closed.
var devices = map[string]bool{
	"emulator/accel.go canOpen":          true, // /dev/kvm
	"runtime/container/launch.go spawn":  true, // /dev/null
	"runtime/ctrl/serial.go serveTTY":    true, // a serial port
	"runtime/shell/shell.go prompt":      true, // the terminal
	"runtime/shell/shell.go session":     true, // the terminal
	"runtime/storage/loop.go LoopAttach": true, // /dev/loop-control
}

// TestWrittenFilesAreClosedWithCare finds functions that open a file for writing and drop the
// error of closing it: a full disk or a broken network file system may report only there
// that the content is lost. A file that is handed on is the business of who gets it.
func TestWrittenFilesAreClosedWithCare(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		if s.test() {
			continue
		}
		for _, d := range s.file.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Body == nil || devices[s.path+" "+fn.Name.Name] {
				continue
			}
			for _, name := range carelesslyClosed(fn.Body) {
				t.Errorf("%s: %s writes to %s and drops the error of closing it", s.path, fn.Name.Name, name)
			}
		}
	}
}

// carelesslyClosed returns the variables of files that a function opens for writing and
// closes without ever looking at the error, sorted.
func carelesslyClosed(body *ast.BlockStmt) []string {
	opened, checked, dropped, handedOn := map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]bool{}
	ignore := map[*ast.CallExpr]bool{}
	ast.Inspect(body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			if call, ok := n.Rhs[0].(*ast.CallExpr); ok && opensForWriting(call) {
				opened[nameOf(n.Lhs[0])] = true
			}
			for i, rhs := range n.Rhs {
				if call, ok := rhs.(*ast.CallExpr); ok && i < len(n.Lhs) && nameOf(n.Lhs[i]) == "_" {
					ignore[call] = true
				}
				if i < len(n.Lhs) && nameOf(n.Lhs[i]) == "" { // a field or an element
					handedOn[nameOf(rhs)] = true
				}
			}
		case *ast.DeferStmt:
			ignore[n.Call] = true
		case *ast.ExprStmt:
			if call, ok := n.X.(*ast.CallExpr); ok {
				ignore[call] = true
			}
		case *ast.ReturnStmt:
			for _, r := range n.Results {
				handedOn[nameOf(r)] = true
			}
		case *ast.CompositeLit:
			for _, e := range n.Elts {
				if kv, ok := e.(*ast.KeyValueExpr); ok {
					e = kv.Value
				}
				handedOn[nameOf(e)] = true
			}
		case *ast.CallExpr:
			if sel, ok := n.Fun.(*ast.SelectorExpr); ok && sel.Sel.Name == "Close" {
				if ignore[n] {
					dropped[nameOf(sel.X)] = true
				} else {
					checked[nameOf(sel.X)] = true
				}
			}
		}
		return true
	})
	var out []string
	for name := range opened {
		if dropped[name] && !checked[name] && !handedOn[name] {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// nameOf returns the name of a variable, empty for any other expression.
func nameOf(e ast.Expr) string {
	if id, ok := e.(*ast.Ident); ok {
		return id.Name
	}
	return ""
}

// opensForWriting reports whether a call opens a file for writing, as a function of a
// package or a method of an os.Root, whatever its name.
func opensForWriting(call *ast.CallExpr) bool {
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	switch sel.Sel.Name {
	case "Create", "CreateTemp":
		return true
	case "OpenFile":
		writes := false
		for _, arg := range call.Args[1:] {
			ast.Inspect(arg, func(n ast.Node) bool {
				flag, ok := n.(*ast.SelectorExpr)
				writes = writes || ok && slices.Contains([]string{"O_WRONLY", "O_RDWR"}, flag.Sel.Name)
				return true
			})
		}
		return writes
	}
	return false
}

func TestCarelesslyClosed(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`f, err := os.Create(n); defer f.Close(); return err`:                                               "f",
		`f, err := os.OpenFile(n, os.O_WRONLY|os.O_CREATE, 0); _ = f.Close(); return err`:                   "f",
		`f, err := os.OpenFile(n, os.O_RDWR, 0); f.Close(); return err`:                                     "f",
		`f, err := root.OpenFile(n, unix.O_WRONLY, 0); defer f.Close(); return err`:                         "f",
		`f, err := s.dir.Create(n); defer f.Close(); return err`:                                            "f",
		`f, err := os.CreateTemp("", n); if err != nil { return err }; defer f.Close(); return write(f)`:    "f",
		`f, err := os.Create(n); defer f.Close(); g, err := os.Create(m); return g.Close()`:                 "f",
		`f, err := os.OpenFile(n, os.O_RDONLY, 0); defer f.Close(); return err`:                             "",
		`f, err := os.Open(n); defer f.Close(); return err`:                                                 "",
		`f, err := os.Create(n); defer f.Close(); return errors.Join(write(f), f.Close())`:                  "",
		`f, err := os.Create(n); if err := write(f); err != nil { _ = f.Close() }; err = f.Close(); return`: "",
		`f, err := os.Create(n); if err != nil { _ = f.Close(); return nil, err }; return f, nil`:           "",
		`f, err := os.Create(n); if bad { _ = f.Close() }; return &T{file: f}, nil`:                         "",
		`f, err := os.Create(n); if bad { _ = f.Close() }; t.file = f; return nil`:                          "",
	} {
		file, err := parser.ParseFile(token.NewFileSet(), "x.go", "package x\nfunc f() error {"+body+"}", 0)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(carelesslyClosed(file.Decls[0].(*ast.FuncDecl).Body), " "); got != want {
			t.Errorf("%s: found %q, want %q", body, got, want)
		}
	}
}
