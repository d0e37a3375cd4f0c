package build

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/build/gosource"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// step is a step whose work is given by a test.
type step struct {
	Label string // decides the key
	name  string
	deps  []Step
	files []Source
	cores int
	bytes int64
	runs  *atomic.Int32
	do    func(ctx context.Context, w *Work) error
}

func (s *step) Name() string               { return s.name }
func (s *step) Deps() []Step               { return s.deps }
func (s *step) Sources() ([]Source, error) { return s.files, nil }
func (s *step) Cores() int                 { return max(1, s.cores) }
func (s *step) Memory() int64              { return s.bytes }

func (s *step) Run(ctx context.Context, w *Work) error {
	if s.runs != nil {
		s.runs.Add(1)
	}
	if s.do != nil {
		return s.do(ctx, w)
	}
	return os.WriteFile(filepath.Join(w.Out, "file"), []byte(s.Label), 0o644)
}

// copied makes a step write the concatenation of its sources and its dependencies' files.
func copied(s *step) *step {
	s.do = func(_ context.Context, w *Work) error {
		var all []byte
		for _, src := range s.files {
			data, err := os.ReadFile(src.Path)
			if err != nil {
				return err
			}
			all = append(all, data...)
		}
		for _, d := range s.deps {
			data, err := os.ReadFile(filepath.Join(w.In(d), "file"))
			if err != nil {
				return err
			}
			all = append(all, data...)
		}
		return os.WriteFile(filepath.Join(w.Out, "file"), all, 0o644)
	}
	return s
}

// log keeps events.
type log struct {
	mu  sync.Mutex
	all []Event
}

func (l *log) Event(e Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, e)
}

// of returns, by step, the events of the given types.
func (l *log) of(types ...EventType) map[string]EventType {
	found := map[string]EventType{}
	for _, e := range l.all {
		for _, t := range types {
			if e.Type == t {
				found[e.Step] = t
			}
		}
	}
	return found
}

func builder(t *testing.T, dir string) (*Builder, *log) {
	t.Helper()
	c, err := OpenCache(dir)
	if err != nil {
		t.Fatal(err)
	}
	l := &log{}
	return &Builder{Cache: c, Target: "test", Workspace: "/w", Jobs: 4, Sink: l}, l
}

func build(t *testing.T, b *Builder, wanted ...Step) *Result {
	t.Helper()
	res, err := b.Build(t.Context(), wanted...)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestBuildRunsOnceAndThenTakesFromCache(t *testing.T) {
	var runs atomic.Int32
	a := &step{Label: "a", name: "a", runs: &runs}
	b := copied(&step{name: "b", deps: []Step{a}, runs: &runs})
	dir := t.TempDir()
	one, l := builder(t, dir)
	res := build(t, one, b)
	if got := read(t, filepath.Join(res.Dir(b), "file")); got != "a" || runs.Load() != 2 {
		t.Fatalf("output %q after %d runs", got, runs.Load())
	}
	if diff := cmp.Diff(map[string]EventType{"a": Done, "b": Done}, l.of(Done, Cached)); diff != "" {
		t.Error(diff)
	}
	two, l := builder(t, dir)
	res = build(t, two, b)
	if runs.Load() != 2 || !res.Step("b").Cached {
		t.Errorf("%d runs, want 2", runs.Load())
	}
	if diff := cmp.Diff(map[string]EventType{"a": Cached, "b": Cached}, l.of(Done, Cached)); diff != "" {
		t.Error(diff)
	}
}

func TestKeyHoldsEverything(t *testing.T) {
	src := filepath.Join(t.TempDir(), "src")
	write(t, src, "one")
	dir := t.TempDir()
	key := func(s Step) string {
		b, _ := builder(t, dir)
		return build(t, b, s).Step(s.Name()).Record.Key
	}
	base := &step{Label: "x", name: "s", files: []Source{{Name: "src", Path: src}}}
	first := key(base)
	if key(base) != first {
		t.Error("the same step has two keys")
	}
	if key(&step{Label: "x", name: "other", files: base.files}) != first {
		t.Error("the name changes the key")
	}
	if key(&step{Label: "y", name: "s", files: base.files}) == first {
		t.Error("a field does not enter the key")
	}
	if key(&step{Label: "x", name: "s", files: []Source{{Name: "other", Path: src}}}) == first {
		t.Error("a source's name does not enter the key")
	}
	if key(versioned{base}) == first {
		t.Error("type and version do not enter the key")
	}
	write(t, src, "two")
	changed := key(base)
	if changed == first {
		t.Error("a source's content does not enter the key")
	}
	if err := os.Chmod(src, 0o755); err != nil {
		t.Fatal(err)
	}
	if key(base) == changed {
		t.Error("the executable bit of a source does not enter the key")
	}
}

type versioned struct{ *step }

func (versioned) Version() int { return 2 }

func TestEarlyCutOff(t *testing.T) {
	src := filepath.Join(t.TempDir(), "src")
	write(t, src, "text # comment")
	var last atomic.Int32
	strip := &step{name: "strip", files: []Source{{Name: "src", Path: src}}}
	strip.do = func(_ context.Context, w *Work) error {
		text, _, _ := strings.Cut(read(t, src), " #")
		return os.WriteFile(filepath.Join(w.Out, "file"), []byte(text), 0o644)
	}
	user := copied(&step{name: "user", deps: []Step{strip}, runs: &last})
	b, _ := builder(t, t.TempDir())
	build(t, b, user)
	write(t, src, "text # another comment")
	res := build(t, b, user)
	if res.Step("strip").Cached || !res.Step("user").Cached || last.Load() != 1 {
		t.Errorf("strip cached %v, user cached %v, user ran %d times", res.Step("strip").Cached, res.Step("user").Cached, last.Load())
	}
	write(t, src, "changed")
	if res = build(t, b, user); res.Step("user").Cached || read(t, filepath.Join(res.Dir(user), "file")) != "changed" {
		t.Error("a changed output did not reach its user")
	}
}

func TestFirstFailureStopsNewStarts(t *testing.T) {
	started := make(chan struct{})
	failing := &step{name: "failing", do: func(context.Context, *Work) error {
		<-started
		return fault.New(fault.Unreachable, "fetching x: no answer")
	}}
	proceed := make(chan struct{})
	running := &step{Label: "r", name: "running"}
	running.do = func(ctx context.Context, w *Work) error {
		close(started)
		<-proceed
		return ctx.Err()
	}
	var after atomic.Int32
	behind := &step{name: "behind", deps: []Step{running}, runs: &after}
	user := &step{name: "user", deps: []Step{failing, behind}, runs: &after}
	b, l := builder(t, t.TempDir())
	b.Sink = Sinks{l, sinkFunc(func(e Event) {
		if e.Type == Failed {
			close(proceed)
		}
	})}
	res, err := b.Build(t.Context(), user)
	if err == nil || !strings.Contains(err.Error(), "running step failing: fetching x") || fault.Of(err) != fault.Unreachable {
		t.Errorf("got %v of kind %v", err, fault.Of(err))
	}
	if res.Step("running") == nil || after.Load() != 0 {
		t.Errorf("running kept: %v; %d steps started after the failure", res.Step("running") != nil, after.Load())
	}
	if diff := cmp.Diff(map[string]EventType{"failing": Failed, "running": Done}, l.of(Failed, Done, Cached)); diff != "" {
		t.Error(diff)
	}
}

type sinkFunc func(Event)

func (f sinkFunc) Event(e Event) { f(e) }

func TestCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := &step{name: "s", do: func(ctx context.Context, w *Work) error {
		_ = os.WriteFile(filepath.Join(w.Out, "half"), nil, 0o644)
		cancel()
		<-ctx.Done()
		return nil // a step that hides that it was stopped
	}}
	dir := t.TempDir()
	b, _ := builder(t, dir)
	_, err := b.Build(ctx, &step{name: "user", deps: []Step{s}})
	if fault.Of(err) != fault.Cancelled {
		t.Errorf("got %v of kind %v", err, fault.Of(err))
	}
	if want := "building test: interrupted"; err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "\n") {
		t.Errorf("want one line %q, got %v", want, err)
	}
	expectEntries(t, dir, "steps", 0)
	expectEntries(t, dir, "tmp", 0)
}

func TestModesAreNotTheUsersUmask(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o077))
	s := &step{name: "s", do: func(_ context.Context, w *Work) error {
		return errors.Join(os.Mkdir(filepath.Join(w.Out, "d"), 0o755), os.WriteFile(filepath.Join(w.Out, "d/f"), nil, 0o644))
	}}
	b, _ := builder(t, t.TempDir())
	dir := build(t, b, s).Dir(s)
	for name, want := range map[string]os.FileMode{"d": 0o755, "d/f": 0o644} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: want %v, got %v, %v", name, want, info, err)
		}
	}
	if mask := syscall.Umask(0o077); mask != 0o077 {
		t.Errorf("the build left the umask at %o", mask)
	}
}

func TestUnfinishedCopyHasNoName(t *testing.T) {
	dir := t.TempDir()
	dst := filepath.Join(dir, "sub", "image")
	if err := os.Mkdir(filepath.Dir(dst), 0o755); err != nil {
		t.Fatal(err)
	}
	out, named, err := createBeside(dst)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if _, err := os.Lstat(named); err == nil {
		t.Skipf("the file system of %s has no nameless files (O_TMPFILE)", dir)
	}
	if _, err := out.WriteString("content"); err != nil {
		t.Fatal(err)
	}
	expectEntries(t, dir, "sub", 0)
	for range 2 { // the second over the first
		if err := CopyFile(t.Context(), dst, "build_test.go"); err != nil {
			t.Fatal(err)
		}
	}
	expectEntries(t, dir, "sub", 1)
	if err := settleFile(out, named, dst); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(dst); err != nil || string(got) != "content" {
		t.Errorf("got %q, %v", got, err)
	}
	expectEntries(t, dir, "sub", 1)
}

func expectEntries(t *testing.T, dir, sub string, want int) {
	t.Helper()
	names, err := os.ReadDir(filepath.Join(dir, sub))
	if err != nil || len(names) != want {
		t.Errorf("%s holds %v (%v), want %d", sub, names, err, want)
	}
}

func TestPanicIsAnError(t *testing.T) {
	b, _ := builder(t, t.TempDir())
	other := &step{name: "other"}
	_, err := b.Build(t.Context(), &step{name: "s", do: func(_ context.Context, w *Work) error {
		w.In(other)
		return nil
	}})
	if err == nil || !strings.Contains(err.Error(), "running step s: panic") || !strings.Contains(err.Error(), "not among its Deps") {
		t.Errorf("got %v", err)
	}
}

func TestGraphMistakes(t *testing.T) {
	a := &step{name: "a"}
	a.deps = []Step{&step{name: "b", deps: []Step{a}}}
	for want, s := range map[string]Step{
		"depends on itself: a -> b -> a": a,
		"step name \"A b\"":              &step{name: "A b"},
		"step name \"../x\"":             &step{name: "../x"},
		"two different steps are named":  &step{name: "u", deps: []Step{&step{name: "x", Label: "1"}, &step{name: "x", Label: "2"}}},
	} {
		b, _ := builder(t, t.TempDir())
		if _, err := b.Build(t.Context(), s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	b, _ := builder(t, t.TempDir())
	build(t, b, &step{name: "u", deps: []Step{&step{name: "x", Label: "1"}, &step{name: "x", Label: "1"}}})
}

func TestWeightsBoundWhatRuns(t *testing.T) {
	var now, most atomic.Int32
	work := func(cores int32) func(context.Context, *Work) error {
		return func(context.Context, *Work) error {
			n := now.Add(cores)
			for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
			}
			now.Add(-cores)
			return nil
		}
	}
	var all []Step
	for i := range 40 {
		cores := i%3 + 1
		all = append(all, &step{Label: fmt.Sprint(i), name: fmt.Sprintf("s%d", i), cores: cores, do: work(int32(cores))})
	}
	b, _ := builder(t, t.TempDir())
	b.Jobs = 3
	build(t, b, all...)
	if most.Load() > 3 || most.Load() < 1 {
		t.Errorf("%d cores were busy, want at most 3", most.Load())
	}
}

// TestLargeStepsShareMemory runs steps of which two never fit together, beside small ones.
func TestLargeStepsShareMemory(t *testing.T) {
	var now, most atomic.Int64
	var small sync.WaitGroup
	small.Add(1)
	var all []Step
	for i := range 6 {
		bytes := int64(40 + 20*i) // the last ones need more than there is
		all = append(all, &step{Label: fmt.Sprint(i), name: fmt.Sprintf("s%d", i), bytes: bytes, do: func(context.Context, *Work) error {
			n := now.Add(min(bytes, 64))
			for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
			}
			small.Wait() // has cores although the memory is taken
			now.Add(-min(bytes, 64))
			return nil
		}})
	}
	all = append(all, &step{name: "small", do: func(context.Context, *Work) error {
		small.Done()
		return nil
	}})
	b, _ := builder(t, t.TempDir())
	b.Memory = 64
	build(t, b, all...)
	if most.Load() > 64 || most.Load() == 0 {
		t.Errorf("steps that need %d bytes were running, want at most 64", most.Load())
	}
}

func TestParallel(t *testing.T) {
	var meet sync.WaitGroup
	meet.Add(2)
	work := func(context.Context, *Work) error {
		meet.Done()
		meet.Wait() // ends only when both run
		return nil
	}
	b, _ := builder(t, t.TempDir())
	b.Jobs = 2
	build(t, b, &step{Label: "1", name: "one", do: work}, &step{Label: "2", name: "two", do: work})
}

func TestDamagedEntryIsRebuilt(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, entry string){
		"no record":    func(t *testing.T, e string) { remove(t, filepath.Join(e, "record.json")) },
		"empty record": func(t *testing.T, e string) { write(t, filepath.Join(e, "record.json"), "") },
		"no output":    func(t *testing.T, e string) { remove(t, filepath.Join(e, "out")) },
		"flipped bit": func(t *testing.T, e string) {
			p := filepath.Join(e, "record.json")
			write(t, p, strings.Replace(read(t, p), `"files":1`, `"files":2`, 1))
		},
		"another's record": func(t *testing.T, e string) {
			r := &Record{Inputs: []Input{textInput("type", "x")}}
			r.Key = keyOf(r.Inputs)
			data, err := r.marshal()
			if err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(e, "record.json"), string(data))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			var runs atomic.Int32
			s := &step{Label: "x", name: "s", runs: &runs}
			b, _ := builder(t, dir)
			res := build(t, b, s)
			damage(t, filepath.Dir(res.Dir(s)))
			res = build(t, b, s)
			if runs.Load() != 2 || read(t, filepath.Join(res.Dir(s), "file")) != "x" {
				t.Errorf("%d runs, want 2", runs.Load())
			}
			if build(t, b, s); runs.Load() != 2 {
				t.Error("the rebuilt entry is not used")
			}
		})
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

func TestDamagedOutput(t *testing.T) {
	for name, prepare := range map[string]func(*Builder){
		"verify":       func(b *Builder) { b.Verify = true },
		"another boot": func(b *Builder) { b.Cache.boot = "another" },
	} {
		t.Run(name, func(t *testing.T) {
			var runs atomic.Int32
			s := &step{Label: "x", name: "s", runs: &runs}
			b, _ := builder(t, t.TempDir())
			file := filepath.Join(build(t, b, s).Dir(s), "file")
			prepare(b)
			build(t, b, s)
			if runs.Load() != 1 {
				t.Fatal("an undamaged output was not used")
			}
			write(t, file, "y")
			if name == "another boot" {
				b.Cache.boot = "a third"
			}
			if build(t, b, s); runs.Load() != 2 || read(t, file) != "x" {
				t.Errorf("%d runs, want 2", runs.Load())
			}
		})
	}
}

func TestWhy(t *testing.T) {
	src := filepath.Join(t.TempDir(), "src")
	write(t, src, "one")
	a := copied(&step{Label: "1", name: "a", files: []Source{{Name: "src", Path: src}}})
	u := copied(&step{name: "u", deps: []Step{a}})
	b, l := builder(t, t.TempDir())
	why := func(name string) *Reason {
		t.Helper()
		r, err := b.Why(t.Context(), name, u)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if got := why("u"); got.Verdict != "never built" {
		t.Errorf("got %+v", got)
	}
	build(t, b, u)
	if got := why("a"); got.Verdict != "nothing changed" || len(got.Changes) != 0 {
		t.Errorf("got %+v", got)
	}
	write(t, src, "two")
	got := why("a")
	if len(got.Changes) != 1 || got.Changes[0].Name != "source/src" || got.Changes[0].Old == got.Changes[0].New || got.Changes[0].New == "" {
		t.Errorf("got %+v", got)
	}
	if got := why("u"); len(got.Changes) != 1 || got.Changes[0].Name != "dep/a" || !got.Changes[0].Pending {
		t.Errorf("got %+v", got)
	}
	a.Label = "2"
	build(t, b, u)
	if e := l.of(Running); e["a"] != Running {
		t.Errorf("a did not run: %v", e)
	}
	got = why("a")
	if got.Verdict != "nothing changed" || len(got.Before) != 2 || got.Before[0].NewValue != `"2"` {
		t.Errorf("got %+v", got)
	}
	var text bytes.Buffer
	if err := got.Write(&text); err != nil || !strings.Contains(text.String(), "field/Label") {
		t.Errorf("text %q, %v", text.String(), err)
	}
	a.Label = "1" // as at first, so nothing has to run
	write(t, src, "one")
	text.Reset()
	if got := why("a"); got.Verdict != "changed" || !got.Cached || got.Write(&text) != nil || !strings.Contains(text.String(), "in the cache already") {
		t.Errorf("got %+v\n%s", got, &text)
	}
	a.Label = "2"
	write(t, src, "two")
	keys := b.newKeeper().keys()["a"]
	if len(keys) != 2 {
		t.Errorf("the target used %d outputs of a, want the last and the one before", len(keys))
	}
	if err := b.Forget(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		if _, err := os.Stat(b.Cache.entry(key)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("an output of a is still there: %v", err)
		}
	}
	if got := why("a"); got.Verdict != "cache entry is gone" {
		t.Errorf("got %+v", got)
	}
	if _, err := b.Why(t.Context(), "zz", u); fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), "mage plan test") {
		t.Errorf("got %v", err)
	}
	near := b.unknown("initrd/bose", &Plan{Steps: []PlanStep{{Name: "initrd/base"}, {Name: "kernel/tree"}}})
	if !strings.Contains(near.Error(), "did you mean initrd/base?") {
		t.Errorf("got %v", near)
	}
}

func TestForgottenStepsRunAgain(t *testing.T) {
	var runs, below atomic.Int32
	a := &step{Label: "a", name: "a", runs: &below}
	u := copied(&step{Label: "1", name: "u", deps: []Step{a}, runs: &runs})
	b, _ := builder(t, t.TempDir())
	build(t, b, u)
	u.Label = "2" // the entry used last is not the one used next
	build(t, b, u)
	u.Label = "1"
	if err := b.ForgetSteps(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	for _, label := range []string{"1", "2"} {
		u.Label = label
		build(t, b, u)
	}
	if runs.Load() != 4 || below.Load() != 1 {
		t.Errorf("the step ran %d times, want 4; what it depends on %d, want 1", runs.Load(), below.Load())
	}
}

func TestPlanRunsNothing(t *testing.T) {
	var runs atomic.Int32
	a := &step{Label: "a", name: "a", runs: &runs}
	u := copied(&step{name: "u", deps: []Step{a}, runs: &runs})
	b, _ := builder(t, t.TempDir())
	states := func() string {
		p, err := b.Plan(t.Context(), u)
		if err != nil {
			t.Fatal(err)
		}
		return p.Steps[0].State + " " + p.Steps[1].State
	}
	if got := states(); got != "ready pending" || runs.Load() != 0 {
		t.Errorf("got %q, %d runs", got, runs.Load())
	}
	build(t, b, u)
	if got := states(); got != "cached cached" {
		t.Errorf("got %q", got)
	}
	p, err := b.Plan(t.Context(), u)
	if err != nil {
		t.Fatal(err)
	}
	for format, want := range map[string]string{"text": "cached", "json": `"state": "cached"`, "dot": `"a" -> "u"`} {
		var text bytes.Buffer
		if err := p.Write(&text, format); err != nil || !strings.Contains(text.String(), want) {
			t.Errorf("%s: %q, %v", format, text.String(), err)
		}
		if format == "json" && !json.Valid(text.Bytes()) {
			t.Error("plan is not JSON")
		}
	}
	if err := p.Write(&bytes.Buffer{}, "xml"); fault.Of(err) != fault.BadInput {
		t.Errorf("got %v", err)
	}
}

func TestMissingSource(t *testing.T) {
	b, _ := builder(t, t.TempDir())
	_, err := b.Build(t.Context(), &step{name: "s", files: []Source{{Name: "config/x", Path: "/nowhere/x"}}})
	if fault.Of(err) != fault.Missing || !strings.Contains(err.Error(), "step s: reading source config/x") {
		t.Errorf("got %v", err)
	}
}

func TestSourceDirectory(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "skel/a"), "1")
	write(t, filepath.Join(dir, "skel/sub/b"), "2")
	if err := os.Symlink("a", filepath.Join(dir, "skel/l")); err != nil {
		t.Fatal(err)
	}
	s := &step{name: "s", files: []Source{{Name: "skel", Path: filepath.Join(dir, "skel")}}}
	inputs, err := sourceInputs(s, openStatCache(""))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, in := range inputs {
		names = append(names, in.Name)
	}
	want := []string{"source/skel/.", "source/skel/a", "source/skel/l", "source/skel/sub", "source/skel/sub/b"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
}

func TestStatCache(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	kept := filepath.Join(t.TempDir(), "stats")
	write(t, path, "one")
	digest := func(c *StatCache) string {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		d, err := c.Digest(path, info)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	later := func(d time.Duration) func() time.Time {
		return func() time.Time { return time.Now().Add(d) }
	}
	c := openStatCache(kept)
	one := digest(c)
	if digest(c); c.reads() != 2 {
		t.Errorf("a file written just now was not read again: %d reads, want 2", c.reads())
	}
	c.now = later(time.Minute)
	digest(c)
	if digest(c); c.reads() != 3 {
		t.Errorf("a settled file was read again: %d reads, want 3", c.reads())
	}
	if err := c.Save(); err != nil {
		t.Fatal(err)
	}
	c = openStatCache(kept)
	if digest(c) != one || c.reads() != 0 {
		t.Errorf("%d reads from a kept cache, want 0", c.reads())
	}
	// The same size and modification time, other content: the change time tells.
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, "two")
	if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	if digest(c) == one {
		t.Error("a change behind a restored modification time went unnoticed")
	}
	write(t, kept, strings.TrimSuffix(read(t, kept), "end\n"))
	if c = openStatCache(kept); c.kept != nil {
		t.Error("a damaged cache was used")
	}
}

func TestNoChangeBuildHashesNothing(t *testing.T) {
	src := filepath.Join(t.TempDir(), "src")
	write(t, src, "one")
	s := copied(&step{name: "s", files: []Source{{Name: "src", Path: src}}})
	dir := t.TempDir()
	b, _ := builder(t, dir)
	b.Cache.stats.now = func() time.Time { return time.Now().Add(time.Minute) }
	build(t, b, s)
	b, _ = builder(t, dir)
	if build(t, b, s); b.Cache.stats.reads() != 0 {
		t.Errorf("%d files were read", b.Cache.stats.reads())
	}
}

func TestDigestTree(t *testing.T) {
	make := func(change func(dir string)) Tree {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "a"), "1")
		write(t, filepath.Join(dir, "b/c"), "2")
		change(dir)
		tree, err := DigestTree(dir)
		if err != nil {
			t.Fatal(err)
		}
		return tree
	}
	base := make(func(string) {})
	if base != make(func(string) {}) || base.Files != 2 || base.Bytes != 2 {
		t.Errorf("got %+v", base)
	}
	for name, change := range map[string]func(dir string) error{
		"content":   func(d string) error { return os.WriteFile(filepath.Join(d, "a"), []byte("x"), 0o644) },
		"mode":      func(d string) error { return os.Chmod(filepath.Join(d, "a"), 0o600) },
		"setuid":    func(d string) error { return os.Chmod(filepath.Join(d, "a"), 0o644|os.ModeSetuid) },
		"name":      func(d string) error { return os.Rename(filepath.Join(d, "a"), filepath.Join(d, "z")) },
		"link":      func(d string) error { return os.Symlink("a", filepath.Join(d, "l")) },
		"directory": func(d string) error { return os.Mkdir(filepath.Join(d, "e"), 0o755) },
		"hard":      func(d string) error { return os.Link(filepath.Join(d, "a"), filepath.Join(d, "h")) },
	} {
		got := make(func(dir string) {
			if err := change(dir); err != nil {
				t.Fatal(err)
			}
		})
		if got.Digest == base.Digest {
			t.Errorf("%s does not enter the digest", name)
		}
	}
	if got := make(func(d string) { _ = os.Chtimes(filepath.Join(d, "a"), time.Unix(1, 0), time.Unix(1, 0)) }); got != base {
		t.Error("a time enters the digest")
	}
}

// TestSparse writes one content as holes and as zeros.
func TestSparse(t *testing.T) {
	dir := t.TempDir()
	size := int64(sparseFrom + 3*block + 5)
	sparse, full := filepath.Join(dir, "sparse"), filepath.Join(dir, "full")
	content := map[int64]string{0: "boot", 7*block + 100: "middle", size - 3: "end"}
	for _, path := range []string{sparse, full} {
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		if path == full {
			_, err = f.Write(bytes.Repeat([]byte{0}, int(size)))
		} else {
			err = f.Truncate(size)
		}
		for at, text := range content {
			_, werr := f.WriteAt([]byte(text), at)
			err = errors.Join(err, werr)
		}
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	a, err := digestContent(sparse)
	if err != nil {
		t.Fatal(err)
	}
	b, err := digestContent(full)
	if err != nil || a != b {
		t.Errorf("digests differ by layout: %s and %s (%v)", a, b, err)
	}
	dst := filepath.Join(dir, "copy")
	if err := CopyFile(t.Context(), dst, sparse); err != nil {
		t.Fatal(err)
	}
	if used, err := allocated(dst); err != nil || used > 1<<20 {
		t.Errorf("the copy takes %d bytes (%v)", used, err)
	}
	want := fmt.Sprintf("%x", sha256.Sum256([]byte(read(t, full))))
	for _, path := range []string{sparse, full} {
		if sum, err := SumFile(t.Context(), path); err != nil || sum != want {
			t.Errorf("%s: the SHA-256 is %s (%v), want %s", path, sum, err, want)
		}
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := SumFile(gone, sparse); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled digest: %v", err)
	}
	if !bytes.Equal([]byte(read(t, dst)), []byte(read(t, full))) {
		t.Error("the copy differs")
	}
}

func TestDeliver(t *testing.T) {
	s := &step{Label: "content", name: "image"}
	s.do = func(_ context.Context, w *Work) error {
		w.Contains("part", 7)
		w.Warn("a pinned package was replaced")
		w.Progress(1, 2, "bytes")
		if err := os.MkdirAll(filepath.Join(w.Out, "d/e"), 0o755); err != nil {
			return err
		}
		return errors.Join(os.WriteFile(filepath.Join(w.Out, "d/e/f"), []byte("x"), 0o644),
			os.WriteFile(filepath.Join(w.Out, "img"), []byte(s.Label), 0o644))
	}
	b, l := builder(t, t.TempDir())
	out := filepath.Join(t.TempDir(), "out", "test")
	artefacts := []Artefact{{s, "img", "test.img"}, {s, "d", "directory"}}
	deliver := func() (*Report, int) {
		t.Helper()
		l.all = nil
		r, err := b.Deliver(t.Context(), out, artefacts)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, e := range l.all {
			if e.Type == Written {
				n++
			}
		}
		return r, n
	}
	r, n := deliver()
	if n != 2 || read(t, filepath.Join(out, "test.img")) != "content" || read(t, filepath.Join(out, "directory/e/f")) != "x" {
		t.Errorf("%d files written", n)
	}
	want := "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73" // sha256sum of "content"
	if r.Artefacts[0].SHA256 != want || r.Warnings[0].Text != "a pinned package was replaced" {
		t.Errorf("got %+v", r)
	}
	if len(r.Artefacts[0].Contains) != 1 || r.Artefacts[1].Contains != nil {
		t.Errorf("what the step holds is to stand with its first artefact: %+v", r.Artefacts)
	}
	if r, n = deliver(); n != 0 || !r.Steps[0].Cached || len(r.Warnings) != 1 {
		t.Errorf("%d files written again; report %+v", n, r)
	}
	write(t, filepath.Join(out, "test.img"), "edited by the user")
	if _, n = deliver(); n != 1 || read(t, filepath.Join(out, "test.img")) != "content" {
		t.Errorf("%d files mended, want 1", n)
	}
	if got := read(t, filepath.Join(build(t, b, s).Dir(s), "img")); got != "content" {
		t.Errorf("the cache shares its files with out/: %q", got)
	}
	for _, want := range []string{"test.img", "WARNING image: a pinned", "part", "cached"} {
		if !strings.Contains(read(t, filepath.Join(out, "report.txt")), want) {
			t.Errorf("report.txt does not hold %q:\n%s", want, read(t, filepath.Join(out, "report.txt")))
		}
	}
	artefacts[0].To, artefacts[1].To = "other.img", "elsewhere"
	write(t, filepath.Join(out, "directory", "mine"), "x") // changes the directory
	if _, n = deliver(); n != 2 {
		t.Errorf("%d files written under new names, want 2", n)
	}
	if _, err := os.Stat(filepath.Join(out, "test.img")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the image of the last build is still there: %v", err)
	}
	read(t, filepath.Join(out, "directory", "mine")) // what somebody has changed stays
	var back Report
	if err := json.Unmarshal([]byte(read(t, filepath.Join(out, "report.json"))), &back); err != nil || back.Target != "test" {
		t.Errorf("got %+v, %v", back, err)
	}
}

func TestPublishRefusesPathsOutside(t *testing.T) {
	s := &step{name: "s"}
	b, _ := builder(t, t.TempDir())
	for _, a := range []Artefact{{s, "file", "../x"}, {s, "../x", "x"}, {s, "file", ""}, {s, "file", ".build/x"}, {s, "gone", "x"}} {
		if _, err := b.Deliver(t.Context(), filepath.Join(t.TempDir(), "o"), []Artefact{a}); err == nil {
			t.Errorf("%+v was published", a)
		}
	}
}

// TestPublishRejectsNames has artefacts that would take each other's place, and directories that
// lead out of the output directory.
func TestPublishRejectsNames(t *testing.T) {
	s := &step{name: "s", Label: "x"}
	b, _ := builder(t, t.TempDir())
	for _, all := range [][]Artefact{
		{{s, "file", "x"}, {s, "file", "x"}}, {{s, "file", "report.json"}}, {{s, "file", "report.txt/x"}},
		{{s, "file", "x"}, {s, "file", "x/y"}}, {{s, "file", "x/y/z"}, {s, "file", "x/y"}},
	} {
		out := filepath.Join(t.TempDir(), "o")
		if _, err := b.Deliver(t.Context(), out, all); fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), "two results of the build are named") {
			t.Errorf("%+v: %v", all, err)
		}
	}
	for _, link := range []string{"sbom", ".build"} {
		out, elsewhere := t.TempDir(), t.TempDir()
		if err := os.Symlink(elsewhere, filepath.Join(out, link)); err != nil {
			t.Fatal(err)
		}
		_, err := b.Deliver(t.Context(), out, []Artefact{{s, "file", "sbom/x"}})
		if fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), link+" in "+out+" is not a directory") {
			t.Errorf("%s: %v", link, err)
		}
		if left, _ := os.ReadDir(elsewhere); len(left) > 0 {
			t.Errorf("%s: %v was written elsewhere", link, left)
		}
	}
}

// graphOf makes n steps, each reading a file and up to three steps before it.
func graphOf(tb testing.TB, n int, dir string) []Step {
	var all []Step
	for i := range n {
		src := filepath.Join(dir, fmt.Sprintf("src%d", i))
		var files []Source
		for j := range 10 {
			path := fmt.Sprintf("%s.%d", src, j)
			if err := os.WriteFile(path, []byte(path), 0o644); err != nil {
				tb.Fatal(err)
			}
			files = append(files, Source{Name: filepath.Base(path), Path: path})
		}
		s := &step{Label: fmt.Sprint(i), name: fmt.Sprintf("s%d", i), files: files}
		s.deps = all[max(0, len(all)-3):]
		all = append(all, s)
	}
	return all
}

// BenchmarkNoChange opens the cache and builds 40 steps with 400 source files in
// which nothing changed.
func BenchmarkNoChange(b *testing.B) {
	dir := b.TempDir()
	all := graphOf(b, 40, b.TempDir())
	once := func() {
		c, err := OpenCache(dir)
		if err != nil {
			b.Fatal(err)
		}
		c.stats.now = func() time.Time { return time.Now().Add(time.Minute) }
		one := &Builder{Cache: c, Target: "bench"}
		if _, err := one.Build(b.Context(), all...); err != nil {
			b.Fatal(err)
		}
	}
	once()
	before := cpuTime()
	for b.Loop() {
		once()
	}
	b.ReportMetric((cpuTime()-before).Seconds()*1000/float64(b.N), "cpu-ms/op")
}

func TestCodeOfAStepIsInItsKey(t *testing.T) {
	root := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		p := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	keyOfStep := func(s Step) string {
		t.Helper()
		code, err := gosource.Open(root)
		if err != nil {
			t.Fatal(err)
		}
		cache, err := OpenCache(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		p, err := (&Builder{Cache: cache, Code: code}).Plan(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		return p.Steps[0].Key
	}
	key := func() string { t.Helper(); return keyOfStep(versioned{&step{name: "coded"}}) }
	// The module pretends to be the one that this test's types are in.
	write("go.mod", "module github.com/pantavisor/pantavisor\n")
	write("build/step.go", "package build\n\nimport _ \"github.com/pantavisor/pantavisor/dep\"\n")
	write("dep/dep.go", "package dep\n")
	write("other/other.go", "package other\n")
	first, delegated := key(), keyOfStep(delegating{&step{name: "long"}})
	write("other/other.go", "package other\n\nvar x = 1\n")
	if key() != first {
		t.Error("the code of a package that the step does not need changed its key")
	}
	write("dep/dep.go", "package dep\n\nvar x = 1\n")
	if keyOfStep(delegating{&step{name: "long"}}) != delegated {
		t.Error("the code of a package that a delegating step does not name changed its key")
	}
	second := key()
	if second == first {
		t.Error("the code of a needed package does not enter the key")
	}
	write("build/step.go", "package build\n\nimport _ \"github.com/pantavisor/pantavisor/dep\"\n\nvar y = 2\n")
	if key() == second {
		t.Error("the code of the step's own package does not enter the key")
	}
	if keyOfStep(delegating{&step{name: "long"}}) == delegated {
		t.Error("the code of a package that a delegating step names does not enter its key")
	}
}

// delegating is a step whose key has the code of one package.
type delegating struct{ *step }

func (delegating) Packages() []string { return []string{"build"} }

// reads returns how many files had to be read so far.
func (c *StatCache) reads() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.hashed
}

// TestStatCacheFindsEveryEntry looks names up in a kept file, those at its ends included,
// and what two builds have added.
func TestStatCacheFindsEveryEntry(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "stats")
	mine, other := openStatCache(path), openStatCache(path)
	for i := range 100 {
		mine.Keep(fmt.Sprintf("/a/%03d", i), fmt.Sprint(i), strings.Repeat("v", i))
		other.Keep(fmt.Sprintf("/b/%03d", i), fmt.Sprint(i), strings.Repeat("w", i))
	}
	mine.Keep("tab\there", "1", "x")
	if err := errors.Join(mine.Save(), other.Save()); err != nil {
		t.Fatal(err)
	}
	c := openStatCache(path)
	for i := range 100 {
		for name, value := range map[string]string{"/a/%03d": "v", "/b/%03d": "w"} {
			name = fmt.Sprintf(name, i)
			if got, ok := c.Recall(name, fmt.Sprint(i)); !ok || got != strings.Repeat(value, i) {
				t.Errorf("%s: %q, %v", name, got, ok)
			}
			if _, ok := c.Recall(name, "other"); ok {
				t.Errorf("%s was recalled with another id", name)
			}
			if _, ok := c.Recall(name+"x", fmt.Sprint(i)); ok {
				t.Errorf("%sx is there", name)
			}
		}
	}
	for _, name := range []string{"", "tab", "tab\there", "~"} {
		if _, ok := c.Recall(name, "1"); ok {
			t.Errorf("%q is there", name)
		}
	}
	for _, text := range []string{"", "stat cache 2\n", "stat cache 2\nno line\nend\n", "stat cache 2\nx\ty\tzend\n", "stat cache 1\nend\n"} {
		write(t, path, text)
		if got, ok := openStatCache(path).Recall("x", "y"); ok {
			t.Errorf("%q gives %q", text, got)
		}
	}
}
