package tarball_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/pantavisor/pantavisor/formats/tarball"
	"github.com/pantavisor/pantavisor/formats/tree"
	"github.com/pantavisor/pantavisor/internal/oracle"
)

func sample() []tree.Entry {
	tool := tree.Bytes("d/tool", fs.ModeSetuid|0o755, []byte("#!"))
	tool.UID, tool.GID, tool.Xattrs = 12, 70000, map[string][]byte{"user.note": []byte("hi"), "security.capability": {1, 0, 0, 2, 0}}
	all := []tree.Entry{
		tree.Dir("d", fs.ModeSticky|0o777), tool, {Name: "d/again", HardLink: "d/tool"}, tree.Symlink("l", "d/tool"),
		tree.Bytes("bytes \xff\nline", 0o600, nil), tree.Bytes(strings.Repeat("long/", 60)+"f", 0o644, []byte("x")),
		{Name: "null", Mode: fs.ModeDevice | fs.ModeCharDevice | 0o666, Major: 1, Minor: 3}, {Name: "disk", Mode: fs.ModeDevice | 0o660, Major: 259, Minor: 300},
		{Name: "pipe", Mode: fs.ModeNamedPipe | 0o600},
	}
	return tree.Normal{Time: time.Unix(1_600_000_000, 0)}.All(all)
}

func archive(t testing.TB, entries ...tree.Entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tarball.NewWriter(&b)
	for _, e := range entries {
		if err := w.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	t.Parallel()
	r := tarball.NewReader(bytes.NewReader(archive(t, sample()...)))
	for _, want := range sample() {
		got, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		got.Name = path.Clean(got.Name)
		if want.HardLink != "" {
			want = tree.Entry{Name: want.Name, HardLink: want.HardLink}
		}
		if d := cmp.Diff(want, got, cmpopts.IgnoreFields(tree.Entry{}, "Open")); d != "" {
			t.Errorf("%q (-want +got):\n%s", want.Name, d)
		}
		text, err := io.ReadAll(r)
		if err != nil || int64(len(text)) != want.Size {
			t.Errorf("%q: %d bytes, %v; want %d", want.Name, len(text), err, want.Size)
		}
	}
	if _, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("behind the last member: %v", err)
	}
}

func TestTarListsIt(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(oracle.Program(t, "tar"), "-tv", "--numeric-owner", "--full-time", "--utc", "--quoting-style=escape")
	cmd.Stdin = bytes.NewReader(archive(t, sample()...))
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(string(out)) {
		got = append(got, strings.Join(strings.Fields(line), " "))
	}
	want := []string{
		"drwxrwxrwt 0/0 0 2020-09-13 12:26:40 d/",
		"-rwsr-xr-x 12/70000 2 2020-09-13 12:26:40 d/tool",
		"h--------- 0/0 0 2020-09-13 12:26:40 d/again link to d/tool",
		"lrwxrwxrwx 0/0 0 2020-09-13 12:26:40 l -> d/tool",
		`-rw------- 0/0 0 2020-09-13 12:26:40 bytes \377\nline`,
		"-rw-r--r-- 0/0 1 2020-09-13 12:26:40 " + strings.Repeat("long/", 60) + "f",
		"crw-rw-rw- 0/0 1,3 2020-09-13 12:26:40 null",
		"brw-rw---- 0/0 259,300 2020-09-13 12:26:40 disk",
		"prw------- 0/0 0 2020-09-13 12:26:40 pipe",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	grown := tree.Bytes("grown", 0o644, []byte("abc"))
	grown.Size = 2
	for want, e := range map[string]tree.Entry{
		`"s": tar cannot hold sockets`: {Name: "s", Mode: fs.ModeSocket},
		`name "../x" leaves`:           tree.Dir("../x", 0o755),
		`archiving "grown"`:            grown,
	} {
		if err := tarball.NewWriter(io.Discard).Add(e); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %s", err, want)
		}
	}
}

// raw returns an archive of one member whose header package tar does not check.
func raw(t testing.TB, h tar.Header, body string) []byte {
	t.Helper()
	kind, name := h.Typeflag, h.Name
	h.Typeflag, h.Size, h.Name = tar.TypeReg, int64(len(body)), strings.TrimSuffix(name, "/")
	if h.Devmajor != 0 || h.Devminor != 0 {
		h.Typeflag = tar.TypeChar
	}
	h.Format = tar.FormatGNU
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&h); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, body); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	text := b.Bytes()
	text[156] = kind
	copy(text, name)
	copy(text[148:156], "        ")
	sum := 0
	for _, c := range text[:512] {
		sum += int(c)
	}
	copy(text[148:156], fmt.Sprintf("%06o\x00 ", sum))
	return text
}

// TestMemberTypes walks the types that POSIX, GNU tar, bsdtar and Solaris tar define.
func TestMemberTypes(t *testing.T) {
	t.Parallel()
	for i := range 256 {
		kind := byte(i)
		h := tar.Header{Typeflag: kind, Name: "m", Mode: 0o644}
		r := tarball.NewReader(bytes.NewReader(append(raw(t, h, "text"), archive(t, tree.Bytes("next", 0o600, []byte("n")))...)))
		e, err := r.Next()
		switch kind {
		case 0, '0', '7':
			text, _ := io.ReadAll(r)
			if err != nil || e.Mode != 0o644 || e.Size != 4 || string(text) != "text" {
				t.Errorf("%q is %v with %q: %v", kind, e.Mode, text, err)
			}
		case 'D':
			if err != nil || e.Mode != fs.ModeDir|0o644 || e.Size != 0 {
				t.Errorf("%q is %v: %v", kind, e.Mode, err)
			}
		case 'V', 'A': // passed over: the end of the first archive follows
			if !errors.Is(err, io.EOF) {
				t.Errorf("%q: %v, %v", kind, e.Name, err)
			}
		case 'M', 'N', 'X', 'E', 'I':
			if !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), `the member "m": it is `) {
				t.Errorf("%q: %v", kind, err)
			}
		case 'x', 'g', 'L', 'K', 'S': // their content is not text; see below
		case '1', '2', '3', '4', '5', '6':
		default:
			if !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), fmt.Sprintf("type %q is not known", kind)) {
				t.Errorf("%q: %v", kind, err)
			}
		}
	}
}

// TestForeignArchives reads what the system's tar programs write.
func TestForeignArchives(t *testing.T) {
	t.Parallel()
	const bytesName = "bytes \xff"
	db := string(make([]byte, 1<<20)) + "end"
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "db"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt([]byte("end"), 1<<20)
	err = errors.Join(err, f.Close(), os.Mkdir(filepath.Join(dir, "d"), 0o755), os.WriteFile(filepath.Join(dir, "d", bytesName), []byte("b"), 0o644))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{".": "/", "d": "/", "d/" + bytesName: "b", "db": db}
	for program, forms := range map[string][]string{
		"tar": {
			"-S", "-S --format=pax", "-S --sparse-version=0.0 --format=pax", "-S --sparse-version=0.1 --format=pax", "-V backup", "-V backup --format=pax",
			"-g " + filepath.Join(t.TempDir(), "snapshot"), "--format=v7", "--format=ustar", "--format=oldgnu",
		},
		"bsdtar": {"--format=pax", "--format=ustar", "--format=gnutar", "--format=v7"},
	} {
		t.Run(program, func(t *testing.T) {
			path := oracle.Program(t, program)
			for _, form := range forms {
				cmd := exec.Command(path, append(strings.Fields(form), "-cf", "-", "-C", dir, ".")...)
				cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
				out, err := cmd.Output()
				if err != nil {
					t.Fatalf("%s: %v", form, err)
				}
				if d := cmp.Diff(want, contents(t, out)); d != "" {
					t.Errorf("%s: -want +got:\n%s", form, d)
				}
			}
		})
	}
}

// contents returns the text of each file in an archive, and "/" for a directory.
func contents(t *testing.T, data []byte) map[string]string {
	t.Helper()
	got := map[string]string{}
	r := tarball.NewReader(bytes.NewReader(data))
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			return got
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatalf("%s: %v", e.Name, err)
		}
		if e.Mode.IsDir() {
			text = []byte("/")
		}
		got[path.Clean(e.Name)] = string(text)
	}
}

func TestAttributes(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err := w.WriteHeader(&tar.Header{Name: "f", Typeflag: tar.TypeReg, PAXRecords: map[string]string{
		"SCHILY.xattr.user.both": "right", "LIBARCHIVE.xattr.user.both": "d3Jvbmc", "LIBARCHIVE.xattr.user.a%3Db": "AAE=",
		"RHT.security.selinux": "label", "SCHILY.acl.access": "user::rw-", "SCHILY.xattr.user.empty": "",
	}})
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	var passed []string
	r := tarball.NewReader(&b)
	r.Passed = func(member, attribute string) { passed = append(passed, member+" "+attribute) }
	e, err := r.Next()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]byte{"user.both": []byte("right"), "user.a=b": {0, 1}, "security.selinux": []byte("label"), "user.empty": {}}
	if d := cmp.Diff(want, e.Xattrs); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"f access control list"}, passed); d != "" {
		t.Error(d)
	}
}

// TestGlobalRecords: records for all members hold until another global header, and not for
// a member with its own (POSIX, pax, "pax Extended Header").
func TestGlobalRecords(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []tar.Header{
		{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"mtime": "12.5", "uid": "7", "gid": "8", "comment": "c"}},
		{Name: "all", Uid: 1, Gid: 2, ModTime: time.Unix(3, 0)},
		{Name: "own", Uid: 1 << 22, Gid: 2, ModTime: time.Unix(3, 5e8), Format: tar.FormatPAX},
		{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"uid": "", "mtime": "-4"}},
		{Name: "less", Uid: 1, Gid: 2, ModTime: time.Unix(3, 0)},
		{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"gid": "4294967295"}},
		{Name: "out of range"},
	} {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	type member struct {
		Name     string
		UID, GID uint32
		Time     int64
	}
	var got []member
	r := tarball.NewReader(&b)
	e, err := r.Next()
	for ; err == nil; e, err = r.Next() {
		got = append(got, member{e.Name, e.UID, e.GID, e.ModTime.Unix()})
	}
	want := []member{{"all", 7, 8, 12}, {"own", 1 << 22, 8, 3}, {"less", 1, 8, -4}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("members (-want +got):\n%s", diff)
	}
	if err == nil || !strings.Contains(err.Error(), "gid") {
		t.Errorf("a group that is out of range: %v", err)
	}
}

func TestUnreadableMembers(t *testing.T) {
	t.Parallel()
	global := func(key string) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeXGlobalHeader, Name: "g", PAXRecords: map[string]string{key: "1"}})
		if err := errors.Join(err, w.Flush()); err != nil {
			t.Fatal(err)
		}
		return append(b.Bytes(), archive(t, tree.Bytes("f", 0o644, nil))...)
	}
	for want, data := range map[string][]byte{
		"owner -1:0":    raw(t, tar.Header{Typeflag: '0', Uid: -1}, ""),
		"device 4096:0": raw(t, tar.Header{Typeflag: '3', Devmajor: 4096}, ""),
		"device 0:-1":   raw(t, tar.Header{Typeflag: '4', Devminor: -1}, ""),
		"it sets path":  global("path"),
		"it sets SCHILY.xattr.user.x for all members": global("SCHILY.xattr.user.x"),
	} {
		if _, err := tarball.NewReader(bytes.NewReader(data)).Next(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %s", err, want)
		}
	}
	if e, err := tarball.NewReader(bytes.NewReader(global("comment"))).Next(); err != nil || e.Name != "f" {
		t.Errorf("behind a global header: %q, %v", e.Name, err)
	}
	e, err := tarball.NewReader(bytes.NewReader(raw(t, tar.Header{Typeflag: '0', Name: "d/", Mode: 0o755}, ""))).Next()
	if err != nil || e.Mode != fs.ModeDir|0o755 {
		t.Errorf("a name with a slash behind it is %v: %v", e.Mode, err)
	}
	e, err = tarball.NewReader(bytes.NewReader(raw(t, tar.Header{Typeflag: '2', Name: "l", Linkname: "x", Mode: 0o600}, ""))).Next()
	if err != nil || e.Mode != fs.ModeSymlink|0o777 {
		t.Errorf("a symbolic link has the mode %v: %v", e.Mode, err)
	}
}
