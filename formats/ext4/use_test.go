package ext4

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/formats/tree"
)

// used is a file system of random trees that has been written to by the kernel.
func used(t *testing.T, o Options) (img, dir string, unmount func()) {
	t.Helper()
	entries := []tree.Entry{tree.Dir("many", 0o755)}
	for i := range 2000 {
		entries = append(entries, tree.Bytes(fmt.Sprintf("many/%d", i), 0o644, []byte("content")))
	}
	entries = append(entries, tree.Dir("of", 0o755))
	for _, e := range randomTree(3, 200) {
		if e.Name == "." {
			continue
		}
		if e.Name = "of/" + e.Name; e.HardLink != "" {
			e.HardLink = "of/" + e.HardLink
		}
		entries = append(entries, e)
	}
	img = write(t, o, entries...)
	dir, unmount = mount(t, img, "")
	return img, dir, unmount
}

// change has the kernel change all that the writer makes: directories with an index, trees of
// extents, attributes in inodes and blocks, files with several names.
func change(t *testing.T, dir string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.RemoveAll(filepath.Join(dir, "of")))
	for i := range 3000 {
		name := filepath.Join(dir, "many", strings.Repeat("new", i%30)+fmt.Sprint(i))
		must(os.WriteFile(name, []byte(strings.Repeat("x", i)), 0o644))
		if i%2 == 0 {
			must(unix.Setxattr(name, "user.name", []byte(strings.Repeat("v", i%600)), 0))
		}
		if i%3 == 0 {
			must(os.Link(name, name+"-2"))
		}
		if i < 2000 && i%5 != 0 {
			must(os.Remove(filepath.Join(dir, "many", fmt.Sprint(i))))
		}
	}
	f, err := os.Create(filepath.Join(dir, "fragments"))
	must(err)
	for i := range int64(600) {
		_, err := f.WriteAt([]byte("x"), i*3*4096)
		must(err)
	}
	must(f.Close())
	must(os.Truncate(filepath.Join(dir, "fragments"), 3_000_000))
	must(os.MkdirAll(filepath.Join(dir, "a/b/c"), 0o755))
	must(os.WriteFile(filepath.Join(dir, lostFound, "x"), nil, 0o644))
}

// TestWrittenTo: the kernel changes a new file system.
func TestWrittenTo(t *testing.T) {
	t.Parallel()
	for _, block := range []int{1024, 4096} {
		o := options(64 << 20)
		o.BlockSize, o.InodeRatio = block, 8192
		img, dir, unmount := used(t, o)
		change(t, dir)
		unmount()
		check(t, img)
	}
}

// TestGrows: a new file system grows while it is mounted, by resize2fs, far beyond its first
// descriptors; and before it is mounted.
func TestGrows(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		block    int
		from, to int64
		mounted  bool
	}{{1024, 40 << 20, 3 << 30, true}, {4096, 64 << 20, 20 << 30, true}, {4096, 64 << 20, 40 << 30, false}, {1024, 20 << 20, 600 << 20, false}} {
		t.Run(fmt.Sprintf("%d mounted %v", c.block, c.mounted), func(t *testing.T) {
			if c.mounted {
				needGrowth(t)
			}
			o := options(c.from)
			o.BlockSize, o.InodeRatio = c.block, 4096
			img, dir, unmount := used(t, o)
			if err := os.Truncate(img, c.to); err != nil {
				t.Fatal(err)
			}
			if c.mounted {
				device := strings.Fields(command(t, "findmnt", "-no", "SOURCE", dir))[0]
				command(t, "losetup", "-c", device)
				command(t, "resize2fs", device)
			} else {
				unmount()
				command(t, "e2fsck", "-fp", img) // resize2fs wants it
				command(t, "resize2fs", img)
				dir, unmount = mount(t, img, "")
			}
			change(t, dir)
			var st unix.Statfs_t
			if err := unix.Statfs(dir, &st); err != nil || int64(st.Blocks)*st.Bsize < c.to*9/10 {
				t.Errorf("%d MiB, %v", int64(st.Blocks)*st.Bsize>>20, err)
			}
			if names, err := fs.Glob(os.DirFS(dir), "many/*"); len(names) < 3000 || err != nil {
				t.Errorf("%d names, %v", len(names), err)
			}
			unmount()
			check(t, img)
		})
	}
}

// needGrowth skips a test that grows a mounted file system where the kernel does not allow it.
func needGrowth(t *testing.T) {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`CapEff:\s+([0-9a-f]+)`).FindSubmatch(status)
	if m == nil {
		t.Fatal("no capabilities in /proc/self/status")
	}
	caps, err := strconv.ParseUint(string(m[1]), 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	if caps>>unix.CAP_SYS_RESOURCE&1 == 0 {
		t.Skip("growing while mounted needs CAP_SYS_RESOURCE; the virtual machine tests of runtime/init do it")
	}
}
