package pvcontrol

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/sbom/spdx2"
)

func TestSBOM(t *testing.T) {
	t.Parallel()
	socket, storage, _ := device(t)
	dir := filepath.Join(storage, "trails", "locals", "next", ".pvr")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "json"), []byte(`{"web/x":"`+strings.Repeat("a", 64)+`","a b/x":"`+strings.Repeat("b", 64)+`"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for words, want := range map[string]string{
		"sbom|--revision=locals/next":          "revision locals/next",
		"sbom|--revision|locals/next":          "revision locals/next",
		"sbom|web|--revision=locals/next":      "web of revision locals/next",
		"sbom|--revision=locals/next|a b":      "a b of revision locals/next",
		"--json|sbom|--revision=locals/next":   "revision locals/next",
		"sbom|--json|--revision=locals/next|w": "", // there is none
		"sbom|--revision=4":                    "",
		"sbom|--revision=":                     "",
		"sbom|--revision":                      "",
		"sbom|--other":                         "",
		"sbom|web|other":                       "",
	} {
		code, out, bad := run(t, socket, "", strings.Split(words, "|")...)
		d, err := spdx2.Read(strings.NewReader(out))
		switch {
		case want == "" && (code == 0 || out != "" || bad == ""):
			t.Errorf("%s: exit %d, %s, %s", words, code, out, bad)
		case want != "" && (code != 0 || err != nil || d.Name != want):
			t.Errorf("%s: exit %d, %v, %s, %s", words, code, err, out, bad)
		}
	}
	if code, out, _ := run(t, socket, "", "sbom", "--help"); code != 0 || !strings.Contains(out, "pvcontrol sbom --revision=locals/next") {
		t.Errorf("help: exit %d, %s", code, out)
	}
}
