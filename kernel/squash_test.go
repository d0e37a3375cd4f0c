package kernel

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/internal/oracle"
)

// squashed writes the file system of a small directory with the given permissions.
func squashed(t *testing.T, bits os.FileMode, at build.Stamp) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "6.1/kernel"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"6.1/modules.dep": "kernel/a.ko:\n", "6.1/kernel/a.ko": strings.Repeat("module", 100_000)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), bits); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("kernel/a.ko", filepath.Join(dir, "6.1/b.ko")); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), ModulesFile)
	if err := squash(t.Context(), dir, file, Compression{}, at); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestSquashDoesNotDependOnTheMachine(t *testing.T) {
	file := squashed(t, 0o600, 1700000000)
	one, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if two, err := os.ReadFile(squashed(t, 0o755, 1700000000)); err != nil || !bytes.Equal(one, two) {
		t.Errorf("other permissions on this machine change the bytes: %v", err)
	}
	if two, err := os.ReadFile(squashed(t, 0o600, 0)); err != nil || bytes.Equal(one, two) {
		t.Errorf("another time does not change the bytes: %v", err)
	}
	unsquashfs := oracle.Program(t, "unsquashfs")
	list, err := exec.Command(unsquashfs, "-lln", "-UTC", file).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, list)
	}
	for _, line := range []string{"drwxr-xr-x 0/0", "-rw-r--r-- 0/0                  600000 2023-11-14 22:13 squashfs-root/6.1/kernel/a.ko", "squashfs-root/6.1/b.ko -> kernel/a.ko"} {
		if !bytes.Contains(list, []byte(line)) {
			t.Errorf("no %q in\n%s", line, list)
		}
	}
}

func TestSquashErrors(t *testing.T) {
	err := squash(t.Context(), filepath.Join(t.TempDir(), "none"), filepath.Join(t.TempDir(), "x.squashfs"), Compression{}, 0)
	if err == nil || !strings.Contains(err.Error(), "writing x.squashfs") {
		t.Errorf("got %v", err)
	}
	if err := squash(t.Context(), t.TempDir(), filepath.Join(t.TempDir(), "x"), Compression{Level: 30}, 0); err == nil || !strings.Contains(err.Error(), "level 30") {
		t.Errorf("got %v", err)
	}
}
