package house

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var majorVersion = regexp.MustCompile(`/v\d+$`)

// TestEveryDependencyHasItsReason compares go.mod with docs/deps.md, both ways.
func TestEveryDependencyHasItsReason(t *testing.T) {
	text := readFile(t, "docs/deps.md")
	direct := map[string]bool{}
	for line := range strings.Lines(readFile(t, "go.mod")) {
		fields := strings.Fields(line)
		if len(fields) < 2 || !strings.HasPrefix(fields[1], "v") || strings.Contains(line, "// indirect") || fields[0] == "require" {
			continue
		}
		name := majorVersion.ReplaceAllString(fields[0], "")
		direct[name] = true
		if !strings.Contains(text, name) {
			t.Errorf("%s is required by go.mod, but docs/deps.md does not say why", name)
		}
	}
	if len(direct) == 0 {
		t.Fatal("go.mod has no direct requirement: it was not understood")
	}
	for _, m := range regexp.MustCompile(`(?m)^\| ([^|]+) \|`).FindAllStringSubmatch(text, -1) {
		for _, name := range strings.Split(m[1], ", ") {
			name, isModule := majorVersion.ReplaceAllString(name, ""), strings.Contains(name, ".")
			if isModule && !direct[name] && !packageOf(direct, name) {
				t.Errorf("docs/deps.md explains %s, which go.mod does not require", name)
			}
		}
	}
}

// packageOf reports whether a name is a package of one of the modules.
func packageOf(modules map[string]bool, name string) bool {
	for m := range modules {
		if strings.HasPrefix(name, m+"/") {
			return true
		}
	}
	return false
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
