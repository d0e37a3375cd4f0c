package fat_test

import (
	"bytes"
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

	"github.com/pantavisor/pantavisor/formats/fat"
	"github.com/pantavisor/pantavisor/formats/tree"
	"github.com/pantavisor/pantavisor/internal/oracle"
)

const mib = 1 << 20

func options() fat.Options {
	return fat.Options{Size: 64 * mib, Label: "pvboot", ID: 0x1234ABCD, Time: time.Unix(1577836800, 0), Hidden: 2048}
}

func file(name, text string) tree.Entry {
	e := tree.Bytes(name, 0o644, []byte(text))
	e.ModTime = time.Unix(1577836800, 0)
	return e
}

func sample() []tree.Entry {
	files := []tree.Entry{
		file("EFI/BOOT/BOOTX64.EFI", strings.Repeat("grub", 50_000)), file("grubenv", "x"), file("empty", ""),
		file("EFI/BOOT/grub.cfg", "menu"), file("a name that is long.config", "long"), file("A name that is longer.config", "longer"),
		file("ünïcode-näme", "u"), file(".hidden", "h"), file("two.dots.txt", "d"),
	}
	for i := range 40 {
		files = append(files, file(fmt.Sprintf("many/overlay-number-%d.dtbo", i), strings.Repeat("o", i*100)))
	}
	return files
}

// make writes the sample at an offset of a sparse file, as in an image.
func write(t *testing.T, off int64, files []tree.Entry, o fat.Options) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "boot.img")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(off + o.Size); err != nil {
		t.Fatal(err)
	}
	if _, err := fat.Write(f, off, files, o); err != nil {
		t.Fatal(err)
	}
	return name
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	tool := oracle.Program(t, name)
	cmd := exec.Command(tool, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "MTOOLS_SKIP_CHECK=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

func TestFsckFindsNothing(t *testing.T) {
	for _, size := range []int64{33 * mib, 64 * mib, 260 * mib, 261 * mib, 1024 * mib, 9 << 30} {
		o := options()
		o.Size = size
		out := run(t, "fsck.vfat", "-n", "-v", write(t, 0, sample(), o))
		for _, bad := range []string{"differences", "wrong", "Wrong", "mismatch", "unclosed", "lost", "not a multiple", "FAT16"} {
			if strings.Contains(out, bad) {
				t.Errorf("%d MiB: %s", size/mib, out)
			}
		}
	}
}

// TestFAT16 is checked and read by the same programs; the kernel mounts what it is.
func TestFAT16(t *testing.T) {
	for _, size := range []int64{5 * mib, 32 * mib, 33 * mib, 128 * mib, 700 * mib, 2047 * mib} {
		o := options()
		o.Bits, o.Size = 16, size
		img := write(t, 0, sample(), o)
		out := run(t, "fsck.vfat", "-n", "-v", img)
		for _, bad := range []string{"differences", "wrong", "Wrong", "mismatch", "unclosed", "lost", "not a multiple", "FAT32"} {
			if strings.Contains(out, bad) {
				t.Errorf("%d MiB: %s", size/mib, out)
			}
		}
		if !strings.Contains(out, "16 bit entries") && !strings.Contains(out, "2 bytes/entry") && !strings.Contains(out, "FATs, 16 bit") {
			t.Errorf("%d MiB: not a FAT16:\n%s", size/mib, out)
		}
	}
	o := options()
	o.Bits = 16
	mtoolsReads(t, o)
	for want, bad := range map[string]fat.Options{
		"FAT16 takes whole sectors, 5 MiB to 2047 MiB": {Bits: 16, Size: 4 * mib, Label: "x", Time: o.Time},
		"want 16 or 32": {Bits: 12, Size: 4 * mib, Label: "x", Time: o.Time},
	} {
		var w discard
		if _, err := fat.Write(&w, 0, nil, bad); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %q", err, want)
		}
	}
	var many []tree.Entry
	for i := range 512 {
		many = append(many, file(fmt.Sprintf("F%d", i), ""))
	}
	var w discard
	if _, err := fat.Write(&w, 0, many, o); err == nil || !strings.Contains(err.Error(), "take 513 entries, FAT16 has 512 there") {
		t.Errorf("a full top directory: %v", err)
	}
	if _, err := fat.Write(&w, 0, many[1:], o); err != nil {
		t.Errorf("the most entries: %v", err)
	}
}

func TestMtoolsReadsEveryFile(t *testing.T) { mtoolsReads(t, options()) }

func mtoolsReads(t *testing.T, o fat.Options) {
	t.Helper()
	const off = mib
	img := write(t, off, sample(), o)
	for _, f := range sample() {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		want, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if got := run(t, "mtype", "-i", fmt.Sprintf("%s@@%d", img, off), "::/"+f.Name); got != string(want) {
			t.Errorf("%s: %d bytes read, %d written", f.Name, len(got), len(want))
		}
	}
}

func TestNamesTimesAndLabelAreShown(t *testing.T) {
	img := write(t, 0, sample(), options())
	out := run(t, "mdir", "-i", img, "::/")
	for _, want := range []string{"pvboot", "1234-ABCD", "2020-01-01   0:00", "a name that is long.config", "GRUBENV"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if out := run(t, "mdir", "-b", "-i", img, "::/EFI/BOOT"); out != "::/EFI/BOOT/BOOTX64.EFI\n::/EFI/BOOT/grub.cfg\n" {
		t.Errorf("got %q", out)
	}
}

func TestOrderOfInputDoesNotMatter(t *testing.T) {
	files := sample()
	reversed := sample()
	for i := range files {
		reversed[len(files)-1-i] = files[i]
	}
	a, err1 := os.ReadFile(write(t, 0, files, options()))
	b, err2 := os.ReadFile(write(t, 0, reversed, options()))
	if err := errors.Join(err1, err2); err != nil || !bytes.Equal(a, b) {
		t.Errorf("images differ: %v", err)
	}
}

func TestTooMuchContentTellsBothSizes(t *testing.T) {
	o := options()
	o.Size = 34 * mib
	zero := func() (io.ReadCloser, error) { return os.Open("/dev/zero") }
	var w discard
	_, err := fat.Write(&w, 0, []tree.Entry{{Name: "big", Size: 40 * mib, Open: zero}}, o)
	var small *fat.TooSmall
	if !errors.As(err, &small) || small.Have != o.Size || small.Need < 40*mib || w != 0 {
		t.Errorf("%v after %d writes", err, w)
	}
}

type discard int

func (d *discard) WriteAt(p []byte, _ int64) (int, error) { *d++; return len(p), nil }

func TestUnusableNamesAreRefused(t *testing.T) {
	for _, names := range [][]string{
		{""}, {"/abs"}, {"../up"}, {"a/../b"}, {"a:b"}, {"dot."}, {"blank "}, {"con\x01trol"}, {"bad\xff"},
		{"Case", "case"}, {"Dir/x", "dir/y"}, {"f", "f/g"}, {"same", "same"}, {strings.Repeat("n", 256)},
	} {
		var files []tree.Entry
		for _, n := range names {
			files = append(files, file(n, ""))
		}
		if _, err := fat.Write(new(discard), 0, files, options()); err == nil {
			t.Errorf("%q were taken", names)
		}
	}
}

func TestWhatFATCannotHoldIsRefusedByName(t *testing.T) {
	attributes := file("e", "")
	attributes.Xattrs = map[string][]byte{"user.x": nil}
	for want, e := range map[string]tree.Entry{
		`"l": FAT cannot hold symbolic links`:      tree.Symlink("l", "e"),
		`"h": FAT cannot hold hard links`:          {Name: "h", HardLink: "e"},
		`"n": FAT cannot hold character devices`:   {Name: "n", Mode: fs.ModeDevice | fs.ModeCharDevice},
		`"s": FAT cannot hold sockets`:             {Name: "s", Mode: fs.ModeSocket},
		`"e": FAT cannot hold extended attributes`: attributes,
	} {
		_, err := fat.Write(new(discard), 0, []tree.Entry{e}, options())
		if !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %s", err, want)
		}
	}
}

func TestDirectoriesMayBeEntries(t *testing.T) {
	with := append(sample(), tree.Dir(".", 0o755), tree.Dir("EFI", 0o755), tree.Dir("EFI/BOOT", 0o755), tree.Dir("many", 0o700))
	with = tree.Normal{Time: options().Time}.All(with)
	a, err1 := os.ReadFile(write(t, 0, sample(), options()))
	b, err2 := os.ReadFile(write(t, 0, with, options()))
	if err := errors.Join(err1, err2); err != nil || !bytes.Equal(a, b) {
		t.Errorf("directories that are stated make another image: %v", err)
	}
	img := write(t, 0, []tree.Entry{tree.Dir("empty", 0o755), file("late", "")}, options())
	if out := run(t, "mdir", "-i", img, "::/empty"); !strings.Contains(out, "1980-01-01   0:00") {
		t.Errorf("an entry of no time is not of the earliest that FAT has:\n%s", out)
	}
}

func TestUnusableOptionsAreRefused(t *testing.T) {
	for name, change := range map[string]func(*fat.Options){
		"too small": func(o *fat.Options) { o.Size = 32 * mib }, "odd size": func(o *fat.Options) { o.Size++ },
		"too big": func(o *fat.Options) { o.Size = 3 << 40 }, "no label": func(o *fat.Options) { o.Label = "" },
		"long label": func(o *fat.Options) { o.Label = "twelveletter" }, "label": func(o *fat.Options) { o.Label = "a/b" },
		"old time": func(o *fat.Options) { o.Time = time.Unix(0, 0) },
	} {
		o := options()
		change(&o)
		if _, err := fat.Write(new(discard), 0, nil, o); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

func TestFileThatChangesIsAnError(t *testing.T) {
	f := file("f", "abc")
	for _, f.Size = range []int64{2, 4} {
		_, err := fat.Write(new(discard), 0, []tree.Entry{f}, options())
		if err == nil || !strings.Contains(err.Error(), "writing f: it has") {
			t.Errorf("size %d: %v", f.Size, err)
		}
	}
}

// TestTablesAreData checks that boot sectors and allocation tables are data of the sparse
// file: what is a hole is not written to a medium.
func TestTablesAreData(t *testing.T) {
	o := options()
	f, err := os.Open(write(t, 0, nil, o))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const seekHole = 4
	hole, err := f.Seek(0, seekHole)
	if err != nil || hole == o.Size {
		t.Skipf("the file system of the temporary directory does not report holes: %v", err)
	}
	want, err := fat.Write(new(discard), 0, nil, o)
	if err != nil || hole < want {
		t.Errorf("there is a hole at %d, before the files' clusters at %d: %v", hole, want, err)
	}
}
