package bench

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"testing"
)

// TestAttacksExist looks for each attack that is measured in the benchmark that knows it.
func TestAttacksExist(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "../../runtime/device/hostile_test.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var known []string
	ast.Inspect(file, func(n ast.Node) bool {
		if pair, ok := n.(*ast.KeyValueExpr); ok {
			if key, ok := pair.Key.(*ast.BasicLit); ok {
				name, _ := strconv.Unquote(key.Value)
				known = append(known, name)
			}
		}
		return true
	})
	for _, a := range attacks {
		if !slices.Contains(known, a) {
			t.Errorf("no benchmark knows the attack %s", a)
		}
	}
}
