package boot

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	linux "github.com/pantavisor/pantavisor/formats/extlinux"
	"github.com/pantavisor/pantavisor/revision/trail"
)

// extlinuxBoot does what the loader does: it returns the revision and the try of the command
// line of the default entry.
func extlinuxBoot(t *testing.T, dir string) (rev, try string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, trail.ExtlinuxFile))
	if err != nil {
		t.Fatal(err)
	}
	c := linux.Parse(text)
	e := c.Entry(c.Default)
	if e == nil {
		t.Fatalf("the default is not an entry:\n%s", text)
	}
	for _, w := range strings.Fields(e.Append) {
		key, value, _ := strings.Cut(w, "=")
		switch key {
		case "pv_rev":
			rev = value
		case "pv_try":
			try = value
		}
	}
	if want := "/trails/" + rev + "/.pv/pv-kernel.img"; e.Kernel != want || !strings.Contains(e.Append, "console=ttyS0 panic=5 rdinit=/init") {
		t.Errorf("entry %s has kernel %s and arguments %s", e.Label, e.Kernel, e.Append)
	}
	return rev, try
}

// extlinuxStore returns a store as the build makes it, and its storage.
func extlinuxStore(t *testing.T) (Store, string) {
	t.Helper()
	dir := t.TempDir()
	text, err := trail.Extlinux{Good: "0", Arguments: "console=ttyS0 panic=5", DeviceTree: func(string) bool { return false }}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, trail.ExtlinuxFile)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, text, 0o644); err != nil {
		t.Fatal(err)
	}
	s, err := Open("extlinux", dir)
	if err != nil {
		t.Fatal(err)
	}
	if Detect(dir) != "extlinux" {
		t.Error("the store is not found")
	}
	return s, dir
}

// start boots the device up to the mounted storage.
func start(t *testing.T, s Store, dir string) Running {
	t.Helper()
	rev, _ := extlinuxBoot(t, dir)
	values, err := s.Load()
	if err != nil {
		t.Fatal(err)
	}
	r := Decide(rev, values)
	if err := Started(s, r); err != nil {
		t.Fatal(err)
	}
	return r
}

// The tests do not run in parallel: a file system can be frozen once at a time.

// TestExtlinuxHandshake goes through updates: one that is committed, one that fails and one
// that is tried anew after that. A boot after a power cut is one boot more.
func TestExtlinuxHandshake(t *testing.T) {
	s, dir := extlinuxStore(t)
	do := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	boots := func(rev string, state State) {
		t.Helper()
		if r := start(t, s, dir); r.Rev != rev || r.State != state {
			t.Errorf("revision %s runs (%v), want %s (%v)", r.Rev, r.State, rev, state)
		}
	}
	boots("0", Steady)
	do("try", s.SetTry("1"))
	boots("1", Trying)
	do("commit", s.Commit("1"))
	boots("1", Steady)
	do("try", s.SetTry("locals/x"))
	boots("locals/x", Trying) // and crashes
	boots("1", RolledBack)
	boots("1", RolledBack) // the power was cut before it was noted
	do("note", s.ClearTry())
	boots("1", Steady)
	do("try", s.SetTry("locals/x"))
	boots("locals/x", Trying)
	do("commit", s.Commit("locals/x"))
	boots("locals/x", Steady)
}

// TestExtlinuxFiles: the device tree of a revision is used, addons are an error, and a file
// that is lost is made again from the command line of the kernel.
func TestExtlinuxFiles(t *testing.T) {
	s, dir := extlinuxStore(t)
	put := func(name string) {
		t.Helper()
		name = filepath.Join(dir, "trails", name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	put("1/.pv/pv-fdt.dtb")
	put("2/.pv/pv-initrd.img.0")
	if err := s.SetTry("1"); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, trail.ExtlinuxFile))
	if err != nil || !strings.Contains(string(text), "  FDT /trails/1/.pv/pv-fdt.dtb\n") || strings.Contains(string(text), "/trails/0/.pv/pv-fdt.dtb") {
		t.Errorf("%v:\n%s", err, text)
	}
	if err := s.SetTry("2"); err == nil || !strings.Contains(err.Error(), "addons") {
		t.Errorf("a revision with addons: %v", err)
	}
	if v, err := s.Load(); err != nil || v.Try != "1" {
		t.Errorf("the store has %+v: %v", v, err)
	}

	if err := os.WriteFile(filepath.Join(dir, trail.ExtlinuxFile), []byte("garbage"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Load(); err == nil {
		t.Error("garbage was read")
	}
	if err := s.Commit("3"); err != nil {
		t.Fatal(err)
	}
	if v, err := s.Load(); err != nil || v.Rev != "3" {
		t.Errorf("the store has %+v: %v", v, err)
	}
}
