package sbom

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func sample(order ...int) *Document {
	d := &Document{Name: "bsp", Created: time.Unix(0, 0)}
	for _, i := range order {
		p := []Package{
			{Name: "linux-image", Version: "6.1", SHA256: "aa", Declared: "GPL-2.0-only"},
			{Name: "grub", Version: "2.06", SHA256: "bb"},
			{Name: "linux-image", Version: "6.1", SHA256: "aa", Supplier: "Organization: Debian"},
		}[i]
		f := d.AddFile(File{Name: p.Name, SHA256: p.SHA256})
		d.Relate(f, GeneratedFrom, d.AddPackage(p))
	}
	d.Seal()
	return d
}

// TestOrder adds the same elements in each order.
func TestOrder(t *testing.T) {
	t.Parallel()
	want := sample(0, 1, 2)
	if len(want.Packages) != 2 || len(want.Files) != 2 || len(want.Relations) != 2 {
		t.Fatalf("%+v", want)
	}
	image := want.Packages[slices.IndexFunc(want.Packages, func(p Package) bool { return p.Name == "linux-image" })]
	if image.Declared == "" || image.Supplier == "" {
		t.Errorf("what two know of one package is not joined: %+v", image)
	}
	for _, order := range [][]int{{2, 1, 0}, {1, 0, 2, 2}, {0, 0, 1, 2}} {
		if diff := cmp.Diff(want, sample(order...)); diff != "" {
			t.Errorf("order %v: %s", order, diff)
		}
	}
}

// TestNamespaces changes one thing of a document.
func TestNamespaces(t *testing.T) {
	t.Parallel()
	seen := map[string]string{sample(0).Namespace: "one package"}
	for name, change := range map[string]func(*Document){
		"name":      func(d *Document) { d.Name = "other" },
		"time":      func(d *Document) { d.Created = time.Unix(1, 0) },
		"licence":   func(d *Document) { d.Packages[0].Declared = "MIT" },
		"relation":  func(d *Document) { d.Relations[0].Kind = Contains },
		"statement": func(d *Document) { d.Statements = []Statement{{Vulnerability: "CVE-1-1", Status: "fixed"}} },
	} {
		d := sample(0)
		d.Namespace = ""
		change(d)
		d.Seal()
		if other, twice := seen[d.Namespace]; twice {
			t.Errorf("the namespace of %s is that of %s", name, other)
		}
		seen[d.Namespace] = name
	}
}

func TestIdentifiers(t *testing.T) {
	t.Parallel()
	a, b := FileID(File{Name: "a b/ü", SHA256: "1"}), FileID(File{Name: "a b/ü", SHA256: "2"})
	if a == b {
		t.Errorf("two contents have the identifier %s", a)
	}
	for _, id := range []string{a, PackageID(Package{Name: "libstdc++6"}), LicenceID("x_y", "text")} {
		if noID.MatchString(id) {
			t.Errorf("%q is no identifier of SPDX", id)
		}
	}
}
