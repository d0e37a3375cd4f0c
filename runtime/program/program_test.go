package program

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// told is what a run of this test's program says of itself.
type told struct {
	Sealed bool
	File   string
	Write  string // what writing to the program says
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
	t := told{Sealed: isSealed()}
	t.File, _ = File()
	t.Write = write()
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

// write tries to change the program, first as whoever may mount can try it for a
// program in a read-only mount.
func write() string {
	if tree, err := unix.Open(self, unix.O_PATH|unix.O_CLOEXEC, 0); err == nil {
		_ = unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY})
		_ = unix.Close(tree)
	}
	f, err := os.OpenFile(self, os.O_RDWR, 0)
	if err != nil {
		return errors.Unwrap(err).Error()
	}
	defer f.Close()
	if err := f.Truncate(0); err == nil {
		return "emptied"
	}
	if _, err = f.WriteString("x"); err == nil {
		return "written"
	}
	return errors.Unwrap(err).Error()
}

func TestNobodyWritesThroughTheProgram(t *testing.T) {
	file, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := run(t, file, "plain"), (told{File: file, Write: unix.ETXTBSY.Error()}); got != want {
		t.Errorf("run as it is: %+v, want %+v; the comparison means nothing", got, want)
	}
	path, err := Path()
	if err != nil {
		t.Fatal(err)
	}
	// The copy is opened for reading only while it runs, and sealed once it does not.
	if got := run(t, path, "plain"); !got.Sealed || got.Write != unix.ETXTBSY.Error() {
		t.Errorf("run from its copy: %+v", got)
	}
	if got := run(t, file, "rerun"); got != (told{true, file, unix.ETXTBSY.Error()}) {
		t.Errorf("run again: %+v", got)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for what, do := range map[string]func() error{
		"write":    func() error { _, err := f.WriteString("x"); return err },
		"truncate": func() error { return f.Truncate(1) },
		"mode":     func() error { return f.Chmod(0) },
		"extend":   func() error { return f.Truncate(1 << 30) },
	} {
		if err := do(); !errors.Is(err, unix.EPERM) {
			t.Errorf("%s of the copy that does not run: %v, want %v", what, err, unix.EPERM)
		}
	}
}

// TestCopyWithAnotherModeIsReplaced is for kernels on which a container can take the
// copy's mode for execution away.
func TestCopyWithAnotherModeIsReplaced(t *testing.T) {
	spoilt := filepath.Join(t.TempDir(), "copy")
	if err := os.WriteFile(spoilt, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the first may have no descriptor yet
		current.path = spoilt
		path, err := Path()
		if err != nil {
			t.Fatal(err)
		}
		if got := run(t, path, "plain"); !got.Sealed {
			t.Errorf("%s: %+v", path, got)
		}
	}
}

func TestPathStays(t *testing.T) {
	first, err := Path()
	if err != nil {
		t.Fatal(err)
	}
	if second, err := Path(); err != nil || second != first {
		t.Errorf("%s, %v; want %s", second, err, first)
	}
}
