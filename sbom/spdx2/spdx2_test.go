package spdx2_test

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	spdxjson "github.com/spdx/tools-golang/json"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/sbom"
	"github.com/pantavisor/pantavisor/sbom/sbomtest"
	"github.com/pantavisor/pantavisor/sbom/spdx2"
)

func write(t *testing.T, d *sbom.Document) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := spdx2.Write(&b, d); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	want := sbomtest.Full()
	if unset := sbomtest.Unset(want); len(unset) > 0 {
		t.Fatalf("the document of this test does not set %v", unset)
	}
	data := write(t, want)
	got, err := spdx2.Read(bytes.NewReader(data))
	if err != nil {
		t.Fatalf("%v\n%s", err, data)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("what was read differs: %s\n%s", diff, data)
	}
	if again := write(t, got); !bytes.Equal(data, again) {
		t.Errorf("the second document differs:\n%s\n%s", data, again)
	}
}

// TestOddValues has values that the fields of SPDX do not hold.
func TestOddValues(t *testing.T) {
	t.Parallel()
	want := &sbom.Document{Name: "odd", Creators: []string{"Tool: x"}}
	a := want.AddPackage(sbom.Package{
		Name: "a", SourceName: "two words", SourceVersion: "1", Supplier: `Organization: "A" \ B`, Purpose: "MACHINE",
		Declared: "NONE",
	})
	f := want.AddFile(sbom.File{Name: "./x", Size: -1})
	want.Relations = []sbom.Relation{
		{From: a, Kind: "SWALLOWS", To: f}, {From: f, Kind: "SWALLOWS", To: a, Comment: "a: b"}, {From: f, Kind: sbom.DependsOn, To: "NONE"},
		{From: f, Kind: sbom.DependsOn, To: a, Comment: "kind a: b"},
	}
	want.Seal()
	got, err := spdx2.Read(bytes.NewReader(write(t, want)))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestOtherReader reads what we write with the library's own reader, and looks for the places that other
// programs look at.
func TestOtherReader(t *testing.T) {
	t.Parallel()
	full := sbomtest.Full()
	data := write(t, full)
	doc, err := spdxjson.Read(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if len(doc.Packages) != len(full.Packages) || len(doc.Files) != len(full.Files) {
		t.Fatalf("%d packages and %d files", len(doc.Packages), len(doc.Files))
	}
	text := string(data)
	for _, want := range []string{
		`"referenceType":"purl","referenceLocator":"pkg:deb/debian/linux-image-6.1@6.1.0-1?arch=amd64"`,
		`"sourceInfo":"built of source package linux-signed-amd64 6.1.0+1"`, `"validUntilDate":"2031-12-31T00:00:00Z"`,
		`"fileName":"./kernel.img"`, `"externalDocumentId":"DocumentRef-yocto","spdxDocument":"https://example.com/spdx/yocto","checksum":{"algorithm":"SHA256"`,
		`"created":"2024-02-29T23:59:58Z"`, `"relatedSpdxElement":"DocumentRef-yocto:SPDXRef-DOCUMENT","relationshipType":"AMENDS"`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is missing", want)
		}
	}
	if strings.Count(text, "\n") != 1 {
		t.Error("the document has more than one line")
	}
}

// TestBadDocuments are those that Write refuses.
func TestBadDocuments(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*sbom.Document){
		"it has no namespace":             func(d *sbom.Document) { d.Namespace = "" },
		`package "a b": is not a valid`:   func(d *sbom.Document) { d.Packages[0].ID = "a b" },
		"is there twice":                  func(d *sbom.Document) { d.Files[1].ID = d.Files[0].ID },
		`root "x"`:                        func(d *sbom.Document) { d.Roots = []string{"x"} },
		`no element "nowhere"`:            func(d *sbom.Document) { d.Relations[0].To = "nowhere" },
		`no element "DocumentRef-x:y"`:    func(d *sbom.Document) { d.Relations[0].From = "DocumentRef-x:y" },
		`reference "yocto"`:               func(d *sbom.Document) { d.References[0].ID = "yocto" },
		`licence "MIT"`:                   func(d *sbom.Document) { d.Licences[0].ID = "MIT" },
		`creator "me": want "Tool: NAME"`: func(d *sbom.Document) { d.Creators = []string{"me"} },
	} {
		d := sbomtest.Full()
		change(d)
		var b bytes.Buffer
		err := spdx2.Write(&b, d)
		if fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
		if b.Len() > 0 {
			t.Errorf("%s: %d bytes are written", name, b.Len())
		}
	}
}

// yocto is a document in the form of OpenEmbedded's of SPDX 2.2, of a recipe.
const yocto = "testdata/recipe-shell.spdx.json"

func TestYocto(t *testing.T) {
	t.Parallel()
	f, err := os.Open(yocto)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d, err := spdx2.Read(f)
	if err != nil {
		t.Fatal(err)
	}
	shell, native, file := d.Packages[0], d.Packages[1], d.Files[0]
	want := sbom.Package{
		ID: "Recipe-shell", Name: "shell", Version: "5.2", Download: "https://example.com/shell-5.2.tar.gz", Declared: "GPL-3.0-or-later",
		Supplier: "Organization: OpenEmbedded ()", CPE: "cpe:2.3:*:gnu:shell:5.2:*:*:*:*:*:*:*",
	}
	if diff := cmp.Diff(want, shell); diff != "" {
		t.Error(diff)
	}
	if !native.Host || native.Download != "" || native.ID != sbom.Identifier("Recipe-mkshell_native") {
		t.Errorf("%+v", native)
	}
	if file.Name != "main.c" || file.SHA256 != "bb"+strings.Repeat("0", 62) || file.Size != -1 {
		t.Errorf("%+v", file)
	}
	if diff := cmp.Diff([]string{"Recipe-shell"}, d.Roots); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]sbom.Relation{
		{From: "DocumentRef-dependency-recipe-libc:Recipe-libc", Kind: "BUILD_DEPENDENCY_OF", To: "Recipe-shell"},
		{From: "Recipe-shell", Kind: sbom.Contains, To: "SourceFile-shell-1"},
	}, d.Relations); diff != "" {
		t.Error(diff)
	}
	if len(d.Statements) != 2 || d.Statements[0].Vulnerability != "CVE-2019-18276" || d.Statements[0].Status != "fixed" {
		t.Errorf("%+v", d.Statements)
	}
	if r := d.References[0]; r.SHA1 != "2c3d000000000000000000000000000000000000" || r.SHA256 != "" {
		t.Errorf("%+v", r)
	}
	if diff := cmp.Diff([]string{
		"creationInfo: comment: 1", "files: fileTypes: 1", "files: licenseInfoInFiles: 1", "relationships with elements that do not exist: 1",
	}, d.Omitted); diff != "" {
		t.Error(diff)
	}
	write(t, d)
}

// hostile are documents that are wrong, with what the error says.
var hostile = map[string]string{
	``:                           "unexpected end",
	`[]`:                         "cannot unmarshal array",
	`{}`:                         "no spdxVersion",
	`{"spdxVersion":"SPDX-3.0"}`: `spdxVersion is "SPDX-3.0"`,
	`{"spdxVersion":"SPDX-2.3"}`: "no creationInfo",
	head + `,"packages":[null]}`: "its form is wrong",
	head + `,"packages":[{}]}`:   "is not a valid identifier",
	head + `,"packages":[{"SPDXID":"SPDXRef-a"},{"SPDXID":"SPDXRef-a"}]}`: "is there twice",
	head + `,"packages":[{"SPDXID":"a"}]}`:                                "ElementID",
	head + `,"packages":[{"supplier":"x"}]}`:                              "Supplier",
	strings.Repeat(`[`, 20000):                                            "exceeded max depth",
	strings.Replace(head, "2024-05-01T10:00:00Z", "today", 1) + `}`:       "created",
}

const head = `{"spdxVersion":"SPDX-2.3","SPDXID":"SPDXRef-DOCUMENT","name":"x","documentNamespace":"urn:x","creationInfo":{"created":"2024-05-01T10:00:00Z","creators":["Tool: x"]}`

func TestHostile(t *testing.T) {
	t.Parallel()
	for in, want := range hostile {
		_, err := spdx2.Read(strings.NewReader(in))
		if fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), want) {
			t.Errorf("%.150s: %v; want %q", in, err, want)
		}
	}
}

// FuzzRead writes what it could read, and reads that again.
func FuzzRead(f *testing.F) {
	var full bytes.Buffer
	if err := spdx2.Write(&full, sbomtest.Full()); err != nil {
		f.Fatal(err)
	}
	f.Add(full.Bytes())
	if text, err := os.ReadFile(yocto); err != nil {
		f.Fatal(err)
	} else {
		f.Add(text)
	}
	for in := range hostile {
		f.Add([]byte(in))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := spdx2.Read(bytes.NewReader(data))
		if err != nil {
			return
		}
		var out bytes.Buffer
		if err := spdx2.Write(&out, d); err != nil {
			if strings.Contains(err.Error(), "creator") {
				return
			}
			t.Fatal(err)
		}
		if _, err := spdx2.Read(&out); err != nil {
			t.Fatal(err)
		}
		if !json.Valid(data) {
			t.Error("what is not JSON was read")
		}
	})
}
