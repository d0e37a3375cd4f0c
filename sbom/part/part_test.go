package part

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"github.com/pantavisor/pantavisor/formats/zstddec"
	"github.com/pantavisor/pantavisor/sbom"
)

func document(packages int) *sbom.Document {
	d := &sbom.Document{Name: "app", Created: time.Unix(1_700_000_000, 0).UTC(), Creators: []string{"Tool: test"}}
	for i := range packages {
		d.Roots = append(d.Roots, d.AddPackage(sbom.Package{Name: "p" + strings.Repeat("x", i%50), Version: "1"}))
	}
	d.Seal()
	return d
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	d := document(200)
	first, err := Encode(d)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Encode(d)
	if err != nil || !bytes.Equal(first, again) {
		t.Errorf("%v: another encoding of the same document", err)
	}
	got, err := Decode(bytes.NewReader(first))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(d, got); diff != "" {
		t.Error(diff)
	}
	// A device unpacks it with little memory.
	z := zstddec.NewReader(bytes.NewReader(first), maxWindow)
	if _, err := new(bytes.Buffer).ReadFrom(z); err != nil {
		t.Errorf("the reader of devices: %v", err)
	}
}

func TestBadObjects(t *testing.T) {
	t.Parallel()
	good, err := Encode(document(3))
	if err != nil {
		t.Fatal(err)
	}
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	for name, data := range map[string][]byte{
		"empty": nil, "not zstd": []byte("{}"), "cut": good[:len(good)-5], "no document": z.EncodeAll([]byte(`{"a":1}`), nil),
		"too large": z.EncodeAll(make([]byte, maxSize+1), nil), "followed by very much": append(slices.Clone(good), z.EncodeAll(bytes.Repeat([]byte(" "), maxSize), nil)...),
	} {
		if d, err := Decode(bytes.NewReader(data)); err == nil {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	if got := Key("web") + " " + FileName("web"); got != "web/sbom.spdx.zst web.spdx.zst" {
		t.Error(got)
	}
}
