package boot

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pantavisor/pantavisor/formats/autoboot"
	"github.com/pantavisor/pantavisor/formats/fat"
	"github.com/pantavisor/pantavisor/formats/fatfile"
	"github.com/pantavisor/pantavisor/formats/tree"
)

const (
	fatSize   = 5 << 20
	imageSize = 256 << 10 // about that of what a boot image has
)

// pi is a device with two boot partitions: the files of its partitions, its storage, and a
// stand-in for its firmware.
type pi struct {
	t       *testing.T
	dir     string
	efi     bool // its firmware is UEFI, with the flag on the first partition
	flag    bool // the firmware was asked for tryboot
	tryboot bool // it has booted so
	booted  int  // from this partition
	boots   int

	written int // bytes, to partitions

	events int // writes to partitions, and questions to the firmware
	cut    int // the power fails before this event; 0: never
}

// powerCut is the panic that ends a device.
type powerCut struct{}

func fatImage(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var entries []tree.Entry
	for name, text := range files {
		entries = append(entries, tree.Bytes(name, 0o644, []byte(text)))
	}
	file := filepath.Join(t.TempDir(), "fat")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(fatSize); err != nil {
		t.Fatal(err)
	}
	used, err := fat.Write(f, 0, entries, fat.Options{Bits: 16, Size: fatSize, Label: "boot", Time: time.Unix(1577836800, 0)})
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return data[:used] // behind it is nothing
}

// bootImages are those that were made.
var bootImages sync.Map

// bootImage is a boot partition with the kernel of a revision.
func bootImage(t *testing.T, rev string) []byte {
	if data, ok := bootImages.Load(rev); ok {
		return data.([]byte)
	}
	data := newBootImage(t, rev)
	bootImages.Store(rev, data)
	return data
}

func newBootImage(t *testing.T, rev string) []byte {
	return fatImage(t, map[string]string{autoboot.RevisionFile: autoboot.Pad("none\n"), "kernel.img": "kernel of " + rev, "zz.bin": strings.Repeat(rev, imageSize/len(rev))})
}

// newPi returns a Raspberry Pi that runs revision 0 from partition 2 and has the image of 5.
func newPi(t *testing.T) *pi {
	return newDevice(t, false, map[string]string{autoboot.FileName: autoboot.Choice{Default: 2, Try: 3}.Text()})
}

// newPC returns such a machine with UEFI firmware.
func newPC(t *testing.T) *pi {
	return newDevice(t, true, map[string]string{
		autoboot.FileName: autoboot.Choice{Default: 2, Try: 3}.BlockText(), autoboot.OnceFile: autoboot.OnceText(0),
	})
}

// onEach runs a test on both kinds of devices.
func onEach(t *testing.T, test func(t *testing.T, newDevice func(*testing.T) *pi)) {
	t.Run("Raspberry Pi", func(t *testing.T) { test(t, newPi) })
	t.Run("UEFI", func(t *testing.T) { test(t, newPC) })
}

func newDevice(t *testing.T, efi bool, selector map[string]string) *pi {
	t.Helper()
	d := &pi{t: t, dir: t.TempDir(), efi: efi}
	d.partition(1, fatImage(t, selector))
	d.partition(2, bootImage(t, "0"))
	d.partition(3, nil) // without a file system
	if err := d.store().note(2, []string{"0"}); err != nil {
		t.Fatal(err)
	}
	d.image("0", "0")
	d.image("5", "5")
	d.events = 0
	d.restart()
	return d
}

// partition makes a partition that begins with some bytes.
func (d *pi) partition(number int, data []byte) {
	d.t.Helper()
	name := fmt.Sprintf("p%d", number)
	d.write(name, data)
	if err := os.Truncate(filepath.Join(d.dir, name), fatSize); err != nil {
		d.t.Fatal(err)
	}
}

// image gives a revision the boot image of another one.
func (d *pi) image(rev, of string) {
	d.t.Helper()
	var z bytes.Buffer
	w, err := gzip.NewWriterLevel(&z, gzip.BestSpeed)
	if err != nil {
		d.t.Fatal(err)
	}
	if _, err := w.Write(bootImage(d.t, of)); err != nil || w.Close() != nil {
		d.t.Fatal(err)
	}
	d.write("storage/trails/"+rev+"/.pv/"+d.store().boot+".gz", z.Bytes())
}

func (d *pi) write(name string, data []byte) {
	d.t.Helper()
	file := filepath.Join(d.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, data, 0o644)); err != nil {
		d.t.Fatal(err)
	}
}

// event is something that a power cut can come before.
func (d *pi) event() {
	d.events++
	if d.events == d.cut {
		panic(powerCut{})
	}
}

// cutPartition is a partition of a device whose power may fail.
type cutPartition struct {
	*os.File
	d *pi
}

func (p cutPartition) WriteAt(b []byte, at int64) (int, error) {
	p.d.event()
	p.d.written += len(b)
	return p.File.WriteAt(b, at)
}

func (d *pi) store() *slots {
	m := Machine{
		Open: func(number int) (Partition, error) {
			f, err := os.OpenFile(filepath.Join(d.dir, fmt.Sprintf("p%d", number)), os.O_RDWR, 0)
			return cutPartition{f, d}, err
		},
		Booted: func() (int, error) { return d.booted, nil },
		Tree:   filepath.Join(d.dir, "tree"),
		BootID: func() (string, error) { return fmt.Sprint("boot", d.boots), nil },
		Tryboot: func(on bool) error {
			d.event()
			d.flag = on
			return nil
		},
		Answers: func() error { return nil },
	}
	s := newRPiAB(filepath.Join(d.dir, "storage"), m)
	if d.efi {
		s = newEFIAB(filepath.Join(d.dir, "storage"), m)
	}
	s.file.write = func(path string, data []byte) error {
		d.event()
		return errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, data, 0o644))
	}
	return s
}

// restart is what the firmware does: it takes the last boot_partition of autoboot.txt whose
// section applies, and forgets the flag.
func (d *pi) restart() {
	d.t.Helper()
	d.boots++
	f, err := os.OpenFile(filepath.Join(d.dir, "p1"), os.O_RDWR, 0)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	if d.efi {
		d.flag = d.takeOnce(f)
	}
	d.tryboot, d.flag = d.flag, false
	text, err := fatfile.Read(f, "autoboot.txt")
	if err != nil {
		d.t.Fatal(err)
	}
	applies := true
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			applies = line == "[all]" || line == "[tryboot]" && d.tryboot
		} else if applies {
			_, _ = fmt.Sscanf(line, "boot_partition=%d", &d.booted)
		}
	}
	number := uint32(0)
	if d.tryboot {
		number = 1
	}
	d.write("tree/tryboot", binary.BigEndian.AppendUint32(nil, number))
}

// takeOnce is what GRUB does with the flag: it clears it and then uses it.
func (d *pi) takeOnce(f *os.File) bool {
	d.t.Helper()
	text, err := fatfile.Read(f, "tryboot.txt")
	if err == nil {
		err = fatfile.Write(f, "tryboot.txt", []byte("# GRUB Environment Block\npv_once=\n"+strings.Repeat("#", 478)))
	}
	if err != nil {
		d.t.Fatal(err)
	}
	return strings.Contains(string(text), "\npv_once=3\n") || strings.Contains(string(text), "\npv_once=2\n")
}

// state is what init decides, after it was checked that the kernel of the revision runs.
func (d *pi) state() Running {
	d.t.Helper()
	s := d.store()
	rev, err := s.Booted()
	if err != nil {
		d.t.Fatalf("booted from partition %d: %v", d.booted, err)
	}
	v, err := s.Load()
	if err != nil {
		d.t.Fatal(err)
	}
	r := Decide(rev, v)
	p, err := s.open(d.booted)
	if err != nil {
		d.t.Fatal(err)
	}
	defer p.Close()
	kernel, err := fatfile.Read(p, "kernel.img")
	if want := "kernel of " + d.kernelOf(r.Rev); err != nil || string(kernel) != want {
		d.t.Errorf("revision %s runs with %q, %v", r.Rev, kernel, err)
	}
	return r
}

// kernelOf returns the revision whose kernel a revision has.
func (d *pi) kernelOf(rev string) string {
	if rev == "6" {
		return "0"
	}
	return rev
}

func (d *pi) want(want Running) {
	d.t.Helper()
	if got := d.state(); got != want {
		d.t.Errorf("state %+v, want %+v", got, want)
	}
}

// TestTrybootCommitOfAnother: what is committed must be on the partition that runs.
func TestTrybootCommitOfAnother(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, newDevice func(*testing.T) *pi) {
		d := newDevice(t)
		if err := d.store().SetTry("5"); err != nil {
			t.Fatal(err)
		}
		d.restart()
		d.want(Running{Rev: "5", Done: "0", Try: "5", State: Trying})
		if err := d.store().Commit("6"); err == nil || !strings.Contains(err.Error(), "has another revision") {
			t.Errorf("the commit of a revision that does not run: %v", err)
		}
	})
}

// TestTrybootWrites counts the bytes that are written to partitions: an image that is there already
// is not written again, and the boot image of the good revision not at all.
func TestTrybootWrites(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, newDevice func(*testing.T) *pi) {
		d := newDevice(t)
		d.image("6", "0")
		d.image("7", "5")
		for _, step := range []struct {
			rev      string
			min, max int
		}{{"6", autoboot.Size, 2 * autoboot.Size}, {"5", imageSize, 2 * imageSize}, {"7", 1, 2 * chunk}, {"7", 1, 2 * chunk}} {
			d.written = 0
			if err := d.store().SetTry(step.rev); err != nil {
				t.Fatal(err)
			}
			if d.written < step.min || d.written > step.max {
				t.Errorf("revision %s: %d bytes are written, want %d to %d", step.rev, d.written, step.min, step.max)
			}
			d.restart()
			if rev, err := d.store().Booted(); rev != step.rev || err != nil {
				t.Errorf("revision %q runs, want %s: %v", rev, step.rev, err)
			}
			d.restart()
		}
	})
}

func TestTrybootRejects(t *testing.T) {
	d := newPi(t)
	for rev, want := range map[string]string{"4": "no such file", "../x": "revision name"} {
		if err := d.store().SetTry(rev); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", rev, err, want)
		}
	}
	d.write("storage/trails/7/.pv/rpiboot.img", make([]byte, fatSize+1))
	if err := d.store().SetTry("7"); err == nil || !strings.Contains(err.Error(), "does not fit") {
		t.Errorf("an image that is too large: %v", err)
	}
	s := d.store()
	s.firmware = raspberry{filepath.Join(d.dir, "tree"), func(bool) error { return errors.New("no mailbox") }, func() error { return nil }}
	if err := s.SetTry("5"); err == nil {
		t.Error("a firmware that cannot be asked")
	}
	d.want(Running{Rev: "0", Done: "0"})
	d.write("tree/build-timestamp", binary.BigEndian.AppendUint32(nil, uint32(time.Date(2020, 9, 3, 0, 0, 0, 0, time.UTC).Unix())))
	if err := d.store().SetTry("5"); err == nil || !strings.Contains(err.Error(), "EEPROM is of 2020-09-03") {
		t.Errorf("an old loader: %v", err)
	}
}

func TestEFIRejects(t *testing.T) {
	d := newPC(t)
	s := d.store()
	s.firmware = efi{s.open, func() (int, error) { return 1, nil }}
	for what, err := range map[string]error{"trying": s.SetTry("5"), "committing": s.Commit("0")} {
		if err == nil || !strings.Contains(err.Error(), "booted from partition 1") {
			t.Errorf("%s: %v", what, err)
		}
	}
	s.firmware = efi{s.open, func() (int, error) { return 0, errors.New("no such variable") }}
	if _, err := s.Booted(); err == nil || !strings.Contains(err.Error(), "no such variable") {
		t.Errorf("a firmware that does not say it: %v", err)
	}
	d.want(Running{Rev: "0", Done: "0"})
}

func TestEFIText(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"\x06\x00\x00\x00a\x001\x00\x00\x00": "a1", "\x06\x00\x00\x00": "", "\x06": "?", "\x06\x00\x00\x00a": "?"} {
		got, err := efiText([]byte(text))
		if (err != nil) != (want == "?") || err == nil && got != want {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
}
