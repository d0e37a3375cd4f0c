package fat_test

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/formats/fat"
	"github.com/pantavisor/pantavisor/formats/region"
	"github.com/pantavisor/pantavisor/formats/region/regiontest"
	"github.com/pantavisor/pantavisor/formats/tree"
)

// readAll returns all files of an image with their content.
func readAll(t testing.TB, r io.ReaderAt) (*fat.FS, map[string]*fat.File, map[string]string) {
	t.Helper()
	f, err := fat.Open(r)
	if err != nil {
		t.Fatal(err)
	}
	files, contents := map[string]*fat.File{}, map[string]string{}
	err = f.Walk(t.Context(), func(n *fat.File) error {
		files[n.Name] = n
		if n.Content == nil {
			return nil
		}
		b, err := io.ReadAll(n.Content.Reader())
		contents[n.Name] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return f, files, contents
}

func TestReadsWhatIsWritten(t *testing.T) {
	t.Parallel()
	for _, bits := range []int{16, 32} {
		o := options()
		o.Bits = bits
		image, err := os.Open(write(t, 0, sample(), o))
		if err != nil {
			t.Fatal(err)
		}
		defer image.Close()
		f, files, contents := readAll(t, image)
		if f.Bits() != bits || f.Number() != o.ID || f.Label() != o.Label || f.Size() != o.Size {
			t.Errorf("FAT%d %#x %q of %d bytes", f.Bits(), f.Number(), f.Label(), f.Size())
		}
		var want bytes.Buffer
		for _, e := range sample() {
			want.Reset()
			if err := e.WriteContent(&want); err != nil {
				t.Fatal(err)
			}
			if n := files[e.Name]; n == nil || n.Size != e.Size || !n.ModTime.Equal(e.ModTime) || contents[e.Name] != want.String() {
				t.Errorf("FAT%d: %s is %+v", bits, e.Name, n)
			}
		}
		if d := files["EFI/BOOT"]; d == nil || d.Mode != fs.ModeDir|0o755 {
			t.Errorf("EFI/BOOT is %+v", d)
		}
		if len(contents) != len(sample()) {
			t.Errorf("FAT%d: %d files instead of %d", bits, len(contents), len(sample()))
		}
	}
}

// TestReadsWhatMtoolsWrite reads files whose clusters are in pieces, and names of mtools.
func TestReadsWhatMtoolsWrite(t *testing.T) {
	t.Parallel()
	image := write(t, 0, sample(), options())
	run(t, "mdel", "-i", image, "::EFI/BOOT/grub.cfg", "::many/overlay-number-3*.dtbo")
	content := bytes.Repeat([]byte("fragments "), 20_000)
	from := filepath.Join(t.TempDir(), "lower.txt")
	if err := os.WriteFile(from, content, 0o644); err != nil {
		t.Fatal(err)
	}
	run(t, "mcopy", "-i", image, from, "::lower.txt")
	file, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	_, files, contents := readAll(t, file)
	if contents["lower.txt"] != string(content) {
		t.Errorf("lower.txt is %+v", files["lower.txt"])
	}
	if files["EFI/BOOT/grub.cfg"] != nil {
		t.Error("a file that was deleted is there")
	}
}

func TestRegionsNameContent(t *testing.T) {
	t.Parallel()
	image, err := os.ReadFile(write(t, 0, []tree.Entry{file("d/a", "content of a")}, options()))
	if err != nil {
		t.Fatal(err)
	}
	f, _, _ := readAll(t, bytes.NewReader(image))
	var m regiontest.Map
	if err := f.Regions(t.Context(), m.Add); err != nil {
		t.Fatal(err)
	}
	at := int64(bytes.Index(image, []byte("content of a")))
	if p, _ := m.Find(at + 3); p.File != "d/a" || p.Offset != 0 || p.From != at {
		t.Errorf("the content of d/a is in %+v", p)
	}
	for place, want := range map[int64]string{0: "boot sector", 512: "sector with the number of free clusters", 6 * 512: "copy of the boot sector", 40 * 512: "allocation table 1", f.Size() - 1: "a cluster that no file uses"} {
		if p, _ := m.Find(place); p.Name != want {
			t.Errorf("byte %d is in %q, want %q", place, p.Name, want)
		}
	}
}

// TestClustersOfManyFiles: files that share their clusters must not need memory for each.
func TestClustersOfManyFiles(t *testing.T) {
	t.Parallel()
	o := options()
	o.Bits, o.Size = 16, 5<<20
	image := make(buffer, o.Size)
	var entries []tree.Entry
	for i := range 40 {
		entries = append(entries, file(fmt.Sprintf("FILE%d", 10+i), strings.Repeat("x", 50<<10)))
	}
	if _, err := fat.Write(image, 0, entries, o); err != nil {
		t.Fatal(err)
	}
	fsys, err := fat.Open(bytes.NewReader(image))
	if err != nil {
		t.Fatal(err)
	}
	nothing := func(*fat.File) error { return nil }
	for range 2 {
		if err := fsys.Walk(t.Context(), nothing); err != nil {
			t.Fatal(err)
		}
	}
	first := bytes.Index(image, []byte("FILE10  "))
	for i := range 40 { // the first cluster is the same, and the size is that of the longest chain
		at := bytes.Index(image, fmt.Appendf(nil, "FILE%d  ", 10+i))
		copy(image[at+26:], image[first+26:first+32])
	}
	if err := fsys.Walk(t.Context(), nothing); err != nil {
		t.Fatalf("files with the same clusters, fewer than there are: %v", err)
	}
	cluster := int(image[first+26]) | int(image[first+27])<<8
	table := image[int(image[14])*512:]
	table[2*cluster], table[2*cluster+1] = byte(cluster), byte(cluster>>8) // a ring
	for i := range 40 {
		at := bytes.Index(image, fmt.Appendf(nil, "FILE%d  ", 10+i))
		copy(image[at+28:], "\x00\x00\x10\x00")
	}
	if fsys, err = fat.Open(bytes.NewReader(image)); err != nil {
		t.Fatal(err)
	}
	if err := fsys.Walk(t.Context(), nothing); err == nil {
		t.Error("files with more clusters than there are")
	}
}

// FuzzOpen reads damaged file systems.
func FuzzOpen(f *testing.F) {
	o := options()
	o.Bits, o.Size = 16, 5<<20
	image := make(buffer, o.Size)
	if _, err := fat.Write(image, 0, []tree.Entry{file("d/a", "a"), file("a name that is long", "long")}, o); err != nil {
		f.Fatal(err)
	}
	f.Add(uint32(13), byte(1), uint32(70_000), byte(3))
	f.Fuzz(func(t *testing.T, at uint32, with byte, at2 uint32, with2 byte) {
		i, j := int(at)%len(image), int(at2)%len(image)
		old, old2 := image[i], image[j]
		defer func() { image[j], image[i] = old2, old }()
		image[i], image[j] = with, with2
		fsys, err := fat.Open(bytes.NewReader(image))
		if err != nil {
			return
		}
		_ = fsys.Regions(t.Context(), region.Find(int64(i)).Add)
		_ = fsys.Walk(t.Context(), func(n *fat.File) error {
			if n.Content != nil {
				_, _ = io.CopyN(io.Discard, n.Content.Reader(), 1<<20)
			}
			return nil
		})
	})
}

// buffer is a medium in memory.
type buffer []byte

func (b buffer) WriteAt(p []byte, off int64) (int, error) { return copy(b[off:], p), nil }
