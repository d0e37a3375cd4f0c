package ctrl

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/pantavisor/pantavisor/sbom"
	"github.com/pantavisor/pantavisor/sbom/spdx2"
)

// addSBOM stores the document of a part, which has one package of its name, and returns its digest.
func addSBOM(t *testing.T, s *Server, part string) string {
	t.Helper()
	d := &sbom.Document{Name: part, Created: time.Unix(1700000000, 0)}
	d.Roots = []string{d.AddPackage(sbom.Package{Name: "software of " + part, Version: "1", Comment: strings.Repeat("long ", 20_000)})}
	d.Seal()
	var doc bytes.Buffer
	if err := spdx2.Write(&doc, d); err != nil {
		t.Fatal(err)
	}
	e, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	object := e.EncodeAll(doc.Bytes(), nil)
	sum := sha256.Sum256(object)
	name := hex.EncodeToString(sum[:])
	write(t, filepath.Join(s.o.Objects, name), string(object))
	return name
}

// namesOf returns the names of the packages in an answer.
func namesOf(t *testing.T, answer string) []string {
	t.Helper()
	d, err := spdx2.Read(strings.NewReader(answer))
	if err != nil {
		t.Fatalf("%v: %.500s", err, answer)
	}
	var names []string
	for _, p := range d.Packages {
		names = append(names, p.Name)
	}
	return names
}

func TestSBOM(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, newFake())
	web, next := addSBOM(t, s, "web"), addSBOM(t, s, "next")
	state := func(parts ...string) string {
		text := `{"#spec":"pantavisor-service-system@1"`
		for i := 0; i < len(parts); i += 2 {
			text += fmt.Sprintf(`,"%s/sbom.spdx.zst":%q`, parts[i], parts[i+1])
		}
		return text + "}"
	}
	trails := filepath.Join(filepath.Dir(s.o.Objects), "trails")
	write(t, filepath.Join(trails, "3/.pvr/json"), state("web", web, "a b", next))
	write(t, filepath.Join(trails, "locals/sbom/.pvr/json"), state("web", web, "next", next))
	if err := os.Symlink("3", filepath.Join(trails, "current")); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string][]string{
		"/sbom":                       {"revision 3", "software of web", "software of next"},
		"/sbom/web":                   {"web", "software of web"},
		"/sbom/a%20b":                 {"a b", "software of next"},
		"/steps/3/sbom":               {"revision 3", "software of web"},
		"/steps/3/sbom/web":           {"software of web"},
		"/steps/locals/sbom/sbom":     {"revision locals/sbom", "software of next"},
		"/steps/locals/sbom/sbom/web": {"software of web"},
	} {
		r := ask(t, s, asMgmt, "GET", path, "")
		names := namesOf(t, r.body)
		if !strings.Contains(r.line, "200") || r.chunks < 1 {
			t.Errorf("%s: %s, %d chunks", path, r.line, r.chunks)
		}
		for _, name := range want {
			if !slices.Contains(names, name) {
				t.Errorf("%s: packages %q lack %s", path, names, name)
			}
		}
		if strings.HasSuffix(path, "/web") && slices.Contains(names, "software of next") {
			t.Errorf("%s: packages %q", path, names)
		}
	}
	for path, status := range map[string]string{
		"/sbom/none": "404", "/sbom/..": "404", "/sbom/%zz": "404", "/steps/4/sbom": "404", "/steps/.x/sbom": "404", "/steps/locals/x/sbom/web": "404",
	} {
		if r := ask(t, s, asMgmt, "GET", path, ""); !strings.Contains(r.line, status) {
			t.Errorf("%s: %s, want %s", path, r.line, status)
		}
	}
	for _, path := range []string{"/sbom", "/sbom/app1", "/steps/3/sbom"} {
		if r := ask(t, s, asApp, "GET", path, ""); !strings.Contains(r.line, "403") {
			t.Errorf("%s without the role: %s", path, r.line)
		}
	}

	write(t, filepath.Join(s.o.Objects, web), "changed")
	if r := ask(t, s, asMgmt, "GET", "/sbom", ""); !strings.Contains(r.body, errDamaged.Error()) || slices.Contains(namesOf(t, r.body), "software of web") || !slices.Contains(namesOf(t, r.body), "web/sbom.spdx.zst") {
		t.Errorf("with a damaged object: %s", r.body)
	}
}

// TestOneSBOMAtATime asks while a client has not read its answer.
func TestOneSBOMAtATime(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, newFake())
	sum := addSBOM(t, s, "web")
	write(t, filepath.Join(filepath.Dir(s.o.Objects), "trails/3/.pvr/json"), fmt.Sprintf(`{"web/sbom.spdx.zst":%q}`, sum))
	slow := dial(t, s, asMgmt)
	if _, err := slow.Write([]byte("GET /steps/3/sbom HTTP/1.1\r\nHost: d\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := slow.Read(make([]byte, 1)); err != nil { // it is being answered
		t.Fatal(err)
	}
	if r := ask(t, s, asMgmt, "GET", "/steps/3/sbom", ""); !strings.Contains(r.line, "503") || r.header("Retry-After") != "1" {
		t.Errorf("%s %q", r.line, r.headers)
	}
	_ = slow.Close()
	for range 100 {
		if r := ask(t, s, asMgmt, "GET", "/steps/3/sbom", ""); strings.Contains(r.line, "200") {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("after the first client has gone there is no answer")
}
