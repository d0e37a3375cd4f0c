package device

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/pantavisor/pantavisor/revision/state"
	"github.com/pantavisor/pantavisor/sbom"
	"github.com/pantavisor/pantavisor/sbom/spdx2"
)

// describe gives a part of the next revision a bill of materials with one package of its own and one
// that all parts have.
func (d *device) describe(part, version string) {
	d.t.Helper()
	doc := &sbom.Document{Name: part, Created: time.Unix(1700000000, 0)}
	root := doc.AddPackage(sbom.Package{Name: "made of " + part, Version: version, Purpose: sbom.Container})
	doc.Roots = []string{root}
	doc.Relate(root, sbom.DependsOn, doc.AddPackage(sbom.Package{Name: "libc6", Version: "2.36", PURL: "pkg:deb/debian/libc6@2.36"}))
	doc.Seal()
	var text bytes.Buffer
	if err := spdx2.Write(&text, doc); err != nil {
		d.t.Fatal(err)
	}
	e, err := zstd.NewWriter(nil)
	if err != nil {
		d.t.Fatal(err)
	}
	if err := d.st.SetObject(part+"/sbom.spdx.zst", d.text(string(e.EncodeAll(text.Bytes(), nil)))); err != nil {
		d.t.Fatal(err)
	}
}

// materials asks for a bill of materials and returns the versions of its packages by their names. Each object
// of the state must be there by its digest.
func (d *device) materials(path string, st *state.State) map[string]string {
	d.t.Helper()
	doc, err := spdx2.Read(strings.NewReader(d.ask("GET", path, "")))
	if err != nil {
		d.t.Fatalf("%s: %v", path, err)
	}
	if err := doc.Check(); err != nil {
		d.t.Errorf("%s: %v", path, err)
	}
	versions, sums := map[string]string{}, map[string]bool{}
	for _, p := range doc.Packages {
		if _, twice := versions[p.Name]; twice && p.Purpose != "FILE" {
			d.t.Errorf("%s: %s is there twice", path, p.Name)
		}
		versions[p.Name] = p.Version
		sums[p.SHA256] = true
	}
	for _, o := range st.Objects() {
		if !sums[o.Sum] {
			d.t.Errorf("%s: %s is not there", path, o.Path)
		}
	}
	return versions
}

// TestSBOMFollowsTheRevision changes a device, which answers with what it has then.
func TestSBOMFollowsTheRevision(t *testing.T) {
	d := newDevice(t)
	d.add("web", "app", "/sbin/init wait", nil)
	d.describe("web", "1")
	d.add("plain", "app", "/sbin/init wait", nil)
	first := d.st
	d.put("0")
	d.add("web", "app", "/sbin/init wait", nil)
	d.describe("web", "2")
	d.add("new", "app", "/sbin/init wait", nil)
	d.describe("new", "7")
	second := d.st
	d.put("locals/one")

	d.run()
	d.await(map[string]string{"web": "STARTED", "plain": "STARTED"})
	check := func(path string, st *state.State, want map[string]string) {
		t.Helper()
		got := d.materials(path, st)
		for name, version := range want {
			if have, ok := got[name]; ok != (version != "-") || ok && have != version {
				t.Errorf("%s: %s is %q (%v), want %q", path, name, have, ok, version)
			}
		}
	}
	before := map[string]string{"made of web": "1", "made of new": "-", "libc6": "2.36", "plain": "", "revision 0": ""}
	after := map[string]string{"made of web": "2", "made of new": "7", "libc6": "2.36", "plain": "-", "revision locals/one": ""}
	check("/sbom", first, before)
	check("/steps/locals/one/sbom", second, after)
	d.change("locals/one", []string{"new", "plain", "web"}, map[string]string{"web": "STARTED", "new": "STARTED"})
	check("/sbom", second, after)
	check("/steps/0/sbom", first, before)
	check("/sbom/new", state.New(state.Spec), map[string]string{"made of new": "7", "made of web": "-", "libc6": "2.36"})
}
