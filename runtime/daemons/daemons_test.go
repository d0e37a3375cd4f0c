package daemons

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
	"github.com/pantavisor/pantavisor/runtime/logs"
)

// sink is a log sink that shows the log with the test.
type sink struct{ t *testing.T }

func (s sink) Log(_, _ string, _ logs.Level, msg string) { s.t.Log(msg) }

func TestDaemons(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "bin/pv-xconnect")
	script := "#!/bin/sh\necho started\necho trouble >&2\nexec sleep 1000\n"
	if err := errors.Join(os.Mkdir(filepath.Dir(program), 0o755), os.WriteFile(program, []byte(script), 0o755)); err != nil {
		t.Fatal(err)
	}
	said := make(chan string, 16)
	d := New("appengine", dir, logs.Logger{Sink: sink{t}}, func(source string, _ logs.Level, line string) { said <- source + ": " + line })
	d.pause = time.Millisecond
	show := func() []api.Daemon { list, _ := d.Daemons(); return list }
	d.Start()
	defer d.Stop()
	await := func(up bool) (pid int) {
		t.Helper()
		for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
			if pid = show()[1].PID; (pid > 0) == up {
				return pid
			}
		}
		t.Fatalf("daemons are %+v", show())
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
	if err := d.DaemonAction("pv-xconnect", "stop"); err != nil {
		t.Fatal(err)
	}
	await(false)
	if l := show(); l[1].Respawn || l[0].PID != 0 {
		t.Errorf("after a stop: %+v", l)
	}
	if err := d.DaemonAction("pv-xconnect", "start"); err != nil {
		t.Fatal(err)
	}
	await(true)
	for name, status := range map[string]int{"hwrngd": 501, "nobody": 404} {
		var e *api.Error
		if err := d.DaemonAction(name, "start"); !errors.As(err, &e) || e.Status != status {
			t.Errorf("starting %s: %v, want %d", name, err, status)
		}
	}
}
