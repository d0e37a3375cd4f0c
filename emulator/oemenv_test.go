package emulator

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/pantavisor/pantavisor/internal/oracle"
	"github.com/pantavisor/pantavisor/targets"
)

// TestArgumentsForUBoot has them written to the disk's copy, and only there.
func TestArgumentsForUBoot(t *testing.T) {
	t.Parallel()
	oracle.Need(t, "mkfs.vfat", "mcopy", "mtype")
	const at = 1 << 20
	run := func(name string, args ...string) string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
		return string(out)
	}
	for before, want := range map[string]string{
		"":                               "oemargs=a=1 b\n",
		"oemargs=quiet\r\nother=1":       "other=1\noemargs=quiet a=1 b\n",
		"x=1\noemargs=no\noemargs=yes\n": "x=1\noemargs=yes a=1 b\n",
	} {
		dir := t.TempDir()
		image := filepath.Join(dir, "image")
		if err := os.WriteFile(image, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(image, 8<<20); err != nil {
			t.Fatal(err)
		}
		run("mkfs.vfat", "-F", "16", "-s", "1", "--offset=2048", image, "7168")
		if before != "" {
			env := filepath.Join(dir, "env")
			if err := os.WriteFile(env, []byte(before), 0o600); err != nil {
				t.Fatal(err)
			}
			run("mcopy", "-i", image+"@@1M", env, "::oemEnv.txt")
		}
		m := &Machine{dir: t.TempDir(), cfg: Config{Image: image, Append: "a=1 b", AppendAt: at, Emulator: targets.Emulator{Disk: "sd"}}}
		sum := run("sha256sum", image)
		if err := m.copyDisk(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := run("mtype", "-i", m.Disk()+"@@1M", "::oemEnv.txt"); got != want {
			t.Errorf("after %q: oemEnv.txt has %q, want %q", before, got, want)
		}
		if got := run("sha256sum", image); got != sum {
			t.Error("the image itself has been changed")
		}
	}
}

// TestArgumentsWithoutBootPartition names what is missing.
func TestArgumentsWithoutBootPartition(t *testing.T) {
	t.Parallel()
	image := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(image, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	m := &Machine{dir: t.TempDir(), cfg: Config{Image: image, Append: "a", AppendAt: 4096}}
	if err := m.copyDisk(t.Context()); err == nil {
		t.Error("arguments have gone into nothing")
	}
	if exists(m.Disk()) {
		t.Error("a disk without the arguments is left")
	}
}
