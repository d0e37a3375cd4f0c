package step

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/revision/objects"
)

// storage is a storage whose revisions 1 and 2 are to be kept.
type storage struct {
	t       *testing.T
	dir     string
	garbage *Garbage
	objects *objects.Store
}

func newStorage(t *testing.T) *storage {
	t.Helper()
	s := &storage{t: t, dir: t.TempDir()}
	store, err := objects.Create(filepath.Join(s.dir, "objects"))
	if err != nil {
		t.Fatal(err)
	}
	s.objects = store
	s.garbage = &Garbage{
		Steps: Open(s.dir), Objects: store.Dir(),
		Keep:   func() ([]string, error) { return []string{"1", "2"}, nil },
		Beside: func(rev string) []string { return []string{filepath.Join(s.dir, "logs", rev)} },
	}
	return s
}

// object stores an object and returns its name.
func (s *storage) object(text string) string {
	s.t.Helper()
	sum, err := s.objects.Put(s.t.Context(), strings.NewReader(text), "")
	if err != nil {
		s.t.Fatal(err)
	}
	return sum
}

// revision stores a revision with an object for each text, a log, and links to the objects.
func (s *storage) revision(rev string, texts ...string) {
	s.t.Helper()
	var b strings.Builder
	b.WriteString(`{"#spec":"pantavisor-service-system@1"`)
	for i, text := range texts {
		fmt.Fprintf(&b, `,"app/%d":"%s"`, i, s.object(text))
	}
	b.WriteString("}")
	err := s.garbage.Steps.Put(rev, []byte(b.String()))
	f, err2 := s.garbage.Steps.Files(rev, s.objects.Dir())
	if err = errors.Join(err, err2); err == nil {
		err = f.Restore(func(string) bool { return true })
	}
	s.file(filepath.Join("logs", rev, "log"), "a line")
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *storage) file(name, text string) {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		s.t.Fatal(err)
	}
}

// old makes everything a day old, and as of another run of the runtime.
func (s *storage) old() {
	s.t.Helper()
	s.garbage.Steps.recent.at = nil
	s.stamp(time.Now().Add(-24 * time.Hour))
}

func (s *storage) stamp(at time.Time) {
	s.t.Helper()
	for _, name := range s.files() {
		if err := os.Chtimes(filepath.Join(s.dir, name), at, at); err != nil {
			s.t.Fatal(err)
		}
	}
}

// files lists all files.
func (s *storage) files() (list []string) {
	s.t.Helper()
	err := filepath.WalkDir(s.dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			list = append(list, strings.TrimPrefix(path, s.dir+"/"))
		}
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return list
}

// left returns the revisions and the number of objects.
func (s *storage) left() string {
	s.t.Helper()
	revs, err := s.garbage.Steps.List()
	sums, err2 := s.objects.List()
	if err = errors.Join(err, err2); err != nil {
		s.t.Fatal(err)
	}
	return fmt.Sprint(revs, len(sums))
}

func (s *storage) collect() (freed int64) {
	s.t.Helper()
	freed, err := s.garbage.Collect(context.Background())
	if err != nil {
		s.t.Fatal(err)
	}
	return freed
}

// TestWhatCameLatelyIsKept has an object without a revision, a revision that has not been run,
// and one that failed.
func TestWhatCameLatelyIsKept(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		age   time.Duration // of the files
		known bool          // this run of the runtime has seen them come
		wait  time.Duration
		left  string
	}{
		{"now", 0, true, time.Hour, "[1 locals/new] 3"},
		{"before the clock was set", 50 * 365 * 24 * time.Hour, true, time.Hour, "[1 locals/new] 3"},
		{"before a new start", 30 * time.Minute, false, time.Hour, "[1 locals/new] 3"},
		{"long ago", 2 * time.Hour, false, time.Hour, "[1] 1"},
		{"in the future", -2 * time.Hour, false, time.Hour, "[1] 1"},
		{"without a defer time", 0, true, 0, "[1] 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newStorage(t)
			s.garbage.Defer = c.wait
			s.revision("1", "kept")
			s.revision("locals/new", "new")
			s.revision("locals/failed", "failed")
			if err := s.garbage.Steps.SetProgress("locals/failed", Progress{Status: "ERROR"}); err != nil {
				t.Fatal(err)
			}
			s.garbage.Steps.Came(s.object("nobody's"))
			failed := s.object("failed") // its revision came, but it did not
			s.stamp(time.Now().Add(-c.age))
			if !c.known {
				s.garbage.Steps.recent.at = nil
			}
			if err := os.Chtimes(filepath.Join(s.objects.Dir(), failed), time.Time{}, time.Unix(0, 0)); err != nil {
				t.Fatal(err)
			}
			unpin := s.garbage.Steps.Pin()
			reclaimable, err := s.garbage.Reclaimable()
			unpin()
			if freed := s.collect(); err != nil || freed != reclaimable {
				t.Errorf("freed %d bytes, foreseen were %d, %v", freed, reclaimable, err)
			}
			if got := s.left(); got != c.left {
				t.Errorf("left are %s, want %s", got, c.left)
			}
		})
	}
}

func TestSentObjectIsKept(t *testing.T) {
	t.Parallel()
	s := newStorage(t)
	s.garbage.Defer = time.Hour
	sum := s.object("an old one that a client relies on")
	s.old()
	s.garbage.Steps.Came(sum)
	s.collect()
	if !s.objects.Has(sum) {
		t.Error("it was removed")
	}
}

// TestNobodyReliesOnGarbage collects while a client checks the objects of a state.
func TestNobodyReliesOnGarbage(t *testing.T) {
	t.Parallel()
	s := newStorage(t)
	s.object("old")
	unpin := s.garbage.Steps.Pin()
	done := make(chan struct{})
	s.garbage.Keep = func() ([]string, error) { close(done); return nil, nil }
	ended := make(chan error)
	go func() { _, err := s.garbage.Collect(context.Background()); ended <- err }()
	select {
	case <-done:
		t.Error("it looked for garbage")
	case <-time.After(20 * time.Millisecond):
	}
	unpin()
	if err := <-ended; err != nil || s.left() != "[] 0" {
		t.Errorf("afterwards: %v, left are %s", err, s.left())
	}
}

// TestLeftoversGo has what a power cut leaves of a put, of a removal and of a checkout.
func TestLeftoversGo(t *testing.T) {
	t.Parallel()
	s := newStorage(t)
	s.revision("1")
	s.revision("3")
	for _, dir := range []string{".put-123", ".trash-7", ".trash-3", "locals/.put-4", "locals/.trash-5", ".9.tmp", ".2.tmp"} {
		s.file("trails/"+dir+"/.pvr/json", "1234567")
	}
	s.file("logs/7/log", "of the revision that was being removed")
	s.file("logs/locals/5/log", "of the other")
	s.file("objects/."+strings.Repeat("0", 64)+".tmp-17", "an upload")
	s.collect()
	want := []string{"logs/1/log", "trails/1/.pv/progress", "trails/1/.pvr/json"}
	if diff := cmp.Diff(want, s.files()); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
	if dirs, err := os.ReadDir(filepath.Join(s.dir, "trails")); err != nil || len(dirs) != 2 {
		t.Errorf("directories %v, %v", dirs, err)
	}
}

// TestDoubtKeepsEverything has a revision to be kept whose state cannot be read.
func TestDoubtKeepsEverything(t *testing.T) {
	t.Parallel()
	s := newStorage(t)
	s.revision("1", "a")
	s.revision("3", "b")
	s.file("trails/1/.pvr/json", "{")
	before := s.files()
	if _, err := s.garbage.Collect(context.Background()); err == nil || !slices.Equal(before, s.files()) {
		t.Errorf("%v; left are %v of %v", err, s.files(), before)
	}
	s.garbage.Keep = func() ([]string, error) { return nil, errors.New("the loader's store is damaged") }
	if _, err := s.garbage.Collect(context.Background()); err == nil || !slices.Equal(before, s.files()) {
		t.Errorf("%v; left are %v of %v", err, s.files(), before)
	}
	if _, err := s.garbage.Reclaimable(); err == nil {
		t.Error("it is known what could be freed")
	}
}
