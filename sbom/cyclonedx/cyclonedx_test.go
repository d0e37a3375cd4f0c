package cyclonedx_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/sbom"
	"github.com/pantavisor/pantavisor/sbom/cyclonedx"
	"github.com/pantavisor/pantavisor/sbom/sbomtest"
)

// buildroot has the form of what Buildroot makes of the output of show-info.
func buildroot(t interface{ Fatal(args ...any) }) []byte {
	text, err := os.ReadFile("testdata/buildroot.json")
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func write(t *testing.T, d *sbom.Document) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := cyclonedx.Write(&b, d); err != nil {
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
	got, err := cyclonedx.Read(bytes.NewReader(data))
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

// TestOddValues has values that the fields of CycloneDX do not hold, and owners that are many, far, and in
// a circle.
func TestOddValues(t *testing.T) {
	t.Parallel()
	want := &sbom.Document{
		Name: "odd", Namespace: "urn:cdx:3e671687-395b-41f5-a30f-a58921a69b79/7", Creators: []string{"Organization: A", "Organization: B"},
		Support: sbom.Support{Contact: "https://example.com/security"},
	}
	var ids []string
	for _, p := range []sbom.Package{
		{Name: "a", Supplier: "Person: Ann", Purpose: "MACHINE", Declared: "NONE", Concluded: "MIT"}, {Name: "b"}, {Name: "c", Purpose: sbom.Source},
	} {
		ids = append(ids, want.AddPackage(p))
	}
	a, b, c := ids[0], ids[1], ids[2]
	f := want.AddFile(sbom.File{Name: "./x", Size: -1})
	want.Relations = []sbom.Relation{
		{From: a, Kind: sbom.Contains, To: b}, {From: b, Kind: sbom.Contains, To: a},
		{From: a, Kind: sbom.Contains, To: f}, {From: c, Kind: sbom.Contains, To: f},
		{From: a, Kind: "SWALLOWS", To: f, Comment: "whole\nand raw"}, {From: a, Kind: sbom.DependsOn, To: "NONE"},
		{From: a, Kind: sbom.DependsOn, To: c, Comment: "at times"}, {From: sbom.DocumentID, Kind: sbom.Describes, To: c},
	}
	last := c
	for range 40 {
		next := want.AddPackage(sbom.Package{Name: "deep" + last[len(last)-6:], Purpose: sbom.Library})
		want.Relate(last, sbom.Contains, next)
		last = next
	}
	want.Statements = []sbom.Statement{
		{Vulnerability: "GHSA-1", Status: "fixed", Packages: []string{"pkg:golang/example.com/x@1"}},
		{Vulnerability: "CVE-2024-1", Status: "not_affected", Justification: "nobody_calls_it"},
	}
	want.Seal()
	data := write(t, want)
	got, err := cyclonedx.Read(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s\n%s", diff, data)
	}
	if !strings.Contains(string(data), `"serialNumber":"urn:uuid:3e671687-395b-41f5-a30f-a58921a69b79","version":7`) {
		t.Errorf("%s", data)
	}
	validate(t, data)
}

// schemas returns the directory of the JSON schemas that the library's module carries.
func schemas(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/CycloneDX/cyclonedx-go").Output()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), "schema")
}

// valid checks a document with the schema of CycloneDX 1.6.
func valid(t *testing.T, data []byte) error {
	t.Helper()
	dir := schemas(t)
	c := jsonschema.NewCompiler()
	c.UseLoader(jsonschema.SchemeURLLoader{"file": jsonschema.FileLoader{}, "http": files(dir)})
	s, err := c.Compile(filepath.Join(dir, "bom-1.6.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return s.Validate(doc)
}

// files loads the schemas that the first one names from the same directory.
type files string

func (f files) Load(url string) (any, error) {
	name := filepath.Base(url)
	if name == "jsf-0.82.schema.json" {
		name = "jsf-0.82.schemax.json"
	}
	return jsonschema.FileLoader{}.Load("file://" + filepath.Join(string(f), name))
}

func validate(t *testing.T, data []byte) {
	t.Helper()
	if err := valid(t, data); err != nil {
		t.Errorf("the schema of CycloneDX 1.6: %.4000v\n%s", err, data)
	}
}

// TestSchema checks what we write, the fixture in Buildroot's form, and that mistakes are found.
func TestSchema(t *testing.T) {
	t.Parallel()
	full := write(t, sbomtest.Full())
	validate(t, full)
	validate(t, buildroot(t))
	for old, wrong := range map[string]string{
		`"type":"file"`: `"type":"thing"`, `"alg":"SHA-256"`: `"alg":"SHA256"`, `"state":"exploitable"`: `"state":"bad"`, `"serialNumber":"`: `"serialNumber":"x`,
		`"location"`: `"place"`,
	} {
		bad := bytes.Replace(full, []byte(old), []byte(wrong), 1)
		if bytes.Equal(bad, full) || valid(t, bad) == nil {
			t.Errorf("%s in place of %s is valid", wrong, old)
		}
	}
}

func TestBuildroot(t *testing.T) {
	t.Parallel()
	d, err := cyclonedx.Read(bytes.NewReader(buildroot(t)))
	if err != nil {
		t.Fatal(err)
	}
	pack := func(id string) sbom.Package {
		i := slices.IndexFunc(d.Packages, func(p sbom.Package) bool { return p.ID == id })
		if i < 0 {
			t.Fatalf("there is no %q: %+v", id, d.Packages)
		}
		return d.Packages[i]
	}
	shell := pack("shell")
	var free []string
	for _, l := range d.Licences {
		free = append(free, l.Name)
	}
	slices.Sort(free)
	if diff := cmp.Diff([]string{"LGPL-2.1+ or MIT", "Vendored (probably missing)"}, free); diff != "" {
		t.Error(diff)
	}
	if !strings.HasPrefix(shell.Declared, "GPL-2.0 AND LicenseRef-") {
		t.Errorf("declared: %s", shell.Declared)
	}
	shell.Declared = ""
	if diff := cmp.Diff(sbom.Package{
		ID: "shell", Name: "shell", Version: "5.2", CPE: "cpe:2.3:a:example:shell:5.2:*:*:*:*:*:*:*", Purpose: sbom.Library,
		Download: "https://example.com/shell-5.2.tar.gz", SHA256: "dd" + strings.Repeat("0", 62),
	}, shell); diff != "" {
		t.Error(diff)
	}
	if !pack("host-mktool").Host || pack("skeleton").Host {
		t.Error("host tools are not told from others")
	}
	if diff := cmp.Diff([]string{"example"}, d.Roots); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]sbom.Relation{
		{From: "example", Kind: sbom.DependsOn, To: "shell"}, {From: "shell", Kind: sbom.DependsOn, To: "host-mktool"},
		{From: "shell", Kind: sbom.DependsOn, To: "skeleton"},
	}, d.Relations); diff != "" {
		t.Error(diff)
	}
	var states []string
	for _, s := range d.Statements {
		states = append(states, s.Vulnerability+" "+s.Status)
	}
	if diff := cmp.Diff([]string{"CVE-2019-9924 under_investigation", "CVE-2022-3715 fixed", "CVE-2022-3715 fixed"}, states); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{
		"components: externalReferences: 1", "components: patches: 1", "dependencies of components that do not exist: 1",
		"vulnerabilities: components that do not exist: 1",
	}, d.Omitted); diff != "" {
		t.Error(diff)
	}
	validate(t, write(t, d))
}

const head = `{"bomFormat":"CycloneDX","specVersion":"1.6","version":1`

// hostile are documents that are wrong, with what the error says.
var hostile = map[string]string{
	``:   "unexpected end",
	`[]`: "cannot unmarshal array",
	`{}`: `bomFormat is ""`,
	strings.Replace(head, "1.6", "9", 1) + `}`:                                                     `specVersion is "9"`,
	head + `,"metadata":{"timestamp":"soon"}}`:                                                     "timestamp",
	head + `,"components":[{"bom-ref":"a","name":"a"},{"bom-ref":"a","name":"b"}]}`:                `"a": is there twice`,
	head + `,"components":[{"name":"a"},{"name":"a"}]}`:                                            "is there twice",
	head + `,"components":[{"name":"a","bom-ref":"a","components":[{"name":"b","bom-ref":"a"}]}]}`: `"a": is there twice`,
	head + `,"components":[` + strings.Repeat(`{"name":"a","components":[`, 6000):                  "exceeded max depth",
	head + `,"components":{}}`:                                                                     "cannot unmarshal",
	head + `,"metadata":{"component":{"bom-ref":"DOCUMENT","name":"x"},"properties":[{"name":"pantavisor:namespace","value":"urn:x"},{"name":"pantavisor:licence","value":"x"}]}}`: "property pantavisor:licence",
}

func TestHostile(t *testing.T) {
	t.Parallel()
	for in, want := range hostile {
		_, err := cyclonedx.Read(strings.NewReader(in))
		if fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), want) {
			t.Errorf("%.150s: %v; want %q", in, err, want)
		}
	}
}

// TestMany has very many licences, references and dependencies. With a search through all for each of them
// it takes minutes.
func TestMany(t *testing.T) {
	t.Parallel()
	const many, atMost = 100_000, 30 * time.Second
	var components, references, dependencies, properties []string
	for i := range many {
		components = append(components, fmt.Sprintf(`{"type":"library","bom-ref":"c%d","name":"c","licenses":[{"license":{"name":"own %d"}}]}`, i, i))
		references = append(references, fmt.Sprintf(`{"type":"bom","url":"urn:x:%d","comment":"x"}`, i))
		dependencies = append(dependencies, fmt.Sprintf(`"c%d"`, i))
		properties = append(properties, `{"name":"x","value":"x"}`)
	}
	start := time.Now()
	d, err := cyclonedx.Read(strings.NewReader(head + `,"components":[` + strings.Join(components, ",") + `],"externalReferences":[` + strings.Join(references, ",") + `],
		"metadata":{"component":{"bom-ref":"DOCUMENT","name":"x"},"properties":[{"name":"pantavisor:namespace","value":"urn:x"},` + strings.Join(properties, ",") + `]},
		"dependencies":[{"ref":"DOCUMENT","dependsOn":[` + strings.Join(dependencies, ",") + `]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Licences) != many || len(d.References) != many || len(d.Roots) != many {
		t.Errorf("%d licences, %d references, %d roots", len(d.Licences), len(d.References), len(d.Roots))
	}
	if took := time.Since(start); took > atMost {
		t.Errorf("it took %s", took)
	}
}

// TestSameReference: a document may be named again by those who say nothing of it.
func TestSameReference(t *testing.T) {
	t.Parallel()
	d, err := cyclonedx.Read(strings.NewReader(head + `,"externalReferences":[{"type":"bom","url":"urn:x"},{"type":"bom","url":"urn:x","comment":"x"}]}`))
	if err != nil || len(d.References) != 1 || d.References[0].Comment != "x" {
		t.Errorf("%+v, %v", d, err)
	}
}

// FuzzRead writes what it could read, and reads that again.
func FuzzRead(f *testing.F) {
	var full bytes.Buffer
	if err := cyclonedx.Write(&full, sbomtest.Full()); err != nil {
		f.Fatal(err)
	}
	f.Add(full.Bytes())
	f.Add(buildroot(f))
	for in := range hostile {
		f.Add([]byte(in))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := cyclonedx.Read(bytes.NewReader(data))
		if err != nil {
			return
		}
		var out bytes.Buffer
		if err := cyclonedx.Write(&out, d); err != nil {
			t.Fatal(err)
		}
		if _, err := cyclonedx.Read(&out); err != nil {
			t.Fatal(err)
		}
	})
}
