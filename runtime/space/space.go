// Package space decides what fits on the storage. Part of it is kept free: the share that
// PV_STORAGE_GC_RESERVED sets, for what containers write and the update of the next
// revision, and [Own] bytes for the runtime's own files, without which a device could
// not even record that an update has failed.
//
//	Usage      what a file system has, and what of it may be used
//	Ledger     the uploads in progress, which share what may be used
//	Install    an update, and what it needs
package space

import (
	"fmt"
	"math"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Own is the number of bytes that only the runtime's own progress, journal and
// boot loader's store may use. The largest of these files is 128 KiB, and takes twice
// its size while it is replaced.
const Own = 1 << 20

// Usage is the space of a file system, in bytes.
type Usage struct {
	Total, Free int64
	Reserved    int64 // the share that PV_STORAGE_GC_RESERVED keeps free
	Block       int64 // the unit in which files take space
	NoLinks     bool  // a file cannot have two names
}

// Of returns the usage of the file system of a directory; reserved is in percent of its size.
func Of(dir string, reserved int) (Usage, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return Usage{}, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	free := st.Bavail
	if os.Geteuid() == 0 {
		free = st.Bfree // the blocks that a file system reserves are for root
	}
	block := int64(st.Bsize) //nolint:unconvert // 32 bits wide on some architectures
	u := Usage{Total: int64(st.Blocks) * block, Free: int64(free) * block, Block: block}
	switch uint32(st.Type) { // signed and 32 bits wide on some architectures
	case unix.MSDOS_SUPER_MAGIC, unix.EXFAT_SUPER_MAGIC:
		u.NoLinks = true
	}
	u.Reserved = u.Total / 100 * int64(reserved)
	return u, nil
}

// Available returns what may be used of the free space: all but the reserved share and
// [Own]. A file system that does not tell its size, as ramfs, has no limit.
func (u Usage) Available() int64 {
	if u.Total == 0 {
		return math.MaxInt64
	}
	return max(0, u.Free-u.Reserved-Own)
}

// Blocks returns the space that a file of size bytes takes.
func (u Usage) Blocks(size int64) int64 {
	block := max(u.Block, 1)
	if size > math.MaxInt64-block {
		return math.MaxInt64
	}
	return (size + block - 1) / block * block
}

// Error is the error for what does not fit.
type Error struct{ Required, Available int64 }

// Error implements error, in the words of the manual (Updates, WONTGO).
func (e *Error) Error() string {
	return fmt.Sprintf("Space required %d B, available %d B", e.Required, e.Available)
}

// step is the number of bytes after which an upload asks again how much is free.
const step = 4 << 20

// Ledger is the space that uploads in progress have been promised. It is safe for
// concurrent use.
type Ledger struct {
	usage    func() (Usage, error)
	mu       sync.Mutex
	promised int64 // and not used yet
}

// NewLedger returns a ledger of a file system, whose usage it asks for when it needs it.
func NewLedger(usage func() (Usage, error)) *Ledger { return &Ledger{usage: usage} }

// Reserve promises space for a file of size bytes, negative when its size is not known:
// then space is taken as it grows. The error is an [*Error] when it does not fit
// beside the other uploads. Release the reservation in any case.
func (l *Ledger) Reserve(size int64) (*Reservation, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := &Reservation{ledger: l, check: step}
	if size < 0 {
		return r, nil
	}
	return r, r.take(size)
}

// Reservation is the space of one upload.
type Reservation struct {
	ledger *Ledger
	left   int64 // promised and not used yet
	check  int64 // bytes until the free space is looked at again
}

// Use is to be called before n bytes are written. The error is an [*Error] when they do not
// fit: the file is larger than announced, or somebody else has filled the storage.
func (r *Reservation) Use(n int64) error {
	l := r.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.left < n {
		if r.take(max(step, n)) != nil {
			if err := r.take(n); err != nil {
				return err
			}
		}
	}
	if r.check -= n; r.check < 0 {
		r.check = step
		if err := r.fits(0); err != nil {
			return err
		}
	}
	r.left -= n
	l.promised -= n
	return nil
}

// take promises n bytes more. The ledger is locked.
func (r *Reservation) take(n int64) error {
	if err := r.fits(n); err != nil {
		return err
	}
	r.left += n
	r.ledger.promised += n
	return nil
}

// fits returns an error unless n bytes can be promised, or, when n is 0, the next
// bytes of what has been promised can still be written. The ledger is locked.
func (r *Reservation) fits(n int64) error {
	u, err := r.ledger.usage()
	if err != nil {
		return err
	}
	available, need := u.Available(), u.Blocks(n)
	if n > 0 {
		available = max(0, available-r.ledger.promised)
	} else {
		need = min(r.left, step)
	}
	if need > available {
		return &Error{Required: need, Available: available}
	}
	return nil
}

// Release returns what was not used.
func (r *Reservation) Release() {
	r.ledger.mu.Lock()
	defer r.ledger.mu.Unlock()
	r.ledger.promised -= r.left
	r.left = 0
}
