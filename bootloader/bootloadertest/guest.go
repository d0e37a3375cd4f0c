// Package bootloadertest is what the tests of boot loaders share that start real ones.
package bootloadertest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/formats/cpio"
	"github.com/pantavisor/pantavisor/formats/tree"
)

// Guest returns an initrd whose init prints the kernel's command line: a test boot of the
// revision locals/new restarts the machine, any other boot powers it off.
func Guest(t *testing.T, goarch string) []byte {
	t.Helper()
	file := filepath.Join(t.TempDir(), "init")
	_, here, _, _ := runtime.Caller(0)
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags=-s -w", "-o", file, "./testdata/init")
	cmd.Dir = filepath.Dir(here)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+goarch)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building the guest's init: %v\n%s", err, out)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return archive(t, tree.Bytes("init", 0o755, data))
}

// Addon returns an archive that [Guest] counts.
func Addon(t *testing.T) []byte {
	t.Helper()
	return archive(t, tree.Bytes("addon", 0o644, []byte("x")))
}

func archive(t *testing.T, entries ...tree.Entry) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := cpio.Write(&b, entries, cpio.Options{}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

var guestLine = regexp.MustCompile(`GUEST .*?(pv_rev=\S+) (pv_try=\S*) .*?(addons=\d)`)

// Boots returns what the [Guest] of each boot printed: "pv_rev=REV pv_try=TRY addons=N".
func Boots(t *testing.T, console string) []string {
	t.Helper()
	var out []string
	for _, m := range guestLine.FindAllStringSubmatch(console, -1) {
		out = append(out, strings.Join(m[1:], " "))
	}
	if out == nil {
		t.Fatalf("no guest has printed its line; the console ends with:\n%s", console[max(0, len(console)-4000):])
	}
	return out
}

// Write writes a file and makes its directories.
func Write(t *testing.T, file string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// Command runs a program and returns its output.
func Command(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = append(os.Environ(), "MTOOLS_SKIP_CHECK=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// Replace overwrites a file of the ext4 file system that begins at a byte of a disk.
func Replace(t *testing.T, disk string, start int64, name string, data []byte) {
	t.Helper()
	content := filepath.Join(t.TempDir(), "content")
	Write(t, content, data)
	Write(t, content+".debugfs", []byte("rm "+name+"\nwrite "+content+" "+name+"\n"))
	Command(t, "debugfs", "-w", "-f", content+".debugfs", fmt.Sprintf("%s?offset=%d", disk, start))
}

// Read returns a file of the FAT file system that begins at a byte of a disk.
func Read(t *testing.T, disk string, start int64, name string) []byte {
	t.Helper()
	file := filepath.Join(t.TempDir(), "content")
	Command(t, "mcopy", "-n", "-i", Volume(disk, start), "::"+name, file)
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
