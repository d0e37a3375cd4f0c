package personalize

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/flash"
	"github.com/pantavisor/pantavisor/formats/bmap"
	"github.com/pantavisor/pantavisor/formats/ext4"
	"github.com/pantavisor/pantavisor/formats/personal"
	"github.com/pantavisor/pantavisor/formats/tree"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/filecopy"
	"github.com/pantavisor/pantavisor/internal/oracle"
)

const (
	mib       = 1 << 20
	imageSize = 96 * mib
	start     = 8 * mib // of the storage
	length    = 80 * mib
)

// newImage makes a disk with a storage, and its block map. file is the content of the file of
// settings, nil for none.
func newImage(t *testing.T, file []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "disk.img")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	entry := func(name string, mode fs.FileMode, data []byte) tree.Entry {
		return tree.Entry{Name: name, Mode: mode, Size: int64(len(data)), Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }}
	}
	noise := make([]byte, 20*mib)
	_, _ = rand.NewChaCha8([32]byte{}).Read(noise)
	entries := []tree.Entry{entry("config", fs.ModeDir|0o755, nil), entry("objects", fs.ModeDir|0o755, nil)}
	for i := range 200 { // so that the directory has an index
		entries = append(entries, entry(fmt.Sprintf("config/%0120d", i), 0o644, []byte{1}))
	}
	entries = append(entries, entry("objects/big", 0o644, noise))
	if file != nil {
		entries = append(entries, entry(personal.Name, 0o600, file))
	}
	if err := f.Truncate(imageSize); err != nil {
		t.Fatal(err)
	}
	for i := range entries {
		entries[i].ModTime = time.Unix(1, 0)
		if entries[i].Mode.IsDir() {
			entries[i].Open, entries[i].Size = nil, 0
		}
	}
	if err := ext4.Write(t.Context(), section{f, start}, entries, ext4.Options{Size: length, Journal: 4 * mib, Label: "pvroot"}); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(oracle.Program(t, "sgdisk"), "-n", "1:2048:+4M", "-n", "2:16384:+80M", name).CombinedOutput(); err != nil {
		t.Fatalf("sgdisk: %v: %s", err, out)
	}
	used, err := ext4.Used(f, start)
	if err != nil {
		t.Fatal(err)
	}
	extents := []bmap.Extent{{Offset: 0, Length: mib}, {Offset: imageSize - mib, Length: mib}}
	for _, e := range used {
		extents = append(extents, bmap.Extent(e))
	}
	m, err := bmap.Create(t.Context(), f, imageSize, extents)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name+".bmap", m.Encode(), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

// section is a part of a file that can be written.
type section struct {
	*os.File
	start int64
}

func (s section) WriteAt(p []byte, at int64) (int, error) { return s.File.WriteAt(p, s.start+at) }

func content(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// checked lets e2fsck look at the storage, and compares the block map with the image.
func checked(t *testing.T, name string) {
	t.Helper()
	part := filepath.Join(t.TempDir(), "part")
	if err := os.WriteFile(part, content(t, name)[start:start+length], 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(oracle.Program(t, "e2fsck"), "-fn", part).CombinedOutput(); err != nil {
		t.Errorf("e2fsck: %v: %s", err, out)
	}
	out, err := exec.Command(oracle.Program(t, "debugfs"), "-R", "cat /"+personal.Name, part).Output()
	if err != nil || len(out) != personal.Size {
		t.Errorf("debugfs reads %d bytes of the file: %v", len(out), err)
	}
	mapped(t, name)
}

func mapped(t *testing.T, name string) {
	t.Helper()
	table, _, err := flash.MapOf(name)
	if err != nil || table == nil {
		t.Fatalf("no map: %v", err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := table.Verify(t.Context(), f); err != nil {
		t.Errorf("the block map: %v", err)
	}
}

var wanted = personal.Settings{
	Hub: map[string]string{"PH_CREDS_HOST": "hub.example"}, Hostname: "sensor-7",
	UserMeta: map[string]string{"network/pvnet_ipv4": "10.0.0.2/24"},
}

func set(s personal.Settings) func(personal.Settings) (personal.Settings, error) {
	return func(personal.Settings) (personal.Settings, error) { return s, nil }
}

// TestRawImage: only bytes of the file are changed, and removing makes the image what it was.
func TestRawImage(t *testing.T) {
	t.Parallel()
	name := newImage(t, personal.Blank())
	before, table := content(t, name), content(t, name+".bmap")
	r, err := Change(t.Context(), name, "", set(wanted))
	if err != nil {
		t.Fatal(err)
	}
	if r.Partition != 2 || r.Map != name+".bmap" {
		t.Errorf("%+v", r)
	}
	checked(t, name)
	if got, err := Show(t.Context(), name); err != nil || !cmp.Equal(got, wanted) {
		t.Errorf("%+v, %v", got, err)
	}
	after, first, last := content(t, name), -1, 0
	for i := range after {
		if after[i] != before[i] {
			last = i
			if first < 0 {
				first = i
			}
		}
	}
	if first < 0 || last-first >= personal.Size {
		t.Errorf("bytes %d to %d were changed", first, last)
	}
	if _, err := Change(t.Context(), name, "", set(personal.Settings{})); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(content(t, name), before) || !bytes.Equal(content(t, name+".bmap"), table) {
		t.Error("the image without settings is not what it was")
	}
}

// TestCopy leaves the image as it is.
func TestCopy(t *testing.T) {
	t.Parallel()
	name := newImage(t, personal.Blank())
	before := content(t, name)
	to := filepath.Join(t.TempDir(), "card.img")
	r, err := Change(t.Context(), name, to, func(personal.Settings) (personal.Settings, error) {
		if _, err := os.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the copy has its name before it is changed: %v", err)
		}
		return wanted, nil
	})
	if err != nil || r.Path != to || r.Map != to+".bmap" {
		t.Fatalf("%+v, %v", r, err)
	}
	checked(t, to)
	mapped(t, name)
	if got, err := Show(t.Context(), to); err != nil || !cmp.Equal(got, wanted) || !bytes.Equal(content(t, name), before) {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := Change(t.Context(), name, to, set(wanted)); fault.Of(err) != fault.BadInput {
		t.Errorf("over another file: %v", err)
	}
	bad := errors.New("no")
	other := filepath.Join(t.TempDir(), "other.img")
	_, err = Change(t.Context(), name, other, func(personal.Settings) (personal.Settings, error) { return personal.Settings{}, bad })
	if _, gone := os.Stat(other); !errors.Is(err, bad) || !errors.Is(gone, fs.ErrNotExist) {
		t.Errorf("%v, %v", err, gone)
	}
}

// TestCompressedImage: as the build makes them, in pieces, and as programs of the system do.
func TestCompressedImage(t *testing.T) {
	t.Parallel()
	raw := newImage(t, personal.Blank())
	for name, c := range map[string]struct {
		suffix string
		args   []string // with the program; nil for pieces
	}{
		"xz in pieces": {".xz", nil}, "zst in pieces": {".zst", nil}, "xz": {".xz", []string{"xz", "-0", "-c"}}, "zst": {".zst", []string{"zstd", "-1", "-c"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			image := filepath.Join(dir, "disk.img"+c.suffix)
			if c.args == nil {
				pieces(t, c.suffix, raw, image)
			} else {
				out, err := exec.Command(oracle.Program(t, c.args[0]), append(c.args[1:], raw)...).Output()
				if err = errors.Join(err, os.WriteFile(image, out, 0o644)); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(filepath.Join(dir, "disk.img.bmap"), content(t, raw+".bmap"), 0o644); err != nil {
				t.Fatal(err)
			}
			if _, err := Change(t.Context(), image, "", set(wanted)); err != nil {
				t.Fatal(err)
			}
			if files, err := filepath.Glob("/proc/self/fd/*"); err != nil || len(files) == 0 {
				t.Errorf("open files: %v", err)
			} else if left := slices.DeleteFunc(files, func(f string) bool {
				target, err := os.Readlink(f)
				return err != nil || !strings.HasPrefix(target, dir)
			}); len(left) > 0 {
				t.Errorf("files are left open: %v", left)
			}
			if got, err := Show(t.Context(), image); err != nil || !cmp.Equal(got, wanted) {
				t.Errorf("%+v, %v", got, err)
			}
			other := wanted
			other.Hostname = "other"
			if _, err := Change(t.Context(), image, "", set(other)); err != nil { // in what the first change has made
				t.Fatal(err)
			}
			if got, err := Show(t.Context(), image); err != nil || !cmp.Equal(got, other) {
				t.Errorf("%+v, %v", got, err)
			}
			program := map[string]string{".xz": "xz", ".zst": "zstd"}[c.suffix]
			plain := filepath.Join(dir, "plain.img")
			out, err := exec.Command(oracle.Program(t, program), "-dc", image).Output()
			if err = errors.Join(err, os.WriteFile(plain, out, 0o644), os.WriteFile(plain+".bmap", content(t, filepath.Join(dir, "disk.img.bmap")), 0o644)); err != nil {
				t.Fatal(err)
			}
			checked(t, plain)
			if _, err := Change(t.Context(), plain, "", set(personal.Settings{})); err != nil || !bytes.Equal(content(t, plain), content(t, raw)) {
				t.Errorf("it differs from the image elsewhere: %v", err)
			}
		})
	}
}

// pieces compresses an image as the build does.
func pieces(t *testing.T, suffix, from, to string) {
	t.Helper()
	p := &packings[0]
	if suffix == ".zst" {
		p = &packings[1]
	}
	data := content(t, from)
	var all []piece
	for at := 0; at < len(data); at += pieceSize {
		var b bytes.Buffer
		if err := p.pack(t.Context(), &b, bytes.NewReader(data[at:min(at+pieceSize, len(data))]), pieceSize); err != nil {
			t.Fatal(err)
		}
		all = append(all, piece{bytes.NewReader(b.Bytes()), int64(b.Len()), 0})
	}
	f, err := os.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(p.join(f, all), f.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestWhatCannotBePersonalised(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name string, data []byte) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, data, 0o644); err != nil {
			t.Fatal(err)
		}
		return name
	}
	dirty := newImage(t, personal.Blank())
	f, err := os.OpenFile(dirty, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	feature := make([]byte, 1)
	if _, err := f.ReadAt(feature, start+1024+96); err != nil {
		t.Fatal(err)
	}
	feature[0] |= 4 // the journal is to be replayed
	if _, err := f.WriteAt(feature, start+1024+96); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		path string
		kind fault.Kind
		text string
	}{
		"missing":         {dir + "/none", fault.Missing, "not there"},
		"a directory":     {dir, fault.BadInput, "neither an image nor a disk"},
		"no disk":         {file("text", bytes.Repeat([]byte("x"), 4096)), fault.Unsupported, "not an image of a disk"},
		"empty":           {file("empty", nil), fault.IO, ""},
		"gzip":            {file("a.gz", []byte("\x1f\x8b\x08 and more")), fault.Unsupported, "gzip: unpack it first"},
		"another version": {newImage(t, nil), fault.Unsupported, "no partition has the file config/personal"},
		"a short file":    {newImage(t, []byte("x")), fault.BadInput, "not one of 65536 bytes"},
		"with holes":      {newImage(t, make([]byte, personal.Size)), fault.BadInput, "has holes"},
		"in use":          {dirty, fault.BadInput, "e2fsck -p"},
		"cut xz":          {file("cut.xz", []byte("\xfd7zXZ\x00\x00\x01 and so on")), fault.BadInput, ""},
	} {
		_, err := Change(t.Context(), c.path, "", set(wanted))
		if fault.Of(err) != c.kind || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: kind %v: %v", name, fault.Of(err), err)
		}
	}
	if _, err := Change(t.Context(), newImage(t, personal.Blank()), "", set(personal.Settings{Hostname: strings.Repeat("x", 40<<10)})); fault.Of(err) != fault.BadInput {
		t.Errorf("too much: %v", err)
	}
}

// TestCard: a disk of this machine, and one that is incomplete.
func TestCard(t *testing.T) {
	t.Parallel()
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no loop devices: %v", err)
	}
	_ = control.Close()
	name := newImage(t, personal.Blank())
	out, err := exec.Command(oracle.Program(t, "losetup"), "--show", "-f", name).CombinedOutput()
	if err != nil {
		t.Fatalf("losetup: %v: %s", err, out)
	}
	device := strings.TrimSpace(string(out))
	detach := func() { _ = exec.Command("losetup", "-d", device).Run() }
	t.Cleanup(detach)
	if r, err := Change(t.Context(), device, "", set(wanted)); err != nil || r.Map != "" {
		t.Fatalf("%+v, %v", r, err)
	}
	if got, err := Show(t.Context(), device); err != nil || !cmp.Equal(got, wanted) {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := Change(t.Context(), device, filepath.Join(t.TempDir(), "x"), set(wanted)); fault.Of(err) != fault.BadInput {
		t.Errorf("a copy of a disk: %v", err)
	}
	// An image that is not whole leaves the mark.
	bad := filepath.Join(t.TempDir(), "disk.img")
	if err := filecopy.File(t.Context(), bad, name, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(bad+".bmap", content(t, name+".bmap"), 0o644); err != nil {
		t.Fatal(err)
	}
	image, err := flash.Open(t.Context(), bad)
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := flash.Write(ctx, image, device, flash.Options{Progress: func(flash.Phase, int64, int64) { cancel() }}); err == nil {
		t.Fatal("the image was written")
	}
	if _, err := Show(t.Context(), device); fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), "flash it again") {
		t.Errorf("%v", err)
	}
}

// TestNothingOutsideOfThePartition: a file system that says that it is larger than its partition has
// no place for settings in the next one.
func TestNothingOutsideOfThePartition(t *testing.T) {
	t.Parallel()
	name := newImage(t, personal.Blank())
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fsys, err := ext4.Open(io.NewSectionReader(f, start, length))
	if err != nil {
		t.Fatal(err)
	}
	n, err := fsys.Lookup(personal.Name)
	if err != nil {
		t.Fatal(err)
	}
	last := (start + n.Content.Runs()[0].From + 4096) / 512
	if out, err := exec.Command(oracle.Program(t, "sgdisk"), "-d", "2", "-n", fmt.Sprintf("2:16384:%d", last-1), name).CombinedOutput(); err != nil {
		t.Fatalf("sgdisk: %v: %s", err, out)
	}
	before := content(t, name)
	if _, err := Change(t.Context(), name, "", set(wanted)); fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), "behind the end of the partition") {
		t.Errorf("%v", err)
	}
	if !bytes.Equal(content(t, name), before) {
		t.Error("the image was changed")
	}
}

// TestFilesBeside: nothing is changed when the block map is damaged, a copy takes the place of no
// other file, and nobody else can read it.
func TestFilesBeside(t *testing.T) {
	t.Parallel()
	name := newImage(t, personal.Blank())
	packed := filepath.Join(t.TempDir(), "disk.img.zst")
	command := exec.Command(oracle.Program(t, "zstd"), "-q", "-1", name, "-o", packed)
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("zstd: %v: %s", err, out)
	}
	for _, image := range []string{name, packed} {
		to := filepath.Join(t.TempDir(), "copy.img")
		if err := os.WriteFile(to+".bmap", []byte("of another"), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Change(t.Context(), image, to, set(wanted)); fault.Of(err) != fault.BadInput || string(content(t, to+".bmap")) != "of another" {
			t.Errorf("a map in the way: %v", err)
		}
		if err := os.Remove(to + ".bmap"); err != nil {
			t.Fatal(err)
		}
		if _, err := Change(t.Context(), image, to, set(wanted)); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(to); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("a copy: %v, %v", info.Mode(), err)
		}
		link := filepath.Join(t.TempDir(), "link")
		if err := os.Symlink(image, link); err != nil {
			t.Fatal(err)
		}
		if _, err := Change(t.Context(), link, "", set(wanted)); err != nil {
			t.Error(err)
		}
		if got, err := Show(t.Context(), image); err != nil || !cmp.Equal(got, wanted) {
			t.Errorf("behind a link: %+v, %v", got, err)
		}
		before := content(t, image)
		if err := os.WriteFile(flash.MapName(image), []byte("damaged"), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Change(t.Context(), image, "", set(personal.Settings{Hostname: "other"})); err == nil || !bytes.Equal(content(t, image), before) {
			t.Errorf("a damaged map: %v", err)
		}
	}
}

// TestMapWithoutTheFile: nothing is changed and no copy is left where the block map leaves the file
// out, which a flasher would then not write.
func TestMapWithoutTheFile(t *testing.T) {
	t.Parallel()
	raw := newImage(t, personal.Blank())
	packed := filepath.Join(t.TempDir(), "disk.img.zst")
	pieces(t, ".zst", raw, packed)
	f, err := os.Open(raw)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	table, err := bmap.Create(t.Context(), f, imageSize, []bmap.Extent{{Offset: 0, Length: mib}})
	if err != nil {
		t.Fatal(err)
	}
	for _, image := range []string{raw, packed} {
		if err := os.WriteFile(flash.MapName(image), table.Encode(), 0o644); err != nil {
			t.Fatal(err)
		}
		before := content(t, image)
		dir := t.TempDir()
		for _, to := range []string{"", filepath.Join(dir, "copy.img")} {
			if _, err := Change(t.Context(), image, to, set(wanted)); fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), "the map leaves block") {
				t.Errorf("%s to %q: kind %v: %v", image, to, fault.Of(err), err)
			}
		}
		if !bytes.Equal(content(t, image), before) || !bytes.Equal(content(t, flash.MapName(image)), table.Encode()) {
			t.Errorf("%s or its map was changed", image)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("a copy is left: %v, %v", left, err)
		}
	}
}

// TestCompressingStops when it is cancelled.
func TestCompressingStops(t *testing.T) {
	t.Parallel()
	for _, p := range packings {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := p.pack(ctx, io.Discard, bytes.NewReader(make([]byte, mib)), partSize); !errors.Is(err, context.Canceled) {
			t.Errorf("%x: %v", p.magic, err)
		}
	}
}

// TestPiecesInMemory are those that were used last, and those that are changed.
func TestPiecesInMemory(t *testing.T) {
	t.Parallel()
	m := &packedImage{plain: map[int][]byte{}, changed: map[int]bool{}}
	for range kept + 3 {
		var b bytes.Buffer
		if err := packZstd(t.Context(), &b, bytes.NewReader(make([]byte, 10)), partSize); err != nil {
			t.Fatal(err)
		}
		m.pieces = append(m.pieces, piece{bytes.NewReader(b.Bytes()), int64(b.Len()), 10})
	}
	if _, err := m.WriteAt([]byte{1}, 0); err != nil {
		t.Fatal(err)
	}
	for _, i := range []int64{1, 2, 3, 1, 4, 5, 1} {
		if _, err := m.ReadAt(make([]byte, 1), i*10); err != nil {
			t.Fatal(err)
		}
	}
	var got []int
	for i := range m.pieces {
		if m.plain[i] != nil {
			got = append(got, i)
		}
	}
	if d := cmp.Diff([]int{0, 1, 4, 5}, got); d != "" || !m.changed[0] || m.plain[0][0] != 1 {
		t.Error(d)
	}
}
