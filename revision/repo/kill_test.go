package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pantavisor/pantavisor/revision/archive"
	"github.com/pantavisor/pantavisor/revision/state"
)

// TestMain lets the test binary act as a command that is killed.
func TestMain(m *testing.M) {
	if act := os.Getenv("REPO_TEST_ACT"); act != "" {
		os.Exit(actor(act))
	}
	os.Exit(m.Run())
}

// actor does one thing to the repository in the working directory, after a byte on
// standard input.
func actor(act string) int {
	ctx := context.Background()
	if _, err := io.ReadFull(os.Stdin, make([]byte, 1)); err != nil {
		return 3
	}
	r, err := Open(ctx, ".", Options{Write: true, Cache: "../cache"})
	if err == nil {
		err = perform(ctx, r, act)
		r.Close()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func perform(ctx context.Context, r *Repo, act string) error {
	verb, arg, _ := strings.Cut(act, " ")
	switch verb {
	case "commit":
		return r.Commit(ctx, CommitOptions{})
	case "checkout":
		return r.Checkout(ctx, CheckoutOptions{})
	case "get":
		src, err := Local(arg, false)
		if err != nil {
			return err
		}
		_, err = r.Get(ctx, src, Ref{Text: arg, Path: arg}, false)
		return err
	case "import":
		f, err := os.Open(arg)
		if err != nil {
			return err
		}
		defer f.Close()
		return r.Import(ctx, f)
	case "append": // adds a key of its own to the state, again and again
		text, err := os.ReadFile("count-" + arg)
		if err != nil {
			return err
		}
		return os.WriteFile("count-"+arg, append(text, '+'), 0o644)
	}
	return fmt.Errorf("unknown act %q", act)
}

// start starts an actor; its go is given by a byte.
func start(t *testing.T, dir, act string) (*exec.Cmd, io.WriteCloser, *bytes.Buffer) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "REPO_TEST_ACT="+act)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	return cmd, in, &errs
}

// put writes files; a name is its content's seed.
func put(t *testing.T, dir, generation string) {
	t.Helper()
	for i := range 40 {
		name := filepath.Join(dir, fmt.Sprintf("part%d/file%d", i%4, i))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		text := strings.Repeat(fmt.Sprintf("%s %d\n", generation, i), 500+i)
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "run.json"), []byte(`{"generation":"`+generation+`"}`), 0o644); err != nil {
		t.Fatal(err)
	}
}

// newRepo makes a committed repository of a generation; two stores are apart.
func newRepo(t *testing.T, dir, generation string) *state.State {
	t.Helper()
	put(t, dir, generation)
	if err := Init(dir, InitOptions{Objects: "../objects-" + filepath.Base(dir)}); err != nil {
		t.Fatal(err)
	}
	r := open(t, dir, true)
	defer r.Close()
	if _, err := r.Add(t.Context(), nil, false); err != nil {
		t.Fatal(err)
	}
	if err := r.Commit(t.Context(), CommitOptions{}); err != nil {
		t.Fatal(err)
	}
	return r.Committed()
}

func open(t *testing.T, dir string, write bool) *Repo {
	t.Helper()
	r, err := Open(t.Context(), dir, Options{Write: write, Cache: filepath.Join(filepath.Dir(dir), "cache")})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// export writes a repository's archive.
func export(t *testing.T, dir, name string) {
	t.Helper()
	r := open(t, dir, false)
	defer r.Close()
	f, err := os.Create(name)
	if err == nil {
		err = r.Export(t.Context(), f, archive.ExportOptions{Gzip: true})
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// sound checks that the repository is one of the states, with all its objects
// undamaged, and returns which.
func sound(t *testing.T, dir string, states ...*state.State) int {
	t.Helper()
	r := open(t, dir, true)
	defer r.Close()
	for i, st := range states {
		if !state.Equal(st, r.Committed()) {
			continue
		}
		store, err := r.Objects()
		if err != nil {
			t.Fatal(err)
		}
		for _, sum := range st.Sums() {
			if err := store.Verify(t.Context(), sum); err != nil {
				t.Fatal(err)
			}
		}
		return i
	}
	t.Fatalf("neither the old nor the new state: %s", r.Committed().Encode())
	return 0
}

// A command that is killed at any moment leaves the old state or the new one, complete,
// and running it again completes it.
func TestKilled(t *testing.T) {
	t.Parallel()
	for _, act := range []string{"commit", "get ../next/.pvr", "import ../next.tgz", "checkout"} {
		verb, _, _ := strings.Cut(act, " ")
		t.Run(verb, func(t *testing.T) {
			t.Parallel()
			killRounds(t, act)
		})
	}
}

// killRounds kills an act many times. The first round is not killed: it measures how
// long the act takes.
func killRounds(t *testing.T, act string) {
	t.Helper()
	const rounds = 50
	work := memoryDir(t)
	old := newRepo(t, filepath.Join(work, "old"), "old")
	next := newRepo(t, filepath.Join(work, "next"), "next")
	export(t, filepath.Join(work, "next"), filepath.Join(work, "next.tgz"))
	var span time.Duration
	var seen [2]int
	for range rounds {
		dir := filepath.Join(work, "x")
		prepare(t, dir, old, next, act)
		began := time.Now()
		runAct(t, dir, act, span*5/4)
		if span == 0 {
			span = time.Since(began)
		}
		seen[sound(t, dir, old, next)]++
		finish(t, dir, act, next)
		if err := errors.Join(os.RemoveAll(dir), os.RemoveAll(filepath.Join(work, "objects-x"))); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("old state found %d times, new state %d times", seen[0], seen[1])
}

// memoryDir returns a temporary directory in memory where there is one. Syncs to a disk
// take most of the time of these tests and do not matter to a kill, which loses nothing
// that was written.
func memoryDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "repo-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// runAct runs an actor and kills it within a time; 0 leaves it alone.
func runAct(t *testing.T, dir, act string, within time.Duration) {
	t.Helper()
	cmd, in, errs := start(t, dir, act)
	if _, err := in.Write([]byte{1}); err != nil {
		t.Fatal(err)
	}
	if within == 0 {
		if err := cmd.Wait(); err != nil {
			t.Fatalf("%s: %v: %s", act, err, errs)
		}
		return
	}
	timer := time.AfterFunc(time.Duration(rand.Int64N(int64(within))), func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	_ = cmd.Wait() // killed or not: what is left counts
}

// prepare makes the repository in which an act brings the state next.
func prepare(t *testing.T, dir string, old, next *state.State, act string) {
	t.Helper()
	newRepo(t, dir, "old")
	switch act {
	case "commit":
		put(t, dir, "next")
	case "checkout":
		r := open(t, dir, true)
		defer r.Close()
		src, err := Local(filepath.Join(filepath.Dir(dir), "next/.pvr"), false)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Get(t.Context(), src, Ref{Text: "x"}, false); err != nil {
			t.Fatal(err)
		}
	}
}

// finish does the act in peace and compares all.
func finish(t *testing.T, dir, act string, next *state.State) {
	t.Helper()
	if act != "checkout" && act != "commit" {
		act = strings.Replace(act, "../", filepath.Dir(dir)+"/", 1)
	}
	r := open(t, dir, true)
	defer r.Close()
	if err := perform(t.Context(), r, act); err != nil {
		t.Fatal(err)
	}
	if !state.Equal(r.Committed(), next) {
		t.Fatal("done again, it is another state")
	}
	if err := r.Checkout(t.Context(), CheckoutOptions{}); err != nil {
		t.Fatal(err)
	}
	changes, err := r.Status(t.Context())
	if err != nil || len(changes) != 0 {
		t.Fatalf("status after all: %v, %v", changes, err)
	}
	entries, err := os.ReadDir(filepath.Join(dir, Dir))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			t.Errorf("%s is left over", e.Name())
		}
	}
}

// Commands at the same time wait for each other: none is lost.
func TestTwoAtOnce(t *testing.T) {
	t.Parallel()
	work := t.TempDir()
	dir := filepath.Join(work, "x")
	newRepo(t, dir, "old")
	const n = 6
	if err := os.WriteFile(filepath.Join(dir, "count-x"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	var cmds []*exec.Cmd
	var ins []io.WriteCloser
	var outs []*bytes.Buffer
	for range n {
		cmd, in, errs := start(t, dir, "append x")
		cmds, ins, outs = append(cmds, cmd), append(ins, in), append(outs, errs)
	}
	for _, in := range ins {
		if _, err := in.Write([]byte{1}); err != nil {
			t.Fatal(err)
		}
	}
	for i, cmd := range cmds {
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v: %s", err, outs[i])
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, "count-x"))
	if err != nil || string(text) != strings.Repeat("+", n) {
		t.Errorf("%d commands left %q, %v", n, text, err)
	}
}

// A reader does not wait for readers; a writer does, until its context ends.
func TestLockWaits(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "x")
	newRepo(t, dir, "old")
	first := open(t, dir, false)
	defer first.Close()
	second := open(t, dir, false)
	second.Close()
	ctx, cancel := context.WithCancel(t.Context())
	_, err := Open(ctx, dir, Options{Write: true, Waiting: cancel})
	if err == nil || !strings.Contains(err.Error(), "waiting for the lock") {
		t.Errorf("a writer beside a reader: %v", err)
	}
}
