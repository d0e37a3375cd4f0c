package media_test

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/images/media"
	"github.com/pantavisor/pantavisor/internal/decompress"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/oracle"
)

const mib = 1 << 20

// image is a step with a disk image.
type image struct{}

func (image) Name() string                           { return "image/disk" }
func (image) Deps() []build.Step                     { return nil }
func (image) Run(context.Context, *build.Work) error { return nil }

// newImage makes an image with data in some places: a piece of its own, across the border
// of two, and at the end, behind the last whole piece. dense has no holes.
func newImage(t *testing.T, dense bool) (file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "disk.img")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const size = 37*mib + 512
	random := rand.NewChaCha8([32]byte{3})
	for _, at := range []int64{100, 2*mib - 10, 32*mib - 1000, size - 2000} {
		b := make([]byte, 2000)
		_, _ = random.Read(b)
		if _, err := f.WriteAt(b, at); err != nil {
			t.Fatal(err)
		}
	}
	if !dense {
		return file
	}
	all, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, all, 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// run runs a step on an image and returns the path of a file of its output.
func run(t *testing.T, s build.Step, image, file string) (string, error) {
	t.Helper()
	out := t.TempDir()
	err := s.Run(t.Context(), build.NewWork(out, t.TempDir(), func(build.Step) string { return filepath.Dir(image) }, nil))
	return filepath.Join(out, file), err
}

func disk() media.File { return media.File{Step: image{}, Path: "disk.img"} }

// same compares two files.
func same(t *testing.T, a, b string) bool {
	t.Helper()
	x, err := os.ReadFile(a)
	if err != nil {
		t.Fatal(err)
	}
	y, err := os.ReadFile(b)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Equal(x, y)
}

func TestCompressed(t *testing.T) {
	t.Parallel()
	programs := map[string]string{"xz": "xz", "zst": "zstd"}
	for _, form := range media.Forms() {
		t.Run(form, func(t *testing.T) {
			t.Parallel()
			program := oracle.Program(t, programs[form])
			oracle.Need(t, "xz")
			img := newImage(t, false)
			step := func() build.Step { return &media.Compressed{Form: form, Image: disk()} }
			packed, err := run(t, step(), img, media.CompressedFile)
			if err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command(program, "-t", "-q", "--stdout", packed).CombinedOutput(); err != nil {
				t.Errorf("%s -t: %v: %s", program, err, out)
			}
			plain, err := exec.Command(program, "-d", "-q", "--stdout", packed).Output()
			if want, read := os.ReadFile(img); err != nil || read != nil || !bytes.Equal(plain, want) {
				t.Errorf("%s gives another image: %v, %v", program, err, read)
			}
			ours(t, packed, plain)
			if other, err := run(t, step(), newImage(t, true), media.CompressedFile); err != nil || !same(t, packed, other) {
				t.Errorf("an image without holes gives another file: %v", err)
			}
		})
	}
}

// ours reads a compressed image as flashing does.
func ours(t *testing.T, packed string, want []byte) {
	t.Helper()
	f, err := os.Open(packed)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := decompress.Reader(f)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, want) {
		t.Errorf("our own reader gives another image: %v", err)
	}
}

func TestQCOW2(t *testing.T) {
	t.Parallel()
	tool, img := oracle.Program(t, "qemu-img"), newImage(t, false)
	file, err := run(t, &media.QCOW2{Image: disk()}, img, media.QCOW2File)
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"check", "-f", "qcow2", file}, {"compare", "-F", "qcow2", "-f", "raw", img, file}} {
		if out, err := exec.Command(tool, args...).CombinedOutput(); err != nil {
			t.Errorf("qemu-img %v: %v: %s", args, err, out)
		}
	}
	if other, err := run(t, &media.QCOW2{Image: disk()}, newImage(t, true), media.QCOW2File); err != nil || !same(t, file, other) {
		t.Errorf("an image without holes gives another file: %v", err)
	}
}

func TestUnknownForm(t *testing.T) {
	t.Parallel()
	img := newImage(t, false)
	_, err := run(t, &media.Compressed{Form: "lz4", Image: disk()}, img, "")
	if fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), "want xz, zst") {
		t.Errorf("kind %v: %v", fault.Of(err), err)
	}
}
