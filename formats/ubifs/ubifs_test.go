package ubifs

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/formats/tree"
)

func TestSameBitsTwice(t *testing.T) {
	t.Parallel()
	one, _ := volume(t, content())
	two, _ := volume(t, content())
	if !bytes.Equal(one, two) {
		t.Error("the file system differs between two runs")
	}
}

func TestTrees(t *testing.T) {
	t.Parallel()
	o := Options{Block: 126976, Page: 2048, MaxBlocks: 64}
	broken := tree.Entry{Name: "f", Size: 3, Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("longer")), nil }}
	for want, entries := range map[string][]tree.Entry{
		"before its directory": {tree.Bytes("a/b", 0o644, nil)},
		"comes twice":          {tree.Bytes("a", 0o644, nil), tree.Bytes("a", 0o644, nil)},
		"not a file before it": {{Name: "a", HardLink: "b"}},
		"it changed while":     {broken},
		"block device":         {{Name: "d", Mode: os.ModeDevice}},
	} {
		if _, err := Write(null(t), entries, o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func TestGeometry(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]Options{
		"few blocks":  {Block: 126976, Page: 2048, MaxBlocks: 16},
		"small block": {Block: 8192, Page: 512, MaxBlocks: 100},
		"odd page":    {Block: 126976, Page: 2000, MaxBlocks: 100},
		"block":       {Block: 126977, Page: 2048, MaxBlocks: 100},
	} {
		if _, err := Write(null(t), nil, o); !errors.Is(err, errGeometry) {
			t.Errorf("%s: %v", name, err)
		}
	}
	var small *TooSmall
	if _, err := Write(null(t), []tree.Entry{tree.Bytes("f", 0o644, bytes.Repeat([]byte("x"), 4<<20))}, Options{Block: 126976, Page: 2048, MaxBlocks: 30}); !errors.As(err, &small) || small.Have != 30 || small.Need < 40 {
		t.Errorf("%v", err)
	}
	if g, err := layout(Options{Block: 15360, Page: 512, MaxBlocks: 8192}); err != nil || !g.big {
		t.Errorf("a large file system of small blocks: %+v, %v", g, err)
	}
}

func null(t *testing.T) io.WriterAt {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "volume"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}
