package house

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"slices"
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

// TestFailingProgramsFailTests finds tests that are skipped when a program ends with an
// error. A program that is missing is the business of package oracle; one that fails says
// that what it was given is wrong.
func TestFailingProgramsFailTests(t *testing.T) {
	for _, s := range sources(t) {
		if !s.test() {
			continue
		}
		for _, d := range s.file.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Body != nil {
				for _, pos := range skipsOfFailures(fn.Body) {
					t.Errorf("%s:%d: %s is skipped when a program fails: find the program with package oracle, then use Fatal",
						s.path, s.fset.Position(pos).Line, fn.Name.Name)
				}
			}
		}
	}
}

// skipsOfFailures returns the skips that follow a run of a program directly: in the if
// statement that runs it, or in the one behind that statement.
func skipsOfFailures(body *ast.BlockStmt) (found []token.Pos) {
	commands := commandsOf(body)
	ast.Inspect(body, func(n ast.Node) bool {
		block, ok := n.(*ast.BlockStmt)
		if !ok {
			return true
		}
		for i, stmt := range block.List {
			check, ok := stmt.(*ast.IfStmt)
			if !ok {
				continue
			}
			ran := check.Init != nil && runs(check.Init, commands)
			if i > 0 && check.Init == nil {
				_, ran = block.List[i-1].(*ast.AssignStmt)
				ran = ran && runs(block.List[i-1], commands)
			}
			if ran {
				found = append(found, skipsIn(check)...)
			}
		}
		return true
	})
	return found
}

// commandsOf returns the names of variables that hold commands of other programs. The
// test's own program may end early for reasons of its own.
func commandsOf(body *ast.BlockStmt) map[string]bool {
	names := map[string]bool{}
	ast.Inspect(body, func(n ast.Node) bool {
		if a, ok := n.(*ast.AssignStmt); ok && len(a.Lhs) == 1 && startsProgram(a.Rhs[0]) {
			names[nameOf(a.Lhs[0])] = true
		}
		return true
	})
	return names
}

// startsProgram reports whether an expression is a call of exec.Command for a program
// other than the test itself.
func startsProgram(e ast.Expr) bool {
	call, ok := e.(*ast.CallExpr)
	if !ok {
		return false
	}
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || nameOf(sel.X) != "exec" || !slices.Contains([]string{"Command", "CommandContext"}, sel.Sel.Name) {
		return false
	}
	return !slices.ContainsFunc(call.Args, func(arg ast.Expr) bool {
		lit, ok := arg.(*ast.BasicLit)
		return ok && lit.Value == `"/proc/self/exe"`
	})
}

// runs reports whether a statement calls a method of a command.
func runs(stmt ast.Stmt, commands map[string]bool) (found bool) {
	ast.Inspect(stmt, func(n ast.Node) bool {
		if _, ok := n.(*ast.FuncLit); ok {
			return false
		}
		if sel, ok := n.(*ast.SelectorExpr); ok {
			found = found || commands[nameOf(sel.X)] || startsProgram(sel.X)
		}
		return !found
	})
	return found
}

func skipsIn(stmt ast.Stmt) (found []token.Pos) {
	ast.Inspect(stmt, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok && slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, sel.Sel.Name) {
			found = append(found, n.Pos())
		}
		return true
	})
	return found
}

func TestSkipsOfFailures(t *testing.T) {
	for body, want := range map[string]int{
		`if err := exec.Command("xz", n).Run(); err != nil { t.Skip(err) }`:                                                     1,
		`out, err := exec.Command("xz", n).Output(); if err != nil { t.Skipf("%v", err) }`:                                      1,
		`cmd := exec.CommandContext(ctx, "xz"); if err := cmd.Run(); err != nil { t.Fatal(err) } else { t.Skip() }`:             1,
		`cmd := exec.Command("xz"); cmd.Stdin = r; out, err := cmd.Output(); if err != nil { t.SkipNow() }`:                     1,
		`f := func() { if err := exec.Command(words[0]).Run(); err != nil { t.Skip(err) } }; f()`:                               1,
		`for _, n := range names { if _, err := exec.Command(n).Output(); errors.Is(err, x) { t.Skip(err) } }`:                  1,
		`if err := exec.Command("xz", n).Run(); err != nil { t.Fatal(err) }; if short { t.Skip("takes long") }`:                 0,
		`out, err := exec.Command("xz", n).Output(); must(err); if short { t.Skip("takes long") }`:                              0,
		`cmd := exec.Command("/proc/self/exe"); out, err := cmd.Output(); if errors.Is(err, unix.EPERM) { t.Skip("needs") }`:    0,
		`if _, err := os.Stat("/dev/loop-control"); err != nil { t.Skip(err) }; if err := exec.Command("a").Run(); bad { f() }`: 0,
	} {
		file, err := parser.ParseFile(token.NewFileSet(), "x.go", "package x\nfunc f() {"+body+"}", 0)
		if err != nil {
			t.Fatal(err)
		}
		if got := len(skipsOfFailures(file.Decls[0].(*ast.FuncDecl).Body)); got != want {
			t.Errorf("%s: found %d, want %d", body, got, want)
		}
	}
}
