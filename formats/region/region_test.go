package region

import (
	"bytes"
	"errors"
	"io"
	"math"
	"testing"
	"testing/iotest"
)

func TestFindsTheInnermostRegion(t *testing.T) {
	t.Parallel()
	describe := func(add Add) {
		add.Own(0, 100, "all")
		add.Own(10, 5, "start of the %s", "part")
		add.Own(10, 20, "part")
		add.Own(12, 0, "empty")
		add.Own(40, 5, "one")
		add.Own(40, 5, "the same")
		add(50, math.MaxInt64, func() Place { return Place{Name: "file", File: "a", Offset: 7} })
	}
	for at, want := range map[int64]string{0: "all", 9: "all", 10: "start of the part", 14: "start of the part", 15: "part", 29: "part", 30: "all", 40: "the same", 60: "file", 1 << 60: "file", -1: ""} {
		f := Find(at)
		describe(f.Add)
		got, ok := f.Place()
		if got.Name != want || ok != (want != "") {
			t.Errorf("byte %d is in %q, want %q", at, got.Name, want)
		}
	}
}

// TestNamesAreMadeForOne: of many regions one is named.
func TestNamesAreMadeForOne(t *testing.T) {
	t.Parallel()
	f, asked := Find(5), 0
	for n := range int64(1000) {
		f.Add(0, 1000-n%7, func() Place { asked++; return Place{} })
	}
	if _, ok := f.Place(); !ok || asked != 1 {
		t.Errorf("%d names were made", asked)
	}
}

func TestMappedReadsRunsAndHoles(t *testing.T) {
	t.Parallel()
	image := []byte("0123456789abcdef")
	m := NewMapped(bytes.NewReader(image), 20, []Run{{Offset: 2, Length: 4, From: 10}, {Offset: 6, Length: 3, From: 1}, {Offset: 15, Length: 8, From: 0}})
	want := "\x00\x00abcd123\x00\x00\x00\x00\x00\x0001234"
	if err := iotest.TestReader(m.Reader(), []byte(want)); err != nil {
		t.Error(err)
	}
	for from := range int64(20) {
		for length := range int64(21) {
			p := bytes.Repeat([]byte("x"), int(length))
			n, err := m.ReadAt(p, from)
			end := min(from+length, 20)
			if string(p[:n]) != want[from:end] || (err == nil) != (from+length <= 20) || err != nil && !errors.Is(err, io.EOF) {
				t.Fatalf("%d bytes at %d: %q, %v", length, from, p[:n], err)
			}
		}
	}
	cut := NewMapped(bytes.NewReader(image), 8, []Run{{Length: 8, From: 12}})
	if _, err := cut.ReadAt(make([]byte, 8), 0); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("an image that ends within a file: %v", err)
	}
	overlapping := NewMapped(bytes.NewReader(image), 16, []Run{{Length: 12, From: 0}, {Offset: 4, Length: 4, From: 0}})
	if b, err := io.ReadAll(overlapping.Reader()); err != nil || string(b) != "0123456789ab\x00\x00\x00\x00" {
		t.Errorf("runs that overlap: %q, %v", b, err)
	}
	if _, err := m.ReadAt(make([]byte, 1), -1); err == nil {
		t.Error("a byte before the start was read")
	}
}
