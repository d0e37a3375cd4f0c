package images

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/internal/fault"
)

func TestStatements(t *testing.T) {
	t.Parallel()
	const product = `"products":[{"@id":"pkg:deb/debian/openssl"}]`
	text := func(statement string) string {
		return `{"@context":"https://openvex.dev/ns/v0.2.0","@id":"x","author":"x","timestamp":"2026-01-01T00:00:00Z","version":1,"statements":[` + statement + `]}`
	}
	for _, c := range []struct{ text, want string }{
		{text(`{"vulnerability":{"name":"CVE-1-1"},"status":"fixed",` + product + `}`), ""},
		{text(`{"vulnerability":{"name":"CVE-1-1"},"status":"not_affected",` + product + `}`), "not_affected needs a justification"},
		{`{"hello":"world"}`, "not of a known form"},
	} {
		from := filepath.Join(t.TempDir(), "from.json")
		if err := os.WriteFile(from, []byte(c.text), 0o644); err != nil {
			t.Fatal(err)
		}
		w := &build.Work{Out: t.TempDir()}
		err := (&Statements{Files: []build.Source{{Name: "a.json", Path: from}}}).Run(t.Context(), w)
		if c.want != "" {
			if fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
			continue
		}
		if got, wrong := os.ReadFile(filepath.Join(w.Out, "a.json")); err != nil || wrong != nil || string(got) != c.text {
			t.Errorf("%v, %v: %s", err, wrong, got)
		}
	}
}
