package container

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/formats/squashfs"
	"github.com/pantavisor/pantavisor/formats/tree"
	"github.com/pantavisor/pantavisor/revision/state"
	"github.com/pantavisor/pantavisor/sbom"
	"github.com/pantavisor/pantavisor/sbom/part"
	"github.com/pantavisor/pantavisor/sbom/spdx2"
)

// made is the time of all files.
var made = time.Unix(1_700_000_000, 0).UTC()

// fragment is a state with its objects in a directory.
type fragment struct {
	t   *testing.T
	st  *state.State
	dir string
}

func newFragment(t *testing.T) *fragment {
	t.Helper()
	return &fragment{t, state.New(state.Spec), t.TempDir()}
}

func (f *fragment) object(key string, data []byte) {
	f.t.Helper()
	h := sha256.Sum256(data)
	sum := hex.EncodeToString(h[:])
	if err := os.WriteFile(filepath.Join(f.dir, sum), data, 0o644); err != nil {
		f.t.Fatal(err)
	}
	if err := f.st.SetObject(key, sum); err != nil {
		f.t.Fatal(err)
	}
}

// squashfs adds an image of a tree.
func (f *fragment) squashfs(key string, entries ...tree.Entry) {
	f.t.Helper()
	set := tree.Set{}
	set.Put(entries...)
	set.Complete()
	out, err := os.Create(filepath.Join(f.t.TempDir(), "image"))
	if err != nil {
		f.t.Fatal(err)
	}
	defer out.Close()
	err = squashfs.Write(f.t.Context(), out, squashfs.Options{}, func(add func(tree.Entry) error) error {
		for _, e := range set.Sorted() {
			e.ModTime = made
			if err := add(e); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		f.t.Fatal(err)
	}
	data, err := os.ReadFile(out.Name())
	if err != nil {
		f.t.Fatal(err)
	}
	f.object(key, data)
}

func (f *fragment) of(o Options) *sbom.Document {
	f.t.Helper()
	o.State, o.Objects = f.st, f.dir
	d, err := Of(f.t.Context(), o)
	if err != nil {
		f.t.Fatal(err)
	}
	d.Seal()
	if err := d.Check(); err != nil {
		f.t.Fatal(err)
	}
	return d
}

// names lists packages and files.
func names(d *sbom.Document) []string {
	var out []string
	for _, p := range d.Packages {
		out = append(out, strings.TrimSuffix(p.Name+" "+p.Version, " "))
	}
	for _, f := range d.Files {
		out = append(out, f.Name)
	}
	slices.Sort(out)
	return out
}

const apkDB = "lib/apk/db/installed"

func app(t *testing.T) *fragment {
	f := newFragment(t)
	f.squashfs("app/root.squashfs",
		tree.Bytes(apkDB, 0o644, []byte("P:musl\nV:1\nL:MIT\nF:lib\nR:libc.so\n\nP:old\nV:1\n")), tree.Bytes("lib/libc.so", 0o644, []byte("x")),
		tree.Bytes("etc/hidden", 0o644, []byte("x")), tree.Bytes("etc/seen", 0o644, []byte("x")), tree.Bytes("opt/a/b", 0o644, []byte("x")))
	f.object("app/lxc.container.conf", []byte("lxc.uts.name = app\n"))
	if err := f.st.Set("app/run.json", []byte(`{ "name": "app" }`)); err != nil {
		t.Fatal(err)
	}
	f.object(part.Key("app"), []byte("itself"))
	f.object("other/root.squashfs", []byte("of another part"))
	return f
}

func TestContainer(t *testing.T) {
	t.Parallel()
	d := app(t).of(Options{Part: "app", Of: "demo", Version: "1.0"})
	want := []string{
		"app 1.0", "app/lxc.container.conf", "app/root.squashfs", "app/root.squashfs/etc/hidden", "app/root.squashfs/etc/seen", "app/root.squashfs/lib/apk/db/installed",
		"app/root.squashfs/opt/a/b", "app/run.json", "musl 1", "old 1",
	}
	if diff := cmp.Diff(want, names(d)); diff != "" {
		t.Error(diff)
	}
	run := d.Files[slices.IndexFunc(d.Files, func(f sbom.File) bool { return f.Name == "app/run.json" })]
	if sum := sha256.Sum256([]byte(`{"name":"app"}`)); run.SHA256 != hex.EncodeToString(sum[:]) {
		t.Errorf("a value does not count as its canonical text: %+v", run)
	}
	if d.Name != "app of demo" || !d.Created.Equal(made) || len(d.Roots) != 1 {
		t.Errorf("%s of %s, roots %q", d.Name, d.Created, d.Roots)
	}
	for _, p := range d.Packages {
		if p.ID != d.Roots[0] && !slices.Contains(d.Relations, sbom.Relation{From: d.Roots[0], Kind: sbom.Contains, To: p.ID}) {
			t.Errorf("%s is in nothing", p.Name)
		}
	}
	if other := app(t).of(Options{Part: "app", Of: "demo", Version: "1.0", Time: time.Unix(5, 0)}); !other.Created.Equal(time.Unix(5, 0)) || other.Roots[0] != d.Roots[0] {
		t.Errorf("%s, %s", other.Created, other.Roots)
	}
}

// TestOverlay has an image over another one, which replaces a database and hides files.
func TestOverlay(t *testing.T) {
	t.Parallel()
	f := app(t)
	opaque := tree.Dir("opt/a", 0o755)
	opaque.Xattrs = map[string][]byte{"trusted.overlay.opaque": []byte("y")}
	f.squashfs("app/root.ovl.squashfs",
		tree.Bytes(apkDB, 0o644, []byte("P:musl\nV:2\n")), tree.Entry{Name: "etc/hidden", Mode: fs.ModeDevice | fs.ModeCharDevice}, opaque, tree.Bytes("etc/new", 0o644, nil))
	want := []string{
		"app", "app/lxc.container.conf", "app/root.ovl.squashfs", "app/root.squashfs", "app/root.squashfs/etc/new", "app/root.squashfs/etc/seen",
		"app/root.squashfs/lib/apk/db/installed", "app/root.squashfs/lib/libc.so", "app/run.json", "musl 2",
	}
	if diff := cmp.Diff(want, names(f.of(Options{Part: "app"}))); diff != "" {
		t.Error(diff)
	}
}

// TestOthers has parts without a root file system that is read.
func TestOthers(t *testing.T) {
	t.Parallel()
	f := newFragment(t)
	f.squashfs("bsp/modules.squashfs", tree.Bytes("m.ko", 0o644, nil))
	f.object("app/root.squashfs", []byte("encrypted"))
	bsp, app := f.of(Options{Part: bsp}), f.of(Options{Part: "app"})
	if got := names(bsp); !slices.Equal(got, []string{"bsp", "bsp/modules.squashfs"}) || bsp.Packages[0].Purpose != sbom.Firmware || bsp.Created.Unix() != 0 {
		t.Errorf("%q, %s", got, bsp.Created)
	}
	if got := app.Packages[0].Comment; !strings.HasPrefix(got, "app/root.squashfs is not described: ") {
		t.Errorf("%q", got)
	}
	sum, _ := f.st.Object("app/root.squashfs")
	if err := os.Remove(filepath.Join(f.dir, sum)); err != nil {
		t.Fatal(err)
	}
	if _, err := Of(t.Context(), Options{Part: "app", State: f.st, Objects: f.dir}); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "app/root.squashfs") {
		t.Errorf("a missing object: %v", err)
	}
}

// TestAttached has a document of others with a package that is found, and ones that are not.
func TestAttached(t *testing.T) {
	t.Parallel()
	other := &sbom.Document{Name: "theirs", Namespace: "https://example.com/theirs", Created: made, Creators: []string{"Tool: theirs"}}
	for _, p := range []sbom.Package{
		{Name: "musl", Version: "1", PURL: "pkg:apk/alpine/musl@1?arch=x"},
		{Name: "jar", Version: "7", PURL: "pkg:maven/org/jar@7", Declared: "MIT AND LicenseRef-1"},
		{Name: "odd", Version: "8", PURL: "pkg:maven/org/odd@8", Declared: "LicenseRef-none"},
		{Name: "nothing"},
	} {
		other.Roots = append(other.Roots, other.AddPackage(p))
	}
	other.Licences = []sbom.Licence{{ID: "LicenseRef-1", Name: "theirs", Text: "the text"}}
	other.Seal()
	var text bytes.Buffer
	if err := spdx2.Write(&text, other); err != nil {
		t.Fatal(err)
	}
	h := sha256.Sum256(text.Bytes())
	list := []Attached{
		{MediaType: "application/spdx+json", Data: text.Bytes(), SHA256: hex.EncodeToString(h[:]), To: "nginx:1"},
		{MediaType: "application/vnd.cyclonedx+json", Data: []byte("{"), SHA256: strings.Repeat("0", 64), To: "nginx:1"},
	}
	d := app(t).of(Options{Part: "app", Attached: list})
	got := slices.DeleteFunc(names(d), func(s string) bool { return strings.HasPrefix(s, "app/") })
	if want := []string{"app", "jar 7", "musl 1", "odd 8", "old 1"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	again := app(t).of(Options{Part: "app", Before: d})
	if diff := cmp.Diff(names(d), names(again)); diff != "" {
		t.Errorf("without the documents: %s", diff)
	}
	if diff := cmp.Diff(d.References, again.References); diff != "" || !slices.Equal(d.Licences, again.Licences) {
		t.Errorf("without the documents: %s", diff)
	}
	if len(d.References) != 1 || d.References[0].SHA256 != list[0].SHA256 || d.References[0].Namespace != "https://example.com/theirs" {
		t.Errorf("%+v", d.References)
	}
	for _, p := range d.Packages {
		switch {
		case p.Name == "jar" && (p.Declared != "MIT AND "+d.Licences[0].ID || d.Licences[0].Text != "the text"), p.Name == "odd" && p.Declared != "":
			t.Errorf("%+v, texts %+v", p, d.Licences)
		case p.Name == "app" && !strings.Contains(p.Comment, "0000 attached to nginx:1 is not used: "):
			t.Errorf("%+v", p)
		}
	}
}
