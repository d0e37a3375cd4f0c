package remote

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/revision/objects"
)

func TestSweepPartials(t *testing.T) {
	t.Parallel()
	store := newStore(t, "object")
	old := time.Now().Add(-48 * time.Hour)
	for name, at := range map[string]time.Time{sumOf([]byte("old")): old, sumOf([]byte("new")): time.Now(), "foreign": old} {
		path := partialName(store.Dir(), name)
		if err := os.WriteFile(path, []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	busy, err := openPartial(store, sumOf([]byte("busy")))
	if err != nil {
		t.Fatal(err)
	}
	defer busy.close()
	if err := os.Chtimes(busy.file.Name(), old, old); err != nil {
		t.Fatal(err)
	}
	if err := SweepPartials(store, 24*time.Hour); err != nil {
		t.Fatal(err)
	}
	left := map[string]bool{}
	for _, name := range leftovers(t, store) {
		left[name] = true
	}
	want := map[string]bool{".foreign.part": true}
	for _, text := range []string{"new", "busy"} {
		want[filepath.Base(partialName("", sumOf([]byte(text))))] = true
	}
	if diff := cmp.Diff(want, left); diff != "" || !store.Has(sumOf([]byte("object"))) {
		t.Error(diff)
	}
}

// A partial file cannot be taken for an object, and a link in its place is not
// followed.
func TestPartialName(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	sum := sumOf([]byte("x"))
	victim := filepath.Join(t.TempDir(), "victim")
	if err := os.WriteFile(victim, []byte("keep"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(victim, partialName(store.Dir(), sum)); err != nil {
		t.Fatal(err)
	}
	if _, err := openPartial(store, sum); err == nil {
		t.Error("the link was followed")
	}
	if list, err := store.List(); err != nil || len(list) != 0 {
		t.Errorf("%q, %v", list, err)
	}
	if _, err := openPartial(store, "../../etc/passwd"); err == nil {
		t.Error("a name that is not an object was taken")
	}
}

func BenchmarkGet(b *testing.B) {
	data := pattern(64<<20, 1)
	f := newFake(b)
	f.hold(map[string][]byte{"bsp/kernel.img": data})
	defer f.Close()
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		store, err := objects.Create(filepath.Join(b.TempDir(), "o"))
		if err != nil {
			b.Fatal(err)
		}
		c, err := New(Options{Proxy: "no"})
		if err != nil {
			b.Fatal(err)
		}
		u, err := ParseURL(f.URL + "/trails/t")
		if err != nil {
			b.Fatal(err)
		}
		if _, err := c.Get(b.Context(), Reference{URL: u}, store, GetOptions{}); err != nil {
			b.Fatal(err)
		}
		c.Close()
	}
}
