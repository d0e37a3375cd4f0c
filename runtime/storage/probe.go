package storage

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
)

// Super describes a file system by its superblock.
type Super struct {
	Type   string // as mount takes it: ext2, ext3, ext4, vfat, squashfs, btrfs, xfs, f2fs, erofs, swap
	Label  string
	UUID   string // as blkid prints it: lower-case hex with dashes; vfat "ABCD-1234"
	Dirty  bool   // it was not unmounted, or the journal must be replayed
	Errors bool   // the kernel has recorded errors in it
	Blocks uint64 // of the file system; ext only
	Block  uint64 // bytes of a block; ext only
}

// Size returns the size of the file system in bytes, 0 when unknown.
func (s Super) Size() uint64 { return s.Blocks * s.Block }

// probeBytes includes every superblock below: the last is that of btrfs at 64 KiB.
const probeBytes = 64<<10 + 512

type prober func(b []byte) (Super, bool)

var probers = []prober{probeExt, probeSquashfs, probeErofs, probeXFS, probeBtrfs, probeF2FS, probeSwap, probeVFAT}

// probe recognises the file system on a device or image by its superblock. The second
// result reports whether there is a known one.
func probe(r io.ReaderAt) (Super, bool, error) {
	b := make([]byte, probeBytes)
	n, err := r.ReadAt(b, 0)
	if err != nil && err != io.EOF {
		return Super{}, false, fmt.Errorf("reading the superblock: %w", err)
	}
	clear(b[n:])
	for _, p := range probers {
		if s, ok := p(b); ok {
			return s, true, nil
		}
	}
	return Super{}, false, nil
}

// ext2/3/4 (kernel documentation, "ext4 Data Structures and Algorithms", super block).
func probeExt(b []byte) (Super, bool) {
	sb := b[1024:2048]
	le := binary.LittleEndian
	logBlock := le.Uint32(sb[0x18:])
	if le.Uint16(sb[0x38:]) != 0xEF53 || logBlock > 6 {
		return Super{}, false
	}
	const (
		stateErrors   = 0x2
		compatJournal = 0x4
		needsRecovery = 0x4
		incompat64bit = 0x80
		ext4Incompat  = 0x40 | incompat64bit | 0x100 | 0x200 | 0x2000 | 0x4000 | 0x8000 | 0x10000
		ext4RoCompat  = 0x8 | 0x10 | 0x20 | 0x40 | 0x200 | 0x400
	)
	state, compat, incompat, ro := le.Uint16(sb[0x3A:]), le.Uint32(sb[0x5C:]), le.Uint32(sb[0x60:]), le.Uint32(sb[0x64:])
	s := Super{Type: "ext2", Label: text(sb[0x78:0x88]), UUID: uuid(sb[0x68:0x78]),
		Dirty: incompat&needsRecovery != 0, Errors: state&stateErrors != 0,
		Blocks: uint64(le.Uint32(sb[0x4:])), Block: 1024 << logBlock}
	if incompat&incompat64bit != 0 {
		s.Blocks |= uint64(le.Uint32(sb[0x150:])) << 32
	}
	switch {
	case incompat&ext4Incompat != 0 || ro&ext4RoCompat != 0:
		s.Type = "ext4"
	case compat&compatJournal != 0:
		s.Type = "ext3"
	}
	return s, true
}

func probeSquashfs(b []byte) (Super, bool) {
	return Super{Type: "squashfs"}, string(b[:4]) == "hsqs"
}

func probeErofs(b []byte) (Super, bool) {
	sb := b[1024:]
	if binary.LittleEndian.Uint32(sb) != 0xE0F5E1E2 {
		return Super{}, false
	}
	return Super{Type: "erofs", UUID: uuid(sb[0x30:0x40]), Label: text(sb[0x40:0x50])}, true
}

func probeXFS(b []byte) (Super, bool) {
	if string(b[:4]) != "XFSB" {
		return Super{}, false
	}
	return Super{Type: "xfs", UUID: uuid(b[32:48]), Label: text(b[108:120])}, true
}

func probeBtrfs(b []byte) (Super, bool) {
	sb := b[64<<10:]
	if string(sb[0x40:0x48]) != "_BHRfS_M" {
		return Super{}, false
	}
	return Super{Type: "btrfs", UUID: uuid(sb[0x20:0x30]), Label: text(sb[0x12B:])}, true
}

func probeF2FS(b []byte) (Super, bool) {
	sb := b[1024:]
	if binary.LittleEndian.Uint32(sb) != 0xF2F52010 {
		return Super{}, false
	}
	return Super{Type: "f2fs", UUID: uuid(sb[108:124]), Label: utf16le(sb[124:636])}, true
}

func probeSwap(b []byte) (Super, bool) {
	if string(b[4086:4096]) != "SWAPSPACE2" {
		return Super{}, false
	}
	return Super{Type: "swap", UUID: uuid(b[1036:1052]), Label: text(b[1052:1068])}, true
}

// FAT12/16/32 (Microsoft "FAT: General Overview of On-Disk Format"): the label of
// the boot sector, which every formatter keeps in step with the root directory's.
func probeVFAT(b []byte) (Super, bool) {
	if b[510] != 0x55 || b[511] != 0xAA {
		return Super{}, false
	}
	ext := b[0x36-0x12:]
	if string(b[0x52:0x57]) == "FAT32" {
		ext = b[0x52-0x12:]
	} else if string(b[0x36:0x39]) != "FAT" {
		return Super{}, false
	}
	id := binary.LittleEndian.Uint32(ext[0x03:])
	label := strings.TrimRight(string(ext[0x07:0x12]), " ")
	if label == "NO NAME" {
		label = ""
	}
	return Super{Type: "vfat", Label: label, UUID: fmt.Sprintf("%04X-%04X", id>>16, id&0xFFFF)}, true
}

func text(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

func utf16le(b []byte) string {
	var out []rune
	for i := 0; i+1 < len(b); i += 2 {
		r := rune(binary.LittleEndian.Uint16(b[i:]))
		if r == 0 {
			break
		}
		out = append(out, r)
	}
	return string(out)
}

// uuid formats 16 bytes in the order on the disk (RFC 9562); all zeros are "".
func uuid(b []byte) string {
	if bytes.Equal(b[:16], make([]byte, 16)) {
		return ""
	}
	h := hex.EncodeToString(b[:16])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}
