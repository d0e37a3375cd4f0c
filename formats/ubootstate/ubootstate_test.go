package ubootstate

import (
	"bytes"
	"testing"
)

func TestCopies(t *testing.T) {
	t.Parallel()
	data, err := Encode([]byte("pv_rev=0\x00\x00"))
	if err != nil || len(data) != Size || !Complete(data) || !bytes.Equal(data[MarkAt:CompleteAt], []byte("\xff\xff\xff\xff")) {
		t.Errorf("%d bytes, %v: %q", len(data), err, data)
	}
	for at := CompleteAt; at < Size; at++ {
		torn := bytes.Clone(data)
		torn[at] = 0xff
		if Complete(torn) {
			t.Errorf("complete without byte %d", at)
		}
	}
	if Complete(data[:Size-1]) || Complete(nil) {
		t.Error("a part is complete")
	}
	if _, err := Encode(make([]byte, MarkAt+1)); err == nil {
		t.Error("a list over the mark was encoded")
	}
}

func TestSecond(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ size, block, want int64 }{
		{128 << 10, 64 << 10, 64 << 10}, {128 << 10, 4 << 10, 64 << 10}, {128 << 10, 128 << 10, 0}, {64 << 10, 4 << 10, 32 << 10},
		{192 << 10, 64 << 10, 0}, {0, 4096, 0}, {4096, 0, 0},
	} {
		if got := Second(c.size, c.block); got != c.want {
			t.Errorf("%d bytes with blocks of %d: %d, want %d", c.size, c.block, got, c.want)
		}
	}
}
