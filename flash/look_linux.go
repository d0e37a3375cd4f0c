package flash

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// Content is what is on a disk that is to be overwritten.
type Content struct {
	Disk
	// Mark is that of a write that has not ended, nil when there is none.
	Mark *Mark
	// Volumes are the partitions, or the disk itself when a file system is on all of it.
	Volumes []Volume
}

// Volume is a partition, or a disk without partitions.
type Volume struct {
	// Name is the kernel's, sda1.
	Name string
	// Size is in bytes.
	Size int64
	// PartName is the name in the partition table, Type and Label are those of the file system;
	// all may be empty.
	PartName, Type, Label string
}

// String describes a volume for people.
func (v Volume) String() string {
	words := []string{v.Name, fmt.Sprintf("%d MiB", v.Size>>20)}
	if v.PartName != "" {
		words = append(words, fmt.Sprintf("partition %q", v.PartName))
	}
	if v.Type != "" {
		words = append(words, v.Type)
	}
	if v.Label != "" {
		words = append(words, fmt.Sprintf("label %q", v.Label))
	}
	return strings.Join(words, ", ")
}

// Look says what is on the disk at a path, a whole disk. The error has the kind
// [fault.Missing] when there is none, and [fault.BadInput] for what is not a whole disk.
func Look(path string) (*Content, error) {
	c, err := look(path)
	return c, fault.Wrap(fault.IO, err, "looking at %s", path)
}

func look(path string) (*Content, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(fault.Missing, "this device does not exist")
	} else if err != nil {
		return nil, err
	}
	if number(path) == "" {
		return nil, fault.New(fault.BadInput, "it is not a disk")
	}
	sys, err := wholeDisk(path)
	if err != nil {
		return nil, err
	}
	d, err := inspect(filepath.Base(sys))
	if err != nil {
		return nil, err
	}
	c := &Content{Disk: d}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrPermission) {
		return nil, fault.New(fault.BadInput, "you may not read it: it needs the right to, as root has it (sudo) or the group of the disk")
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if m, ok := ReadMark(f); ok {
		c.Mark = &m
		return c, nil
	}
	return c, c.volumes(sys, f)
}

// volumes lists the partitions that the kernel knows.
func (c *Content) volumes(sys string, disk *os.File) error {
	parts, err := filepath.Glob(filepath.Join(sys, "*", "partition"))
	if err != nil {
		return err
	}
	for _, p := range parts {
		dir := filepath.Dir(p)
		start, err1 := strconv.ParseInt(text(dir, "start"), 10, 54)
		size, err2 := strconv.ParseInt(text(dir, "size"), 10, 54)
		if err := errors.Join(err1, err2); err != nil {
			return fmt.Errorf("reading the place of partition %s: %w", filepath.Base(dir), err)
		}
		v := Volume{Name: filepath.Base(dir), Size: size * sectorSize}
		for line := range strings.Lines(text(dir, "uevent")) {
			if name, ok := strings.CutPrefix(strings.TrimSpace(line), "PARTNAME="); ok {
				v.PartName = name
			}
		}
		v.probe(disk, start*sectorSize)
		c.Volumes = append(c.Volumes, v)
	}
	slices.SortFunc(c.Volumes, func(a, b Volume) int { return cmp.Compare(padded(a.Name), padded(b.Name)) })
	if len(parts) > 0 {
		return nil
	}
	if v := (Volume{Name: c.Name, Size: c.Size}); v.probe(disk, 0) {
		c.Volumes = append(c.Volumes, v)
	}
	return nil
}

// signature is where file systems of a type have their magic and their label.
type signature struct {
	typ, magic   string
	at, label, n int64 // n is the most that the label has
}

// signatures are those of kernel and util-linux (libblkid/src/superblocks).
var signatures = []signature{
	{"ext", "\x53\xef", 1080, 1144, 16},
	{"FAT", "FAT32   ", 82, 71, 11},
	{"FAT", "FAT1", 54, 43, 11},
	{"exFAT", "EXFAT   ", 3, 0, 0},
	{"NTFS", "NTFS    ", 3, 0, 0},
	{"btrfs", "_BHRfS_M", 65600, 65835, 255},
	{"xfs", "XFSB", 0, 108, 12},
	{"f2fs", "\x10\x20\xf5\xf2", 1024, 0, 0},
	{"squashfs", "hsqs", 0, 0, 0},
	{"iso9660", "CD001", 32769, 32808, 32},
	{"LUKS", "LUKS\xba\xbe", 0, 0, 0},
	{"swap", "SWAPSPACE2", 4086, 1052, 16},
}

// probe looks for a file system at an offset of the disk, and reports whether there is one.
// What cannot be read has none that is known.
func (v *Volume) probe(disk *os.File, at int64) bool {
	for _, s := range signatures {
		b := make([]byte, len(s.magic))
		if n, _ := disk.ReadAt(b, at+s.at); n < len(b) || string(b) != s.magic {
			continue
		}
		v.Type = s.typ
		label := make([]byte, s.n)
		if n, _ := disk.ReadAt(label, at+s.label); n == len(label) {
			label, _, _ = bytes.Cut(label, []byte{0})
			v.Label = strings.TrimSpace(string(label))
		}
		return true
	}
	return false
}
