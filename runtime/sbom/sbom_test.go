package sbom

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"github.com/pantavisor/pantavisor/revision/state"
	model "github.com/pantavisor/pantavisor/sbom"
	"github.com/pantavisor/pantavisor/sbom/spdx2"
)

// device is a revision in memory.
type device struct {
	t       testing.TB
	state   *state.State
	objects map[string][]byte
}

func newDevice(t testing.TB) *device {
	t.Helper()
	return &device{t, state.New(state.Spec), map[string][]byte{}}
}

// put adds an object and returns its digest.
func (d *device) put(path string, content []byte) string {
	d.t.Helper()
	sum := digestOf(string(content))
	d.objects[sum] = content
	if err := d.state.SetObject(path, sum); err != nil {
		d.t.Fatal(err)
	}
	return sum
}

func (d *device) revision() *Revision {
	return &Revision{
		Name: "3", State: d.state, SHA256: strings.Repeat("5", 64), Changed: time.Unix(1700000000, 0),
		Open: func(sum string) (io.ReadCloser, error) {
			content, ok := d.objects[sum]
			if !ok {
				return nil, errors.New("its object is missing")
			}
			return io.NopCloser(bytes.NewReader(content)), nil
		},
	}
}

// raw returns the joined document as it is written.
func (d *device) raw(part string) string {
	d.t.Helper()
	var out bytes.Buffer
	if err := Write(&out, d.revision(), part); err != nil {
		d.t.Fatal(err)
	}
	if !json.Valid(out.Bytes()) {
		d.t.Fatalf("not JSON: %s", out.Bytes())
	}
	return out.String()
}

// joined returns the document as a reader of SPDX sees it. It checks that each object of the
// revision is there by its digest, and that nothing in it is ambiguous.
func (d *device) joined(part string) *model.Document {
	d.t.Helper()
	text := d.raw(part)
	doc, err := spdx2.Read(strings.NewReader(text))
	if err != nil {
		d.t.Fatalf("%v\n%s", err, text)
	}
	if err := doc.Check(); err != nil {
		d.t.Errorf("%v\n%s", err, text)
	}
	have := map[string]bool{}
	for _, p := range doc.Packages {
		have[p.SHA256] = true
	}
	for _, f := range doc.Files {
		have[f.SHA256] = true
	}
	for _, o := range d.state.Objects() {
		if (part == "" || state.PartOf(o.Path) == part) && !have[o.Sum] {
			d.t.Errorf("%s is not there", o.Path)
		}
	}
	return doc
}

// pack returns the object of a document.
func pack(t testing.TB, doc []byte) []byte {
	t.Helper()
	e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	return e.EncodeAll(doc, nil)
}

// digestOf is the digest of a text.
func digestOf(text string) string {
	h := sha256.Sum256([]byte(text))
	return hex.EncodeToString(h[:])
}

// document is the document of a part with an object, its packages, and one that all parts have.
func document(t testing.TB, part, sum string, names ...string) *model.Document {
	t.Helper()
	d := &model.Document{Name: part, Created: time.Unix(int64(len(part))*1000, 0).UTC(), Creators: []string{"Tool: maker", "Organization: " + part}}
	root := d.AddPackage(model.Package{Name: part, Purpose: model.Container, SHA256: digestOf(part), Paths: []string{"lib/" + part}})
	d.Roots = []string{root}
	if sum != "" {
		d.Relate(root, model.Contains, d.AddFile(model.File{Name: part + "/root.squashfs", SHA256: sum, Size: 7}))
	}
	for _, name := range append(names, "libc6") {
		text := "The licence of " + name
		l := model.Licence{ID: model.LicenceID(name, text), Name: name, Text: text}
		d.Licences = append(d.Licences, l)
		d.Relate(root, model.Contains, d.AddPackage(model.Package{Name: name, Version: "1", PURL: "pkg:deb/debian/" + name + "@1", Declared: l.ID}))
	}
	d.Relate(root, model.DependsOn, d.AddPackage(model.Package{Name: "libc6", Version: "1", PURL: "pkg:deb/debian/libc6@1"}))
	d.References = []model.Reference{{ID: "DocumentRef-" + part, Namespace: "urn:x:" + part, SHA256: strings.Repeat("b", 64), File: part + "/received.json"}}
	d.Statements = []model.Statement{{Vulnerability: "CVE-2024-1", Status: "fixed", Packages: []string{root}, Origin: part}}
	d.Seal()
	return d
}

func encoded(t testing.TB, d *model.Document) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := spdx2.Write(&out, d); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestJoined joins two parts with and one without a document. What comes out is the union.
func TestJoined(t *testing.T) {
	t.Parallel()
	d := newDevice(t)
	web := document(t, "web", d.put("web/root.squashfs", []byte("w")), "nginx", "common")
	bsp := document(t, "bsp", d.put("bsp/kernel.img", []byte("k")), "linux", "common")
	bsp.Support = model.Support{End: "2031-12-31", Contact: "security@example.com", Manufacturer: "Maker"}
	bsp.Comment = "Of the board."
	d.put("web/sbom.spdx.zst", pack(t, encoded(t, web)))
	d.put("bsp/sbom.spdx.zst", pack(t, encoded(t, bsp)))
	d.put("old/root.squashfs", []byte("o"))
	d.put("_config/web/etc/x", []byte("x"))

	want := &model.Document{}
	want.Add(bsp)
	want.Add(web)
	want.Seal()
	got := d.joined("")
	for _, p := range want.Packages {
		if i := slices.IndexFunc(got.Packages, func(q model.Package) bool { return q.ID == p.ID }); i < 0 || cmp.Diff(p, got.Packages[i]) != "" {
			t.Errorf("package %+v is not there as it was", p)
		}
	}
	if diff := cmp.Diff(want.Files, sorted(got.Files, func(f model.File) string { return f.ID })); diff != "" {
		t.Errorf("files: %s", diff)
	}
	if diff := cmp.Diff(want.Licences, sorted(got.Licences, func(l model.Licence) string { return l.ID })); diff != "" {
		t.Errorf("licences: %s", diff)
	}
	if diff := cmp.Diff(want.References, got.References); diff != "" {
		t.Errorf("references: %s", diff)
	}
	for _, r := range want.Relations {
		if !slices.Contains(got.Relations, r) {
			t.Errorf("relation %+v is not there", r)
		}
	}
	for _, id := range want.Roots {
		if !slices.Contains(got.Roots, id) {
			t.Errorf("root %s is not there", id)
		}
	}
	if diff := cmp.Diff(want.Statements, got.Statements); diff != "" {
		t.Errorf("statements: %s", diff)
	}
	if got.Support != bsp.Support || got.Name != "revision 3" || got.Namespace != namespace+strings.Repeat("5", 64) || !got.Created.Equal(bsp.Created) {
		t.Errorf("%+v, %s, %s, %v", got.Support, got.Name, got.Namespace, got.Created)
	}
	slices.Sort(got.Creators)
	if want := []string{"Organization: bsp", "Organization: web", "Tool: maker", "Tool: pantavisor"}; !slices.Equal(got.Creators, want) {
		t.Errorf("creators: %q", got.Creators)
	}
	if !strings.Contains(got.Comment, "Part old has no SBOM") || !strings.Contains(got.Comment, "bsp: Of the board.") || strings.Contains(got.Comment, "Part web") {
		t.Error(got.Comment)
	}
	if n := len(got.Omitted); n > 0 {
		t.Errorf("omitted: %q", got.Omitted)
	}
	if again := d.raw(""); again != d.raw("") {
		t.Error("twice, and not the same")
	}
}

func sorted[T any](list []T, id func(T) string) []T {
	slices.SortFunc(list, func(a, b T) int { return strings.Compare(id(a), id(b)) })
	return list
}

// TestOnePart asks for parts.
func TestOnePart(t *testing.T) {
	t.Parallel()
	d := newDevice(t)
	d.put("web/sbom.spdx.zst", pack(t, encoded(t, document(t, "web", d.put("web/root.squashfs", []byte("w")), "nginx"))))
	d.put("bsp/sbom.spdx.zst", pack(t, encoded(t, document(t, "bsp", "", "linux"))))
	names := func(part string) (list []string) {
		for _, p := range d.joined(part).Packages {
			list = append(list, p.Name)
		}
		return sorted(list, func(s string) string { return s })
	}
	if got, want := names("web"), []string{"libc6", "nginx", "web", "web", "web/sbom.spdx.zst"}; !slices.Equal(got, want) {
		t.Errorf("web: %q", got)
	}
	if got, want := names("none"), []string{"none"}; !slices.Equal(got, want) {
		t.Errorf("a part without objects: %q", got)
	}
	if a, b := d.joined("web"), d.joined("bsp"); a.Namespace == b.Namespace || a.Name != "web of revision 3" {
		t.Errorf("%s, %s, %s", a.Namespace, b.Namespace, a.Name)
	}
}

// wrapped is a document with members.
func wrapped(members string) string {
	return `{"spdxVersion":"SPDX-2.3","creationInfo":{"created":"2024-01-01T00:00:00Z"},` + members + `}`
}

// TestUnusable has documents that cannot be used beside one that can. Each leaves a comment, and all
// objects are listed.
func TestUnusable(t *testing.T) {
	t.Parallel()
	many := strings.Repeat(`{"SPDXID":"SPDXRef-a"},`, 10)
	spaces := pack(t, append([]byte(`{"spdxVersion":`), bytes.Repeat([]byte(" "), maxDocument)...))
	endless := func() []byte {
		var out bytes.Buffer
		e, err := zstd.NewWriter(&out, zstd.WithEncoderConcurrency(1))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(e, strings.TrimSuffix(wrapped(`"packages":[`), "}"))
		for i := range 5_000_000 {
			fmt.Fprintf(e, `{"SPDXID":"SPDXRef-%d"},`, i)
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}()
	for name, c := range map[string]struct {
		object []byte
		word   string
	}{
		"not zstd":         {[]byte(wrapped(`"packages":[]`)), "not of this format"},
		"empty":            {nil, "EOF"},
		"not JSON":         {pack(t, []byte("SPDXVersion: SPDX-2.3\n")), "invalid character"},
		"zeros":            {pack(t, make([]byte, 1<<26)), "invalid character"},
		"spaces":           {spaces, "an element has more than 2097152 bytes"},
		"endless":          {endless, "more than"},
		"an array":         {pack(t, []byte("[]")), "it has no {"},
		"cut off":          {pack(t, []byte(wrapped(many))[:60]), "EOF"},
		"cut frame":        {pack(t, []byte(wrapped(`"packages":[]`)))[:30], "EOF"},
		"no version":       {pack(t, []byte(`{"packages":[]}`)), "no spdxVersion"},
		"version 3":        {pack(t, []byte(`{"spdxVersion":"SPDX-3.0"}`)), "not SPDX-2.3"},
		"two documents":    {pack(t, []byte(wrapped(`"a":1`)+"{}")), "something follows"},
		"a list twice":     {pack(t, []byte(wrapped(`"packages":[],"packages":[{"SPDXID":"SPDXRef-a"}]`))), `"packages" twice`},
		"list of a string": {pack(t, []byte(wrapped(`"packages":"x"`))), "it has no ["},
		"null":             {pack(t, []byte(wrapped(`"packages":[null]`))), "no valid identifier"},
		"no identifier":    {pack(t, []byte(wrapped(`"files":[{"name":"x"}]`))), "no valid identifier"},
		"odd identifier":   {pack(t, []byte(wrapped(`"files":[{"SPDXID":"SPDXRef-a b"}]`))), "no valid identifier"},
		"the document":     {pack(t, []byte(wrapped(`"files":[{"SPDXID":"SPDXRef-DOCUMENT"}]`))), "no valid identifier"},
		"ours":             {pack(t, []byte(wrapped(`"files":[{"SPDXID":"SPDXRef-Revision-Object-1"}]`))), "no valid identifier"},
		"no licence":       {pack(t, []byte(wrapped(`"hasExtractedLicensingInfos":[{"licenseId":"MIT"}]`))), "no valid identifier"},
		"another's":        {pack(t, []byte(wrapped(`"packages":[{"SPDXID":"SPDXRef-Shared","name":"other"}]`))), "something else already"},
		"two at once":      {pack(t, []byte(wrapped(`"packages":[{"SPDXID":"SPDXRef-x","name":"a"},{"SPDXID":"SPDXRef-x","name":"b"}]`))), "something else already"},
		"half a relation":  {pack(t, []byte(wrapped(`"relationships":[{"spdxElementId":"SPDXRef-DOCUMENT"}]`))), "lacks an end"},
		"an odd relation":  {pack(t, []byte(wrapped(`"relationships":[7]`))), "cannot unmarshal"},
		"not UTF-8":        {pack(t, []byte(wrapped("\"packages\":[{\"SPDXID\":\"SPDXRef-a\",\"name\":\"\xff\"}]"))), "not UTF-8"},
		"annotation":       {pack(t, []byte(wrapped(`"annotations":["x"]`))), "annotation"},
		"time":             {pack(t, []byte(`{"creationInfo":{"created":"today"}}`)), "creationInfo"},
		"deep":             {pack(t, []byte(wrapped(`"x":`+strings.Repeat("[", 100_000)))), "depth"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDevice(t)
			d.put("app/sbom.spdx.zst", pack(t, []byte(wrapped(`"packages":[{"SPDXID":"SPDXRef-Shared","name":"mine"}]`))))
			d.put("bad/sbom.spdx.zst", c.object)
			d.put("bad/root.squashfs", []byte("b"))
			doc := d.joined("")
			if !strings.Contains(doc.Comment, "The SBOM of part bad is left out") || !strings.Contains(doc.Comment, c.word) || len(doc.Comment) > 3000 {
				t.Errorf("comment %q, want %q", doc.Comment, c.word)
			}
			if !slices.ContainsFunc(doc.Packages, func(p model.Package) bool { return p.Name == "mine" }) || slices.ContainsFunc(doc.Packages, func(p model.Package) bool { return p.ID == "a" || p.ID == "x" }) {
				t.Errorf("packages %+v", doc.Packages)
			}
		})
	}
}

// TestMissingObject has a document that is not on the device.
func TestMissingObject(t *testing.T) {
	t.Parallel()
	d := newDevice(t)
	delete(d.objects, d.put("app/sbom.spdx.zst", []byte("x")))
	if doc := d.joined(""); !strings.Contains(doc.Comment, "its object is missing") {
		t.Error(doc.Comment)
	}
}

// TestForeignForm reads a document of another tool: indented, with documentDescribes, and with a
// relation that leads nowhere.
func TestForeignForm(t *testing.T) {
	t.Parallel()
	const doc = `{
  "SPDXID" : "SPDXRef-DOCUMENT", "spdxVersion" : "SPDX-2.2", "unknown" : { "a" : [ 1, 2 ] },
  "creationInfo" : { "created" : "2024-05-06T07:08:09Z", "creators" : [ "Tool: other<1>" ] },
  "relationships" : [ { "spdxElementId" : "SPDXRef-app", "relationshipType" : "CONTAINS", "relatedSpdxElement" : "SPDXRef-f" },
    { "spdxElementId" : "SPDXRef-app", "relationshipType" : "DEPENDS_ON", "relatedSpdxElement" : "SPDXRef-gone" },
    { "spdxElementId" : "SPDXRef-app", "relationshipType" : "DEPENDS_ON", "relatedSpdxElement" : "NOASSERTION" } ],
  "documentDescribes" : [ "SPDXRef-app" ],
  "packages" : [ { "SPDXID" : "SPDXRef-app", "name" : "app", "downloadLocation" : "NONE" } ],
  "files" : [ { "SPDXID" : "SPDXRef-f", "fileName" : "./f", "checksums" : [ ] } ]
}
`
	d := newDevice(t)
	d.put("app/sbom.spdx.zst", pack(t, []byte(doc)))
	got := d.joined("")
	if !slices.Contains(got.Roots, "app") || !strings.Contains(got.Comment, "1 relations") || !got.Created.Equal(time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)) || got.Creators[0] != "Tool: other<1>" {
		t.Errorf("%+v", got)
	}
	if !slices.Contains(got.Relations, model.Relation{From: partID("app")[len(prefix):], Kind: model.Contains, To: "app"}) {
		t.Errorf("what the document describes is not in the part: %+v", got.Relations)
	}
}

// TestMemory joins twenty large documents and looks at what was alive meanwhile.
func TestMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("joins 20 MB")
	}
	d := newDevice(t)
	for i := range 20 {
		name := fmt.Sprintf("p%02d", i)
		names := make([]string, 1500)
		for k := range names {
			names[k] = fmt.Sprintf("package%d-%d", i%10, k)
		}
		d.put(name+"/sbom.spdx.zst", pack(t, encoded(t, document(t, name, "", names...))))
	}
	r := d.revision()
	runtime.GC()
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	peak, written := uint64(0), 0
	out := writerFunc(func(p []byte) (int, error) {
		if written += len(p); written/len(p)%16 == 0 {
			runtime.GC()
			var now runtime.MemStats
			runtime.ReadMemStats(&now)
			peak = max(peak, now.HeapAlloc-min(now.HeapAlloc, before.HeapAlloc))
		}
		return len(p), nil
	})
	began := time.Now()
	if err := Write(out, r, ""); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes in %v, %d bytes alive at most", written, time.Since(began), peak)
	if peak > 4<<20 {
		t.Errorf("%d bytes were alive, want at most 4 MiB", peak)
	}
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// TestWriteFails has a client that goes away.
func TestWriteFails(t *testing.T) {
	t.Parallel()
	d := newDevice(t)
	d.put("app/x", []byte("x"))
	if err := Write(writerFunc(func([]byte) (int, error) { return 0, context.Canceled }), d.revision(), ""); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// FuzzWrite joins two documents of any kind: what comes out is JSON with each identifier once and each
// object of the revision.
func FuzzWrite(f *testing.F) {
	f.Add(wrapped(`"packages":[{"SPDXID":"SPDXRef-a","name":"a"}]`), wrapped(`"files":[{"SPDXID":"SPDXRef-a"}]`))
	f.Add(wrapped(`"relationships":[{"spdxElementId":"SPDXRef-DOCUMENT","relationshipType":"DESCRIBES","relatedSpdxElement":"SPDXRef-a"}],"documentDescribes":["SPDXRef-b"]`), "{}")
	f.Add(wrapped(`"hasExtractedLicensingInfos":[{"licenseId":"LicenseRef-a"}],"annotations":[{}]`), wrapped(`"externalDocumentRefs":[{"externalDocumentId":"DocumentRef-a","checksum":{"algorithm":"SHA256"}}],"comment":"x"`))
	e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, one, two string) {
		d := newDevice(t)
		d.put("a/sbom.spdx.zst", e.EncodeAll([]byte(one), nil))
		d.put("b/sbom.spdx.zst", e.EncodeAll([]byte(two), nil))
		d.put("b/root.squashfs", []byte(two))
		text := d.raw("")
		var doc struct {
			Packages, Files, Snippets []struct{ SPDXID string }
			Relationships             []relation
		}
		if err := json.Unmarshal([]byte(text), &doc); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		ids := map[string]bool{theDocument: true, "NONE": true, "NOASSERTION": true}
		for _, e := range slices.Concat(doc.Packages, doc.Files, doc.Snippets) {
			if ids[e.SPDXID] {
				t.Fatalf("%s is there twice: %s", e.SPDXID, text)
			}
			ids[e.SPDXID] = true
		}
		for _, r := range doc.Relationships {
			if !ids[r.From] && !strings.HasPrefix(r.From, otherDocument) || !ids[r.To] && !strings.HasPrefix(r.To, otherDocument) && !strings.HasPrefix(r.To, licencePrefix) {
				t.Fatalf("%+v leads nowhere: %s", r, text)
			}
		}
		for _, o := range d.state.Objects() {
			if !strings.Contains(text, o.Sum) {
				t.Fatalf("%s is not there: %s", o.Path, text)
			}
		}
	})
}
