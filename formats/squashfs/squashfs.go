// Package squashfs writes squashfs 4.0 file systems (Linux:
// Documentation/filesystems/squashfs.rst): create-only, in one streaming pass over
// the files, on all cores, with the same bytes for the same input.
//
// Entries are added in the order in which their data shall lie in the image; the
// tree itself is sorted. Identical files are stored once, small files share
// fragment blocks, zero blocks are holes, hard links, devices and extended
// attributes are kept. Memory is bounded by the number of entries and by a few
// blocks a core, never by the size of files.
package squashfs

import (
	"encoding/binary"
	"fmt"
	"io"
	"runtime"

	"github.com/pantavisor/pantavisor/formats/tree"
)

// Compression names the algorithm that all blocks of an image share.
type Compression uint16

// The algorithms, by their number in the superblock.
const (
	Gzip Compression = 1 // zlib streams; every kernel with squashfs reads it
	XZ   Compression = 4 // CONFIG_SQUASHFS_XZ
	Zstd Compression = 6 // CONFIG_SQUASHFS_ZSTD
)

var compressionNames = map[Compression]string{Gzip: "gzip", XZ: "xz", Zstd: "zstd"}

// String returns the name as mksquashfs -comp takes it.
func (c Compression) String() string {
	if n, ok := compressionNames[c]; ok {
		return n
	}
	return fmt.Sprintf("compression %d", uint16(c))
}

// ParseCompression reads gzip, xz or zstd.
func ParseCompression(name string) (Compression, error) {
	for c, n := range compressionNames {
		if n == name {
			return c, nil
		}
	}
	return 0, fmt.Errorf("compression %q: want gzip, xz or zstd", name)
}

// Options decide the form of an image. The zero value is valid.
type Options struct {
	// Compression; default Gzip, which every kernel with squashfs reads.
	Compression Compression
	// Level of effort: for gzip 1 to 9 (default 9), for zstd 1 to 22 in the steps
	// that package zstdenc knows (default 15); xz has none.
	Level int
	// BlockSize in bytes, a power of two from 4 KiB to 1 MiB; default 128 KiB.
	BlockSize int
	// Workers is how many blocks are compressed at once; default all cores.
	Workers int
	// Cache has blocks of other images, and takes those of this one; nil for none.
	Cache *Cache
}

const (
	defaultBlockSize = 128 << 10
	minBlockSize     = 4 << 10
	maxBlockSize     = 1 << 20
	padding          = 4 << 10 // so that a loop device can be attached
)

func (o Options) checked() (Options, error) {
	if o.Compression == 0 {
		o.Compression = Gzip
	}
	if _, ok := compressionNames[o.Compression]; !ok {
		return o, fmt.Errorf("%v: want gzip, xz or zstd", o.Compression)
	}
	if o.BlockSize == 0 {
		o.BlockSize = defaultBlockSize
	}
	if o.BlockSize < minBlockSize || o.BlockSize > maxBlockSize || o.BlockSize&(o.BlockSize-1) != 0 {
		return o, fmt.Errorf("block size %d: want a power of two from %d to %d", o.BlockSize, minBlockSize, maxBlockSize)
	}
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	return o, o.checkLevel()
}

func (o *Options) checkLevel() error {
	limit := map[Compression]int{Gzip: 9, Zstd: 22}[o.Compression]
	if o.Level < 0 || o.Level > limit {
		return fmt.Errorf("level %d: %v takes 1 to %d", o.Level, o.Compression, limit)
	}
	if o.Level == 0 {
		o.Level = map[Compression]int{Gzip: 9, Zstd: 15}[o.Compression]
	}
	return nil
}

// File is where an image goes; *os.File is one.
type File interface {
	io.WriterAt
	Truncate(size int64) error
}

// superblock is the header at byte 0, little-endian, 96 bytes.
type superblock struct {
	Magic         uint32
	InodeCount    uint32
	ModTime       uint32
	BlockSize     uint32
	FragmentCount uint32
	Compression   uint16
	BlockLog      uint16
	Flags         uint16
	IDCount       uint16
	Major, Minor  uint16
	RootInode     uint64
	BytesUsed     uint64
	IDTable       uint64
	XattrTable    uint64
	InodeTable    uint64
	DirTable      uint64
	FragmentTable uint64
	ExportTable   uint64
}

const (
	magic          = 0x73717368
	superblockSize = 96
	absent         = ^uint64(0) // a table that is not there

	flagDuplicates        = 0x0040
	flagExportable        = 0x0080
	flagNoXattrs          = 0x0200
	flagCompressorOptions = 0x0400
)

var le = binary.LittleEndian

// limits are what squashfs holds and the kernel reads. Names have at most
// SQUASHFS_NAME_LEN bytes; the target of a link must fit into a page with its final NUL.
var limits = tree.Limits{
	Format: "squashfs", Name: 256, Target: 4095, Major: 0xfff, Minor: 0xfffff,
	Symlinks: true, HardLinks: true, Devices: true, FIFOs: true, Sockets: true, Xattrs: true,
}

// Check returns why a Writer would not take the options.
func (o Options) Check() error {
	_, err := o.checked()
	return err
}
