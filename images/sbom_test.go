package images

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/fragment"
	"github.com/pantavisor/pantavisor/sbom"
	"github.com/pantavisor/pantavisor/sbom/part"
	"github.com/pantavisor/pantavisor/sbom/spdx2"
)

// vendor is a step that brings in a package.
type vendor struct {
	made
	pkg sbom.Package
}

func (v *vendor) Supplies(func(build.Step) string) ([]sbom.Supply, error) {
	s := sbom.Supply{Package: v.pkg}
	if v.files["copyright"] != "" {
		s.Licence = "copyright"
	}
	return []sbom.Supply{s}, nil
}

// tool is a vendor of programs for the build machine.
type tool struct{ vendor }

func (*tool) Tooling() {}

func vendorOf(name, source, copyright string) vendor {
	files := map[string]string{"file": name}
	if copyright != "" {
		files["copyright"] = copyright
	}
	return vendor{made{"vendor/" + name, files}, sbom.Package{Name: name, Version: "1-2", SourceName: source, SourceVersion: "1-2", SHA256: strings.Repeat("a", 64)}}
}

// between is a step between a vendor and a part.
type between struct {
	made
	deps []build.Step
}

func (j *between) Deps() []build.Step { return j.deps }

// partOf is a step with parts of a state.
type partOf struct {
	between
	keys map[string]string
}

func (p *partOf) Run(_ context.Context, w *build.Work) error {
	f, err := fragment.Create(w.Out)
	if err != nil {
		return err
	}
	for _, key := range slices.Sorted(maps.Keys(p.keys)) {
		if err := f.AddBytes(key, []byte(p.keys[key])); err != nil {
			return err
		}
	}
	return f.Close()
}

const formal = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\nFiles: *\nCopyright: 2020 Someone\nLicense: Expat\n"

// documentsOf returns the documents of the parts of a step.
func documentsOf(t *testing.T, r *runner, s *PartSBOM) map[string]*sbom.Document {
	t.Helper()
	dir := r.must(s)
	st, err := fragment.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]*sbom.Document{}
	for _, o := range st.Objects() {
		d, err := readPart(filepath.Join(dir, fragment.Objects, o.Sum))
		if err != nil {
			t.Fatal(err)
		}
		out[o.Path] = d
	}
	return out
}

func TestPartsHaveBills(t *testing.T) {
	t.Parallel()
	lib, compiler := vendorOf("lib", "source", formal), vendorOf("cc", "source", "")
	step := &between{made{"between", map[string]string{}}, []build.Step{&lib, &tool{compiler}}}
	given, err := part.Encode(&sbom.Document{Name: "own", Namespace: "urn:x"})
	if err != nil {
		t.Fatal(err)
	}
	parts := &partOf{between{made{name: "parts"}, []build.Step{step}}, map[string]string{
		"app/data": "data", "app/run.json": `{}`, "_config/app/etc/a": "config",
		"own/run.json": `{}`, part.Key("own"): string(given),
		"signed/run.json": `{}`, "_sigs/signed.json": `{"#spec":"pvs@2"}`, "device.json": `{}`,
	}}
	s := (&Inputs{Target: "board", Epoch: 1600000000}).SBOMOf(parts)
	found := documentsOf(t, newRunner(t), s)
	if got := slices.Sorted(maps.Keys(found)); !slices.Equal(got, []string{part.Key("app")}) {
		t.Fatalf("documents %v", got)
	}
	d := found[part.Key("app")]
	var files, packages []string
	for _, f := range d.Files {
		files = append(files, f.Name)
	}
	for _, p := range d.Packages {
		packages = append(packages, strings.Join([]string{p.Name, p.Declared, map[bool]string{true: "tool"}[p.Host]}, " "))
	}
	slices.Sort(packages)
	if diff := cmp.Diff([]string{"_config/app/etc/a", "app/data", "app/run.json"}, slices.Sorted(slices.Values(files))); diff != "" {
		t.Error(diff)
	}
	want := []string{"app  ", "cc MIT tool", "go BSD-3-Clause tool", "lib MIT "}
	if diff := cmp.Diff(want, packages); diff != "" {
		t.Error(diff)
	}
	if err := d.Check(); err != nil || !d.Created.Equal(s.Epoch.Time()) {
		t.Errorf("%v, %v", err, d.Created)
	}
}

// TestGivenBill makes the document of a BSP from one that was made of the same files.
func TestGivenBill(t *testing.T) {
	t.Parallel()
	lib := vendorOf("lib", "source", "a text without form")
	from := func(name string, deps ...build.Step) Artefact {
		return Artefact{&between{made{name, map[string]string{"file": name}}, deps}, "file"}
	}
	document := func(kernel Artefact, given []byte) []byte {
		bsp := &BSP{Target: "board", Kernel: kernel, Initrd: from("initrd", &lib)}
		in := &Inputs{Target: "board", Epoch: 1600000000}
		if given != nil {
			in.BSPSBOM = &Artefact{&made{"given", map[string]string{"sbom": string(given)}}, "sbom"}
		}
		r := newRunner(t)
		dir := r.must(in.SBOMOf(bsp))
		st, err := fragment.Read(dir)
		if err != nil {
			t.Fatal(err)
		}
		sum, _ := st.Object(part.Key("bsp"))
		text, err := os.ReadFile(filepath.Join(dir, fragment.Objects, sum))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	first := document(from("kernel", &lib), nil)
	if again := document(from("kernel"), first); !bytes.Equal(first, again) {
		t.Error("the same files and packages give another document")
	}
	other, err := part.Decode(bytes.NewReader(document(from("newer"), first)))
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Check(); err != nil {
		t.Errorf("what is said of a file that is not there any more: %v", err)
	}
	if !slices.ContainsFunc(other.Packages, func(p sbom.Package) bool { return p.Name == "lib" && strings.HasPrefix(p.Declared, "LicenseRef-") }) || len(other.Licences) != 1 {
		t.Errorf("packages %+v", other.Packages)
	}
}

func TestImageHasABill(t *testing.T) {
	t.Parallel()
	root := boardTree(t)
	storage := storage(root)
	loader := vendorOf("loader", "loader", formal)
	in := board()
	in.Epoch, in.Support = 1600000000, sbom.Support{End: "2031-12-31", Manufacturer: "Maker"}
	boot := &between{made{"boot", map[string]string{"EFI/boot.efi": "loader"}}, []build.Step{&loader}}
	in.Loader.Files = []RoleFiles{{"boot", Artefact{boot, ""}}}
	in.Received = []Received{{"vendor.json", Artefact{&made{"received", map[string]string{"x": "{}"}}, "x"}}}
	storage.Parts = append(storage.Parts, in.SBOMOf(storage.Parts[1]))
	named := &partOf{between{made{name: "named"}, nil}, map[string]string{
		"net_work/run.json": `{"name":"net_work","type":"lxc","config":"c","root-volume":"r","status_goal":"MOUNTED"}`, "net_work/c": "", "net_work/r": "",
	}} // an identifier has no _
	storage.Parts = append(storage.Parts, named, in.SBOMOf(named))
	c := &composer{in: in, storage: storage, Composition: &Composition{
		Components: map[string][]build.Step{}, Artefacts: []build.Artefact{{Step: boot, From: "EFI/boot.efi", To: "board.img"}},
	}}
	c.bill()
	dir := newRunner(t).must(c.Artefacts[len(c.Artefacts)-1].Step)
	text, err := os.ReadFile(filepath.Join(dir, SBOMFile))
	if err != nil || !json.Valid(text) {
		t.Fatal(err)
	}
	d, err := spdx2.Read(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Check(); err != nil {
		t.Error(err)
	}
	var files, relations []string
	for _, f := range d.Files {
		files = append(files, f.Name)
	}
	for _, want := range []string{"board.img", "pvboot/EFI/boot.efi", "storage/boot/grubenv", "storage/config/pantahub.config", "storage/trails/0/device.json"} {
		if !slices.Contains(files, want) {
			t.Errorf("no file %s in %v", want, files)
		}
	}
	for _, r := range d.Relations {
		relations = append(relations, string(r.Kind)+" "+r.To)
	}
	for _, want := range []string{"CONTAINS DocumentRef-bsp:Part-bsp", "GENERATED_FROM Package-loader", "CONTAINS File-pvboot-EFI"} {
		if !slices.ContainsFunc(relations, func(r string) bool { return strings.HasPrefix(r, want) }) {
			t.Errorf("no relation %s in %v", want, relations)
		}
	}
	if len(d.References) != 3 || d.Support != in.Support {
		t.Errorf("references %+v, support %+v", d.References, d.Support)
	}
	for _, r := range d.References {
		if sum, err := fragment.Digest(t.Context(), filepath.Join(dir, filepath.FromSlash(r.File))); err != nil || sum != r.SHA256 {
			t.Errorf("%s: %s, %v", r.File, sum, err)
		}
	}
}

// TestPartsOfOthers has parts that came with a document of their own: one that cannot be read, and one that does
// not have all of the part.
func TestPartsOfOthers(t *testing.T) {
	t.Parallel()
	half, err := part.Encode(&sbom.Document{Name: "half", Namespace: "urn:half", Files: []sbom.File{{ID: "File-1", Name: "c", SHA256: sum("half c")}}})
	if err != nil {
		t.Fatal(err)
	}
	storage := storage(boardTree(t))
	theirs := &partOf{between{made{name: "theirs"}, nil}, map[string]string{
		part.Key("broken"): "no\x1b[2Jzstd", part.Key("half"): string(half), "_sigs/half.json": `{"#spec":"pvs@2"}`,
	}}
	for _, name := range []string{"broken", "half"} {
		theirs.keys[name+"/run.json"] = `{"name":"` + name + `","type":"lxc","config":"c","root-volume":"r","status_goal":"MOUNTED"}`
		theirs.keys[name+"/c"], theirs.keys[name+"/r"] = name+" c", name+" r"
	}
	in := board()
	storage.Parts = append(storage.Parts, in.SBOMOf(storage.Parts[1]), theirs, in.SBOMOf(theirs))
	c := &composer{in: in, storage: storage, Composition: &Composition{Components: map[string][]build.Step{}}}
	c.bill()
	r := newRunner(t)
	dir := r.must(c.Artefacts[0].Step)
	f, err := os.Open(filepath.Join(dir, SBOMFile))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d, err := spdx2.Read(f)
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, f := range d.Files {
		if strings.Contains(f.Name, "broken") || strings.Contains(f.Name, "half") || strings.Contains(f.Name, "bsp") {
			files = append(files, f.Name)
		}
	}
	slices.Sort(files)
	want := []string{
		"broken/c", "broken/r", "broken/run.json", "storage/trails/0/_sigs/half.json", "storage/trails/0/broken/sbom.spdx.zst",
		"storage/trails/0/half/r", "storage/trails/0/half/run.json",
	}
	if diff := cmp.Diff(want, files); diff != "" {
		t.Error(diff)
	}
	if len(r.Warns) != 1 || !strings.HasPrefix(r.Warns[0], part.Key("broken")) || strings.ContainsRune(r.Warns[0], 0x1b) {
		t.Errorf("warnings %q", r.Warns)
	}
	if len(d.References) != 2 {
		t.Errorf("references %+v", d.References)
	}
}

// TestUnreadObject has a document that the machine, and not its content, keeps from being read.
func TestUnreadObject(t *testing.T) {
	t.Parallel()
	dir, digest := t.TempDir(), sum("")
	if err := os.MkdirAll(filepath.Join(dir, fragment.Objects, digest), 0o755); err != nil {
		t.Fatal(err)
	}
	text := `{"#spec":"pantavisor-service-system@1","` + part.Key("app") + `":"` + digest + `"}`
	if err := os.WriteFile(filepath.Join(dir, fragment.File), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	said := 0
	b := &imageBill{ctx: t.Context(), w: build.NewWork(t.TempDir(), "", nil, func(build.Note) { said++ })}
	if err := b.documents(dir); fault.Of(err) != fault.IO || said > 0 {
		t.Errorf("%v, %d warnings", err, said)
	}
}

// TestProgramsOfTheBuild forgets what a scan has found of a program, and nothing else.
func TestProgramsOfTheBuild(t *testing.T) {
	t.Parallel()
	b := &bill{Document: &sbom.Document{}}
	scanned := b.AddPackage(sbom.Package{Name: "m", Version: "v1", PURL: sbom.GoProgram("example.com/m", "v1", "example.com/m/cmd/a")})
	module := b.AddPackage(sbom.Package{Name: "x", Version: "v1", PURL: sbom.GoPURL("example.com/x", "v1")})
	kept := []string{
		b.AddPackage(sbom.Package{Name: "other", Version: "v1", PURL: sbom.GoProgram("example.com/m", "v1", "example.com/m/cmd/b")}), module,
		b.AddPackage(sbom.Package{Name: "built", Version: "v1", SHA256: "aa", PURL: sbom.GoProgram("example.com/m", "v1", "example.com/m/cmd/a")}),
	}
	b.Relate(scanned, sbom.DependsOn, module)
	b.Relate("root", sbom.Contains, scanned, module)
	b.forget("example.com/m", "example.com/m/cmd/a")
	var got []string
	for _, p := range b.Packages {
		got = append(got, p.ID)
	}
	slices.Sort(got)
	slices.Sort(kept)
	if !slices.Equal(got, kept) || len(b.Relations) != 1 || b.Relations[0].To != module {
		t.Errorf("%v, %+v", got, b.Relations)
	}
}
