package deb

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"github.com/pantavisor/pantavisor/internal/oracle"
)

// member renders one ar member.
func member(name string, data []byte) []byte {
	b := fmt.Appendf(nil, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", name, 0, 0, 0, "100644", len(data))
	b = append(b, data...)
	if len(data)%2 == 1 {
		b = append(b, '\n')
	}
	return b
}

func pkg(suffix string, data []byte) []byte {
	b := []byte(magic)
	b = append(b, member("debian-binary", []byte("2.0\n"))...)
	b = append(b, member("control.tar.xz", []byte("odd"))...)
	return append(b, member("data.tar"+suffix, data)...)
}

// tarball returns a tar archive with the headers; regular files contain their own name.
func tarball(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		if h.Typeflag == 0 || h.Typeflag == tar.TypeReg {
			h.Size = int64(len(h.Name))
		}
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			fmt.Fprint(w, h.Name)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// pack compresses data in the format of the suffix.
func pack(t testing.TB, suffix string, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	var err error
	switch suffix {
	case "":
		return data
	case ".gz":
		w = gzip.NewWriter(&b)
	case ".xz":
		w, err = xz.NewWriter(&b)
	case ".zst":
		w, err = zstd.NewWriter(&b)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// listing returns the tree as "mode path [-> target]" or "mode path = content".
func listing(t *testing.T, dir string) []string {
	t.Helper()
	out := []string{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		info, err := d.Info()
		if err != nil {
			return err
		}
		if d.Type() == fs.ModeSymlink {
			target, err := os.Readlink(p)
			out = append(out, rel+" -> "+target)
			return err
		}
		data, err := os.ReadFile(p)
		out = append(out, fmt.Sprintf("%s %v = %s", rel, info.Mode(), data))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestExtract(t *testing.T) {
	data := tarball(t,
		tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755},
		tar.Header{Name: "./lib64/", Typeflag: tar.TypeDir, Mode: 0o700},
		tar.Header{Name: "./lib64/ld.so", Typeflag: tar.TypeSymlink, Linkname: "/lib/x/ld.so"},
		tar.Header{Name: "./lib/x/ld.so", Mode: 0o755},
		tar.Header{Name: "./usr/bin/su", Mode: 0o4711},
		tar.Header{Name: "./usr/bin/hard", Typeflag: tar.TypeLink, Linkname: "./usr/bin/su"},
		tar.Header{Name: "./usr/share/doc/x"},
	)
	want := []string{
		"lib/x/ld.so -rwxr-xr-x = ./lib/x/ld.so",
		"lib64/ld.so -> ../lib/x/ld.so",
		"usr/bin/hard -rwxr-xr-x = ./usr/bin/su",
		"usr/bin/su -rwxr-xr-x = ./usr/bin/su",
	}
	x := Extract{Keep: func(n string) bool { return !strings.HasPrefix(n, "usr/share/") }, Time: time.Unix(1e9, 0)}
	for _, suffix := range []string{"", ".gz", ".xz", ".zst"} {
		dir := t.TempDir()
		if err := x.To(dir, bytes.NewReader(pkg(suffix, pack(t, suffix, data)))); err != nil {
			t.Fatalf("%s: %v", suffix, err)
		}
		if diff := cmp.Diff(want, listing(t, dir)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", suffix, diff)
		}
		info, err := os.Stat(filepath.Join(dir, "usr/bin/su"))
		if err != nil || !info.ModTime().Equal(time.Unix(1e9, 0)) {
			t.Errorf("%s: time %v, %v", suffix, info.ModTime(), err)
		}
	}
}

// TestUnreadableDataArchives has the ones that dpkg would not take either.
func TestUnreadableDataArchives(t *testing.T) {
	data := tarball(t, tar.Header{Name: "a"})
	for suffix, c := range map[string]struct {
		data []byte
		want string
	}{
		".lzma": {[]byte("\x5d\x00\x00\x80\x00"), "the form lzma"},
		".xz":   {data, "data.tar.xz is not what"},
		"":      {pack(t, ".xz", data), "data.tar is not what"},
		".gz":   {append(pack(t, ".gz", data), "text"...), "gzip"},
	} {
		err := Extract{}.To(t.TempDir(), bytes.NewReader(pkg(suffix, c.data)))
		if !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("data.tar%s: %v; want %s", suffix, err, c.want)
		}
	}
}

func TestPlace(t *testing.T) {
	data := tarball(t, tar.Header{Name: "./lib/a"}, tar.Header{Name: "./b", Typeflag: tar.TypeSymlink, Linkname: "/lib/a"})
	dir := t.TempDir()
	x := Extract{Place: func(n string) string { return "usr/" + n }}
	if err := x.To(dir, bytes.NewReader(pkg("", data))); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "usr/b")); err != nil || string(got) != "./lib/a" {
		t.Errorf("through the link: %q, %v", got, err)
	}
}

// TestHostile checks that nothing is written outside the directory.
func TestHostile(t *testing.T) {
	for name, headers := range map[string][]tar.Header{
		"parent":             {{Name: "../out"}},
		"parent inside":      {{Name: "a/../../out"}},
		"through a link":     {{Name: "a", Typeflag: tar.TypeSymlink, Linkname: "../"}, {Name: "a/out"}},
		"through a way up":   {{Name: "d/a", Typeflag: tar.TypeSymlink, Linkname: "../../.."}, {Name: "d/a/out"}},
		"hard link out":      {{Name: "x", Typeflag: tar.TypeLink, Linkname: "../secret"}},
		"device":             {{Name: "x", Typeflag: tar.TypeChar, Devmajor: 1}},
		"fifo":               {{Name: "x", Typeflag: tar.TypeFifo}},
		"hard link by links": {{Name: "l", Typeflag: tar.TypeSymlink, Linkname: ".."}, {Name: "x", Typeflag: tar.TypeLink, Linkname: "l/secret"}},
	} {
		top := t.TempDir()
		dir := filepath.Join(top, "in")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(top, "secret"), []byte("s"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := (Extract{}).To(dir, bytes.NewReader(pkg("", tarball(t, headers...)))); err == nil {
			t.Errorf("%s: no error", name)
		}
		left, err := os.ReadDir(top)
		if err != nil || len(left) != 2 {
			t.Errorf("%s: outside are %v, %v", name, left, err)
		}
	}
}

// TestAbsoluteStaysInside checks that absolute names and links refer to the package's root.
func TestAbsoluteStaysInside(t *testing.T) {
	dir := t.TempDir()
	data := tarball(t, tar.Header{Name: "/etc/a"}, tar.Header{Name: "b", Typeflag: tar.TypeSymlink, Linkname: "/../etc"}, tar.Header{Name: "b/c"})
	if err := (Extract{}).To(dir, bytes.NewReader(pkg("", data))); err != nil {
		t.Fatal(err)
	}
	want := []string{"b -> etc", "etc/a -rw-r--r-- = /etc/a", "etc/c -rw-r--r-- = b/c"}
	if diff := cmp.Diff(want, listing(t, dir)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestDamaged(t *testing.T) {
	whole := pkg(".xz", pack(t, ".xz", tarball(t, tar.Header{Name: "a"}, tar.Header{Name: "b"})))
	flipped := bytes.Clone(whole)
	flipped[len(flipped)-60] ^= 0x55
	for name, b := range map[string][]byte{
		"empty":           nil,
		"other file":      []byte("hello, this is not a package at all"),
		"only the magic":  []byte(magic),
		"no data":         append([]byte(magic), member("debian-binary", []byte("2.0\n"))...),
		"version 3":       append([]byte(magic), member("debian-binary", []byte("3.0\n"))...),
		"wrong order":     append([]byte(magic), member("data.tar", nil)...),
		"negative size":   bytes.Replace(whole, []byte("4         `"), []byte("-4        `"), 1),
		"unknown packing": pkg(".rar", []byte("x")),
		"not packed":      pkg(".xz", []byte("plain text, and enough of it")),
		"truncated":       whole[:len(whole)-40],
		"bit flipped":     flipped,
	} {
		if err := (Extract{}).To(t.TempDir(), bytes.NewReader(b)); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v, want ErrFormat", name, err)
		}
	}
}

// TestDpkgDebAgrees reads packages that Debian's own program builds.
func TestDpkgDebAgrees(t *testing.T) {
	tool := oracle.Program(t, "dpkg-deb")
	src, out := t.TempDir(), filepath.Join(t.TempDir(), "p.deb")
	for name, text := range map[string]string{
		"DEBIAN/control":     "Package: p\nVersion: 1\nArchitecture: all\nMaintainer: M <m@example.com>\nDescription: d\n",
		"usr/share/p/a file": "content",
	} {
		file := filepath.Join(src, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, how := range []string{"xz", "gzip", "none"} {
		if msg, err := exec.Command(tool, "-b", "-Z"+how, src, out).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, msg)
		}
		f, err := os.Open(out)
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		if err := (Extract{}).To(dir, f); err != nil {
			t.Errorf("%s: %v", how, err)
		}
		_ = f.Close()
		if diff := cmp.Diff([]string{"usr/share/p/a file -rw-r--r-- = content"}, listing(t, dir)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", how, diff)
		}
	}
}

func FuzzWalk(f *testing.F) {
	data := tarball(f, tar.Header{Name: "./a"}, tar.Header{Name: "b", Typeflag: tar.TypeSymlink, Linkname: "/a"})
	for _, suffix := range []string{"", ".gz", ".xz", ".zst"} {
		f.Add(pkg(suffix, pack(f, suffix, data)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := openData(bytes.NewReader(b))
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatal(err)
			}
			return
		}
		defer r.Close()
		left := 1 << 22
		err = walk(io.LimitReader(r, 1<<22), func(name string, h *tar.Header, body io.Reader) error {
			if name == "" || filepath.IsAbs(name) || !filepath.IsLocal(name) {
				t.Fatalf("name %q", name)
			}
			n, err := io.Copy(io.Discard, io.LimitReader(body, int64(left)))
			left -= int(n)
			if err != nil {
				return malformed("%v", err)
			}
			return nil
		})
		if err != nil && !errors.Is(err, ErrFormat) {
			t.Fatal(err)
		}
	})
}
