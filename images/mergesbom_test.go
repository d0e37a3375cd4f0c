package images

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/sbom"
	"github.com/pantavisor/pantavisor/sbom/forms"
)

// givenSBOM writes a document with a file of this content, as a tool of others would have it.
func givenSBOM(t *testing.T, name string, form forms.Form, content string) {
	t.Helper()
	sum := sha256.Sum256([]byte(content))
	d := &sbom.Document{Name: "rootfs"}
	d.Roots = []string{d.AddFile(sbom.File{Name: "deploy/rootfs.tar", SHA256: hex.EncodeToString(sum[:]), Size: -1})}
	d.Seal()
	var b bytes.Buffer
	if err := forms.Write(&b, d, form); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestMergeSBOM links documents of each form with that of an image, which has a file of theirs.
func TestMergeSBOM(t *testing.T) {
	dir := t.TempDir()
	const content = "a root file system"
	for _, form := range forms.Names() {
		givenSBOM(t, filepath.Join(dir, form, "bom.json"), forms.Form(form), content)
	}
	if err := os.WriteFile(filepath.Join(dir, "package.json"), []byte(`{"name":"x"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	artefact := &made{name: "image/disk", files: map[string]string{"image.img": content}}
	r := newRunner(t)
	merged := &MergeSBOM{Path: dir}
	kept := r.must(merged)
	if _, err := os.Stat(filepath.Join(kept, "package.json")); err == nil {
		t.Error("a file without a document is taken")
	}
	s := &SBOM{
		Target: "board", Epoch: build.Epoch, Merged: merged, origins: originsOf(),
		Artefacts: []SBOMArtefact{{"board.img", Artefact{Step: artefact, File: "image.img"}}},
	}
	out := r.must(s)
	f, err := os.Open(filepath.Join(out, SBOMFile))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d, err := forms.Read(f)
	if err != nil {
		t.Fatal(err)
	}
	if len(d.References) != len(forms.Names()) {
		t.Errorf("%+v", d.References)
	}
	described := 0
	for _, rel := range d.Relations {
		if rel.Kind == sbom.Describes && rel.To == d.Files[0].ID && strings.HasSuffix(rel.From, ":"+sbom.DocumentID) {
			described++
		}
	}
	if described != len(forms.Names()) {
		t.Errorf("%d of the documents are about the image: %+v", described, d.Relations)
	}
	for _, ref := range d.References {
		text, err := os.ReadFile(filepath.Join(out, ref.File))
		if err != nil {
			t.Fatal(err)
		}
		given, err := os.ReadFile(filepath.Join(dir, strings.TrimPrefix(ref.File, SBOMDir)))
		if err != nil || !bytes.Equal(text, given) {
			t.Errorf("%s is not what was given: %v", ref.File, err)
		}
		if sum := sha256.Sum256(text); hex.EncodeToString(sum[:]) != ref.SHA256 {
			t.Errorf("%s has another digest than %s", ref.File, ref.SHA256)
		}
	}
	for _, bad := range []string{"", "{"} {
		dir := t.TempDir()
		if bad != "" {
			if err := os.WriteFile(filepath.Join(dir, "a.json"), []byte(bad), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := newRunner(t).run(&MergeSBOM{Path: dir}); fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), "PV_MERGE_SBOM") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
