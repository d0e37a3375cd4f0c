package container

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// elf writes the header of a program.
func elf(t *testing.T, path string, order binary.ByteOrder, machine uint16) {
	t.Helper()
	head := make([]byte, 64)
	copy(head, "\x7fELF\x02\x01\x01")
	if order == binary.ByteOrder(binary.BigEndian) {
		head[5] = 2
	}
	order.PutUint16(head[16:], 2) // ET_EXEC
	order.PutUint16(head[18:], machine)
	if err := os.WriteFile(path, head, 0o755); err != nil {
		t.Fatal(err)
	}
}

func TestCPUOf(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	elf(t, at("arm64"), binary.LittleEndian, 183)
	elf(t, at("mips"), binary.BigEndian, 8)
	elf(t, at("mipsle"), binary.LittleEndian, 8)
	elf(t, at("s390x"), binary.BigEndian, 22)
	for name, text := range map[string]string{
		"script": "#! " + at("arm64") + " -x\n", "scripts": "#!" + at("script"), "loop": "#!" + at("loop") + "\n", "none": "#!\n", "text": "hello", "empty": "",
	} {
		if err := os.WriteFile(at(name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(at("fifo"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"arm64": "arm64", "mips": "mips", "mipsle": "mipsle", "s390x": "", "script": "arm64", "scripts": "arm64",
		"loop": "", "none": "", "text": "", "empty": "", "absent": "", "fifo": "", ".": "",
	} {
		if got := cpuOf(at(name)); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if got := cpuOf("/proc/self/exe"); got != runtime.GOARCH {
		t.Errorf("this program is for %q", got)
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err       error
		cpu       string
		want      string
		explained bool
	}{
		{unix.ENOEXEC, "", "exec format error", false},
		{unix.ENOEXEC, runtime.GOARCH, "exec format error", false},
		{unix.ENOEXEC, "other", "qemu-user-static", true},
		{unix.ENOENT, "other", "flag F", true},
		{unix.EACCES, "other", "permission denied", false},
	} {
		got := explain(c.err, c.cpu)
		if !errors.Is(got, c.err) || !strings.Contains(got.Error(), c.want) || strings.Contains(got.Error(), "a program for") != c.explained {
			t.Errorf("%v of a program for %q: %v", c.err, c.cpu, got)
		}
	}
}

// TestProgramOfAnotherCPU: the error of a start names the CPU and what is missing.
func TestProgramOfAnotherCPU(t *testing.T) {
	if _, err := os.Stat("/proc/sys/fs/binfmt_misc/qemu-mips"); err == nil {
		t.Skip("this machine has a handler")
	}
	b := newBench(t)
	elf(t, filepath.Join(b.dir, "root/sbin/foreign"), binary.BigEndian, 8)
	_, err := b.l.Start(Start{Name: "foreign", Config: b.config("lxc.init.cmd = /sbin/foreign")})
	if err == nil || !strings.Contains(err.Error(), "a program for mips") || !strings.Contains(err.Error(), "binfmt_misc") {
		t.Errorf("%v", err)
	}
}
