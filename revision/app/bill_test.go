package app

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/pantavisor/pantavisor/revision/state"
	"github.com/pantavisor/pantavisor/sbom"
	"github.com/pantavisor/pantavisor/sbom/container"
	sbompart "github.com/pantavisor/pantavisor/sbom/part"
)

// documentOf reads the bill of materials of an application and checks its files against those that are
// there.
func documentOf(t *testing.T, w *Workspace, name string) *sbom.Document {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(w.Dir, sbompart.Key(name)))
	if err != nil {
		t.Fatal(err)
	}
	d, err := sbompart.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(filepath.Join(w.Dir, name))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		key := name + "/" + e.Name()
		if key == sbompart.Key(name) {
			continue
		}
		at := slices.IndexFunc(d.Files, func(f sbom.File) bool { return f.Name == key })
		if at < 0 {
			t.Errorf("the document does not have %s", key)
			continue
		}
		text, err := os.ReadFile(filepath.Join(w.Dir, key))
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(text)
		if got := d.Files[at].SHA256; got != hex.EncodeToString(sum[:]) && !strings.HasSuffix(key, ".json") {
			t.Errorf("%s has another digest in the document: %s", key, got)
		}
	}
	return d
}

// has reports whether a document has a package.
func has(d *sbom.Document, name string) bool {
	return slices.ContainsFunc(d.Packages, func(p sbom.Package) bool { return p.Name == name })
}

// rootOf makes a root file system with packages of Alpine.
func rootOf(t *testing.T, dir string, packages ...string) {
	t.Helper()
	var db strings.Builder
	for _, p := range packages {
		db.WriteString("P:" + p + "\nV:1\nL:MIT\n\n")
	}
	file := filepath.Join(dir, "lib/apk/db/installed")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(db.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestBill(t *testing.T) {
	t.Parallel()
	from := t.TempDir()
	rootOf(t, from, "musl")
	w, _ := workspace(t, nil)
	add := AddOptions{From: from, Kind: Rootfs, FormatOptions: "-comp gzip"}
	r, err := w.Add(t.Context(), "a", add)
	if err != nil || !slices.Contains(r.Written, "a/sbom.spdx.zst") {
		t.Fatalf("%v, %v", r, err)
	}
	if d := documentOf(t, w, "a"); !has(d, "musl") || !has(d, "a") {
		t.Errorf("%+v", d.Packages)
	}
	if r, err := w.Install(t.Context(), "a"); err != nil || len(r.Written) != 0 {
		t.Errorf("an install without a change wrote %v, %v", r, err)
	}
	rootOf(t, from, "musl", "zlib")
	if _, err := w.Update(t.Context(), "a", UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if d := documentOf(t, w, "a"); !has(d, "zlib") {
		t.Errorf("after an update: %+v", d.Packages)
	}
	first, err := os.ReadFile(filepath.Join(w.Dir, sbompart.Key("a")))
	if err != nil {
		t.Fatal(err)
	}
	other, _ := workspace(t, nil)
	if _, err := other.Add(t.Context(), "a", add); err != nil {
		t.Fatal(err)
	}
	if again, err := os.ReadFile(filepath.Join(other.Dir, sbompart.Key("a"))); err != nil || !bytes.Equal(first, again) {
		t.Errorf("%v: the same application has another document", err)
	}

	// One that cannot be read is made anew when there is something to do.
	if err := os.WriteFile(filepath.Join(w.Dir, sbompart.Key("a")), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(w.Dir, "a", runName)); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Install(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	documentOf(t, w, "a")

	// One that is not there is not added to a part that may be signed; adding it again does.
	none := func(do string) {
		t.Helper()
		if _, err := os.Stat(filepath.Join(w.Dir, sbompart.Key("a"))); !os.IsNotExist(err) {
			t.Errorf("%s: there is a document: %v", do, err)
		}
	}
	w.NoSBOM = true
	add.Force = true
	if _, err := w.Add(t.Context(), "a", add); err != nil {
		t.Fatal(err)
	}
	none("without bills")
	w.NoSBOM = false
	rootOf(t, from, "other")
	if _, err := w.Update(t.Context(), "a", UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	none("an update")
	if _, err := w.Add(t.Context(), "a", add); err != nil {
		t.Fatal(err)
	}
	documentOf(t, w, "a")
}

// TestAttachedBill adds an image with a document beside it, and keeps what that says when the image is
// not looked at.
func TestAttachedBill(t *testing.T) {
	t.Parallel()
	img, err := mutate.Config(empty.Image, v1.Config{Entrypoint: []string{"/x"}})
	if err != nil {
		t.Fatal(err)
	}
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	const statement = `{"predicateType":"https://spdx.dev/Document","predicate":{"spdxVersion":"SPDX-2.3","dataLicense":"CC0-1.0","SPDXID":"SPDXRef-DOCUMENT","name":"x","documentNamespace":"https://example.com/x","creationInfo":{"created":"2024-01-01T00:00:00Z","creators":["Tool: x"]},"packages":[{"name":"jar","SPDXID":"SPDXRef-1","versionInfo":"7","downloadLocation":"NOASSERTION","externalRefs":[{"referenceCategory":"PACKAGE-MANAGER","referenceType":"purl","referenceLocator":"pkg:maven/org/jar@7"}]}],"relationships":[{"spdxElementId":"SPDXRef-DOCUMENT","relationshipType":"DESCRIBES","relatedSpdxElement":"SPDXRef-1"}]}}`
	beside, err := mutate.Append(mutate.MediaType(empty.Image, types.OCIManifestSchema1), mutate.Addendum{Layer: static.NewLayer([]byte(statement), "application/vnd.in-toto+json")})
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "layout")
	_, err = layout.Write(dir, mutate.AppendManifests(empty.Index,
		mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}}},
		mutate.IndexAddendum{Add: beside, Descriptor: v1.Descriptor{
			Platform:    &v1.Platform{OS: "unknown", Architecture: "unknown"},
			Annotations: map[string]string{"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": digest.String()},
		}}))
	if err != nil {
		t.Fatal(err)
	}
	w, log := workspace(t, nil)
	if _, err := w.Add(t.Context(), "a", AddOptions{From: dir}); err != nil {
		t.Fatal(err)
	}
	d := documentOf(t, w, "a")
	if !has(d, "jar") || len(d.References) != 1 {
		t.Errorf("%+v, references %+v; %s", d.Packages, d.References, log.take())
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(w.Dir, "a", runName)); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Install(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if again := documentOf(t, w, "a"); !has(again, "jar") || len(again.References) != 1 {
		t.Errorf("without the image: %+v, references %+v", again.Packages, again.References)
	}
}

// TestBillOfTheTree compares the document that is made while an application is made, of the tree, with the
// one made of the image.
func TestBillOfTheTree(t *testing.T) {
	w, _ := workspace(t, recordedRegistry(t))
	if _, err := w.Add(t.Context(), "web", AddOptions{From: "localhost:5443/g/base:1"}); err != nil {
		t.Fatal(err)
	}
	have, err := os.ReadFile(filepath.Join(w.Dir, sbompart.Key("web")))
	if err != nil {
		t.Fatal(err)
	}
	st := state.New(state.Spec)
	entries, err := os.ReadDir(filepath.Join(w.Dir, "web"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if err := addFile(st, "web/"+e.Name(), filepath.Join(w.Dir, "web", e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	d, err := container.Of(t.Context(), container.Options{
		Part: "web", State: st, File: func(key, _ string) (string, error) { return filepath.Join(w.Dir, key), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	d.Seal()
	want, err := sbompart.Encode(d)
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Files) < 8 {
		t.Fatalf("the image has only %d files", len(d.Files))
	}
	if !bytes.Equal(have, want) {
		t.Error("the document of the tree is not that of the image")
	}
}

// TestUpdateWithSBOM updates an application without a bill of materials.
func TestUpdateWithSBOM(t *testing.T) {
	w, _ := workspace(t, recordedRegistry(t))
	w.NoSBOM = true
	if _, err := w.Add(t.Context(), "web", AddOptions{From: "localhost:5443/g/base:1"}); err != nil {
		t.Fatal(err)
	}
	w.NoSBOM = false
	for _, wanted := range []bool{false, true} {
		if _, err := w.Update(t.Context(), "web", UpdateOptions{SBOM: wanted}); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(w.Dir, sbompart.Key("web"))); (err == nil) != wanted {
			t.Errorf("SBOM %v: %v", wanted, err)
		}
	}
	documentOf(t, w, "web")
}
