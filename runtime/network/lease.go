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
)

// A lease is a locked file in a folder that the runtimes of a machine share and that
// their containers do not see. It ends with the process that has it, however that ends.

// leaseTries bounds how often a file may go away while it is being locked.
const leaseTries = 1000

// lease leases an address of a link for as long as the result is open; nil where this
// runtime is the only one.
func lease(dir, link string, a netip.Addr) (*os.File, error) {
	if dir == "" {
		return nil, nil
	}
	var ns unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &ns); err != nil {
		return nil, fmt.Errorf("looking for the network namespace: %w", err)
	}
	path := filepath.Join(dir, strconv.FormatUint(ns.Ino, 10)+"-"+link+"-"+a.String())
	for range leaseTries {
		f, err := lockFile(path)
		if f != nil || err != nil {
			return f, err
		}
	}
	return nil, errors.New("its file does not stay")
}

// lockFile makes a file and locks it; nil without an error when the file went away
// meanwhile.
func lockFile(path string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil && !errors.Is(err, fs.ErrExist) { // it is on its way out then
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if errors.Is(err, fs.ErrNotExist) { // the folder went away
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = ErrTaken
	}
	if err == nil && same(f, path) {
		return f, nil
	}
	_ = f.Close()
	return nil, err
}

// same tells whether an open file still has its name.
func same(f *os.File, path string) bool {
	mine, err := f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Lstat(path)
	return err == nil && os.SameFile(mine, named)
}

// endLease gives an address back. The last one takes the folder with it.
func endLease(f *os.File) {
	if f == nil {
		return
	}
	_ = os.Remove(f.Name()) // while it is locked: whoever waits for it makes another
	_ = f.Close()
	_ = os.Remove(filepath.Dir(f.Name()))
}

// dropLeases removes the files of runtimes that were killed.
func dropLeases(dir string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if f, err := lockFile(filepath.Join(dir, e.Name())); err == nil {
			endLease(f)
		}
	}
}
