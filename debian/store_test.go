package debian

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// memoryArchive is an archive in memory.
type memoryArchive struct {
	files    map[string]string // by archive path
	newest   []Entry
	down     bool
	resolved int
}

func (s *memoryArchive) Resolve(context.Context, Request) ([]Entry, error) {
	s.resolved++
	if s.down {
		return nil, fault.New(fault.Unreachable, "the archive does not answer")
	}
	return s.newest, nil
}

func (s *memoryArchive) Download(_ context.Context, e Entry, file string) error {
	text, ok := s.files[e.Path]
	switch {
	case s.down:
		return fault.New(fault.Unreachable, "the archive does not answer")
	case !ok:
		return fault.New(fault.Missing, "404")
	}
	return os.WriteFile(file, []byte(text), 0o644)
}

func (s *memoryArchive) put(name, version, content string) Entry {
	e := entry(name, version, "0")
	sum := sha256.Sum256([]byte(content))
	e.SHA256, e.Size = hex.EncodeToString(sum[:]), int64(len(content))
	s.files[e.Path] = content
	return e
}

// newStore returns a store in front of a memoryArchive, and a lock with one package.
func newStore(t *testing.T) (*Store, *memoryArchive, *Lock, Entry) {
	t.Helper()
	s := &memoryArchive{files: map[string]string{}}
	old := s.put("linux-image-6.1.0-1-amd64", "1", "old kernel")
	l := &Lock{}
	l.replace(kernelReq, []Entry{old})
	return &Store{Dir: filepath.Join(t.TempDir(), "downloads"), Archive: s}, s, l, old
}

func refresh(t *testing.T, s *Store, l *Lock, o Options) (*Lock, []Replacement) {
	t.Helper()
	fresh, replaced, err := s.Refresh(t.Context(), l, []Request{kernelReq}, o)
	if err != nil {
		t.Fatal(err)
	}
	return fresh, replaced
}

func TestSecondBuildNeedsNoNetwork(t *testing.T) {
	store, archive, lock, old := newStore(t)
	if _, replaced := refresh(t, store, lock, Options{}); replaced != nil {
		t.Fatalf("replaced %v", replaced)
	}
	archive.down = true
	fresh, _ := refresh(t, store, lock, Options{Locked: true})
	if file, err := store.Get(t.Context(), fresh.Entries(kernelReq)[0]); err != nil || !strings.Contains(file, old.SHA256) {
		t.Errorf("from the cache: %q, %v", file, err)
	}
	if archive.resolved != 0 {
		t.Error("the archive was asked although everything was cached")
	}
}

func TestGonePackageIsReplacedAndRemembered(t *testing.T) {
	store, archive, lock, old := newStore(t)
	archive.newest = []Entry{archive.put("linux-image-6.1.0-2-amd64", "2", "new kernel")}
	delete(archive.files, old.Path)

	_, _, err := store.Refresh(t.Context(), lock, []Request{kernelReq}, Options{Locked: true, Target: "x64-uefi"})
	if fault.Of(err) != fault.Locked || !strings.Contains(err.Error(), "mage lock x64-uefi") {
		t.Errorf("locked: %v", err)
	}
	fresh, replaced := refresh(t, store, lock, Options{})
	want := []Replacement{{"kernel/amd64", "linux-image-6.1.0-1-amd64=1:amd64", "linux-image-6.1.0-2-amd64=2:amd64"}}
	if diff := cmp.Diff(want, replaced); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, err := store.Get(t.Context(), fresh.Entries(kernelReq)[0]); err != nil {
		t.Fatal(err)
	}
	if got := lock.Entries(kernelReq)[0].Version; got != "1" {
		t.Errorf("the lock itself was changed to version %s", got)
	}
	// In the second build the pinned package is neither cached nor reachable.
	asked := archive.resolved
	archive.down = true
	_, again := refresh(t, store, lock, Options{})
	if diff := cmp.Diff(replaced, again); diff != "" || archive.resolved != asked {
		t.Errorf("asked %d more times; (-first +second):\n%s", archive.resolved-asked, diff)
	}
}

func TestUnlockedRequest(t *testing.T) {
	store, archive, _, old := newStore(t)
	archive.newest = []Entry{old}
	_, replaced := refresh(t, store, &Lock{}, Options{})
	if len(replaced) != 1 || replaced[0].Old != "" || !strings.Contains(replaced[0].String(), "not locked") {
		t.Errorf("replaced %v", replaced)
	}
	_, _, err := store.Refresh(t.Context(), &Lock{}, []Request{kernelReq}, Options{Locked: true, Target: "t"})
	if fault.Of(err) != fault.Locked {
		t.Errorf("locked: %v", err)
	}
}

func TestArchiveFaults(t *testing.T) {
	store, archive, lock, old := newStore(t)
	archive.down = true
	if _, _, err := store.Refresh(t.Context(), lock, []Request{kernelReq}, Options{}); fault.Of(err) != fault.Unreachable {
		t.Errorf("archive down: %v", err)
	}
	archive.down = false
	archive.files[old.Path] = "another one"
	if _, err := store.Get(t.Context(), old); fault.Of(err) != fault.Digest {
		t.Errorf("other content: %v", err)
	}
	if store.Has(old) {
		t.Error("content with a wrong digest was kept")
	}
	store.Archive = nil
	if _, err := store.Get(t.Context(), old); fault.Of(err) != fault.Unreachable {
		t.Errorf("no archive: %v", err)
	}
}

func TestDamagedCacheHeals(t *testing.T) {
	store, _, lock, old := newStore(t)
	refresh(t, store, lock, Options{})
	if err := os.WriteFile(store.file(old), []byte("bad kernel"), 0o644); err != nil {
		t.Fatal(err)
	}
	file, err := store.Get(t.Context(), old)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != "old kernel" {
		t.Errorf("content %q, %v", got, err)
	}
}

func TestDamagedCacheIsNamedWhenNothingReplacesIt(t *testing.T) {
	store, archive, lock, old := newStore(t)
	refresh(t, store, lock, Options{})
	if err := os.WriteFile(store.file(old), []byte("bad kernel"), 0o644); err != nil {
		t.Fatal(err)
	}
	archive.down = true
	_, err := store.Get(t.Context(), old)
	if fault.Of(err) != fault.Unreachable || !strings.Contains(err.Error(), store.file(old)+", is damaged") {
		t.Errorf("%v: %v", fault.Of(err), err)
	}
}

func TestEqualErrorsAreReportedOnce(t *testing.T) {
	store, archive, _, _ := newStore(t)
	archive.down = true
	_, err := store.Resolve(t.Context(), []Request{kernelReq, kernelReq, kernelReq})
	if err == nil || strings.Contains(err.Error(), "\n") || fault.Of(err) != fault.Unreachable {
		t.Errorf("%v: %v", fault.Of(err), err)
	}
}

func TestFetchStep(t *testing.T) {
	store, _, lock, _ := newStore(t)
	parts := NewParts(store, lock)
	f, err := parts.Fetch(kernelReq, "linux-image-*")
	if err != nil {
		t.Fatal(err)
	}
	if same, err := parts.Fetch(kernelReq, "linux-image-6.1.0-1-amd64"); err != nil || same != f {
		t.Errorf("one package has two steps: %v", err)
	}
	out := t.TempDir()
	if err := f.Run(t.Context(), build.NewWork(out, t.TempDir(), nil, nil)); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(out, packageFile)); err != nil || string(got) != "old kernel" {
		t.Errorf("output %q, %v", got, err)
	}
	if f.Name() != "fetch/linux-image-6.1.0-1-amd64_amd64" {
		t.Errorf("name %s", f.Name())
	}
}

func TestPruneKeepsWhatBuildsAskFor(t *testing.T) {
	store, archive, lock, old := newStore(t)
	other := archive.put("other", "1", "other content")
	refresh(t, store, lock, Options{})
	if _, err := store.Get(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	long := time.Now().Add(-100 * 24 * time.Hour)
	for _, e := range []Entry{old, other} {
		if err := os.Chtimes(store.file(e), long, long); err != nil {
			t.Fatal(err)
		}
	}
	refresh(t, store, lock, Options{})
	if err := store.Prune(90 * 24 * time.Hour); err != nil {
		t.Fatal(err)
	}
	if !store.Has(old) || store.Has(other) {
		t.Errorf("kept: %v; not asked for, but kept: %v", store.Has(old), store.Has(other))
	}
	if err := (&Store{Dir: filepath.Join(t.TempDir(), "none")}).Prune(0); err != nil {
		t.Errorf("without a directory: %v", err)
	}
}

// TestOtherPackagesStayPinned changes which packages a request lists: those that it keeps
// keep their versions, and only new ones come from the archive.
func TestOtherPackagesStayPinned(t *testing.T) {
	store, archive, _, _ := newStore(t)
	both := Request{Name: "containers", Suite: "bookworm", Arch: "amd64", Packages: []string{"aa", "bb"}}
	one, more := both, both
	one.Packages, more.Packages = []string{"aa"}, []string{"aa", "cc"}
	lock := &Lock{}
	lock.replace(both, []Entry{archive.put("aa", "1", "a"), archive.put("bb", "1", "b")})

	fewer, replaced, err := store.Refresh(t.Context(), lock, []Request{one}, Options{Locked: true})
	if err != nil || replaced != nil || len(fewer.Entries(one)) != 1 {
		t.Errorf("fewer packages: %v, %v, %v", fewer, replaced, err)
	}
	archive.newest = []Entry{archive.put("cc", "2", "c")}
	fresh, replaced, err := store.Refresh(t.Context(), lock, []Request{more}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range fresh.Entries(more) {
		got = append(got, e.String())
	}
	if diff := cmp.Diff([]string{"aa=1:amd64", "cc=2:amd64"}, got); diff != "" {
		t.Errorf("want(-), got(+):\n%s", diff)
	}
	if len(replaced) != 1 || replaced[0].New != "cc=2:amd64" {
		t.Errorf("replaced %v", replaced)
	}
	if _, _, err := store.Refresh(t.Context(), lock, []Request{more}, Options{Locked: true}); fault.Of(err) != fault.Locked {
		t.Errorf("locked: %v", err)
	}
}
