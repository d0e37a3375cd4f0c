// Package ext4 writes ext4 file systems: create-only, in one streaming pass over the files,
// with the same bytes for the same input, into a range of an image that holds zeros. It also
// reads which blocks of such a file system are in use, for the block map of an image.
//
// The file systems are those of mke2fs with the features of Debian 12, which GRUB 2.06 and
// U-Boot 2023.01 read: extents, a journal, checksums of all metadata, directories with hashed
// indexes, flexible groups, 64-bit descriptors and blocks reserved for growing while mounted.
//
// Files are laid down one after the other from the first free block on, in the order of the
// entries, and so are inodes. What is in use is therefore always a run from the start of the
// file system plus the places of the metadata, which the geometry determines: neither bitmaps
// nor lists of free blocks have to be kept. Memory is bounded by the number of entries and by
// the group descriptors (64 bytes for each 8*BlockSize blocks), never by the size of files.
//
// Format: Linux, Documentation/filesystems/ext4.
package ext4

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/formats/tree"
)

// Options describe a file system.
type Options struct {
	// Size is the room for the file system in bytes, up to 2^32-1 blocks. The rest of it that
	// is too small for a group stays unused.
	Size int64
	// BlockSize is 1024, 2048 or 4096 bytes. Default: 4096.
	BlockSize int
	// InodeRatio is the number of bytes for which there is one inode. Default: 16384.
	InodeRatio int64
	// Journal is the size of the journal in bytes, at least 1024 blocks; 0 is no journal.
	Journal int64
	// Reserved is the part of the blocks that only root may fill, in percent, up to 50.
	Reserved int
	// Label is up to 16 bytes.
	Label string
	// UUID is the identifier of the file system and enters its checksums; HashSeed is that
	// of the hashes of names in directories.
	UUID, HashSeed [16]byte
	// Time is when the file system is made, and the time of entries that have none. Default:
	// 1970.
	Time time.Time
}

// ErrFull is wrapped by errors about content that needs more blocks or inodes than the file
// system has.
var ErrFull = errors.New("the file system is too small")

const (
	inodeSize  = 256
	groupsFlex = 16   // groups whose bitmaps and inode tables are together
	minJournal = 1024 // blocks, as the kernel wants them
	maxLinks   = 65000
	maxLabel   = 16
)

// Numbers of inodes.
const (
	rootInode      = 2
	resizeInode    = 7
	journalInode   = 8
	lostFoundInode = 11
	firstInode     = 12 // of an entry
)

var le = binary.LittleEndian

func (o Options) checked() (Options, error) {
	if o.BlockSize == 0 {
		o.BlockSize = 4096
	}
	if o.InodeRatio == 0 {
		o.InodeRatio = 16384
	}
	if o.Time.IsZero() {
		o.Time = time.Unix(0, 0)
	}
	var errs []error
	for _, c := range []struct {
		wrong bool
		text  string
	}{
		{o.BlockSize != 1024 && o.BlockSize != 2048 && o.BlockSize != 4096, fmt.Sprintf("block size %d: want 1024, 2048 or 4096", o.BlockSize)},
		{o.Size < 0 || o.Size/int64(max(o.BlockSize, 1)) > math.MaxUint32, fmt.Sprintf("size %d: want up to 2^32-1 blocks", o.Size)},
		{o.InodeRatio < 1024, fmt.Sprintf("%d bytes for an inode: want at least 1024", o.InodeRatio)},
		{o.Journal != 0 && o.Journal < minJournal*int64(o.BlockSize), fmt.Sprintf("journal of %d bytes: want at least %d blocks", o.Journal, minJournal)},
		{o.Reserved < 0 || o.Reserved > 50, fmt.Sprintf("%d %% of the blocks reserved: want 0 to 50", o.Reserved)},
		{len(o.Label) > maxLabel || strings.ContainsRune(o.Label, 0), fmt.Sprintf("label %.32q: want up to %d bytes", o.Label, maxLabel)},
	} {
		if c.wrong {
			errs = append(errs, errors.New(c.text))
		}
	}
	return o, errors.Join(errs...)
}

// limits are what the format holds and the kernel reads: the target of a link must fit into a
// block with its final NUL.
func (g *geometry) limits() *tree.Limits {
	return &tree.Limits{
		Format: "ext4", Name: 255, Target: int(min(g.block, 4096)) - 1, Major: 0xfff, Minor: 0xfffff, Size: g.block * math.MaxUint32,
		Symlinks: true, HardLinks: true, Devices: true, FIFOs: true, Sockets: true, Xattrs: true,
	}
}
