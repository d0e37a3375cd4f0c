package tree_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/formats/tree"
)

func TestMeaninglessEntriesAreRefused(t *testing.T) {
	t.Parallel()
	big := tree.Bytes("f", 0o644, nil)
	big.Size, big.Open = 3, nil
	negative := tree.Bytes("f", 0o644, nil)
	negative.Size = -1
	full := tree.Dir("d", 0o755)
	full.Size = 1
	for want, e := range map[string]tree.Entry{
		`name "" is not a clean`:                     tree.Dir("", 0o755),
		`name "/a" is not a clean`:                   tree.Dir("/a", 0o755),
		`name "a/" is not a clean`:                   tree.Dir("a/", 0o755),
		`name "a/../b" is not a clean`:               tree.Dir("a/../b", 0o755),
		`name ".." leaves`:                           tree.Dir("..", 0o755),
		`name "../a" leaves`:                         tree.Dir("../a", 0o755),
		`name "a\x00b" holds a NUL`:                  tree.Dir("a\x00b", 0o755),
		`the root is a regular file`:                 tree.Bytes(".", 0o644, nil),
		`"l" is a symbolic link to the unusable ""`:  tree.Symlink("l", ""),
		`"l" is a symbolic link to the unusable "a\`: tree.Symlink("l", "a\x00"),
		`"f" cannot have 3 bytes`:                    big,
		`"f" cannot have -1 bytes`:                   negative,
		`"d" cannot have 1 bytes`:                    full,
		`"h" is a hard link to the unusable "../x"`:  {Name: "h", HardLink: "../x"},
		`"h" is a hard link to the unusable "."`:     {Name: "h", HardLink: "."},
		`"o" has the unknown type`:                   {Name: "o", Mode: fs.ModeIrregular},
	} {
		if err := e.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %s", err, want)
		}
	}
	for _, name := range []string{".", "a", "a/b", "..a", "a\n\xff", "...", " "} {
		e := tree.Dir(name, 0o755)
		if err := e.Check(); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestLimitsNameEntryAndFormat(t *testing.T) {
	t.Parallel()
	all := tree.Limits{Format: "F", Symlinks: true, HardLinks: true, Devices: true, FIFOs: true, Sockets: true, Xattrs: true, Major: 9, Minor: 9}
	none := tree.Limits{Format: "F"}
	short := tree.Limits{Format: "F", Symlinks: true, Name: 3, Path: 6, Target: 3, Size: 3}
	attributes := tree.Bytes("x", 0o644, nil)
	attributes.Xattrs = map[string][]byte{"user.a": nil}
	for _, e := range []tree.Entry{
		tree.Symlink("l", "t"), {Name: "h", HardLink: "x"}, {Name: "b", Mode: fs.ModeDevice, Major: 9}, {Name: "c", Mode: fs.ModeDevice | fs.ModeCharDevice},
		{Name: "p", Mode: fs.ModeNamedPipe}, {Name: "s", Mode: fs.ModeSocket}, attributes,
	} {
		if err := all.Check(&e); err != nil {
			t.Errorf("a format that has everything refuses %q: %v", e.Name, err)
		}
		if err := none.Check(&e); !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), fmt.Sprintf("%q: F cannot hold", e.Name)) {
			t.Errorf("a format that has nothing says of %q: %v", e.Name, err)
		}
	}
	for want, e := range map[string]tree.Entry{
		"name of 4 bytes": tree.Dir("abcd", 0o755), "path of 7 bytes": tree.Dir("abc/def", 0o755),
		"link target of 4 bytes": tree.Symlink("l", "abcd"), "content of 4 bytes": tree.Bytes("f", 0o644, []byte("abcd")),
	} {
		if err := short.Check(&e); !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %s", err, want)
		}
	}
	device := tree.Entry{Name: "d", Mode: fs.ModeDevice, Minor: 10}
	if err := all.Check(&device); !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "0:10") {
		t.Errorf("device out of range: %v", err)
	}
}

func TestNormal(t *testing.T) {
	t.Parallel()
	at := time.Unix(1_600_000_000, 0)
	found := tree.Entry{Name: "f", Mode: fs.ModeSetuid | 0o711, UID: 5, GID: 6, ModTime: at, Xattrs: map[string][]byte{"user.a": nil}, HardLink: "e", Size: 4}
	if d := cmp.Diff(found, tree.Normal{}.Apply(found)); d != "" {
		t.Errorf("the zero value changes an entry:\n%s", d)
	}
	want := tree.Entry{Name: "f", Mode: 0o755, ModTime: at.Add(time.Hour), Size: 4}
	if d := cmp.Diff(want, tree.Normal{AllRoot: true, Time: at.Add(time.Hour), Portable: true}.Apply(found)); d != "" {
		t.Error(d)
	}
	for mode, want := range map[fs.FileMode]fs.FileMode{
		0o600: 0o644, 0o100: 0o755, 0o077: 0o644, fs.ModeDir | fs.ModeSticky | 0o700: fs.ModeDir | 0o755, fs.ModeSymlink: fs.ModeSymlink | 0o777,
	} {
		if got := (tree.Normal{Portable: true}).Apply(tree.Entry{Mode: mode}).Mode; got != want {
			t.Errorf("%v becomes %v, want %v", mode, got, want)
		}
	}
}

func TestStatModeAndBack(t *testing.T) {
	t.Parallel()
	for stat := range uint32(0o200000) {
		m, want := tree.FileMode(stat), stat
		if m.Type() == fs.ModeSymlink {
			want = 0o120777 // as the kernel has it, whatever the source says
		}
		if m&fs.ModeIrregular == 0 && tree.StatMode(m) != want {
			t.Fatalf("%#o becomes %v and %#o", stat, m, tree.StatMode(m))
		}
	}
	for stat, want := range map[uint32]fs.FileMode{
		0o104755: fs.ModeSetuid | 0o755, 0o041777: fs.ModeDir | fs.ModeSticky | 0o777, 0o120777: fs.ModeSymlink | 0o777,
		0o060660: fs.ModeDevice | 0o660, 0o020600: fs.ModeDevice | fs.ModeCharDevice | 0o600, 0o030000: fs.ModeIrregular,
	} {
		if got := tree.FileMode(stat); got != want {
			t.Errorf("%#o is %v, want %v", stat, got, want)
		}
	}
}

func names(entries []tree.Entry) []string {
	var out []string
	for _, e := range entries {
		out = append(out, e.Name)
	}
	return out
}

func TestSetIsSortedAndComplete(t *testing.T) {
	t.Parallel()
	s := tree.Set{}
	s.Put(tree.Bytes("a/b/c", 0o644, nil), tree.Bytes("a-", 0o644, nil), tree.Dir("a", 0o700), tree.Bytes("-", 0o644, nil))
	if err := tree.Validate(s.Sorted(), (*tree.Entry).Check); err == nil || !strings.Contains(err.Error(), `"a/b/c" has no directory "a/b"`) {
		t.Errorf("incomplete: %v", err)
	}
	s.Complete()
	sorted := s.Sorted()
	if d := cmp.Diff([]string{".", "-", "a", "a-", "a/b", "a/b/c"}, names(sorted)); d != "" {
		t.Error(d)
	}
	if err := tree.Validate(sorted, (*tree.Entry).Check); err != nil {
		t.Errorf("complete: %v", err)
	}
	if s["a"].Mode != fs.ModeDir|0o700 || s["a/b"].Mode != fs.ModeDir|0o755 {
		t.Errorf("directories: %v and %v", s["a"].Mode, s["a/b"].Mode)
	}
}

func TestFirstNameInOrderHasTheContent(t *testing.T) {
	t.Parallel()
	s := tree.Set{}
	s.Put(tree.Bytes("m", 0o644, []byte("text")), tree.Entry{Name: "c", HardLink: "m"}, tree.Entry{Name: "z", HardLink: "m"},
		tree.Entry{Name: "b", HardLink: "m"}, tree.Bytes("y", 0o644, nil), tree.Entry{Name: "a", HardLink: "gone"})
	var got []string
	for _, e := range s.Sorted() {
		got = append(got, fmt.Sprintf("%s=%s %d", e.Name, e.HardLink, e.Size))
	}
	if d := cmp.Diff([]string{"a=gone 0", "b= 4", "c=b 0", "m=b 4", "y= 0", "z=b 0"}, got); d != "" {
		t.Error(d)
	}
}

func TestContentOfAnotherSizeIsAnError(t *testing.T) {
	t.Parallel()
	e := tree.Bytes("f", 0o644, []byte("abc"))
	var b bytes.Buffer
	if err := e.WriteContent(&b); err != nil || b.String() != "abc" {
		t.Errorf("%q, %v", b.String(), err)
	}
	for _, e.Size = range []int64{2, 4} {
		if err := e.WriteContent(io.Discard); err == nil || !strings.Contains(err.Error(), "it has 3 bytes, not") {
			t.Errorf("size %d: %v", e.Size, err)
		}
	}
}

func TestSeconds(t *testing.T) {
	t.Parallel()
	for at, want := range map[time.Time]uint32{{}: 0, time.Unix(-1, 0): 0, time.Unix(7, 999): 7, time.Unix(1<<33, 0): 1<<32 - 1} {
		if got := tree.Seconds(at); got != want {
			t.Errorf("%v: %d, want %d", at, got, want)
		}
	}
}
