package network

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/internal/filelock"
)

// A lease is a locked file in a directory that the runtimes of a machine share and that
// containers do not see. It ends with the process that holds it, however that ends.

// leaseTries bounds how often a file may be removed while it is being locked.
const leaseTries = 1000

// lease leases an address of a link until the lock is released; the lock is nil when
// the runtime shares no directory.
func lease(dir, link string, a netip.Addr) (*filelock.Lock, error) {
	if dir == "" {
		return nil, nil
	}
	var ns unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &ns); err != nil {
		return nil, fmt.Errorf("reading the network namespace: %w", err)
	}
	path := filepath.Join(dir, strconv.FormatUint(ns.Ino, 10)+"-"+link+"-"+a.String())
	for range leaseTries {
		l, err := lockFile(path)
		if !errors.Is(err, fs.ErrNotExist) { // else another runtime removed the directory
			return l, err
		}
	}
	return nil, errors.New("other runtimes keep removing its file")
}

// lockFile makes a file, and its directory, and locks it.
func lockFile(path string) (*filelock.Lock, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil && !errors.Is(err, fs.ErrExist) { // it is being removed then
		return nil, err
	}
	l, err := filelock.Try(path, filelock.Options{Create: 0o600})
	if errors.Is(err, filelock.ErrHeld) {
		return nil, errTaken
	}
	return l, err
}

// endLease releases an address. It removes the directory with the last lease.
func endLease(l *filelock.Lock) {
	if l == nil {
		return
	}
	_ = l.Remove()
	_ = os.Remove(filepath.Dir(l.File().Name()))
}

// dropLeases removes the files of runtimes that were killed.
func dropLeases(dir string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if l, err := lockFile(filepath.Join(dir, e.Name())); err == nil {
			endLease(l)
		}
	}
}
