package images

import (
	"context"
	"errors"
	"io"
	"path"
	"path/filepath"
	"syscall"

	"github.com/pantavisor/pantavisor/formats/ext4"
	"github.com/pantavisor/pantavisor/formats/tree"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// storageOptions are the values of image.config for the storage.
type storageOptions struct {
	// InodeRatio is the number of bytes per inode.
	InodeRatio int64
	// Journal is the size of the journal in MiB.
	Journal int64
	// Reserved is the part that only root may fill, in percent.
	Reserved int64
}

// storageOptions are those of image.config.
func (d *Disk) storageOptions() (storageOptions, error) {
	c, err := ReadImageConfig(d.Config)
	return c.storageOptions, err
}

// tally is the space that a tree of files needs on an ext4 file system.
type tally struct {
	blocks, inodes int64
	names          int64 // bytes of the entries in directories
}

const blockSize = 4096

// count walks a tree; a file with several names counts once.
func count(ctx context.Context, dir string) (*tally, error) {
	t := &tally{}
	err := tree.Walk(ctx, dir, tree.Options{}, func(e tree.Entry) error {
		t.names += int64(len(path.Base(e.Name))) + 12
		if e.HardLink == "" {
			t.inodes++
			// One more block is for a directory, or for a deep extent tree.
			t.blocks += 1 + (e.Size+blockSize-1)/blockSize
		}
		return nil
	})
	return t, fault.Wrap(fault.IO, err, "counting what the storage holds")
}

// need returns the smallest size in MiB of a file system for the tree.
func (t *tally) need(o storageOptions) (int64, error) {
	want := t.blocks*blockSize + 2*t.names // blocks of directories may be half full
	for size := want/mib + o.Journal + 1; ; {
		room, files, err := o.ext4(size * mib).Room()
		if err != nil && !errors.Is(err, ext4.ErrFull) {
			return 0, fault.Wrap(fault.BadInput, err, "sizing the storage")
		}
		lack := max(want-room, (t.inodes-files)*o.InodeRatio)
		if lack <= 0 {
			return size, nil
		}
		size += (lack + mib - 1) / mib
	}
}

// ext4 returns what the options are for a file system of a size in bytes.
func (o storageOptions) ext4(size int64) ext4.Options {
	return ext4.Options{Size: size, BlockSize: blockSize, InodeRatio: o.InodeRatio, Journal: o.Journal * mib, Reserved: int(o.Reserved)}
}

// makeExt4 makes the storage in a range of an image that holds zeros.
func (c *composition) makeExt4(ctx context.Context, s span) error {
	normal := tree.Normal{AllRoot: true, Time: c.disk.Epoch.Time()}
	var entries []tree.Entry
	err := tree.Walk(ctx, filepath.Join(c.work.In(c.disk.Storage), StorageDir), tree.Options{Normal: normal}, func(e tree.Entry) error {
		entries = append(entries, e)
		return nil
	})
	if err != nil {
		return fault.Wrap(fault.IO, err, "collecting the files of partition %s", s.Name)
	}
	o := c.options.ext4(s.Length)
	o.Label, o.UUID, o.HashSeed, o.Time = s.Name, c.id.bytes("storage"), c.id.bytes("hash seed"), normal.Time
	err = ext4.Write(ctx, io.NewOffsetWriter(c.file, s.Start), entries, o)
	switch {
	case errors.Is(err, ext4.ErrFull):
		return fault.Wrap(fault.NoSpace, err, "making partition %s: raise image.size in target.yaml", s.Name)
	case errors.Is(err, syscall.ENOSPC):
		return fault.Wrap(fault.NoSpace, err, "making partition %s: the file system of the build cache (PV_CACHE_DIR) is full", s.Name)
	}
	return fault.Wrap(fault.IO, err, "making partition %s", s.Name)
}
