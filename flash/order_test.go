package flash

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/formats/bmap"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// cutMedium is a disk in memory that fails at its n-th write, as if the power was cut.
type cutMedium struct {
	data   []byte
	left   int  // writes until the cut
	forget bool // it does not keep a byte of the last range
}

var errCut = errors.New("the power is cut")

func (m *cutMedium) ReadAt(p []byte, at int64) (int, error) { return copy(p, m.data[at:]), nil }

func (m *cutMedium) WriteAt(p []byte, at int64) (int, error) {
	if m.left--; m.left < 0 {
		return 0, errCut
	}
	return copy(m.data[at:], p), nil
}

func (m *cutMedium) begin(int64) error {
	_, err := m.WriteAt(make([]byte, headSize), 0)
	return err
}

func (m *cutMedium) Close() error { return nil }
func (m *cutMedium) sync() error  { return nil }
func (m *cutMedium) uncache() error {
	if m.forget {
		m.data[len(m.data)-1] ^= 1
	}
	return nil
}
func (m *cutMedium) reread() error { return nil }

// TestCutAtEveryWrite: a medium has the first block of the image when all else of the image
// is there, and the first block of what was there before only before the first write.
func TestCutAtEveryWrite(t *testing.T) {
	t.Parallel()
	const size = 4 * headSize
	data := bytes.Repeat([]byte("new!"), size/4)
	name := filepath.Join(t.TempDir(), "disk.img")
	m, err := bmap.Create(t.Context(), bytes.NewReader(data), size, []bmap.Extent{{Offset: 0, Length: size}})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(name, data, 0o644), os.WriteFile(name+".bmap", m.Encode(), 0o644)); err != nil {
		t.Fatal(err)
	}
	run := func(m *cutMedium) error {
		image, err := Open(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		defer image.Close()
		w := &writing{medium: m, source: source{image: image}, parts: image.ranges()}
		return w.run(t.Context())
	}
	cuts := 0
	for n := 0; ; n++ {
		m := &cutMedium{data: bytes.Repeat([]byte("old!"), size/4), left: n}
		err := run(m)
		if err == nil {
			break
		}
		if !errors.Is(err, errCut) {
			t.Fatal(err)
		}
		cuts++
		if first := m.data[:firstSize]; n > 0 && !bytes.Equal(first, make([]byte, firstSize)) {
			t.Errorf("cut at write %d: the medium has a table: %.8q", n, first)
		}
	}
	if cuts != 6 { // erasing, three MiB, the rest of the head, the first block
		t.Errorf("%d writes", cuts)
	}
	err = run(&cutMedium{data: make([]byte, size), left: cuts, forget: true})
	if fault.Of(err) != fault.Digest || !strings.Contains(fmt.Sprint(err), "does not keep") {
		t.Errorf("a bad medium: %v", err)
	}
}
