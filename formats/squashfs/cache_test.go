package squashfs

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/pantavisor/pantavisor/formats/tree"
)

// TestCacheChangesNoBytes makes images of the same and of nearly the same content with one cache, of several
// forms, and compares them with those made without.
func TestCacheChangesNoBytes(t *testing.T) {
	cache, err := NewCache(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer cache.Close()
	own := []tree.Entry{file("usr/bin/own", 0o755, text(7, 300_000))}
	for _, more := range [][]tree.Entry{nil, nil, own} {
		for _, o := range forms {
			entries := append(variety(blockOf(t, o)), more...)
			alone := readImage(t, o, entries)
			o.Cache = cache
			for _, how := range []string{"first", "again"} {
				if !bytes.Equal(readImage(t, o, entries), alone) {
					t.Errorf("%s, %d more files, %s: the image is another one with a cache", o.name(), len(more), how)
				}
			}
		}
	}
	if len(cache.known) == 0 || cache.end == 0 {
		t.Error("the cache has nothing")
	}
}

// TestCacheIsUsed damages what a cache has: an image made with it must show that.
func TestCacheIsUsed(t *testing.T) {
	cache, err := NewCache(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer cache.Close()
	o := Options{Compression: XZ, Cache: cache}
	entries := []tree.Entry{file("a", 0o644, text(1, 400_000))}
	before := readImage(t, o, entries)
	if _, err := cache.file.WriteAt(make([]byte, 100), 0); err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(readImage(t, o, entries), before) {
		t.Error("the second image was made without the cache")
	}
}

func blockOf(t *testing.T, o Options) int {
	t.Helper()
	o, err := o.checked()
	if err != nil {
		t.Fatal(err)
	}
	return o.BlockSize
}

func readImage(t *testing.T, o Options, entries []tree.Entry) []byte {
	t.Helper()
	p := filepath.Join(t.TempDir(), "image")
	if err := tryImage(p, o, addAll(entries)); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(p)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
