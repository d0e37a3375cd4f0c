package flash

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/pantavisor/pantavisor/formats/bmap"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// faultyMedium is a disk in memory with the faults of disks. What is written is in a cache
// until sync.
type faultyMedium struct {
	data  []byte // what it has for good
	cache []byte // what it gives back until uncache

	left    int                        // writes until the power is cut, -1 for never
	size    int64                      // what it really has: writes wrap around; 0 is all
	forget  func(at int64) bool        // whether it keeps nothing of a write at an offset, and says it does
	failing func(at int64, n int) bool // whether reading at an offset fails
	worn    int64                      // writing behind it fails, 0 for nowhere
	flip    func(m *faultyMedium)      // called at each uncache
	tail    error                      // of erasing the end
	lazy    bool                       // sync does nothing, and what is not on it is lost at uncache

	writes, syncs int
}

var _ medium = (*faultyMedium)(nil)

var errCut = errors.New("the power is cut")

func newFaulty(size int) *faultyMedium {
	m := &faultyMedium{data: bytes.Repeat([]byte("old!"), size/4), left: -1}
	m.cache = slices.Clone(m.data)
	return m
}

func (m *faultyMedium) ReadAt(p []byte, at int64) (int, error) {
	if m.failing != nil && m.failing(at, len(p)) {
		return 0, &os.PathError{Op: "read", Path: "disk", Err: syscall.EIO}
	}
	if m.size != 0 {
		at %= m.size
	}
	return copy(p, m.cache[at:]), nil
}

func (m *faultyMedium) WriteAt(p []byte, at int64) (int, error) {
	if m.left == 0 {
		return 0, errCut
	}
	m.left--
	m.writes++
	if m.worn != 0 && at+int64(len(p)) > m.worn {
		return 0, &os.PathError{Op: "write", Path: "disk", Err: syscall.EIO}
	}
	if m.forget != nil && m.forget(at) {
		return len(p), nil
	}
	if m.size != 0 {
		at %= m.size
	}
	copy(m.cache[at:], p)
	return len(p), nil
}

func (m *faultyMedium) fits(size int64) error {
	if int64(len(m.data)) < size {
		return fault.New(fault.NoSpace, "too small")
	}
	return nil
}

func (m *faultyMedium) begin(_ int64, first []byte) error {
	head := make([]byte, headSize)
	copy(head, first)
	if _, err := m.WriteAt(head, 0); err != nil {
		return err
	}
	if m.tail != nil {
		return m.tail
	}
	return m.sync()
}

func (m *faultyMedium) Close() error { return nil }

func (m *faultyMedium) sync() error {
	m.syncs++
	if !m.lazy {
		copy(m.data, m.cache)
	}
	return nil
}

func (m *faultyMedium) uncache() error {
	copy(m.cache, m.data)
	if m.flip != nil {
		m.flip(m)
		copy(m.data, m.cache)
	}
	return nil
}

func (m *faultyMedium) reread() error { return nil }
func (m *faultyMedium) direct() bool  { return false }

// incomplete reports whether a medium has the mark and nothing of a partition table.
func (m *faultyMedium) incomplete() bool {
	mark, ok := ReadMark(bytes.NewReader(m.data))
	return ok && mark.Image == "disk.img" && !bytes.Contains(m.data[:firstSize], []byte("new!"))
}

const faultySize = 4 * headSize

// writeFaulty writes an image of 4 MiB to a medium.
func writeFaulty(t *testing.T, m *faultyMedium) error {
	t.Helper()
	data := bytes.Repeat([]byte("new!"), faultySize/4)
	for i := 0; i < len(data); i += 4096 { // no two blocks are equal
		copy(data[i:], fmt.Sprint(i))
	}
	name := filepath.Join(t.TempDir(), "disk.img")
	table, err := bmap.Create(t.Context(), bytes.NewReader(data), faultySize, []bmap.Extent{{Offset: 0, Length: faultySize}})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(name, data, 0o644), os.WriteFile(name+".bmap", table.Encode(), 0o644)); err != nil {
		t.Fatal(err)
	}
	image, err := Open(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	w := &writing{medium: m, source: source{image: image}, parts: image.ranges(false)}
	err = w.run(t.Context())
	if err == nil && !bytes.Equal(m.data, data) {
		t.Error("success, but the medium has other data")
	}
	return err
}

// TestCutAtEveryWrite: a medium has the first block of the image when all else of the image
// is there and was read back, and the first block of what was there before only before the
// first write.
func TestCutAtEveryWrite(t *testing.T) {
	t.Parallel()
	cuts := 0
	for n := 0; ; n++ {
		m := newFaulty(faultySize)
		m.left = n
		err := writeFaulty(t, m)
		if err == nil {
			break
		}
		if !errors.Is(err, errCut) {
			t.Fatal(err)
		}
		cuts++
		if n > 0 && !m.incomplete() {
			t.Errorf("cut at write %d: the medium has no mark: %.80q", n, m.data)
		}
		if n == 0 && !bytes.HasPrefix(m.data, []byte("old!")) {
			t.Error("it was written to before it was prepared")
		}
	}
	if cuts != 6 { // erasing, three MiB, the rest of the head, the first block
		t.Errorf("%d writes", cuts)
	}
}

// TestFaultsOfMedia: each is found, with its kind, and leaves the mark.
func TestFaultsOfMedia(t *testing.T) {
	t.Parallel()
	flipAt := func(call int, at int) func(*faultyMedium) {
		calls := 0
		return func(m *faultyMedium) {
			if calls++; calls == call {
				m.cache[at] ^= 1
			}
		}
	}
	for name, c := range map[string]struct {
		fault func(m *faultyMedium)
		kind  fault.Kind
		text  string
	}{
		"one bit at the end":     {func(m *faultyMedium) { m.flip = flipAt(1, faultySize-1) }, fault.Digest, "does not keep"},
		"one bit in the head":    {func(m *faultyMedium) { m.flip = flipAt(1, 5000) }, fault.Digest, "bytes 4096 to"},
		"one bit of the table":   {func(m *faultyMedium) { m.flip = flipAt(2, 446) }, fault.Digest, "bytes 0 to 4095"},
		"less room than it says": {func(m *faultyMedium) { m.size = 2 * headSize }, fault.Digest, "use another medium"},
		"a write that is lost":   {func(m *faultyMedium) { m.forget = func(at int64) bool { return at == 2*headSize } }, fault.Digest, "bytes 2097152 to"},
		"no write is kept": {func(m *faultyMedium) {
			m.forget = func(int64) bool { return m.writes > 1 }
		}, fault.Digest, "does not keep"},
		"a cache that is lost": {func(m *faultyMedium) {
			m.flip = func(m *faultyMedium) { m.lazy = true; copy(m.cache[headSize:], bytes.Repeat([]byte("old!"), headSize)) }
		}, fault.Digest, "does not keep"},
		"reading fails": {func(m *faultyMedium) { m.failing = func(at int64, _ int) bool { return at == 3*headSize } }, fault.IO, "input/output error"},
		"erasing fails": {func(m *faultyMedium) { m.tail = &os.PathError{Op: "write", Path: "disk", Err: syscall.EIO} }, fault.IO, "must be written again"},
		"writing fails": {func(m *faultyMedium) { m.worn = 3*headSize + 5 }, fault.IO, "input/output error"},
	} {
		m := newFaulty(faultySize)
		c.fault(m)
		err := writeFaulty(t, m)
		if fault.Of(err) != c.kind || !strings.Contains(fmt.Sprint(err), c.text) || !strings.Contains(fmt.Sprint(err), "incomplete") {
			t.Errorf("%s: kind %v: %v", name, fault.Of(err), err)
		}
		if !m.incomplete() {
			t.Errorf("%s: the medium has no mark: %.80q", name, m.data)
		}
	}
	small := newFaulty(faultySize - headSize)
	if err := writeFaulty(t, small); fault.Of(err) != fault.NoSpace || !bytes.HasPrefix(small.data, []byte("old!")) {
		t.Errorf("too small: %v, and it has %.8q", err, small.data)
	}
	if err := writeFaulty(t, newFaulty(faultySize)); err != nil {
		t.Errorf("without a fault: %v", err)
	}
}

// endless is content without an end.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }
func (endless) Close() error               { return nil }

// TestSkippingStops: what a compressed image has between its parts is not decompressed to the end
// after a cancellation.
func TestSkippingStops(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s := source{image: &Image{packed: true, content: endless{}}}
	if err := s.skipTo(ctx, 1<<40); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestMarksOfOthers: a mark is read as it was written, and nothing else is one.
func TestMarksOfOthers(t *testing.T) {
	t.Parallel()
	block := encodeMark(&Image{Path: "/x/a\nb\xff.img", Size: 77})
	mark, ok := ReadMark(bytes.NewReader(block))
	if !ok || mark.Image != "a?b?.img" || mark.Size != 77 || mark.Since.IsZero() {
		t.Errorf("%v, %+v", ok, mark)
	}
	if block[510] == 0x55 || len(block) != firstSize {
		t.Error("the mark is a partition table")
	}
	for _, other := range [][]byte{nil, block[:40], make([]byte, firstSize), append([]byte("x"), block...)} {
		if _, ok := ReadMark(bytes.NewReader(other)); ok {
			t.Errorf("%.50q was taken for a mark", other)
		}
	}
}
