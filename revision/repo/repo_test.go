package repo

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/internal/filestat"
	"github.com/pantavisor/pantavisor/revision/archive"
	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/revision/state"
)

// What is known of an unchanged file is believed, which shows that the file is not
// read: the cache is made to hold
// another sum.
func TestStatusOfUnchangedTreeReadsNothing(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "x")
	newRepo(t, dir, "old")
	age(t, dir)
	r := open(t, dir, true)
	if _, err := r.Status(t.Context()); err != nil { // fills the cache
		t.Fatal(err)
	}
	c := r.loadCache()
	r.Close()
	if len(c.files) != 41 {
		t.Fatalf("%d files are remembered", len(c.files))
	}
	// A cache that lies shows that it is believed: the file is not read.
	k := c.files["part1/file1"]
	k.sum = sum32{1}
	c.files["part1/file1"], c.dirty = k, true
	c.save()
	r = open(t, dir, false)
	defer r.Close()
	got, err := r.Status(t.Context())
	want := []state.Change{{Key: "part1/file1", Op: state.Changed}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

// age makes all files old enough to be remembered: their change times are set by
// waiting for the clock, which a change of mode starts.
func age(t *testing.T, dir string) {
	t.Helper()
	newest := time.Now().Add(2 * tick)
	for time.Now().Before(newest) { // the kernel's clock is what is waited for
		if err := os.WriteFile(filepath.Join(t.TempDir(), "clock"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestChangedFilesAreSeen(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "x")
	newRepo(t, dir, "old")
	name := filepath.Join(dir, "part0/file0")
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	age(t, dir)
	r := open(t, dir, false)
	defer r.Close()
	if got, err := r.Status(t.Context()); err != nil || len(got) != 0 {
		t.Fatalf("%v, %v", got, err)
	}
	// Same size and modification time: only the change time tells.
	text := bytes.Repeat([]byte{'x'}, int(info.Size()))
	if err := os.WriteFile(name, text, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(name, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	got, err := r.Status(t.Context())
	want := []state.Change{{Key: "part0/file0", Op: state.Changed}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

func TestStatusFilters(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "x")
	newRepo(t, dir, "old")
	put(t, dir, "next")
	r := open(t, dir, false)
	defer r.Close()
	for name, want := range map[string]int{"part1": 10, "part1/": 10, "part1/file1": 1, "*": 1, "part*/file1?": 10, ".": 41} {
		got, err := r.Status(t.Context(), name)
		if err != nil || len(got) != want {
			t.Errorf("%s: %d changes, %v; want %d", name, len(got), err, want)
		}
	}
	if _, err := r.Status(t.Context(), "part1", "nothing"); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "nothing") {
		t.Errorf("a name that matches nothing: %v", err)
	}
	if _, err := r.Status(t.Context(), "["); err == nil {
		t.Error("a malformed pattern was taken")
	}
}

func TestRefs(t *testing.T) {
	t.Chdir(t.TempDir())
	newRepo(t, "x", "old")
	if err := os.WriteFile("a.tgz", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"10.0.0.7":              "http://10.0.0.7:12368/cgi-bin/pvr",
		"fe80::1#app":           "http://[fe80::1]:12368/cgi-bin/pvr",
		"https://h/t#a,-b":      "https://h/t",
		"nick/device":           "https://base/nick/device",
		"x/.pvr#_config/app":    "x/.pvr",
		"a.tgz":                 "a.tgz",
		"##spec":                "error",
		"x":                     "error",
		"word":                  "error",
		"a/b/c":                 "error",
		"/nosuch/path":          "error",
		"https://h/t#../../etc": "error",
	} {
		ref, err := ParseRef(text, "https://base/")
		got := ref.URL + ref.Path
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("%s: %q (%v), want %q", text, got, err, want)
		}
	}
	if _, err := ParseRef("word", ""); !errors.Is(err, ErrNick) {
		t.Errorf("one word: %v", err)
	}
}

func TestCheckoutStaysInside(t *testing.T) {
	t.Parallel()
	work := t.TempDir()
	dir, outside := filepath.Join(work, "x"), filepath.Join(work, "outside")
	newRepo(t, dir, "old")
	if err := os.Mkdir(outside, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "part0")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, "part0")); err != nil {
		t.Fatal(err)
	}
	r := open(t, dir, true)
	defer r.Close()
	if err := r.Checkout(t.Context(), CheckoutOptions{}); err == nil {
		t.Error("a link led out of the checkout")
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) != 0 {
		t.Errorf("outside: %v, %v", entries, err)
	}
}

func TestDamagedObjectIsNotCheckedOut(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "x")
	st := newRepo(t, dir, "old")
	sum, _ := st.Object("part0/file0")
	path := filepath.Join(filepath.Dir(dir), "objects-x", sum)
	if err := os.WriteFile(path, []byte("damaged"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "part0/file0")); err != nil {
		t.Fatal(err)
	}
	r := open(t, dir, true)
	defer r.Close()
	if err := r.Checkout(t.Context(), CheckoutOptions{}); !errors.Is(err, objects.ErrMismatch) {
		t.Errorf("%v", err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "part0/file0")); err == nil {
		t.Error("a damaged file appeared")
	}
}

func TestCloneLinksOwnObjects(t *testing.T) {
	t.Parallel()
	work := t.TempDir()
	newRepo(t, filepath.Join(work, "x"), "old")
	src, err := Local(filepath.Join(work, "x/.pvr"), true)
	if err != nil {
		t.Fatal(err)
	}
	opt := CloneOptions{Init: InitOptions{Objects: filepath.Join(work, "other")}}
	if err := Clone(t.Context(), src, Ref{Text: "x/.pvr"}, filepath.Join(work, "y"), opt); err != nil {
		t.Fatal(err)
	}
	r := open(t, filepath.Join(work, "y"), false)
	defer r.Close()
	sum := r.Committed().Sums()[0]
	a, errA := os.Stat(filepath.Join(work, "objects-x", sum))
	b, errB := os.Stat(filepath.Join(work, "other", sum))
	if err := errors.Join(errA, errB); err != nil || !os.SameFile(a, b) {
		t.Errorf("the object was copied (%v)", err)
	}
	if changes, err := r.Status(t.Context()); err != nil || len(changes) != 0 {
		t.Errorf("%v, %v", changes, err)
	}
	var stage *StageError
	if err := Clone(t.Context(), src, Ref{}, filepath.Join(work, "y"), opt); !errors.As(err, &stage) || stage.Stage != StagePlace {
		t.Errorf("onto a full directory: %v", err)
	}
}

// A clone of the same store has the files, all of them verified, and a damaged
// object is found although nothing had to be copied into the store.
func TestCloneWithinOneStore(t *testing.T) {
	t.Parallel()
	work := t.TempDir()
	dir := filepath.Join(work, "x")
	want := newRepo(t, dir, "old")
	src, err := Local(filepath.Join(dir, ".pvr"), true)
	if err != nil {
		t.Fatal(err)
	}
	opt := CloneOptions{Init: InitOptions{Objects: filepath.Join(work, "objects-x")}, Open: Options{Cache: filepath.Join(work, "cache")}}
	if err := Clone(t.Context(), src, Ref{Text: "x/.pvr"}, filepath.Join(work, "y"), opt); err != nil {
		t.Fatal(err)
	}
	r := open(t, filepath.Join(work, "y"), false)
	defer r.Close()
	for _, o := range want.Objects() {
		info, err := os.Lstat(filepath.Join(work, "y", o.Path))
		if err != nil || info.Mode() != objects.Perm {
			t.Errorf("%s: %v, %v", o.Path, info, err)
		}
	}
	if changes, err := r.Status(t.Context()); err != nil || len(changes) != 0 {
		t.Errorf("%v, %v", changes, err)
	}

	damaged := filepath.Join(work, "objects-x", want.Sums()[5])
	info, err := os.Stat(damaged)
	if err == nil {
		err = os.WriteFile(damaged, make([]byte, info.Size()), objects.Perm)
	}
	if err != nil {
		t.Fatal(err)
	}
	before := list(t, work)
	var stage *StageError
	err = Clone(t.Context(), src, Ref{}, filepath.Join(work, "z"), opt)
	if !errors.As(err, &stage) || stage.Stage != StageCheckout || !errors.Is(err, objects.ErrMismatch) {
		t.Errorf("a damaged object: %v", err)
	}
	if diff := cmp.Diff(before, list(t, work)); diff != "" {
		t.Errorf("something is left (-before +after):\n%s", diff)
	}
	if err := os.Remove(damaged); err != nil {
		t.Fatal(err)
	}
	err = Clone(t.Context(), src, Ref{}, filepath.Join(work, "z"), opt)
	if !errors.As(err, &stage) || stage.Stage != StageTransfer || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing object: %v", err)
	}
}

// list returns the names in a directory.
func list(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

// An object store within the checkout is neither added nor cleaned away; a directory
// that files of the state are in is not a store to hide.
func TestObjectStoreInTheTree(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	put(t, dir, "mine")
	if err := Init(dir, InitOptions{Objects: "data/store"}); err != nil {
		t.Fatal(err)
	}
	r := open(t, dir, true)
	defer r.Close()
	commit := func() {
		t.Helper()
		if _, err := r.Add(t.Context(), nil, false); err != nil {
			t.Fatal(err)
		}
		if err := r.Commit(t.Context(), CommitOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	commit()
	commit()
	if n := len(r.Committed().Objects()); n != 40 {
		t.Errorf("%d objects are committed", n)
	}
	if changes, err := r.Status(t.Context()); err != nil || len(changes) != 0 {
		t.Errorf("%v, %v", changes, err)
	}
	if err := r.Clean(t.Context()); err != nil {
		t.Fatal(err)
	}
	store, err := r.Objects()
	if err != nil {
		t.Fatal(err)
	}
	if missing := store.Missing(r.Committed()); len(missing) != 0 {
		t.Errorf("%d objects were cleaned away", len(missing))
	}

	name := "data/store/notes"
	if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := r.AddFiles(t.Context(), []string{name}); err != nil {
		t.Fatal(err)
	}
	changes, err := r.Status(t.Context(), name)
	if diff := cmp.Diff([]state.Change{{Key: name, Op: state.Added}}, changes); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

func TestForeignDirectoryIsNotCleaned(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := CanDeploy(dir); err != nil {
		t.Errorf("an empty directory: %v", err)
	}
	put(t, dir, "mine")
	if err := CanDeploy(dir); !errors.Is(err, errForeign) {
		t.Errorf("%v", err)
	}
}

func FuzzCache(f *testing.F) {
	f.Add(encodeCache(nil))
	f.Add(encodeCache(map[string]known{"a": {sum: sum32{1}}, "b/c.json": {stamp: stamp{filestat.ID{Dev: 1, Ino: 2}, 3, 4, 5}, canon: sum32{9}}}))
	f.Fuzz(func(t *testing.T, text []byte) {
		files, err := decodeCache(text)
		if err != nil {
			_, _ = decodeEntries(text) // the checksum hides what is behind it
			return
		}
		again, err := decodeCache(encodeCache(files))
		if diff := cmp.Diff(files, again, cmp.AllowUnexported(known{}, stamp{})); err != nil || diff != "" {
			t.Errorf("%v\n%s", err, diff)
		}
	})
}

func FuzzAddList(f *testing.F) {
	f.Add([]byte(`{"a/b.json":{"ForceObject":true,"Sha":"00"},"c":{}}`))
	f.Add([]byte(`{"../x":{"ForceObject":false}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		list, err := parseAddList(text)
		if err != nil {
			return
		}
		for key := range list {
			if state.CheckKey(key) != nil {
				t.Errorf("key %q", key)
			}
		}
		encoded, err := list.encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseAddList(encoded)
		if diff := cmp.Diff(list, again, cmp.AllowUnexported(addition{})); err != nil || diff != "" {
			t.Errorf("%v\n%s", err, diff)
		}
	})
}

// sized makes the tree of the comparison with other tools: 2,100 files, 207 MB.
func sized(b *testing.B, dir string) {
	b.Helper()
	const files, total = 2100, 207 << 20
	text := bytes.Repeat([]byte("0123456789abcdef"), total/files/16)
	for i := range files {
		name := filepath.Join(dir, fmt.Sprintf("app%d/file%d", i%20, i))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(name, append(text, fmt.Sprint(i)...), 0o644); err != nil {
			b.Fatal(err)
		}
	}
}

func benchRepo(b *testing.B) *Repo {
	b.Helper()
	dir := filepath.Join(b.TempDir(), "x")
	sized(b, dir)
	if err := Init(dir, InitOptions{Objects: "../objects"}); err != nil {
		b.Fatal(err)
	}
	r, err := Open(b.Context(), dir, Options{Write: true, Cache: filepath.Join(dir, "../cache")})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(r.Close)
	return r
}

func commitAll(b *testing.B, r *Repo) {
	b.Helper()
	if _, err := r.Add(b.Context(), nil, false); err != nil {
		b.Fatal(err)
	}
	if err := r.Commit(b.Context(), CommitOptions{}); err != nil {
		b.Fatal(err)
	}
}

func BenchmarkAddCommit(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		r := benchRepo(b)
		b.StartTimer()
		commitAll(b, r)
	}
}

func BenchmarkStatusClean(b *testing.B) {
	r := benchRepo(b)
	commitAll(b, r)
	for b.Loop() {
		if changes, err := r.Status(b.Context()); err != nil || len(changes) != 0 {
			b.Fatal(changes, err)
		}
	}
}

func BenchmarkExport(b *testing.B) {
	r := benchRepo(b)
	commitAll(b, r)
	for b.Loop() {
		if err := r.Export(b.Context(), &discard{}, archive.ExportOptions{Gzip: true}); err != nil {
			b.Fatal(err)
		}
	}
}

type discard struct{}

// Write implements io.Writer.
func (discard) Write(p []byte) (int, error) { return len(p), nil }

func TestSelectorNames(t *testing.T) {
	t.Parallel()
	pick, err := selector([]string{"a/./b", "c*"})
	if err != nil {
		t.Fatal(err)
	}
	got := []string{}
	for _, key := range []string{"a/b", "a/b/c", "a/bc", "cde", "c/d", "x"} {
		if pick(key) {
			got = append(got, key)
		}
	}
	if want := "a/b a/b/c cde"; strings.Join(got, " ") != want {
		t.Errorf("%v, want %s", got, want)
	}
}
