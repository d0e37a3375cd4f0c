package bmap_test

import (
	"bytes"
	"context"
	"errors"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/formats/bmap"
	"github.com/pantavisor/pantavisor/internal/oracle"
)

// sparse makes an image with data in blocks 0, 2, 3 and the cut last one.
func sparse(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk.img"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	if err := f.Truncate(64*bmap.BlockSize + 100); err != nil {
		t.Fatal(err)
	}
	for at, text := range map[int64]string{10: "head", 2 * bmap.BlockSize: strings.Repeat("x", 5000), 64*bmap.BlockSize + 90: "tail"} {
		if _, err := f.WriteAt([]byte(text), at); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func create(t *testing.T, f *os.File) *bmap.Map {
	t.Helper()
	data, err := bmap.Extents(f)
	if err != nil {
		t.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	m, err := bmap.Create(t.Context(), f, info.Size(), data)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestRangesAreTheBlocksWithData(t *testing.T) {
	m := create(t, sparse(t))
	var got [][2]int64
	for _, r := range m.Ranges {
		got = append(got, [2]int64{r.First, r.Last})
	}
	if m.Mapped() == m.Blocks() {
		t.Skip("the file system of the temporary directory does not tell holes")
	}
	if diff := cmp.Diff([][2]int64{{0, 0}, {2, 3}, {64, 64}}, got); diff != "" {
		t.Error(diff)
	}
}

func TestReadReturnsWhatWasEncoded(t *testing.T) {
	m := create(t, sparse(t))
	got, err := bmap.Read(bytes.NewReader(m.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(m, got); diff != "" {
		t.Error(diff)
	}
}

func TestBmaptoolCopiesWithTheMap(t *testing.T) {
	tool := oracle.Program(t, "bmaptool")
	f := sparse(t)
	name, dst := f.Name()+".bmap", filepath.Join(t.TempDir(), "copy.img")
	if err := os.WriteFile(name, create(t, f).Encode(), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(tool, "copy", "--bmap", name, f.Name(), dst).CombinedOutput(); err != nil {
		t.Fatalf("bmaptool copy: %v\n%s", err, out)
	}
	want, err1 := os.ReadFile(f.Name())
	got, err2 := os.ReadFile(dst)
	if err := errors.Join(err1, err2); err != nil || !bytes.Equal(want, got) {
		t.Errorf("copy differs: %v", err)
	}
}

func TestVerifyFindsChangedData(t *testing.T) {
	f := sparse(t)
	m := create(t, f)
	if err := m.Verify(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("X"), 3*bmap.BlockSize); err != nil {
		t.Fatal(err)
	}
	err := m.Verify(t.Context(), f)
	if !errors.Is(err, bmap.ErrSum) || !strings.Contains(err.Error(), "blocks 2-3") {
		t.Errorf("got %v", err)
	}
}

// TestUpdateAfterAChange: the sums of what was changed are new, the others stay.
func TestUpdateAfterAChange(t *testing.T) {
	f := sparse(t)
	m := create(t, f)
	before := create(t, f)
	if _, err := f.WriteAt([]byte("X"), 3*bmap.BlockSize); err != nil {
		t.Fatal(err)
	}
	if err := m.Update(t.Context(), f, []bmap.Extent{{3 * bmap.BlockSize, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := m.Verify(t.Context(), f); err != nil || cmp.Equal(m, before) || m.Ranges[0] != before.Ranges[0] {
		t.Errorf("%v, %v", err, m)
	}
	if m.Mapped() != m.Blocks() {
		if err := m.Update(t.Context(), f, []bmap.Extent{{10 * bmap.BlockSize, 1}}); err == nil {
			t.Error("a block that is not mapped was changed")
		}
	}
}

func TestExtentsAreJoinedAndBounded(t *testing.T) {
	image := bytes.NewReader(make([]byte, 10*bmap.BlockSize))
	m, err := bmap.Create(t.Context(), image, image.Size(), []bmap.Extent{{3 * 4096, 1}, {0, 1}, {4095, 2}, {8000, 200}, {9, 0}})
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Ranges) != 1 || m.Ranges[0].First != 0 || m.Ranges[0].Last != 3 {
		t.Errorf("got %v", m.Ranges)
	}
	for _, bad := range []bmap.Extent{{10 * 4096, 1}, {-4096, 1}, {0, 10*4096 + 1}} {
		if _, err := bmap.Create(t.Context(), image, image.Size(), []bmap.Extent{bad}); err == nil {
			t.Errorf("extent %v was taken", bad)
		}
	}
}

func TestCancelledReadEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	image := bytes.NewReader(make([]byte, 4096))
	if _, err := bmap.Create(ctx, image, 4096, []bmap.Extent{{0, 4096}}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestUnusableMapsAreRefused(t *testing.T) {
	good := string(create(t, sparse(t)).Encode())
	edit := func(old, new string) string { return strings.Replace(good, old, new, 1) }
	for name, text := range map[string]string{
		"empty": "", "no xml": "bmap", "version": edit("2.0", "1.4"), "sums": edit("sha256", "sha1"),
		"sum digits": edit("<BmapFileChecksum> ", "<BmapFileChecksum> 0"),
	} {
		if _, err := bmap.Read(strings.NewReader(text)); !errors.Is(err, bmap.ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := bmap.Read(strings.NewReader(edit("<Range", "<Range "))); !errors.Is(err, bmap.ErrSum) {
		t.Errorf("changed file: %v", err)
	}
}

func TestInconsistentMapsAreRefused(t *testing.T) {
	for name, m := range map[string]*bmap.Map{
		"order":   {ImageSize: 1 << 20, BlockSize: 4096, Ranges: []bmap.Range{{First: 5, Last: 6}, {First: 1, Last: 2}}},
		"overlap": {ImageSize: 1 << 20, BlockSize: 4096, Ranges: []bmap.Range{{First: 1, Last: 3}, {First: 3, Last: 4}}},
		"outside": {ImageSize: 4096, BlockSize: 4096, Ranges: []bmap.Range{{First: 0, Last: 1}}},
		"reverse": {ImageSize: 1 << 20, BlockSize: 4096, Ranges: []bmap.Range{{First: 9, Last: 8}}},
		"huge":    {ImageSize: 1 << 20, BlockSize: 1 << 31},
		"max":     {ImageSize: math.MaxInt64, BlockSize: 4096},
	} {
		if _, err := bmap.Read(bytes.NewReader(m.Encode())); !errors.Is(err, bmap.ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzRead(f *testing.F) {
	m := &bmap.Map{ImageSize: 1 << 20, BlockSize: 4096, Ranges: []bmap.Range{{First: 0, Last: 6}, {First: 9, Last: 9}}}
	f.Add(m.Encode())
	f.Add([]byte("<bmap version=\"2.0\"></bmap>"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := bmap.Read(bytes.NewReader(data))
		if err != nil {
			return
		}
		if m.Mapped() > m.Blocks() {
			t.Fatalf("%d of %d blocks", m.Mapped(), m.Blocks())
		}
	})
}

// TestAsManyRangesAsAreRead: what Create makes, Read reads, with the longest numbers.
func TestAsManyRangesAsAreRead(t *testing.T) {
	t.Parallel()
	const most = 450_000
	last := int64(1<<62)/bmap.BlockSize - 1
	m := &bmap.Map{ImageSize: 1 << 62, BlockSize: bmap.BlockSize}
	for i := range int64(most) {
		first := last - 3*(most-i)
		m.Ranges = append(m.Ranges, bmap.Range{First: first, Last: first + 1, Sum: strings.Repeat("a", 64)})
	}
	if got, err := bmap.Read(bytes.NewReader(m.Encode())); err != nil || len(got.Ranges) != most {
		t.Errorf("%d ranges: %v", most, err)
	}
	extents := make([]bmap.Extent, most+1)
	for i := range extents {
		extents[i] = bmap.Extent{Offset: int64(i) * 2 * bmap.BlockSize, Length: 1}
	}
	if _, err := bmap.Create(t.Context(), nil, 1<<40, extents); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("one range more: %v", err)
	}
}
