package squashfs

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/formats/region/regiontest"
	"github.com/pantavisor/pantavisor/formats/tree"
	"github.com/pantavisor/pantavisor/internal/oracle"
)

// members reads all of an image: entries by name and the content of files.
func members(t testing.TB, r io.ReaderAt) (map[string]*Member, map[string]string) {
	t.Helper()
	image, err := Open(r)
	if err != nil {
		t.Fatal(err)
	}
	all, contents := map[string]*Member{}, map[string]string{}
	err = image.Walk(context.Background(), func(m *Member) error {
		all[m.Name] = m
		if m.Open == nil {
			return nil
		}
		in, err := m.Open()
		if err != nil {
			return err
		}
		b, err := io.ReadAll(in)
		contents[m.Name] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all, contents
}

func TestReadsWhatIsWritten(t *testing.T) {
	t.Parallel()
	for _, o := range []Options{{}, {Compression: XZ, BlockSize: 4 << 10}, {Compression: Zstd, BlockSize: 1 << 20}, {Compression: Zstd, Level: 3}} {
		o, _ := o.checked()
		t.Run(o.name(), func(t *testing.T) {
			t.Parallel()
			entries := variety(o.BlockSize)
			data, err := os.ReadFile(writeImage(t, o, addAll(entries)))
			if err != nil {
				t.Fatal(err)
			}
			all, contents := members(t, bytes.NewReader(data))
			for _, e := range entries {
				compareMember(t, all, contents, e)
			}
		})
	}
}

// compareMember compares an entry with what was read for it.
func compareMember(t *testing.T, all map[string]*Member, contents map[string]string, want tree.Entry) {
	t.Helper()
	got := all[want.Name]
	if got == nil {
		t.Errorf("%s is missing", want.Name)
		return
	}
	if want.HardLink != "" {
		first := all[want.HardLink]
		if first == nil || first.Inode != got.Inode {
			t.Errorf("%s is not the file %s", want.Name, want.HardLink)
		}
		return
	}
	type attributes struct {
		Mode                   uint32
		UID, GID, Major, Minor uint32
		Time, Size             int64
		Link                   string
		Xattrs                 map[string][]byte
	}
	of := func(e *tree.Entry) attributes {
		a := attributes{tree.StatMode(e.Mode), e.UID, e.GID, e.Major, e.Minor, int64(tree.Seconds(e.ModTime)), e.Size, e.Link, e.Xattrs}
		if len(a.Xattrs) == 0 {
			a.Xattrs = nil
		}
		return a
	}
	if d := cmp.Diff(of(&want), of(&got.Entry)); d != "" {
		t.Errorf("%s (-written +read):\n%s", want.Name, d)
	}
	var content bytes.Buffer
	if err := want.WriteContent(&content); want.Mode.IsRegular() && (err != nil || content.String() != contents[want.Name]) {
		t.Errorf("%s: content differs: %v", want.Name, err)
	}
}

func TestReadsImagesOfMksquashfs(t *testing.T) {
	t.Parallel()
	mksquashfs := oracle.Program(t, "mksquashfs")
	dir := t.TempDir()
	var want []string
	for i := range 600 {
		name := filepath.Join(dir, string(rune('a'+i%26))+string(rune('a'+i/26)))
		if err := os.WriteFile(name, text(i, i*37), 0o640); err != nil {
			t.Fatal(err)
		}
		want = append(want, string(text(i, i*37)))
	}
	for _, form := range []string{"gzip", "xz", "zstd"} {
		image := filepath.Join(t.TempDir(), "image")
		if out, err := exec.Command(mksquashfs, dir, image, "-comp", form, "-b", "16384", "-quiet", "-no-progress").CombinedOutput(); err != nil {
			t.Fatalf("mksquashfs: %v\n%s", err, out)
		}
		f, err := os.Open(image)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		_, contents := members(t, f)
		for i, content := range want {
			if name := string(rune('a'+i%26)) + string(rune('a'+i/26)); contents[name] != content {
				t.Fatalf("%s: %s differs", form, name)
			}
		}
	}
}

func TestSameStored(t *testing.T) {
	t.Parallel()
	image := func(o Options, entries ...tree.Entry) map[string]*Member {
		data, err := os.ReadFile(writeImage(t, o, addAll(entries)))
		if err != nil {
			t.Fatal(err)
		}
		all, _ := members(t, bytes.NewReader(data))
		return all
	}
	small := Options{BlockSize: 4 << 10}
	a := image(small, file("blocks", 0o644, text(1, 300_000)), file("end", 0o644, text(2, 100)), file("other", 0o644, text(5, 100)), file("empty", 0o644, nil))
	b := image(small, file("before", 0o644, text(3, 5000)), file("blocks", 0o644, text(1, 300_000)), file("end", 0o644, text(2, 100)), file("other", 0o644, text(6, 100)), file("empty", 0o644, nil))
	c := image(small, file("before", 0o644, text(3, 100)), file("end", 0o644, text(2, 100)))
	for name, want := range map[string]bool{"blocks": true, "end": true, "other": false, "empty": true} {
		if same, err := a[name].SameStored(b[name]); same != want || err != nil {
			t.Errorf("%s: %v, %v", name, same, err)
		}
	}
	if same, err := a["end"].SameStored(c["end"]); !same || err != nil {
		t.Errorf("an end at another place of a fragment: %v, %v", same, err)
	}
	large := image(Options{}, file("blocks", 0o644, text(1, 300_000)))
	if same, err := a["blocks"].SameStored(large["blocks"]); same || err != nil {
		t.Errorf("blocks of another size: %v, %v", same, err)
	}
}

func TestRegionsNameEveryByte(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(writeImage(t, Options{BlockSize: 4 << 10}, addAll(variety(4<<10))))
	if err != nil {
		t.Fatal(err)
	}
	image, err := Open(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	var m regiontest.Map
	if err := image.Regions(t.Context(), m.Add); err != nil {
		t.Fatal(err)
	}
	for at := range data {
		if _, ok := m.Find(int64(at)); !ok {
			t.Fatalf("byte %d of %d is in no region", at, len(data))
		}
	}
}

// FuzzOpen reads damaged images: there is an error or not, but no panic, and no endless loop.
func FuzzOpen(f *testing.F) {
	data, err := os.ReadFile(writeImage(f, Options{BlockSize: 4 << 10}, addAll(variety(4 << 10)[:8])))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		image, err := Open(bytes.NewReader(data))
		if err != nil {
			return
		}
		err = image.Walk(context.Background(), func(m *Member) error {
			if m.Open == nil || m.Size > 1<<20 {
				return nil
			}
			in, err := m.Open()
			if err == nil {
				_, err = io.Copy(io.Discard, in)
			}
			return err
		})
		if err != nil && errors.Is(err, io.ErrNoProgress) {
			t.Fatal(err)
		}
	})
}

// TestEveryFlippedBitIsSurvived reads images in which one byte is not right.
func TestEveryFlippedBitIsSurvived(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(writeImage(t, Options{BlockSize: 4 << 10}, addAll(variety(4 << 10)[:8])))
	if err != nil {
		t.Fatal(err)
	}
	for at := 0; at < len(data); at += max(7, len(data)/400) {
		data[at] ^= 0x41
		if image, err := Open(bytes.NewReader(data)); err == nil {
			_ = image.Walk(context.Background(), func(m *Member) error { _, err := m.SameStored(m); return err })
		}
		data[at] ^= 0x41
	}
}

// TestReadAt reads pieces of a file with a hole, whole blocks and an end in a fragment, in an order that
// is not that of the file.
func TestReadAt(t *testing.T) {
	t.Parallel()
	data := make([]byte, 10*minBlockSize+100)
	for i := range data {
		data[i] = byte(i / 7)
	}
	clear(data[minBlockSize : 3*minBlockSize])
	path := filepath.Join(t.TempDir(), "image")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	err = Write(t.Context(), f, Options{BlockSize: minBlockSize}, func(add func(tree.Entry) error) error {
		return add(tree.Bytes("file", 0o644, data))
	})
	if err != nil {
		t.Fatal(err)
	}
	image, err := Open(f)
	if err != nil {
		t.Fatal(err)
	}
	err = image.Walk(t.Context(), func(m *Member) error {
		if m.Open == nil {
			return nil
		}
		r, err := m.Open()
		if err != nil {
			return err
		}
		at := r.(io.ReaderAt)
		for _, piece := range [][2]int64{{0, 1}, {9*minBlockSize - 5, minBlockSize + 50}, {minBlockSize + 9, 3}, {0, int64(len(data))}, {int64(len(data)) - 1, 1}} {
			got := make([]byte, piece[1])
			if n, err := at.ReadAt(got, piece[0]); err != nil || !bytes.Equal(got[:n], data[piece[0]:piece[0]+piece[1]]) {
				t.Errorf("%d bytes at %d: %d, %v", piece[1], piece[0], n, err)
			}
		}
		if n, err := at.ReadAt(make([]byte, 9), int64(len(data))-4); n != 4 || err != io.EOF {
			t.Errorf("at the end: %d, %v", n, err)
		}
		if _, err := at.ReadAt(make([]byte, 9), -1); err == nil {
			t.Error("a negative offset is taken")
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
