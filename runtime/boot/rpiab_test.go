package boot

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pantavisor/pantavisor/formats/autoboot"
	"github.com/pantavisor/pantavisor/formats/fat"
	"github.com/pantavisor/pantavisor/formats/fatfile"
	"github.com/pantavisor/pantavisor/formats/tree"
)

const fatSize = 34 << 20

// pi is a device with two boot partitions: the files of its partitions, its storage, and a
// stand-in for its firmware.
type pi struct {
	t       *testing.T
	dir     string
	efi     bool // its firmware is UEFI, with the flag on the first partition
	flag    bool // the firmware was asked for tryboot
	tryboot bool // it has booted so
	booted  int  // from this partition

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
	used, err := fat.Write(f, 0, entries, fat.Options{Size: fatSize, Label: "boot", Time: time.Unix(1577836800, 0)})
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return data[:used] // behind it is nothing
}

// bootImage is a boot partition with the kernel of a revision.
func bootImage(t *testing.T, rev string) []byte {
	return fatImage(t, map[string]string{autoboot.RevisionFile: autoboot.Pad("none\n"), "kernel.img": "kernel of " + rev, "zz.bin": strings.Repeat(rev, 1<<18)})
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
	d.write("p1", fatImage(t, selector))
	d.write("p2", bootImage(t, "0"))
	d.write("p3", make([]byte, fatSize)) // without a file system
	if err := d.store().note(2, []string{"0"}); err != nil {
		t.Fatal(err)
	}
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	if _, err := w.Write(bootImage(t, "5")); err != nil || w.Close() != nil {
		t.Fatal(err)
	}
	d.write("storage/trails/5/.pv/"+d.store().boot+".gz", z.Bytes())
	d.events = 0
	d.restart()
	return d
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

func (p cutPartition) Write(b []byte) (int, error) {
	p.d.event()
	return p.File.Write(b)
}

func (p cutPartition) WriteAt(b []byte, at int64) (int, error) {
	p.d.event()
	return p.File.WriteAt(b, at)
}

// ReadFrom has Write see every piece.
func (p cutPartition) ReadFrom(r io.Reader) (int64, error) { return io.Copy(struct{ io.Writer }{p}, r) }

func (d *pi) store() *slots {
	s := newRPiAB(filepath.Join(d.dir, "storage"))
	open := func(number int) (partition, error) {
		f, err := os.OpenFile(filepath.Join(d.dir, fmt.Sprintf("p%d", number)), os.O_RDWR, 0)
		return cutPartition{f, d}, err
	}
	s.open = open
	s.firmware = raspberry{filepath.Join(d.dir, "tree"), func() error {
		d.event()
		d.flag = true
		return nil
	}}
	if d.efi {
		s = newEFIAB(filepath.Join(d.dir, "storage"))
		s.open, s.firmware = open, efi{open, func() (int, error) { return d.booted, nil }}
	}
	return s
}

// restart is what the firmware does: it takes the last boot_partition of autoboot.txt whose
// section applies, and forgets the flag.
func (d *pi) restart() {
	d.t.Helper()
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

// powerLost is a restart without the flag.
func (d *pi) powerLost() {
	d.flag = false
	d.restart()
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
	if want := "kernel of " + r.Rev; err != nil || string(kernel) != want && r.Rev != "6" {
		d.t.Errorf("revision %s runs with %q, %v", r.Rev, kernel, err)
	}
	return r
}

func (d *pi) want(want Running) {
	d.t.Helper()
	if got := d.state(); got != want {
		d.t.Errorf("state %+v, want %+v", got, want)
	}
}

// attempt runs a step and reports whether the power failed in it.
func (d *pi) attempt(step func(*slots) error) (failed bool) {
	d.t.Helper()
	defer func() {
		if e := recover(); e != nil {
			if _, ok := e.(powerCut); !ok {
				panic(e)
			}
			failed = true
		}
	}()
	if err := step(d.store()); err != nil {
		d.t.Fatal(err)
	}
	return false
}

func try5(s *slots) error    { return s.SetTry("5") }
func commit5(s *slots) error { return s.Commit("5") }

// The tests are not parallel: a commit freezes the file system of the temporary directory for a
// moment.

func TestTrybootUpdate(t *testing.T) { onEach(t, updates) }

func updates(t *testing.T, newDevice func(*testing.T) *pi) {
	d := newDevice(t)
	d.want(Running{Rev: "0", Done: "0"})
	d.attempt(try5)
	d.restart()
	d.want(Running{Rev: "5", Done: "0", Try: "5", State: Trying})
	if err := d.store().SetTry("5"); err == nil || !strings.Contains(err.Error(), "under test") {
		t.Errorf("a second test at once: %v", err)
	}
	d.attempt(commit5)
	for range 2 {
		d.powerLost()
		d.want(Running{Rev: "5", Done: "5"})
	}
}

// TestTrybootFails restarts without a commit: the firmware falls back by itself.
func TestTrybootFails(t *testing.T) { onEach(t, failsTest) }

func failsTest(t *testing.T, newDevice func(*testing.T) *pi) {
	d := newDevice(t)
	d.attempt(try5)
	d.restart()
	d.restart()
	d.want(Running{Rev: "0", Done: "0", Try: "5", State: RolledBack})
	d.attempt((*slots).ClearTry)
	d.want(Running{Rev: "0", Done: "0"})
}

// TestTrybootPowerCuts cuts the power before each kind of event of an update. The device then
// runs the old or the new revision, each with its own kernel, and the update can be made.
func TestTrybootPowerCuts(t *testing.T) { onEach(t, losesPower) }

func losesPower(t *testing.T, newDevice func(*testing.T) *pi) {
	whole := newDevice(t)
	whole.attempt(try5)
	install := whole.events
	whole.restart()
	whole.attempt(commit5)
	if whole.events != install+1 {
		t.Fatalf("a commit has %d writes to partitions; want one", whole.events-install)
	}
	for _, cut := range []int{1, install / 2, install - 1, install} {
		d := newDevice(t)
		d.cut = cut
		if !d.attempt(try5) {
			t.Fatalf("event %d of %d did not come", cut, install)
		}
		d.powerLost()
		r := d.state()
		if r.Rev != "0" || r.State != Steady && r.State != RolledBack {
			t.Errorf("cut %d of the installation: %+v", cut, r)
		}
		d.attempt((*slots).ClearTry)
		d.attempt(try5)
		d.restart()
		d.want(Running{Rev: "5", Done: "0", Try: "5", State: Trying})
	}
	// Before the commit's write the test has failed; behind it, it is made again.
	d := newDevice(t)
	d.attempt(try5)
	d.restart()
	d.cut = d.events + 1
	if !d.attempt(commit5) {
		t.Fatal("the commit did not write")
	}
	d.powerLost()
	d.want(Running{Rev: "0", Done: "0", Try: "5", State: RolledBack})
	d.attempt(try5)
	d.restart()
	choice, _, err := d.store().running()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.store().change(selector, autoboot.FileName, choice.Swapped().Text()); err != nil {
		t.Fatal(err)
	}
	d.powerLost()
	d.want(Running{Rev: "5", Done: "0", Try: "5", State: Trying})
	d.attempt(commit5)
	d.powerLost()
	d.want(Running{Rev: "5", Done: "5"})
}

// TestTrybootCommitWithoutRestart commits revisions that share the BSP.
func TestTrybootCommitWithoutRestart(t *testing.T) { onEach(t, commitsWithoutRestart) }

func commitsWithoutRestart(t *testing.T, newDevice func(*testing.T) *pi) {
	d := newDevice(t)
	d.attempt(func(r *slots) error { return r.Commit("6") })
	d.powerLost()
	d.want(Running{Rev: "6", Done: "6"})
	var err error
	for n := 10; err == nil && n < 30; n++ {
		err = d.store().Commit(fmt.Sprintf("locals/%062d", n))
	}
	if err == nil || !strings.Contains(err.Error(), "restart the device") {
		t.Errorf("a list that is full: %v", err)
	}
	if v, err := d.store().Load(); err != nil || v.Rev == "" || v.Rev == "6" {
		t.Errorf("%+v, %v", v, err)
	}
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
	s.firmware = raspberry{filepath.Join(d.dir, "tree"), func() error { return errors.New("no mailbox") }}
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

// TestEFIFlagIsWithdrawn gives up a test before the restart that was to begin it.
func TestEFIFlagIsWithdrawn(t *testing.T) {
	d := newPC(t)
	d.attempt(try5)
	d.attempt((*slots).ClearTry)
	d.restart()
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
