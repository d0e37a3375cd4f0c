package device

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/revision/state"
	"github.com/pantavisor/pantavisor/revision/trail"
	"github.com/pantavisor/pantavisor/runtime/config"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
	"github.com/pantavisor/pantavisor/runtime/engine"
	"github.com/pantavisor/pantavisor/runtime/logs"
	"github.com/pantavisor/pantavisor/runtime/step"
)

// sinkFunc is a log sink.
type sinkFunc func(string)

func (f sinkFunc) Log(_, _ string, l logs.Level, msg string) { f(l.String() + " " + msg) }

// configured is a configuration whose storage is in a test's directory.
func configured(t *testing.T, settings map[config.Key]string) *config.Config {
	t.Helper()
	dir := t.TempDir()
	cfg := config.New()
	cfg.Apply(config.Env, config.StorageMntPoint, dir)
	cfg.Apply(config.Env, config.LogDir, filepath.Join(dir, "logs"))
	for k, v := range settings {
		cfg.Apply(config.Env, k, v)
	}
	return cfg
}

func TestOrders(t *testing.T) {
	claimed := map[config.Key]string{config.CredsPRN: "prn:::devices:/1"}
	local := map[config.Key]string{config.ControlRemote: "0"}
	for _, c := range []struct {
		op       string
		settings map[config.Key]string
		status   int
	}{
		{"UPDATE_METADATA", nil, 409}, {"MAKE_FACTORY", claimed, 409}, {"ENABLE_SSH", nil, 501},
		{"DISABLE_SSH", nil, 501}, {"GO_REMOTE", local, 409}, {"DEFER_REBOOT", nil, 409},
		{"XCONNECT_GRAPH", nil, 501}, {"UNCLAIM", nil, 204}, {"UNCLAIM", claimed, 501},
	} {
		var e *api.Error
		if err := (&commands{cfg: configured(t, c.settings)}).order(c.op, ""); !errors.As(err, &e) || e.Status != c.status || e.Text == "" {
			t.Errorf("%s with %v: %v, want %d", c.op, c.settings, err, c.status)
		}
	}
}

// testStorage is a storage with revisions.
type testStorage struct {
	*collector
	t     *testing.T
	store *objects.Store
}

// trails is the directory of all revisions.
func (s *testStorage) trails() string { return s.steps.Dir("") }

// revision makes a revision with one container's file for each text; .bind files are
// copies of their objects.
func (s *testStorage) revision(rev string, texts ...string) {
	s.t.Helper()
	st := state.New(state.Spec)
	for i, text := range texts {
		sum, err := s.store.Put(context.Background(), strings.NewReader(text), "")
		if err == nil {
			err = st.SetObject(fmt.Sprintf("app/%d.bind", i), sum)
		}
		if err == nil {
			err = st.SetObject(fmt.Sprintf("app/%d", i), sum)
		}
		if err != nil {
			s.t.Fatal(err)
		}
	}
	dir := filepath.Join(s.trails(), rev)
	err := errors.Join(os.MkdirAll(filepath.Dir(dir), 0o755), trail.Checkout(context.Background(), dir, st, s.store, trail.Options{NoBootLinks: true}),
		os.MkdirAll(filepath.Join(s.paths.logs, rev, "app"), 0o755), os.MkdirAll(filepath.Join(s.paths.disks, "rev", rev, "app"), 0o755))
	if err != nil {
		s.t.Fatal(err)
	}
}

func newTestStorage(t *testing.T, settings map[config.Key]string) *testStorage {
	t.Helper()
	cfg := configured(t, settings)
	cfg.Apply(config.Env, config.StorageGCThresholdDefertime, "0")
	p := newPaths(cfg)
	s := &testStorage{t: t, collector: &collector{
		cfg: cfg, inUse: func() []string { return []string{"locals/x"} }, updating: func() []string { return nil }, paths: p, steps: step.Open(p.storage), log: logs.Logger{Sink: sinkFunc(func(m string) { t.Log(m) })},
	}}
	var err error
	if s.store, err = objects.Create(s.paths.objects); err != nil {
		t.Fatal(err)
	}
	s.revision("0", "shared", "factory")
	s.revision("3", "shared", "running")
	s.revision("4", "tried")
	s.revision("5", "old")
	s.revision("locals/x", "local", "shared")
	s.revision("locals/y", "local2")
	if _, err := s.store.Put(context.Background(), strings.NewReader("nobody's"), ""); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.MkdirAll(filepath.Join(s.paths.storage, "boot"), 0o755),
		os.WriteFile(filepath.Join(s.paths.storage, "boot", "uboot.txt"), []byte("pv_rev=3\x00pv_try=4\x00"), 0o644),
		os.Symlink("locals/x", filepath.Join(s.trails(), "current")),
		os.MkdirAll(filepath.Join(s.trails(), ".trash-9", "app"), 0o755)); err != nil {
		t.Fatal(err)
	}
	return s
}

// content lists what a directory holds.
func content(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestGarbageIsCollected(t *testing.T) {
	s := newTestStorage(t, nil)
	freed, err := s.collect(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	// Two copies of the .bind file, and the object with its link in the trail.
	if want := int64(2*len("factory") + 2*len("old") + 2*len("local2") + len("nobody's") + len("shared")); freed < want {
		t.Errorf("freed %d bytes, want at least %d", freed, want)
	}
	for dir, want := range map[string][]string{
		s.trails(): {"3", "4", "current", "locals"}, filepath.Join(s.trails(), "locals"): {"x"},
		s.paths.logs: {"3", "4", "locals"}, filepath.Join(s.paths.disks, "rev"): {"3", "4", "locals"},
	} {
		if diff := cmp.Diff(want, content(t, dir)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", dir, diff)
		}
	}
	for _, rev := range []string{"3", "4", "locals/x"} {
		doc, _ := os.ReadFile(filepath.Join(s.trails(), rev, ".pvr/json"))
		st, err := state.Parse(doc)
		if err != nil {
			t.Fatal(err)
		}
		if missing := s.store.Missing(st); len(missing) > 0 {
			t.Errorf("revision %s misses %v", rev, missing)
		}
	}
	if sums, _ := s.store.List(); len(sums) != 4 { // shared, running, tried, local
		t.Errorf("%d objects are left", len(sums))
	}
	if again, err := s.collect(context.Background()); again != 0 || err != nil {
		t.Errorf("collecting again frees %d bytes, %v", again, err)
	}
}

func TestFactoryIsKeptWhenConfigured(t *testing.T) {
	s := newTestStorage(t, map[config.Key]string{config.StorageGCKeepFactory: "1"})
	if _, err := s.collect(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got := content(t, s.trails()); !slices.Contains(got, "0") {
		t.Errorf("revisions %v", got)
	}
}

// TestFactoryIsKeptUntilACommit tries a revision on a device that has committed none: the loader falls
// back to the factory's.
func TestFactoryIsKeptUntilACommit(t *testing.T) {
	s := newTestStorage(t, nil)
	if err := os.WriteFile(filepath.Join(s.paths.storage, "boot", "uboot.txt"), []byte("pv_try=4\x00"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := s.collect(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got := content(t, s.trails()); !slices.Contains(got, "0") {
		t.Errorf("revisions %v", got)
	}
}

func TestNothingIsCollectedInDoubt(t *testing.T) {
	for name, damage := range map[string]func(s *testStorage) error{
		"the state of a kept revision": func(s *testStorage) error {
			return os.WriteFile(filepath.Join(s.trails(), "4/.pvr/json"), []byte("{"), 0o644)
		},
		"an unknown boot loader": func(s *testStorage) error {
			s.cfg.Apply(config.Env, config.BootloaderType, "rpiab")
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newTestStorage(t, nil)
			if err := damage(s); err != nil {
				t.Fatal(err)
			}
			before, _ := s.store.List()
			if _, err := s.collect(context.Background()); err == nil {
				t.Error("it was collected")
			}
			after, _ := s.store.List()
			if got := content(t, s.trails()); len(got) != 7 || len(after) != len(before) {
				t.Errorf("left are %v and %d of %d objects", got, len(after), len(before))
			}
		})
	}
}

func TestOneCollectionAtATime(t *testing.T) {
	s := newTestStorage(t, nil)
	bg := &services{ctx: t.Context(), log: s.log}
	s.mu.Lock()
	if _, err := s.collect(context.Background()); !errors.Is(err, engine.ErrBusy) {
		t.Errorf("a second collection: %v", err)
	}
	if err := s.start(bg); !errors.Is(err, engine.ErrBusy) {
		t.Errorf("RUN_GC during a collection: %v", err)
	}
	s.mu.Unlock()
	if err := s.start(bg); err != nil {
		t.Error(err)
	}
	bg.wait()
	if got := content(t, s.trails()); len(got) != 4 {
		t.Errorf("after RUN_GC there are %v", got)
	}
}

func TestWakelocks(t *testing.T) {
	dir := t.TempDir()
	for _, f := range []string{"wake_lock", "wake_unlock"} {
		if err := os.WriteFile(filepath.Join(dir, f), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	told := func(f string) string { b, _ := os.ReadFile(filepath.Join(dir, f)); return string(b) }
	w := newWakeReasons(configured(t, map[config.Key]string{config.PowerSysfsDir: dir}))
	w.set(wakeBoot, true)
	w.set(wakeBoot, true)
	if v := w.show(); v.Degraded || v.Count != 1 || !v.Held.Boot || v.Mode != "locks" || told("wake_lock") != wakeLock {
		t.Errorf("at boot: %+v, %q", v, told("wake_lock"))
	}
	w.set(wakeShutdown, true)
	w.set(wakeBoot, false)
	if v := w.show(); v.Count != 1 || !v.Held.Shutdown || told("wake_unlock") != "" {
		t.Errorf("at the end: %+v", v)
	}
	w.set(wakeShutdown, false)
	if v := w.show(); v.Count != 0 || told("wake_unlock") != wakeLock {
		t.Errorf("after all: %+v", v)
	}
	if v := newWakeReasons(configured(t, map[config.Key]string{config.PowerSysfsDir: dir + "/none"})).show(); !v.Degraded {
		t.Errorf("without wake locks: %+v", v)
	}
	off := newWakeReasons(configured(t, map[config.Key]string{config.PowerSysfsDir: dir, config.PowerMode: "disabled"}))
	off.set(wakeBoot, true)
	if v := off.show(); v.Count != 0 || v.Degraded {
		t.Errorf("disabled: %+v", v)
	}
}
