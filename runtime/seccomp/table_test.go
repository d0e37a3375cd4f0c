package seccomp

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// tableOf reads the architectures in the table for a machine, which need not be this one.
func tableOf(t *testing.T, file string) (list []arch, audit []string) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	text := func(e ast.Expr) string {
		s, err := strconv.Unquote(e.(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	ast.Inspect(f, func(n ast.Node) bool {
		row, ok := n.(*ast.CompositeLit)
		if !ok || row.Type != nil { // the list itself has a type
			return true
		}
		list = append(list, arch{name: text(row.Elts[0]), wide: row.Elts[2].(*ast.Ident).Name == "true", calls: text(row.Elts[3])})
		audit = append(audit, row.Elts[1].(*ast.SelectorExpr).Sel.Name)
		return false
	})
	return list, audit
}

// source is where golang.org/x/sys has the numbers of an architecture.
var source = map[string]struct {
	file, audit string
	wide        bool
}{
	"x86_64": {"amd64", "AUDIT_ARCH_X86_64", true}, "x86": {"386", "AUDIT_ARCH_I386", false},
	"arm64": {"arm64", "AUDIT_ARCH_AARCH64", true}, "arm": {"arm", "AUDIT_ARCH_ARM", false},
	"mips": {"mips", "AUDIT_ARCH_MIPS", false}, "mipsel": {"mipsle", "AUDIT_ARCH_MIPSEL", false},
	"riscv64": {"riscv64", "AUDIT_ARCH_RISCV64", true},
}

var sysnum = regexp.MustCompile(`(?m)^\s*SYS_(\w+)\s*=\s*(\d+)$`)

// numbers reads the calls of an architecture from the module's own file.
func numbers(t *testing.T, dir, file string) map[string]uint32 {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "unix", "zsysnum_linux_"+file+".go"))
	if err != nil {
		t.Fatal(err)
	}
	list := map[string]uint32{}
	for _, m := range sysnum.FindAllStringSubmatch(string(text), -1) {
		n, err := strconv.ParseUint(m[2], 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		list[strings.ToLower(m[1])] = uint32(n)
	}
	return list
}

// TestTablesAreCurrent holds the tables for all machines against the module that they
// were generated from, in both directions.
func TestTablesAreCurrent(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "golang.org/x/sys").Output()
	if err != nil {
		t.Fatalf("looking for golang.org/x/sys: %v", err)
	}
	files, err := filepath.Glob("table_*.go")
	if err != nil {
		t.Fatal(err)
	}
	machines := 0
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		machines++
		list, audit := tableOf(t, file)
		if len(list) == 0 {
			t.Errorf("%s has no architecture", file)
		}
		for i := range list {
			a, s := &list[i], source[list[i].name]
			if audit[i] != s.audit || a.wide != s.wide {
				t.Errorf("%s: %s is %s, wide %v; want %s, %v", file, a.name, audit[i], a.wide, s.audit, s.wide)
			}
			compare(t, file, a, numbers(t, strings.TrimSpace(string(out)), s.file))
		}
	}
	if machines != 6 {
		t.Errorf("there are tables for %d machines, want 6", machines)
	}
}

// compare looks for calls of one list that the other does not have so. Only ARM has
// calls that are in no list (asm/unistd.h).
func compare(t *testing.T, file string, a *arch, want map[string]uint32) {
	t.Helper()
	for name, n := range want {
		if got, ok := a.number(name); !ok || got != n {
			t.Errorf("%s: %s of %s has number %d, %v; want %d", file, name, a.name, got, ok, n)
		}
	}
	words := 0
	seen := map[string]bool{}
	for w := range strings.FieldsSeq(a.calls) {
		if w[0] >= '0' && w[0] <= '9' {
			continue
		}
		if seen[w] {
			t.Errorf("%s: %s has %s twice", file, a.name, w)
		}
		seen[w] = true
		words++
	}
	if a.name == "arm" {
		words -= len([]string{"breakpoint", "cacheflush", "usr26", "usr32", "set_tls"})
	}
	if words != len(want) {
		t.Errorf("%s: %s has %d calls, want %d", file, a.name, words, len(want))
	}
}
