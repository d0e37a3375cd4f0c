package pvtx

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRecordOfLongPaths(t *testing.T) {
	t.Parallel()
	r := record{phase: phaseActive, objects: strings.Repeat("o", maxPath-1), queue: strings.Repeat("q", maxPath-1), count: 1<<31 - 1}
	b, err := r.encode()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := decodeRecord(b); err != nil || got != r {
		t.Errorf("%v, %v", got, err)
	}
	for _, r := range []record{{objects: strings.Repeat("o", maxPath)}, {queue: strings.Repeat("q", maxPath)}} {
		if _, err := r.encode(); err == nil {
			t.Error("a path that does not fit is cut")
		}
	}
}

func FuzzRecord(f *testing.F) {
	for _, r := range []record{{}, {phase: phaseQueue, objects: "/o", queue: "/q", count: 3}, {phase: phaseDeployed, objects: "/o"}} {
		b, err := r.encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeRecord(b)
		if err != nil || len(r.objects) == maxPath || len(r.queue) == maxPath {
			return
		}
		again, err := r.encode()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := decodeRecord(again); err != nil || got != r {
			t.Fatalf("%v becomes %v, %v", r, got, err)
		}
	})
}

func TestEntriesOfAQueue(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"1000__last.remove", "999__a%252Fb%2Fc.remove", "000__first.remove", "12__short.remove", "x__y.remove", "001__.remove", "002__no", "-03__x.remove"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"003__p.tgz", ".new-1", "other"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	got, err := entries(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := []entry{{0, "000__first.remove", "first"}, {3, "003__p.tgz", ""}, {999, "999__a%252Fb%2Fc.remove", "a%2Fb/c"}, {1000, "1000__last.remove", "last"}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(entry{})); diff != "" {
		t.Error(diff)
	}
	if got := escape.Replace("a%2Fb/c"); got != "a%252Fb%2Fc" {
		t.Error(got)
	}
}

// TestQueueAfterAPowerCut: the step is there and the record does not know it yet.
func TestQueueAfterAPowerCut(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tx, queue := New(Options{Dir: filepath.Join(dir, "tx")}), filepath.Join(dir, "queue")
	if err := tx.NewQueue(queue, filepath.Join(dir, "objects")); err != nil {
		t.Fatal(err)
	}
	before, err := load(tx.opt.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"a", "b"} {
		if err := tx.QueueRemove(part); err != nil {
			t.Fatal(err)
		}
		if err := before.store(tx.opt.Dir); err != nil {
			t.Fatal(err)
		}
	}
	got, err := entries(queue)
	if err != nil || !slices.EqualFunc(got, []string{"000__a.remove", "001__b.remove"}, func(e entry, name string) bool { return e.name == name }) {
		t.Errorf("%v, %v", got, err)
	}
	if err := tx.QueueRemove(strings.Repeat("x", 250)); err == nil || !strings.Contains(err.Error(), "too long") {
		t.Errorf("a long name: %v", err)
	}
	if err := tx.NewQueue(queue, ""); err != nil {
		t.Fatal(err)
	}
	if got, err := entries(queue); err != nil || len(got) > 0 {
		t.Errorf("a new queue has %v, %v", got, err)
	}
}
