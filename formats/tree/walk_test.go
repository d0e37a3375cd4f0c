package tree_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/formats/tree"
)

func put(t testing.TB, file, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o644)); err != nil {
		t.Fatal(err)
	}
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func collect(t testing.TB, dir string, o tree.Options) []tree.Entry {
	t.Helper()
	var out []tree.Entry
	must(t, tree.Walk(t.Context(), dir, o, func(e tree.Entry) error { out = append(out, e); return nil }))
	return out
}

func content(t testing.TB, e tree.Entry) string {
	t.Helper()
	r, err := e.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	must(t, err)
	return string(text)
}

// line shows what an entry says.
func line(t testing.TB, e tree.Entry) string {
	s := fmt.Sprintf("%q %v", e.Name, e.Mode)
	if e.Open != nil {
		s += fmt.Sprintf(" %d:%s", e.Size, content(t, e))
	}
	if e.Link != "" {
		s += " -> " + e.Link
	}
	if e.HardLink != "" {
		s += " = " + e.HardLink
	}
	return s
}

// hostile makes a directory with everything that a name can stand for.
func hostile(t testing.TB) string {
	dir := t.TempDir()
	put(t, filepath.Join(dir, "new\nline"), "n")
	put(t, filepath.Join(dir, "bytes \xff\xfe"), "b")
	put(t, filepath.Join(dir, "d/-first"), "hard")
	put(t, filepath.Join(dir, "d.x"), "x")
	must(t, os.Link(filepath.Join(dir, "d/-first"), filepath.Join(dir, "d/again")),
		os.Symlink("/etc/passwd", filepath.Join(dir, "out")), os.Symlink(strings.Repeat("t/", 2000), filepath.Join(dir, "long")),
		os.Symlink(".", filepath.Join(dir, "d/loop")), os.Link(filepath.Join(dir, "out"), filepath.Join(dir, "out2")),
		unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600), os.Mkdir(filepath.Join(dir, "locked"), 0o700))
	must(t, os.Chmod(filepath.Join(dir, "pipe"), 0o600), os.Chmod(dir, 0o750), os.Chmod(filepath.Join(dir, "d.x"), fs.ModeSetuid|0o755))
	return dir
}

func TestWalkFindsEveryKind(t *testing.T) {
	t.Parallel()
	dir := hostile(t)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "socket"), Net: "unix"})
	must(t, err)
	defer l.Close()
	must(t, os.Chmod(filepath.Join(dir, "socket"), 0o755))
	var got []string
	for _, e := range collect(t, dir, tree.Options{}) {
		got = append(got, line(t, e))
	}
	want := []string{
		`"." drwxr-x---`, `"bytes \xff\xfe" -rw-r--r-- 1:b`, `"d" drwxr-xr-x`, `"d/-first" -rw-r--r-- 4:hard`,
		`"d/again" -rw-r--r-- 4:hard = d/-first`, `"d/loop" Lrwxrwxrwx -> .`, `"d.x" urwxr-xr-x 1:x`, `"locked" drwx------`,
		`"long" Lrwxrwxrwx -> ` + strings.Repeat("t/", 2000), `"new\nline" -rw-r--r-- 1:n`, `"out" Lrwxrwxrwx -> /etc/passwd`,
		`"out2" Lrwxrwxrwx -> /etc/passwd = out`, `"pipe" prw-------`, `"socket" Srwxr-xr-x`,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

func TestWalkTakesOwnerTimeAndAttributes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "f")
	put(t, file, "x")
	at := time.Unix(1_234_567_890, 5000)
	must(t, os.Chtimes(file, at, at))
	if err := unix.Lsetxattr(file, "user.note", []byte("hello"), 0); err != nil {
		t.Skipf("the file system for temporary files has no extended attributes: %v", err)
	}
	must(t, unix.Lsetxattr(file, "user.empty", nil, 0), unix.Lsetxattr(dir, "user.dir", []byte("d"), 0))
	all := collect(t, dir, tree.Options{Xattrs: true})
	if d := cmp.Diff(map[string][]byte{"user.note": []byte("hello"), "user.empty": {}}, all[1].Xattrs); d != "" {
		t.Error(d)
	}
	if string(all[0].Xattrs["user.dir"]) != "d" || !all[1].ModTime.Equal(at) || all[1].UID != uint32(os.Getuid()) {
		t.Errorf("root %v, file of %v and %d", all[0].Xattrs, all[1].ModTime, all[1].UID)
	}
	if got := collect(t, dir, tree.Options{})[1].Xattrs; got != nil {
		t.Errorf("attributes that nobody asked for: %v", got)
	}
}

func TestWalkKnowsDevices(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := unix.Mknod(filepath.Join(dir, "null"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))); err != nil {
		t.Skipf("making a device node needs root: %v", err)
	}
	e := collect(t, dir, tree.Options{})[1]
	if e.Mode != fs.ModeDevice|fs.ModeCharDevice|0o600 || e.Major != 1 || e.Minor != 3 || e.Open != nil {
		t.Errorf("%v %d:%d", e.Mode, e.Major, e.Minor)
	}
}

// TestExchangedFileIsNotRead changes a name between the walk and the reading: while
// the directory is open, and when it is closed again.
func TestExchangedFileIsNotRead(t *testing.T) {
	t.Parallel()
	secret := filepath.Join(t.TempDir(), "secret")
	put(t, secret, "secret")
	for name, exchange := range map[string]func(dir string) error{
		"link to a file outside": func(dir string) error { return os.Symlink(secret, filepath.Join(dir, "sub/f")) },
		"link to a file inside":  func(dir string) error { return os.Symlink("../other", filepath.Join(dir, "sub/f")) },
		"FIFO":                   func(dir string) error { return unix.Mkfifo(filepath.Join(dir, "sub/f"), 0o600) },
		"other file":             func(dir string) error { return os.WriteFile(filepath.Join(dir, "sub/f"), []byte("new"), 0o600) },
		"directory to a link": func(dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, "sub")), os.Symlink(filepath.Dir(secret), filepath.Join(dir, "sub")),
				os.WriteFile(filepath.Join(filepath.Dir(secret), "f"), []byte("secret"), 0o600))
		},
	} {
		for _, during := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/%v", name, during), func(t *testing.T) {
				dir := t.TempDir()
				put(t, filepath.Join(dir, "sub/f"), "text")
				put(t, filepath.Join(dir, "other"), "other")
				kept := filepath.Join(t.TempDir(), "kept") // so that its inode is not used again
				must(t, os.Link(filepath.Join(dir, "sub/f"), kept))
				swap := func() { must(t, os.Remove(filepath.Join(dir, "sub/f")), exchange(dir)) }
				var file tree.Entry
				opened := func() {
					r, err := file.Open()
					if err == nil {
						text, _ := io.ReadAll(r)
						t.Errorf("it was read: %q", text)
						r.Close()
					}
				}
				must(t, tree.Walk(t.Context(), dir, tree.Options{}, func(e tree.Entry) error {
					if e.Name == "sub/f" {
						file = e
						if during {
							swap()
							opened()
						}
					}
					return nil
				}))
				if !during {
					swap()
					opened()
				}
			})
		}
	}
}

func TestExchangedDirectoryIsNotWalked(t *testing.T) {
	t.Parallel()
	outside := t.TempDir()
	put(t, filepath.Join(outside, "secret"), "secret")
	for name, exchange := range map[string]func(dir string) error{
		"link":            func(dir string) error { return os.Symlink(outside, filepath.Join(dir, "sub")) },
		"other directory": func(dir string) error { return os.Rename(outside, filepath.Join(dir, "sub")) },
	} {
		dir := t.TempDir()
		put(t, filepath.Join(dir, "sub/f"), "text")
		err := tree.Walk(t.Context(), dir, tree.Options{}, func(e tree.Entry) error {
			if e.Name == "sub" {
				return errors.Join(os.Rename(filepath.Join(dir, "sub"), filepath.Join(t.TempDir(), "moved")), exchange(dir))
			}
			if e.Name != "." {
				t.Errorf("%s: found %s", name, e.Name)
			}
			return nil
		})
		if err == nil || !strings.Contains(err.Error(), `"sub"`) {
			t.Errorf("%s: error %v, want one that names the directory", name, err)
		}
	}
}

func TestContentIsReadLater(t *testing.T) {
	t.Parallel()
	dir := hostile(t)
	entries, err := tree.Read(t.Context(), dir, tree.Options{})
	must(t, err)
	for _, e := range entries {
		if e.Name == "d/again" && content(t, e) != "hard" {
			t.Error("content is another")
		}
	}
	if slices.Contains(names(entries), ".") {
		t.Error("Read returns the root")
	}
	e, err := tree.File(filepath.Join(dir, "d/again"), "n")
	must(t, err)
	if e.Name != "n" || content(t, e) != "hard" {
		t.Errorf("File: %q", line(t, e))
	}
	if e, err := tree.File(filepath.Join(dir, "out"), "n"); err != nil || line(t, e) != `"n" Lrwxrwxrwx -> /etc/passwd` {
		t.Errorf("File of a link: %q, %v", line(t, e), err)
	}
}

func TestWalkEndsWithTheFirstError(t *testing.T) {
	t.Parallel()
	dir := hostile(t)
	own := errors.New("own")
	calls := 0
	err := tree.Walk(t.Context(), dir, tree.Options{}, func(tree.Entry) error { calls++; return own })
	if !errors.Is(err, own) || calls != 1 {
		t.Errorf("%v after %d calls", err, calls)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = tree.Walk(ctx, dir, tree.Options{}, func(tree.Entry) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	for _, missing := range []string{filepath.Join(dir, "gone"), filepath.Join(dir, "d.x")} {
		if err := tree.Walk(t.Context(), missing, tree.Options{}, func(tree.Entry) error { return nil }); err == nil || !strings.Contains(err.Error(), missing) {
			t.Errorf("%s: error %v", missing, err)
		}
	}
}

func TestUnreadableDirectoryIsNamed(t *testing.T) {
	if os.Getuid() == 0 {
		// Root reads everything: a name that goes while its directory is read stands
		// for one that cannot be.
		dir := t.TempDir()
		put(t, filepath.Join(dir, "a"), "")
		put(t, filepath.Join(dir, "b"), "")
		err := tree.Walk(t.Context(), dir, tree.Options{}, func(e tree.Entry) error {
			if e.Name == "a" {
				return os.Remove(filepath.Join(dir, "b"))
			}
			return nil
		})
		if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), `"b"`) {
			t.Errorf("error %v, want one that names the file", err)
		}
		return
	}
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "sub/locked"), 0o755), os.Chmod(filepath.Join(dir, "sub/locked"), 0))
	err := tree.Walk(t.Context(), dir, tree.Options{}, func(tree.Entry) error { return nil })
	if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "sub/locked") {
		t.Errorf("error %v, want one that names the directory", err)
	}
}

// FuzzWalk builds a directory from bytes, three for each name, and compares what is
// found with what was made.
func FuzzWalk(f *testing.F) {
	f.Add([]byte("abcdefghijklmnopqrstuvwxyz"))
	f.Add([]byte{0, 0xff, 3, 1, '\n', 2, 2, 0x80, 0, 3, 5, 5, 4, 7, 7})
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		made := map[string]string{".": "d"}
		for ; len(data) >= 3 && len(made) < 60; data = data[3:] {
			parents := slices.DeleteFunc(slices.Sorted(maps.Keys(made)), func(n string) bool { return made[n] != "d" })
			base := "n" + string(data[1:2]) + string(data[0]%8+'0')
			name := filepath.Join(parents[int(data[2])%len(parents)], base)
			if strings.ContainsAny(base, "\x00/") || made[name] != "" {
				continue
			}
			makeOne(t, dir, name, data[0]%5, made)
		}
		found := map[string]string{}
		must(t, tree.Walk(t.Context(), dir, tree.Options{Xattrs: true}, func(e tree.Entry) error {
			if err := e.Check(); err != nil {
				t.Error(err)
			}
			if parent := filepath.Dir(e.Name); found[parent] != "d" && e.Name != "." {
				t.Errorf("%q comes before its directory", e.Name)
			}
			found[e.Name] = kind(t, e)
			return nil
		}))
		if d := cmp.Diff(made, found); d != "" {
			t.Errorf("-made +found:\n%s", d)
		}
	})
}

func makeOne(t *testing.T, dir, name string, how byte, made map[string]string) {
	at := filepath.Join(dir, name)
	switch how {
	case 0:
		must(t, os.Mkdir(at, 0o755))
		made[name] = "d"
	case 1:
		must(t, os.Symlink(name, at))
		made[name] = "l " + name
	case 2:
		must(t, unix.Mkfifo(at, 0o600))
		made[name] = "p"
	default:
		must(t, os.WriteFile(at, []byte(name), 0o600))
		made[name] = "f " + name
	}
}

func kind(t *testing.T, e tree.Entry) string {
	switch {
	case e.Mode.IsDir():
		return "d"
	case e.Link != "":
		return "l " + e.Link
	case e.Mode.IsRegular():
		return "f " + content(t, e)
	}
	return "p"
}

func BenchmarkWalk(b *testing.B) {
	dir := b.TempDir()
	for i := range 2000 {
		put(b, filepath.Join(dir, fmt.Sprintf("%d/%d/f%d", i%10, i%100, i)), "text")
	}
	b.ReportAllocs()
	for b.Loop() {
		must(b, tree.Walk(b.Context(), dir, tree.Options{Xattrs: true}, func(e tree.Entry) error { return e.WriteContent(io.Discard) }))
	}
}
