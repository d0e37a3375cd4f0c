package powercut

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	runtime "github.com/pantavisor/pantavisor/runtime/storage"
)

// Numbers of the journal (kernel: include/linux/jbd2.h); it is in network order.
const (
	journalMagic = 0xc03b3998

	descriptorBlock = 1
	commitBlock     = 2
	revokeBlock     = 5

	tagEscape = 1
	tagSameID = 2
	tagLast   = 8

	journal64     = 0x2
	journalCsumV2 = 0x8
	journalCsumV3 = 0x10
)

// errTorn is a block whose checksum is wrong because not all of its sectors were written.
var errTorn = errors.New("the kernel does not mount the file system")

// mount does what the runtime does with a storage that was not unmounted: it mounts it, and mends a
// torn journal first if the kernel refuses it.
func mount(m runtime.Medium) (int, error) {
	n, err := replay(m)
	if !errors.Is(err, errTorn) {
		return n, err
	}
	if mended, mendErr := runtime.MendJournal(m); mendErr != nil || !mended {
		return 0, errors.Join(err, mendErr)
	}
	return replay(m)
}

// replay does what the kernel does when it mounts a storage that was not unmounted: it brings
// the transactions of the journal that are whole to their place. It returns their number.
func replay(m interface {
	io.ReaderAt
	io.WriterAt
}) (int, error) {
	f, err := openExt4(m)
	if err != nil || !f.recover {
		return 0, err
	}
	j, err := openJournal(f)
	if err != nil || j.start == 0 {
		return 0, err
	}
	transactions, revoked, err := j.scan()
	if err != nil {
		return 0, err
	}
	for _, t := range transactions {
		for _, b := range t.blocks {
			if last, ok := revoked[b.target]; ok && int32(last-t.id) >= 0 {
				continue
			}
			if _, err := m.WriteAt(b.data, b.target*f.size); err != nil {
				return 0, err
			}
		}
	}
	return len(transactions), nil
}

type journal struct {
	f            *ext4
	blocks       []int64 // of the file
	first, start uint32
	id           uint32 // of the first transaction
	incompat     uint32
	seed         uint32
}

type transaction struct {
	id      uint32
	blocks  []logged
	damaged bool // a block does not have its sum
}

type logged struct {
	target int64
	data   []byte
}

func openJournal(f *ext4) (*journal, error) {
	in, err := f.inode(journalInode)
	if err != nil {
		return nil, fmt.Errorf("reading the journal: %w", err)
	}
	list, err := f.extents(in)
	if err != nil {
		return nil, fmt.Errorf("reading the journal: %w", err)
	}
	j := &journal{f: f}
	for _, x := range list {
		for n := range x.length {
			j.blocks = append(j.blocks, x.start+n)
		}
	}
	sb, err := j.read(0)
	if err != nil {
		return nil, err
	}
	be := binary.BigEndian
	if be.Uint32(sb) != journalMagic {
		return nil, fmt.Errorf("reading the journal's superblock: %w", errDamaged)
	}
	if n := be.Uint32(sb[16:]); int(n) < len(j.blocks) {
		j.blocks = j.blocks[:n]
	}
	j.first, j.id, j.start, j.incompat = be.Uint32(sb[20:]), be.Uint32(sb[24:]), be.Uint32(sb[28:]), be.Uint32(sb[0x28:])
	j.seed = crc(^uint32(0), sb[0x30:0x40])
	return j, nil
}

// crc is crc32c as the kernel computes it: without the inversions.
func crc(seed uint32, b []byte) uint32 {
	return ^crc32.Update(^seed, crc32.MakeTable(crc32.Castagnoli), b)
}

func (j *journal) read(n uint32) ([]byte, error) {
	if int64(n) >= int64(len(j.blocks)) {
		return nil, fmt.Errorf("block %d of the journal: %w", n, errDamaged)
	}
	b := make([]byte, j.f.size)
	_, err := j.f.r.ReadAt(b, j.blocks[n]*j.f.size)
	return b, err
}

// next is the block behind n.
func (j *journal) next(n uint32) uint32 {
	if n++; int(n) >= len(j.blocks) {
		return j.first
	}
	return n
}

// scan reads all transactions that are whole, and the blocks that they revoke with the last
// transaction that does.
func (j *journal) scan() (list []transaction, revoked map[int64]uint32, err error) {
	revoked = map[int64]uint32{}
	t := transaction{id: j.id}
	var revokes []int64
	at := j.start
	for range j.blocks {
		b, err := j.read(at)
		if err != nil {
			return nil, nil, err
		}
		be := binary.BigEndian
		if be.Uint32(b) != journalMagic || be.Uint32(b[8:]) != t.id {
			break
		}
		at = j.next(at)
		switch kind := be.Uint32(b[4:]); {
		case kind == descriptorBlock && j.tail(b):
			if at, err = j.descriptor(b, at, &t); err != nil {
				return nil, nil, err
			}
		case kind == revokeBlock && j.tail(b):
			revokes = append(revokes, j.revokes(b)...)
		case kind == commitBlock && j.commit(b):
			if t.damaged {
				return nil, nil, fmt.Errorf("transaction %d of the journal is committed and not whole: %w", t.id, errDamaged)
			}
			list = append(list, t)
			for _, n := range revokes {
				revoked[n] = t.id
			}
			t, revokes = transaction{id: t.id + 1}, nil
		case kind == commitBlock: // as Linux before 6.10: jbd2_journal_load, j_failed_commit
			return nil, nil, fmt.Errorf("transaction %d of the journal has a torn commit block: %w", t.id, errTorn)
		default:
			return list, revoked, nil
		}
	}
	return list, revoked, nil
}

func (j *journal) checksums() bool { return j.incompat&(journalCsumV2|journalCsumV3) != 0 }

// tail checks the sum at the end of a descriptor or revoke block.
func (j *journal) tail(b []byte) bool {
	if !j.checksums() {
		return true
	}
	end := len(b) - 4
	sum := crc(crc(j.seed, b[:end]), make([]byte, 4))
	return sum == binary.BigEndian.Uint32(b[end:])
}

// commit checks the sum of a commit block.
func (j *journal) commit(b []byte) bool {
	if !j.checksums() {
		return true
	}
	sum := crc(crc(crc(j.seed, b[:16]), make([]byte, 4)), b[20:])
	return sum == binary.BigEndian.Uint32(b[16:])
}

func (j *journal) revokes(b []byte) (list []int64) {
	be := binary.BigEndian
	end, size := int(be.Uint32(b[12:])), 4
	if j.incompat&journal64 != 0 {
		size = 8
	}
	for at := 16; at+size <= min(end, len(b)); at += size {
		if size == 8 {
			list = append(list, int64(be.Uint64(b[at:])))
		} else {
			list = append(list, int64(be.Uint32(b[at:])))
		}
	}
	return list
}

// descriptor reads the blocks that a descriptor block tells of, which begin at block at of the
// journal; it returns the block behind them.
func (j *journal) descriptor(b []byte, at uint32, t *transaction) (next uint32, err error) {
	be := binary.BigEndian
	size, v3 := 8, j.incompat&journalCsumV3 != 0
	if j.incompat&journal64 != 0 {
		size = 12
	}
	if v3 {
		size = 16
	}
	for tag := 12; tag+size <= len(b); {
		target, flags, sum := int64(be.Uint32(b[tag:])), uint32(be.Uint16(b[tag+6:])), uint32(be.Uint16(b[tag+4:]))
		if v3 {
			flags, sum = be.Uint32(b[tag+4:]), be.Uint32(b[tag+12:])
		}
		if j.incompat&journal64 != 0 {
			target |= int64(be.Uint32(b[tag+8:])) << 32
		}
		data, err := j.read(at)
		if err != nil {
			return at, err
		}
		at = j.next(at)
		got := crc(crc(j.seed, be.AppendUint32(nil, t.id)), data)
		if v3 && got != sum || !v3 && j.incompat&journalCsumV2 != 0 && got&0xffff != sum {
			t.damaged = true
		}
		if flags&tagEscape != 0 {
			be.PutUint32(data, journalMagic)
		}
		t.blocks = append(t.blocks, logged{target, data})
		if flags&tagLast != 0 {
			return at, nil
		}
		tag += size
		if flags&tagSameID == 0 {
			tag += 16
		}
	}
	return at, nil
}
