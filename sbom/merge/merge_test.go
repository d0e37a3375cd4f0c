package merge_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/sbom"
	"github.com/pantavisor/pantavisor/sbom/forms"
	"github.com/pantavisor/pantavisor/sbom/merge"
)

// The fixtures of the forms.
const (
	yocto22   = "../spdx2/testdata/recipe-shell.spdx.json"
	yocto3    = "../spdx3/testdata/yocto.spdx.json"
	buildroot = "../cyclonedx/testdata/buildroot.json"
)

// received writes files into a new directory.
func received(t *testing.T, files map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	for name, data := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func fixture(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// libc has the form of the document that the one of the shell refers to.
const libc = `{"SPDXID":"SPDXRef-DOCUMENT","spdxVersion":"SPDX-2.2","name":"recipe-libc","documentNamespace":"http://spdx.org/spdxdoc/recipe-libc-2e1b",
 "creationInfo":{"created":"2024-05-01T10:00:00Z","creators":["Tool: x"]},
 "hasExtractedLicensingInfos":[{"extractedText":"Only on Sundays.","licenseId":"LicenseRef-as_you_like","name":"as_you_like"}],
 "packages":[{"SPDXID":"SPDXRef-Recipe-libc","name":"libc","downloadLocation":"NONE","licenseDeclared":"LGPL-2.1 AND LicenseRef-as_you_like"}]}`

// archive makes an archive in OpenEmbedded's form.
func archive(t *testing.T, members map[string][]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(z)
	for name, data := range members {
		if err := w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Size: int64(len(data)), Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// shell returns the document of the shell, which refers to that of the libc by its digest.
func shell(t *testing.T) []byte {
	t.Helper()
	sum := sha1.Sum([]byte(libc))
	return bytes.Replace(fixture(t, yocto22), []byte("2C3D"+strings.Repeat("0", 36)), []byte(hex.EncodeToString(sum[:])), 1)
}

func open(t *testing.T, dir string) *merge.Set {
	t.Helper()
	s, err := merge.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// ours is a document with a file that one of the fixtures has as well.
func ours() *sbom.Document {
	d := &sbom.Document{Name: "revision", Created: time.Unix(1700000000, 0).UTC(), Creators: []string{"Tool: test"}}
	d.Roots = []string{d.AddPackage(sbom.Package{Name: "image"})}
	d.AddFile(sbom.File{Name: "root.squashfs", SHA256: "aa" + strings.Repeat("0", 62), Size: 5})
	d.Seal()
	return d
}

// written returns the document as SPDX, and checks that all forms can be written.
func written(t *testing.T, d *sbom.Document) string {
	t.Helper()
	var text string
	for _, name := range slices.Backward(forms.Names()) {
		var b bytes.Buffer
		if err := forms.Write(&b, d, forms.Form(name)); err != nil {
			t.Fatal(err)
		}
		if _, err := forms.Read(bytes.NewReader(b.Bytes())); err != nil {
			t.Fatal(err)
		}
		text = b.String()
	}
	return text
}

func TestLink(t *testing.T) {
	t.Parallel()
	files := map[string][]byte{
		"yocto/image.spdx.json": fixture(t, yocto3), "buildroot.json": fixture(t, buildroot), "other.json": []byte(`{"a":1}`), "image.img": {1},
		"old/image.spdx.tar.zst": archive(t, map[string][]byte{"recipe-shell.spdx.json": shell(t), "recipe-libc.spdx.json": []byte(libc), "index.json": []byte("{}")}),
	}
	dir := received(t, files)
	if err := os.Symlink("image.spdx.json", filepath.Join(dir, "yocto/latest.spdx.json")); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir)
	if diff := cmp.Diff([]string{
		"other.json: is JSON of another form", "yocto/latest.spdx.json: is the same as yocto/image.spdx.json",
	}, s.Skipped); diff != "" {
		t.Error(diff)
	}
	d := ours()
	before := d.Namespace
	apart := s.Link(d, "sbom/", nil)
	if diff := cmp.Diff([]string{"buildroot.json", "old/image.spdx.tar.zst"}, apart); diff != "" {
		t.Error(diff)
	}
	if d.Namespace == before {
		t.Error("two documents have one namespace")
	}
	if len(d.Packages) != 1 || len(d.Files) != 1 {
		t.Errorf("what is linked is in the document: %+v", d)
	}
	var kept []string
	for _, r := range d.References {
		kept = append(kept, r.File)
		for _, f := range s.Files {
			if r.File == "sbom/"+f.Name && r.SHA256 != f.SHA256 {
				t.Errorf("%s: %s is not %s", r.File, r.SHA256, f.SHA256)
			}
		}
	}
	slices.Sort(kept)
	if diff := cmp.Diff([]string{"sbom/buildroot.json", "sbom/old/image.spdx.tar.zst", "sbom/yocto/image.spdx.json"}, kept); diff != "" {
		t.Error(diff)
	}
	if len(d.Relations) != 1 || d.Relations[0].Kind != sbom.Describes || d.Relations[0].To != d.Files[0].ID ||
		!strings.HasSuffix(d.Relations[0].From, ":DOCUMENT") {
		t.Errorf("%+v", d.Relations)
	}
	text := written(t, d)
	for range 3 {
		again := ours()
		open(t, dir).Link(again, "sbom/", nil)
		if got := written(t, again); got != text {
			t.Errorf("the same input gives\n%s\nand\n%s", text, got)
		}
	}
}

// find returns the package with a name.
func find(t *testing.T, d *sbom.Document, name string) sbom.Package {
	t.Helper()
	var all []sbom.Package
	for _, p := range d.Packages {
		if p.Name == name {
			all = append(all, p)
		}
	}
	if len(all) != 1 {
		t.Fatalf("%d packages %s: %+v", len(all), name, all)
	}
	return all[0]
}

func TestFlat(t *testing.T) {
	t.Parallel()
	files := map[string][]byte{
		"image.spdx.json": fixture(t, yocto3), "zz/buildroot.json": fixture(t, buildroot),
		"old.spdx.tar.zst": archive(t, map[string][]byte{"recipe-shell.spdx.json": shell(t), "recipe-libc.spdx.json": []byte(libc)}),
	}
	dir := received(t, files)
	d := ours()
	conflicts := open(t, dir).Flat(d, merge.Options{})

	libc := find(t, d, "libc")
	if !strings.HasPrefix(libc.Declared, "LGPL-2.1 AND LicenseRef-") || !strings.HasPrefix(libc.Concluded, "LGPL-2.1-only AND LicenseRef-") {
		t.Errorf("%+v", libc)
	}
	// Two texts had one name.
	names := map[string]bool{}
	for _, l := range d.Licences {
		names[l.Name+": "+l.Text] = true
	}
	if !names["as_you_like: As you like."] || !names["as_you_like: Only on Sundays."] {
		t.Errorf("%v", names)
	}
	// The CPE of Buildroot is another one, so its shell is another one, and a free name is understood.
	for _, p := range d.Packages {
		switch {
		case p.Host:
			t.Errorf("the host tool %s is in the document", p.Name)
		case p.CPE == "cpe:2.3:a:example:shell:5.2:*:*:*:*:*:*:*" &&
			!strings.HasPrefix(p.Concluded, "GPL-2.0-only AND (LGPL-2.1-or-later OR MIT) AND LicenseRef-"):
			t.Errorf("%+v", p)
		}
	}
	// The image of the container is ours by its digest.
	if i := slices.IndexFunc(d.Relations, func(r sbom.Relation) bool {
		return r.From == d.Files[slices.IndexFunc(d.Files, func(f sbom.File) bool { return f.Name == "root.squashfs" })].ID && r.Kind == sbom.GeneratedFrom
	}); i < 0 {
		t.Errorf("%+v", d.Relations)
	}
	// The reference between two received documents is resolved.
	if i := slices.IndexFunc(d.Relations, func(r sbom.Relation) bool {
		return r.From == libc.ID && r.Kind == "BUILD_DEPENDENCY_OF"
	}); i < 0 {
		t.Errorf("%+v", d.Relations)
	}
	for _, r := range d.References {
		if strings.Contains(r.Namespace, "libc") {
			t.Errorf("%+v", r)
		}
	}
	origins := map[string]bool{}
	for _, s := range d.Statements {
		origins[s.Origin] = true
	}
	if !origins["image.spdx.json"] || !origins["zz/buildroot.json"] || !origins["old.spdx.tar.zst: recipe-shell.spdx.json"] {
		t.Errorf("%v", origins)
	}
	for _, c := range conflicts {
		t.Log(c)
	}
	if len(conflicts) != 0 {
		t.Errorf("%d conflicts", len(conflicts))
	}
	text := written(t, d)
	again := ours()
	open(t, dir).Flat(again, merge.Options{})
	if got := written(t, again); got != text {
		t.Errorf("the same input gives\n%s\nand\n%s", text, got)
	}

	all := ours()
	open(t, dir).Flat(all, merge.Options{HostTools: true})
	if len(all.Packages) != len(d.Packages)+3 {
		t.Errorf("%d packages with host tools, %d without", len(all.Packages), len(d.Packages))
	}
}

// document returns an SPDX document with one package and its relations to others.
func document(name, fields string) []byte {
	return fmt.Appendf(nil, `{"SPDXID":"SPDXRef-DOCUMENT","spdxVersion":"SPDX-2.3","name":%q,"documentNamespace":"urn:%s",
 "creationInfo":{"created":"2024-05-01T10:00:00Z","creators":["Tool: x"]},%s}`, name, name, fields)
}

func TestConflicts(t *testing.T) {
	t.Parallel()
	pack := func(licence, more string) string {
		return `"packages":[{"SPDXID":"SPDXRef-p","name":"p","versionInfo":"1","downloadLocation":"NONE","licenseDeclared":"` + licence + `",
		"externalRefs":[{"referenceCategory":"PACKAGE-MANAGER","referenceType":"purl","referenceLocator":"pkg:generic/p@1"}]` + more + `}]`
	}
	vex := func(status string) string {
		return `,"annotations":[{"annotator":"Tool: pantavisor","annotationDate":"2024-05-01T10:00:00Z","annotationType":"OTHER",
		"comment":"{\"pantavisor\":{\"statements\":[{\"vulnerability\":\"CVE-2024-1\",\"status\":\"` + status + `\",\"packages\":[\"p\"]}]}}"}]`
	}
	dir := received(t, map[string][]byte{
		"a.json": document("a", pack("GPL-2.0", "")+vex("affected")),
		"b.json": document("b", pack("GPL-2.0-only", `,"supplier":"Organization: B","checksums":[{"algorithm":"SHA256","checksumValue":"`+strings.Repeat("b", 64)+`"}]`)),
		"c.json": document("c", pack("MIT", `,"supplier":"Organization: C"`)+vex("fixed")),
		"d.json": document("d", `"externalDocumentRefs":[{"externalDocumentId":"DocumentRef-a","spdxDocument":"urn:a",
		"checksum":{"algorithm":"SHA1","checksumValue":"`+strings.Repeat("0", 40)+`"}}]`),
		"e.json": document("a", `"packages":[]`),
	})
	d := ours()
	var got []string
	for _, c := range open(t, dir).Flat(d, merge.Options{}) {
		got = append(got, strings.SplitAfter(c.Element+" "+c.Field+" "+c.KeptFrom+" "+c.OtherFrom, "Package-p")[0])
	}
	slices.Sort(got)
	if diff := cmp.Diff([]string{
		"CVE-2024-1 in Package-p", "document a namespace a.json e.json", "document a sha1 a.json d.json", "p 1 concluded licence a.json c.json",
		"p 1 declared licence a.json c.json", "p 1 supplier a.json c.json",
	}, got); diff != "" {
		t.Error(diff)
	}
	p := find(t, d, "p")
	if p.Declared != "GPL-2.0" || p.Concluded != "GPL-2.0-only" || p.Supplier != "Organization: B" || p.SHA256 != strings.Repeat("b", 64) {
		t.Errorf("%+v", p)
	}
	if len(d.Statements) != 2 {
		t.Errorf("%+v", d.Statements)
	}
	written(t, d)
}

// TestOwnReferences makes a document flat that refers to received ones already.
func TestOwnReferences(t *testing.T) {
	t.Parallel()
	dir := received(t, map[string][]byte{
		"part.json": document("part", `"packages":[{"SPDXID":"SPDXRef-part","name":"part","downloadLocation":"NONE"},
		{"SPDXID":"SPDXRef-inside","name":"inside","downloadLocation":"NONE"}],"relationships":[
		{"spdxElementId":"SPDXRef-DOCUMENT","relationshipType":"DESCRIBES","relatedSpdxElement":"SPDXRef-part"}]`),
	})
	s := open(t, dir)
	d := ours()
	image := d.Packages[0].ID
	d.References = []sbom.Reference{
		{ID: "DocumentRef-part", Namespace: "urn:part", SHA256: strings.Repeat("0", 64)}, {ID: "DocumentRef-far", Namespace: "urn:far"},
	}
	d.Relations = []sbom.Relation{
		{From: image, Kind: sbom.Contains, To: "DocumentRef-part:part"}, {From: d.Files[0].ID, Kind: sbom.Contains, To: "DocumentRef-part:DOCUMENT"},
		{From: d.Files[0].ID, Kind: sbom.GeneratedFrom, To: "DocumentRef-part:inside"}, {From: image, Kind: sbom.DependsOn, To: "DocumentRef-far:x"},
		{From: "DocumentRef-part:DOCUMENT", Kind: sbom.Describes, To: d.Files[0].ID},
	}
	conflicts := s.Flat(d, merge.Options{})
	if len(conflicts) != 1 || conflicts[0].Field != "sha256" {
		t.Errorf("%v", conflicts)
	}
	part, inside := find(t, d, "part").ID, find(t, d, "inside").ID
	want := []sbom.Relation{
		{From: image, Kind: sbom.Contains, To: part}, {From: d.Files[0].ID, Kind: sbom.Contains, To: part},
		{From: d.Files[0].ID, Kind: sbom.GeneratedFrom, To: inside}, {From: image, Kind: sbom.DependsOn, To: "DocumentRef-far:x"},
	}
	for _, r := range want {
		if !slices.Contains(d.Relations, r) {
			t.Errorf("%+v is missing: %+v", r, d.Relations)
		}
	}
	if len(d.Relations) != len(want) || len(d.References) != 1 || !slices.Equal(d.Roots, []string{image}) {
		t.Errorf("%+v", d)
	}
	written(t, d)
}

// TestSameProduct has packages of one product, which have its CPE, and packages of which only the CPE differs.
func TestSameProduct(t *testing.T) {
	t.Parallel()
	pack := func(id, name, cpe string) string {
		return `{"SPDXID":"SPDXRef-` + id + `","name":"` + name + `","downloadLocation":"NONE",
		"externalRefs":[{"referenceCategory":"SECURITY","referenceType":"cpe23Type","referenceLocator":"` + cpe + `"}]}`
	}
	dir := received(t, map[string][]byte{"a.json": document("a", `"packages":[`+pack("1", "p", "cpe:p")+`,`+pack("2", "p-doc", "cpe:p")+`,`+pack("3", "p", "cpe:q")+`]`)})
	d := ours()
	if conflicts := open(t, dir).Flat(d, merge.Options{}); len(conflicts) > 0 || len(d.Packages) != 4 {
		t.Errorf("%v, %+v", conflicts, d.Packages)
	}
}

func TestHostile(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		file string
		data []byte
		want string
	}{
		"nothing":            {"a.txt", nil, "has no file"},
		"only other JSON":    {"a.json", []byte("[]"), "has no document"},
		"not JSON":           {"a.json", []byte("{"), "a.json: reading an SBOM: it is not JSON"},
		"damaged":            {"a.json", document("a", `"packages":[null]`), "a.json: reading an SPDX document"},
		"cut short":          {"a.spdx.tar.zst", archive(t, map[string][]byte{"a.json": document("a", `"packages":[]`)})[:60], "a.spdx.tar.zst"},
		"damaged in archive": {"a.spdx.tar.zst", archive(t, map[string][]byte{"x.json": []byte("{")}), "not JSON"},
		"a terminal's words": {"a\x1b[2J.json", []byte("{}"), `the name "a\x1b[2J.json"`},
		"not compressed":     {"a.json.gz", []byte{0x1f, 0x8b, 0, 0}, "a.json.gz"},
	} {
		_, err := merge.Open(t.Context(), received(t, map[string][]byte{c.file: c.data}))
		if fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q", name, err, c.want)
		}
	}
	if _, err := merge.Open(t.Context(), filepath.Join(t.TempDir(), "none")); fault.Of(err) != fault.BadInput {
		t.Error(err)
	}
	if _, err := merge.Open(t.Context(), yocto3); fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), "is not a directory") {
		t.Error(err)
	}
}

// TestPiped: what is not a regular file is refused, and not waited for.
func TestPiped(t *testing.T) {
	t.Parallel()
	pipe := filepath.Join(t.TempDir(), "a.json")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := merge.Read(t.Context(), []merge.Input{{Name: "a.json", Path: pipe}}); fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), "is not a regular file") {
		t.Error(err)
	}
	if _, err := merge.Read(t.Context(), []merge.Input{{Name: "b.json", Path: pipe + ".none"}}); fault.Of(err) != fault.Missing {
		t.Error(err)
	}
}

// TestDigest: a file with another digest than is known is refused, whatever is in it.
func TestDigest(t *testing.T) {
	t.Parallel()
	text := document("a", `"packages":[]`)
	sum := sha256.Sum256(text)
	digest := hex.EncodeToString(sum[:])
	dir := received(t, map[string][]byte{"a.json": text, "same.json": text, "other.json": []byte("{}")})
	input := func(name, sum string) merge.Input {
		return merge.Input{Name: name, Path: filepath.Join(dir, name), SHA256: sum}
	}
	if s, err := merge.Read(t.Context(), []merge.Input{input("a.json", digest), input("same.json", digest), input("other.json", "")}); err != nil || len(s.Files) != 1 || len(s.Skipped) != 2 {
		t.Errorf("%+v, %v", s, err)
	}
	wrong := strings.Repeat("0", 64)
	for _, name := range []string{"a.json", "same.json", "other.json"} {
		if _, err := merge.Read(t.Context(), []merge.Input{input("a.json", ""), input(name, wrong)}); fault.Of(err) != fault.Digest || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestRootOfArchive: a document that refers to itself is no root when another one refers to it.
func TestRootOfArchive(t *testing.T) {
	t.Parallel()
	reference := func(name string) string {
		return `{"externalDocumentId":"DocumentRef-` + name + `","spdxDocument":"urn:` + name + `","checksum":{"algorithm":"SHA1","checksumValue":"` + strings.Repeat("0", 40) + `"}}`
	}
	dir := received(t, map[string][]byte{"a.spdx.tar.zst": archive(t, map[string][]byte{
		"a.json": document("a", `"externalDocumentRefs":[`+reference("b")+`]`),
		"b.json": document("b", `"externalDocumentRefs":[`+reference("b")+`]`),
	})})
	for range 8 { // the order of the archive is another each time
		d := ours()
		open(t, dir).Link(d, "", nil)
		if len(d.References) != 1 || d.References[0].Namespace != "urn:a" {
			t.Fatalf("%+v", d.References)
		}
	}
}

// TestThirdDocument: a package is joined by what any of the documents before has said of it.
func TestThirdDocument(t *testing.T) {
	t.Parallel()
	sum := `,"checksums":[{"algorithm":"SHA256","checksumValue":"` + strings.Repeat("b", 64) + `"}]`
	purl := `,"externalRefs":[{"referenceCategory":"PACKAGE-MANAGER","referenceType":"purl","referenceLocator":"pkg:generic/p@1"}]`
	pack := func(more string) string {
		return `"packages":[{"SPDXID":"SPDXRef-p","name":"p","versionInfo":"1","downloadLocation":"NONE"` + more + `}]`
	}
	dir := received(t, map[string][]byte{"a.json": document("a", pack(sum)), "b.json": document("b", pack(sum+purl)), "c.json": document("c", pack(purl))})
	d := ours()
	if conflicts := open(t, dir).Flat(d, merge.Options{}); len(conflicts) > 0 {
		t.Error(conflicts)
	}
	if p := find(t, d, "p"); p.PURL != "pkg:generic/p@1" || p.SHA256 == "" {
		t.Errorf("%+v", p)
	}
}

// TestTable reads a list of Buildroot's legal-info, of which only the digest is compared.
func TestTable(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "app-manifest.csv")
	text := []byte("\"PACKAGE\",\"VERSION\"\n\"busybox\",\"1.36\"\n")
	if err := os.WriteFile(file, text, 0o644); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(text)
	in := merge.Input{Name: "app-manifest.csv", Path: file, SHA256: hex.EncodeToString(sum[:])}
	s, err := merge.Read(t.Context(), []merge.Input{in})
	if err != nil || len(s.Files) != 0 || !slices.Equal(s.Skipped, []string{"app-manifest.csv: is a table"}) {
		t.Errorf("%+v, %v", s, err)
	}
	in.SHA256 = strings.Repeat("0", 64)
	if _, err := merge.Read(t.Context(), []merge.Input{in}); fault.Of(err) != fault.Digest {
		t.Errorf("another table: %v", err)
	}
}

// TestOneContentManyNames: a received document says once that it has a content, however many names that has.
func TestOneContentManyNames(t *testing.T) {
	t.Parallel()
	const many, atMost = 4000, 20 * time.Second
	sum := strings.Repeat("b", 64)
	d := ours()
	var theirs []string
	for i := range many {
		d.AddFile(sbom.File{Name: fmt.Sprint("ours", i), SHA256: sum})
		theirs = append(theirs, fmt.Sprintf(`{"SPDXID":"SPDXRef-%d","fileName":"./%d","checksums":[{"algorithm":"SHA256","checksumValue":%q}]}`, i, i, sum))
	}
	s := open(t, received(t, map[string][]byte{"a.json": document("a", `"files":[`+strings.Join(theirs, ",")+`]`)}))
	start := time.Now()
	if s.Link(d, "", nil); len(d.Relations) != many {
		t.Errorf("%d relations", len(d.Relations))
	}
	if took := time.Since(start); took > atMost {
		t.Errorf("it took %s", took)
	}
}
