package ext4

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/formats/tree"
	"github.com/pantavisor/pantavisor/internal/oracle"
)

// TestSizes: from the smallest that mke2fs makes to a TiB, around the sizes at which a group
// more or less is needed, and with so many inodes that their tables leave their groups.
func TestSizes(t *testing.T) {
	t.Parallel()
	const kib, mib, gib = 1 << 10, 1 << 20, 1 << 30
	small := []tree.Entry{tree.Bytes("f", 0o644, []byte("content"))}
	for _, block := range []int{1024, 2048, 4096} {
		group := int64(8 * block * block)
		for _, size := range []int64{
			120 * kib, 240 * kib, mib, group - int64(block), group, group + int64(block), group + 40*int64(block), group + 400*int64(block),
			2*group + 700*int64(block), 3 * group, 16*group + 4096*kib, 17 * group, 50*group + 5*mib, 20 * gib, 1 << 40,
		} {
			for _, ratio := range []int64{1024, 32768} {
				if size > gib && ratio == 1024 || size > 100*gib && block < 4096 || size < mib && block > 1024 && size < 240*kib {
					continue
				}
				t.Run(fmt.Sprintf("%d KiB in %d, %d an inode", size/kib, block, ratio), func(t *testing.T) {
					t.Parallel()
					o := options(size)
					o.BlockSize, o.InodeRatio = block, ratio
					if size < 16*mib {
						o.Journal = 0
					}
					img := write(t, o, small...)
					check(t, img)
					if got := command(t, "debugfs", "-R", "cat /f", img); !strings.HasSuffix(got, "content") {
						t.Errorf("f has %q", got)
					}
					f, err := os.Open(img)
					if err != nil {
						t.Fatal(err)
					}
					defer f.Close()
					if used, err := Used(f, 0); err != nil || len(used) == 0 {
						t.Errorf("blocks in use: %d runs, %v", len(used), err)
					}
				})
			}
		}
	}
}

// TestFeatures: what GRUB 2.06 and U-Boot 2023.01 do not read must not be there.
func TestFeatures(t *testing.T) {
	t.Parallel()
	out := command(t, "dumpe2fs", write(t, options(300<<20)))
	for _, want := range []string{
		"has_journal ext_attr resize_inode dir_index filetype extent 64bit flex_bg sparse_super large_file huge_file dir_nlink extra_isize metadata_csum\n",
		"pvroot", "01020304-0506-8708-890a-0b0c0d0e0f10", "15161718-191a-871c-891e-1f2021222324", "state:         clean",
		"Reserved block count:     768\n", "Journal checksum type:    crc32c", "Tue Nov 14 22:13:20 2023", "[INODE_UNINIT, BLOCK_UNINIT, ITABLE_ZEROED]",
		"Flex block group size:    16\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

// TestSameBits: the same entries give the same bytes, whether a file has holes or zeros.
func TestSameBits(t *testing.T) {
	t.Parallel()
	var sums [2][sha256.Size]byte
	for i := range sums {
		name := filepath.Join(t.TempDir(), "f")
		f, err := os.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			err = f.Truncate(5 << 20)
		} else {
			_, err = f.Write(make([]byte, 5<<20))
		}
		if _, err2 := f.WriteAt([]byte("x"), 3<<20+100); errors.Join(err, err2) != nil {
			t.Fatal(err, err2)
		}
		e, err := tree.File(name, "f")
		if err != nil {
			t.Fatal(err)
		}
		e.ModTime = time.Unix(1, 2)
		img := write(t, options(32<<20), append(randomTree(7, 100), e)...)
		data, err := os.ReadFile(img)
		if err != nil {
			t.Fatal(err)
		}
		sums[i] = sha256.Sum256(data)
	}
	if sums[0] != sums[1] {
		t.Error("two file systems of the same entries differ")
	}
}

// TestLargeDirectory: the kernel finds each of 100,000 names, by an index of two levels.
func TestLargeDirectory(t *testing.T) {
	t.Parallel()
	for _, block := range []int{1024, 4096} {
		t.Run(strconv.Itoa(block), func(t *testing.T) {
			t.Parallel()
			entries := []tree.Entry{tree.Dir("many", 0o755), tree.Bytes("many/first", 0o644, nil)}
			for i := range 100_000 {
				entries = append(entries, tree.Entry{Name: fmt.Sprintf("many/%x-%d", i*i, i), HardLink: "many/first"})
				if i%4 != 0 { // a file has at most 65000 names
					entries[len(entries)-1] = tree.Symlink(entries[len(entries)-1].Name, "first")
				}
			}
			o := options(300 << 20)
			o.BlockSize, o.InodeRatio = block, 2048
			img := write(t, o, entries...)
			check(t, img)
			if out := command(t, "debugfs", "-R", "htree_dump /many", img); !strings.Contains(out, "Indirect levels: 1") {
				t.Errorf("no index of two levels:\n%.500s", out)
			}
			dir, _ := mount(t, img, ",ro")
			for i := range entries {
				if _, err := os.Lstat(filepath.Join(dir, entries[i].Name)); err != nil {
					t.Fatal(err)
				}
			}
			if names, err := os.ReadDir(filepath.Join(dir, "many")); len(names) != 100_001 || err != nil {
				t.Errorf("%d names, %v", len(names), err)
			}
		})
	}
}

// TestDirectoryBeyondTheIndex: names that two levels of an index have no room for are found
// one after the other.
func TestDirectoryBeyondTheIndex(t *testing.T) {
	t.Parallel()
	entries := []tree.Entry{tree.Dir("many", 0o755), tree.Bytes("many/first", 0o644, nil)}
	for i := range 64_000 {
		entries = append(entries, tree.Entry{Name: fmt.Sprintf("many/%0240d", i), HardLink: "many/first"})
	}
	o := options(300 << 20)
	o.BlockSize = 1024
	img := write(t, o, entries...)
	check(t, img)
	dir, _ := mount(t, img, "")
	if err := os.Remove(filepath.Join(dir, entries[60_000].Name)); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "many/new"), nil, 0o644); err != nil {
		t.Error(err)
	}
}

// TestManySubdirectories: their number has no limit.
func TestManySubdirectories(t *testing.T) {
	t.Parallel()
	entries := []tree.Entry{tree.Dir("many", 0o755)}
	for i := range 65_010 {
		entries = append(entries, tree.Dir(fmt.Sprintf("many/%d", i), 0o755))
	}
	o := options(600 << 20)
	o.InodeRatio, o.BlockSize = 4096, 1024
	img := write(t, o, entries...)
	check(t, img)
	if out := command(t, "debugfs", "-R", "stat /many", img); !strings.Contains(out, "Links: 1 ") {
		t.Errorf("a directory with 65010 in it:\n%s", out)
	}
}

// pattern is content of which each block has its number; all but every nth are holes.
type pattern struct {
	at, size, block, nth int64
}

func (p *pattern) Read(b []byte) (int, error) {
	if p.at == p.size {
		return 0, io.EOF
	}
	n := int(min(int64(len(b)), p.size-p.at, p.block-p.at%p.block))
	clear(b[:n])
	if number := p.at / p.block; number%p.nth == 0 && p.at%p.block == 0 {
		copy(b[:n], fmt.Sprintf("block %d", number))
	}
	p.at += int64(n)
	return n, nil
}

func (p *pattern) Close() error { return nil }

func (p pattern) entry(name string) tree.Entry {
	return tree.Entry{Name: name, Mode: 0o644, Size: p.size, Open: func() (io.ReadCloser, error) { c := p; return &c, nil }}
}

// TestFragments: files whose trees of extents have a depth of 1 to 3.
func TestFragments(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		size  int64
		depth string
	}{{100 << 10, "1"}, {8 << 20, "2"}, {64 << 20, "3"}} {
		p := pattern{size: c.size, block: 1024, nth: 2}
		o := options(128 << 20)
		o.BlockSize = 1024
		img := write(t, o, p.entry("f"))
		check(t, img)
		if out := command(t, "debugfs", "-R", "ex /f", img); !strings.Contains(out, "/ "+c.depth+" ") {
			t.Errorf("not of depth %s: %.300s", c.depth, out)
		}
		dir, _ := mount(t, img, ",ro")
		f, err := os.Open(filepath.Join(dir, "f"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if !same(t, f, &p) {
			t.Errorf("%d bytes differ", c.size)
		}
	}
}

// same reports whether two readers have the same content.
func same(t *testing.T, a, b io.Reader) bool {
	t.Helper()
	x, y := sha256.New(), sha256.New()
	if _, err := io.Copy(x, a); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(y, b); err != nil {
		t.Fatal(err)
	}
	return bytes.Equal(x.Sum(nil), y.Sum(nil))
}

// TestBeyond4GiB: a sparse file of more than 4 GiB keeps its size, its holes and what is in
// it; reading it takes no longer than its data.
func TestBeyond4GiB(t *testing.T) {
	t.Parallel()
	const size = 40<<30 + 12345
	name := filepath.Join(t.TempDir(), "f")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, at := range []int64{0, 4<<30 + 77, size - 3} {
		if _, err := f.WriteAt([]byte("abc"), at); err != nil {
			t.Fatal(err)
		}
	}
	e, err := tree.File(name, "f")
	if err != nil {
		t.Fatal(err)
	}
	img := write(t, options(64<<20), e)
	check(t, img)
	dir, _ := mount(t, img, ",ro")
	got, err := os.Open(filepath.Join(dir, "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer got.Close()
	info, err := got.Stat()
	if err != nil || info.Size() != size || info.Sys().(*syscall.Stat_t).Blocks > 64 {
		t.Errorf("%d bytes in %d sectors, %v", info.Size(), info.Sys().(*syscall.Stat_t).Blocks, err)
	}
	for _, at := range []int64{0, 4<<30 + 77, size - 3} {
		b := make([]byte, 3)
		if _, err := got.ReadAt(b, at); string(b) != "abc" || err != nil {
			t.Errorf("at %d: %q, %v", at, b, err)
		}
	}
}

// TestTimes: the whole range with nanoseconds, and what is beyond it.
func TestTimes(t *testing.T) {
	t.Parallel()
	at := func(seconds, nanoseconds int64) time.Time { return time.Unix(seconds, nanoseconds) }
	cases := []struct{ have, want time.Time }{
		{at(0, 1), at(0, 1)}, {at(-1, 999_999_999), at(-1, 999_999_999)}, {at(1<<31, 5), at(1<<31, 5)}, {at(1<<32-1, 0), at(1<<32-1, 0)},
		{at(1<<32+7, 0), at(1<<32+7, 0)}, {at(math.MinInt32, 3), at(math.MinInt32, 3)}, {at(math.MinInt32-1, 3), at(math.MinInt32, 0)},
		{at(latest, 999_999_999), at(latest, 999_999_999)}, {at(latest+1, 9), at(latest, 0)}, {time.Time{}, options(0).Time},
	}
	var entries []tree.Entry
	for i, c := range cases {
		e := tree.Bytes(fmt.Sprint(i), 0o644, nil)
		e.ModTime = c.have
		entries = append(entries, e)
	}
	img := write(t, options(16<<20), entries...)
	check(t, img)
	dir, _ := mount(t, img, ",ro")
	for i, c := range cases {
		var st unix.Statx_t
		if err := unix.Statx(0, filepath.Join(dir, fmt.Sprint(i)), 0, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &st); err != nil {
			t.Fatal(err)
		}
		for kind, got := range map[string]unix.StatxTimestamp{"atime": st.Atime, "ctime": st.Ctime, "mtime": st.Mtime, "btime": st.Btime} {
			if got.Sec != c.want.Unix() || int(got.Nsec) != c.want.Nanosecond() {
				t.Errorf("%v: %s is %d.%09d, want %d.%09d", c.have, kind, got.Sec, got.Nsec, c.want.Unix(), c.want.Nanosecond())
			}
		}
	}
}

// TestACL: the kernel gives back what getxattr(2) gave.
func TestACL(t *testing.T) {
	t.Parallel()
	acl := []byte("\x02\x00\x00\x00" +
		"\x01\x00\x06\x00\xff\xff\xff\xff" + "\x02\x00\x04\x00\xe8\x03\x00\x00" + "\x04\x00\x04\x00\xff\xff\xff\xff" +
		"\x10\x00\x04\x00\xff\xff\xff\xff" + "\x20\x00\x04\x00\xff\xff\xff\xff")
	f, d := tree.Bytes("f", 0o644, nil), tree.Dir("d", 0o755)
	f.Xattrs = map[string][]byte{accessACL: acl}
	d.Xattrs = map[string][]byte{accessACL: acl, defaultACL: acl}
	img := write(t, options(16<<20), f, d)
	check(t, img)
	dir, _ := mount(t, img, ",ro")
	for _, c := range [][2]string{{"f", accessACL}, {"d", accessACL}, {"d", defaultACL}} {
		got := make([]byte, 100)
		n, err := unix.Getxattr(filepath.Join(dir, c[0]), c[1], got)
		if err != nil || !bytes.Equal(got[:n], acl) {
			t.Errorf("%v: %x, %v", c, got[:max(n, 0)], err)
		}
	}
}

// TestRejected: what cannot be written is named.
func TestRejected(t *testing.T) {
	t.Parallel()
	with := func(name, attribute string, value []byte) tree.Entry {
		e := tree.Bytes(name, 0o644, nil)
		e.Xattrs = map[string][]byte{attribute: value}
		return e
	}
	longer, shorter := tree.Bytes("f", 0o644, []byte("12345")), tree.Bytes("f", 0o644, []byte("12345"))
	longer.Size, shorter.Size = 4, 6
	var names []tree.Entry
	for i := range maxLinks + 1 {
		names = append(names, tree.Entry{Name: fmt.Sprint(i), HardLink: "0"})
	}
	names[0] = tree.Bytes("0", 0o644, nil)
	for name, c := range map[string]struct {
		entries []tree.Entry
		change  func(o *Options)
		want    string
		is      error
	}{
		"no parent":         {entries: []tree.Entry{tree.Bytes("d/f", 0o644, nil)}, want: `"d/f"`},
		"twice":             {entries: []tree.Entry{tree.Dir("d", 0o755), tree.Dir("d", 0o755)}, want: "twice"},
		"link to nothing":   {entries: []tree.Entry{{Name: "l", HardLink: "f"}}, want: `"l" is a hard link`},
		"link to directory": {entries: []tree.Entry{tree.Dir("d", 0o755), {Name: "l", HardLink: "d"}}, want: `"l" is a hard link`},
		"link to link": {entries: []tree.Entry{tree.Bytes("f", 0o644, nil), {Name: "l", HardLink: "f"}, {Name: "m", HardLink: "l"}},
			want: `"m" is a hard link`},
		"too many names":     {entries: names, want: "65001 names"},
		"lost+found":         {entries: []tree.Entry{tree.Bytes(lostFound, 0o644, nil)}, want: "has to be a directory"},
		"long name":          {entries: []tree.Entry{tree.Dir(strings.Repeat("n", 256), 0o755)}, want: "256 bytes", is: errors.ErrUnsupported},
		"long link":          {entries: []tree.Entry{tree.Symlink("l", strings.Repeat("n", 4096))}, want: "4096 bytes", is: errors.ErrUnsupported},
		"other attribute":    {entries: []tree.Entry{with("f", "system.data", nil)}, want: "system.data", is: errors.ErrUnsupported},
		"nameless attribute": {entries: []tree.Entry{with("f", "user.", nil)}, want: `"user."`, is: errors.ErrUnsupported},
		"long attribute":     {entries: []tree.Entry{with("f", "user.a", make([]byte, 4096))}, want: "a block has 4096", is: errors.ErrUnsupported},
		"ACL":                {entries: []tree.Entry{with("f", accessACL, []byte("\x01\x00\x00\x00"))}, want: "version 2"},
		"longer":             {entries: []tree.Entry{longer}, want: `"f": it has 5 bytes, not 4`},
		"shorter":            {entries: []tree.Entry{shorter}, want: `"f": it has 5 bytes, not 6`},
		"full":               {entries: []tree.Entry{pattern{size: 17 << 20, block: 1024, nth: 1}.entry("f")}, want: `"f"`, is: ErrFull},
		"tiny":               {change: func(o *Options) { o.Size = 100 << 10 }, is: ErrFull},
		"nothing":            {change: func(o *Options) { o.Size = 0 }, is: ErrFull},
		"journal":            {change: func(o *Options) { o.Journal = 1 << 20 }, want: "1024 blocks"},
		"large journal":      {change: func(o *Options) { o.Journal = 1 << 30 }, is: ErrFull},
		"block":              {change: func(o *Options) { o.BlockSize = 8192 }, want: "8192"},
		"size":               {change: func(o *Options) { o.Size = 1 << 45 }, want: "2^32-1"},
		"label":              {change: func(o *Options) { o.Label = strings.Repeat("l", 17) }, want: "label"},
		"reserved":           {change: func(o *Options) { o.Reserved = 51 }, want: "51 %"},
		"ratio":              {change: func(o *Options) { o.InodeRatio = 512 }, want: "512 bytes"},
	} {
		o := options(16 << 20)
		if c.change != nil {
			c.change(&o)
		}
		err := Write(t.Context(), discard{}, c.entries, o)
		if err == nil || !strings.Contains(err.Error(), c.want) || c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// discard takes everything.
type discard struct{}

func (discard) WriteAt(b []byte, _ int64) (int, error) { return len(b), nil }

// TestRoom: a file of the size that there is room for fits, and one that is little larger does
// not.
func TestRoom(t *testing.T) {
	t.Parallel()
	for _, block := range []int64{1024, 4096} {
		for _, size := range []int64{16 << 20, 129 << 20, 300<<20 + 12345} {
			o := options(size)
			o.BlockSize = int(block)
			room, files, err := o.Room()
			if err != nil || files < size/16384*9/10 {
				t.Fatalf("%d: %d bytes, %d files, %v", size, room, files, err)
			}
			if err := Write(t.Context(), discard{}, []tree.Entry{pattern{size: room, block: block, nth: 1}.entry("f")}, o); err != nil {
				t.Errorf("%d of %d bytes in blocks of %d: %v", room, size, block, err)
			}
			if err := Write(t.Context(), discard{}, []tree.Entry{pattern{size: room + 4*block, block: block, nth: 1}.entry("f")}, o); !errors.Is(err, ErrFull) {
				t.Errorf("%d of %d bytes in blocks of %d: %v", room+4*block, size, block, err)
			}
		}
	}
	if _, _, err := (Options{Size: 100}).Room(); !errors.Is(err, ErrFull) {
		t.Errorf("got %v", err)
	}
}

// TestFewInodes: the number of files is limited by the inodes.
func TestFewInodes(t *testing.T) {
	t.Parallel()
	o := options(16 << 20)
	o.InodeRatio = 1 << 20
	var entries []tree.Entry
	for i := range 100 {
		entries = append(entries, tree.Dir(fmt.Sprint(i), 0o755))
	}
	if err := Write(t.Context(), discard{}, entries, o); !errors.Is(err, ErrFull) || !regexp.MustCompile(`100 files, inodes for \d+`).MatchString(err.Error()) {
		t.Errorf("got %v", err)
	}
}

type broken struct{ after int }

func (b *broken) WriteAt(p []byte, _ int64) (int, error) {
	if b.after--; b.after < 0 {
		return 0, io.ErrShortWrite
	}
	return len(p), nil
}

// TestErrorsOfTheMedium: each write may fail, and the work may be cancelled.
func TestErrorsOfTheMedium(t *testing.T) {
	t.Parallel()
	entries := []tree.Entry{pattern{size: 3 << 20, block: 4096, nth: 1}.entry("f"), tree.Dir("d", 0o755)}
	writes := 0
	for ; ; writes++ {
		err := Write(t.Context(), &broken{writes}, entries, options(16<<20))
		if err == nil {
			break
		}
		if !errors.Is(err, io.ErrShortWrite) {
			t.Fatalf("write %d: %v", writes, err)
		}
	}
	if writes < 4 {
		t.Errorf("only %d writes", writes)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Write(ctx, discard{}, entries, options(16<<20)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// TestMemory: what is kept grows with the names, not with the content.
func TestMemory(t *testing.T) {
	var before, after runtime.MemStats
	entries := []tree.Entry{pattern{size: 300 << 20, block: 4096, nth: 1}.entry("f")}
	runtime.GC()
	runtime.ReadMemStats(&before)
	if err := Write(t.Context(), discard{}, entries, options(1<<30)); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 8<<20 {
		t.Errorf("%d MiB allocated for one file", got>>20)
	}
}

// TestLargeLinks: targets up to the size of a block.
func TestLargeLinks(t *testing.T) {
	t.Parallel()
	var entries []tree.Entry
	for _, n := range []int{1, 59, 60, 61, 1000, 1023} {
		entries = append(entries, tree.Symlink(fmt.Sprint(n), strings.Repeat("l", n)))
	}
	o := options(16 << 20)
	o.BlockSize = 1024
	img := write(t, o, entries...)
	check(t, img)
	dir, _ := mount(t, img, ",ro")
	for _, e := range entries {
		if got, err := os.Readlink(filepath.Join(dir, e.Name)); got != e.Link || err != nil {
			t.Errorf("%s: %q, %v", e.Name, got, err)
		}
	}
}

// TestGivenRoot: attributes of the root and of lost+found are those of the tree.
func TestGivenRoot(t *testing.T) {
	t.Parallel()
	root, lost := tree.Dir(".", 0o1700|fs.ModeSticky), tree.Dir(lostFound, 0o711)
	root.Mode, root.UID, lost.GID = fs.ModeDir|fs.ModeSticky|0o700, 7, 8
	root.ModTime, lost.ModTime = time.Unix(5, 6).UTC(), time.Unix(7, 8).UTC()
	entries := []tree.Entry{root, tree.Dir("a", 0o755), lost, tree.Bytes(lostFound+"/#12", 0o600, []byte("x"))}
	for i := range entries {
		if entries[i].ModTime.IsZero() {
			entries[i].ModTime = time.Unix(9, 9).UTC()
		}
	}
	img := write(t, options(16<<20), entries...)
	check(t, img)
	dir, _ := mount(t, img, ",ro")
	compare(t, dir, entries)
}

// FuzzWrite has e2fsck judge trees and sizes.
func FuzzWrite(f *testing.F) {
	oracle.Need(f, "e2fsck")
	f.Add(uint64(1), uint16(50), uint64(3))
	f.Add(uint64(1000), uint16(400), uint64(1001))
	f.Fuzz(func(t *testing.T, seed uint64, size uint16, form uint64) {
		o := randomOptions(form)
		img := filepath.Join(t.TempDir(), "img")
		file, err := os.Create(img)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if err := file.Truncate(o.Size); err != nil {
			t.Fatal(err)
		}
		err = Write(t.Context(), file, randomTree(seed, int(size)), o)
		if errors.Is(err, ErrFull) || errors.Is(err, errors.ErrUnsupported) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		check(t, img)
	})
}

// TestEqualHashes: names with the same hash are found on both sides of the border of a node.
func TestEqualHashes(t *testing.T) {
	t.Parallel()
	o := options(16 << 20)
	o.BlockSize = 1024
	hasher := newHasher(o.HashSeed)
	first := map[uint32]uint32{}
	entries := []tree.Entry{tree.Dir("d", 0o755)}
	for i := range uint32(1_200_000) {
		hash, _ := hasher.hash(fmt.Sprintf("%08x", i))
		if other, there := first[hash]; there {
			for _, n := range []uint32{other, i} { // 63 names of this length fill a block
				entries = append(entries, tree.Bytes(fmt.Sprintf("d/%08x", n), 0o644, nil))
			}
			delete(first, hash)
		} else {
			first[hash] = i
		}
	}
	if len(entries) < 300 {
		t.Fatalf("only %d names", len(entries))
	}
	o.InodeRatio = 4096
	img := write(t, o, entries...)
	check(t, img)
	dir, _ := mount(t, img, ",ro")
	for i := range entries {
		if _, err := os.Lstat(filepath.Join(dir, entries[i].Name)); err != nil {
			t.Error(err)
		}
	}
}
