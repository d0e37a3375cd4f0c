package spdx3_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/oracle"
	"github.com/pantavisor/pantavisor/sbom"
	"github.com/pantavisor/pantavisor/sbom/sbomtest"
	"github.com/pantavisor/pantavisor/sbom/spdx3"
)

// The package of npm that carries the JSON schema of SPDX 3.0.1, and its digest.
const (
	schemaPackage = "@cyclonedx/cdxgen@12.8.4"
	schemaDigest  = "9EMER2beUSU7fvKgVaYOnYCFqAHrY3bQ7ERenh29/Edku0ctEXzYdov6vCmjmo/hSBH+JtvA7+j1U884MVYFOA=="
)

func write(t *testing.T, d *sbom.Document) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := spdx3.Write(&b, d); err != nil {
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
	got, err := spdx3.Read(bytes.NewReader(data))
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

// TestOddValues has values that the properties of SPDX do not hold.
func TestOddValues(t *testing.T) {
	t.Parallel()
	want := &sbom.Document{Name: "odd", Creators: []string{"Tool: x"}}
	a := want.AddPackage(sbom.Package{
		Name: "a", SourceName: "two words", SourceVersion: "1", Supplier: `Someone: "A" \ B`, Purpose: "MACHINE", Declared: "NONE",
	})
	b := want.AddPackage(sbom.Package{Name: "b", Purpose: "DISK-IMAGE"})
	f := want.AddFile(sbom.File{Name: "./x", Size: -1})
	want.Relations = []sbom.Relation{
		{From: a, Kind: "SWALLOWS", To: f},
		{From: f, Kind: "SWALLOWS", To: a, Comment: "a: b"},
		{From: f, Kind: sbom.DependsOn, To: "NONE"},
		{From: f, Kind: sbom.GeneratedFrom, To: "NOASSERTION"},
		{From: f, Kind: sbom.GeneratedFrom, To: a, Comment: "by hand"},
		{From: f, Kind: sbom.GeneratedFrom, To: b},
		{From: f, Kind: "BUILD_DEPENDENCY_OF", To: a},
		{From: sbom.DocumentID, Kind: sbom.Describes, To: a},
	}
	want.Statements = []sbom.Statement{
		{Vulnerability: "GHSA-1", Status: "fixed", Packages: []string{"pkg:golang/example.com/x@1"}},
		{Vulnerability: "CVE-2024-1", Status: "not_affected", Justification: "nobody_calls_it"},
		{Vulnerability: "CVE-2024-2", Status: "affected"},
	}
	want.Seal()
	data := write(t, want)
	got, err := spdx3.Read(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s\n%s", diff, data)
	}
	validate(t, data)
}

// validate checks a document with the schema of SPDX 3.0.1.
func validate(t *testing.T, data []byte) {
	t.Helper()
	if err := valid(t, data); err != nil {
		t.Errorf("the schema of SPDX 3.0.1: %.4000v\n%s", err, data)
	}
}

func valid(t *testing.T, data []byte) error {
	t.Helper()
	text := oracle.NPM(t, schemaPackage, schemaDigest, "data/spdx-export.schema.json")
	// The same pattern in the syntax of Go, which has no (?!: an IRI does not begin with "_:".
	text = bytes.ReplaceAll(text, []byte("^(?!_:).+:.+"), []byte("^(?:[^_].*|_[^:].*):.+"))
	schema, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("spdx.json", schema); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("spdx.json")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return s.Validate(doc)
}

// TestSchema checks what we write, the fixture in OpenEmbedded's form, and that a mistake is found.
func TestSchema(t *testing.T) {
	t.Parallel()
	full := write(t, sbomtest.Full())
	validate(t, full)
	yocto, err := os.ReadFile("testdata/yocto.spdx.json")
	if err != nil {
		t.Fatal(err)
	}
	validate(t, yocto)
	for old, wrong := range map[string]string{
		`"relationshipType":"contains"`: `"relationshipType":"swallows"`, `,"specVersion":"3.0.1"`: ``, `"algorithm":"sha256"`: `"algorithm":"sum"`,
		`"software_packageVersion"`: `"version"`,
	} {
		bad := bytes.Replace(full, []byte(old), []byte(wrong), 1)
		if bytes.Equal(bad, full) || valid(t, bad) == nil {
			t.Errorf("%s in place of %s is valid", wrong, old)
		}
	}
}

// find returns the package or file with a name.
func find[T any](t *testing.T, list []T, name func(T) string, want string) T {
	t.Helper()
	i := slices.IndexFunc(list, func(e T) bool { return name(e) == want })
	if i < 0 {
		t.Fatalf("there is no %q: %+v", want, list)
	}
	return list[i]
}

// TestYocto reads a document in the form of OpenEmbedded's for an image.
func TestYocto(t *testing.T) {
	t.Parallel()
	f, err := os.Open("testdata/yocto.spdx.json")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d, err := spdx3.Read(f)
	if err != nil {
		t.Fatal(err)
	}
	pack := func(name string) sbom.Package {
		return find(t, d.Packages, func(p sbom.Package) string { return p.Name }, name)
	}
	shell, rootfs, source := pack("shell"), pack("small-image"), pack("shell-5.2.tar.gz")
	if diff := cmp.Diff(sbom.Package{
		ID: shell.ID, Name: "shell", Version: "5.2", Purpose: sbom.Install, CPE: "cpe:2.3:*:example:shell:5.2:*:*:*:*:*:*:*",
		Supplier: "Organization: Example Distro", Concluded: "GPL-3.0-or-later AND LicenseRef-Free",
	}, shell); diff != "" {
		t.Error(diff)
	}
	image := find(t, d.Files, func(f sbom.File) string { return f.Name }, "small-image-board.rootfs.tar.gz")
	if image.SHA256 != "aa"+strings.Repeat("0", 62) {
		t.Errorf("%+v", image)
	}
	roots := []string{image.ID, rootfs.ID}
	slices.Sort(roots)
	if diff := cmp.Diff(roots, d.Roots); diff != "" {
		t.Error(diff)
	}
	for _, r := range []sbom.Relation{
		{From: image.ID, Kind: sbom.GeneratedFrom, To: rootfs.ID}, {From: shell.ID, Kind: sbom.GeneratedFrom, To: source.ID},
	} {
		if !slices.Contains(d.Relations, r) {
			t.Errorf("%+v is missing: %+v", r, d.Relations)
		}
	}
	if !pack("mktool-1.tar.gz").Host || source.Host || shell.Host {
		t.Error("host tools are not told from others")
	}
	if diff := cmp.Diff([]sbom.Licence{{ID: "LicenseRef-Free", Name: "Free", Text: "As you like."}}, d.Licences); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]sbom.Statement{
		{
			Vulnerability: "CVE-2019-9924", Status: "not_affected", Justification: "vulnerable_code_not_present",
			Packages: []string{shell.ID}, Text: "Only another system has it.",
		},
		{Vulnerability: "CVE-2022-3715", Status: "fixed", Packages: []string{shell.ID}},
	}, d.Statements); diff != "" {
		t.Error(diff)
	}
	if len(d.References) != 1 || d.References[0].SHA256 != "cc"+strings.Repeat("0", 62) {
		t.Errorf("%+v", d.References)
	}
	if diff := cmp.Diff([]string{"Organization: Example Distro", "Tool: maker 1.0"}, d.Creators); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{
		"files: software_primaryPurpose: 1", "packages: description: 1", "packages: software_homePage: 1", "packages: summary: 1",
		"relationships dependsOn of builds: 1", "relationships hasHost of builds: 1",
	}, d.Omitted); diff != "" {
		t.Error(diff)
	}
	validate(t, write(t, d))
}

// TestNested reads elements that stand inside of others.
func TestNested(t *testing.T) {
	t.Parallel()
	d, err := spdx3.Read(strings.NewReader(`{"@context":["https://spdx.org/rdf/3.0.1/spdx-context.jsonld"],"@graph":[
	 {"type":"SpdxDocument","spdxId":"urn:d","creationInfo":{"type":"CreationInfo","created":"2024-01-01T00:00:00Z","specVersion":"3.0.1",
	  "createdBy":[{"type":"Person","spdxId":"urn:p","name":"Ann","creationInfo":"_:x"}]},
	  "rootElement":[{"type":"software_Package","spdxId":"urn:a","name":"a"}]},
	 {"type":"Relationship","spdxId":"urn:r","from":"urn:a","relationshipType":"hasDeclaredLicense","to":"https://spdx.org/licenses/MIT"},
	 {"type":"Relationship","spdxId":"urn:s","from":"urn:a","relationshipType":"contains","to":[{"type":"software_File","spdxId":"urn:f","name":"f"},"urn:lost"]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Packages) != 1 || d.Packages[0].Declared != "MIT" || len(d.Files) != 1 || len(d.Relations) != 1 || len(d.Roots) != 1 {
		t.Errorf("%+v", d)
	}
	if diff := cmp.Diff([]string{"Person: Ann"}, d.Creators); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"relationships contains with elements that do not exist: 1"}, d.Omitted); diff != "" {
		t.Error(diff)
	}
}

const (
	head = `{"@context":"https://spdx.org/rdf/3.0.1/spdx-context.jsonld","@graph":[
	 {"type":"CreationInfo","@id":"_:c","created":"2024-01-01T00:00:00Z","specVersion":"3.0.1","createdBy":["urn:x"]},`
	doc = `{"type":"SpdxDocument","spdxId":"urn:d","creationInfo":"_:c"}`
)

// hostile are documents that are wrong, with what the error says.
var hostile = map[string]string{
	``:                            "EOF",
	`[]`:                          "not a JSON object",
	`{}`:                          "no @context",
	`{"@context":"urn:x"}`:        "its @context is not",
	`{"@context":{"a":"b"}}`:      "its @context is not",
	head + doc:                    "EOF",
	head + `{}]}`:                 "no element of type SpdxDocument",
	head + doc + `,` + doc + `]}`: `element "urn:d": is there twice`,
	head + doc + `,` + strings.Replace(doc, "urn:d", "urn:e", 1) + `]}`:                                    "two elements of type SpdxDocument",
	head + strings.Replace(doc, "_:c", "_:d", 1) + `]}`:                                                    `no CreationInfo "_:d"`,
	strings.Replace(head, "3.0.1\",\"createdBy", "2.3\",\"createdBy", 1) + doc + `]}`:                      `specVersion is "2.3"`,
	strings.Replace(head, "2024-01-01T00:00:00Z", "soon", 1) + doc + `]}`:                                  "created",
	head + doc + `,` + strings.Repeat(`{"a":`, 20000):                                                      "exceeded max depth",
	head + doc + `,` + strings.Repeat(`{"spdxId":"urn:a","a":`, 20) + `1` + strings.Repeat(`}`, 20) + `]}`: "is there twice",
	head + doc + `,{"type":"software_Package","spdxId":"urn:a"},7]}`:                                       "cannot unmarshal",
}

func TestHostile(t *testing.T) {
	t.Parallel()
	for in, want := range hostile {
		_, err := spdx3.Read(strings.NewReader(in))
		if fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), want) {
			t.Errorf("%.250s: %v; want %q", in, err, want)
		}
	}
}

// TestCycles reads elements that contain each other, and builds that make their own input.
func TestCycles(t *testing.T) {
	t.Parallel()
	d, err := spdx3.Read(strings.NewReader(head + doc + `,
	 {"type":"software_Package","spdxId":"urn:a","name":"a"},{"type":"software_Package","spdxId":"urn:b","name":"b"},
	 {"type":"build_Build","spdxId":"urn:n"},
	 {"type":"Relationship","spdxId":"urn:1","from":"urn:a","relationshipType":"contains","to":["urn:b"]},
	 {"type":"Relationship","spdxId":"urn:2","from":"urn:b","relationshipType":"contains","to":["urn:a"]},
	 {"type":"Relationship","spdxId":"urn:3","from":"urn:n","relationshipType":"hasInput","to":["urn:a"]},
	 {"type":"Relationship","spdxId":"urn:4","from":"urn:n","relationshipType":"hasOutput","to":["urn:a"]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Relations) != 3 {
		t.Errorf("%+v", d.Relations)
	}
	validate(t, write(t, d))
}

// TestLargeBuild has a build with more pairs of input and output than are kept.
func TestLargeBuild(t *testing.T) {
	t.Parallel()
	var files, ids []string
	for i := range 400 {
		id := "urn:f" + strings.Repeat("x", i)
		ids = append(ids, `"`+id+`"`)
		files = append(files, `{"type":"software_File","spdxId":"`+id+`"}`)
	}
	to := strings.Join(ids, ",")
	d, err := spdx3.Read(strings.NewReader(head + doc + `,{"type":"build_Build","spdxId":"urn:n"},` + strings.Join(files, ",") + `,
	 {"type":"Relationship","spdxId":"urn:3","from":"urn:n","relationshipType":"hasInput","to":[` + to + `]},
	 {"type":"Relationship","spdxId":"urn:4","from":"urn:n","relationshipType":"hasOutput","to":[` + to + `]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Relations) != 0 || len(d.Omitted) != 1 {
		t.Errorf("%d relations, %v", len(d.Relations), d.Omitted)
	}
}

// TestManyBuilds has builds that together have more pairs than are kept.
func TestManyBuilds(t *testing.T) {
	t.Parallel()
	const builds, each = 12, 300
	var elements []string
	for b := range builds {
		var in, out []string
		for i := range each {
			in, out = append(in, fmt.Sprintf(`"urn:i%d-%d"`, b, i)), append(out, fmt.Sprintf(`"urn:o%d-%d"`, b, i))
		}
		for _, id := range append(in, out...) {
			elements = append(elements, `{"type":"software_File","spdxId":`+id+`}`)
		}
		elements = append(elements, fmt.Sprintf(`{"type":"build_Build","spdxId":"urn:n%d"},
		{"type":"Relationship","spdxId":"urn:ri%d","from":"urn:n%d","relationshipType":"hasInput","to":[%s]},
		{"type":"Relationship","spdxId":"urn:ro%d","from":"urn:n%d","relationshipType":"hasOutput","to":[%s]}`, b, b, b, strings.Join(in, ","), b, b, strings.Join(out, ",")))
	}
	d, err := spdx3.Read(strings.NewReader(head + doc + "," + strings.Join(elements, ",") + "]}"))
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Relations) != 11*each*each || !slices.Equal(d.Omitted, []string{"builds after those with 1000000 pairs of input and output: 1"}) {
		t.Errorf("%d relations, %q", len(d.Relations), d.Omitted)
	}
}

// FuzzRead writes what it could read, and reads that again.
func FuzzRead(f *testing.F) {
	var full bytes.Buffer
	if err := spdx3.Write(&full, sbomtest.Full()); err != nil {
		f.Fatal(err)
	}
	f.Add(full.Bytes())
	if yocto, err := os.ReadFile("testdata/yocto.spdx.json"); err != nil {
		f.Fatal(err)
	} else {
		f.Add(yocto)
	}
	for in := range hostile {
		f.Add([]byte(in))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := spdx3.Read(bytes.NewReader(data))
		if err != nil {
			return
		}
		var out bytes.Buffer
		if err := spdx3.Write(&out, d); err != nil {
			t.Fatal(err)
		}
		if !json.Valid(out.Bytes()) {
			t.Fatalf("%s", out.Bytes())
		}
		if _, err := spdx3.Read(&out); err != nil {
			t.Fatal(err)
		}
	})
}
