// Package verified remembers which files have the content that their SHA-256 names, so
// that a device does not hash all of its objects at each boot.
//
// A file that has been hashed gets a mark, an extended attribute that depends on its
// digest, inode, size and modification time: a file that was written to, replaced,
// copied with its attributes or given another object's name has none that counts. The
// time of its last change of attributes is left out, because each link to an object
// sets it.
//
// The mark is on the medium, where whoever has the medium in hand can make one. With
// PV_SECUREBOOT_MODE=strict no mark on the medium counts: every object is hashed once in
// each boot, and what was hashed is remembered in memory only. A keyed mark would need a
// secret that the medium does not hold, which a device without a TPM does not have, and
// fs-verity does not replace it: its digest is on the medium too, and the signed state
// has the SHA-256 of the content.
package verified

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// attr is the extended attribute with the mark. Only processes with CAP_SYS_ADMIN in
// the first user namespace can read or write it: no container can.
const attr = "trusted.pv.verified"

// markSize is the number of bytes of a mark: with it an inode of 256 bytes still holds all
// attributes, so that a mark takes no block.
const markSize = 16

// maxRemembered bounds the files remembered in memory.
const maxRemembered = 1 << 14

// Marks are the files that have been verified. The zero value is ready for use. It is safe
// for concurrent use.
type Marks struct {
	// Strict says that marks on the medium do not count (PV_SECUREBOOT_MODE=strict).
	Strict bool

	mu     sync.Mutex
	memory map[[markSize]byte]bool // the files verified by this process
}

// Has reports whether the content of the file at path is known to be that of sum, the
// SHA-256 in hexadecimal.
func (m *Marks) Has(path, sum string) bool {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return false
	}
	if m.remembers(&st, sum) {
		return true
	}
	want := mark(&st, sum, 0)
	var got [markSize + 1]byte
	n, err := unix.Getxattr(path, attr, got[:])
	return !m.Strict && err == nil && n == markSize && [markSize]byte(got[:markSize]) == want
}

// Check calls check, which hashes the file at path, unless its content is known, and
// remembers that it succeeded.
func (m *Marks) Check(path, sum string, check func() error) error {
	if m.Has(path, sum) {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	var before unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &before); err != nil {
		return fmt.Errorf("asking for the state of %s: %w", path, err)
	}
	if err := check(); err != nil {
		return err
	}
	m.set(f, &before, sum)
	return nil
}

// Set remembers that an open file, to which nobody writes any more, has the content of sum.
func (m *Marks) Set(f *os.File, sum string) {
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) == nil {
		m.set(f, &st, sum)
	}
}

// set remembers a file as it was when its hashing began. Without the mark the next boot
// hashes it again.
func (m *Marks) set(f *os.File, st *unix.Stat_t, sum string) {
	key := mark(st, sum, 0)
	if !m.Strict && unix.Fsetxattr(int(f.Fd()), attr, key[:], 0) == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.memory == nil || len(m.memory) >= maxRemembered {
		m.memory = map[[markSize]byte]bool{}
	}
	m.memory[local(st, sum)] = true
}

func (m *Marks) remembers(st *unix.Stat_t, sum string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.memory[local(st, sum)]
}

// local returns the mark of a file in memory.
func local(st *unix.Stat_t, sum string) [markSize]byte {
	return mark(st, sum, uint64(st.Dev)) //nolint:unconvert // 32 bits wide on some architectures
}

// mark returns the mark of a file. The number of its device, which may differ at the next
// boot, is 0 in the mark on the medium.
func mark(st *unix.Stat_t, sum string, dev uint64) [markSize]byte {
	b := append([]byte("pv.verified 2 "), sum...)
	for _, n := range []uint64{dev, st.Ino, uint64(st.Size), uint64(st.Mtim.Sec), uint64(st.Mtim.Nsec)} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	h := sha256.Sum256(b)
	return [markSize]byte(h[:])
}
