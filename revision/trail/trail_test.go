package trail

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/revision/state"
)

// storage is a device's storage under construction.
type storage struct {
	dir   string
	store *objects.Store
}

func newStorage(t *testing.T) storage {
	t.Helper()
	dir := t.TempDir()
	store, err := objects.Create(filepath.Join(dir, "objects"))
	if err != nil {
		t.Fatal(err)
	}
	return storage{dir, store}
}

func (s storage) trail(rev string) string { return filepath.Join(s.dir, "trails", rev) }

// state stores each content and returns the document that names them; values that
// start with '{' are inline.
func (s storage) state(t *testing.T, files map[string]string) *state.State {
	t.Helper()
	st := state.New(state.Spec)
	for path, content := range files {
		if state.IsInline(path) {
			if err := st.Set(path, []byte(content)); err != nil {
				t.Fatal(err)
			}
			continue
		}
		sum, err := s.store.Put(context.Background(), strings.NewReader(content), "")
		if err != nil {
			t.Fatal(err)
		}
		if err := st.SetObject(path, sum); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(s.dir, "trails"), 0o755); err != nil {
		t.Fatal(err)
	}
	return st
}

var device = map[string]string{
	"bsp/run.json":   `{"linux":"kernel.img","initrd":"pantavisor","fdt":"board.dtb","addons":["z.cpio","a.cpio"]}`,
	"bsp/kernel.img": "kernel", "bsp/pantavisor": "initrd", "bsp/board.dtb": "dtb", "bsp/z.cpio": "addon z", "bsp/a.cpio": "addon a",
	"app/run.json":      `{ "name": "app", "n": 1.0 }`,
	"app/root.squashfs": "root", "app/etc.bind": "writable", "app/deep/er/file": "root",
	"_config/app/x.json": `[]`,
}

func checkout(t *testing.T, dir string, st *state.State, store *objects.Store, opt Options) {
	t.Helper()
	if err := Checkout(context.Background(), dir, st, store, opt); err != nil {
		t.Fatal(err)
	}
}

// files returns path to content of everything below dir.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		data, err := os.ReadFile(path)
		out[rel] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func inode(t *testing.T, path string) (ino uint64, links uint64) {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	st := info.Sys().(*syscall.Stat_t)
	return st.Ino, uint64(st.Nlink) //nolint:unconvert // 32 bits wide on some architectures
}

// TestCheckoutOfWhatIsNotComplete: a deployment of pvtx keeps the configuration that is
// there, and a file of the BSP that the state lacks is no reason not to make the others.
func TestCheckoutOfWhatIsNotComplete(t *testing.T) {
	s := newStorage(t)
	st := s.state(t, map[string]string{"bsp/run.json": `{"linux":"kernel","initrd":"initrd"}`, "bsp/initrd": "initrd"})
	if err := Checkout(t.Context(), s.trail("0"), st, s.store, Options{}); err == nil || !strings.Contains(err.Error(), "bsp/kernel") {
		t.Errorf("without Missing: %v", err)
	}
	var missing []string
	checkout(t, s.trail("0"), st, s.store, Options{Config: []byte("as it was"), Missing: func(err error) { missing = append(missing, err.Error()) }})
	got := files(t, s.trail("0"))
	if len(missing) != 1 || !strings.Contains(missing[0], "bsp/kernel") || got[".pvr/config"] != "as it was" || got[".pv/pv-initrd.img"] != "initrd" || got[".pv/pv-kernel.img"] != "" {
		t.Errorf("missing %v, files %v", missing, got)
	}
}

func TestCheckoutTree(t *testing.T) {
	s := newStorage(t)
	doc := s.state(t, device).Encode()
	raw := " " + string(doc) + "\n"
	st, err := state.Parse([]byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	checkout(t, s.trail("0"), st, s.store, Options{})
	want := map[string]string{
		".pvr/json": raw, ".pvr/config": `{"ObjectsDir":"../../objects"}`,
		".pv/pv-kernel.img": "kernel", ".pv/pv-initrd.img": "initrd", ".pv/pv-fdt.dtb": "dtb",
		".pv/pv-initrd.img.0": "addon z", ".pv/pv-initrd.img.1": "addon a",
	}
	for path, content := range device {
		want[path] = content
	}
	want["bsp/run.json"] = `{"addons":["z.cpio","a.cpio"],"fdt":"board.dtb","initrd":"pantavisor","linux":"kernel.img"}`
	want["app/run.json"] = `{"n":1,"name":"app"}`
	if diff := cmp.Diff(want, files(t, s.trail("0"))); diff != "" {
		t.Error(diff)
	}
	checkLinks(t, s, st)
	if left, _ := filepath.Glob(filepath.Join(s.dir, "trails", ".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := verify(context.Background(), s.trail("0"), st, s.store, true, nil); err != nil {
		t.Error(err)
	}
}

func checkLinks(t *testing.T, s storage, st *state.State) {
	t.Helper()
	same := func(a, key string, want bool) {
		sum, _ := st.Object(key)
		path, _ := s.store.Path(sum)
		got, _ := inode(t, filepath.Join(s.trail("0"), a))
		object, _ := inode(t, path)
		if (got == object) != want {
			t.Errorf("%s is the object of %s: %v, want %v", a, key, !want, want)
		}
	}
	same("bsp/kernel.img", "bsp/kernel.img", true)
	same(".pv/pv-kernel.img", "bsp/kernel.img", true)
	same(".pv/pv-initrd.img.1", "bsp/a.cpio", true)
	same("app/etc.bind", "app/etc.bind", false)
	sum, _ := st.Object("app/root.squashfs")
	path, _ := s.store.Path(sum)
	if _, links := inode(t, path); links != 3 {
		t.Errorf("an object of two paths has %d links", links)
	}
	if _, links := inode(t, filepath.Join(s.trail("0"), "app/run.json")); links != 1 {
		t.Errorf("an inline file has %d links", links)
	}
}

func TestFixedTimes(t *testing.T) {
	s := newStorage(t)
	when := time.Unix(1577836800, 0)
	checkout(t, s.trail("0"), s.state(t, device), s.store, Options{Time: when})
	err := filepath.WalkDir(s.trail("0"), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && !info.ModTime().Equal(when) {
			t.Errorf("%s has the time %v", path, info.ModTime())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestModesIgnoreUmask(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o077))
	s := newStorage(t)
	checkout(t, s.trail("0"), s.state(t, device), s.store, Options{})
	for path, want := range map[string]fs.FileMode{"app": 0o755, "app/run.json": 0o644, "app/etc.bind": 0o644, ".pvr/json": 0o644, "app/root.squashfs": 0o644} {
		info, err := os.Stat(filepath.Join(s.trail("0"), path))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
}

func TestLocalRevision(t *testing.T) {
	s := newStorage(t)
	checkout(t, s.trail("locals/r"), s.state(t, map[string]string{"a/x": "1"}), s.store, Options{})
	if got := files(t, s.trail("locals/r"))[".pvr/config"]; got != `{"ObjectsDir":"../../../objects"}` {
		t.Errorf("config %s", got)
	}
}

func TestExistingDirectory(t *testing.T) {
	s := newStorage(t)
	first, second := s.state(t, map[string]string{"a/x": "1", "a/gone": "2"}), s.state(t, map[string]string{"a/x": "3"})
	checkout(t, s.trail("1"), first, s.store, Options{})
	if err := Checkout(context.Background(), s.trail("1"), second, s.store, Options{}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("an existing trail is overwritten: %v", err)
	}
	// What a killed checkout left behind does not hinder and does not get in.
	stale := filepath.Join(s.dir, "trails/.1.tmp/evil")
	if err := os.MkdirAll(stale, 0o755); err != nil {
		t.Fatal(err)
	}
	checkout(t, s.trail("1"), second, s.store, Options{Replace: true, ObjectsDir: "/storage/objects"})
	want := map[string]string{"a/x": "3", ".pvr/json": string(second.Encode()), ".pvr/config": `{"ObjectsDir":"/storage/objects"}`}
	if diff := cmp.Diff(want, files(t, s.trail("1"))); diff != "" {
		t.Error(diff)
	}
	checkout(t, s.trail("2"), second, s.store, Options{Replace: true})
}

func TestMissingObjectsWriteNothing(t *testing.T) {
	s := newStorage(t)
	st := s.state(t, device)
	if err := st.SetObject("app/lost", strings.Repeat("a", 64)); err != nil {
		t.Fatal(err)
	}
	err := Checkout(context.Background(), s.trail("0"), st, s.store, Options{})
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "app/lost") {
		t.Errorf("error %v", err)
	}
	if left, _ := os.ReadDir(filepath.Join(s.dir, "trails")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestCancelledCheckoutLeavesNothing(t *testing.T) {
	s := newStorage(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := Checkout(ctx, s.trail("0"), s.state(t, device), s.store, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if left, _ := os.ReadDir(filepath.Join(s.dir, "trails")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestBootLinks(t *testing.T) {
	sum := `"` + strings.Repeat("0", 64) + `"`
	cases := []struct {
		name, doc string
		want      []BootLink
		bad       bool
	}{
		{name: "no BSP", doc: `{}`},
		{name: "fit wins", doc: `{"bsp/run.json":{"fit":"f","rpiab":"r","linux":"k"},"bsp/f":` + sum + `}`, want: []BootLink{{"pantavisor.fit", "bsp/f"}}},
		{name: "rpiab", doc: `{"bsp/run.json":{"rpiab":"r.img","linux":"k"},"bsp/r.img":` + sum + `}`, want: []BootLink{{"rpiboot.img", "bsp/r.img"}}},
		{name: "efiab.gz", doc: `{"bsp/run.json":{"efiab":"e.gz"},"bsp/e.gz":` + sum + `}`, want: []BootLink{{"efiboot.img.gz", "bsp/e.gz"}}},
		{name: "rpiab.gz", doc: `{"bsp/run.json":{"rpiab":"r.gz"},"bsp/r.gz":` + sum + `}`, want: []BootLink{{"rpiboot.img.gz", "bsp/r.gz"}}},
		{name: "older names", doc: `{"bsp/run.json":{"kernel":"k","pantavisor":"i"},"bsp/k":` + sum + `,"bsp/i":` + sum + `}`, want: []BootLink{{"pv-kernel.img", "bsp/k"}, {"pv-initrd.img", "bsp/i"}}},
		{name: "customary files", doc: `{"bsp/run.json":{},"bsp/kernel.img":` + sum + `,"bsp/pantavisor":` + sum + `}`, want: []BootLink{{"pv-kernel.img", "bsp/kernel.img"}, {"pv-initrd.img", "bsp/pantavisor"}}},
		{name: "missing file", doc: `{"bsp/run.json":{"linux":"k"}}`, bad: true},
		{name: "outside", doc: `{"bsp/run.json":{"linux":"../app/x"},"app/x":` + sum + `}`, bad: true},
	}
	for _, c := range cases {
		st, err := state.Parse([]byte(c.doc))
		if err != nil {
			t.Fatal(err)
		}
		got, err := BootLinks(st, nil)
		if (err != nil) != c.bad || !cmp.Equal(got, c.want) {
			t.Errorf("%s: %v, %v", c.name, got, err)
		}
	}
}

func TestVerifyNamesEveryDamage(t *testing.T) {
	s := newStorage(t)
	st := s.state(t, device)
	dir := s.trail("0")
	checkout(t, dir, st, s.store, Options{})
	damage := func(path string, f func(string) error) {
		if err := f(filepath.Join(dir, path)); err != nil {
			t.Fatal(err)
		}
	}
	damage("bsp/kernel.img", os.Remove)
	damage("app/run.json", func(p string) error { return os.WriteFile(p, []byte("{}"), 0o644) })
	damage("bsp/board.dtb", func(p string) error {
		data, err := os.ReadFile(p)
		return errors.Join(err, os.Remove(p), os.WriteFile(p, data, 0o644))
	})
	damage("bsp/a.cpio", func(p string) error { return os.WriteFile(p, bytes.Repeat([]byte("x"), 7), 0o644) })
	err := verify(context.Background(), dir, st, s.store, true, func(path string) bool { return path == "bsp/z.cpio" })
	for _, path := range []string{"bsp/kernel.img", "app/run.json", "bsp/board.dtb", "bsp/a.cpio"} {
		if err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s is not named in: %v", path, err)
		}
	}
	if !errors.Is(err, errDamaged) || !errors.Is(err, objects.ErrMismatch) || strings.Contains(err.Error(), "z.cpio") {
		t.Errorf("error %v", err)
	}
}
