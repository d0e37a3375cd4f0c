package fat_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/formats/fat"
	"github.com/pantavisor/pantavisor/formats/tree"
)

// names lists a directory of an image as the kernel shows it, in upper case; without root
// or a kernel that has FAT, as mtools do.
func names(t *testing.T, image, dir string) []string {
	t.Helper()
	at, ok := mount(t, image)
	if !ok {
		out := run(t, "mdir", "-b", "-i", image, "::/"+dir)
		return strings.Split(strings.ToUpper(strings.ReplaceAll(strings.TrimSpace(out), "::/"+strings.TrimPrefix(dir+"/", "./"), "")), "\n")
	}
	entries, err := os.ReadDir(filepath.Join(at, dir))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, strings.ToUpper(e.Name()))
	}
	return out
}

// mount lets the kernel mount an image, if it can.
func mount(t *testing.T, image string) (string, bool) {
	t.Helper()
	if os.Getuid() != 0 {
		return "", false
	}
	dir := t.TempDir()
	out, err := exec.Command("mount", "-t", "vfat", "-o", "loop,ro,utf8", image, dir).CombinedOutput()
	if err != nil && strings.Contains(string(out), "unknown filesystem type") {
		return "", false
	}
	if err != nil {
		t.Fatalf("mount: %v\n%s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v\n%s", err, out)
		}
	})
	return dir, true
}

// many returns empty files with numbered names.
func many(form string, n int) []tree.Entry {
	files := make([]tree.Entry, n)
	for i := range files {
		files[i] = file(fmt.Sprintf(form, i), "")
	}
	return files
}

// TestDirectoriesAtTheLimit: a directory of FAT32 has 65,536 entries of 32 bytes; long
// names take several, and so do the label and the links of a directory.
func TestDirectoriesAtTheLimit(t *testing.T) {
	for name, c := range map[string]struct {
		form  string
		most  int
		where string
	}{
		"top directory":     {"%08X.T", 65536 - 1, "the top directory"},
		"directory":         {"D/%08X.T", 65536 - 2, `directory "D"`},
		"names alike":       {"D/long %05d.txt", (65536 - 2) / 3, `directory "D"`},
		"names of one unit": {"D/%013d", (65536 - 2) / 2, `directory "D"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, over := fat.Write(new(discard), 0, many(c.form, c.most+1), options())
			if !errors.Is(over, errors.ErrUnsupported) || !strings.Contains(over.Error(), "placing "+c.where) || !strings.Contains(over.Error(), "takes 65536") {
				t.Errorf("one file more: %v", over)
			}
			var want []string
			files := many(c.form, c.most)
			for _, f := range files {
				want = append(want, strings.ToUpper(filepath.Base(f.Name)))
			}
			got := names(t, write(t, 0, files, options()), filepath.Dir(c.form))
			slices.Sort(got)
			if diff := cmp.Diff(len(want), len(got)); diff != "" || !slices.Equal(want, got) {
				t.Errorf("other names than were written\n%s", diff)
			}
		})
	}
}

// TestShortNamesOfOneForm: numbers of several lengths share what is left of the name, and
// names that look like numbered ones are taken.
func TestShortNamesOfOneForm(t *testing.T) {
	files := many("abcdefgh long %03d", 120)
	files = append(files, file("ABCDEF~2", ""), file("ABCDE~11", ""), file("abcdefgz long", ""))
	img := write(t, 0, files, options())
	run(t, "fsck.vfat", "-n", img)
	out := run(t, "mdir", "-i", img, "::/")
	for _, want := range []string{"ABCDEF~1 ", "ABCDEF~2 ", "ABCDEF~9 ", "ABCDE~10 ", "ABCDE~99 ", "ABCD~100 "} {
		if n := strings.Count(out, want); n != 1 {
			t.Errorf("%s is there %d times in\n%s", want, n, out)
		}
	}
}

// TestNamesAtTheLimit: names have up to 255 UTF-16 units, whatever they take in UTF-8.
func TestNamesAtTheLimit(t *testing.T) {
	longest := []string{strings.Repeat("n", 255), strings.Repeat("ü", 85), "Kelvin K"}
	var files []tree.Entry
	for _, name := range longest {
		files = append(files, file(name, name))
	}
	img := write(t, 0, files, options())
	run(t, "fsck.vfat", "-n", img)
	for _, name := range longest {
		if text := run(t, "mtype", "-i", img, "::/"+name); text != name {
			t.Errorf("%.20q: %.20q", name, text)
		}
	}
	for _, name := range []string{strings.Repeat("n", 256), strings.Repeat("𝄞", 128)} {
		if _, err := fat.Write(new(discard), 0, []tree.Entry{file(name, "")}, options()); err == nil {
			t.Errorf("%.20q of %d bytes was taken", name, len(name))
		}
	}
	for _, pair := range [][2]string{{"Kelvin K", "kelvin k"}, {"ſ", "s"}, {"ÄB", "äb"}, {"Σ", "ς"}} {
		if _, err := fat.Write(new(discard), 0, []tree.Entry{file(pair[0], ""), file(pair[1], "")}, options()); err == nil || !strings.Contains(err.Error(), "clashes") {
			t.Errorf("%q: %v", pair, err)
		}
	}
}
