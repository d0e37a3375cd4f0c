package fitslot

import (
	"bytes"
	"strings"
	"testing"
)

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for _, revision := range []string{"0", "17", "locals/a.b", strings.Repeat("x", 128)} {
		header, err := Encode(revision)
		if err != nil || len(header) != Size {
			t.Fatalf("%s: %d bytes, %v", revision, len(header), err)
		}
		if Started(header) {
			t.Errorf("%s: a new slot has the mark of a test boot", revision)
		}
		header[MarkAt] = 0
		if !Started(header) {
			t.Errorf("%s: the mark is not seen", revision)
		}
		if got := Decode(append(header, "fit"...)); got != revision {
			t.Errorf("%q became %q", revision, got)
		}
	}
	for _, revision := range []string{"", "a\nb", "a=b", "a\x00", strings.Repeat("x", 129)} {
		if _, err := Encode(revision); err == nil {
			t.Errorf("%q was accepted", revision)
		}
	}
}

func TestDecodeOthers(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		header []byte
		want   string
	}{
		"erased":          {bytes.Repeat([]byte{0xff}, Size), ""},
		"zeros":           {make([]byte, Size), ""},
		"without newline": {append([]byte("fit_rev=3"), make([]byte, 100)...), "3"},
		"more variables":  {[]byte("a=b\nfit_rev=3\n\x00"), "3"},
		"behind its end":  {[]byte("a=b\n\x00fit_rev=3\n"), ""},
		"longer name":     {[]byte("fit_revision=3\n"), ""},
		"nothing":         {nil, ""},
	} {
		if got := Decode(c.header); got != c.want {
			t.Errorf("%s: %q; want %q", name, got, c.want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("fit_rev=0\n\x00"))
	f.Fuzz(func(t *testing.T, header []byte) {
		Started(header)
		revision := Decode(header)
		if len(revision) > maxRevision {
			t.Errorf("a revision of %d bytes", len(revision))
		}
		again, err := Encode(revision)
		if err == nil && Decode(again) != revision {
			t.Errorf("%q became %q", revision, Decode(again))
		}
	})
}
