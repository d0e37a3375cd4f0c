package boot

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// errFull is the end of a flash memory.
var errFull = errors.New("it does not fit the partition")

// blocks is a sequence of the good blocks of a flash memory, as U-Boot's command mtd reads and
// writes them.
type blocks struct {
	f    flashMemory
	at   int64  // of the next block
	left []byte // of the block that was read last
}

// next returns the offset of the next good block.
func (b *blocks) next() (int64, error) {
	for b.at+b.f.Block() <= b.f.Size() {
		at := b.at
		b.at += b.f.Block()
		bad, err := b.f.Bad(at)
		if err != nil {
			return 0, fmt.Errorf("block at %d: %w", at, err)
		}
		if !bad {
			return at, nil
		}
	}
	return 0, errFull
}

// Read implements io.Reader.
func (b *blocks) Read(p []byte) (int, error) {
	if len(b.left) == 0 {
		at, err := b.next()
		if errors.Is(err, errFull) {
			return 0, io.EOF
		}
		if err != nil {
			return 0, err
		}
		b.left = make([]byte, b.f.Block())
		if _, err := b.f.ReadAt(b.left, at); err != nil {
			return 0, err
		}
	}
	n := copy(p, b.left)
	b.left = b.left[n:]
	return n, nil
}

// equal reports whether the memory begins with the content.
func (b *blocks) equal(content io.Reader) (bool, error) {
	want, got := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, err := io.ReadFull(content, want)
		if errors.Is(err, io.EOF) {
			return true, nil
		}
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			return false, err
		}
		if m, err := io.ReadFull(b, got[:n]); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
			return false, err
		} else if !bytes.Equal(want[:n], got[:m]) {
			return false, nil
		}
	}
}

// page is what writes are a multiple of; flash memory has pages of at most this size.
const page = 4096

// write erases blocks and writes content to them.
func (b *blocks) write(content io.Reader) error {
	chunk := make([]byte, b.f.Block())
	for {
		n, err := io.ReadFull(content, chunk)
		if errors.Is(err, io.EOF) {
			return nil
		}
		last := errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !last {
			return err
		}
		at, err := b.next()
		if err != nil {
			return err
		}
		if err := b.f.Erase(at); err != nil {
			return fmt.Errorf("erasing the block at %d: %w", at, err)
		}
		end := min((n+page-1)/page*page, len(chunk))
		clear(chunk[n:end])
		if _, err := b.f.WriteAt(chunk[:end], at); err != nil {
			return fmt.Errorf("writing the block at %d: %w", at, err)
		}
		if last {
			return nil
		}
	}
}

// mtdClass has the kernel's flash memories. It is a variable for tests.
var mtdClass = "/sys/class/mtd"

// mtd is a partition that the kernel knows by a name (kernel: Documentation/ABI/testing/sysfs-class-mtd).
type mtd struct {
	*os.File
	size, block int64
	nand        bool
}

var _ flashMemory = (*mtd)(nil)

// errNoFlash is the error for a name that no partition has.
var errNoFlash = errors.New("there is none")

// openMTD opens the partition with a name.
func openMTD(name string) (flashMemory, error) {
	entries, err := filepath.Glob(filepath.Join(mtdClass, "mtd*", "name"))
	if err != nil {
		return nil, err
	}
	for _, file := range entries {
		dir := filepath.Dir(file)
		if attribute(dir, "name") != name || strings.HasSuffix(dir, "ro") {
			continue
		}
		m := &mtd{nand: strings.HasSuffix(attribute(dir, "type"), "nand")}
		var bad, worse error
		m.size, bad = strconv.ParseInt(attribute(dir, "size"), 10, 64)
		m.block, worse = strconv.ParseInt(attribute(dir, "erasesize"), 10, 64)
		if bad != nil || worse != nil || m.block <= 0 {
			return nil, fmt.Errorf("flash memory %s: the kernel does not say its size", name)
		}
		m.File, err = os.OpenFile(filepath.Join("/dev", filepath.Base(dir)), os.O_RDWR|os.O_SYNC, 0)
		return m, err
	}
	return nil, fmt.Errorf("flash memory %q: %w; mtdparts= on the kernel command line or the device tree must name it", name, errNoFlash)
}

func attribute(dir, name string) string {
	b, _ := os.ReadFile(filepath.Join(dir, name)) // an empty one is not valid
	return strings.TrimSpace(string(b))
}

func (m *mtd) Size() int64  { return m.size }
func (m *mtd) Block() int64 { return m.block }
func (m *mtd) Counts() bool { return m.nand }

// eraseInfo is struct erase_info_user64 of mtd/mtd-abi.h.
type eraseInfo struct{ start, length uint64 }

func (m *mtd) Erase(offset int64) error {
	e := eraseInfo{uint64(offset), uint64(m.block)}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, m.Fd(), uintptr(memErase64), uintptr(unsafe.Pointer(&e))); errno != 0 {
		return errno
	}
	return nil
}

func (m *mtd) Bad(offset int64) (bool, error) {
	if !m.nand {
		return false, nil
	}
	n, _, errno := unix.Syscall(unix.SYS_IOCTL, m.Fd(), uintptr(memGetBadBlock), uintptr(unsafe.Pointer(&offset)))
	if errno != 0 {
		return false, errno
	}
	return n != 0, nil
}
