package device

import (
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/revision/state"
	"github.com/pantavisor/pantavisor/runtime/meta"
)

// TestClaimed boots a device before its claim, with an owner, and after that has gone.
func TestClaimed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, boot := range []struct {
		claimed   bool
		now, ever string
	}{{false, "0", "0"}, {true, "1", "1"}, {false, "0", "1"}} {
		store, err := meta.Open(meta.Options{Kind: meta.Device, Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		d := &deviceMeta{Store: store, storage: dir, reserved: func() int { return 0 }}
		d.describe("test", "0", boot.claimed)
		now, _ := store.Get("pantahub.claimed")
		if ever, _ := store.Get("pantavisor.claimed"); now != boot.now || ever != boot.ever {
			t.Errorf("claimed %v: pantahub.claimed is %q, pantavisor.claimed %q, want %q and %q", boot.claimed, now, ever, boot.now, boot.ever)
		}
	}
}

// TestSupport has what revisions say of support, one after the other.
func TestSupport(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	store, err := meta.Open(meta.Options{Kind: meta.Device, Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	d := &deviceMeta{Store: store, storage: dir, reserved: func() int { return 0 }}
	for _, c := range []struct{ build, want string }{
		{`{}`, ""},
		{`{"support_end":"2031-12-31","security_contact":"security@example.com","manufacturer":"A & B"}`, `{"end":"2031-12-31","contact":"security@example.com","manufacturer":"A \u0026 B"}`},
		{`{"support_end":"2032-12-31"}`, `{"end":"2032-12-31"}`},
		{`{"target":"x"}`, ""},
		{`{"support_end":7}`, ""},
		{`[]`, ""},
	} {
		st, err := state.Parse([]byte(`{"bsp/build.json":` + c.build + `}`))
		if err != nil {
			t.Fatal(err)
		}
		d.support(st)
		if got, _ := store.Get("pantavisor.support"); got != c.want {
			t.Errorf("of %s: %s, want %s", c.build, got, c.want)
		}
	}
	d.support(nil)
}

// TestArchitecture has the names that devices have always published.
func TestArchitecture(t *testing.T) {
	for goarch, want := range map[string]string{"amd64": "x86_64", "arm64": "aarch64", "arm": "arm", "mips": "mips", "mipsle": "mips", "riscv64": "riscv64"} {
		if got := architectureOf(goarch); got != want {
			t.Errorf("%s is %q, want %q", goarch, got, want)
		}
	}
	for goarch, want := range map[string]string{"amd64": "x86_64/64/EL", "arm64": "aarch64/64/EL", "arm": "arm/32/EL"} {
		if got := architecture(); goarch == runtime.GOARCH && got != want {
			t.Errorf("this machine is %q, want %q", got, want)
		}
	}
	if strings.Count(architecture(), "/") != 2 {
		t.Errorf("%q is not ARCH/BITS/ORDER", architecture())
	}
}

// TestListingWritesNothing asks for the metadata, which pages do every second: flash memory has none of it.
func TestListingWritesNothing(t *testing.T) {
	dir := t.TempDir()
	store, err := meta.Open(meta.Options{Kind: meta.Device, Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	d := &deviceMeta{Store: store, storage: dir, reserved: func() int { return 5 }}
	d.describe("1", "0", false)
	before := metaFiles(t, dir)
	for range 2 {
		if err := d.List(io.Discard); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(before, metaFiles(t, dir)); diff != "" {
		t.Errorf("files changed (-before +after):\n%s", diff)
	}
}

// metaFiles returns the content of the files of a directory.
func metaFiles(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) == 0 {
		t.Fatalf("%d files, %v", len(entries), err)
	}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		out[e.Name()] = string(text)
	}
	return out
}
