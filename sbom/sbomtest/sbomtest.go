// Package sbomtest has the documents that the tests of the forms write and read.
package sbomtest

import (
	"fmt"
	"reflect"
	"time"

	"github.com/pantavisor/pantavisor/sbom"
)

// digest returns an invented digest of n hex digits that ends with s.
func digest(n int, s string) string {
	return fmt.Sprintf("%0*s", n, s)
}

// Full returns a sealed document in which every field of the model is set somewhere.
func Full() *sbom.Document {
	d := &sbom.Document{
		Name: `bsp of "x64-uefi" <1>`, Created: time.Date(2024, 2, 29, 23, 59, 58, 0, time.UTC),
		Creators: []string{"Tool: pantavisor-1.0", "Organization: Example & Sons", "Person: Ann Müller (ann@example.com)"},
		Comment:  "two lines\nand a tab\t",
		Support:  sbom.Support{End: "2031-12-31", Contact: "security@example.com", Manufacturer: "Example & Sons"},
		Omitted:  []string{"snippets: 1"},
	}
	licence := sbom.LicenceID("firmware", "Do <what> you like.\n")
	d.Licences = []sbom.Licence{{ID: licence, Name: "firmware", Text: "Do <what> you like.\n"}}
	kernel := d.AddPackage(sbom.Package{
		Name: "linux-image-6.1", Version: "6.1.0-1", Purpose: sbom.OperatingSystem,
		PURL:       "pkg:deb/debian/linux-image-6.1@6.1.0-1?arch=amd64",
		CPE:        "cpe:2.3:o:linux:linux_kernel:6.1:*:*:*:*:*:*:*",
		SourceName: "linux-signed-amd64", SourceVersion: "6.1.0+1", Supplier: "Organization: Debian", Download: "https://example.com/linux.deb",
		FileName: "linux-image_6.1.0-1_amd64.deb", SHA256: digest(64, "a1"), SHA1: digest(40, "a2"),
		Declared: "GPL-2.0-only WITH Linux-syscall-note", Concluded: "GPL-2.0-only AND " + licence,
		Copyright: "© 1991 many\nand others", Comment: "the kernel", Paths: []string{"lib/modules/a.ko", "lib/modules/b c.ko"},
	})
	compiler := d.AddPackage(sbom.Package{Name: "go", Version: "1.26", Purpose: sbom.Application, Host: true, Declared: "BSD-3-Clause"})
	plain := d.AddPackage(sbom.Package{Name: "plain"})
	image := d.AddFile(sbom.File{
		Name: "kernel.img", SHA256: digest(64, "f1"), SHA1: digest(40, "f2"), Size: 8 << 20, Concluded: "GPL-2.0-only", Comment: "as booted",
	})
	empty := d.AddFile(sbom.File{Name: "a/empty file", SHA256: digest(64, "f3")})
	unknown := d.AddFile(sbom.File{Name: "/etc/of unknown size", SHA256: digest(64, "f4"), Size: -1})
	d.Roots = []string{kernel, image}
	d.Relate(image, sbom.GeneratedFrom, kernel)
	d.Relate(kernel, sbom.Contains, empty, unknown)
	d.Relate(compiler, sbom.BuildToolOf, image)
	d.Relate(kernel, sbom.DependsOn, plain)
	d.Relate(plain, sbom.VariantOf, kernel)
	d.Relations = append(d.Relations, sbom.Relation{From: plain, Kind: sbom.Contains, To: "DocumentRef-yocto:Package-x", Comment: "the same bytes"})
	d.Relate(sbom.DocumentID, sbom.Amends, "DocumentRef-yocto:"+sbom.DocumentID)
	d.References = []sbom.Reference{
		{
			ID: "DocumentRef-yocto", Namespace: "https://example.com/spdx/yocto", SHA256: digest(64, "d1"), SHA1: digest(40, "d2"),
			File: "sbom/yocto.json", Comment: "the root file system",
		},
		{ID: "DocumentRef-old", Namespace: "https://example.com/spdx/old", SHA1: digest(40, "d3")},
	}
	d.Statements = []sbom.Statement{
		{
			Vulnerability: "CVE-2024-1", Status: "not_affected", Justification: "vulnerable_code_not_present",
			Packages: []string{kernel}, Text: "The driver is not built.", Origin: "yocto",
		},
		{
			Vulnerability: "CVE-2024-2", Status: "affected", Packages: []string{kernel, plain}, Text: "Update.", Origin: "ours",
		},
		{Vulnerability: "CVE-2024-3", Status: "fixed", Packages: []string{plain}, Origin: "ours"},
		{Vulnerability: "CVE-2024-4", Status: "under_investigation", Packages: []string{plain}, Origin: "ours"},
	}
	d.Seal()
	return d
}

// Unset returns the fields of the model that have the zero value everywhere in the document.
func Unset(d *sbom.Document) []string {
	var unset []string
	var walk func(path string, values []reflect.Value)
	walk = func(path string, values []reflect.Value) {
		typ := values[0].Type()
		for i := range typ.NumField() {
			var fields []reflect.Value
			for _, v := range values {
				if f := v.Field(i); !f.IsZero() {
					fields = append(fields, f)
				}
			}
			name := path + "." + typ.Field(i).Name
			switch {
			case len(fields) == 0:
				unset = append(unset, name)
			case fields[0].Type() == reflect.TypeFor[time.Time]():
			case fields[0].Kind() == reflect.Struct:
				walk(name, fields)
			case fields[0].Kind() == reflect.Slice && fields[0].Type().Elem().Kind() == reflect.Struct:
				var elements []reflect.Value
				for _, f := range fields {
					for j := range f.Len() {
						elements = append(elements, f.Index(j))
					}
				}
				walk(name, elements)
			}
		}
	}
	walk("Document", []reflect.Value{reflect.ValueOf(*d)})
	return unset
}
