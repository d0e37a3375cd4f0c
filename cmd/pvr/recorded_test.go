package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/internal/oracle"
)

// record is one run of the program in the field.
type record struct {
	Cmd    []string `json:"cmd"`
	RC     int      `json:"rc"`
	Stdout string   `json:"stdout"`
	Stderr string   `json:"stderr"`
}

// recordings returns the directory of the recordings; the test is skipped without.
func recordings(t *testing.T) string {
	t.Helper()
	return oracle.Recordings(t, "golden/pvr")
}

// load reads a JSON file of the recordings.
func load[T any](t *testing.T, name string) T {
	t.Helper()
	var v T
	text, err := os.ReadFile(filepath.Join(recordings(t), name))
	if err == nil {
		err = json.Unmarshal(text, &v)
	}
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// scene is a scratch place with a checkout, as the recordings were made in.
type scene struct {
	t          *testing.T
	work, repo string
}

// newScene makes the place and goes there; no setting of this machine enters.
func newScene(t *testing.T) *scene {
	t.Helper()
	work, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s := &scene{t, work, filepath.Join(work, "repo")}
	for _, name := range os.Environ() {
		name, _, _ = strings.Cut(name, "=")
		if strings.HasPrefix(name, "PVR_") || strings.HasPrefix(name, "PVS_") {
			t.Setenv(name, "")
			os.Unsetenv(name)
		}
	}
	t.Setenv("HOME", filepath.Join(work, "home"))
	s.mkdir("home")
	s.mkdir("repo")
	t.Chdir(s.repo)
	return s
}

func (s *scene) mkdir(name string) {
	s.t.Helper()
	if err := os.MkdirAll(filepath.Join(s.work, name), 0o755); err != nil {
		s.t.Fatal(err)
	}
}

// result is what a run gave.
type result struct {
	rc             int
	stdout, stderr string
}

// run runs the tool in the current directory.
func (s *scene) run(args ...string) result {
	return s.runInput("", args...)
}

func (s *scene) runInput(stdin string, args ...string) result {
	s.t.Helper()
	for i, a := range args {
		args[i] = s.expand(a)
	}
	var out, errs bytes.Buffer
	rc := Run(context.Background(), append([]string{"pvr"}, args...), strings.NewReader(stdin), &out, &errs)
	return result{rc, s.hide(out.String()), s.hide(errs.String())}
}

// must runs the tool and expects success.
func (s *scene) must(args ...string) result {
	s.t.Helper()
	got := s.run(args...)
	if got.rc != 0 {
		s.t.Fatalf("pvr %v: exit code %d, %s", args, got.rc, got.stderr)
	}
	return got
}

// expand puts the real paths in; hide puts the recordings' placeholders back.
func (s *scene) expand(text string) string {
	return strings.NewReplacer("@REPO@", s.repo, "@WORK@", s.work).Replace(text)
}

func (s *scene) hide(text string) string {
	return strings.NewReplacer(s.repo, "@REPO@", s.work, "@WORK@").Replace(text)
}

// replay runs a recorded command and compares all that it gave; sorted ignores the
// order of lines where the recording has none.
func (s *scene) replay(rec record, sorted bool) {
	s.t.Helper()
	got := s.run(append([]string(nil), rec.Cmd[1:]...)...)
	want := result{rec.RC, rec.Stdout, rec.Stderr}
	if sorted {
		got, want = got.sorted(), want.sorted()
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(result{})); diff != "" {
		s.t.Errorf("%v (-recorded +got):\n%s", rec.Cmd, diff)
	}
}

func (r result) sorted() result {
	return result{r.rc, sortLines(r.stdout), sortLines(r.stderr)}
}

func sortLines(text string) string {
	lines := strings.SplitAfter(text, "\n")
	sort.Strings(lines)
	return strings.Join(lines, "")
}

func (s *scene) read(name string) string {
	s.t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(text)
}

func (s *scene) write(name, text string) {
	s.t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

// untar unpacks a recorded tarball.
func untar(t *testing.T, name, dir string) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	tr := tar.NewReader(z)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, h.Name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		text, err := io.ReadAll(tr)
		if err == nil {
			err = os.WriteFile(path, text, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// attributes are what the recordings say of a file.
type attributes struct {
	Sum   string `json:"sha256"`
	Size  int64  `json:"size"`
	Mode  string `json:"mode"`
	Links uint64 `json:"nlink"`
}

// tree returns the files of a directory without the repository's own.
func tree(t *testing.T, dir string) map[string]attributes {
	t.Helper()
	out := map[string]attributes{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			if err == nil && d.Name() == ".pvr" {
				return fs.SkipDir
			}
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		sum := sha256.Sum256(text)
		name, err := filepath.Rel(dir, path)
		out[name] = attributes{hex.EncodeToString(sum[:]), int64(len(text)), fmt.Sprintf("0o%o", st.Mode&0o7777), uint64(st.Nlink)} //nolint:unconvert // 32 bits wide on some architectures
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// sums drops all attributes but the content.
func sums(files map[string]attributes) map[string]string {
	out := map[string]string{}
	for name, a := range files {
		out[name] = a.Sum
	}
	return out
}

func TestRecordedTranscript(t *testing.T) {
	s := newScene(t)
	untar(t, filepath.Join(recordings(t), "repo/tree.tgz"), s.repo)
	for i, rec := range load[[]record](t, "repo/transcript.json") {
		if len(rec.Cmd) > 2 && rec.Cmd[1] == "commit" {
			if got, want := s.read(".pvr/new"), s.raw("repo/new-file.json"); got != want {
				t.Errorf("add list (-recorded +got):\n%s", cmp.Diff(want, got))
			}
		}
		t.Run(fmt.Sprintf("%d-%s", i, rec.Cmd[1]), func(t *testing.T) {
			sub := *s
			sub.t = t
			sub.replay(rec, true)
		})
	}
	if got, want := s.read(".pvr/json"), s.raw("repo/state.canonical.json"); got != want {
		t.Errorf("state (-recorded +got):\n%s", cmp.Diff(want, got))
	}
	if got, want := s.must("json").stdout, s.raw("repo/json-command.txt"); got != want {
		t.Errorf("json (-recorded +got):\n%s", cmp.Diff(want, got))
	}
	dot := load[map[string]string](t, "repo/dot-pvr.json")
	for name, want := range dot {
		if got := s.hide(s.read(".pvr/" + name)); got != want {
			t.Errorf("%s (-recorded +got):\n%s", name, cmp.Diff(want, got))
		}
	}
}

// raw returns a file of the recordings.
func (s *scene) raw(name string) string {
	s.t.Helper()
	return s.read(filepath.Join(recordings(s.t), name))
}

// commitTree makes the recorded tree a commit.
func (s *scene) commitTree() {
	s.t.Helper()
	untar(s.t, filepath.Join(recordings(s.t), "repo/tree.tgz"), s.repo)
	s.must("init", "-o", "@WORK@/objects")
	s.must("add", ".")
	s.must("commit", "-m", "initial")
}

func TestRecordedErrors(t *testing.T) {
	s := newScene(t)
	s.commitTree()
	for _, rec := range load[[]record](t, "repo/errors.json") {
		t.Run(strings.Join(rec.Cmd[1:], " "), func(t *testing.T) {
			sub := *s
			sub.t = t
			sub.replay(rec, false)
		})
	}
}

func TestRecordedSeries(t *testing.T) {
	type step struct {
		Step  string             `json:"step"`
		Write map[string]*string `json:"write"`
		Run   []record           `json:"run"`
		State string             `json:"state_after"`
		Dot   []string           `json:"dot_pvr_files"`
		Tree  map[string]string  `json:"tree_after"`
	}
	series := load[struct {
		Objects []string `json:"objects_dir_at_end"`
		Steps   []step   `json:"steps"`
	}](t, "status/series.json")
	s := newScene(t)
	for _, st := range series.Steps {
		for name, text := range st.Write {
			if text == nil {
				if err := os.Remove(name); err != nil {
					t.Fatal(err)
				}
			} else {
				s.write(name, *text)
			}
		}
		t.Run(st.Step, func(t *testing.T) {
			sub := *s
			sub.t = t
			for _, rec := range st.Run {
				sub.replaySeries(rec)
			}
			if got := hideTime(sub.read(".pvr/json")); got != keptNulls(st.State) {
				t.Errorf("state (-recorded +got):\n%s", cmp.Diff(keptNulls(st.State), got))
			}
			if diff := cmp.Diff(st.Dot, names(t, ".pvr")); diff != "" {
				t.Errorf("files in .pvr (-recorded +got):\n%s", diff)
			}
			got := sums(tree(t, "."))
			delete(got, "checkpoint.json") // it holds the time, and was not recorded
			if diff := cmp.Diff(st.Tree, got); diff != "" {
				t.Errorf("tree (-recorded +got):\n%s", diff)
			}
		})
	}
	if diff := cmp.Diff(series.Objects, names(t, "../objects")); diff != "" {
		t.Errorf("objects (-recorded +got):\n%s", diff)
	}
}

// Null members of JSON files are kept and reported as unchanged; the program in the
// field never commits them and reports such a file as changed for ever.
func keptNulls(state string) string {
	return strings.ReplaceAll(state, `"nul.json":{"b":[1]}`, `"nul.json":{"a":null,"b":[1,null]}`)
}

var nullDiff = regexp.MustCompile(`(?s),?\n?\t"nul.json": \{\n\t\t"a": null,\n\t\t"b": \[\n\t\t\t1,\n\t\t\tnull\n\t\t\]\n\t\}`)

// replaySeries compares with what was recorded, less the report of null members.
func (s *scene) replaySeries(rec record) {
	s.t.Helper()
	if rec.Cmd[1] == "add" && rec.Cmd[len(rec.Cmd)-1] == "dir" { // a warning says that nothing matched
		if got := s.run(rec.Cmd[1:]...); got.rc != 0 || !strings.Contains(got.stderr, "matches no file") {
			s.t.Errorf("%v: %+v", rec.Cmd, got)
		}
		return
	}
	rec.Stdout = strings.ReplaceAll(rec.Stdout, "C nul.json\n", "")
	rec.Stderr = strings.ReplaceAll(rec.Stderr, "Committing (inline): @REPO@/nul.json\n", "")
	if rec.Cmd[1] == "diff" {
		rec.Stdout = nullDiff.ReplaceAllString(rec.Stdout, "")
		if rec.Stdout == "{\n}\n" || rec.Stdout == "{\n\n}\n" {
			rec.Stdout = "{}\n"
		}
	}
	if rec.Cmd[1] == "commit" && rec.RC == 0 && rec.Stderr == "" { // recorded as silence
		rec.Stderr = nothingToCommit
	}
	got := s.run(append([]string(nil), rec.Cmd[1:]...)...)
	got.stdout = hideTime(got.stdout)
	want := result{rec.RC, rec.Stdout, rec.Stderr}
	if rec.Cmd[1] == "status" || rec.Cmd[1] == "commit" {
		got, want = got.sorted(), want.sorted()
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(result{})); diff != "" {
		s.t.Errorf("%v (-recorded +got):\n%s", rec.Cmd, diff)
	}
}

var majorTime = regexp.MustCompile(`"major":( ?)"[^"@]*"`)

func hideTime(text string) string { return majorTime.ReplaceAllString(text, `"major":$1"@RFC3339@"`) }

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	out := []string{}
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func sumOf(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

func octal(n int64) string { return fmt.Sprintf("%o", n) }
