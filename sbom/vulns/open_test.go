package vulns

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/sbom"
	"github.com/pantavisor/pantavisor/sbom/forms"
	"github.com/pantavisor/pantavisor/sbom/spdx2"
)

// encoded is a document as SPDX 2.3, packed when it is that of a part.
func encoded(t *testing.T, d *sbom.Document, packed bool) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := spdx2.Write(&b, d); err != nil {
		t.Fatal(err)
	}
	if !packed {
		return b.Bytes()
	}
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	return z.EncodeAll(b.Bytes(), nil)
}

// release writes the documents of the system as a build does.
func release(t *testing.T, change func(r *sbom.Reference)) string {
	t.Helper()
	dir := t.TempDir()
	parts := system()
	top := parts[0].Document
	if err := os.Mkdir(filepath.Join(dir, "sbom"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, p := range parts[1:] {
		r := sbom.Reference{ID: "DocumentRef-" + p.Name, Namespace: p.Document.Namespace, File: "sbom/" + p.Name + ".spdx.zst"}
		text := encoded(t, p.Document, true)
		write(t, filepath.Join(dir, r.File), text)
		r.SHA256 = sum256(text)
		if change != nil {
			change(&r)
		}
		top.References = append(top.References, r)
	}
	write(t, filepath.Join(dir, "sbom.json"), encoded(t, top, false))
	return filepath.Join(dir, "sbom.json")
}

func TestOpen(t *testing.T) {
	t.Parallel()
	b, err := Open(t.Context(), release(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range b.Parts {
		names = append(names, p.Name)
	}
	if diff := cmp.Diff([]string{"board", "bsp", "web"}, names); diff != "" || len(b.Digests) != 3 || len(b.Unread) != 0 {
		t.Errorf("%s\n%v %v", diff, b.Digests, b.Unread)
	}
	s := New(b.Parts...)
	if err := s.Load(t.Context(), put(t, map[string]string{"t.json": trackerText})); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(short(s.Report(false)), "\n"); !strings.Contains(got, "affected web CVE-2024-0001 libssl3 3.0.15-1~deb12u1 high") {
		t.Error(got)
	}
}

// TestOpenEachForm finds the same in a document of each form.
func TestOpenEachForm(t *testing.T) {
	t.Parallel()
	for _, name := range forms.Names() {
		d := bill("web", sbom.Package{
			Name: "libssl3", Version: "3.0.11-1~deb12u2", SourceName: "openssl", PURL: "pkg:deb/debian/libssl3@3.0.11-1~deb12u2?arch=arm64&distro=bookworm",
		}, kernelPackage)
		var text bytes.Buffer
		if err := forms.Write(&text, d, forms.Form(name)); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "bill")
		write(t, file, text.Bytes())
		b, err := Open(t.Context(), file)
		if err != nil {
			t.Fatal(err)
		}
		s := New(b.Parts...)
		data := map[string]string{"t.json": trackerText, "c.json": cveText("CVE-2024-1001", "drivers/net/virtio_net.c")}
		if err := s.Load(t.Context(), put(t, data)); err != nil {
			t.Fatal(err)
		}
		got := strings.Join(short(s.Report(false)), "\n")
		for _, want := range []string{"affected web CVE-2024-0001 libssl3 3.0.15-1~deb12u1 high", "affected web CVE-2024-1001 linux-image-6.1.0-40-arm64  medium"} {
			if !strings.Contains(got, want) {
				t.Errorf("%s: %q is not in\n%s", name, want, got)
			}
		}
	}
}

// TestOpenNested: what documents of others refer to may be anywhere, and is told.
func TestOpenNested(t *testing.T) {
	t.Parallel()
	parts := system()
	top, web, dir := parts[0].Document, parts[1].Document, t.TempDir()
	for i, place := range []string{"https://example.com/host.spdx.json", "../out.json", "none.json", ""} {
		r := sbom.Reference{ID: "DocumentRef-n" + strconv.Itoa(i), Namespace: "urn:n" + strconv.Itoa(i), File: place}
		web.References = append(web.References, r)
	}
	web.References = append(web.References, sbom.Reference{ID: "DocumentRef-top", Namespace: top.Namespace, File: "elsewhere.json"})
	text := encoded(t, web, false)
	top.References = []sbom.Reference{{ID: "DocumentRef-x", Namespace: web.Namespace, File: "web.json", SHA256: sum256(text)}}
	write(t, filepath.Join(dir, "web.json"), text)
	write(t, filepath.Join(dir, "sbom.json"), encoded(t, top, false))
	b, err := Open(t.Context(), filepath.Join(dir, "sbom.json"))
	if err != nil {
		t.Fatal(err)
	}
	var unread []string
	for _, u := range b.Unread {
		unread = append(unread, u.Part+" "+u.Package)
	}
	if diff := cmp.Diff([]string{"web.json urn:n0", "web.json urn:n1", "web.json urn:n2", "web.json urn:n3"}, unread); diff != "" || len(b.Parts) != 2 {
		t.Errorf("%s\n%+v", diff, b.Parts)
	}
}

// TestOpenArchive finds packages in the documents of an archive, as OpenEmbedded makes it.
func TestOpenArchive(t *testing.T) {
	t.Parallel()
	parts := system()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, p := range parts[1:] {
		text := encoded(t, p.Document, false)
		if err := w.WriteHeader(&tar.Header{Name: p.Name + ".spdx.json", Typeflag: tar.TypeReg, Size: int64(len(text)), Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	top := parts[0].Document
	top.References = []sbom.Reference{{ID: "DocumentRef-x", Namespace: "urn:x", File: "yocto.spdx.tar", SHA256: sum256(b.Bytes())}}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "yocto.spdx.tar"), b.Bytes())
	write(t, filepath.Join(dir, "sbom.json"), encoded(t, top, false))
	bills, err := Open(t.Context(), filepath.Join(dir, "sbom.json"))
	if err != nil || len(bills.Unread) != 0 || len(bills.Parts) != 2 {
		t.Fatalf("%+v, %v", bills, err)
	}
	s := New(bills.Parts...)
	if err := s.Load(t.Context(), put(t, map[string]string{"t.json": trackerText})); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(short(s.Report(false)), "\n"); !strings.Contains(got, "affected yocto.spdx.tar CVE-2024-0001 libssl3 3.0.15-1~deb12u1 high") {
		t.Error(got)
	}
}

func TestOpenBad(t *testing.T) {
	t.Parallel()
	for want, c := range map[string]struct {
		kind   fault.Kind
		change func(r *sbom.Reference)
	}{
		"is not the document that the bill of materials refers to": {fault.Digest, func(r *sbom.Reference) { r.SHA256 = strings.Repeat("0", 64) }},
		"put it there, its packages are not looked at otherwise":   {fault.Missing, func(r *sbom.Reference) { r.File = "sbom/none.spdx.zst" }},
		"which is not a path below its directory":                  {fault.BadInput, func(r *sbom.Reference) { r.File = "../bsp.spdx.zst" }},
	} {
		if _, err := Open(t.Context(), release(t, c.change)); fault.Of(err) != c.kind || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", fault.Of(err), err, want)
		}
	}
	dir := put(t, map[string]string{"a.json": "{}", "b.json": "\x28\xb5\x2f\xfdrubbish"})
	for name, kind := range map[string]fault.Kind{"a.json": fault.BadInput, "b.json": fault.BadInput, "none.json": fault.Missing} {
		if _, err := Open(t.Context(), filepath.Join(dir, name)); fault.Of(err) != kind {
			t.Errorf("%s: %v: %v", name, fault.Of(err), err)
		}
	}
	b, err := Open(t.Context(), release(t, func(r *sbom.Reference) { r.File, r.SHA256 = "", "" }))
	if err != nil || len(b.Unread) != 2 {
		t.Errorf("documents elsewhere: %v, %v", b, err)
	}
}

// TestTools has a package that only made what is described, and one that is in it too.
func TestTools(t *testing.T) {
	t.Parallel()
	d := bill("board", sbom.Package{Name: "openssl", Version: "3.0.11-1", PURL: "pkg:deb/debian/openssl@3.0.11-1?distro=bookworm"},
		sbom.Package{Name: "curl", Version: "7.88.1-10", PURL: "pkg:deb/debian/curl@7.88.1-10?distro=bookworm"})
	for _, p := range d.Packages {
		if p.PURL != "" {
			d.Relate(p.ID, sbom.BuildToolOf, d.Roots[0])
		}
		if p.Name == "curl" {
			d.Relate(d.Roots[0], sbom.Contains, p.ID)
		}
	}
	s := New(Part{Name: "image", Document: d})
	text := `{"openssl":{"CVE-1-1":{"releases":{"bookworm":{"status":"open"}}}},"curl":{"CVE-1-2":{"releases":{"bookworm":{"status":"resolved","fixed_version":"0"}}}}}`
	if err := s.Load(t.Context(), put(t, map[string]string{"t.json": text})); err != nil {
		t.Fatal(err)
	}
	r := s.Report(true)
	if diff := cmp.Diff([]string{"affected build tools CVE-1-1 openssl", "not_affected image CVE-1-2 curl"}, short(r)); diff != "" {
		t.Error(diff)
	}
	if r.Counts[Affected] != 0 || r.OfTools != 1 || !strings.Contains(r.Summary(), "1 of tools of the build") {
		t.Errorf("%v, %d, %s", r.Counts, r.OfTools, r.Summary())
	}
	if r.Fails(Limits{States: []State{Affected}}) {
		t.Error("a tool of the build fails")
	}
}
