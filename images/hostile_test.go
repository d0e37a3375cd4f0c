package images

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// zeros is an endless file.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// hostileExport returns an export whose members are the given ones, and those of export.
func hostileExport(t *testing.T, file string, size int64, members ...tar.Header) {
	t.Helper()
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	z, _ := gzip.NewWriterLevel(f, gzip.BestSpeed) // the level is valid
	w := tar.NewWriter(z)
	for _, h := range members {
		h.Mode = 0o644
		if h.Typeflag == 0 {
			h.Size = size
		}
		err := w.WriteHeader(&h)
		_, cerr := io.CopyN(w, zeros{}, h.Size)
		if errors.Join(err, cerr) != nil {
			t.Fatal(err, cerr)
		}
	}
	for r := tar.NewReader(bytes.NewReader(export(t))); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		werr := w.WriteHeader(h)
		_, cerr := io.Copy(w, r)
		if errors.Join(err, werr, cerr) != nil {
			t.Fatal(err, werr, cerr)
		}
	}
	if err := errors.Join(w.Close(), z.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestHostileExports: members that lead out of the archive, are not files or have no end never
// become part of a revision, and nothing is written beside it.
func TestHostileExports(t *testing.T) {
	t.Parallel()
	object := "objects/" + sum("app")
	for name, c := range map[string]struct {
		size    int64
		members []tar.Header
	}{
		"upwards":              {4, []tar.Header{{Name: "objects/../../../evil"}}},
		"absolute":             {4, []tar.Header{{Name: "/tmp/evil"}}},
		"link as object":       {0, []tar.Header{{Name: object, Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}}},
		"hard link as object":  {0, []tar.Header{{Name: object, Typeflag: tar.TypeLink, Linkname: "/etc/passwd"}}},
		"link as directory":    {0, []tar.Header{{Name: "objects", Typeflag: tar.TypeSymlink, Linkname: "/tmp"}}},
		"FIFO as object":       {0, []tar.Header{{Name: object, Typeflag: tar.TypeFifo}}},
		"FIFO as state":        {0, []tar.Header{{Name: "json", Typeflag: tar.TypeFifo}}},
		"device":               {0, []tar.Header{{Name: "objects/zero", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 5}}},
		"huge state":           {300 << 20, []tar.Header{{Name: "json"}}},
		"huge unknown file":    {300 << 20, []tar.Header{{Name: "other"}}},
		"object without state": {1 << 20, []tar.Header{{Name: "objects/" + strings.Repeat("0", 64)}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			file := filepath.Join(dir, "export.tgz")
			hostileExport(t, file, c.size, c.members...)
			out, err := newRunner(t).run(&Reference{Path: file})
			t.Log(err)
			if err == nil {
				if got := keys(t, out); strings.Join(got, " ") != "#spec app/root.squashfs" {
					t.Errorf("the revision has %q", got)
				}
			} else if k := fault.Of(err); k != fault.BadInput && k != fault.Digest || !strings.Contains(err.Error(), file) {
				t.Errorf("kind %v: %v", k, err)
			}
			if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 1 {
				t.Errorf("beside the export are %q", left)
			}
		})
	}
	if _, err := os.Lstat("/tmp/evil"); err == nil {
		t.Error("a file was written outside")
	}
}

// TestHostileDirectories: what is not a file in a .pvr directory is never waited for.
func TestHostileDirectories(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		damage func(dir string) error
		good   bool
	}{
		"FIFO as state": {func(dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, "json")), syscall.Mkfifo(filepath.Join(dir, "json"), 0o644))
		}, false},
		"FIFO as config": {func(dir string) error { return syscall.Mkfifo(filepath.Join(dir, "config"), 0o644) }, false},
		"FIFO as object": {func(dir string) error {
			object := filepath.Join(dir, "objects", sum("app"))
			return errors.Join(os.Remove(object), syscall.Mkfifo(object, 0o644))
		}, false},
		"FIFO beside the objects": {func(dir string) error { return syscall.Mkfifo(filepath.Join(dir, "objects/fifo"), 0o644) }, true},
		"device as state": {func(dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, "json")), os.Symlink("/dev/zero", filepath.Join(dir, "json")))
		}, false},
		"device as object": {func(dir string) error {
			object := filepath.Join(dir, "objects", sum("app"))
			return errors.Join(os.Remove(object), os.Symlink("/dev/zero", object))
		}, false},
		"other file as object": {func(dir string) error {
			object := filepath.Join(dir, "objects", sum("app"))
			return errors.Join(os.Remove(object), os.Symlink("/etc/passwd", object))
		}, false},
		"objects in a device": {func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "config"), []byte(`{"ObjectsDir":"/dev/zero"}`), 0o644)
		}, false},
		"objects upwards": {func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "config"), []byte(`{"ObjectsDir":"../../../../../../../../etc"}`), 0o644)
		}, false},
		"circle of links": {func(dir string) error { return os.Symlink(dir, filepath.Join(dir, "objects/circle")) }, true},
		"huge state":      {func(dir string) error { return os.Truncate(filepath.Join(dir, "json"), 1<<40) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := reference(t)
			if err := c.damage(dir); err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() {
				_, err := newRunner(t).run(&Reference{Path: dir})
				done <- err
			}()
			select {
			case err := <-done:
				t.Log(err)
				if (err == nil) != c.good || err != nil && !strings.Contains(err.Error(), dir) {
					t.Error(err)
				}
			case <-time.After(time.Minute):
				t.Error("it waits")
			}
		})
	}
}
