package powercut

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/internal/oracle"
)

// storage makes an ext4 of 16 MiB with a tree of files.
func storage(t *testing.T) (image string, content map[string][]byte) {
	t.Helper()
	oracle.Need(t, "mke2fs", "debugfs", "e2fsck")
	tree := t.TempDir()
	big := make([]byte, 700_000)
	_, _ = rand.Read(big)
	content = map[string][]byte{"boot/grubenv": []byte("pv_rev=0\n"), "trails/0/.pv/pv-kernel.img": big, "empty": nil}
	for name, data := range content {
		path := filepath.Join(tree, name)
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, data, 0o644))
	}
	hole, err := os.Create(filepath.Join(tree, "hole"))
	must(t, err)
	_, err = hole.WriteAt([]byte("end"), 50_000)
	must(t, err)
	must(t, hole.Close())
	content["hole"] = append(make([]byte, 50_000), "end"...)
	image = filepath.Join(t.TempDir(), "ext4.img")
	command(t, "mke2fs", "-q", "-t", "ext4", "-b", "4096", "-O", "64bit,metadata_csum", "-d", tree, image, "16M")
	return image, content
}

func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, image string) *disk {
	t.Helper()
	f, err := os.Open(image)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	info, err := f.Stat()
	must(t, err)
	return newDisk(f, info.Size())
}

func TestReadsFiles(t *testing.T) {
	image, content := storage(t)
	f, err := openExt4(open(t, image))
	must(t, err)
	for name, want := range content {
		got, err := f.file(name, 1<<20)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v; want %d", name, len(got), err, len(want))
		}
	}
	if _, err := f.find("boot/none"); err == nil {
		t.Error("a file that is not there was found")
	}
}

// TestReplaysJournal has debugfs write a block of a file and of a removed one into the journal
// and compares what the replay brings to its place with what e2fsck does.
func TestReplaysJournal(t *testing.T) {
	image, _ := storage(t)
	number := strings.TrimSpace(command(t, "debugfs", "-R", "bmap /boot/grubenv 0", image))
	number = number[strings.LastIndex(number, "\n")+1:]
	other := strings.TrimSpace(command(t, "debugfs", "-R", "bmap /trails/0/.pv/pv-kernel.img 3", image))
	other = other[strings.LastIndex(other, "\n")+1:]
	blocks := filepath.Join(t.TempDir(), "blocks")
	// The second block begins like one of the journal, and has to be escaped in it.
	data := append(bytes.Repeat([]byte("new "), 1024), bytes.Repeat([]byte{0xc0, 0x3b, 0x39, 0x98}, 1024)...)
	must(t, os.WriteFile(blocks, data, 0o644))
	script := filepath.Join(t.TempDir(), "script")
	must(t, os.WriteFile(script, []byte("jo -c\njw -b "+number+","+other+" "+blocks+"\njw -r "+other+"\njc\n"), 0o644))
	command(t, "debugfs", "-w", "-f", script, image)

	d := open(t, image)
	torn := tearCommits(t, open(t, image))
	if n, err := replay(torn); !errors.Is(err, errTorn) {
		t.Errorf("a torn commit block: %d transactions, %v; a kernel does not mount it", n, err)
	}
	again, err := mount(torn)
	must(t, err)
	n, err := replay(d)
	if err != nil || n == 0 || n != again {
		t.Fatalf("%d transactions, %d with torn commit blocks, %v", n, again, err)
	}
	mended := filepath.Join(t.TempDir(), "mended.img")
	command(t, "cp", image, mended)
	_ = exec.Command("e2fsck", "-fy", mended).Run() // code 1: it has mended
	for _, name := range []string{"boot/grubenv", "trails/0/.pv/pv-kernel.img"} {
		ours, err := openExt4(d)
		must(t, err)
		theirs, err := openExt4(open(t, mended))
		must(t, err)
		a, err := ours.file(name, 1<<20)
		must(t, err)
		b, err := theirs.file(name, 1<<20)
		must(t, err)
		if !bytes.Equal(a, b) {
			t.Errorf("%s differs: %s", name, cmp.Diff(len(a), len(b)))
		}
		old, err := openExt4(open(t, image))
		must(t, err)
		c, err := old.file(name, 1<<20)
		must(t, err)
		if same := bytes.Equal(a, c); same != (name != "boot/grubenv") {
			t.Errorf("%s is the same as before: %v", name, same)
		}
	}
}

// tearCommits leaves only the first sector of each commit block in the journal of a file system.
func tearCommits(t *testing.T, d *disk) *disk {
	t.Helper()
	f, err := openExt4(d)
	must(t, err)
	j, err := openJournal(f)
	must(t, err)
	for n := range j.blocks {
		b, err := j.read(uint32(n))
		must(t, err)
		if binary.BigEndian.Uint32(b) == journalMagic && binary.BigEndian.Uint32(b[4:]) == commitBlock {
			_, err := d.WriteAt(bytes.Repeat([]byte("old "), (len(b)-sector)/4), j.blocks[n]*f.size+sector)
			must(t, err)
		}
	}
	return d
}
