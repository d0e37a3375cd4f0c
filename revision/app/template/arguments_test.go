package template

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestArgumentsAreThoseThatAreRead finds the names in the code.
func TestArgumentsAreThoseThatAreRead(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	name := regexp.MustCompile(`"((?:PV|PVR|LXC)_[A-Z0-9_]+)"`)
	var want []string
	for _, f := range files {
		if f == "arguments.go" || strings.HasSuffix(f, "_test.go") {
			continue
		}
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range name.FindAllStringSubmatch(string(text), -1) {
			want = append(want, m[1])
		}
	}
	slices.Sort(want)
	if diff := cmp.Diff(slices.Compact(want), Arguments()); diff != "" {
		t.Errorf("arguments (-read +listed):\n%s", diff)
	}
}
