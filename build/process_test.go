package build

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The environment of a re-executed test binary that builds instead of testing.
const (
	envCache = "BUILD_TEST_CACHE"
	envOut   = "BUILD_TEST_OUT"
	envRuns  = "BUILD_TEST_RUNS" // a directory; every run of a step leaves a file
)

func TestMain(m *testing.M) {
	if os.Getenv(envCache) == "" {
		os.Exit(m.Run())
	}
	if err := child(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// child builds the graph of the tests below in a separate process.
func child() error {
	c, err := OpenCache(os.Getenv(envCache))
	if err != nil {
		return err
	}
	b := &Builder{Cache: c, Target: "t", Workspace: "/w", Jobs: 2}
	fmt.Println("up") // the parent kills from here on
	_, err = b.Deliver(context.Background(), os.Getenv(envOut), artefactsOf(os.Getenv(envRuns)))
	return err
}

const bigSize = 3 << 20

// artefactsOf returns a graph with outputs large enough that a kill can interrupt their
// writing.
func artefactsOf(runs string) []Artefact {
	big := func(name string, fill byte, deps ...Step) *step {
		s := &step{Label: name, name: name, deps: deps}
		s.do = func(_ context.Context, w *Work) error {
			f, err := os.CreateTemp(runs, name+".")
			if err != nil {
				return err
			}
			if err := f.Close(); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(w.Out, "file"), bytes.Repeat([]byte{fill}, bigSize), 0o644)
		}
		return s
	}
	a := big("a", 'a')
	b := big("b", 'b', a)
	c := big("c", 'c', a)
	return []Artefact{{a, "file", "a.img"}, {b, "file", "b.img"}, {c, "file", "dir/c.img"}}
}

func command(t *testing.T, cache, out, runs string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), envCache+"="+cache, envOut+"="+out, envRuns+"="+runs)
	cmd.Stderr = os.Stderr
	return cmd
}

// whole fails the test for each incomplete file below out and returns the number of
// artefacts.
func whole(t *testing.T, out string) int {
	t.Helper()
	n := 0
	for name, fill := range map[string]byte{"a.img": 'a', "b.img": 'b', "dir/c.img": 'c'} {
		data, err := os.ReadFile(filepath.Join(out, name))
		if os.IsNotExist(err) {
			continue
		}
		if err != nil || !bytes.Equal(data, bytes.Repeat([]byte{fill}, bigSize)) {
			t.Errorf("%s is half written: %d bytes, %v", name, len(data), err)
		}
		n++
	}
	return n
}

func TestTwoProcessesAtOnce(t *testing.T) {
	cache, out, runs := t.TempDir(), t.TempDir(), t.TempDir()
	var all []*exec.Cmd
	for range 3 {
		cmd := command(t, cache, out, runs)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		all = append(all, cmd)
	}
	for _, cmd := range all {
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
	if n := whole(t, out); n != 3 {
		t.Errorf("%d artefacts, want 3", n)
	}
	expectEntries(t, runs, ".", 3) // each step ran once across all three processes
	expectEntries(t, cache, "tmp", 0)
}

// TestKilledBuilds kills builds at any moment. After each, nothing below out is
// half written; the next complete build succeeds and leaves nothing behind.
func TestKilledBuilds(t *testing.T) {
	cache, out, runs := t.TempDir(), t.TempDir(), t.TempDir()
	killed := 0
	for i := range 50 {
		if i%5 == 0 { // start from nothing again, or later rounds have nothing to do
			remove(t, filepath.Join(cache, "steps"))
			remove(t, out)
		}
		if killAfter(t, command(t, cache, out, runs), time.Duration(rand.IntN(25_000))*time.Microsecond) {
			killed++
		}
		whole(t, out)
	}
	t.Logf("%d of 50 builds died before they were done", killed)
	if killed == 0 {
		t.Error("no build was killed: the test proves nothing")
	}
	for _, name := range []string{"a.img", ReportName, ReportText, stateFile, "dir/c.img"} { // what a kill may leave, created for certain
		left := filepath.Join(out, filepath.Dir(name), tmpPattern(name)+"1")
		if err := errors.Join(os.MkdirAll(filepath.Dir(left), 0o755), os.WriteFile(left, nil, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if err := command(t, cache, out, runs).Run(); err != nil {
		t.Fatal(err)
	}
	if n := whole(t, out); n != 3 {
		t.Errorf("%d artefacts, want 3", n)
	}
	expectEntries(t, cache, "tmp", 0)
	for _, in := range []string{"", ".build", "dir"} {
		left, err := filepath.Glob(filepath.Join(out, in, ".*.tmp-*"))
		if err != nil || len(left) > 0 {
			t.Errorf("left in out: %v (%v)", left, err)
		}
	}
}

// killAfter starts a build, kills it a while after it is up and reports whether it died
// of the signal.
func killAfter(t *testing.T, cmd *exec.Cmd, wait time.Duration) bool {
	t.Helper()
	up, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := up.Read(make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(wait, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	err = cmd.Wait()
	return err != nil && strings.Contains(err.Error(), "killed")
}

// TestSweepSparesRunningBuilds opens the cache while a step runs.
func TestSweepSparesRunningBuilds(t *testing.T) {
	dir := t.TempDir()
	b, _ := builder(t, dir)
	write(t, filepath.Join(dir, "tmp", strings.Repeat("ab", 32)+".1/out/left"), "of a killed build")
	s := &step{Label: "x", name: "s"}
	s.do = func(_ context.Context, w *Work) error {
		if _, err := OpenCache(dir); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(w.Out, "file"), nil, 0o644)
	}
	build(t, b, s)
	expectEntries(t, dir, "tmp", 0)
}
