package program

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// told is what a run of this test's program says of itself.
type told struct {
	Sealed bool
	File   string
	Chmod  string
}

// TestMain lets the program run itself anew and tell about it.
func TestMain(m *testing.M) {
	switch os.Getenv("TEST_PROGRAM") {
	case "":
		os.Exit(m.Run())
	case "rerun":
		if err := Rerun(); err != nil {
			panic(err)
		}
	}
	t := told{Sealed: sealed()}
	t.File, _ = File()
	if err := os.Chmod(self, 0o755); err != nil {
		t.Chmod = errors.Unwrap(err).Error()
	}
	_ = json.NewEncoder(os.Stdout).Encode(t)
}

func run(t *testing.T, path, how string) told {
	t.Helper()
	cmd := exec.Command(path)
	cmd.Env = append(os.Environ(), "TEST_PROGRAM="+how)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var told told
	if err := json.Unmarshal(out, &told); err != nil {
		t.Fatalf("%v in %q", err, out)
	}
	return told
}

func TestNobodyWritesThroughTheProgram(t *testing.T) {
	if _, err := seal(); err != nil {
		if os.Geteuid() != 0 || errors.Is(err, unix.ENOSYS) {
			t.Skipf("this needs root and Linux 5.12: %v", err)
		}
		t.Fatal(err)
	}
	file, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if got := run(t, file, "plain"); got != (told{File: file}) {
		t.Errorf("run as it is: %+v; the comparison means nothing", got)
	}
	const refused = "read-only file system"
	if got := run(t, Path(), "plain"); !got.Sealed || got.Chmod != refused {
		t.Errorf("run from its mount: %+v", got)
	}
	if got := run(t, file, "rerun"); got != (told{true, file, refused}) {
		t.Errorf("run anew: %+v", got)
	}
}
