package step

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func newStore(t *testing.T) *Store {
	t.Helper()
	return Open(t.TempDir())
}

func put(t *testing.T, s *Store, revs ...string) {
	t.Helper()
	for _, rev := range revs {
		if err := s.Put(rev, []byte(`{"of":"`+rev+`"}`)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPut(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	if list, err := s.List(); len(list) != 0 || err != nil {
		t.Fatalf("a new store lists %v, %v", list, err)
	}
	put(t, s, "10", "locals/b", "9", "locals/a")
	list, err := s.List()
	if diff := cmp.Diff([]string{"10", "9", "locals/a", "locals/b"}, list); diff != "" || err != nil {
		t.Errorf("list (-want +got), %v:\n%s", err, diff)
	}
	text, err := s.ProgressText("locals/a")
	if want := `{"status":"NEW","status-msg":"Update ready to be run","progress":0,"retries":0}`; string(text) != want || err != nil {
		t.Errorf("progress %s, %v, want %s", text, err, want)
	}
	if err := errors.Join(s.SetProgress("9", Progress{Status: "QUEUED"}), s.Put("9", []byte("{}"))); err != nil {
		t.Fatal(err)
	}
	state, err := s.State("9")
	if string(state) != "{}" || err != nil {
		t.Errorf("after a second put the state is %s, %v", state, err)
	}
	if again, _ := s.ProgressText("9"); string(again) != string(text) {
		t.Errorf("after a second put the progress is %s", again)
	}
	if s.Changed("9").IsZero() || time.Since(s.Changed("9")) > time.Hour || !s.Changed("8").IsZero() {
		t.Errorf("changed at %v, a missing one at %v", s.Changed("9"), s.Changed("8"))
	}
}

func TestMarkDone(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	put(t, s, "1")
	if s.Done("1") || s.Done("2") {
		t.Error("a new or a missing revision is done")
	}
	if err := s.MarkDone("1", Progress{Status: "DONE", Percent: 100}); err != nil || !s.Done("1") {
		t.Errorf("done %v, %v", s.Done("1"), err)
	}
	if err := s.MarkDone("1", Progress{Status: "UPDATED"}); err != nil {
		t.Error(err)
	}
	if text, _ := s.ProgressText("1"); string(text) != `{"status":"DONE","status-msg":"","progress":100,"retries":0}` {
		t.Errorf("the progress of one that was done has become %s", text)
	}
}

func TestNotesNeedARevision(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	for what, err := range map[string]error{
		"message": s.SetCommitMsg("1", []byte("m")), "progress": s.SetProgress("1", firstProgress), "done": s.MarkDone("1", firstProgress),
	} {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s of a missing revision: %v", what, err)
		}
	}
	put(t, s, "1")
	if _, err := s.CommitMsg("1"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no message: %v", err)
	}
	if err := s.SetCommitMsg("1", []byte("m")); err != nil {
		t.Error(err)
	}
	if text, err := s.CommitMsg("1"); string(text) != "m" || err != nil {
		t.Errorf("message %q, %v", text, err)
	}
}

func TestNamesAreChecked(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	outside := filepath.Join(filepath.Dir(s.trails), "x")
	if err := os.MkdirAll(filepath.Join(outside, ".pvr"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(outside, fileState), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, rev := range []string{"", ".", "..", "../x", "locals", "locals/", "locals/../../x", "a/b", "/x", ".put-1", "locals/.x", "a\nb", "\xff"} {
		_, read := s.State(rev)
		_, drop := s.discard(rev)
		for what, err := range map[string]error{
			"put": s.Put(rev, nil), "read": read, "message": s.SetCommitMsg(rev, nil), "done": s.MarkDone(rev, firstProgress), "current": s.SetCurrent(rev), "discard": drop,
		} {
			if !errors.Is(err, ErrName) {
				t.Errorf("%s %q: %v", what, rev, err)
			}
		}
		if s.Has(rev) || s.Done(rev) {
			t.Errorf("there is a revision %q", rev)
		}
	}
	if err := s.SetCurrent(current); !errors.Is(err, ErrName) {
		t.Errorf("the link points to itself: %v", err)
	}
}

func TestCurrent(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	if got := s.Running(); got != "" {
		t.Errorf("%q runs", got)
	}
	put(t, s, "1", "locals/a")
	for _, rev := range []string{"1", "locals/a"} {
		if err := s.SetCurrent(rev); err != nil || s.Running() != rev {
			t.Errorf("%q runs, %v, want %q", s.Running(), err, rev)
		}
	}
	if text, err := s.State(current); string(text) != `{"of":"locals/a"}` || err != nil {
		t.Errorf("the running state is %s, %v", text, err)
	}
	if list, _ := s.List(); len(list) != 2 {
		t.Errorf("the link is in the list: %v", list)
	}
}

// TestReplaceAndSettle: a revision in use stays as it is, and Settle waits for a write that found
// it free.
func TestReplaceAndSettle(t *testing.T) {
	t.Parallel()
	s := Open(t.TempDir())
	free := func(string) bool { return false }
	if err := s.Replace("n", []byte(`{"first":1}`), free); err != nil {
		t.Fatal(err)
	}
	if err := s.Replace("n", []byte(`{}`), func(rev string) bool { return rev == "n" }); !errors.Is(err, ErrInUse) {
		t.Errorf("in use: %v", err)
	}
	asked, write, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		done <- s.Replace("n", []byte(`{"second":2}`), func(string) bool { close(asked); <-write; return false })
	}()
	<-asked
	settled := make(chan []byte, 1)
	go func() {
		s.Settle()
		text, _ := s.State("n")
		settled <- text
	}()
	if text, err := s.State("n"); err != nil || string(text) != `{"first":1}` {
		t.Errorf("before the write: %s, %v", text, err)
	}
	close(write)
	if text := <-settled; string(text) != `{"second":2}` {
		t.Errorf("after Settle the state is %s", text)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestProgressOnFullStorage has no space for a second file: what became of an update is told all
// the same.
func TestProgressOnFullStorage(t *testing.T) {
	t.Parallel()
	s := Open(tiny(t))
	put(t, s, "1")
	if err := s.SetProgress("1", Progress{Status: "INPROGRESS", Message: strings.Repeat("long ", 100)}); err != nil {
		t.Fatal(err)
	}
	stuff(t, s.Dir("1"))
	want := Progress{Status: "ERROR", Message: "why", Percent: 100}
	p := want
	p.Logs = strings.Repeat("line ", 1000)
	if err := s.SetProgress("1", p); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Progress("1"); got != want || err != nil {
		t.Errorf("progress is %+v, %v", got, err)
	}
}

// tiny mounts a file system of 128 KiB.
func tiny(t *testing.T) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=128k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// stuff writes until nothing more fits.
func stuff(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
}
