package sbom

import (
	"strings"
	"testing"
	"time"
)

func TestSupportMistakes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		s    Support
		want string // the wrong field; empty for none
	}{
		{Support{}, ""},
		{Support{End: "2031-12-31", Contact: "security@example.com", Manufacturer: "Ünïcode & Söhne"}, ""},
		{Support{Contact: "https://example.com/security"}, ""},
		{Support{End: "2031-02-30"}, "end"},
		{Support{End: "2031"}, "end"},
		{Support{End: "31.12.2031"}, "end"},
		{Support{Contact: "security"}, "contact"},
		{Support{Contact: "security@localhost"}, "contact"},
		{Support{Contact: "Name <security@example.com>"}, "contact"},
		{Support{Contact: "http://example.com"}, "contact"},
		{Support{Contact: "https:///path"}, "contact"},
		{Support{Contact: "https://user:secret@example.com"}, "contact"},
		{Support{Contact: "https://example.com/\x1b[2J"}, "contact"},
		{Support{Manufacturer: "a\nb"}, "manufacturer"},
		{Support{Manufacturer: strings.Repeat("a", 201)}, "manufacturer"},
	} {
		got := c.s.Mistakes()
		if c.want == "" && len(got) > 0 || c.want != "" && (len(got) != 1 || got[c.want] == "") {
			t.Errorf("%+v: %v, want one about %q", c.s, got, c.want)
		}
	}
}

func TestSupportEnds(t *testing.T) {
	t.Parallel()
	got, ok := Support{End: "2031-12-31"}.Ends()
	if want := time.Date(2032, 1, 1, 0, 0, 0, 0, time.UTC); !ok || !got.Equal(want) {
		t.Errorf("%v, %v; want %v", got, ok, want)
	}
	if _, ok := (Support{}).Ends(); ok {
		t.Error("no end is taken for one")
	}
}
