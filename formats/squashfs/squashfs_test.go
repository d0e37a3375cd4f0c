package squashfs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/formats/tree"
	"github.com/pantavisor/pantavisor/internal/oracle"
)

// writeImage makes an image from entries and returns its path.
func writeImage(t testing.TB, opts Options, add func(w *Writer) error) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), "image.squashfs")
	if err := tryImage(p, opts, add); err != nil {
		t.Fatal(err)
	}
	return p
}

func tryImage(p string, opts Options, add func(w *Writer) error) error {
	f, err := os.Create(p)
	if err != nil {
		return err
	}
	defer f.Close()
	w, err := NewWriter(f, opts)
	if err != nil {
		return err
	}
	addErr := add(w)
	if err := w.Close(); err != nil {
		return err
	}
	return addErr
}

func file(p string, mode fs.FileMode, data []byte) tree.Entry {
	return tree.Entry{Name: p, Mode: mode, ModTime: time.Unix(1_600_000_000, 0), Size: int64(len(data)), Open: func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(data)), nil
	}}
}

func addAll(entries []tree.Entry) func(*Writer) error {
	return func(w *Writer) error {
		for _, e := range entries {
			if err := w.Add(context.Background(), e); err != nil {
				return err
			}
		}
		return nil
	}
}

// noise is data that does not compress; text is data that does.
func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	_, _ = r.Read(b)
	return b
}

func text(seed, n int) []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "line %d of %d: all work and no play\n", i, seed)
	}
	return b.Bytes()[:n]
}

// variety has every kind of inode and the sizes around the borders.
func variety(block int) []tree.Entry {
	entries := []tree.Entry{
		{Name: ".", Mode: fs.ModeDir | 0o751, UID: 7, GID: 8, ModTime: time.Unix(1_500_000_000, 0)},
		{Name: "empty", Mode: fs.ModeDir | fs.ModeSticky | 0o777},
		{Name: "link", Mode: fs.ModeSymlink | 0o777, Link: "dir/text"},
		{Name: "null", Mode: fs.ModeDevice | fs.ModeCharDevice | 0o666, Major: 1, Minor: 3},
		{Name: "disk", Mode: fs.ModeDevice | 0o660, Major: 259, Minor: 300, GID: 6},
		{Name: "pipe", Mode: fs.ModeNamedPipe | 0o600},
		{Name: "socket", Mode: fs.ModeSocket | 0o600},
		file("dir/text", 0o644, text(1, 3*block+17)),
		file("dir/noise", 0o600, noise(1, 2*block)),
		file("dir/setuid", 0o755|fs.ModeSetuid|fs.ModeSetgid, text(2, 100)),
		file("dir/nothing", 0o400, nil),
		file("dir/hole", 0o644, append(make([]byte, 2*block), text(3, block/2)...)),
		file("dir/zeros", 0o644, make([]byte, 3*block)),
		file("dir/copy", 0o640, text(1, 3*block+17)),
		file("dir/small copy", 0o640, text(2, 100)),
		{Name: "dir/hard", HardLink: "dir/text"},
		{Name: "dir/sub/hard", HardLink: "dir/text"},
		file("name with ütf and\nnewline", 0o644, []byte("x")),
		file("bytes \xff\xfe", 0o644, []byte("y")),
	}
	for _, n := range []int{1, block - 1, block, block + 1, 2*block - 1} {
		entries = append(entries, file(fmt.Sprintf("sizes/%d", n), 0o644, noise(uint64(n), n)))
	}
	entries[1].UID, entries[1].GID = 1000, 70000
	return entries
}

var forms = []Options{
	{Compression: Gzip}, {Compression: Zstd}, {Compression: XZ},
	{Compression: Gzip, Level: 1, BlockSize: 4096}, {Compression: Zstd, Level: 3, BlockSize: 1 << 20},
}

func (o Options) name() string { return fmt.Sprintf("%v-%d-%d", o.Compression, o.Level, o.BlockSize) }

func TestKernelReadsWhatWeWrite(t *testing.T) {
	for _, opts := range forms {
		t.Run(opts.name(), func(t *testing.T) {
			block := max(opts.BlockSize, 4096)
			entries := variety(block)
			image := writeImage(t, opts, addAll(entries))
			dir := mount(t, image)
			for _, e := range entries {
				compareEntry(t, dir, e)
			}
			var text, hard, sub unix.Stat_t
			for p, st := range map[string]*unix.Stat_t{"dir/text": &text, "dir/hard": &hard, "dir/sub/hard": &sub} {
				if err := unix.Lstat(filepath.Join(dir, p), st); err != nil {
					t.Fatal(err)
				}
			}
			if text.Ino != hard.Ino || hard.Ino != sub.Ino || text.Nlink != 3 {
				t.Errorf("hard links: inodes %d %d %d, links %d; want one inode with 3 links", text.Ino, hard.Ino, sub.Ino, text.Nlink)
			}
		})
	}
}

func mount(t *testing.T, image string) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "squashfs", "-o", "loop,ro", image, dir).CombinedOutput(); err != nil {
		t.Fatalf("mount: %v\n%s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v\n%s", err, out)
		}
	})
	return dir
}

func compareEntry(t *testing.T, dir string, e tree.Entry) {
	t.Helper()
	p := filepath.Join(dir, e.Name)
	info, err := os.Lstat(p)
	if err != nil {
		t.Error(err)
		return
	}
	if e.Mode.IsRegular() && e.Open == nil {
		return // a hard link has the attributes of its first name
	}
	st := unix.Stat_t{}
	if err := unix.Lstat(p, &st); err != nil {
		t.Fatal(err)
	}
	got := tree.Entry{Name: e.Name, Mode: info.Mode(), UID: st.Uid, GID: st.Gid}
	want := tree.Entry{Name: e.Name, Mode: e.Mode, UID: e.UID, GID: e.GID}
	if e.Mode&fs.ModeDevice != 0 {
		got.Major, got.Minor = unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev)) //nolint:unconvert // 32 bits wide on some architectures
		want.Major, want.Minor = e.Major, e.Minor
	}
	if e.Mode&fs.ModeSymlink != 0 {
		got.Link, _ = os.Readlink(p)
		want.Link = e.Link
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got):\n%s", e.Name, d)
	}
	if e.Open != nil {
		compareContent(t, p, e)
	}
	if unixTime := max(e.ModTime.Unix(), 0); info.ModTime().Unix() != unixTime {
		t.Errorf("%s: time %d, want %d", e.Name, info.ModTime().Unix(), unixTime)
	}
}

func compareContent(t *testing.T, p string, e tree.Entry) {
	t.Helper()
	got, err := os.ReadFile(p)
	if err != nil {
		t.Errorf("%s: %v", e.Name, err)
		return
	}
	r, _ := e.Open()
	want, _ := io.ReadAll(r)
	if !bytes.Equal(got, want) {
		t.Errorf("%s: %d bytes that differ from the %d written", e.Name, len(got), len(want))
	}
}

// TestUnsquashfsAgrees has the reference program unpack a large directory (longer
// than one metadata block, so with an index) and compares every file.
func TestUnsquashfsAgrees(t *testing.T) {
	unsquashfs := oracle.Program(t, "unsquashfs")
	entries := variety(128 << 10)
	for i := range 3000 {
		entries = append(entries, file(fmt.Sprintf("many/a rather long name that fills the listing %06d", i), 0o644, text(i, i%400)))
	}
	image := writeImage(t, Options{Compression: Zstd}, addAll(entries))
	dir := filepath.Join(t.TempDir(), "out")
	if out, err := exec.Command(unsquashfs, "-no-progress", "-d", dir, image).CombinedOutput(); err != nil {
		t.Fatalf("unsquashfs: %v\n%s", err, out)
	}
	for _, e := range entries {
		if e.Name != "." && e.Open != nil {
			compareContent(t, filepath.Join(dir, e.Name), e)
		}
	}
	names, err := os.ReadDir(filepath.Join(dir, "many"))
	if err != nil || len(names) != 3000 {
		t.Errorf("many: %d names, %v; want 3000", len(names), err)
	}
}

// TestIndexFindsEveryName looks names up through the kernel in a listing long
// enough for many index entries.
func TestIndexFindsEveryName(t *testing.T) {
	var entries []tree.Entry
	for i := range 5000 {
		entries = append(entries, file(fmt.Sprintf("d/%05d-%s", i, strings.Repeat("n", i%60)), 0o644, []byte{byte(i)}))
	}
	dir := mount(t, writeImage(t, Options{}, addAll(entries)))
	for _, e := range entries {
		if _, err := os.Lstat(filepath.Join(dir, e.Name)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Lstat(filepath.Join(dir, "d/02500-x")); err == nil {
		t.Error("a name that is not there was found")
	}
}

// capability is cap_net_raw+ep in the form of VFS_CAP_REVISION_2.
var capability = append([]byte{1, 0, 0, 2, 0, 0x20}, make([]byte, 14)...)

func TestXattrs(t *testing.T) {
	want := map[string][]byte{"user.note": []byte("hello"), "security.capability": capability, "trusted.t": {}}
	e := file("f", 0o644, []byte("x"))
	e.Xattrs = want
	other := file("g", 0o644, []byte("y"))
	other.Xattrs = map[string][]byte{"user.note": []byte("hello")}
	d := tree.Entry{Name: "d", Mode: fs.ModeDir | 0o755, Xattrs: other.Xattrs}
	dir := mount(t, writeImage(t, Options{}, addAll([]tree.Entry{e, other, d})))
	for name, value := range want {
		buf := make([]byte, 100)
		n, err := unix.Lgetxattr(filepath.Join(dir, "f"), name, buf)
		if err != nil || !bytes.Equal(buf[:n], value) {
			t.Errorf("f: %s = %q, %v; want %q", name, buf[:max(n, 0)], err, value)
		}
	}
	for _, p := range []string{"g", "d"} {
		buf := make([]byte, 100)
		if n, err := unix.Lgetxattr(filepath.Join(dir, p), "user.note", buf); err != nil || string(buf[:n]) != "hello" {
			t.Errorf("%s: user.note %v", p, err)
		}
	}
}

func TestSameInputSameBytes(t *testing.T) {
	for _, opts := range forms[:3] {
		var sums [3][sha256.Size]byte
		for i, workers := range []int{1, 2, 7} {
			opts.Workers = workers
			data, err := os.ReadFile(writeImage(t, opts, addAll(variety(4096))))
			if err != nil {
				t.Fatal(err)
			}
			sums[i] = sha256.Sum256(data)
		}
		if sums[0] != sums[1] || sums[1] != sums[2] {
			t.Errorf("%v: images made with 1, 2 and 7 workers differ", opts.Compression)
		}
	}
}

// TestSamePlacesOfFragments: small files and large ones take turns, so that fragments are full all
// the time and have to be written between the blocks of files.
func TestSamePlacesOfFragments(t *testing.T) {
	t.Parallel()
	var entries []tree.Entry
	for i := range 200 {
		entries = append(entries, file(fmt.Sprintf("%03d", i), 0o644, noise(uint64(i), 3000+i%2*4096)))
	}
	var first []byte
	for _, workers := range []int{1, 2, 3, 16} {
		data, err := os.ReadFile(writeImage(t, Options{BlockSize: 4096, Workers: workers}, addAll(entries)))
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = data
		} else if !bytes.Equal(data, first) {
			t.Errorf("the image made with %d workers differs from that of one", workers)
		}
	}
}

func TestIdenticalFilesAreStoredOnce(t *testing.T) {
	big := noise(9, 1<<20)
	one := size(t, writeImage(t, Options{}, addAll([]tree.Entry{file("a", 0o644, big)})))
	three := size(t, writeImage(t, Options{}, addAll([]tree.Entry{file("a", 0o644, big), file("b", 0o644, big), file("c", 0o600, big)})))
	if three-one > 4096 {
		t.Errorf("three copies take %d bytes, one takes %d", three, one)
	}
}

func size(t testing.TB, p string) int64 {
	t.Helper()
	info, err := os.Stat(p)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

func TestTimeAndOwnerOverride(t *testing.T) {
	set := tree.Set{}
	set.Put(variety(4096)...)
	set.Complete()
	normal := tree.Normal{Time: time.Unix(1_577_836_800, 0), AllRoot: true}
	dir := mount(t, writeImage(t, Options{}, addAll(normal.All(set.Sorted()))))
	for _, p := range []string{".", "dir", "dir/text", "empty", "link"} {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(dir, p), &st); err != nil {
			t.Fatal(err)
		}
		if st.Uid != 0 || st.Gid != 0 || st.Mtim.Sec != 1_577_836_800 {
			t.Errorf("%s: owner %d:%d time %d", p, st.Uid, st.Gid, st.Mtim.Sec)
		}
	}
}

func TestRefusals(t *testing.T) {
	ok := file("a/b", 0o644, []byte("x"))
	for name, c := range map[string]struct {
		entries []tree.Entry
		want    string
	}{
		"parent":             {[]tree.Entry{file("../x", 0o644, nil)}, "leaves the tree"},
		"absolute":           {[]tree.Entry{file("/x", 0o644, nil)}, "clean relative path"},
		"nul":                {[]tree.Entry{file("a\x00b", 0o644, nil)}, "holds a NUL"},
		"twice":              {[]tree.Entry{ok, ok}, "there already"},
		"below a file":       {[]tree.Entry{ok, file("a/b/c", 0o644, nil)}, "not a directory"},
		"dangling hard link": {[]tree.Entry{{Name: "l", HardLink: "missing"}}, "not a file added before"},
		"link to directory":  {[]tree.Entry{ok, {Name: "l", HardLink: "a"}}, "not a file added before"},
		"empty link":         {[]tree.Entry{{Name: "l", Mode: fs.ModeSymlink}}, "symbolic link"},
		"long name":          {[]tree.Entry{file(strings.Repeat("n", 257), 0o644, nil)}, "257 bytes"},
		"long directory":     {[]tree.Entry{file(strings.Repeat("n", 257)+"/x", 0o644, nil)}, "257 bytes"},
		"xattr namespace":    {[]tree.Entry{{Name: "d", Mode: fs.ModeDir, Xattrs: map[string][]byte{"os2.x": nil}}}, "namespaces"},
		"device":             {[]tree.Entry{{Name: "d", Mode: fs.ModeDevice, Major: 1 << 13}}, "range"},
		"odd type":           {[]tree.Entry{{Name: "d", Mode: fs.ModeIrregular}}, "unknown type"},
	} {
		t.Run(name, func(t *testing.T) {
			err := tryImage(filepath.Join(t.TempDir(), "i"), Options{}, addAll(c.entries))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
	for name, opts := range map[string]Options{
		"block size": {BlockSize: 5000}, "algorithm": {Compression: 77}, "level": {Level: 12}, "zstd level": {Compression: Zstd, Level: 23},
	} {
		if err := tryImage(filepath.Join(t.TempDir(), "i"), opts, addAll(nil)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// fullDisk takes so many bytes and no more.
type fullDisk struct{ room int64 }

func (d fullDisk) WriteAt(b []byte, off int64) (int, error) {
	if off+int64(len(b)) > d.room {
		return 0, unix.ENOSPC
	}
	return len(b), nil
}

func (d fullDisk) Truncate(size int64) error { return nil }

func TestErrorsReachTheCaller(t *testing.T) {
	for _, room := range []int64{0, 1000, 200_000} {
		w, err := NewWriter(fullDisk{room}, Options{Compression: Zstd})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 20 {
			if err = w.Add(context.Background(), file(fmt.Sprint(i), 0o644, noise(uint64(i), 50_000))); err != nil {
				break
			}
		}
		if err := w.Close(); err == nil || !strings.Contains(err.Error(), "no space") {
			t.Errorf("room %d: error %v, want no space left", room, err)
		}
	}
	broken := file("x", 0o644, nil)
	broken.Open = func() (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(bytes.NewReader(noise(1, 300_000)), errReader{})), nil
	}
	if err := tryImage(filepath.Join(t.TempDir(), "i"), Options{}, addAll([]tree.Entry{broken})); err == nil || !strings.Contains(err.Error(), "bad sector") {
		t.Errorf("error %v, want the reader's", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	err := tryImage(filepath.Join(t.TempDir(), "i"), Options{}, func(w *Writer) error { return w.Add(ctx, file("x", 0o644, nil)) })
	if err == nil {
		t.Error("a cancelled context was not noticed")
	}
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, fmt.Errorf("bad sector") }

func TestDirectory(t *testing.T) {
	src := t.TempDir()
	write := func(p string, data []byte) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(src, p)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(src, p), data, 0o640); err != nil {
			t.Fatal(err)
		}
	}
	write("etc/passwd", []byte("root:x:0:0\n"))
	write("bin/tool", noise(3, 200_000))
	if err := os.Link(filepath.Join(src, "bin/tool"), filepath.Join(src, "bin/alias")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("bin/tool", filepath.Join(src, "tool")); err != nil {
		t.Fatal(err)
	}
	dir := mount(t, writeImage(t, Options{Compression: Zstd}, func(w *Writer) error {
		return tree.Walk(context.Background(), src, tree.Options{Xattrs: true}, func(e tree.Entry) error { return w.Add(context.Background(), e) })
	}))
	if out, err := exec.Command("diff", "-r", "--no-dereference", src, dir).CombinedOutput(); err != nil {
		t.Errorf("diff: %v\n%s", err, out)
	}
	a, b := unix.Stat_t{}, unix.Stat_t{}
	if unix.Lstat(filepath.Join(dir, "bin/tool"), &a) != nil || unix.Lstat(filepath.Join(dir, "bin/alias"), &b) != nil || a.Ino != b.Ino {
		t.Errorf("hard link became a copy: inodes %d and %d", a.Ino, b.Ino)
	}
}

// BenchmarkWrite measures each compression on data of one kind; noise stands for
// media and archives.
func BenchmarkWrite(b *testing.B) {
	for _, opts := range []Options{{Compression: Gzip}, {Compression: XZ}, {Compression: Zstd}, {Compression: Zstd, Level: 1}} {
		for kind, data := range map[string][]byte{"text": text(1, 8<<20), "noise": noise(1, 8<<20)} {
			b.Run(opts.name()+"/"+kind, func(b *testing.B) {
				b.SetBytes(int64(len(data)))
				for b.Loop() {
					p := writeImage(b, opts, addAll([]tree.Entry{file("f", 0o644, data)}))
					b.ReportMetric(float64(size(b, p)), "image-bytes")
				}
			})
		}
	}
}
