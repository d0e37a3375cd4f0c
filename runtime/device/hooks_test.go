package device

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/runtime/logs"
	"github.com/pantavisor/pantavisor/runtime/updater"
)

// hooked makes programs of a hook, NAME: script, and returns where they write their results to.
func hooked(t *testing.T, programs map[string]string) (systemHooks, string) {
	t.Helper()
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	t.Setenv("PV_TEST_OUT", out)
	for name, script := range programs {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return systemHooks{dir: dir, objects: "/objects", trails: "/trails", limit: 20 * time.Second, log: logs.Logger{Sink: none{}}}, out
}

type none struct{}

func (none) Log(string, string, logs.Level, string) {}

func TestHooksRunInOrder(t *testing.T) {
	s, out := hooked(t, map[string]string{
		"20-b": `echo "$PV_OP $PV_REV $PV_TRY $PV_TRYBOOT $PV_STATUS $PV_OBJ_STORAGE $PV_TRAILS_STORAGE" >> $PV_TEST_OUT`,
		"10-a": "echo a >> $PV_TEST_OUT; pwd >> $PV_TEST_OUT",
		"30-c": "echo not executable >> $PV_TEST_OUT",
	})
	if err := os.Chmod(filepath.Join(s.dir, "30-c"), 0o600); err != nil {
		t.Fatal(err)
	}
	h := updater.Hook{Revision: "locals/a", Try: "locals/a", TryBoot: true, Status: updater.Done}
	if err := s.run(t.Context(), updater.HookDone, h); err != nil {
		t.Fatal(err)
	}
	const want = "a\n/\nsystem-done locals/a locals/a true DONE /objects /trails\n"
	if text, err := os.ReadFile(out); string(text) != want {
		t.Errorf("%q, %v", text, err)
	}
}

func TestHookThatFailsIsTheLast(t *testing.T) {
	s, out := hooked(t, map[string]string{"1": "echo first; echo no partition >&2; exit 3", "2": "touch $PV_TEST_OUT"})
	err := s.run(t.Context(), updater.HookStart, updater.Hook{})
	if err == nil || !strings.HasSuffix(err.Error(), "hook 1 of system-start: exit status 3: no partition") {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("the next one ran")
	}
}

// TestHookThatStartsADaemon has a program in the background go on, with the output of the hook.
func TestHookThatStartsADaemon(t *testing.T) {
	s, out := hooked(t, map[string]string{"1": "sleep 1000 & echo $! > $PV_TEST_OUT"})
	if err := s.run(t.Context(), updater.HookStart, updater.Hook{}); err != nil {
		t.Error(err)
	}
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	var child int
	if _, err := fmt.Sscan(string(text), &child); err != nil {
		t.Fatal(err)
	}
	if !alive(child) {
		t.Error("the daemon was ended")
	}
	_ = unix.Kill(child, unix.SIGKILL)
}

// TestHookThatHangs is killed with what it has started.
func TestHookThatHangs(t *testing.T) {
	s, out := hooked(t, map[string]string{"1": "sleep 1000 & echo $! > $PV_TEST_OUT; wait"})
	s.limit = 500 * time.Millisecond
	err := s.run(t.Context(), updater.HookStart, updater.Hook{})
	if err == nil || !strings.Contains(err.Error(), "did not end within 500ms") {
		t.Fatalf("%v", err)
	}
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	var child int
	if _, err := fmt.Sscan(string(text), &child); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); alive(child); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("process %d, which it has started, lives", child)
		}
	}
}

// alive reports whether a process runs; one that nobody has collected does not.
func alive(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && unix.Kill(pid, 0) == nil && !strings.Contains(string(text), ") Z ")
}

// TestHookThatTalks fills no memory.
func TestHookThatTalks(t *testing.T) {
	s, _ := hooked(t, map[string]string{"1": "head -c 10000000 /dev/zero | tr '\\0' x"})
	if err := s.run(t.Context(), updater.HookStart, updater.Hook{}); err != nil {
		t.Fatal(err)
	}
	var l limitedText
	s.log = logs.Logger{Sink: &l}
	if err := s.run(t.Context(), updater.HookStart, updater.Hook{}); err != nil || l.size == 0 || l.size > maxHookOutput+100 {
		t.Errorf("%d bytes are logged, %v", l.size, err)
	}
}

type limitedText struct{ size int }

func (l *limitedText) Log(_, _ string, _ logs.Level, text string) { l.size += len(text) }
