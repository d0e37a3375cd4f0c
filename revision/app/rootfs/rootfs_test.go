package rootfs

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/formats/squashfs"
	formatstree "github.com/pantavisor/pantavisor/formats/tree"
	"github.com/pantavisor/pantavisor/internal/oracle"
)

// m is one member of a test archive: "path", "path/" for a directory,
// "path -> target" for a symbolic link, "path = target" for a hard link.
type m struct {
	name string
	data string
	mod  func(*tar.Header)
}

func layer(t testing.TB, members ...m) io.Reader {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		h := &tar.Header{Name: m.name, Mode: 0o644, Size: int64(len(m.data)), ModTime: time.Unix(1_600_000_000, 0), Format: tar.FormatPAX, Typeflag: tar.TypeReg}
		if strings.HasSuffix(m.name, "/") {
			h.Typeflag, h.Mode = tar.TypeDir, 0o755
		}
		if name, target, ok := strings.Cut(m.name, " -> "); ok {
			h.Name, h.Linkname, h.Typeflag, h.Mode = name, target, tar.TypeSymlink, 0o777
		}
		if name, target, ok := strings.Cut(m.name, " = "); ok {
			h.Name, h.Linkname, h.Typeflag = name, target, tar.TypeLink
		}
		if m.mod != nil {
			m.mod(h)
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, m.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

func compose(t testing.TB, layers ...io.Reader) *Tree {
	t.Helper()
	tree, err := New(t.TempDir(), 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tree.Close() })
	for _, l := range layers {
		if err := tree.ApplyLayer(context.Background(), l); err != nil {
			t.Fatal(err)
		}
	}
	return tree
}

// list shows a tree as "path: content" lines.
func list(t testing.TB, tree *Tree) []string {
	t.Helper()
	var lines []string
	var walk func(name string, n *inode)
	walk = func(name string, n *inode) {
		switch {
		case n.isDir():
			if len(n.children) == 0 {
				lines = append(lines, name+"/")
			}
			for child, c := range n.children {
				walk(strings.TrimPrefix(name+"/"+child, "/"), c)
			}
		case n.Link != "" && n.Mode&fs.ModeSymlink != 0:
			lines = append(lines, name+" -> "+n.Link)
		case n.Mode.IsRegular():
			r, err := tree.open(n)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			b, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			lines = append(lines, name+": "+string(b))
		default:
			lines = append(lines, fmt.Sprintf("%s %v %d,%d", name, n.Mode, n.Major, n.Minor))
		}
	}
	walk("", tree.root)
	slices.Sort(lines)
	return lines
}

func TestLayers(t *testing.T) {
	base := []m{{name: "etc/"}, {name: "etc/a", data: "1"}, {name: "etc/b", data: "2"}, {name: "usr/lib/x", data: "x"}, {name: "lib -> usr/lib"}}
	for name, c := range map[string]struct {
		top  []m
		want []string
	}{
		"replace":                 {[]m{{name: "etc/a", data: "new"}}, []string{"etc/a: new", "etc/b: 2", "lib -> usr/lib", "usr/lib/x: x"}},
		"whiteout":                {[]m{{name: "etc/.wh.a"}}, []string{"etc/b: 2", "lib -> usr/lib", "usr/lib/x: x"}},
		"whiteout of a directory": {[]m{{name: ".wh.etc"}}, []string{"lib -> usr/lib", "usr/lib/x: x"}},
		"whiteout of nothing":     {[]m{{name: "etc/.wh.zz"}}, []string{"etc/a: 1", "etc/b: 2", "lib -> usr/lib", "usr/lib/x: x"}},
		"opaque":                  {[]m{{name: "etc/.wh..wh..opq"}, {name: "etc/c", data: "3"}}, []string{"etc/c: 3", "lib -> usr/lib", "usr/lib/x: x"}},
		"opaque after its files":  {[]m{{name: "etc/c", data: "3"}, {name: "etc/.wh..wh..opq"}}, []string{"etc/c: 3", "lib -> usr/lib", "usr/lib/x: x"}},
		"whiteout after the file": {[]m{{name: "etc/a", data: "new"}, {name: "etc/.wh.a"}}, []string{"etc/a: new", "etc/b: 2", "lib -> usr/lib", "usr/lib/x: x"}},
		"through a link":          {[]m{{name: "lib/y", data: "y"}}, []string{"etc/a: 1", "etc/b: 2", "lib -> usr/lib", "usr/lib/x: x", "usr/lib/y: y"}},
		"file becomes directory":  {[]m{{name: "etc/a/"}, {name: "etc/a/in", data: "i"}}, []string{"etc/a/in: i", "etc/b: 2", "lib -> usr/lib", "usr/lib/x: x"}},
		"directory becomes file":  {[]m{{name: "etc", data: "e"}}, []string{"etc: e", "lib -> usr/lib", "usr/lib/x: x"}},
		"directory becomes link":  {[]m{{name: "etc -> /usr"}}, []string{"etc -> /usr", "lib -> usr/lib", "usr/lib/x: x"}},
		"hard link to below":      {[]m{{name: "etc/h = etc/a"}}, []string{"etc/a: 1", "etc/b: 2", "etc/h: 1", "lib -> usr/lib", "usr/lib/x: x"}},
		"leading dot":             {[]m{{name: "./etc/a", data: "dot"}}, []string{"etc/a: dot", "etc/b: 2", "lib -> usr/lib", "usr/lib/x: x"}},
		"absolute is taken below": {[]m{{name: "/etc/a", data: "abs"}}, []string{"etc/a: abs", "etc/b: 2", "lib -> usr/lib", "usr/lib/x: x"}},
	} {
		t.Run(name, func(t *testing.T) {
			tree := compose(t, layer(t, base...), layer(t, c.top...))
			if d := cmp.Diff(c.want, list(t, tree)); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
		})
	}
}

// TestMembersInAnyOrder applies each layer with its members in every order: whiteouts
// are about the layers below, wherever they are in the archive.
func TestMembersInAnyOrder(t *testing.T) {
	private := func(h *tar.Header) { h.Mode = 0o700 }
	base := []m{{name: "a/", mod: private}, {name: "a/f", data: "1"}, {name: "a/g", data: "1"}, {name: "l -> a"}, {name: "d/"}, {name: "d/x", data: "1"}}
	for name, c := range map[string]struct {
		top  []m
		want []string
	}{
		"directory made anew":      {[]m{{name: ".wh.a"}, {name: "a/new", data: "2"}}, []string{"a/ 755", "a/new 644", "d/ 755", "d/x 644", "l 777"}},
		"opaque":                   {[]m{{name: "a/.wh..wh..opq"}, {name: "a/f", data: "2"}}, []string{"a/ 700", "a/f 644", "d/ 755", "d/x 644", "l 777"}},
		"link becomes a directory": {[]m{{name: ".wh.l"}, {name: "l/in", data: "2"}}, []string{"a/ 700", "a/f 644", "a/g 644", "d/ 755", "d/x 644", "l/ 755", "l/in 644"}},
		"through a link":           {[]m{{name: "l/.wh.f"}, {name: ".wh.d"}, {name: "l/.wh.none"}}, []string{"a/ 700", "a/g 644", "l 777"}},
		"nothing there":            {[]m{{name: "no/where/.wh.f"}, {name: "none/.wh..wh..opq"}, {name: "d/x/.wh.y"}}, []string{"a/ 700", "a/f 644", "a/g 644", "d/ 755", "d/x 644", "l 777"}},
		"left by AUFS":             {[]m{{name: ".wh..wh.aufs", data: "x"}, {name: ".wh..wh.orph/"}, {name: ".wh..wh.plnk/"}, {name: "d/.wh..wh.other/deep", data: "x"}}, []string{"a/ 700", "a/f 644", "a/g 644", "d/ 755", "d/x 644", "l 777"}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, top := range permutations(c.top) {
				tree := compose(t, layer(t, base...), layer(t, top...))
				if d := cmp.Diff(c.want, modes("", tree.root)); d != "" {
					t.Errorf("%v: -want +got:\n%s", top, d)
				}
			}
		})
	}
}

// permutations returns a list in every order.
func permutations(list []m) [][]m {
	if len(list) < 2 {
		return [][]m{list}
	}
	var out [][]m
	for i := range list {
		rest := slices.Concat(list[:i], list[i+1:])
		for _, p := range permutations(rest) {
			out = append(out, append([]m{list[i]}, p...))
		}
	}
	return out
}

// modes lists names with their permissions.
func modes(at string, n *inode) []string {
	var lines []string
	for name, c := range n.children {
		name := at + name
		if c.isDir() {
			name += "/"
		}
		lines = append(lines, fmt.Sprintf("%s %o", name, c.Mode.Perm()))
		lines = append(lines, modes(name, c)...)
	}
	slices.Sort(lines)
	return lines
}

func TestHardLinksOfAUFS(t *testing.T) {
	tree := compose(t, layer(t, m{name: ".wh..wh.plnk/"}, m{name: ".wh..wh.plnk/123.45", data: "both"}, m{name: "a = .wh..wh.plnk/123.45"}, m{name: "b = /.wh..wh.plnk/123.45"}))
	if d := cmp.Diff([]string{"a: both", "b: both"}, list(t, tree)); d != "" {
		t.Error(d)
	}
	if tree.root.children["a"] != tree.root.children["b"] {
		t.Error("the names are of two files")
	}
}

func TestForeignAttributesArePassedOver(t *testing.T) {
	with := func(names ...string) func(*tar.Header) {
		return func(h *tar.Header) {
			h.PAXRecords = map[string]string{}
			for _, n := range names {
				h.PAXRecords["SCHILY.xattr."+n] = "x"
			}
		}
	}
	tree := compose(t, layer(t, m{name: "log/", mod: with("system.posix_acl_default")}, m{name: "log/a", mod: with("com.apple.provenance", "user.kept", "user.")}))
	if got := tree.Passed(); got != `system.posix_acl_default of "log/" and 2 more` {
		t.Errorf("passed over: %s", got)
	}
	got := tree.root.children["log"].children["a"].Xattrs
	if d := cmp.Diff(map[string][]byte{"user.kept": []byte("x")}, got); d != "" {
		t.Error(d)
	}
	mountTree(t, tree)
}

// TestHolesTakeNoSpace spools the members of a sparse archive.
func TestHolesTakeNoSpace(t *testing.T) {
	const size = 64 << 20
	tree := compose(t, layer(t, m{name: "hole", data: string(make([]byte, size)) + "end"}, m{name: "zeros", data: string(make([]byte, 1<<20))}, m{name: "last", data: "x"}))
	var st unix.Stat_t
	if err := unix.Fstat(int(tree.spool.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	if st.Blocks*512 > 1<<20 {
		t.Errorf("the spool takes %d bytes", st.Blocks*512)
	}
	want := []string{"hole: " + string(make([]byte, size)) + "end", "last: x", "zeros: " + string(make([]byte, 1<<20))}
	if !slices.Equal(list(t, tree), want) {
		t.Error("contents differ")
	}
}

func TestHostileMembers(t *testing.T) {
	for name, c := range map[string]struct {
		members []m
		want    string
	}{
		"parent":            {[]m{{name: "../x", data: "x"}}, "../x"},
		"parent inside":     {[]m{{name: "a/../../x", data: "x"}}, "leads out"},
		"hard link out":     {[]m{{name: "x = ../../etc/passwd"}}, "leads out"},
		"hard link nowhere": {[]m{{name: "x = y"}}, "not a file before it"},
		"link loop":         {[]m{{name: "a -> b"}, {name: "b -> a"}, {name: "a/x", data: "x"}}, "too many symbolic links"},
		"below a file":      {[]m{{name: "a", data: "x"}, {name: "a/b", data: "x"}}, "not a directory"},
		"device range":      {[]m{{name: "d", mod: func(h *tar.Header) { h.Typeflag, h.Devmajor = tar.TypeChar, 1<<13 }}}, "out of range"},
		"nameless whiteout": {[]m{{name: "etc/.wh."}}, "no name"},
	} {
		t.Run(name, func(t *testing.T) {
			tree := compose(t)
			err := tree.ApplyLayer(context.Background(), layer(t, c.members...))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
	outside := compose(t, layer(t, m{name: "up -> ../../.."}, m{name: "up/x", data: "in"}))
	if d := cmp.Diff([]string{"up -> ../../..", "x: in"}, list(t, outside)); d != "" {
		t.Errorf("a link above the root leads elsewhere than to the root:\n%s", d)
	}
}

func TestBombIsRefused(t *testing.T) {
	tree, err := New(t.TempDir(), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	err = tree.ApplyLayer(context.Background(), layer(t, m{name: "zeros", data: strings.Repeat("\x00", 1<<20+1)}))
	if err == nil || !strings.Contains(err.Error(), "zeros") {
		t.Errorf("error %v, want one that names the member", err)
	}
	truncated := layer(t, m{name: "f", data: strings.Repeat("x", 2000)}).(*bytes.Buffer)
	truncated.Truncate(1000)
	if err := tree.ApplyLayer(context.Background(), truncated); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("truncated layer: error %v, want unexpected EOF", err)
	}
}

func TestNamesAreBounded(t *testing.T) {
	tree := compose(t)
	tree.names = maxNames - 1
	err := tree.ApplyLayer(context.Background(), layer(t, m{name: "last", data: "x"}, m{name: "one more", data: "x"}))
	if err == nil || !strings.Contains(err.Error(), "one more") {
		t.Errorf("error %v, want one that names the member", err)
	}
}

func mountTree(t *testing.T, tree *Tree) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "image"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := tree.WriteSquashfs(context.Background(), f, squashfs.Options{}, formatstree.Normal{}); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	run(t, "mount", "-t", "squashfs", "-o", "loop,ro", f.Name(), dir)
	t.Cleanup(func() { run(t, "umount", dir) })
	return dir
}

func run(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

func TestAttributesReachTheKernel(t *testing.T) {
	tree := compose(t, layer(t,
		m{name: "tool", data: "#!", mod: func(h *tar.Header) { h.Mode, h.Uid, h.Gid = 0o6755, 12, 34 }},
		m{name: "alias = tool"},
		m{name: "sticky/", mod: func(h *tar.Header) { h.Mode = 0o1777 }},
		m{name: "null", mod: func(h *tar.Header) { h.Typeflag, h.Devmajor, h.Devminor = tar.TypeChar, 1, 3 }},
		m{name: "ping", data: "p", mod: func(h *tar.Header) {
			h.PAXRecords = map[string]string{"SCHILY.xattr.user.note": "hi"}
		}},
	))
	if err := tree.EnsureDirectories("proc", "var/run"); err != nil {
		t.Fatal(err)
	}
	dir := mountTree(t, tree)
	var tool, alias unix.Stat_t
	if err := errors.Join(unix.Lstat(filepath.Join(dir, "tool"), &tool), unix.Lstat(filepath.Join(dir, "alias"), &alias)); err != nil {
		t.Fatal(err)
	}
	if tool.Mode&0o7777 != 0o6755 || tool.Uid != 12 || tool.Gid != 34 || tool.Ino != alias.Ino || tool.Mtim.Sec != 1_600_000_000 {
		t.Errorf("tool: mode %o owner %d:%d inode %d time %d; alias has inode %d", tool.Mode, tool.Uid, tool.Gid, tool.Ino, tool.Mtim.Sec, alias.Ino)
	}
	note := make([]byte, 10)
	if n, err := unix.Lgetxattr(filepath.Join(dir, "ping"), "user.note", note); err != nil || string(note[:n]) != "hi" {
		t.Errorf("user.note: %q, %v", note, err)
	}
	for name, mode := range map[string]fs.FileMode{"sticky": fs.ModeDir | fs.ModeSticky | 0o777, "null": fs.ModeDevice | fs.ModeCharDevice | 0o644, "proc": fs.ModeDir | 0o755, "var/run": fs.ModeDir | 0o755} {
		if info, err := os.Lstat(filepath.Join(dir, name)); err != nil || info.Mode() != mode {
			t.Errorf("%s: %v, %v; want mode %v", name, info, err, mode)
		}
	}
}

// TestOverlayOverBaseShowsTheNewTree lets the kernel put the overlay over the base
// and compares with the tree that was wanted.
func TestOverlayOverBaseShowsTheNewTree(t *testing.T) {
	common := []m{{name: "same", data: "s"}, {name: "dir/"}, {name: "dir/kept", data: "k"}, {name: "l -> same"}}
	base := compose(t, layer(t, append(common, m{name: "gone", data: "g"}, m{name: "dir/gone", data: "g"}, m{name: "changed", data: "old"},
		m{name: "mode", data: "m"}, m{name: "owner", data: "o"}, m{name: "link -> same"}, m{name: "f2d", data: "f"}, m{name: "d2f/"}, m{name: "d2f/x", data: "x"})...))
	want := compose(t, layer(t, append(common, m{name: "new/deep/file", data: "n"}, m{name: "changed", data: "new"},
		m{name: "mode", data: "m", mod: func(h *tar.Header) { h.Mode = 0o600 }}, m{name: "owner", data: "o", mod: func(h *tar.Header) { h.Uid = 5 }},
		m{name: "link -> dir"}, m{name: "f2d/"}, m{name: "f2d/in", data: "i"}, m{name: "d2f", data: "file"})...))
	over, err := want.Overlay(context.Background(), base)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(list(t, over), "\n"); strings.Contains(got, "same: s") || strings.Contains(got, "kept") {
		t.Errorf("the overlay repeats what did not change:\n%s", got)
	}
	lower, upper, merged, wanted := mountTree(t, base), mountTree(t, over), t.TempDir(), mountTree(t, want)
	run(t, "mount", "-t", "overlay", "overlay", "-o", "ro,lowerdir="+upper+":"+lower, merged)
	t.Cleanup(func() { run(t, "umount", merged) })
	if d := cmp.Diff(stats(t, wanted), stats(t, merged)); d != "" {
		t.Errorf("-want +merged:\n%s", d)
	}
	run(t, "diff", "-r", "--no-dereference", wanted, merged)
	none, err := want.Overlay(context.Background(), want)
	if err != nil || len(list(t, none)) != 1 {
		t.Errorf("overlay of a tree over itself: %v, %v; want nothing", list(t, none), err)
	}
}

func stats(t testing.TB, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		found[strings.TrimPrefix(p, dir)] = fmt.Sprintf("%o %d:%d", st.Mode, st.Uid, st.Gid)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestAddDirectory(t *testing.T) {
	src := t.TempDir()
	for name, data := range map[string]string{"a/b/c": "deep", "top": "t"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(src, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(src, name), []byte(data), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Link(filepath.Join(src, "top"), filepath.Join(src, "hard")), os.Symlink("top", filepath.Join(src, "soft"))); err != nil {
		t.Fatal(err)
	}
	attributes := unix.Lsetxattr(filepath.Join(src, "top"), "trusted.note", []byte("n"), 0) == nil
	tree := compose(t)
	if err := tree.AddDirectory(context.Background(), src); err != nil {
		t.Fatal(err)
	}
	if got := string(tree.root.children["top"].Xattrs["trusted.note"]); attributes && got != "n" {
		t.Errorf("the extended attribute is %q", got)
	}
	acl := []byte{2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255, 4, 0, 5, 0, 255, 255, 255, 255, 32, 0, 5, 0, 255, 255, 255, 255}
	if unix.Lsetxattr(filepath.Join(src, "a"), "system.posix_acl_default", acl, 0) == nil {
		other := compose(t)
		if err := other.AddDirectory(context.Background(), src); err != nil || other.Passed() != `system.posix_acl_default of "a"` {
			t.Errorf("the access control list is passed over as %q: %v", other.Passed(), err)
		}
	}
	if d := cmp.Diff([]string{"a/b/c: deep", "hard: t", "soft -> top", "top: t"}, list(t, tree)); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	if tree.root.children["hard"] != tree.root.children["top"] {
		t.Error("hard link became a copy")
	}
	tree.Remove("a/b")
	tree.Remove("missing/x")
	if d := cmp.Diff([]string{"a/", "hard: t", "soft -> top", "top: t"}, list(t, tree)); d != "" {
		t.Errorf("after Remove, -want +got:\n%s", d)
	}
}

func FuzzApplyLayer(f *testing.F) {
	seed := layer(f, m{name: "a/"}, m{name: "a/.wh..wh..opq"}, m{name: "a/b", data: "x"}, m{name: "c = a/b"}, m{name: "d -> ../a"}, m{name: "d/e", data: "y"})
	b, err := io.ReadAll(seed)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, data []byte) {
		tree, err := New(t.TempDir(), 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		defer tree.Close()
		if tree.ApplyLayer(context.Background(), bytes.NewReader(data)) != nil {
			return
		}
		out, err := os.Create(filepath.Join(t.TempDir(), "i"))
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		// Whatever was accepted can be written, except for names, links and
		// attributes beyond squashfs itself.
		if err := tree.WriteSquashfs(context.Background(), out, squashfs.Options{Level: 1, Workers: 1}, formatstree.Normal{}); err != nil && !strings.Contains(err.Error(), "adding") {
			t.Error(err)
		}
	})
}

// TestCpioOfTheSystem reads what GNU cpio writes: the content of a file with several names is
// with the last of them.
func TestCpioOfTheSystem(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a"), []byte("content"), 0o640); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"b", "c"} {
		if err := os.Link(filepath.Join(dir, "a"), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	oracle.Need(t, "cpio")
	cmd := exec.CommandContext(t.Context(), "sh", "-c", "find . | LC_ALL=C sort | cpio -o -H newc --quiet")
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	tree, err := New(t.TempDir(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	if err := tree.AddCpio(t.Context(), bytes.NewReader(out)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b", "c"} {
		if text, err := tree.ReadFile(name, 100); string(text) != "content" || err != nil {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
	first, _ := tree.find("a")
	if last, _ := tree.find("c"); first != last || first.names != 3 {
		t.Errorf("a and c are different files, or one with %d names", first.names)
	}
	if err := tree.AddCpio(t.Context(), bytes.NewReader(out[:len(out)/3])); err == nil {
		t.Error("an archive that is cut short is read")
	}
}
