package flash_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/flash"
	"github.com/pantavisor/pantavisor/formats/bmap"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/oracle"
)

const (
	mib       = 1 << 20
	imageSize = 6 * mib
)

// extents are where the test image has data; what lies between is not in its map.
var extents = []bmap.Extent{{Offset: 0, Length: 17 << 10}, {Offset: mib - 4096, Length: 8192}, {Offset: 3 * mib, Length: 2*mib + 4096}, {Offset: imageSize - 4096, Length: 4096}}

// content returns the bytes of an image with data in the extents.
func content() []byte {
	out := make([]byte, imageSize)
	random := rand.NewChaCha8([32]byte{1})
	for _, e := range extents {
		_, _ = random.Read(out[e.Offset : e.Offset+e.Length])
	}
	return out
}

func write(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// newImage writes disk.img, and its map if wanted, and returns its path and content.
func newImage(t *testing.T, mapped bool) (string, []byte) {
	t.Helper()
	name, data := filepath.Join(t.TempDir(), "disk.img"), content()
	write(t, name, data)
	if mapped {
		m, err := bmap.Create(t.Context(), bytes.NewReader(data), imageSize, extents)
		if err != nil {
			t.Fatal(err)
		}
		write(t, name+".bmap", m.Encode())
	}
	return name, data
}

// run writes an image to a medium.
func run(t *testing.T, image, to string, o flash.Options) (flash.Result, error) {
	t.Helper()
	im, err := flash.Open(t.Context(), image)
	if err != nil {
		return flash.Result{}, err
	}
	defer im.Close()
	return flash.Write(t.Context(), im, to, o)
}

// marked checks that a medium has the mark, and nothing else in its head.
func marked(t *testing.T, name string) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if m, ok := flash.ReadMark(f); !ok || !strings.HasPrefix(m.Image, "disk.img") {
		t.Errorf("what was not finished has no mark: %+v", m)
	}
	head := make([]byte, mib)
	if _, err := f.ReadAt(head, 0); err != nil || !bytes.Equal(head[4096:], make([]byte, mib-4096)) || head[510] != 0 {
		t.Errorf("there is a partition table on what was not finished: %v", err)
	}
}

func TestEveryFormIsWritten(t *testing.T) {
	t.Parallel()
	for _, form := range []struct{ suffix, program string }{{"", ""}, {".xz", "xz"}, {".zst", "zstd"}, {".gz", "gzip"}, {".bz2", "bzip2"}} {
		for _, mapped := range []bool{false, true} {
			image, want := newImage(t, mapped)
			if form.program != "" {
				args := []string{"-q", image}
				if form.program == "zstd" {
					args = append(args, "--rm")
				}
				if out, err := exec.Command(oracle.Program(t, form.program), args...).CombinedOutput(); err != nil {
					t.Fatalf("%s: %v: %s", form.program, err, out)
				}
			}
			to := filepath.Join(t.TempDir(), "medium")
			result, err := run(t, image+form.suffix, to, flash.Options{})
			if err != nil {
				t.Errorf("%q, map %v: %v", form.suffix, mapped, err)
				continue
			}
			if got, err := os.ReadFile(to); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%q, map %v: the medium differs: %v", form.suffix, mapped, err)
			}
			// 20 KiB, 8 KiB, 2 MiB and 4 KiB, 4 KiB.
			if some := int64(36<<10 + 2*mib); mapped != (result.Bytes == some) || !mapped && result.Bytes != imageSize {
				t.Errorf("%q, map %v: %d bytes were written", form.suffix, mapped, result.Bytes)
			}
		}
	}
}

func TestContentIsComparedWithItsMap(t *testing.T) {
	t.Parallel()
	image, data := newImage(t, true)
	data[3*mib+70000] ^= 1
	write(t, image, data)
	to := filepath.Join(t.TempDir(), "medium")
	_, err := run(t, image, to, flash.Options{})
	if fault.Of(err) != fault.Digest || !strings.Contains(err.Error(), "bytes 3145728 to 5246975") {
		t.Errorf("kind %v: %v", fault.Of(err), err)
	}
	marked(t, to)
}

func TestUnusableImages(t *testing.T) {
	t.Parallel()
	image, data := newImage(t, true)
	cut := filepath.Join(t.TempDir(), "cut.img.gz")
	for _, c := range []struct { // in this order: some use what those before have damaged
		name    string
		prepare func()
		image   string
		kind    fault.Kind
		text    string
	}{
		{"missing", func() {}, image + ".no", fault.Missing, "disk.img.no is not there"},
		{"directory", func() {}, filepath.Dir(image), fault.BadInput, "not a regular file"},
		{"another size", func() { write(t, image, data[:imageSize-1]) }, image, fault.BadInput, "its block map is for 6291456"},
		{"no map", func() { write(t, image+".bmap", []byte("<bmap>")) }, image, fault.BadInput, "disk.img.bmap"},
		{"empty", func() { write(t, cut, nil) }, cut, fault.BadInput, "it is empty"},
		{"cut compression", func() { write(t, cut, []byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x03")) }, cut, fault.BadInput, "unexpected EOF"},
	} {
		c.prepare()
		_, err := run(t, c.image, filepath.Join(t.TempDir(), "medium"), flash.Options{})
		if fault.Of(err) != c.kind || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: kind %v: %v", c.name, fault.Of(err), err)
		}
	}
}

// TestCompressedImageMayEndEarly: only reading it to its end shows that it is shorter than
// its map says.
func TestCompressedImageMayEndEarly(t *testing.T) {
	t.Parallel()
	image, data := newImage(t, true)
	write(t, image, data[:5*mib])
	if out, err := exec.Command(oracle.Program(t, "xz"), image).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	_, err := run(t, image+".xz", filepath.Join(t.TempDir(), "medium"), flash.Options{})
	if fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), "ends at byte 5242880") {
		t.Errorf("kind %v: %v", fault.Of(err), err)
	}
}

func TestMediaThatAreNone(t *testing.T) {
	t.Parallel()
	image, _ := newImage(t, true)
	for to, kind := range map[string]fault.Kind{"/dev/no-such-disk": fault.Missing, "/dev/null": fault.BadInput, t.TempDir(): fault.BadInput} {
		if _, err := run(t, image, to, flash.Options{}); fault.Of(err) != kind {
			t.Errorf("%s: kind %v: %v", to, fault.Of(err), err)
		}
	}
}

func TestProgressAndCancellation(t *testing.T) {
	t.Parallel()
	image, _ := newImage(t, true)
	last := map[flash.Phase]int64{}
	result, err := run(t, image, filepath.Join(t.TempDir(), "medium"), flash.Options{Progress: func(p flash.Phase, done, total int64) {
		if done <= last[p] || done > total {
			t.Errorf("%s: %d after %d of %d", p, done, last[p], total)
		}
		last[p] = done
	}})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[flash.Phase]int64{flash.Writing: result.Bytes, flash.Verifying: result.Bytes}, last); diff != "" {
		t.Error(diff)
	}

	ctx, cancel := context.WithCancel(t.Context())
	im, err := flash.Open(ctx, image)
	if err != nil {
		t.Fatal(err)
	}
	defer im.Close()
	_, err = flash.Write(ctx, im, filepath.Join(t.TempDir(), "medium"), flash.Options{Progress: func(flash.Phase, int64, int64) { cancel() }})
	if !errors.Is(err, context.Canceled) || fault.Of(err) != fault.Cancelled {
		t.Errorf("kind %v: %v", fault.Of(err), err)
	}
}
