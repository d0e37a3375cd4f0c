package powercut

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	ours "github.com/pantavisor/pantavisor/formats/ext4"
	"github.com/pantavisor/pantavisor/formats/tree"
	"github.com/pantavisor/pantavisor/internal/oracle"
	runtime "github.com/pantavisor/pantavisor/runtime/storage"
)

// writerSize has a second block group, with the copy of the superblock: the runtime mends a torn
// one with it.
const writerSize = 136 * mebi

// durable says that a file has a content from an entry of the log on, and that it is not there when
// the content is empty. changing says that it may have another one.
type (
	durable  struct{ name, text string }
	changing string
)

// TestPowerCutsOfOurExt4 has this machine's kernel write to a file system of formats/ext4, cuts the
// power at flushes and between them, and has the runtime mount it, which replays the journal: each file that was
// synchronized is there, and e2fsck finds nothing. PV_TEST_STRESS=1 does so at each moment, and with
// blocks of 1 KiB too.
func TestPowerCutsOfOurExt4(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
	for _, file := range []string{"/dev/fuse", "/dev/loop-control"} {
		if _, err := os.Stat(file); err != nil {
			t.Skipf("needs block devices of its own: %v", err)
		}
	}
	oracle.Need(t, "e2fsck")
	sizes := []int{4096} // as on all media
	if os.Getenv("PV_TEST_STRESS") != "" {
		sizes = append(sizes, 1024)
	}
	for _, size := range sizes {
		t.Run(fmt.Sprint(size), func(t *testing.T) { cutWriter(t, size) })
	}
}

func cutWriter(t *testing.T, blockSize int) {
	rec := recordWriter(t, blockSize)
	writes := 0
	for _, e := range rec.Log {
		if e.Kind == wrote {
			writes++
		}
	}
	every := max(1, writes/16)
	if os.Getenv("PV_TEST_STRESS") != "" {
		every = 1
	}
	c := replayWriter(t, rec, every, false)
	t.Logf("%d writes, %d flushes, %d disks, %d of them with writes that are missing or torn", c.writes, c.flushed, c.judged, c.lossy)
	if c.writes < 60 || c.flushed < 15 || c.judged < 20 || c.lossy < 10 {
		t.Error("the recording is too short")
	}
	for _, f := range c.findings {
		t.Error(f)
	}
	if lying := replayWriter(t, rec, writes/2, true); len(lying.findings) == 0 {
		t.Error("a disk that does not flush is as good as one that does")
	}
}

// replayWriter cuts the power behind each one of every writes.
func replayWriter(t *testing.T, rec *recording, every int, lying bool) *cutter {
	t.Helper()
	base, err := os.Open(rec.Image)
	must(t, err)
	defer base.Close()
	c := &cutter{t: t, dir: t.TempDir(), files: map[string]string{}, replayer: &replayer{
		rec: rec, durable: newDisk(base, rec.Size), rng: rand.New(rand.NewPCG(uint64(rec.Size), 0)), o: replayOptions{Lying: lying},
	}}
	for i, e := range rec.Log {
		c.step(i, e, every)
	}
	return c
}

// cutter goes through a recording of one file system.
type cutter struct {
	*replayer
	t     *testing.T
	dir   string
	files map[string]string // that are durable
	at    int

	writes, flushed, judged, lossy int
	findings                       []string
}

// step does what an entry says; behind each one of every writes, and each one of every/2 flushes,
// the power is cut.
func (c *cutter) step(i int, e entry, every int) {
	c.at = i
	switch e.Kind {
	case marked:
		switch seen := e.Mark.(type) {
		case durable:
			c.files[seen.name] = seen.text
		case changing:
			delete(c.files, string(seen))
		}
	case flushed:
		must(c.t, c.flush())
		if c.flushed++; c.flushed%max(1, every/2) == 0 {
			c.cut("all writes are there", c.durable)
		}
	case wrote:
		c.pending = append(c.pending, e)
		if c.writes++; c.writes%every != 0 {
			return
		}
		torn := c.rng.IntN(len(c.pending))
		d, err := c.without(torn, func(int) bool { return c.rng.IntN(2) == 0 })
		must(c.t, err)
		c.lossy++
		c.cut(fmt.Sprintf("some of %d writes are there, one is torn", len(c.pending)), d)
	}
}

// cut mounts a disk, which replays the journal, and checks it.
func (c *cutter) cut(how string, d *disk) {
	c.judged++
	if err := c.check(d); err != nil {
		c.findings = append(c.findings, fmt.Sprintf("entry %d, %s: %v", c.at, how, err))
	}
}

func (c *cutter) check(d *disk) error {
	file := filepath.Join(c.dir, "cut.img")
	if err := d.partition(context.Background(), file, c.rec.Image, 0); err != nil {
		return err
	}
	defer os.Remove(file)
	if err := mounted(file, c.dir, func(dir string) error {
		for name, want := range c.files {
			got, err := os.ReadFile(filepath.Join(dir, name))
			if want == "" && errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil || string(got) != want {
				return fmt.Errorf("%s has %d bytes of %d: %w", name, len(got), len(want), err)
			}
		}
		return os.WriteFile(filepath.Join(dir, "after"), []byte("it takes files"), 0o644)
	}); err != nil {
		return err
	}
	if out, err := exec.Command("e2fsck", "-fn", file).CombinedOutput(); err != nil {
		return fmt.Errorf("e2fsck: %w\n%s", err, out)
	}
	return nil
}

// mounted does something while a file system is mounted.
func mounted(file, tmp string, do func(dir string) error) (err error) {
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	device, detach, err := attach(file, extentOf{0, info.Size()})
	if err != nil {
		return err
	}
	defer detach()
	return mountedDevice(device, tmp, do)
}

func mountedDevice(device, tmp string, do func(dir string) error) error {
	dir := filepath.Join(tmp, "mnt")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := runtime.Mount(runtime.Device{Path: device}, runtime.MountOptions{Target: dir, Type: "ext4"}); err != nil {
		return err
	}
	return errors.Join(do(dir), unix.Unmount(dir, 0))
}

// recordWriter writes a file system and has the kernel change it while it is recorded.
func recordWriter(t *testing.T, blockSize int) *recording {
	t.Helper()
	dir := t.TempDir()
	rec := &recording{Image: filepath.Join(dir, "fs.img"), Size: writerSize}
	f, err := os.Create(rec.Image)
	must(t, err)
	defer f.Close()
	must(t, f.Truncate(writerSize))
	entries := []tree.Entry{tree.Dir("many", 0o755), tree.Dir("few", 0o755), tree.Bytes("few/linked", 0o644, []byte("two names"))}
	for i := range 1500 { // enough for an index
		entries = append(entries, tree.Bytes(fmt.Sprintf("many/%04d", i), 0o644, []byte("content")))
	}
	link := tree.Entry{Name: "few/other", HardLink: "few/linked"}
	entries = append(entries, link, tree.Bytes("few/large", 0o644, bytes.Repeat([]byte("large"), 1<<18)))
	must(t, ours.Write(t.Context(), f, entries, ours.Options{Size: writerSize, BlockSize: blockSize, Journal: 1024 * int64(blockSize), UUID: [16]byte{1}, HashSeed: [16]byte{2}}))
	recorder := newRecorder(newDisk(f, rec.Size), 0)
	backing := filepath.Join(dir, "disk")
	must(t, os.WriteFile(backing, nil, 0o600))
	server, err := serveFile(backing, recorder)
	must(t, err)
	defer func() { must(t, server.Close()) }()
	device, detach, err := attach(backing, extentOf{0, rec.Size})
	must(t, err)
	defer detach()
	must(t, mountedDevice(device, dir, func(mnt string) error { return use(mnt, recorder) }))
	rec.Log = recorder.Log()
	return rec
}

// use changes what the writer made, and says after each step what no power cut may take away.
func use(dir string, r *recorder) error {
	sync := func() error {
		d, err := unix.Open(dir, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		return errors.Join(unix.Syncfs(d), unix.Close(d))
	}
	put := func(name, text string) error { return os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644) }
	for round := range 6 {
		r.Mark(changing("few/moved"))
		var changed []durable
		for i := range 40 { // split blocks of the directory with an index, and free others
			d := durable{fmt.Sprintf("many/%s-%d-%d", strings.Repeat("new", i), round, i), strings.Repeat("x", i*50+1)}
			gone := durable{name: fmt.Sprintf("many/%04d", round*40+i)}
			if err := errors.Join(put(d.name, d.text), os.Remove(filepath.Join(dir, gone.name))); err != nil {
				return err
			}
			changed = append(changed, d, gone)
		}
		large := durable{fmt.Sprintf("few/large-%d", round), strings.Repeat("more", 50_000*(round+1))}
		moved := durable{"few/moved", fmt.Sprintf("round %d", round)}
		if err := errors.Join(
			put(large.name, large.text), put("few/temporary", moved.text), os.Rename(filepath.Join(dir, "few/temporary"), filepath.Join(dir, moved.name)),
			os.Truncate(filepath.Join(dir, "few/large"), int64(1<<20-round*100_000)), unix.Setxattr(filepath.Join(dir, "few/linked"), "user.round", []byte(moved.text), 0), sync(),
		); err != nil {
			return err
		}
		changed = append(changed, large, moved, durable{"few/other", "two names"})
		for _, d := range changed {
			r.Mark(d)
		}
	}
	return nil
}
