// Package direct reads and writes large files without the kernel's page cache (O_DIRECT,
// open(2)): data that is written once, synced at once and seldom read again should not
// evict other data, and filling pages costs more CPU time than hashing them. On other
// systems than Linux and file systems without direct I/O it reads and writes normally.
package direct

import (
	"errors"
	"io"
	"os"
	"sync"
	"syscall"
	"unsafe"
)

// align is what offsets, lengths and addresses must be multiples of: the largest
// logical block of disks, and a page.
const align = 4096

// Block is how much is moved at once; smaller files go through the page cache.
const Block = 512 << 10

var pool = sync.Pool{New: func() any {
	b := make([]byte, Block+align)
	skip := int(-uintptr(unsafe.Pointer(&b[0])) & (align - 1))
	b = b[skip : skip+Block : skip+Block]
	return &b
}}

// Buffer returns an aligned buffer of Block bytes; return it with Release.
func Buffer() *[]byte { return pool.Get().(*[]byte) }

// Release returns a buffer to the pool.
func Release(b *[]byte) { pool.Put(b) }

// Writer writes a new file from its start to its end. Call Flush at the end; the
// file stays open.
type Writer struct {
	file  *os.File
	buf   *[]byte
	held  int  // bytes in buf
	plain bool // direct writing does not work here
	on    bool // the file's flag is set
}

// NewWriter returns a writer for an open, empty file. For a pipe or a device it only
// buffers blocks.
func NewWriter(f *os.File) *Writer {
	info, err := f.Stat()
	return &Writer{file: f, buf: Buffer(), plain: err != nil || !info.Mode().IsRegular()}
}

// Write implements io.Writer.
func (w *Writer) Write(p []byte) (int, error) {
	total := len(p)
	for len(p) > 0 {
		if w.held == 0 && len(p) >= Block && aligned(p) {
			if err := w.block(p[:Block]); err != nil {
				return total - len(p), err
			}
			p = p[Block:]
			continue
		}
		n := copy((*w.buf)[w.held:], p)
		w.held, p = w.held+n, p[n:]
		if w.held == Block {
			if err := w.block(*w.buf); err != nil {
				return total - len(p), err
			}
			w.held = 0
		}
	}
	return total, nil
}

func aligned(p []byte) bool { return uintptr(unsafe.Pointer(unsafe.SliceData(p)))%align == 0 }

// block writes a whole block.
func (w *Writer) block(p []byte) error {
	if !w.plain && !w.on {
		w.on = setFlag(w.file, true) == nil
		w.plain = !w.on
	}
	_, err := w.file.Write(p)
	if w.on && errors.Is(err, syscall.EINVAL) { // the file system's blocks are larger; nothing was written
		if err = w.end(); err == nil {
			_, err = w.file.Write(p)
		}
	}
	return err
}

// end goes on the ordinary way.
func (w *Writer) end() error {
	if !w.on {
		return nil
	}
	w.on, w.plain = false, true
	return setFlag(w.file, false)
}

// Flush writes the buffered data and ends the writing.
func (w *Writer) Flush() error {
	if w.buf == nil {
		return nil
	}
	err := w.tail()
	Release(w.buf)
	w.buf = nil
	return err
}

// tail writes the data after the whole blocks: as much as possible directly, then less
// than a page normally.
func (w *Writer) tail() error {
	rest := (*w.buf)[:w.held]
	if whole := w.held &^ (align - 1); w.on && whole > 0 {
		if err := w.block(rest[:whole]); err != nil {
			return err
		}
		rest = rest[whole:]
	}
	err := w.end()
	if err == nil && len(rest) > 0 {
		_, err = w.file.Write(rest)
	}
	return err
}

// Reader reads a file from its current offset to its end: without the page cache if it is
// large and not yet cached.
type Reader struct {
	file *os.File
	on   bool
}

// NewReader returns a reader for an open file that has no other reader.
func NewReader(f *os.File) *Reader {
	r := &Reader{file: f}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() < 2*Block {
		return r
	}
	offset, err := f.Seek(0, io.SeekCurrent)
	if err == nil && offset%align == 0 && isCold(f, offset) {
		r.on = setFlag(f, true) == nil
	}
	return r
}

// Read implements io.Reader.
func (r *Reader) Read(p []byte) (int, error) {
	if r.on && (!aligned(p) || len(p)%align != 0 || len(p) == 0) {
		if err := r.end(); err != nil {
			return 0, err
		}
	}
	n, err := r.file.Read(p)
	switch {
	case r.on && errors.Is(err, syscall.EINVAL):
		if err := r.end(); err != nil {
			return 0, err
		}
		return r.file.Read(p)
	case r.on && err == nil && n%align != 0: // the end is near
		return n, r.end()
	}
	return n, err
}

// end goes on the ordinary way.
func (r *Reader) end() error {
	r.on = false
	return setFlag(r.file, false)
}
