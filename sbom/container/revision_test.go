package container

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/formats/tree"
	"github.com/pantavisor/pantavisor/sbom"
	"github.com/pantavisor/pantavisor/sbom/part"
)

// foreign is a document of another program, with the identifiers that each of its documents has.
func foreign(name string, packages ...sbom.Package) *sbom.Document {
	d := &sbom.Document{Name: name, Namespace: "https://example.com/" + name, Created: made, Creators: []string{"Tool: other"}}
	d.References = []sbom.Reference{{ID: "DocumentRef-1", Namespace: "https://example.com/more/" + name, SHA256: strings.Repeat("a", 64)}}
	d.Licences = []sbom.Licence{{ID: "LicenseRef-1", Name: "own", Text: "text of " + name}}
	for _, p := range packages {
		p.Declared = "LicenseRef-1"
		d.AddPackage(p)
		d.Roots = append(d.Roots, p.ID)
		d.Relate(p.ID, sbom.DependsOn, "DocumentRef-1:Package-9")
	}
	d.Seal()
	return d
}

func (f *fragment) document(name string, d *sbom.Document) {
	f.t.Helper()
	data, err := part.Encode(d)
	if err != nil {
		f.t.Fatal(err)
	}
	f.object(part.Key(name), data)
}

func (f *fragment) value(key, text string) {
	f.t.Helper()
	if err := f.st.Set(key, []byte(text)); err != nil {
		f.t.Fatal(err)
	}
}

func TestRevision(t *testing.T) {
	t.Parallel()
	f := newFragment(t)
	for _, name := range []string{"a", "b", "own", "none", "bad"} {
		f.value(name+"/run.json", `{}`)
	}
	f.document("a", foreign("a", sbom.Package{ID: "Package-1", Name: "x", Version: "1"}))
	f.document("b", foreign("b", sbom.Package{ID: "Package-1", Name: "y", Version: "2"}))
	f.squashfs("none/root.squashfs", tree.Bytes(apkDB, 0o644, []byte("P:musl\nV:1\n")))
	f.squashfs("own/root.squashfs", tree.Bytes(apkDB, 0o644, []byte("P:zlib\nV:1\n")))
	f.object("bad/sbom.spdx.zst", []byte("not a document"))
	f.value("device.json", `{"name":"d"}`)
	f.value("_config/a/x.json", `1`)
	own, err := Of(t.Context(), Options{Part: "own", State: f.st, Objects: f.dir})
	if err != nil {
		t.Fatal(err)
	}
	own.Seal()
	f.document("own", own)
	f.object("own/added", []byte("later"))

	o := Options{Of: "revision", State: f.st, Objects: f.dir}
	d, warnings, err := Revision(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Check(); err != nil {
		t.Fatal(err)
	}
	var packages, files []string
	texts := map[string]string{}
	for _, l := range d.Licences {
		texts[l.ID] = l.Text
	}
	for _, p := range d.Packages {
		packages = append(packages, strings.TrimSpace(p.Name+" "+p.Version+" "+texts[p.Declared]))
	}
	slices.Sort(packages)
	if diff := cmp.Diff([]string{"bad", "musl 1", "none", "own", "revision", "x 1 text of a", "y 2 text of b", "zlib 1"}, packages); diff != "" {
		t.Error(diff)
	}
	for _, f := range d.Files {
		files = append(files, f.Name)
	}
	for _, key := range f.st.Keys() {
		if key != "#spec" && !slices.Contains(files, key) {
			t.Errorf("%s is not in the document", key)
		}
	}
	if len(warnings) != 2 || !strings.HasPrefix(warnings[0], "bad/sbom.spdx.zst cannot be used") || warnings[1] != "own/sbom.spdx.zst does not have own/added as it is now" {
		t.Errorf("%q", warnings)
	}
	if len(d.References) != 2 || d.References[0].ID == d.References[1].ID {
		t.Errorf("%+v", d.References)
	}
	again, _, err := Revision(t.Context(), o)
	if diff := cmp.Diff(d, again); err != nil || diff != "" {
		t.Errorf("%v: %s", err, diff)
	}

	one, _, err := Revision(t.Context(), o, "own")
	if err != nil || len(one.Roots) != 1 || slices.ContainsFunc(one.Packages, func(p sbom.Package) bool { return p.Name == "musl" }) {
		t.Errorf("%v: roots %q of %+v", err, one.Roots, one.Packages)
	}
	if got := Software(f.st); !slices.Equal(got, []string{"a", "b", "bad", "none", "own"}) {
		t.Errorf("%q", got)
	}
}
