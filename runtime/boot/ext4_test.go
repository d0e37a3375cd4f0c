package boot

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/internal/oracle"
)

// medium is a mounted ext4 file system in a file.
type medium struct {
	t          *testing.T
	image, dir string
	journal    map[int]bool // blocks
	states     [][]byte
}

const mediumBlock = 1024

func newMedium(t *testing.T) *medium {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		t.Skipf("needs loop devices: %v", err)
	}
	oracle.Need(t, "mke2fs", "mount", "debugfs")
	m := &medium{t: t, image: filepath.Join(t.TempDir(), "a.img"), dir: t.TempDir(), journal: map[int]bool{}}
	for _, args := range [][]string{
		{"truncate", "-s", "4M", m.image}, {"mke2fs", "-q", "-t", "ext4", "-b", strconv.Itoa(mediumBlock), m.image}, {"mount", "-o", "loop", m.image, m.dir},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	t.Cleanup(func() { _ = exec.Command("umount", m.dir).Run() })
	out, err := exec.Command("debugfs", "-R", "blocks <8>", m.image).Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range strings.Fields(string(out)) {
		n, err := strconv.Atoi(word)
		if err != nil {
			t.Fatal(err)
		}
		m.journal[n] = true
	}
	return m
}

// settle waits until all is in its place, and keeps what the medium then has.
func (m *medium) settle(dir string) error {
	if err := checkpoint(dir); err != nil {
		return err
	}
	return m.keep()
}

// keep keeps what the medium has.
func (m *medium) keep() error {
	data, err := os.ReadFile(m.image)
	m.states = append(m.states, data)
	return err
}

// seen returns what a boot loader reads from a file of an image: it knows no journal, and no
// checksums.
func seen(image, name string) string {
	out, _ := exec.Command("debugfs", "-n", "-c", "-R", "cat "+name, image).Output() // an unreadable one is empty
	return string(out)
}

// changed are the blocks that differ between two states.
func (m *medium) changed(from, to []byte) (out []int64) {
	for at := 0; at < len(from); at += mediumBlock {
		if !m.journal[at/mediumBlock] && !bytes.Equal(from[at:at+mediumBlock], to[at:at+mediumBlock]) {
			out = append(out, int64(at))
		}
	}
	if len(out) > 10 {
		m.t.Fatalf("%d blocks differ", len(out))
	}
	return out
}

// lost counts the power cuts after which a loader sees neither the old nor the new file: between
// two states, each subset of the blocks that differ can have been written.
func (m *medium) lost(name, before, after string) (lost, all int) {
	m.t.Helper()
	f, err := os.Create(filepath.Join(m.t.TempDir(), "cut.img"))
	if err != nil {
		m.t.Fatal(err)
	}
	defer f.Close()
	for i := range len(m.states) - 1 {
		from, to := m.states[i], m.states[i+1]
		if _, err := f.WriteAt(from, 0); err != nil {
			m.t.Fatal(err)
		}
		changed := m.changed(from, to)
		for set := range 1 << len(changed) {
			for i, at := range changed {
				data := from
				if set>>i&1 == 1 {
					data = to
				}
				if _, err := f.WriteAt(data[at:at+mediumBlock], at); err != nil {
					m.t.Fatal(err)
				}
			}
			all++
			if got := seen(f.Name(), name); got != before && got != after {
				lost++
			}
		}
	}
	return lost, all
}

// The tests are not parallel: a file system can be frozen once at a time.

// TestLoadersSeeWholeFiles has the kernel bring the blocks of a change to their places in every
// order. A rename alone would not do.
func TestLoadersSeeWholeFiles(t *testing.T) {
	exchange := func(m *medium, path string, data []byte) error {
		r := newReplacement(path, m.settle)
		if err := r.prepare(data); err != nil {
			return err
		}
		if err := m.keep(); err != nil { // what comes later is behind all before
			return err
		}
		return r.exchange()
	}
	for name, c := range map[string]struct {
		replace func(m *medium, path string, data []byte) error
		size    int  // of the contents; those of one size take turns in two files
		safe    bool // no power cut loses the file
	}{
		"exchange": {exchange, 100, true},
		"spare":    {exchange, 512, true},
		"rename":   {func(_ *medium, path string, data []byte) error { return atomicfile.Write(path, data, 0o644) }, 100, false},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMedium(t)
			path := filepath.Join(m.dir, "boot", "uboot.txt")
			content := func(word string) string { return word + strings.Repeat("\n", c.size-len(word)) }
			for _, word := range []string{"first", "before"} {
				if err := writeFile(path, []byte(content(word))); err != nil {
					t.Fatal(err)
				}
			}
			unix.Sync()
			if err := m.settle(m.dir); err != nil {
				t.Fatal(err)
			}
			if err := c.replace(m, path, []byte(content("after"))); err != nil {
				t.Fatal(err)
			}
			unix.Sync()
			if err := m.settle(m.dir); err != nil {
				t.Fatal(err)
			}
			if got := seen(m.image, "/boot/uboot.txt"); got != content("after") {
				t.Errorf("a boot loader would see %q", got)
			}
			lost, all := m.lost("/boot/uboot.txt", content("before"), content("after"))
			t.Logf("%d of %d power cuts lose the file", lost, all)
			if all < 8 || c.safe != (lost == 0) {
				t.Errorf("%d of %d power cuts lose the file", lost, all)
			}
			if names, err := filepath.Glob(filepath.Join(m.dir, "boot", ".*")); err != nil || len(names) != c.size/512 {
				t.Errorf("%v is left, %v", names, err)
			}
		})
	}
}

// TestNewContentTakesNoSpace has the spare's content be where it was, also when a change was cut
// off, and looks at what a change costs.
func TestNewContentTakesNoSpace(t *testing.T) {
	m := newMedium(t)
	path := filepath.Join(m.dir, "boot", "grubenv")
	write := func(word string) {
		t.Helper()
		if err := writeFile(path, []byte(word+strings.Repeat("#", 1024-len(word)))); err != nil {
			t.Fatal(err)
		}
	}
	number := func() uint64 {
		t.Helper()
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			t.Fatal(err)
		}
		return st.Ino
	}
	write("one")
	first := number()
	write("two")
	second := number()
	for _, word := range []string{"three", "four"} {
		write(word)
		if got := number(); got != map[string]uint64{"three": first, "four": second}[word] {
			t.Errorf("%s is in inode %d; the first ones were %d and %d", word, got, first, second)
		}
	}
	// A change that was cut off: what has the name "next" may be what the loader sees.
	spare, next := filepath.Join(m.dir, "boot", ".grubenv.spare"), filepath.Join(m.dir, "boot", ".grubenv.next")
	if err := os.Rename(spare, next); err != nil {
		t.Fatal(err)
	}
	write("five")
	if _, err := os.Lstat(next); err == nil {
		t.Error("what a change that was cut off left is still there")
	}
	if err := os.Remove(spare); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/hostname", spare); err != nil {
		t.Fatal(err)
	}
	write("six")
	if got := seen(m.image, "/boot/grubenv"); !strings.HasPrefix(got, "six#") {
		t.Errorf("a boot loader would see %.20q", got)
	}
}
