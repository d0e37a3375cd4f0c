// Package fat writes FAT16 and FAT32 file systems for boot partitions: create-only, in one pass,
// pass, into a range of an image that holds zeros.
//
// Equal input gives equal bytes: files are laid down sorted by path, each in one run of
// clusters, with the volume number and the times that the caller sets. Directories are
// created as paths need them. Full names are stored as long names, except those that are
// already upper-case 8.3 names. FAT has neither owners nor permissions: those of entries
// have no effect.
//
// Format: Microsoft FAT32 File System Specification 1.03, UEFI 2.10 section 13.3.
package fat

import (
	"fmt"
	"io"
	"time"

	"github.com/pantavisor/pantavisor/formats/tree"
)

const (
	sector = 512
	entry  = 32
	root   = 2 // the first cluster; that of the root directory in FAT32
)

// kind is what differs between the kinds of FAT.
type kind struct {
	name string
	// reserved are the sectors before the first table, rootSectors those of the root directory
	// behind the last one; FAT32 has it in clusters.
	reserved, rootSectors int64
	// width is the size of an entry of a table in bytes, end marks the last cluster of a file.
	width int64
	end   uint32
	// minClusters and maxClusters are the limits between which every reader takes a FAT for
	// this kind.
	minClusters, maxClusters int64
	// clusters are the sectors of a cluster by the size of the file system, as Microsoft's
	// format command has them; larger ones have 64.
	clusters []step
	// sizes says in words which sizes there are.
	sizes string
}

type step struct{ upTo, perCluster int64 }

const mib, gib = 1 << 20, 1 << 30

var kinds = map[int]*kind{
	16: {
		name: "FAT16", reserved: 4, rootSectors: 32, width: 2, end: 0xFFFF, minClusters: 4085, maxClusters: 65524,
		clusters: []step{{32 * mib, 2}, {128 * mib, 4}, {256 * mib, 8}, {512 * mib, 16}, {gib, 32}}, sizes: "5 MiB to 2047 MiB",
	},
	32: {
		name: "FAT32", reserved: 32, width: 4, end: 0x0FFFFFFF, minClusters: 65525, maxClusters: 0x0FFFFFF5 - 2,
		clusters: []step{{260 * mib, 1}, {8 * gib, 8}, {16 * gib, 16}, {32 * gib, 32}}, sizes: "33 MiB to 2 TiB",
	},
}

// Options describe a file system.
type Options struct {
	// Bits is 16 or 32. Default: 32.
	Bits int
	// Size in bytes, a multiple of 512: 5 MiB to 2047 MiB for 16 bits, at least 33 MiB for 32.
	Size int64
	// Label is up to 11 upper-case letters, digits, '_' or '-'. Lower case is allowed and
	// kept: GRUB and Linux compare it literally.
	Label string
	// ID is the volume number.
	ID uint32
	// Time is the time of the label and of directories that are not among the entries,
	// rounded down to 2 s; years 1980 to 2107.
	Time time.Time
	// Hidden is the number of 512-byte sectors before the file system.
	Hidden uint32
}

// limits are what the format holds. Names are checked by their UTF-16 form.
var limits = tree.Limits{Format: "FAT", Size: 1<<32 - 1}

// TooSmall is the error for content that needs more bytes than the file system has.
type TooSmall struct{ Need, Have int64 }

func (e *TooSmall) Error() string {
	return fmt.Sprintf("content needs %d bytes of a file system of %d", e.Need, e.Have)
}

// geometry is how a file system is divided.
type geometry struct {
	*kind
	sectors, fatSectors, perCluster, total int64 // total is the number of clusters
}

func (g geometry) clusterBytes() int64 { return g.perCluster * sector }

// rootStart is where the root directory of FAT16 is.
func (g geometry) rootStart() int64 { return (g.reserved + 2*g.fatSectors) * sector }
func (g geometry) dataStart() int64 { return g.rootStart() + g.rootSectors*sector }

// offset is where a cluster starts, from the start of the file system.
func (g geometry) offset(cluster int64) int64 {
	return g.dataStart() + (cluster-root)*g.clusterBytes()
}

func (g geometry) clustersFor(bytes int64) int64 {
	return (bytes + g.clusterBytes() - 1) / g.clusterBytes()
}

// divide chooses the cluster size.
func divide(size int64, k *kind) (geometry, error) {
	g := geometry{kind: k, sectors: size / sector, perCluster: 64}
	for _, step := range k.clusters {
		if size <= step.upTo {
			g.perCluster = step.perCluster
			break
		}
	}
	// Each sector of a table numbers so many clusters, and there are two tables.
	per := sector/k.width*g.perCluster + 2
	g.fatSectors = (g.sectors - k.reserved - k.rootSectors + 2*g.perCluster + per - 1) / per
	g.total = (g.sectors - k.reserved - k.rootSectors - 2*g.fatSectors) / g.perCluster
	if size%sector != 0 || g.total < k.minClusters || g.total > k.maxClusters || g.sectors > 1<<32-1 {
		return g, fmt.Errorf("dividing %d bytes into clusters: %s takes whole sectors, %s", size, k.name, k.sizes)
	}
	return g, nil
}

// Write makes the file system at offset off of w. It returns how many bytes at its start
// are in use: boot sectors, allocation tables and clusters. Readers rely on all of them,
// those that are zeros included.
func Write(w io.WriterAt, off int64, entries []tree.Entry, o Options) (int64, error) {
	if o.Bits == 0 {
		o.Bits = 32
	}
	k, ok := kinds[o.Bits]
	if !ok {
		return 0, fmt.Errorf("making a FAT of %d bits: want 16 or 32", o.Bits)
	}
	g, err := divide(o.Size, k)
	if err != nil {
		return 0, err
	}
	if err := o.check(); err != nil {
		return 0, err
	}
	top, err := build(entries, o.Time)
	if err != nil {
		return 0, err
	}
	next, err := top.placeAll(g)
	if err != nil {
		return 0, err
	}
	if next-root > g.total {
		return 0, &TooSmall{Need: g.offset(next), Have: o.Size}
	}
	v := &volume{w: io.NewOffsetWriter(w, off), geometry: g, Options: o, used: next - root}
	return g.offset(next), v.write(top)
}

func (o Options) check() error {
	if y := o.Time.UTC().Year(); y < 1980 || y > 2107 {
		return fmt.Errorf("checking the time %s: FAT knows the years 1980 to 2107", o.Time)
	}
	for _, c := range []byte(o.Label) {
		if c <= ' ' || c > '~' || !shortChar(upper(c)) {
			return fmt.Errorf("checking label %q: letters, digits, '_' and '-' only", o.Label)
		}
	}
	if o.Label == "" || len(o.Label) > 11 {
		return fmt.Errorf("checking label %q: 1 to 11 letters", o.Label)
	}
	return nil
}
