package ubi

import (
	"bytes"
	"strings"
	"testing"
)

// The kernel is the judge of images, in package ubifs; here are their edges.
func TestErasedBlocksAreLeftOut(t *testing.T) {
	t.Parallel()
	o := Options{Block: 16 << 10, Page: 512, Volume: "v", Reserved: 3}
	content := bytes.Repeat([]byte{0xFF}, 3*o.Payload())
	content[2*o.Payload()] = 0
	var out bytes.Buffer
	if err := Write(&out, bytes.NewReader(content), o); err != nil {
		t.Fatal(err)
	}
	if n := out.Len() / o.Block; n != 3 { // two with the table, and one
		t.Errorf("%d blocks", n)
	}
	if number := out.Bytes()[2*o.Block+o.Page+12:][:4]; !bytes.Equal(number, []byte{0, 0, 0, 2}) {
		t.Errorf("the last one has the number %v", number)
	}
	o.Reserved = 2
	if err := Write(&out, bytes.NewReader(content), o); err == nil || !strings.Contains(err.Error(), "more than its 2 blocks") {
		t.Errorf("a volume that is too large: %v", err)
	}
	o.Reserved = 3
	if err := Write(&out, bytes.NewReader(content[1:]), o); err == nil {
		t.Error("a part of a block was taken")
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]Options{
		"odd page":        {Block: 16 << 10, Page: 513, Volume: "v"},
		"few pages":       {Block: 2048, Page: 512, Volume: "v"},
		"block not pages": {Block: 16<<10 + 8, Page: 512, Volume: "v"},
		"no name":         {Block: 16 << 10, Page: 512},
		"long name":       {Block: 16 << 10, Page: 512, Volume: strings.Repeat("v", 128)},
		"huge block":      {Block: 1 << 27, Page: 512, Volume: "v"},
	} {
		if err := Write(&bytes.Buffer{}, &bytes.Buffer{}, o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
