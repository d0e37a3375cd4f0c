package boot

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/formats/grubenv"
	"github.com/pantavisor/pantavisor/formats/ubootenv"
	"github.com/pantavisor/pantavisor/runtime/boot/spec"
)

// supply is the power of a device in a test.
type supply struct{ left int } // writes; negative: no end

// take is called before each write.
func (s *supply) take() error {
	if s.left == 0 {
		return spec.Cut{}
	}
	s.left--
	return nil
}

// onFiles is a device whose store is a file. A stand-in for its loader reads the bytes of that file,
// and keeps its mark in another one.
type onFiles struct {
	t     *testing.T
	dir   string
	kind  string // of the store
	power supply
	// loader returns what the kernel gets as pv_rev.
	loader func() string
}

var _ spec.Device = (*onFiles)(nil)

func (d *onFiles) store() *file {
	s, err := Open(d.kind, d.dir)
	if err != nil {
		d.t.Fatal(err)
	}
	f := s.(*file)
	f.write = func(path string, data []byte) error {
		if err := d.power.take(); err != nil {
			return err
		}
		return errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, data, 0o644))
	}
	return f
}

// plain returns the harness's error for a cut.
func plain(err error) error {
	if errors.Is(err, errCut) {
		return spec.Cut{}
	}
	return err
}

func (d *onFiles) SetTry(rev string) error { return plain(d.store().SetTry(rev)) }
func (d *onFiles) Commit(rev string) error { return plain(d.store().Commit(rev)) }
func (d *onFiles) ClearTry() error         { return plain(d.store().ClearTry()) }
func (d *onFiles) Cut(n int)               { d.power.left = n }

func (d *onFiles) Lose() {
	if err := os.WriteFile(d.store().path, []byte("\x00\xff"), 0o644); err != nil {
		d.t.Fatal(err)
	}
}

func (d *onFiles) Boot(bool) string { return startup(d.t, d.store(), d.loader()) }

// startup does what init does with the revision of the command line.
func startup(t *testing.T, s Store, booted string) string {
	t.Helper()
	v, err := s.Load()
	if err != nil {
		v = Values{}
	}
	r := Decide(booted, v)
	if err := Started(s, r); err != nil {
		t.Fatal(err)
	}
	return r.Rev + " " + r.State.String()
}

// newOnFiles returns a device with revision 0 committed.
func newOnFiles(t *testing.T, kind string, loader func(d *onFiles) string) *onFiles {
	t.Helper()
	d := &onFiles{t: t, dir: t.TempDir(), kind: kind, power: supply{-1}}
	d.loader = func() string { return loader(d) }
	if err := d.Commit("0"); err != nil {
		t.Fatal(err)
	}
	return d
}

// scripted is what a boot script does with the values that it has read, and with its mark in a
// file of the boot partition. The state must be one that real loaders are tested with.
func (d *onFiles) scripted(s spec.State) string {
	d.t.Helper()
	name := filepath.Join(d.dir, "mark")
	mark, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		d.t.Fatal(err)
	}
	s.Trying = string(mark)
	if !spec.Covered(s) {
		d.t.Errorf("no loader is tested with %+v", s)
	}
	if s.Rev == "" {
		s.Rev = Factory
	}
	boot, left := spec.Pick(s)
	if err := os.WriteFile(name, []byte(left), 0o644); err != nil {
		d.t.Fatal(err)
	}
	return boot
}

// grub reads boot/grubenv.
func (d *onFiles) grub() string {
	b, err := os.ReadFile(filepath.Join(d.dir, "boot/grubenv"))
	if err != nil {
		d.t.Fatal(err)
	}
	env, err := grubenv.Parse(b)
	if err != nil { // GRUB says so and goes on
		env = nil
	}
	return d.scripted(spec.State{Rev: env[keyRev], Try: env[keyTry], Trial: env[keyTrial]})
}

// uboot reads boot/uboot.txt. A script that is older than the number of the test does not import
// that.
func (d *onFiles) uboot(imports ...string) string {
	b, err := os.ReadFile(filepath.Join(d.dir, "boot/uboot.txt"))
	if err != nil {
		d.t.Fatal(err)
	}
	got := map[string]string{}
	for _, e := range ubootenv.Parse(b) {
		for _, name := range imports {
			if e.Name == name {
				got[name] = e.Value
			}
		}
	}
	return d.scripted(spec.State{Rev: got[keyRev], Try: got[keyTry], Trial: got[keyTrial]})
}

// TestHandshakeOnFiles runs the specification with the stores in files.
func TestHandshakeOnFiles(t *testing.T) {
	t.Parallel()
	for name, newDevice := range map[string]func(t *testing.T) spec.Device{
		"grub": func(t *testing.T) spec.Device { return newOnFiles(t, "grub", (*onFiles).grub) },
		"uboot": func(t *testing.T) spec.Device {
			return newOnFiles(t, "uboot", func(d *onFiles) string { return d.uboot(keyRev, keyTry, keyTrial) })
		},
		"App Engine": func(t *testing.T) spec.Device {
			return newOnFiles(t, "uboot", func(d *onFiles) string {
				rev, err := Pick(d.store())
				if err != nil {
					d.t.Fatal(err)
				}
				return rev
			})
		},
		"extlinux":     newExtlinux,
		"Raspberry Pi": func(t *testing.T) spec.Device { return newTwoPartitions(t, newPi) },
		"UEFI":         func(t *testing.T) spec.Device { return newTwoPartitions(t, newPC) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spec.Run(t, newDevice)
		})
	}
}

// newExtlinux returns a device whose loader only reads. Without its file such a loader starts
// nothing, so the file is not destroyed.
func newExtlinux(t *testing.T) spec.Device {
	t.Helper()
	_, dir := extlinuxStore(t)
	d := &onFiles{t: t, dir: dir, kind: "extlinux", power: supply{-1}}
	d.loader = func() string {
		rev, _ := extlinuxBoot(t, dir)
		return rev
	}
	return reader{d}
}

type reader struct{ *onFiles }

func (reader) Lose() {}

// twoPartitions is a device with a boot image on each of two partitions.
type twoPartitions struct {
	*pi
}

var _ spec.Device = twoPartitions{}

func newTwoPartitions(t *testing.T, newDevice func(t *testing.T) *pi) spec.Device {
	t.Helper()
	d := newDevice(t)
	for rev, of := range map[string]string{"1": "1", "2": "2", "6": "0"} {
		d.image(rev, of)
	}
	return twoPartitions{d}
}

// attempt runs an operation until the power fails.
func (d twoPartitions) attempt(operation func(*slots) error) (err error) {
	d.t.Helper()
	defer func() {
		if e := recover(); e == any(powerCut{}) {
			err = spec.Cut{}
		} else if e != nil {
			panic(e)
		}
	}()
	return operation(d.pi.store())
}

func (d twoPartitions) SetTry(rev string) error {
	return d.attempt(func(s *slots) error { return s.SetTry(rev) })
}

func (d twoPartitions) Commit(rev string) error {
	return d.attempt(func(s *slots) error { return s.Commit(rev) })
}

func (d twoPartitions) ClearTry() error { return d.attempt((*slots).ClearTry) }

func (d twoPartitions) Cut(n int) { d.events, d.cut = 0, n+1 }

func (d twoPartitions) Lose() {
	if err := os.Remove(d.pi.store().path); err != nil {
		d.t.Fatal(err)
	}
}

func (d twoPartitions) Boot(powerLost bool) string {
	d.t.Helper()
	d.flag = d.flag && (d.efi || !powerLost)
	d.restart()
	r := d.state()
	if err := Started(d.pi.store(), r); err != nil {
		d.t.Fatal(err)
	}
	return strings.TrimSpace(r.Rev + " " + r.State.String())
}
