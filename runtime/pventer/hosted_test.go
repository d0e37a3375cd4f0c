package pventer

import (
	"os"
	"path/filepath"
	"testing"
)

func TestHostedMeansTheRuntimeOfTheInstallation(t *testing.T) {
	if got := hosted(); got != (home{PID: 1}) {
		t.Fatalf("without an installation: %+v", got)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	note := filepath.Join(filepath.Dir(exe), "run", "pv.json") // beside this test's own program
	if err := os.MkdirAll(filepath.Dir(note), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(note) })
	for text, want := range map[string]home{
		`{"pid":42,"boot_id":"x","cgroup":"/pantavisor/a","made":true}`: {PID: 42, Cgroup: "/pantavisor/a"},
		`{`: {PID: 1},
	} {
		if err := os.WriteFile(note, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := hosted(); got != want {
			t.Errorf("%s: %+v, want %+v", text, got, want)
		}
	}
}

func TestContainersOfOtherRuntimesAreNotMeant(t *testing.T) {
	if got := containerOf(os.Getpid(), "/pantavisor/nobody"); got != "" {
		t.Errorf("this process is in container %q of a runtime that is not there", got)
	}
}
