package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/revision/canon"
	"github.com/pantavisor/pantavisor/revision/state"
)

// tree is what files hold, by key.
type tree map[string]string

// write writes the files below dir.
func (f tree) write(t *testing.T, dir string) {
	t.Helper()
	for key, text := range f {
		name := filepath.Join(dir, key)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// readTree returns the regular files below dir, without the bookkeeping ones.
func readTree(t *testing.T, dir string) tree {
	t.Helper()
	out := tree{}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if name == filepath.Join(dir, Dir) {
			return fs.SkipDir
		}
		if err != nil {
			return err
		}
		if !d.Type().IsRegular() {
			return nil
		}
		text, err := os.ReadFile(name)
		key, _ := filepath.Rel(dir, name)
		out[key] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// committed makes a repository that holds the files, with its own object store.
func committed(t *testing.T, files tree) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "repo")
	files.write(t, dir)
	if err := Init(dir, InitOptions{}); err != nil {
		t.Fatal(err)
	}
	commitFiles(t, dir)
	return dir
}

// commitFiles adds and commits everything.
func commitFiles(t *testing.T, dir string) {
	t.Helper()
	r := open(t, dir, true)
	defer r.Close()
	if _, err := r.Add(t.Context(), nil, false); err != nil {
		t.Fatal(err)
	}
	if err := r.Commit(t.Context(), CommitOptions{}); err != nil {
		t.Fatal(err)
	}
}

// status returns the changes as text, "? name", in their order.
func status(t *testing.T, dir string) []string {
	t.Helper()
	r := open(t, dir, false)
	defer r.Close()
	changes, err := r.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	out := []string{}
	for _, c := range changes {
		out = append(out, fmt.Sprintf("%c %s", c.Op, c.Key))
	}
	return out
}

// Names that shells, JSON and patterns treat specially come through a commit and a
// clone unchanged.
func TestHostileNames(t *testing.T) {
	t.Parallel()
	files := tree{}
	for i, name := range []string{
		"a b", "new\nline", "tab\t", `back\slash`, `"quoted"`, "'", "*", "[x", "?", "-rf", "~", "$HOME", "#hash", "a#b", "é", "e\u0301",
		"\u202e", "😀", " ", "...", "..a", "x.json", "x.json.json", ".json", "json", "con", "a/b/c/d/e", "dir/.pvr", "dir/.pv",
		strings.Repeat("n", state.MaxElement), strings.Repeat("d/", 60) + "deep",
	} {
		files[name] = fmt.Sprintf("%d", i)
	}
	dir := committed(t, files)
	if got := status(t, dir); len(got) != 0 {
		t.Errorf("after the commit: %q", got)
	}
	target := filepath.Join(t.TempDir(), "clone")
	cloneOf(t, dir, target, CloneOptions{})
	if diff := cmp.Diff(files, readTree(t, target)); diff != "" {
		t.Errorf("the clone differs (-want +got):\n%s", diff)
	}
}

// cloneOf clones a repository of this machine.
func cloneOf(t *testing.T, dir, target string, opt CloneOptions) {
	t.Helper()
	src, err := Local(filepath.Join(dir, Dir), false)
	if err == nil {
		err = Clone(t.Context(), src, Ref{}, target, opt)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A name that no state can hold is an error that says so, and nothing is added.
func TestUnusableNames(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{"bad\xff": "not valid UTF-8", "#spec/x": "not a directory"} {
		dir := committed(t, tree{"good": "1"})
		tree{"later": "2", name: "3"}.write(t, dir)
		r := open(t, dir, true)
		_, err := r.Add(t.Context(), nil, false)
		if !errors.Is(err, state.ErrKey) || !strings.Contains(err.Error(), want) || len(r.added) != 0 {
			t.Errorf("%q: %v", name, err)
		}
		r.Close()
	}
}

func TestAddPatterns(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "repo")
	tree{"a/x.json": "{}", "a/y": "1", "b/y": "2", "top": "3", ".pvr-notes": "4"}.write(t, dir)
	if err := Init(dir, InitOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		patterns  []string
		want      []string
		unmatched []string
	}{
		{nil, []string{"a/x.json", "a/y", "b/y", "top"}, nil},
		{[]string{"."}, []string{"a/x.json", "a/y", "b/y", "top"}, nil},
		{[]string{"*/y", "nothing", "top"}, []string{"a/y", "b/y", "top"}, []string{"nothing"}},
		{[]string{"a"}, nil, []string{"a"}},
		{[]string{filepath.Join(dir, "a/*")}, []string{"a/x.json", "a/y"}, nil},
		{[]string{"/elsewhere/*"}, nil, []string{"/elsewhere/*"}},
		{[]string{"./top", "./b//y", "a/../a/x.json"}, []string{"a/x.json", "b/y", "top"}, nil},
		{[]string{"./"}, []string{"a/x.json", "a/y", "b/y", "top"}, nil},
		{[]string{".", "nothing"}, []string{"a/x.json", "a/y", "b/y", "top"}, []string{"nothing"}},
	} {
		r := open(t, dir, true)
		if err := r.dropAddList(); err != nil {
			t.Fatal(err)
		}
		added, err := r.Add(t.Context(), c.patterns, false)
		if err != nil {
			t.Fatal(err)
		}
		got := slices.Sorted(maps.Keys(r.added))
		if diff := cmp.Diff(c.want, got); diff != "" || added.Count != len(c.want) || !slices.Equal(added.Unmatched, c.unmatched) {
			t.Errorf("%q: %+v (-want +got):\n%s", c.patterns, added, diff)
		}
		r.Close()
	}
	r := open(t, dir, true)
	defer r.Close()
	if _, err := r.Add(t.Context(), []string{"["}, false); !errors.Is(err, path.ErrBadPattern) {
		t.Errorf("a malformed pattern: %v", err)
	}
	if err := r.AddFiles(t.Context(), []string{"top", "missing"}); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "missing") {
		t.Errorf("a missing file: %v", err)
	}
}

// What is not a regular file is not looked at: a pipe would stop the reader for ever,
// a link to a directory could lead round in a circle.
func TestUnusualFileTypes(t *testing.T) {
	t.Parallel()
	dir := committed(t, tree{"file": "1", "sub/file": "2"})
	outside := t.TempDir()
	tree{"secret": "3"}.write(t, outside)
	err := errors.Join(
		unix.Mkfifo(filepath.Join(dir, "pipe"), 0o644),
		unix.Mknod(filepath.Join(dir, "socket"), unix.S_IFSOCK|0o644, 0),
		os.Symlink("..", filepath.Join(dir, "sub/up")),
		os.Symlink(outside, filepath.Join(dir, "outside")),
		os.Symlink("nowhere", filepath.Join(dir, "dangling")),
		os.Symlink("loop", filepath.Join(dir, "loop")),
		os.Symlink("sub/file", filepath.Join(dir, "link")),
		os.Link(filepath.Join(dir, "file"), filepath.Join(dir, "hard")),
	)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"? hard", "? link"}, status(t, dir)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	commitFiles(t, dir)
	target := filepath.Join(t.TempDir(), "clone")
	cloneOf(t, dir, target, CloneOptions{})
	want := tree{"file": "1", "sub/file": "2", "link": "2", "hard": "1"}
	if diff := cmp.Diff(want, readTree(t, target)); diff != "" {
		t.Errorf("the clone (-want +got):\n%s", diff)
	}
}

// A committed file whose place something else has taken counts as deleted, and a
// checkout puts it back without writing through a link.
func TestFilesThatChangeTheirType(t *testing.T) {
	t.Parallel()
	for name, replace := range map[string]func(path string) error{
		"pipe":     func(p string) error { return unix.Mkfifo(p, 0o644) },
		"dangling": func(p string) error { return os.Symlink("nowhere", p) },
		"loop":     func(p string) error { return os.Symlink(filepath.Base(p), p) },
	} {
		dir := committed(t, tree{"file": "old", "other": "1"})
		path := filepath.Join(dir, "file")
		if err := errors.Join(os.Remove(path), replace(path)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"D file"}, status(t, dir)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		checkoutFiles(t, dir, CheckoutOptions{})
		if diff := cmp.Diff(tree{"file": "old", "other": "1"}, readTree(t, dir)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func checkoutFiles(t *testing.T, dir string, opt CheckoutOptions) {
	t.Helper()
	r := open(t, dir, true)
	defer r.Close()
	if err := r.Checkout(t.Context(), opt); err != nil {
		t.Fatal(err)
	}
}

// A link to another file is replaced; what it points to stays as it is.
func TestCheckoutReplacesLinks(t *testing.T) {
	t.Parallel()
	dir := committed(t, tree{"file": "old", "run.json": `{"a":1}`})
	outside := t.TempDir()
	tree{"a": "mine", "b": "mine"}.write(t, outside)
	for key, to := range map[string]string{"file": "a", "run.json": "b"} {
		if err := errors.Join(os.Remove(filepath.Join(dir, key)), os.Symlink(filepath.Join(outside, to), filepath.Join(dir, key))); err != nil {
			t.Fatal(err)
		}
	}
	checkoutFiles(t, dir, CheckoutOptions{Canonical: true})
	if diff := cmp.Diff(tree{"file": "old", "run.json": `{"a":1}`}, readTree(t, dir)); diff != "" {
		t.Errorf("the checkout (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(tree{"a": "mine", "b": "mine"}, readTree(t, outside)); diff != "" {
		t.Errorf("outside of it (-want +got):\n%s", diff)
	}
}

// A directory in a file's place has files that are not the checkout's to delete.
func TestDirectoryInAFilesPlace(t *testing.T) {
	t.Parallel()
	dir := committed(t, tree{"file": "old"})
	if err := os.Remove(filepath.Join(dir, "file")); err != nil {
		t.Fatal(err)
	}
	tree{"file/mine": "1"}.write(t, dir)
	r := open(t, dir, true)
	defer r.Close()
	err := r.Checkout(t.Context(), CheckoutOptions{})
	if err == nil || !strings.Contains(err.Error(), "writing file") {
		t.Errorf("%v", err)
	}
	if diff := cmp.Diff(tree{"file/mine": "1"}, readTree(t, dir)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, err := os.Lstat(filepath.Join(dir, Dir, stageDir)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the stage is left behind: %v", err)
	}
}

// An edit of a checked-out file must not reach the store; a hard-linked checkout
// shares the object and is therefore read-only.
func TestCheckoutAndStoreAreApart(t *testing.T) {
	t.Parallel()
	dir := committed(t, tree{"file": "content", "sub/same": "content", "run.json": `{"b":1, "a":2}`})
	target := filepath.Join(t.TempDir(), "clone")
	cloneOf(t, dir, target, CloneOptions{})
	f, err := os.OpenFile(filepath.Join(target, "file"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteString("CONTENT")
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	for _, at := range []string{dir, target} {
		r := open(t, at, false)
		st := r.Committed()
		r.Close()
		sound(t, at, st)
	}
	hard := filepath.Join(t.TempDir(), "hard")
	cloneOf(t, dir, hard, CloneOptions{Checkout: CheckoutOptions{Hardlink: true}})
	if got := readTree(t, hard)["run.json"]; got != `{"a":2,"b":1}` {
		t.Errorf("inline JSON is not canonical: %s", got)
	}
	one, errOne := os.Stat(filepath.Join(hard, "file"))
	two, errTwo := os.Stat(filepath.Join(hard, "sub/same"))
	if err := errors.Join(errOne, errTwo); err != nil || !os.SameFile(one, two) || one.Mode().Perm() != 0o444 {
		t.Errorf("modes %v and %v, %v", one.Mode(), two.Mode(), err)
	}
}

// A checkout is repeated over itself: files that are right are not written again.
func TestCheckoutAgainTouchesNothing(t *testing.T) {
	t.Parallel()
	dir := committed(t, tree{"file": "1", "x.json": "{}", "sub/file": "2"})
	age(t, dir)
	checkoutFiles(t, dir, CheckoutOptions{})
	age(t, dir)
	status(t, dir) // remembers the files
	before := stamps(t, dir)
	checkoutFiles(t, dir, CheckoutOptions{})
	if diff := cmp.Diff(before, stamps(t, dir)); diff != "" {
		t.Errorf("(-before +after):\n%s", diff)
	}
}

// stamps returns the inode numbers of the files.
func stamps(t *testing.T, dir string) map[string]uint64 {
	t.Helper()
	out := map[string]uint64{}
	for key := range readTree(t, dir) {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(dir, key), &st); err != nil {
			t.Fatal(err)
		}
		out[key] = st.Ino
	}
	return out
}

// What killed commands left behind goes with the next change, not with a look,
// which must not disturb a command that runs.
func TestLeftoversAreSwept(t *testing.T) {
	t.Parallel()
	dir := committed(t, tree{"file": "1"})
	left := tree{".pvr/.stage/0": "half", ".pvr/.json.tmp-123": "{", ".pvr/.config.tmp-9": "", ".pvr/objects/.batch.tmp-1": "half"}
	left.write(t, dir)
	if got := status(t, dir); len(got) != 0 {
		t.Errorf("they show up: %q", got)
	}
	for key := range left {
		if _, err := os.Lstat(filepath.Join(dir, key)); err != nil {
			t.Errorf("a look removed it: %v", err)
		}
	}
	tree{"file": "2"}.write(t, dir)
	commitFiles(t, dir)
	for key := range left {
		if _, err := os.Lstat(filepath.Join(dir, key)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s stays: %v", key, err)
		}
	}
}

// A damaged file of the bookkeeping is an error that names it.
func TestDamagedBookkeeping(t *testing.T) {
	t.Parallel()
	for name, texts := range map[string][]string{
		"json":   {"", "{", "[]", `{"../x":1}`, `{"a":"1","a":"2"}`, `{"#spec":1}`},
		"config": {"", "{", "[]", `{"ObjectsDir":1}`, strings.Repeat(" ", maxConfig+1)},
		"new":    {"", "{", "[]", `{"../x":{}}`, `"x"`},
	} {
		for _, text := range texts {
			dir := committed(t, tree{"file": "1"})
			tree{Dir + "/" + name: text}.write(t, dir)
			r, err := Open(t.Context(), dir, Options{})
			if err == nil {
				r.Close()
			}
			if err == nil || !strings.Contains(err.Error(), filepath.Join(Dir, name)) {
				t.Errorf("%s %.20q: %v", name, text, err)
			}
		}
	}
}

// Without a repository there is an empty state; changes are refused.
func TestNoRepository(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tree{"file": "1"}.write(t, dir)
	r := open(t, dir, true)
	defer r.Close()
	if got := status(t, dir); !slices.Contains(got, "? file") || r.Exists() {
		t.Errorf("status %q, exists %v", got, r.Exists())
	}
	for name, err := range changes(t.Context(), r) {
		if !errors.Is(err, ErrNone) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("something was made: %v", left)
	}
}

// changes tries everything that changes a repository.
func changes(ctx context.Context, r *Repo) map[string]error {
	_, add := r.Add(ctx, nil, false)
	_, get := r.Get(ctx, directory{r.dot(), false}, Ref{}, false)
	return map[string]error{
		"add": add, "get": get, "addFiles": r.AddFiles(ctx, []string{"file"}), "commit": r.Commit(ctx, CommitOptions{}),
		"checkout": r.Checkout(ctx, CheckoutOptions{}), "clean": r.Clean(ctx), "links": r.BootLinks(),
		"config": r.SetConfig(Config{}), "state": r.setCommitted(state.New("")), "signature": r.writeSignature("x.json", nil),
	}
}

func TestOpenedForReading(t *testing.T) {
	t.Parallel()
	dir := committed(t, tree{"file": "1"})
	before := readTree(t, filepath.Join(dir, Dir))
	r := open(t, dir, false)
	defer r.Close()
	for name, err := range changes(t.Context(), r) {
		if err == nil || !strings.Contains(err.Error(), "for reading only") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if diff := cmp.Diff(before, readTree(t, filepath.Join(dir, Dir))); diff != "" {
		t.Errorf("(-before +after):\n%s", diff)
	}
}

// Commands that run at the same time wait for each other: no addition is lost.
func TestParallelAdds(t *testing.T) {
	t.Parallel()
	dir := committed(t, tree{"file": "1"})
	var wg sync.WaitGroup
	errs := make([]error, 12)
	for i := range errs {
		name := fmt.Sprintf("new%d", i)
		tree{name: name}.write(t, dir)
		wg.Go(func() {
			r, err := Open(t.Context(), dir, Options{Write: true})
			if err != nil {
				errs[i] = err
				return
			}
			defer r.Close()
			errs[i] = r.AddFiles(t.Context(), []string{name})
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	r := open(t, dir, true)
	defer r.Close()
	if len(r.added) != len(errs) {
		t.Errorf("%d of %d are on the list", len(r.added), len(errs))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	waited := false
	if _, err := Open(ctx, dir, Options{Waiting: func() { waited = true }}); !errors.Is(err, context.DeadlineExceeded) || !waited {
		t.Errorf("a look during a change: %v, waited %v", err, waited)
	}
}

// A file that should hold JSON can be added and is refused by the commit, which
// changes nothing.
func TestBrokenJSON(t *testing.T) {
	t.Parallel()
	dir := committed(t, tree{"run.json": `{"a":1}`})
	tree{"run.json": `{"a":`, "file": "1"}.write(t, dir)
	r := open(t, dir, true)
	defer r.Close()
	if _, err := r.Add(t.Context(), nil, false); err != nil {
		t.Fatal(err)
	}
	before := r.Committed()
	err := r.Commit(t.Context(), CommitOptions{})
	var wrong *JSONError
	if !errors.As(err, &wrong) || wrong.Path != "run.json" || !strings.Contains(err.Error(), "JSON Unmarshal (run.json): unexpected EOF") {
		t.Errorf("%v", err)
	}
	if r.Committed() != before || len(r.added) != 2 {
		t.Errorf("the state or the list of %d additions changed", len(r.added))
	}
	tree{"run.json": `{"a":2}`}.write(t, dir)
	if err := r.Commit(t.Context(), CommitOptions{}); err != nil {
		t.Errorf("mended: %v", err)
	}
}

func TestCommitReportsAndCheckpoint(t *testing.T) {
	t.Parallel()
	dir := committed(t, tree{"gone": "1", "kept": "2", "run.json": "{}"})
	if err := os.Remove(filepath.Join(dir, "gone")); err != nil {
		t.Fatal(err)
	}
	tree{"new": "3", "run.json": `{"x":1}`}.write(t, dir)
	r := open(t, dir, true)
	defer r.Close()
	if _, err := r.Add(t.Context(), []string{"new"}, false); err != nil {
		t.Fatal(err)
	}
	var got []string
	err := r.Commit(t.Context(), CommitOptions{Message: "why", Checkpoint: true, Report: func(c Committed) {
		got = append(got, fmt.Sprintf("%c %s %v", c.Op, c.Key, c.Object != ""))
	}})
	want := []string{"A checkpoint.json false", "D gone false", "A new true", "C run.json false"}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	text, err := os.ReadFile(filepath.Join(dir, Dir, "commitmsg"))
	if err != nil || string(text) != "why" {
		t.Errorf("message %q, %v", text, err)
	}
	v, _ := r.Committed().Value("checkpoint.json")
	if _, err := time.Parse(time.RFC3339, member(v, "major")); err != nil {
		t.Errorf("checkpoint %s: %v", v.Encode(), err)
	}
}

func TestDiffSelects(t *testing.T) {
	t.Parallel()
	dir := committed(t, tree{"a/run.json": `{"x":{"y":1,"z":2}}`, "b/run.json": "{}"})
	tree{"a/run.json": `{"x":{"y":1}}`, "b/run.json": "[]"}.write(t, dir)
	r := open(t, dir, false)
	defer r.Close()
	for name, want := range map[string]string{".": `{"a/run.json":{"x":{"z":null}},"b/run.json":[]}`, "a": `{"a/run.json":{"x":{"z":null}}}`} {
		v, err := r.Diff(t.Context(), name)
		if got := string(v.Encode()); err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", name, got, err, want)
		}
	}
	if _, err := r.Diff(t.Context(), "c"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a name that matches nothing: %v", err)
	}
	if _, err := r.Diff(t.Context(), "["); err == nil {
		t.Error("a malformed pattern was taken")
	}
}

// An object that an older tool cut short is replaced by the next commit.
func TestCommitMendsTruncatedObject(t *testing.T) {
	t.Parallel()
	dir := committed(t, tree{"file": "content"})
	r := open(t, dir, true)
	defer r.Close()
	sum, _ := r.Committed().Object("file")
	tree{filepath.Join(Dir, "objects", sum): "con"}.write(t, dir)
	if err := r.setCommitted(state.New(state.Spec)); err != nil {
		t.Fatal(err)
	}
	if err := r.AddFiles(t.Context(), []string{"file"}); err != nil {
		t.Fatal(err)
	}
	if err := r.Commit(t.Context(), CommitOptions{}); err != nil {
		t.Fatal(err)
	}
	store, err := r.Objects()
	if err == nil {
		err = store.Verify(t.Context(), sum)
	}
	if err != nil {
		t.Error(err)
	}
}

// Inline text that looks like an object's name is kept as an object: in a state
// the two could not be told apart.
func TestInlineSumBecomesObject(t *testing.T) {
	t.Parallel()
	text := `"` + strings.Repeat("a", 64) + `"`
	dir := committed(t, tree{"x.json": text})
	r := open(t, dir, true)
	sum, ok := r.Committed().Object("x.json")
	r.Close()
	if !ok || sum == strings.Repeat("a", 64) {
		t.Fatalf("object %s %v", sum, ok)
	}
	if err := os.Remove(filepath.Join(dir, "x.json")); err != nil {
		t.Fatal(err)
	}
	checkoutFiles(t, dir, CheckoutOptions{})
	if got := readTree(t, dir)["x.json"]; got != text {
		t.Errorf("%s comes back as %s", text, got)
	}
}

// The cache belongs to one checkout and is of no consequence when it is damaged.
func TestDamagedCache(t *testing.T) {
	t.Parallel()
	dir := committed(t, tree{"file": "1"})
	age(t, dir)
	status(t, dir)
	names, err := filepath.Glob(filepath.Join(filepath.Dir(dir), "cache/stat-*"))
	if err != nil || len(names) != 1 {
		t.Fatalf("%v, %v", names, err)
	}
	good, err := os.ReadFile(names[0])
	if err != nil || len(good) == 0 {
		t.Fatal(err)
	}
	for n := 0; n < len(good); n += 7 {
		bad := bytes.Clone(good)
		bad[n] ^= 1
		for _, text := range [][]byte{bad, good[:n]} {
			if err := os.WriteFile(names[0], text, 0o600); err != nil {
				t.Fatal(err)
			}
			r := open(t, dir, false)
			if c := r.loadCache(); len(c.files) != 0 {
				t.Errorf("changed at %d: %d files are believed", n, len(c.files))
			}
			r.Close()
		}
	}
	if got := status(t, dir); len(got) != 0 {
		t.Errorf("with a damaged cache: %q", got)
	}
}

// What add and commit write, every later command reads: the add list has three values
// for each file.
func TestManyFiles(t *testing.T) {
	t.Parallel()
	const count = 100_000
	list := addList{}
	for i := range count {
		list[fmt.Sprintf("%06d", i)] = addition{sum: sum32{}}
	}
	dir := committed(t, tree{"file": "1"})
	if err := list.write(filepath.Join(dir, Dir)); err != nil {
		t.Fatal(err)
	}
	r := open(t, dir, true)
	defer r.Close()
	if len(r.added) != count {
		t.Errorf("%d files are on the add list", len(r.added))
	}
	dense := canon.List(slices.Repeat([]canon.Value{canon.List()}, 200_000)...)
	st := r.Committed().Clone()
	for _, key := range []string{"a.json", "b.json"} { // each alone is small enough
		if err := st.SetValue(key, dense); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.setCommitted(st); !errors.Is(err, canon.ErrBounds) {
		t.Errorf("a state that no command would read: %v", err)
	}
}

// TestLinksAcrossFileSystems has the store of objects on another file system.
func TestLinksAcrossFileSystems(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "r")
	st := newRepo(t, dir, "a")
	other, err := os.MkdirTemp("/dev/shm", "objects")
	if err != nil {
		t.Skipf("no second file system: %v", err)
	}
	t.Cleanup(func() { os.RemoveAll(other) })
	store, moved := filepath.Join(filepath.Dir(dir), "objects-r"), filepath.Join(other, "objects")
	config := []byte(`{"ObjectsDir":"` + moved + `"}`)
	if err := errors.Join(os.CopyFS(moved, os.DirFS(store)), os.RemoveAll(store), os.WriteFile(filepath.Join(dir, ".pvr", "config"), config, 0o644)); err != nil {
		t.Fatal(err)
	}
	r := open(t, dir, true)
	copied := 0
	err = r.Checkout(t.Context(), CheckoutOptions{Hardlink: true, Copied: func(n int) { copied = n }})
	r.Close()
	if err != nil {
		t.Fatal(err)
	}
	if want := len(st.Objects()); copied != want || want == 0 {
		t.Errorf("told of %d copies, want %d", copied, want)
	}
	sound(t, dir, st)
}
