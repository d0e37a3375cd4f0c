package ubootenv

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]Entry{
		"":                             nil,
		"\x00":                         nil,
		"pv_rev=0\x00\x00":             {{"pv_rev", "0"}},
		"pv_rev=0":                     {{"pv_rev", "0"}},
		"a=1\x00b=\x00c=x=y\x00\x00":   {{"a", "1"}, {"b", ""}, {"c", "x=y"}},
		"a=1\x00\x00b=2\x00\x00":       {{"a", "1"}},
		"a = 1\r\nb=2\n\n# note\n=3\n": {{"a", "1"}, {"b", "2"}},
		"a=1\x00\x00" + strings.Repeat("\x00", 64<<10): {{"a", "1"}},
	} {
		if diff := cmp.Diff(want, Parse([]byte(text))); diff != "" {
			t.Errorf("%.40q (-want +got):\n%s", text, diff)
		}
	}
}

func TestEncode(t *testing.T) {
	t.Parallel()
	got, err := Encode([]Entry{{"pv_try", ""}, {"pv_rev", "locals/a"}})
	if string(got) != "pv_try=\x00pv_rev=locals/a\x00\x00" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if got, err := Encode([]Entry{{"a", strings.Repeat("x", blockSize-4)}}); len(got) != blockSize || err != nil {
		t.Errorf("the largest list: %d bytes, %v", len(got), err)
	}
	for _, wrong := range []Entry{{"a", strings.Repeat("x", blockSize-3)}, {"", "1"}, {"a=", "1"}, {"a\x00b", "1"}, {"a", "1\x00b=2"}, {"a", "1\n"}} {
		if got, err := Encode([]Entry{wrong}); err == nil {
			t.Errorf("%.20q: no error: %.40q", wrong, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("pv_rev=0\x00pv_try=\x00\x00"))
	f.Add([]byte("pv_rev = 0\nb=2\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		entries := Parse(b)
		text, err := Encode(entries)
		if err != nil {
			return // too long
		}
		if back := Parse(text); !slices.Equal(entries, back) {
			t.Errorf("%q became %q", entries, back)
		}
	})
}
