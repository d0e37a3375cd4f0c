package container

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/pantavisor/pantavisor/internal/bounded"
)

// EntryDir is the directory below the runtime's own with the [Entry] of each running
// container.
const EntryDir = "entries"

// maxEntry is the largest entry, in bytes: a line and the largest filter that the
// kernel takes (BPF_MAXINSNS).
const maxEntry = 32 + 4096*8

// Entry is what a program needs to run a command in a running container as the
// container's init would. It cannot be had from the kernel: a container can move its
// processes to the control group of another one, and a filter cannot be read.
type Entry struct {
	PID    int    // of init
	Filter []byte // for system calls, as seccomp.Install takes it; nil without one
}

// ReadEntry reads the entry of a running container. The error is fs.ErrNotExist when
// none is running.
func ReadEntry(dir, name string) (Entry, error) {
	if err := checkName(name); err != nil {
		return Entry{}, err
	}
	text, err := bounded.ReadFile(filepath.Join(dir, name), maxEntry)
	if err != nil {
		return Entry{}, err
	}
	line, filter, ok := bytes.Cut(text, []byte("\n"))
	pid, err := strconv.Atoi(string(line))
	if !ok || err != nil || pid <= 0 {
		return Entry{}, fmt.Errorf("reading %s: %w", filepath.Join(dir, name), errors.Join(err, errors.New("it does not begin with a process ID")))
	}
	if len(filter) == 0 {
		filter = nil
	}
	return Entry{pid, filter}, nil
}

// writeEntry writes the entry of a container that has started.
func (st *starting) writeEntry(pid int) error {
	if st.Entries == "" {
		return nil
	}
	path := filepath.Join(st.Entries, st.Name)
	err := os.MkdirAll(st.Entries, 0o700)
	if err == nil {
		err = os.WriteFile(path+".new", append([]byte(strconv.Itoa(pid)+"\n"), st.plan.Filter...), 0o600)
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return fmt.Errorf("noting how to enter the container: %w", err)
	}
	return nil
}

func (st *starting) removeEntry() {
	if st.Entries != "" {
		_ = os.Remove(filepath.Join(st.Entries, st.Name))
	}
}
