package house

import (
	"go/ast"
	"go/token"
	"path"
	"testing"
)

// TestSkipsHaveReasons wants words in every skip of a test, and programs to be looked up
// by package oracle, which knows the ones that must be there.
func TestSkipsHaveReasons(t *testing.T) {
	calls := 0
	for _, s := range sources(t) {
		if !s.test() || path.Dir(s.path) == "internal/oracle" {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			sel, ok := call.Fun.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			calls++
			if what := wrongSkip(sel.Sel.Name, call.Args); what != "" {
				t.Errorf("%s:%d: %s", s.path, s.fset.Position(call.Pos()).Line, what)
			}
			return true
		})
	}
	if calls == 0 {
		t.Fatal("no call found in any test: the walk is wrong")
	}
}

// wrongSkip says what is wrong with a call of that name, or "".
func wrongSkip(name string, args []ast.Expr) string {
	switch name {
	case "SkipNow":
		return "SkipNow gives no reason: use Skip"
	case "Skip", "Skipf":
		if len(args) == 0 {
			return "a skip without a reason"
		}
		if lit, ok := args[0].(*ast.BasicLit); ok && lit.Kind == token.STRING && len(lit.Value) < 7 {
			return "a skip with next to no reason"
		}
	case "LookPath":
		return "programs that judge are looked up with oracle.Program, so that they cannot be missing in CI"
	}
	return ""
}

func TestWrongSkip(t *testing.T) {
	for name, want := range map[string]bool{"Skip": true, "SkipNow": true, "LookPath": true, "Log": false} {
		if got := wrongSkip(name, nil) != ""; got != want {
			t.Errorf("%s: wrong is %v, want %v", name, got, want)
		}
	}
}
