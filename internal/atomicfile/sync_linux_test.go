package atomicfile

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/internal/oracle"
)

// journaled mounts an ext4 with a journal, and returns its directory with a function that says how
// many transactions there were.
func journaled(t *testing.T) (dir string, transactions func() int) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		t.Skipf("needs loop devices: %v", err)
	}
	oracle.Need(t, "mke2fs", "mount")
	image, dir := filepath.Join(t.TempDir(), "a.img"), t.TempDir()
	for _, args := range [][]string{
		{"truncate", "-s", "8M", image}, {"mke2fs", "-q", "-t", "ext4", image}, {"mount", "-o", "loop,noatime,commit=300", image, dir},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, 0) })
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		t.Fatal(err)
	}
	device, err := os.Readlink(fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(uint64(st.Dev)), unix.Minor(uint64(st.Dev)))) //nolint:unconvert // 32 bits wide on some architectures
	if err != nil {
		t.Fatal(err)
	}
	return dir, func() (n int) {
		t.Helper()
		text, err := os.ReadFile("/proc/fs/jbd2/" + filepath.Base(device) + "-8/info")
		if err == nil {
			_, err = fmt.Sscanf(string(text), "%d transactions", &n)
		}
		if err != nil {
			t.Skipf("the kernel does not count transactions: %v", err)
		}
		return n
	}
}

// TestTransactions counts what a file and a tree cost flash memory.
func TestTransactions(t *testing.T) {
	dir, transactions := journaled(t)
	d, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if !inOrder(d) {
		t.Skip("the kernel is older than 5.14")
	}
	for name, write := range map[string]func() error{
		"file": func() error { return Write(filepath.Join(dir, "file"), []byte(strings.Repeat("x", 9000)), 0o644) },
		"same": func() error { return Write(filepath.Join(dir, "file"), []byte("another"), 0o644) },
		"tree": func() error {
			part, final := filepath.Join(dir, ".part"), filepath.Join(dir, "tree")
			if err := os.MkdirAll(filepath.Join(part, "below"), 0o755); err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(part, "below/file"), []byte("content"), 0o644); err != nil {
				return err
			}
			return NameTree(part, dir, func() error { return os.Rename(part, final) })
		},
	} {
		unix.Sync()
		before := transactions()
		if err := write(); err != nil {
			t.Fatal(err)
		}
		if n := transactions() - before; n != 1 {
			t.Errorf("%s: %d transactions, want 1", name, n)
		}
	}
}
