package kernel

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/formats/squashfs"
	"github.com/pantavisor/pantavisor/formats/tree"
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

// squash writes a squashfs of a directory's content: all owned by root and readable,
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
	opts := squashfs.Options{Compression: squashfs.Zstd, Level: level, BlockSize: squashBlock}
	err = squashfs.Write(ctx, f, opts, func(add func(tree.Entry) error) error {
		walk := tree.Options{Normal: tree.Normal{AllRoot: true, Time: at, Portable: true}}
		return tree.Walk(ctx, from, walk, func(e tree.Entry) error {
			if e.Mode.IsRegular() {
				e.Mode = 0o644 // nothing here is executed
			}
			return add(e)
		})
	})
	return errors.Join(err, f.Close())
}
