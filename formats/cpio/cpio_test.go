package cpio_test

import (
	"bytes"
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

	"github.com/pantavisor/pantavisor/formats/cpio"
	"github.com/pantavisor/pantavisor/formats/tree"
	"github.com/pantavisor/pantavisor/internal/oracle"
)

const epoch = 1577836800

func sample() []tree.Entry {
	return tree.Normal{Time: time.Unix(epoch, 0)}.All([]tree.Entry{
		tree.Bytes("usr/bin/tool", 0o755, []byte("#!/bin/sh\n")),
		tree.Dir("usr", 0o755),
		tree.Dir("usr/bin", 0o755),
		tree.Symlink("init", "usr/bin/tool"),
		{Name: "console", Mode: fs.ModeDevice | fs.ModeCharDevice | 0o600, Major: 5, Minor: 1},
		tree.Bytes("empty", 0o644, nil),
	})
}

func archive(t testing.TB, entries []tree.Entry) []byte {
	t.Helper()
	if err := cpio.Validate(entries); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := cpio.Write(&b, entries, cpio.Options{}); err != nil {
		t.Fatal(err)
	}
	if err := cpio.WriteTrailer(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestSystemCpioUnpacksWhatIsWritten(t *testing.T) {
	tool := oracle.Program(t, "cpio")
	dir := t.TempDir()
	cmd := exec.Command(tool, "-i", "--quiet", "--no-preserve-owner")
	cmd.Dir, cmd.Stdin = dir, bytes.NewReader(archive(t, sample()[:4]))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("cpio -i: %v\n%s", err, out)
	}
	got, err := os.ReadFile(filepath.Join(dir, "init"))
	if err != nil || string(got) != "#!/bin/sh\n" {
		t.Errorf("reading the unpacked link: %q, %v", got, err)
	}
	info, err := os.Stat(filepath.Join(dir, "usr/bin/tool"))
	if err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("unpacked tool: %v, %v", info, err)
	}
}

func TestSystemCpioListsSorted(t *testing.T) {
	tool := oracle.Program(t, "cpio")
	cmd := exec.Command(tool, "-t", "--quiet")
	cmd.Stdin = bytes.NewReader(archive(t, sample()))
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	want := "console\nempty\ninit\nusr\nusr/bin\nusr/bin/tool\n"
	if diff := cmp.Diff(want, string(out)); diff != "" {
		t.Error(diff)
	}
}

func TestReaderReturnsWhatWasWritten(t *testing.T) {
	r := cpio.NewReader(bytes.NewReader(archive(t, sample())))
	var got []string
	for ino := uint32(1); ; ino++ {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if h.Inode != ino || h.UID != 0 || h.GID != 0 || h.ModTime.Unix() != epoch {
			t.Errorf("%s: inode %d owner %d:%d time %v", h.Name, h.Inode, h.UID, h.GID, h.ModTime)
		}
		got = append(got, h.Name+">"+h.Link+">"+string(body))
	}
	want := []string{"console>>", "empty>>", "init>usr/bin/tool>", "usr>>", "usr/bin>>", "usr/bin/tool>>#!/bin/sh\n"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestReaderSkipsContentNobodyRead(t *testing.T) {
	r := cpio.NewReader(bytes.NewReader(archive(t, sample())))
	n := 0
	for ; ; n++ {
		if _, err := r.Next(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if n != len(sample()) {
		t.Errorf("%d entries, want %d", n, len(sample()))
	}
}

func TestFragmentsJoinToTheWhole(t *testing.T) {
	all := sample()
	slices.SortFunc(all, tree.Compare)
	var joined bytes.Buffer
	for i, part := range [][]tree.Entry{all[:2], all[2:]} {
		if err := cpio.Write(&joined, part, cpio.Options{FirstInode: uint32(1 + 2*i)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := cpio.WriteTrailer(&joined); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(joined.Bytes(), archive(t, sample())) {
		t.Error("fragments joined differ from the archive written at once")
	}
}

func TestValidateCollectsEveryProblem(t *testing.T) {
	huge := tree.Bytes("huge", 0o644, nil)
	huge.Size = 1 << 32
	attributes := tree.Bytes("attributes", 0o644, nil)
	attributes.Xattrs = map[string][]byte{"user.x": nil}
	err := cpio.Validate([]tree.Entry{
		attributes, {Name: "second", HardLink: "f"}, tree.Dir(".", 0o755),
		tree.Dir("a", 0o755), tree.Dir("a", 0o755),
		tree.Bytes("missing/file", 0o644, nil),
		tree.Dir("../out", 0o755), tree.Dir("/abs", 0o755), tree.Dir("", 0o755),
		tree.Symlink("nowhere", ""), tree.Dir("TRAILER!!!", 0o755),
		{Name: "typeless", Mode: fs.ModeIrregular}, huge,
		tree.Bytes("f", 0o644, nil), tree.Dir("f/below", 0o755),
		tree.Dir(strings.Repeat("x", 4096), 0o755), tree.Dir("nul\x00", 0o755),
	})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		`"a" is there twice`, `no directory "missing"`, `"../out" leaves`, `"/abs" is not a clean`, `"" is not a clean`,
		`"nowhere" is a symbolic link to the unusable ""`, `"TRAILER!!!" marks`, `"typeless" has the unknown type`, `"huge" has a content of 4294967296 bytes`, `no directory "f"`,
		`"xxxxxxxx`, `"nul\x00"`, `"attributes": a newc archive cannot hold extended attributes`, `"second": a newc archive cannot hold hard links`, `the root has no entry`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %s in:\n%v", want, err)
		}
	}
}

func TestFileThatGrowsIsAnError(t *testing.T) {
	e := tree.Bytes("f", 0o644, []byte("abc"))
	for _, size := range []int64{2, 4} {
		e.Size = size
		err := cpio.Write(io.Discard, []tree.Entry{e}, cpio.Options{})
		if err == nil || !strings.Contains(err.Error(), "changed while it was read") {
			t.Errorf("size %d: %v", size, err)
		}
	}
}

func TestGarbageIsRefused(t *testing.T) {
	good := archive(t, sample())
	for name, data := range map[string][]byte{
		"empty":        nil,
		"other magic":  append([]byte("070707"), good[6:]...),
		"cut header":   good[:50],
		"cut name":     good[:112],
		"no number":    append([]byte("070701zzzzzzzz"), good[14:]...),
		"no trailer":   good[:len(good)-124],
		"leaving name": bytes.Replace(good, []byte("console"), []byte("../cons"), 1),
	} {
		r := cpio.NewReader(bytes.NewReader(data))
		var err error
		for err == nil {
			_, err = r.Next()
		}
		if !errors.Is(err, cpio.ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzReader(f *testing.F) {
	f.Add(archive(f, sample()))
	f.Add([]byte("070701"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := cpio.NewReader(bytes.NewReader(data))
		for {
			h, err := r.Next()
			if err != nil {
				return
			}
			if strings.HasPrefix(h.Name, "/") || h.Name == ".." || strings.HasPrefix(h.Name, "../") {
				t.Fatalf("name %q leaves the root", h.Name)
			}
			if n, _ := io.Copy(io.Discard, r); n > int64(len(data)) {
				t.Fatalf("%d bytes out of %d", n, len(data))
			}
		}
	})
}

// TestFormsOfOtherPrograms reads archives of "find . | cpio -o": the root is an entry, and
// names may begin with "./".
func TestFormsOfOtherPrograms(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	for _, e := range []struct {
		name string
		mode int
	}{{".", 0o40755}, {"./bin", 0o40755}, {"./bin/app", 0o100755}, {"TRAILER!!!", 0}} {
		fmt.Fprintf(&b, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00", 1, e.mode, 0, 0, 1, 0, 0, 0, 0, 0, 0, len(e.name)+1, 0, e.name)
		for b.Len()%4 != 0 {
			b.WriteByte(0)
		}
	}
	var got []string
	r := cpio.NewReader(&b)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, h.Name)
	}
	if diff := cmp.Diff([]string{".", "bin", "bin/app"}, got); diff != "" {
		t.Error(diff)
	}
}
