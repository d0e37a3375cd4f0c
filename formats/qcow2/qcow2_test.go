package qcow2_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/pantavisor/pantavisor/formats/qcow2"
	"github.com/pantavisor/pantavisor/internal/oracle"
)

const mib = 1 << 20

// newDisk makes a sparse disk with random bytes in the extents.
func newDisk(t *testing.T, size int64, data []qcow2.Extent) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk.img"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	random := rand.NewChaCha8([32]byte{7})
	for _, e := range data {
		b := make([]byte, e.Length)
		_, _ = random.Read(b)
		if _, err := f.WriteAt(b, e.Offset); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func encode(t *testing.T, disk *os.File, size int64, data []qcow2.Extent) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := qcow2.Write(t.Context(), &b, disk, size, data); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestQEMUReadsIt compares images with their disks: the first with tables for the ends of a
// large disk, the second with several blocks of reference counts, the third without data.
func TestQEMUReadsIt(t *testing.T) {
	t.Parallel()
	tool := oracle.Program(t, "qemu-img")
	for name, c := range map[string]struct {
		size int64
		data []qcow2.Extent
	}{
		"sparse": {5<<30 + 512, []qcow2.Extent{{0, 512}, {65536 - 5, 10}, {513 * mib, 3 * mib}, {5 << 30, 512}}},
		"dense":  {2200 * mib, []qcow2.Extent{{0, 1}, {100 * mib, 40 * mib}, {2200*mib - 1, 1}}},
		"empty":  {mib, nil},
	} {
		disk := newDisk(t, c.size, c.data)
		file := filepath.Join(t.TempDir(), "disk.qcow2")
		if err := os.WriteFile(file, encode(t, disk, c.size, c.data), 0o644); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{{"check", "-f", "qcow2", file}, {"compare", "-F", "qcow2", "-f", "raw", disk.Name(), file}} {
			if out, err := exec.Command(tool, args...).CombinedOutput(); err != nil {
				t.Errorf("%s: qemu-img %s: %v: %s", name, args[0], err, out)
			}
		}
	}
}

// TestManyClusters has more clusters than one block of reference counts describes.
func TestManyClusters(t *testing.T) {
	t.Parallel()
	tool := oracle.Program(t, "qemu-img")
	const size = 2100 * mib
	file := filepath.Join(t.TempDir(), "disk.qcow2")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := qcow2.Write(t.Context(), holes{f}, ones{}, size, []qcow2.Extent{{Offset: 0, Length: size}}); err != nil {
		t.Fatal(err)
	}
	if end, err := f.Seek(0, io.SeekCurrent); err != nil || f.Truncate(end) != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(tool, "check", "-f", "qcow2", file).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// holes leaves out what [ones] gives, which a check does not read.
type holes struct{ *os.File }

func (h holes) Write(p []byte) (int, error) {
	if !bytes.Equal(p, bytes.Repeat([]byte{1}, len(p))) {
		return h.File.Write(p)
	}
	_, err := h.Seek(int64(len(p)), io.SeekCurrent)
	return len(p), err
}

// ones is a disk without a zero.
type ones struct{}

func (ones) ReadAt(p []byte, _ int64) (int, error) {
	for i := range p {
		p[i] = 1
	}
	return len(p), nil
}

// TestHolesDoNotMatter: where the file system has holes says nothing about the disk.
func TestHolesDoNotMatter(t *testing.T) {
	t.Parallel()
	const size = 8 * mib
	data := []qcow2.Extent{{mib, 100_000}, {5 * mib, 7}}
	disk := newDisk(t, size, data)
	want := encode(t, disk, size, data)
	for _, other := range [][]qcow2.Extent{{{0, size}}, {{mib - 1, 2 * mib}, {4 * mib, 2 * mib}}, {{mib, 1}, {mib + 1, 99_999}, {5 * mib, 7}}} {
		if got := encode(t, disk, size, other); !slices.Equal(got, want) {
			t.Errorf("%v gives another file", other)
		}
	}
	if n := len(want); n != (1+1+1+1+1+2+1)<<16 { // header, tables, counts, two clusters and one
		t.Errorf("the file has %d bytes", n)
	}
}

func TestImpossibleDisks(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		size int64
		data qcow2.Extent
	}{{0, qcow2.Extent{}}, {513, qcow2.Extent{}}, {1 << 60, qcow2.Extent{}}, {512, qcow2.Extent{Offset: 1, Length: 512}}, {512, qcow2.Extent{Offset: -1, Length: 1}}} {
		if err := qcow2.Write(t.Context(), &bytes.Buffer{}, ones{}, c.size, []qcow2.Extent{c.data}); err == nil {
			t.Errorf("a disk of %d bytes with data at %v was written", c.size, c.data)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := qcow2.Write(ctx, &bytes.Buffer{}, ones{}, mib, []qcow2.Extent{{Offset: 0, Length: 1}}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
