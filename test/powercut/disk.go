package powercut

import (
	"fmt"
	"io"
	"sync"
	"sync/atomic"
)

// Sizes in bytes. A disk writes a sector whole or not at all.
const (
	sector = 512
	block  = 4096
)

// disk is a copy of a base of which only the blocks that differ are kept, in memory.
type disk struct {
	base   io.ReaderAt
	size   int64
	mu     sync.RWMutex
	blocks map[int64]*content
}

// content is a block that differs from the base.
type content struct {
	data    [block]byte
	version uint64 // no other content of any block has it
}

// versions counts all writes of all disks.
var versions atomic.Uint64

// version returns a number that is the same while a block of the disk has the same content; 0
// for one that was never written.
func (d *disk) version(b int64) uint64 {
	d.mu.RLock()
	c := d.blocks[b]
	d.mu.RUnlock()
	if c != nil {
		return c.version
	}
	if below, ok := d.base.(*disk); ok {
		return below.version(b)
	}
	return 0
}

// newDisk returns a copy of base, which must not change any more. What is behind its end, up to
// size bytes, is zeros.
func newDisk(base io.ReaderAt, size int64) *disk {
	return &disk{base: base, size: size, blocks: map[int64]*content{}}
}

// Size implements medium.
func (d *disk) Size() int64 { return d.size }

// Flush implements medium: nothing is ever lost.
func (d *disk) Flush() error { return nil }

// ReadAt implements io.ReaderAt.
func (d *disk) ReadAt(p []byte, off int64) (int, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if off < 0 || off >= d.size {
		return 0, io.EOF
	}
	n := 0
	for n < len(p) && off+int64(n) < d.size {
		at := off + int64(n)
		piece := p[n:min(len(p), n+int(block-at%block))]
		piece = piece[:min(int64(len(piece)), d.size-at)]
		if b := d.blocks[at/block]; b != nil {
			copy(piece, b.data[at%block:])
		} else if err := readBase(d.base, piece, at); err != nil {
			return n, err
		}
		n += len(piece)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// readBase reads all of p; zeros are behind the end.
func readBase(r io.ReaderAt, p []byte, at int64) error {
	n, err := r.ReadAt(p, at)
	if err == io.EOF || n == len(p) {
		clear(p[n:])
		return nil
	}
	return err
}

// WriteAt implements io.WriterAt.
func (d *disk) WriteAt(p []byte, off int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if off < 0 || off+int64(len(p)) > d.size {
		return 0, fmt.Errorf("writing %d bytes at %d: the disk has %d", len(p), off, d.size)
	}
	for n := 0; n < len(p); {
		at := off + int64(n)
		b := d.blocks[at/block]
		if b == nil {
			b = &content{}
			if err := readBase(d.base, b.data[:], at-at%block); err != nil {
				return n, err
			}
			d.blocks[at/block] = b
		}
		n += copy(b.data[at%block:], p[n:])
		b.version = versions.Add(1)
	}
	return len(p), nil
}

// entry is one thing that happened to a recorded disk.
type entry struct {
	Kind kind
	Off  int64  // of a write
	Data []byte // of a write
	Mark any    // of a mark
}

// kind is what an entry is.
type kind int

// The kinds.
const (
	wrote   kind = iota
	flushed      // all writes before it are on the medium
	marked       // somebody has seen something
)

// recorder is a medium that keeps what is done to it, in order.
type recorder struct {
	disk *disk
	mu   sync.Mutex
	log  []entry
	most int           // entries until full is closed; 0: never
	full chan struct{} // closed then
}

// newRecorder returns a recorder over a disk, of which most entries are of interest; 0: all.
func newRecorder(d *disk, most int) *recorder {
	return &recorder{disk: d, most: most, full: make(chan struct{})}
}

// ReadAt implements io.ReaderAt.
func (r *recorder) ReadAt(p []byte, off int64) (int, error) { return r.disk.ReadAt(p, off) }

// Size implements medium.
func (r *recorder) Size() int64 { return r.disk.Size() }

// WriteAt implements io.WriterAt. It keeps p.
func (r *recorder) WriteAt(p []byte, off int64) (int, error) {
	r.add(entry{Kind: wrote, Off: off, Data: p})
	return r.disk.WriteAt(p, off)
}

// Flush implements medium.
func (r *recorder) Flush() error {
	r.add(entry{Kind: flushed})
	return nil
}

// Mark notes what was seen between two writes.
func (r *recorder) Mark(seen any) { r.add(entry{Kind: marked, Mark: seen}) }

func (r *recorder) add(e entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log = append(r.log, e)
	if len(r.log) == r.most {
		close(r.full)
	}
}

// Log returns all entries so far.
func (r *recorder) Log() []entry {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log[:len(r.log):len(r.log)]
}
