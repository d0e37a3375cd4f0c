package boot

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/formats/ubootenv"
	"github.com/pantavisor/pantavisor/formats/ubootstate"
	"github.com/pantavisor/pantavisor/runtime/boot/spec"
	"github.com/pantavisor/pantavisor/runtime/config"
)

// stateOnly is a board with its values in NOR flash memory alone.
type stateOnly struct{ *board }

var _ spec.Device = stateOnly{}

// newStateOnly returns a board as the build makes it: a list at the beginning of pv-env.
func newStateOnly(t *testing.T, nand bool) stateOnly {
	t.Helper()
	list, err := ubootenv.Encode([]ubootenv.Entry{{Name: keyRev, Value: "0"}})
	if err != nil {
		t.Fatal(err)
	}
	memory := bytes.Repeat([]byte{0xff}, 4*testBlock)
	copy(memory, list)
	return stateOnly{&board{t: t, nand: nand, memory: map[string][]byte{defaultState: memory}}}
}

func (b *board) openChip(name string) (flashMemory, error) {
	if b.memory[name] == nil {
		return nil, errNoFlash
	}
	return &chip{b, name}, nil
}

func (d stateOnly) store() *flashEnv { return &flashEnv{defaultState, d.openChip} }

func (d stateOnly) SetTry(rev string) error { return plain(d.store().SetTry(rev)) }
func (d stateOnly) Commit(rev string) error { return plain(d.store().Commit(rev)) }
func (d stateOnly) ClearTry() error         { return plain(d.store().ClearTry()) }

// Lose erases the first copy.
func (d stateOnly) Lose() {
	copy(d.memory[defaultState], bytes.Repeat([]byte{0xff}, testBlock))
}

// Boot is what U-Boot does by the commands of package ubootflash.
func (d stateOnly) Boot(bool) string {
	d.t.Helper()
	memory := d.memory[defaultState]
	word := func(at int) uint32 { return binary.NativeEndian.Uint32(memory[at:]) }
	at := 0
	if second := 2 * testBlock; word(ubootstate.CompleteAt) != ubootstate.Word && word(second+ubootstate.CompleteAt) == ubootstate.Word {
		at = second
	}
	values := map[string]string{}
	for _, e := range ubootenv.Parse(memory[at : at+ubootstate.MarkAt]) {
		values[e.Name] = e.Value
	}
	boot := values[keyRev]
	if boot == "" {
		boot = Factory
	}
	if values[keyTry] != "" && word(at+ubootstate.MarkAt) == 0xffffffff {
		binary.NativeEndian.PutUint32(memory[at+ubootstate.MarkAt:], 0)
		boot = values[keyTry]
	}
	return startup(d.t, d.store(), boot)
}

// markInFlash is a device with its values in a file and the mark of its loader in flash memory,
// where an older U-Boot has it. That one removes its mark when it has fallen back.
type markInFlash struct {
	*board
	path string
}

var _ spec.Device = markInFlash{}

func newMarkInFlash(t *testing.T) markInFlash {
	t.Helper()
	b := &board{t: t, memory: map[string][]byte{defaultState: bytes.Repeat([]byte{0xff}, 2*testBlock)}}
	d := markInFlash{b, t.TempDir()}
	if err := d.Commit("0"); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d markInFlash) store() *marked {
	s := *newUBoot(d.path)
	s.write = func(path string, data []byte) error {
		if _, err := d.power(1); err != nil {
			return err
		}
		return errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, data, 0o644))
	}
	return &marked{s, defaultState, d.openChip}
}

func (d markInFlash) SetTry(rev string) error { return plain(d.store().SetTry(rev)) }
func (d markInFlash) Commit(rev string) error { return plain(d.store().Commit(rev)) }
func (d markInFlash) ClearTry() error         { return plain(d.store().ClearTry()) }

func (d markInFlash) Lose() {
	if err := os.Remove(d.store().path); err != nil {
		d.t.Fatal(err)
	}
}

func (d markInFlash) Boot(bool) string {
	d.t.Helper()
	memory := d.memory[defaultState]
	text, err := os.ReadFile(d.store().path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		d.t.Fatal(err)
	}
	values := map[string]string{keyRev: Factory}
	for _, e := range slices.Concat(ubootenv.Parse(text), ubootenv.Parse(bytes.TrimRight(memory[:testBlock], "\xff"))) {
		values[e.Name] = e.Value
	}
	boot, mark := spec.Pick(spec.State{Rev: values[keyRev], Try: values[keyTry], Trying: values[keyTrying]})
	copy(memory, bytes.Repeat([]byte{0xff}, testBlock))
	if mark != "" {
		copy(memory, keyTrying+"="+mark+"\x00\x00")
	}
	return startup(d.t, d.store(), boot)
}

// TestHandshakeInFlash runs the specification with values in flash memory and with the mark
// there.
func TestHandshakeInFlash(t *testing.T) {
	t.Parallel()
	t.Run("mark", func(t *testing.T) {
		spec.Run(t, func(t *testing.T) spec.Device { return spec.Older(newMarkInFlash(t)) })
	})
	for _, partial := range []bool{false, true} {
		t.Run(fmt.Sprintf("values, half a write %v", partial), func(t *testing.T) {
			t.Parallel()
			spec.Run(t, func(t *testing.T) spec.Device {
				d := newStateOnly(t, false)
				d.partial = partial
				return d
			})
		})
	}
}

// TestStateOnNAND cuts the power at each write: the values are the old ones or the new ones.
func TestStateOnNAND(t *testing.T) {
	t.Parallel()
	for cut := range 10 {
		d := newStateOnly(t, true)
		d.bad = map[string]int64{defaultState: 0}
		d.memory[defaultState] = append(make([]byte, testBlock), d.memory[defaultState][:3*testBlock]...)
		if err := errors.Join(d.SetTry("1"), d.Commit("1")); err != nil {
			t.Fatal(err)
		}
		d.Cut(cut)
		err := d.SetTry("2")
		d.Cut(-1)
		v, later := d.store().Load()
		if later != nil || v != (Values{"1", ""}) && v != (Values{"1", "2"}) || err == nil && v.Try == "" {
			t.Errorf("cut behind %d writes (%v): %+v, %v", cut, err, v, later)
		}
		if err := d.Commit("2"); err != nil {
			t.Fatal(err)
		}
		if v, err := d.store().Load(); v != (Values{Rev: "2"}) || err != nil {
			t.Errorf("after a commit: %+v, %v", v, err)
		}
	}
}

// unreadable is a memory of which a part cannot be read.
type unreadable struct {
	flashMemory
	before int64
}

func (u unreadable) ReadAt(p []byte, at int64) (int, error) {
	if at < u.before {
		return 0, os.ErrInvalid
	}
	return u.flashMemory.ReadAt(p, at)
}

// TestStateThatCannotBeRead uses the second copy when the first one cannot be read, and keeps the
// memory as it is when none can be.
func TestStateThatCannotBeRead(t *testing.T) {
	t.Parallel()
	d := newStateOnly(t, false)
	if err := d.Commit("1"); err != nil {
		t.Fatal(err)
	}
	for before, bad := range map[int64]bool{testBlock: false, 4 * testBlock: true} {
		s := &flashEnv{defaultState, func(name string) (flashMemory, error) {
			f, err := d.openChip(name)
			return unreadable{f, before}, err
		}}
		kept := bytes.Clone(d.memory[defaultState])
		v, err := s.Load()
		if (err != nil) != bad || !bad && v.Rev != "1" {
			t.Errorf("%+v, %v", v, err)
		}
		if bad && (s.SetTry("2") == nil || s.Commit("2") == nil || s.ClearTry() == nil || !bytes.Equal(kept, d.memory[defaultState])) {
			t.Error("what cannot be read was replaced")
		}
	}
}

// TestUBootStore picks the store by the settings and the memories that there are.
func TestUBootStore(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ env, only, memory, want string }{
		{"", "0", "", "*boot.file"},
		{"", "0", "pv-env", "*boot.marked pv-env"},
		{"other", "0", "pv-env", "*boot.file"},
		{"other", "0", "other", "*boot.marked other"},
		{"", "1", "pv-env", "*boot.flashEnv pv-env"},
		{"other", "1", "", "*boot.flashEnv other"},
	} {
		conf := config.New()
		conf.Set(config.PVConf, "PV_BOOTLOADER_MTD_ENV", c.env)
		conf.Set(config.PVConf, "PV_BOOTLOADER_MTD_ONLY", c.only)
		b := &board{t: t, memory: map[string][]byte{c.memory: {}}}
		s, err := withFlash(conf, t.TempDir(), b.openChip)
		if err != nil {
			t.Fatal(err)
		}
		got := fmt.Sprintf("%T", s)
		switch s := s.(type) {
		case *flashEnv:
			got += " " + s.name
			if _, err := s.Load(); c.memory == "" && (err == nil || !strings.Contains(err.Error(), "mtdparts=") && !errors.Is(err, errNoFlash)) {
				t.Errorf("without its memory: %v", err)
			}
		case *marked:
			got += " " + s.name
		}
		if got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}
