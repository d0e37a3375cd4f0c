package repo

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/revision/pvs"
	"github.com/pantavisor/pantavisor/revision/pvs/sign"
	"github.com/pantavisor/pantavisor/revision/state"
)

// source returns a repository of this machine that holds the files.
func source(t *testing.T, files tree) Source {
	t.Helper()
	src, err := Local(filepath.Join(committed(t, files), Dir), false)
	if err != nil {
		t.Fatal(err)
	}
	return src
}

// fragment reads a fragment, "part,-other".
func fragment(t *testing.T, text string) Ref {
	t.Helper()
	f, err := state.ParseFragment(text)
	if err != nil {
		t.Fatal(err)
	}
	return Ref{Text: "somewhere#" + text, Fragment: f}
}

// A get replaces what the fragment selects, a merge lays the source over it; in a
// conflict the source has the last word, member by member within JSON.
func TestGetAndMerge(t *testing.T) {
	t.Parallel()
	have := tree{"a/x": "old", "a/only-here": "old", "b/x": "old", "run.json": `{"old":1}`}
	theirs := tree{"a/x": "new", "a/only-there": "new", "c/x": "new", "run.json": `{"new":1}`}
	for _, c := range []struct {
		fragment string
		merge    bool
		want     tree
	}{
		{"", false, theirs},
		{"", true, tree{"a/x": "new", "a/only-here": "old", "a/only-there": "new", "b/x": "old", "c/x": "new", "run.json": `{"new":1,"old":1}`}},
		{"a", false, tree{"a/x": "new", "a/only-there": "new", "b/x": "old", "run.json": `{"old":1}`}},
		{"a", true, tree{"a/x": "new", "a/only-here": "old", "a/only-there": "new", "b/x": "old", "run.json": `{"old":1}`}},
		{"a,c", false, tree{"a/x": "new", "a/only-there": "new", "b/x": "old", "c/x": "new", "run.json": `{"old":1}`}},
		{"b", false, tree{"a/x": "old", "a/only-here": "old", "run.json": `{"old":1}`}},
	} {
		dir := committed(t, have)
		r := open(t, dir, true)
		_, err := r.Get(t.Context(), source(t, theirs), fragment(t, c.fragment), c.merge)
		if err == nil {
			err = r.Checkout(t.Context(), CheckoutOptions{Canonical: true})
		}
		if err == nil {
			err = r.Clean(t.Context())
		}
		if diff := cmp.Diff(c.want, readTree(t, dir)); err != nil || diff != "" {
			t.Errorf("#%s, merge %v: %v (-want +got):\n%s", c.fragment, c.merge, err, diff)
		}
		r.Close()
	}
}

// Of several sources the last one wins, and none is remembered as the default.
func TestGetAll(t *testing.T) {
	t.Parallel()
	r := open(t, committed(t, tree{"x": "0"}), true)
	defer r.Close()
	one, two := Taken{source(t, tree{"x": "1", "y": "1"}), Ref{Text: "one"}}, Taken{source(t, tree{"y": "2"}), Ref{Text: "two"}}
	if _, err := r.GetAll(t.Context(), true, one, two); err != nil {
		t.Fatal(err)
	}
	if got := r.Config().DefaultGetUrl; got != "" {
		t.Errorf("%s is remembered", got)
	}
	if _, err := r.Get(t.Context(), two.Source, Ref{Text: "two", URL: "http://h/two"}, true); err != nil {
		t.Fatal(err)
	}
	if c := r.Config(); c.DefaultGetUrl != "two" || c.DefaultPutUrl != "two" || c.DefaultPostUrl != "two" {
		t.Errorf("remembered %+v", c)
	}
	if err := r.Checkout(t.Context(), CheckoutOptions{}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(tree{"x": "1", "y": "2"}, readTree(t, r.Dir())); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A source whose objects are missing or damaged changes nothing.
func TestBrokenSource(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil func(path string) error
		want  error
	}{
		"missing":   {os.Remove, fs.ErrNotExist},
		"damaged":   {func(p string) error { return os.WriteFile(p, []byte("CONTENT"), 0o644) }, objects.ErrMismatch},
		"truncated": {func(p string) error { return os.Truncate(p, 1) }, objects.ErrMismatch},
		"link":      {func(p string) error { return errors.Join(os.Remove(p), os.Symlink("/etc/passwd", p)) }, nil},
	} {
		from := committed(t, tree{"file": "content", "good": "good"})
		there := open(t, from, false)
		sum, _ := there.Committed().Object("file")
		there.Close()
		if err := c.spoil(filepath.Join(from, Dir, "objects", sum)); err != nil {
			t.Fatal(err)
		}
		dir := committed(t, tree{"mine": "1"})
		r := open(t, dir, true)
		before := r.Committed()
		_, err := r.Get(t.Context(), directory{filepath.Join(from, Dir), false}, Ref{Text: "x"}, false)
		if err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if r.Committed() != before || r.Config().DefaultGetUrl != "" {
			t.Errorf("%s: the repository changed", name)
		}
		r.Close()
		store, err := os.ReadDir(filepath.Join(dir, Dir, "objects"))
		if err != nil || len(store) != 1 {
			t.Errorf("%s: the store has %d entries, %v", name, len(store), err)
		}
	}
}

// A clone that fails leaves nothing behind, and its error says at which stage.
func TestCloneStages(t *testing.T) {
	t.Parallel()
	work := t.TempDir()
	tree{"taken/file": "mine"}.write(t, work)
	src := source(t, tree{"file": "1"})
	for target, c := range map[string]struct {
		src   Source
		stage Stage
	}{
		"taken": {src, StagePlace}, "no/such/parent": {src, StageInit}, "new": {directory{"/nowhere", false}, StageTransfer},
	} {
		err := Clone(t.Context(), c.src, Ref{}, filepath.Join(work, target), CloneOptions{})
		var at *StageError
		if !errors.As(err, &at) || at.Stage != c.stage || at.Error() == "" {
			t.Errorf("%s: %v", target, err)
		}
	}
	if left, err := filepath.Glob(filepath.Join(work, "*")); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if err := os.Mkdir(filepath.Join(work, "empty"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Clone(t.Context(), src, Ref{}, filepath.Join(work, "empty"), CloneOptions{}); err != nil {
		t.Errorf("into an empty directory: %v", err)
	}
}

func TestFastCopy(t *testing.T) {
	t.Parallel()
	src := stateOf(t, `{"a/x.json":"src a","b/x.json":"src b","top.json":"src"}`)
	dst := stateOf(t, `{"a/x.json":"dst a","a/y.json":"dst","c/x.json":"dst c"}`)
	for _, c := range []struct {
		from, to string
		merge    bool
		want     string
	}{
		{"", "", false, `{"a/x.json":"src a","b/x.json":"src b","top.json":"src"}`},
		{"", "", true, `{"a/x.json":"src a","a/y.json":"dst","b/x.json":"src b","c/x.json":"dst c","top.json":"src"}`},
		{"a", "", false, `{"a/x.json":"src a","c/x.json":"dst c"}`},
		{"a", "", true, `{"a/x.json":"src a","a/y.json":"dst","c/x.json":"dst c"}`},
		{"a", "c", false, `{"a/x.json":"dst a","a/y.json":"dst","c/x.json":"src a"}`},
		{"a,b", "c,d", false, `{"a/x.json":"dst a","a/y.json":"dst","c/x.json":"src a","d/x.json":"src b"}`},
	} {
		out, err := FastCopy(src, dst, fragment(t, c.from).Fragment, fragment(t, c.to).Fragment, c.merge)
		if err != nil {
			t.Errorf("%s to %s: %v", c.from, c.to, err)
		} else if want := stateOf(t, c.want); !state.Equal(out, want) {
			t.Errorf("%s to %s, merge %v: %s, want %s", c.from, c.to, c.merge, out.Encode(), want.Encode())
		}
	}
	for from, to := range map[string]string{"": "a", "a": "b,c", "a,b": "c"} {
		if _, err := FastCopy(src, dst, fragment(t, from).Fragment, fragment(t, to).Fragment, false); !errors.Is(err, errFragments) {
			t.Errorf("%q to %q: %v", from, to, err)
		}
	}
}

func stateOf(t *testing.T, doc string) *state.State {
	t.Helper()
	st, err := state.Parse([]byte(strings.Replace(doc, "{", `{"#spec":"`+state.Spec+`",`, 1)))
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// The links have fixed names, point to files of the state alone, and those of an
// earlier deployment go.
func TestBootLinks(t *testing.T) {
	t.Parallel()
	files := tree{"bsp/kernel.img": "k", "bsp/zImage": "z", "bsp/pantavisor": "i", "bsp/initrd": "j", "bsp/x.dtb": "d", "bsp/x.fit": "f"}
	for run, want := range map[string]tree{
		`{"fit":"x.fit","linux":"zImage"}`:                      {"pantavisor.fit": "f"},
		`{"linux":"zImage","initrd":"initrd","fdt":"x.dtb"}`:    {"pv-kernel.img": "z", "pv-initrd.img": "j", "pv-fdt.dtb": "d"},
		`{"kernel":"zImage","linux":"none"}`:                    {"pv-kernel.img": "z", "pv-initrd.img": "i"},
		`{}`:                                                    {"pv-kernel.img": "k", "pv-initrd.img": "i"},
		`{"linux":"../../etc/passwd","initrd":"none","fdt":""}`: {"pv-kernel.img": "k", "pv-initrd.img": "i"},
		`{"fit":"none"}`:                                        {},
	} {
		dir := committed(t, files)
		tree{"bsp/run.json": run, ".pv/earlier": "1"}.write(t, dir)
		commitFiles(t, dir)
		r := open(t, dir, true)
		if err := r.BootLinks(); err != nil {
			t.Errorf("%s: %v", run, err)
		}
		r.Close()
		got := tree{}
		if len(want) > 0 {
			got = readTree(t, filepath.Join(dir, ".pv"))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", run, diff)
		}
		_, err := os.Lstat(filepath.Join(dir, ".pv"))
		if gone := errors.Is(err, fs.ErrNotExist); gone != (len(want) == 0) {
			t.Errorf("%s: .pv: %v", run, err)
		}
	}
}

// Clean removes what is not committed, whatever its type, and follows no link.
func TestClean(t *testing.T) {
	t.Parallel()
	dir := committed(t, tree{"keep/file": "1", "top": "2"})
	outside := t.TempDir()
	tree{"mine": "3"}.write(t, outside)
	tree{"keep/extra": "4", "gone/a/b": "5", ".hidden": "6", ".pv/link": "7"}.write(t, dir)
	if err := os.Symlink(outside, filepath.Join(dir, "keep/out")); err != nil {
		t.Fatal(err)
	}
	r := open(t, dir, true)
	defer r.Close()
	if err := r.Clean(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(tree{"keep/file": "1", "top": "2", ".pv/link": "7"}, readTree(t, dir)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(tree{"mine": "3"}, readTree(t, outside)); diff != "" {
		t.Errorf("outside (-want +got):\n%s", diff)
	}
	for _, name := range []string{"gone", "keep/out"} {
		if _, err := os.Lstat(filepath.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s stays: %v", name, err)
		}
	}
}

// trusted is a key that is trusted with everything.
type trusted struct{ key crypto.PublicKey }

// For implements pvs.Keys.
func (k trusted) For(*pvs.Signature, []string) ([]crypto.PublicKey, error) {
	return []crypto.PublicKey{k.key}, nil
}

// signer returns a key, the options that sign with it and the keys that trust it.
func signer(t *testing.T) (sign.Options, pvs.Keys) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return sign.Options{Key: key}, trusted{key.Public()}
}

// A signature covers what its rule selects; any change of that breaks it, and
// signing again mends it.
func TestSignatures(t *testing.T) {
	t.Parallel()
	dir := committed(t, tree{"a/run.json": `{"n":1}`, "a/file": "1", "b/file": "2"})
	r := open(t, dir, true)
	defer r.Close()
	opt, keys := signer(t)
	if _, err := r.Sign(map[string]state.Rule{"a": {Include: []string{"a/**"}}}, opt); err != nil {
		t.Fatal(err)
	}
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
	got, err := r.VerifySignatures(t.Context(), keys)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a/file", "a/run.json"}, got.Protected); diff != "" || len(got.Sigs) != 1 {
		t.Errorf("protected (-want +got):\n%s", diff)
	}
	_, others := signer(t)
	var bad *VerifyError
	if _, err := r.VerifySignatures(t.Context(), others); !errors.As(err, &bad) || bad.Key != "_sigs/a.json" || !errors.Is(err, pvs.ErrSignature) {
		t.Errorf("by another key: %v", err)
	}
	tree{"a/file": "changed"}.write(t, dir)
	commit()
	if _, err := r.VerifySignatures(t.Context(), keys, "a"); !errors.As(err, &bad) {
		t.Errorf("of changed files: %v", err)
	}
	if err := r.Resign("_sigs/a.json", opt); err != nil {
		t.Fatal(err)
	}
	if _, err := r.VerifySignatures(t.Context(), keys, "a"); err != nil {
		t.Errorf("signed again: %v", err)
	}
}

// Names of signatures become paths and must stay inside.
func TestSignatureNames(t *testing.T) {
	t.Parallel()
	r := open(t, committed(t, tree{"file": "1"}), true)
	defer r.Close()
	opt, keys := signer(t)
	for _, name := range []string{"../x", "a/../../x", "", "/x"} {
		if _, err := r.Sign(map[string]state.Rule{name: {Include: []string{"**"}}}, opt); name != "" && !errors.Is(err, state.ErrKey) {
			t.Errorf("%q: %v", name, err)
		}
		if _, err := r.VerifySignatures(t.Context(), keys, name+"/../../x.json"); err == nil {
			t.Errorf("%q is verified", name)
		}
	}
	if _, err := r.VerifySignatures(t.Context(), keys, "none"); !errors.Is(err, ErrNoSignature) {
		t.Errorf("a missing one: %v", err)
	}
	for name, want := range map[string]string{"x": "_sigs/x.json", "d/y.json": "d/y.json", "./z.json": "z.json"} {
		if got := SignatureKey(name); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
}
