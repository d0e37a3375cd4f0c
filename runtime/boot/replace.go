package boot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/internal/ext4fs"
)

// writeFile replaces a file that a boot loader reads. Loaders read ext4 without its journal, and
// the kernel brings what is in the journal to its place in any order. So a name only ever changes
// from one complete file to another: the new file is in its place before it gets the name, and the
// old one loses its own after that. With a rename alone, a power cut could leave the name to a
// file that is removed already.
//
// The old file stays as a spare. New content of the same size is written over that of the spare,
// which changes nothing else of the file system, and the two are exchanged: that is half of what
// a new file costs flash memory, and a full storage does not prevent it.
func writeFile(path string, data []byte) error { return replace(path, data, checkpoint) }

func replace(path string, data []byte, checkpoint func(dir string) error) error {
	r := newReplacement(path, checkpoint)
	if err := r.prepare(data); err != nil {
		return err
	}
	return r.exchange()
}

// replacement is a file that gets new content. The loader sees path. It does not see spare: a file
// gets this name when another one has path at its place. That cannot be said of next.
type replacement struct {
	path, next, spare string
	checkpoint        func() error
}

func newReplacement(path string, checkpoint func(dir string) error) *replacement {
	dir, name := filepath.Split(path)
	return &replacement{path: path, next: dir + "." + name + ".next", spare: dir + "." + name + ".spare", checkpoint: func() error { return checkpoint(dir) }}
}

// prepare makes next, with everything of it in its place.
func (r *replacement) prepare(data []byte) error {
	if err := os.MkdirAll(filepath.Dir(r.path), 0o755); err != nil {
		return err
	}
	if _, err := os.Lstat(r.next); err == nil { // of a change that was cut off: the loader may see it by the name
		if err := errors.Join(r.checkpoint(), os.Remove(r.next)); err != nil {
			return err
		}
	}
	if r.reuse(data) == nil {
		return nil
	}
	if err := r.create(data); err != nil {
		_ = os.Remove(r.next)
		return err
	}
	return r.checkpoint()
}

var errSpare = errors.New("the spare file cannot take the content")

// reuse writes the content over that of the spare, which becomes next.
func (r *replacement) reuse(data []byte) error {
	f, err := os.OpenFile(r.spare, os.O_WRONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	if err := errors.Join(overwrite(f, data), f.Close()); err != nil {
		return err
	}
	return os.Rename(r.spare, r.next)
}

// overwrite makes data the content of a spare file, durably.
func overwrite(f *os.File, data []byte) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() || info.Size() != int64(len(data)) || !ext4fs.InPlace(f) {
		return errSpare
	}
	if _, err := f.WriteAt(data, 0); err != nil {
		return err
	}
	return unix.Fdatasync(int(f.Fd()))
}

// create makes a file.
func (r *replacement) create(data []byte) (err error) {
	f, err := os.OpenFile(r.next, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := f.Chmod(0o644); err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return fmt.Errorf("writing %s: %w", r.path, err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("syncing %s: %w", r.path, err)
	}
	return nil
}

// exchange gives next the name path.
func (r *replacement) exchange() error {
	err := unix.Renameat2(unix.AT_FDCWD, r.next, unix.AT_FDCWD, r.path, unix.RENAME_EXCHANGE)
	if err != nil { // there is none yet, or the file system cannot
		err = os.Rename(r.next, r.path)
	}
	if err == nil {
		err = atomicfile.SyncDir(filepath.Dir(r.path))
	}
	if err == nil {
		err = r.checkpoint()
	}
	if err == nil {
		r.keep()
	}
	return err
}

// keep makes the old file the spare, if the next one can be of the same size and be written over it.
// It need not be durable.
func (r *replacement) keep() {
	if r.spareable() {
		_ = os.Rename(r.next, r.spare)
	} else {
		_ = os.Remove(r.next)
	}
}

func (r *replacement) spareable() bool {
	const unit = 512
	f, err := os.Open(r.next)
	if err != nil {
		return false
	}
	defer f.Close()
	info, err := f.Stat()
	return err == nil && info.Size()%unit == 0 && ext4fs.InPlace(f)
}

// Requests of linux/fs.h, _IOWR('X', 119 and 120, int), the same on every architecture.
const (
	fiFreeze = 0xC0045877
	fiThaw   = 0xC0045878
)

// checkpoint writes the journal's content to its final location: boot loaders read ext4
// without its journal and would see the old file. Kernels before 5.14 lack the request;
// freezing and thawing has the same effect.
func checkpoint(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("writing the journal out: %w", err)
	}
	defer d.Close()
	is, err := ext4fs.Is(d)
	if err != nil {
		return fmt.Errorf("writing the journal out: %w", err)
	}
	if !is {
		return nil
	}
	if err := ext4fs.Checkpoint(d); err == nil || errors.Is(err, unix.ENODEV) {
		return nil // it is done, or there is no journal
	}
	if err := freeze(int(d.Fd())); err != nil {
		return notAllowed(err)
	}
	if err := unix.IoctlSetInt(int(d.Fd()), fiThaw, 0); err != nil {
		return fmt.Errorf("thawing the storage: %w", err)
	}
	return nil
}

// freeze waits while another process has the file system frozen.
func freeze(fd int) error {
	const attempts, pause = 100, 20 * time.Millisecond
	for n := 1; ; n++ {
		err := unix.IoctlSetInt(fd, fiFreeze, 0)
		if !errors.Is(err, unix.EBUSY) || n == attempts {
			return err
		}
		time.Sleep(pause)
	}
}

// notAllowed lets an unprivileged process go on: only process 1 and the engine
// need the checkpoint, and they may. An emulator of single programs knows no such request.
func notAllowed(err error) error {
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return nil
	}
	return fmt.Errorf("writing the journal out: %w", err)
}
