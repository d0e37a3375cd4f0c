package tarball_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os/exec"
	"path"
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
	r := tar.NewReader(bytes.NewReader(archive(t, sample()...)))
	for _, want := range sample() {
		h, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		got, ok, err := tarball.Entry(h)
		if err != nil || !ok {
			t.Fatalf("%q: %v, %v", h.Name, ok, err)
		}
		got.Name = path.Clean(got.Name)
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
	for want, h := range map[string]*tar.Header{
		"owner -1:0": {Typeflag: tar.TypeReg, Uid: -1}, "device 4096:0": {Typeflag: tar.TypeChar, Devmajor: 4096},
		"device 0:-1": {Typeflag: tar.TypeBlock, Devminor: -1}, `type 'V'`: {Typeflag: 'V'},
	} {
		if _, _, err := tarball.Entry(h); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %s", err, want)
		}
	}
	if _, ok, err := tarball.Entry(&tar.Header{Typeflag: tar.TypeXGlobalHeader}); ok || err != nil {
		t.Errorf("a global header is a member: %v", err)
	}
	if e, _, _ := tarball.Entry(&tar.Header{Typeflag: tar.TypeReg, Mode: 0o040755}); e.Mode != 0o755 {
		t.Errorf("the type comes from the mode: %v", e.Mode)
	}
}
