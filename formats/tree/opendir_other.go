//go:build !linux

package tree

import (
	"os"
	"path/filepath"

	"github.com/pantavisor/pantavisor/internal/filestat"
)

// openDir is a directory that is being walked.
type openDir struct{ *os.Root }

// openTop opens the directory to be walked; it may be a symbolic link.
func openTop(path string) (openDir, error) {
	r, err := os.OpenRoot(path)
	return openDir{r}, err
}

func (d openDir) stat() (filestat.Stat, error) { return filestat.Of(d.Name()) }

func (d openDir) names() ([]string, error) {
	f, err := d.Open(".")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

func (d openDir) lstat(base string) (filestat.Stat, error) {
	info, err := d.Lstat(base)
	if err != nil {
		return filestat.Stat{}, err
	}
	return filestat.OfInfo(filepath.Join(d.Name(), base), info)
}

// readlink returns the target with slashes: it is for a device.
func (d openDir) readlink(base string, _ int) (string, error) {
	target, err := d.Readlink(base)
	return filepath.ToSlash(target), err
}

// enter opens a directory in it. The caller checks that it is the one that was found,
// which a symbolic link is not.
func (d openDir) enter(base, _ string) (openDir, error) {
	r, err := d.OpenRoot(base)
	return openDir{r}, err
}

// attributes leaves out all extended attributes: those of other systems mean nothing to
// Linux, and those of Linux cannot be set elsewhere.
func (w *walker) attributes(openDir, string, *Entry) error { return nil }

// near returns nil: every file is opened from the root of the tree.
func (s *source) near() (*os.File, error) { return nil, nil }

func (s *source) far() (*os.File, error) { return s.stepwise() }
