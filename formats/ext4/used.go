package ext4

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// errFormat is wrapped by every error about bytes that are not an ext4 file system of the
// kind that is read here: without meta_bg and bigalloc.
var errFormat = errors.New("not an ext4 file system whose blocks are known")

// Extent is a run of Length bytes at Offset.
type Extent struct{ Offset, Length int64 }

// Features that change where descriptors are or what a bit of a bitmap stands for.
const (
	sparseSuper = 0x1   // read-only compatible
	bigalloc    = 0x200 // read-only compatible
	metaGroups  = 0x10  // incompatible
	wide        = 0x80  // incompatible: 64bit
)

// uninitialized is the flag of a group whose block bitmap has not been written: only
// copies of the superblock and of the descriptors are in use there, and the group's own
// bitmaps and inodes where these are in it.
const uninitialized = 0x2

// volume is what the superblock says.
type volume struct {
	r                           io.ReaderAt
	at                          int64 // of the file system, in bytes
	block, blocks, first, group int64 // first is that of group 0; group is the blocks of one
	descriptor, reserved        int64 // bytes of a descriptor; blocks for more of them
	inodes                      int64 // blocks for the inodes of a group
	sparse, wide                bool
}

// Used returns the blocks that are in use of the file system at offset at of r, in order.
// Neighbours are joined.
func Used(r io.ReaderAt, at int64) ([]Extent, error) {
	v, err := open(r, at)
	if err != nil {
		return nil, err
	}
	var out []Extent
	for n := range v.groups() {
		used, err := v.groupUsed(n)
		if err != nil {
			return nil, fmt.Errorf("reading group %d: %w", n, err)
		}
		for i, bit := range used {
			if bit {
				out = add(out, Extent{at + (v.first+n*v.group+int64(i))*v.block, v.block})
			}
		}
	}
	return out, nil
}

func add(list []Extent, e Extent) []Extent {
	if n := len(list); n > 0 && list[n-1].Offset+list[n-1].Length == e.Offset {
		list[n-1].Length += e.Length
		return list
	}
	return append(list, e)
}

func open(r io.ReaderAt, at int64) (*volume, error) {
	b := make([]byte, 1024)
	if _, err := r.ReadAt(b, at+1024); err != nil {
		return nil, fmt.Errorf("reading the superblock: %w", err)
	}
	le := binary.LittleEndian
	incompatible, readOnly := le.Uint32(b[96:]), le.Uint32(b[100:])
	v := &volume{
		r: r, at: at, blocks: int64(le.Uint32(b[4:])), first: int64(le.Uint32(b[20:])), group: int64(le.Uint32(b[32:])),
		descriptor: 32, reserved: int64(le.Uint16(b[206:])), sparse: readOnly&sparseSuper != 0, wide: incompatible&wide != 0,
	}
	scale := le.Uint32(b[24:])
	if v.wide {
		v.blocks |= int64(le.Uint32(b[336:])) << 32
		v.descriptor = int64(le.Uint16(b[254:]))
	}
	if le.Uint16(b[56:]) != 0xEF53 || scale > 6 || incompatible&metaGroups != 0 || readOnly&bigalloc != 0 {
		return nil, fmt.Errorf("reading the superblock: %w", errFormat)
	}
	v.block = 1024 << scale
	v.inodes = (int64(le.Uint32(b[40:]))*int64(le.Uint16(b[88:])) + v.block - 1) / v.block
	if v.blocks <= v.first || v.blocks > 1<<47 || v.first > 1 || v.group < 1 || v.group > 8*v.block || v.descriptor < 32 || v.descriptor > v.block || v.wide && v.descriptor < 64 {
		return nil, fmt.Errorf("reading the superblock: sizes out of range: %w", errFormat)
	}
	return v, nil
}

func (v *volume) groups() int64 { return (v.blocks - v.first + v.group - 1) / v.group }

// groupUsed reports for each block of a group whether it is in use.
func (v *volume) groupUsed(n int64) ([]bool, error) {
	used := make([]bool, min(v.group, v.blocks-v.first-n*v.group))
	d := make([]byte, v.descriptor)
	if _, err := v.r.ReadAt(d, v.at+(v.first+1)*v.block+n*v.descriptor); err != nil {
		return nil, err
	}
	if binary.LittleEndian.Uint16(d[18:])&uninitialized != 0 {
		v.mark(used, n, d)
		return used, nil
	}
	place := v.pointer(d, 0)
	if place >= v.blocks {
		return nil, fmt.Errorf("its bitmap is in block %d of %d: %w", place, v.blocks, errFormat)
	}
	bits := make([]byte, (len(used)+7)/8)
	if _, err := v.r.ReadAt(bits, v.at+place*v.block); err != nil {
		return nil, err
	}
	for i := range used {
		used[i] = bits[i/8]>>(i%8)&1 != 0
	}
	return used, nil
}

// pointer returns the block number at an offset of a descriptor, whose upper half is 32
// bytes behind the lower one.
func (v *volume) pointer(d []byte, at int) int64 {
	n := int64(binary.LittleEndian.Uint32(d[at:]))
	if v.wide {
		n |= int64(binary.LittleEndian.Uint32(d[at+32:])) << 32
	}
	return n
}

// mark sets what is in use in a group without a bitmap.
func (v *volume) mark(used []bool, n int64, d []byte) {
	start := v.first + n*v.group
	for _, r := range [][2]int64{{start, v.copies(n)}, {v.pointer(d, 0), 1}, {v.pointer(d, 4), 1}, {v.pointer(d, 8), v.inodes}} {
		for i := max(r[0]-start, 0); i < min(r[0]-start+r[1], int64(len(used))); i++ {
			used[i] = true
		}
	}
}

// copies returns the number of blocks at the start of a group that have the superblock,
// the descriptors and room for more.
func (v *volume) copies(n int64) int64 {
	if v.sparse && !hasCopy(n) {
		return 0
	}
	return 1 + (v.groups()*v.descriptor+v.block-1)/v.block + v.reserved
}

// hasCopy reports whether a group has copies where not every group does: 0, 1 and powers
// of 3, 5 and 7.
func hasCopy(n int64) bool {
	if n <= 1 {
		return true
	}
	for _, base := range []int64{3, 5, 7} {
		power := base
		for power < n {
			power *= base
		}
		if power == n {
			return true
		}
	}
	return false
}
