package images

import (
	"context"
	"errors"
	"io"
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
}

const blockSize = 4096

// count walks a tree; a file with several names counts once.
func count(ctx context.Context, dir string) (*tally, error) {
	t := &tally{}
	err := tree.Walk(ctx, dir, tree.Options{}, func(e tree.Entry) error {
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
func (t *tally) need(o storageOptions) int64 {
	fixed := t.blocks*blockSize + o.Journal*mib + 4*mib
	// Inode tables take 256 bytes for each InodeRatio bytes of the file system.
	total := max(fixed*o.InodeRatio/(o.InodeRatio-256), (t.inodes+16)*o.InodeRatio)
	return (total + mib - 1) / mib
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
	err = ext4.Write(ctx, io.NewOffsetWriter(c.file, s.Start), entries, ext4.Options{
		Size: s.Length, BlockSize: blockSize, InodeRatio: c.options.InodeRatio, Journal: c.options.Journal * mib, Reserved: int(c.options.Reserved),
		Label: s.Name, UUID: c.id.bytes("storage"), HashSeed: c.id.bytes("hash seed"), Time: normal.Time,
	})
	switch {
	case errors.Is(err, ext4.ErrFull):
		return fault.Wrap(fault.NoSpace, err, "making partition %s: raise image.size in target.yaml", s.Name)
	case errors.Is(err, syscall.ENOSPC):
		return fault.Wrap(fault.NoSpace, err, "making partition %s: the file system of the build cache (PV_CACHE_DIR) is full", s.Name)
	}
	return fault.Wrap(fault.IO, err, "making partition %s", s.Name)
}
