package flash

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// openMedium opens the medium at a path: a block device, or a file that need not exist.
func openMedium(path string, want *Disk) (medium, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && strings.HasPrefix(filepath.Clean(path), "/dev/"):
		return nil, fault.New(fault.Missing, "this device does not exist")
	case err == nil && info.Mode().Type() == fs.ModeDevice:
		return openDevice(path, want)
	case want != nil:
		return nil, fault.New(fault.BadInput, "it is not the disk any more that was shown")
	case err == nil && !info.Mode().IsRegular():
		return nil, fault.New(fault.BadInput, "it is neither a disk nor a regular file")
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	return &file{f}, err
}

// file is a medium in a regular file.
type file struct{ *os.File }

// fits is nil: what the file system has no room for is told when it is written.
func (f *file) fits(int64) error { return nil }

// begin makes the file a hole of the image's size, with a first block.
func (f *file) begin(size int64, first []byte) error {
	if err := errors.Join(f.Truncate(0), f.Truncate(size)); err != nil {
		return err
	}
	_, err := f.WriteAt(first[:min(int64(len(first)), size)], 0)
	return errors.Join(err, f.Sync())
}

func (f *file) sync() error { return f.Sync() }

// uncache does what the system offers: what stays in the cache is no harm to a file.
func (f *file) uncache() error { return dropCache(f.File) }

func (f *file) reread() error { return nil }

func (f *file) direct() bool { return false }

// Close may be called again.
func (f *file) Close() error {
	if err := f.File.Close(); !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}
