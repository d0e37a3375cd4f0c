package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/revision/manifest"
	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/revision/state"
	"github.com/pantavisor/pantavisor/revision/trail"
	"github.com/pantavisor/pantavisor/runtime/config"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
	"github.com/pantavisor/pantavisor/runtime/logs"
)

// office is a session without containers, whose storage is in a test's folder.
func office(t *testing.T, settings map[config.Key]string) *session {
	t.Helper()
	dir := t.TempDir()
	cfg := config.New()
	cfg.Apply(config.Env, config.StorageMntPoint, dir)
	cfg.Apply(config.Env, config.LogDir, filepath.Join(dir, "logs"))
	for k, v := range settings {
		cfg.Apply(config.Env, k, v)
	}
	s := newSession(cfg, Options{Revision: "0"})
	s.serving = t.Context()
	s.log = logs.Logger{Sink: sinkFunc(func(m string) { t.Log(m) })}
	return s
}

func TestOrders(t *testing.T) {
	claimed := map[config.Key]string{config.CredsPRN: "prn:::devices:/1"}
	local := map[config.Key]string{config.ControlRemote: "0"}
	for _, c := range []struct {
		op       string
		settings map[config.Key]string
		status   int
	}{
		{"UPDATE_METADATA", nil, 409}, {"TRY_ONCE", nil, 501}, {"LOCAL_RUN", nil, 501}, {"LOCAL_RUN_COMMIT", nil, 501},
		{"LOCAL_APPLY", nil, 501}, {"MAKE_FACTORY", nil, 501}, {"MAKE_FACTORY", claimed, 409}, {"ENABLE_SSH", nil, 501},
		{"DISABLE_SSH", nil, 501}, {"GO_REMOTE", nil, 501}, {"GO_REMOTE", local, 409}, {"DEFER_REBOOT", nil, 409},
		{"XCONNECT_GRAPH", nil, 501}, {"UNCLAIM", nil, 204}, {"UNCLAIM", claimed, 501},
	} {
		var e *api.Error
		if err := office(t, c.settings).order(c.op, ""); !errors.As(err, &e) || e.Status != c.status || e.Text == "" {
			t.Errorf("%s with %v: %v, want %d", c.op, c.settings, err, c.status)
		}
	}
}

// trails is the directory of all revisions.
func (s *session) trails() string { return s.steps.Dir("") }

// shelf is a storage with revisions.
type shelf struct {
	*session
	t     *testing.T
	store *objects.Store
}

// revision makes a revision with one container's file for each text; .bind files are
// copies of their objects.
func (s *shelf) revision(rev string, texts ...string) {
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

func newShelf(t *testing.T, settings map[config.Key]string) *shelf {
	t.Helper()
	s := &shelf{session: office(t, settings), t: t}
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
	s.opt.Revision = "locals/x"
	return s
}

// content lists what a folder holds.
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
	s := newShelf(t, nil)
	freed, err := s.collectGarbage(context.Background())
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
	if again, err := s.collectGarbage(context.Background()); again != 0 || err != nil {
		t.Errorf("collecting again frees %d bytes, %v", again, err)
	}
}

func TestFactoryIsKeptWhenConfigured(t *testing.T) {
	s := newShelf(t, map[config.Key]string{config.StorageGCKeepFactory: "1"})
	if _, err := s.collectGarbage(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got := content(t, s.trails()); !slices.Contains(got, "0") {
		t.Errorf("revisions %v", got)
	}
}

func TestNothingIsCollectedInDoubt(t *testing.T) {
	for name, damage := range map[string]func(s *shelf) error{
		"the state of a kept revision": func(s *shelf) error {
			return os.WriteFile(filepath.Join(s.trails(), "4/.pvr/json"), []byte("{"), 0o644)
		},
		"an unknown boot loader": func(s *shelf) error {
			s.cfg.Apply(config.Env, config.BootloaderType, "rpiab")
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShelf(t, nil)
			if err := damage(s); err != nil {
				t.Fatal(err)
			}
			before, _ := s.store.List()
			if _, err := s.collectGarbage(context.Background()); err == nil {
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
	s := newShelf(t, nil)
	s.collecting.Lock()
	if _, err := s.collectGarbage(context.Background()); !errors.Is(err, errBusy) {
		t.Errorf("a second collection: %v", err)
	}
	if err := s.order("RUN_GC", ""); !errors.Is(err, errBusy) {
		t.Errorf("RUN_GC during a collection: %v", err)
	}
	s.collecting.Unlock()
	if err := s.order("RUN_GC", ""); err != nil {
		t.Error(err)
	}
	s.wg.Wait()
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
	w := newWakes(office(t, map[config.Key]string{config.PowerSysfsDir: dir}).cfg)
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
	if v := newWakes(office(t, map[config.Key]string{config.PowerSysfsDir: dir + "/none"}).cfg).show(); !v.Degraded {
		t.Errorf("without wake locks: %+v", v)
	}
	off := newWakes(office(t, map[config.Key]string{config.PowerSysfsDir: dir, config.PowerMode: "disabled"}).cfg)
	off.set(wakeBoot, true)
	if v := off.show(); v.Count != 0 || v.Degraded {
		t.Errorf("disabled: %+v", v)
	}
}

// kernel is a kernel that takes all modules but those whose names begin with no.
type kernel struct{ calls []string }

func (k *kernel) Insert(module, options string) error {
	k.calls = append(k.calls, strings.TrimSpace("+"+module+" "+options))
	if strings.HasPrefix(module, "no") {
		return errors.New("no such module")
	}
	return nil
}

func (k *kernel) Remove(module string) error {
	k.calls = append(k.calls, "-"+module)
	if module == "busy" {
		return errors.New("in use")
	}
	return nil
}

func TestDrivers(t *testing.T) {
	k := &kernel{}
	sys := &manifest.System{
		Drivers: &manifest.Drivers{
			All:     map[string][]string{"eth": {"e1", "e2 x=1"}, "wifi": {"w1 a=1", "w2 ${user-meta:opts} b=${device-meta:none}"}, "half": {"h1", "nope"}, "busy": {"busy"}},
			Special: map[string]map[string][]string{"dtb:board.dtb": {"eth": {"board"}}},
		},
		Containers: []manifest.Container{
			{Name: "a", Drivers: manifest.DriverRefs{Required: []string{"eth"}, Optional: []string{"half", "gone"}, Manual: []string{"wifi", "busy"}}},
			{Name: "b", Drivers: manifest.DriverRefs{Manual: []string{"wifi"}}},
			{Name: "c", Drivers: manifest.DriverRefs{Required: []string{"half"}}},
		},
	}
	d := &drivers{sys: sys, insert: k.Insert, remove: k.Remove, users: map[string]map[string]bool{}, log: logs.Logger{Sink: sinkFunc(func(string) {})},
		hardware: hardware("quiet pv_bootloader.dtb=board.dtb pv_bootloader.ovl=x", config.New()),
		expand:   func(kind, key string) string { return map[string]string{"user-meta:opts": "o=7"}[kind+":"+key] }}
	calls := func(want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, k.calls); diff != "" {
			t.Errorf("modules (-want +got):\n%s", diff)
		}
		k.calls = nil
	}
	if err := d.start(&sys.Containers[0]); err != nil {
		t.Error(err)
	}
	calls("+board", "+h1", "+nope", "-h1")
	if err := d.start(&sys.Containers[2]); err == nil || !strings.Contains(err.Error(), "required driver half") {
		t.Errorf("a required driver that does not load: %v", err)
	}
	k.calls = nil
	list, _ := d.List("a")
	want := []api.Driver{{Name: "eth", Type: "REQUIRED", Status: "LOADED"}, {Name: "half", Type: "OPTIONAL", Status: "UNLOADED"},
		{Name: "gone", Type: "OPTIONAL", Status: "UNKNOWN"}, {Name: "wifi", Type: "MANUAL", Status: "UNLOADED"}, {Name: "busy", Type: "MANUAL", Status: "UNLOADED"}}
	if diff := cmp.Diff(want, list); diff != "" {
		t.Errorf("list (-want +got):\n%s", diff)
	}
	if err := errors.Join(d.Load("a", ""), d.Load("b", "wifi"), d.Load("b", "eth"), d.Load("nobody", "")); err != nil {
		t.Error(err)
	}
	calls("+w1 a=1", "+w2 o=7 b=", "+busy")
	if err := errors.Join(d.Unload("b", ""), d.Unload("b", "")); err != nil {
		t.Error(err)
	}
	calls()
	if err := d.Unload("a", ""); err != nil {
		t.Error(err)
	}
	calls("-w2", "-w1", "-busy")
	if list, _ := d.List("nobody"); list != nil {
		t.Errorf("a list for nobody: %v", list)
	}
}

func TestDaemons(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "bin/pv-xconnect")
	script := "#!/bin/sh\necho started\necho trouble >&2\nexec sleep 1000\n"
	if err := errors.Join(os.Mkdir(filepath.Dir(program), 0o755), os.WriteFile(program, []byte(script), 0o755)); err != nil {
		t.Fatal(err)
	}
	d := newDaemons("appengine", dir, logs.Logger{Sink: sinkFunc(func(m string) { t.Log(m) })})
	said := make(chan string, 16)
	d.pause, d.output = time.Millisecond, func(source string, _ logs.Level, line string) { said <- source + ": " + line }
	d.start()
	defer d.stop()
	await := func(up bool) (pid int) {
		t.Helper()
		for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
			if pid = d.show()[1].PID; (pid > 0) == up {
				return pid
			}
		}
		t.Fatalf("daemons are %+v", d.show())
		return 0
	}
	first := await(true)
	got := []string{<-said, <-said}
	slices.Sort(got)
	if diff := cmp.Diff([]string{"pv-xconnect-err: trouble", "pv-xconnect-out: started"}, got); diff != "" {
		t.Errorf("output (-want +got):\n%s", diff)
	}
	p, _ := os.FindProcess(first)
	_ = p.Kill()
	for end := time.Now().Add(60 * time.Second); await(true) == first && time.Now().Before(end); time.Sleep(time.Millisecond) {
	}
	if second := await(true); second == first {
		t.Error("a daemon that was killed is not started again")
	}
	if err := d.act("pv-xconnect", "stop"); err != nil {
		t.Fatal(err)
	}
	await(false)
	if l := d.show(); l[1].Respawn || l[0].PID != 0 {
		t.Errorf("after a stop: %+v", l)
	}
	if err := d.act("pv-xconnect", "start"); err != nil {
		t.Fatal(err)
	}
	await(true)
	for name, status := range map[string]int{"hwrngd": 501, "nobody": 404} {
		var e *api.Error
		if err := d.act(name, "start"); !errors.As(err, &e) || e.Status != status {
			t.Errorf("starting %s: %v, want %d", name, err, status)
		}
	}
}
