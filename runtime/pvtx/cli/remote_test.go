package cli

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/revision/state"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
	"github.com/pantavisor/pantavisor/runtime/pvtx"
	"github.com/pantavisor/pantavisor/runtime/step"
)

func TestChangeOfTheRunningRevision(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	web, old, next := w.app("web", "1"), w.app("nginx", "1"), w.app("nginx", "2")
	w.serve(w.merged(web, old))
	w.ok("begin")
	w.same(w.merged(web, old), w.shown())
	w.ok("add", w.export(next, true))
	w.ok("remove", "web")
	rev := strings.TrimSuffix(w.ok("commit"), "\n")
	if !regexp.MustCompile(`^locals/pvtx-[0-9]{10}-[0-9a-f]{8}-[0-9]{1,3}$`).MatchString(rev) {
		t.Errorf("the revision is %q", rev)
	}
	w.same(next, w.readState("storage/trails", rev, ".pvr/json"))
	for _, sum := range next.Sums() {
		if _, err := os.Stat(w.path("storage/objects", sum)); err != nil {
			t.Error(err)
		}
	}
	w.fails(11, "no active transaction", "show")
	w.fails(11, "no active transaction", "commit")
	w.ok("begin", rev)
	w.same(next, w.shown())
}

func TestNamesOfRevisions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve(w.app("web", "1"))
	w.ok("begin", "current")
	for _, name := range []string{"x", "0", "locals/", "locals/a/b", "locals/../x", "locals/.x", "../locals/x", "locals/a\nb", "locals/" + strings.Repeat("x", 65)} {
		w.fails(1, "revision name", "commit", name)
	}
	if got := w.ok("commit", "-m", "a message", "locals/"+strings.Repeat("x", 64)); got != "locals/"+strings.Repeat("x", 64)+"\n" {
		t.Errorf("commit prints %q", got)
	}
	if got, _ := os.ReadFile(w.path("storage/trails/locals", strings.Repeat("x", 64), ".pv/commitmsg")); string(got) != "a message" {
		t.Errorf("message %q", got)
	}
}

func TestCommitAndRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve(w.app("web", "1"))
	w.ok("begin")
	w.engine.busy = 1
	code, out, bad := w.try("", "commit", "--run", "locals/a")
	if code != 75 || out != "locals/a\n" || bad != "ERROR: commit: running revision locals/a: Cannot do this operation while update is ongoing\n" {
		t.Errorf("while another update is tested: exit %d, %q, %q", code, out, bad)
	}
	w.ok("begin")
	w.engine.busy = 1
	code, out, bad = w.try("", "commit", "--run", "--wait", "locals/b")
	if code != 0 || out != "locals/b\n" || !strings.Contains(bad, "another update is in progress") || !strings.HasSuffix(bad, "  TESTING     Awaiting\n  DONE        Update finished\n") {
		t.Errorf("waiting: exit %d, %q, %q", code, out, bad)
	}
	w.ok("begin")
	w.engine.fails = true
	code, out, bad = w.try("", "--json", "commit", "--run", "--wait", "locals/c")
	var got struct {
		Revision string
		Update   api.Update
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != 1 || got.Revision != "locals/c" || got.Update.Failure == nil || !strings.Contains(bad, "ERROR: commit: the update failed: web ended") {
		t.Errorf("a failed update: exit %d, %q, %q", code, out, bad)
	}
	w.ok("begin")
	w.engine.busy = 1
	if code, out, _ = w.try("", "commit", "--run", "--json", "locals/e"); code != 75 || out != `{"revision":"locals/e"}`+"\n" {
		t.Errorf("a device that is busy: exit %d, %s", code, out)
	}
	w.ok("begin")
	if out := w.ok("commit", "--run", "--json", "locals/d"); out != `{"revision":"locals/d"}`+"\n" {
		t.Errorf("without waiting: %s", out)
	}
	var ran []string
	for _, u := range w.engine.updates {
		ran = append(ran, u.Mode+" "+u.Revision)
	}
	if diff := cmp.Diff([]string{"LOCAL_RUN locals/b", "LOCAL_RUN locals/c", "LOCAL_RUN locals/d"}, ran); diff != "" {
		t.Error(diff)
	}
}

func TestDifference(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	web, old, next := w.app("web", "1"), w.app("nginx", "1"), w.app("nginx", "2", "_config/nginx/x", "config")
	w.serve(w.merged(web, old))
	w.ok("begin")
	w.ok("add", w.export(next, true))
	w.ok("remove", "web")
	w.ok("add", w.bare(w.app("more", "1")))
	more, _ := w.shown().Object("more/root.squashfs")
	want := pvtx.Difference{
		Parts: []state.PartChange{
			{Part: "more", Change: "added", Files: 4}, {Part: "nginx", Change: "changed", Files: 4, Bytes: int64(len("root of nginx 2" + "config"))},
			{Part: "web", Change: "removed", Files: 4},
		},
		Bytes: int64(len("root of nginx 2" + "config")), Missing: []string{more},
	}
	var got pvtx.Difference
	if err := json.Unmarshal([]byte(w.ok("diff", "--json")), &got); err != nil {
		t.Fatal(err)
	}
	// web's object is not on the device either, but the transaction does not need it
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got := w.ok("diff"); !strings.HasPrefix(got, "added    more: files 4, new bytes 0\nchanged  nginx: ") {
		t.Errorf("diff prints %s", got)
	}
	code, out, bad := w.try("", "check", "--json")
	var report pvtx.Report
	if err := json.Unmarshal([]byte(out), &report); err != nil || code != 1 || len(report.Blockers) != 1 || !strings.Contains(report.Blockers[0], more) {
		t.Errorf("check: exit %d, %s, %s, %v", code, out, bad, err)
	}
	w.ok("add", w.export(w.app("more", "1"), true))
	w.engine.blockers = []api.UpdateBlocker{{Check: "compatibility", Text: "web requires camera, which nothing provides"}}
	code, out, bad = w.try("", "check")
	if code != 1 || !strings.Contains(out, "\nblocker  web requires camera, which nothing provides\n") {
		t.Errorf("check of what the device does not take: exit %d, %s, %s", code, out, bad)
	}
	w.engine.blockers = nil
	if out := w.ok("check"); strings.Contains(out, "blocker") {
		t.Errorf("check prints %s", out)
	}
}

func TestDifferenceOfALocalTransaction(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.local(w.app("web", "1"))
	w.ok("add", w.export(w.app("web", "2"), true))
	if got := w.ok("diff"); !strings.HasPrefix(got, "changed  web: files 3, new bytes 13\n") {
		t.Errorf("diff prints %s", got)
	}
}

// TestWhatIsSent: the running revision's objects are not sent, all others are, because
// the device may be about to collect them.
func TestWhatIsSent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	runs, garbage := w.app("web", "1"), w.app("nginx", "1")
	w.serve(runs)
	w.ok("begin", "empty")
	for _, app := range []*state.State{runs, garbage} {
		w.ok("add", w.export(app, true))
	}
	storage := func(st *state.State) string { return w.path("storage/objects", st.Sums()[0]) }
	for _, st := range []*state.State{runs, garbage} {
		if err := os.WriteFile(storage(st), []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	w.ok("add", w.export(w.merged(runs, garbage), true)) // the sizes are wrong
	if err := os.WriteFile(storage(runs), []byte("root of web 0"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(storage(garbage), []byte("root of nginx 0"), 0o644); err != nil {
		t.Fatal(err)
	}
	w.ok("add", w.export(w.merged(runs, garbage), true))
	for st, want := range map[*state.State]string{runs: "root of web 0", garbage: "root of nginx 1"} {
		if got, err := os.ReadFile(storage(st)); err != nil || string(got) != want {
			t.Errorf("%q, %v; want %q", got, err, want)
		}
	}
}

// TestGarbageDuringATransaction collects garbage between the steps of a transaction: without a
// defer time nothing else keeps objects that no revision names.
func TestGarbageDuringATransaction(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	runs, next, other := w.app("web", "1"), w.app("nginx", "2"), w.app("db", "1")
	w.serve(runs)
	steps := step.Open(w.storage)
	collect := func() (left int) {
		t.Helper()
		g := &step.Garbage{Steps: steps, Objects: w.path("storage/objects"), Keep: func() ([]string, error) { return []string{"0"}, nil }, Beside: func(string) []string { return nil }}
		if _, err := g.Collect(t.Context()); err != nil {
			t.Fatal(err)
		}
		list, err := os.ReadDir(g.Objects)
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	w.ok("begin")
	for _, app := range []*state.State{next, other} {
		w.ok("add", w.export(app, true))
		collect()
	}
	w.ok("remove", "db")
	w.ok("commit", "locals/a")
	for _, sum := range next.Sums() {
		if _, err := os.Stat(w.path("storage/objects", sum)); err != nil {
			t.Error(err)
		}
	}
	if left := collect(); left != 0 {
		t.Errorf("%d objects are left when the transaction has ended and its revision is garbage", left)
	}
	w.ok("begin", "empty")
	w.ok("add", w.export(other, true))
	if left := collect(); left == 0 {
		t.Error("nothing is held")
	}
	w.ok("abort")
	if left := collect(); left != 0 {
		t.Errorf("%d objects are left of a transaction that was discarded", left)
	}
}
