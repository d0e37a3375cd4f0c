// Package fat32 writes FAT32 file systems for boot partitions: create-only, in one pass,
// into a range of an image that holds zeros.
//
// Equal input gives equal bytes: files are laid down sorted by path, each in one run of
// clusters, with the volume number and the times that the caller sets. Directories are
// created as paths need them. Full names are stored as long names, except those that are
// already upper-case 8.3 names. FAT has neither owners nor permissions: those of entries
// have no effect.
//
// Format: Microsoft FAT32 File System Specification 1.03, UEFI 2.10 section 13.3.
package fat32

import (
	"fmt"
	"io"
	"time"

	"github.com/pantavisor/pantavisor/formats/tree"
)

const (
	sector   = 512
	entry    = 32
	reserved = 32 // sectors before the first FAT
	root     = 2  // cluster of the root directory
	endMark  = 0x0FFFFFFF

	// minClusters and maxClusters are the limits between which every reader takes a FAT
	// for FAT32.
	minClusters = 65525
	maxClusters = 0x0FFFFFF5 - 2
)

// Options describe a file system.
type Options struct {
	// Size in bytes, a multiple of 512; at least 33 MiB.
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
var limits = tree.Limits{Format: "FAT32", Size: 1<<32 - 1}

// TooSmall is the error for content that needs more bytes than the file system has.
type TooSmall struct{ Need, Have int64 }

func (e *TooSmall) Error() string {
	return fmt.Sprintf("content needs %d bytes of a file system of %d", e.Need, e.Have)
}

// geometry is how a file system is divided.
type geometry struct {
	sectors, fatSectors, perCluster, clusters int64
}

func (g geometry) clusterBytes() int64 { return g.perCluster * sector }
func (g geometry) dataStart() int64    { return (reserved + 2*g.fatSectors) * sector }

// offset is where a cluster starts, from the start of the file system.
func (g geometry) offset(cluster int64) int64 {
	return g.dataStart() + (cluster-root)*g.clusterBytes()
}

func (g geometry) clustersFor(bytes int64) int64 {
	return (bytes + g.clusterBytes() - 1) / g.clusterBytes()
}

// divide chooses the cluster size as Microsoft's format command does.
func divide(size int64) (geometry, error) {
	const mib, gib = 1 << 20, 1 << 30
	g := geometry{sectors: size / sector, perCluster: 64}
	for _, step := range []struct{ upTo, perCluster int64 }{{260 * mib, 1}, {8 * gib, 8}, {16 * gib, 16}, {32 * gib, 32}} {
		if size <= step.upTo {
			g.perCluster = step.perCluster
			break
		}
	}
	// Each sector of a FAT numbers 128 clusters and there are two FATs.
	per := 128*g.perCluster + 2
	g.fatSectors = (g.sectors - reserved + 2*g.perCluster + per - 1) / per
	g.clusters = (g.sectors - reserved - 2*g.fatSectors) / g.perCluster
	if size%sector != 0 || g.clusters < minClusters || g.clusters > maxClusters || g.sectors > 1<<32-1 {
		return g, fmt.Errorf("dividing %d bytes into clusters: FAT32 takes whole sectors, 33 MiB to 2 TiB", size)
	}
	return g, nil
}

// Write makes the file system at offset off of w. It returns how many bytes at its start
// are in use: boot sectors, allocation tables and clusters. Readers rely on all of them,
// those that are zeros included.
func Write(w io.WriterAt, off int64, entries []tree.Entry, o Options) (int64, error) {
	g, err := divide(o.Size)
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
	next := top.place(g, root)
	if next-root > g.clusters {
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
