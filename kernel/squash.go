package kernel

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/formats/squashfs"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// Compression of a file system. The zero value is zstd at DefaultLevel.
type Compression struct {
	// Level is zstd's, 1 to 22; 0 is DefaultLevel.
	Level int
}

// DefaultLevel packs a PC's modules (390 MB) into 98 MB in 3 s of CPU time. From
// level 10 on it takes five times as long and gains 6 %.
const DefaultLevel = 9

// squashBlock is the block size in bytes. Twice as much gains 3 %, but a device
// sets about five blocks of memory aside for each mounted file system.
const squashBlock = 256 << 10

// squash writes a squashfs of a folder's content: all owned by root and readable,
// all times the step's, no extended attributes, so that neither the file mask nor
// the file system of this machine shows.
func squash(ctx context.Context, from, to string, c Compression, at build.Stamp) error {
	return fault.Wrap(fault.IO, writeSquash(ctx, from, to, c, at.Time()), "writing %s", filepath.Base(to))
}

func writeSquash(ctx context.Context, from, to string, c Compression, at time.Time) error {
	level := c.Level
	if level == 0 {
		level = DefaultLevel
	}
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	defer f.Close()
	w, err := squashfs.NewWriter(f, squashfs.Options{
		Compression: squashfs.Zstd, Level: level, BlockSize: squashBlock, AllRoot: true, Time: at,
	})
	if err != nil {
		return err
	}
	return errors.Join(addFolder(ctx, w, from), w.Close(), f.Close())
}

// addFolder adds the files, folders and links below dir in sorted order.
func addFolder(ctx context.Context, w *squashfs.Writer, dir string) error {
	return filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		e := squashfs.Entry{Path: filepath.ToSlash(rel)}
		switch {
		case d.IsDir():
			e.Mode = fs.ModeDir | 0o755
		case d.Type()&fs.ModeSymlink != 0:
			e.Mode = fs.ModeSymlink | 0o777
			if e.Link, err = os.Readlink(name); err != nil {
				return err
			}
		default:
			e.Mode = 0o644
			e.Open = func() (io.ReadCloser, error) { return os.Open(name) }
		}
		return w.Add(ctx, e)
	})
}
