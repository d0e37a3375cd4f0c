package gosource

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// memory is what a cache keeps.
type memory struct {
	kept             map[string][2]string
	recalled, missed int
}

func (m *memory) Recall(entry, id string) (string, bool) {
	if found := m.kept[entry]; found[0] == id && id != "" {
		m.recalled++
		return found[1], true
	}
	m.missed++
	return "", false
}

func (m *memory) Keep(entry, id, value string) { m.kept[entry] = [2]string{id, value} }

// TestContentsAreRecalled changes a package in each way that changes what is compiled: it
// is read again then, and only then.
func TestContentsAreRecalled(t *testing.T) {
	t.Parallel()
	m := module(t, sample)
	kept := &memory{kept: map[string][2]string{}}
	names := func() []string {
		t.Helper()
		fresh, err := Open(m.Root())
		if err != nil {
			t.Fatal(err)
		}
		plain, err := fresh.Files("cmd/x", Platform{GOARCH: "amd64"})
		if err != nil {
			t.Fatal(err)
		}
		kept.recalled, kept.missed = 0, 0
		again, _ := Open(m.Root())
		again.Memory = kept
		found, err := again.Files("cmd/x", Platform{GOARCH: "amd64"})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(namesOf(plain), namesOf(found)); diff != "" {
			t.Errorf("with memory other files (-without +with)\n%s", diff)
		}
		return namesOf(found)
	}
	names()
	if len(kept.kept) != 0 {
		t.Errorf("files written just now were kept: %v", kept.kept)
	}
	time.Sleep(2100 * time.Millisecond) // until the times of files are settled
	names()
	if names(); kept.recalled != 3 || kept.missed != 0 {
		t.Errorf("nothing changed: %d recalled, %d read", kept.recalled, kept.missed)
	}
	at := func(name string) string { return filepath.Join(m.Root(), name) }
	for what, change := range map[string]func() error{
		"a new file": func() error { return os.WriteFile(at("b/new.go"), []byte("package b\n"), 0o644) },
		"a new import": func() error {
			return os.WriteFile(at("b/b.go"), []byte("package b\n\nimport _ \"example.org/m/c\"\n\nconst B = 1\n"), 0o644)
		},
		"a file gone":      func() error { return os.Remove(at("b/b_amd64.s")) },
		"another name":     func() error { return os.Rename(at("b/b_tag.go"), at("b/b_mips.go")) },
		"a link elsewhere": func() error { return os.Symlink("../unused/unused.go", at("b/link.s")) },
	} {
		if err := change(); err != nil {
			t.Fatal(err)
		}
		if names(); kept.missed == 0 {
			t.Errorf("%s: nothing was read again", what)
		}
	}
	if err := os.WriteFile(at("a/other_test.go"), []byte("package a\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	before := names()
	if err := os.WriteFile(at("c/tree/three"), nil, 0o644); err != nil { // embedded
		t.Fatal(err)
	}
	if after := names(); len(after) != len(before)+1 {
		t.Errorf("an embedded file more gives %v, before %v", after, before)
	}
}
