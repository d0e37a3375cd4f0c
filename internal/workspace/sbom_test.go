package workspace

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/pantavisor/pantavisor/images"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/sbom"
	"github.com/pantavisor/pantavisor/sbom/forms"
)

// linkedIn lays a bill of materials into a directory that refers to that of a part, which has a package
// that contradicts one of its own.
func linkedIn(t *testing.T, dir string) {
	t.Helper()
	purl := "pkg:generic/x@1"
	part := &sbom.Document{Name: "part"}
	part.Roots = []string{part.AddPackage(sbom.Package{Name: "part"})}
	part.AddPackage(sbom.Package{Name: "x\x1b[2J", Version: "1", PURL: purl, Supplier: "Organization: A"})
	part.AddPackage(sbom.Package{Name: "compiler", Host: true})
	part.Seal()
	text := func(d *sbom.Document) string {
		var b bytes.Buffer
		if err := forms.Write(&b, d, forms.SPDX); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	sum := sha256.Sum256([]byte(text(part)))
	lay(t, filepath.Join(dir, "sbom/part.json"), text(part))
	d := &sbom.Document{Name: "image"}
	d.Roots = []string{d.AddPackage(sbom.Package{Name: "image"})}
	d.AddPackage(sbom.Package{Name: "x\x1b[2J", Version: "1", PURL: purl, Supplier: "Organization: B"})
	d.References = []sbom.Reference{{ID: "DocumentRef-part", Namespace: part.Namespace, SHA256: hex.EncodeToString(sum[:]), File: "sbom/part.json"}}
	d.Relate(d.Roots[0], sbom.Contains, "DocumentRef-part:"+part.Roots[0])
	d.Seal()
	lay(t, filepath.Join(dir, images.SBOMFile), text(d))
}

func TestSBOM(t *testing.T) {
	w, out := empty(t)
	linkedIn(t, filepath.Join(w.Root, "release"))
	for _, c := range []struct {
		o        SBOMOptions
		packages int
		text     string
	}{
		{SBOMOptions{}, 2, "SPDX-2.3"},
		{SBOMOptions{Format: "spdx3"}, 2, "https://spdx.org/rdf/3.0.1/"},
		{SBOMOptions{Format: "cyclonedx", Flat: true}, 3, `"specVersion":"1.6"`},
		{SBOMOptions{Flat: true, HostTools: true}, 4, "compiler"},
	} {
		out.Reset()
		if err := w.SBOM(t.Context(), "release", c.o); err != nil {
			t.Fatalf("%+v: %v", c.o, err)
		}
		if !strings.Contains(out.String(), c.text) {
			t.Errorf("%+v: %q is not in %s", c.o, c.text, out)
		}
		d, err := forms.Read(strings.NewReader(out.String()))
		if err != nil {
			t.Fatal(err)
		}
		if len(d.Packages) != c.packages || c.o.Flat != (len(d.References) == 0) {
			t.Errorf("%+v: %+v", c.o, d)
		}
	}
	out.Reset()
	w.JSON = true
	if err := w.SBOM(t.Context(), "release/sbom.json", SBOMOptions{Flat: true, To: "bom.json"}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(w.Root, "bom.json")); err != nil || !strings.Contains(out.String(), `x\u001b[2J 1: supplier is \"Organization: B\" in image`) {
		t.Errorf("%v, %s", err, out)
	}
	if said := w.Stderr.(*bytes.Buffer).String(); !strings.Contains(said, `conflict x\x1b[2J 1`) {
		t.Errorf("%q", said)
	}
	if err := w.SBOM(t.Context(), "release", SBOMOptions{}); fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), "--to") {
		t.Errorf("--json without --to: %v", err)
	}
	w.JSON = false
	if err := w.SBOM(t.Context(), "release", SBOMOptions{Format: "spdx2"}); fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), "did you mean spdx") {
		t.Errorf("an unknown form: %v", err)
	}
	lay(t, filepath.Join(w.Root, "release/sbom/part.json"), `{"spdxVersion":"SPDX-2.3","documentNamespace":"urn:x","creationInfo":{"created":"2024-01-01T00:00:00Z"}}`)
	if err := w.SBOM(t.Context(), "release", SBOMOptions{Flat: true}); fault.Of(err) != fault.Digest {
		t.Errorf("another document of the part: %v", err)
	}
	lay(t, filepath.Join(w.Root, "release/sbom/part.json"), "{}")
	if err := w.SBOM(t.Context(), "release", SBOMOptions{Flat: true}); fault.Of(err) != fault.Digest {
		t.Errorf("nothing in place of the part's: %v", err)
	}
	if err := os.Remove(filepath.Join(w.Root, "release/sbom/part.json")); err != nil {
		t.Fatal(err)
	}
	if err := w.SBOM(t.Context(), "release", SBOMOptions{Flat: true}); fault.Of(err) != fault.Missing || !strings.Contains(err.Error(), "put it there") {
		t.Errorf("without the part's: %v", err)
	}
	if err := syscall.Mkfifo(filepath.Join(w.Root, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := w.SBOM(t.Context(), "pipe", SBOMOptions{}); err == nil {
		t.Error("a pipe is read")
	}
	lay(t, filepath.Join(w.Root, "bad", images.SBOMFile), strings.Replace(readText(t, filepath.Join(w.Root, "release", images.SBOMFile)), "sbom/part.json", "../release/sbom/part.json", 1))
	if err := w.SBOM(t.Context(), "bad", SBOMOptions{Flat: true}); fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), "not below it") {
		t.Errorf("a path that leads out: %v", err)
	}
	lay(t, filepath.Join(w.Root, "device.pvr.tgz"), "\x1f\x8b")
	if err := w.SBOM(t.Context(), "device.pvr.tgz", SBOMOptions{}); fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), "pvr sbom --from device.pvr.tgz") {
		t.Errorf("an export: %v", err)
	}
	if err := w.SBOM(t.Context(), "nothing", SBOMOptions{}); fault.Of(err) != fault.Missing {
		t.Errorf("nothing there: %v", err)
	}
}

func readText(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
