// Package entry is what the runtime notes of each running container for a program that
// runs a command in it as the container's init would.
//
// This cannot be had from the kernel: a container can move its processes to the control
// group of another one, and a system call filter cannot be read.
package entry

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/internal/bounded"
)

// Dir is the directory of the entries below the runtime's own, with a file for each
// running container.
const Dir = "entries"

// maxEntry is the largest entry, in bytes: a line and the largest filter that the
// kernel takes (BPF_MAXINSNS).
const maxEntry = 32 + 4096*8

// Entry is how to enter one container.
type Entry struct {
	PID    int    // of init
	Filter []byte // for system calls, as seccomp.Install takes it; nil without one
}

func path(dir, name string) (string, error) {
	if name == "" || strings.HasPrefix(name, ".") || strings.ContainsAny(name, "/\x00") {
		return "", fmt.Errorf("%.80q is not a valid container name", name)
	}
	return filepath.Join(dir, name), nil
}

// Read returns the entry of a container. The error is fs.ErrNotExist when it does not
// run.
func Read(dir, name string) (Entry, error) {
	file, err := path(dir, name)
	if err != nil {
		return Entry{}, err
	}
	text, err := bounded.ReadFile(file, maxEntry)
	if err != nil {
		return Entry{}, err
	}
	line, filter, ok := bytes.Cut(text, []byte("\n"))
	pid, err := strconv.Atoi(string(line))
	if !ok || err != nil || pid <= 0 {
		return Entry{}, fmt.Errorf("reading %s: it does not begin with a process ID", file)
	}
	if len(filter) == 0 {
		filter = nil
	}
	return Entry{pid, filter}, nil
}

// Write writes the entry of a container, whole or not at all. It makes the directory.
func Write(dir, name string, e Entry) error {
	file, err := path(dir, name)
	if err == nil {
		err = os.MkdirAll(dir, 0o700)
	}
	if err == nil {
		err = atomicfile.Replace(file, append([]byte(strconv.Itoa(e.PID)+"\n"), e.Filter...), 0o600)
	}
	if err != nil {
		return fmt.Errorf("noting how to enter the container: %w", err)
	}
	return nil
}

// Remove removes the entry of a container, if there is one.
func Remove(dir, name string) {
	if file, err := path(dir, name); err == nil {
		_ = os.Remove(file)
	}
}
