package boot

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/formats/fitslot"
	"github.com/pantavisor/pantavisor/formats/ubootenv"
	"github.com/pantavisor/pantavisor/runtime/boot/spec"
)

const (
	testBlock = 8 << 10
	testSlot  = 5 * testBlock
)

var errCut = errors.New("the power was cut")

// board is a device with slots in flash memory. Its power is cut after a number of writes.
type board struct {
	t       *testing.T
	dir     string
	memory  map[string][]byte
	bad     map[string]int64 // a bad block
	nand    bool
	writes  int
	cut     int // 0: never
	partial bool
}

// newBoard has revision 0 in slot A.
func newBoard(t *testing.T, nand, redundant bool) *board {
	t.Helper()
	b := &board{t: t, dir: t.TempDir(), nand: nand, memory: map[string][]byte{}}
	for _, name := range []string{"fitA", "fitB"} {
		b.memory[name] = bytes.Repeat([]byte{0xff}, testSlot)
	}
	for _, rev := range []string{"0", "1", "2", "6", "locals/a"} {
		file := filepath.Join(b.dir, "trails", rev, ".pv/pantavisor.fit")
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, b.fit(rev), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	header, err := fitslot.Encode("0")
	if err != nil {
		t.Fatal(err)
	}
	copy(b.memory["fitA"], append(header, b.fit("0")...))
	block := ubootenv.Block{Size: testBlock, Order: binary.NativeEndian, Redundant: redundant}
	for i, name := range []string{"env", "bak"} {
		data, err := block.Encode([]ubootenv.Entry{{Name: "bootcmd", Value: "run pv_ab"}, {Name: keyRev, Value: "0"}}, byte(1-i))
		if err != nil {
			t.Fatal(err)
		}
		b.memory[name] = append(data, bytes.Repeat([]byte{0x55}, testBlock)...) // others' data
	}
	return b
}

// fit is a revision's FIT: three blocks and a bit. 6 has that of 0.
func (b *board) fit(rev string) []byte {
	if rev == "6" {
		rev = "0"
	}
	return bytes.Repeat([]byte(rev+"."), (3*testBlock+100)/(len(rev)+1))
}

func (b *board) store(redundant bool) *ubootAB {
	f := Flash{A: "fitA", B: "fitB", Env: "env", Size: testBlock}
	if redundant {
		f.Backup = "bak"
	}
	s := newUBootAB(b.dir, f)
	s.open = func(name string) (flashMemory, error) {
		if b.memory[name] == nil {
			return nil, fmt.Errorf("no flash memory %s", name)
		}
		return &chip{b, name}, nil
	}
	return s
}

// chip is a partition of a board's flash memory.
type chip struct {
	b    *board
	name string
}

func (c *chip) data() []byte { return c.b.memory[c.name] }
func (c *chip) Size() int64  { return int64(len(c.data())) }
func (c *chip) Block() int64 { return testBlock }
func (c *chip) Counts() bool { return c.b.nand }
func (c *chip) Close() error { return nil }

func (c *chip) Bad(at int64) (bool, error) {
	bad, ok := c.b.bad[c.name]
	return ok && bad == at, nil
}

func (c *chip) ReadAt(p []byte, at int64) (int, error) {
	return bytes.NewReader(c.data()).ReadAt(p, at)
}

// power reports how much of n bytes are written before a cut.
func (b *board) power(n int) (int, error) {
	b.writes++
	switch {
	case b.cut == 0 || b.writes < b.cut:
		return n, nil
	case b.writes == b.cut && b.partial:
		return n / 2, errCut
	}
	return 0, errCut
}

func (c *chip) Erase(at int64) error {
	if at%testBlock != 0 {
		c.b.t.Errorf("%s: erasing at %d", c.name, at)
	}
	n, err := c.b.power(testBlock)
	for i := range c.data()[at : at+int64(n)] {
		c.data()[at+int64(i)] = 0xff
	}
	return err
}

// WriteAt clears bits, as flash memory does.
func (c *chip) WriteAt(p []byte, at int64) (int, error) {
	n, err := c.b.power(len(p))
	for i, v := range p[:n] {
		c.data()[at+int64(i)] &= v
	}
	if err == nil && !bytes.Equal(c.data()[at:at+int64(len(p))], p) {
		c.b.t.Errorf("%s: %d bytes at %d were written without erasing", c.name, len(p), at)
	}
	return n, err
}

// loader is U-Boot: it boots by the table of package bootloader and keeps its mark. It returns
// the booted revision, which must be complete, and pv_try.
func (b *board) loader(s *ubootAB) (rev, try string) {
	b.t.Helper()
	e, err := s.environment()
	if err != nil {
		b.t.Fatalf("U-Boot has lost its environment: %v", err)
	}
	if e.get("bootcmd") == "" {
		b.t.Fatal("U-Boot has lost its commands")
	}
	rev, try = e.get(keyRev), e.get(keyTry)
	slots := b.slots()
	if try != "" && slots[try] && b.mark(s, e, try) {
		rev = try
	}
	if !slots[rev] {
		b.t.Fatalf("no slot has revision %s: %v", rev, slots)
	}
	return rev, try
}

// mark keeps that the test of a revision has been started; it reports false when the mark was
// there.
func (b *board) mark(s *ubootAB, e *environment, try string) (first bool) {
	b.t.Helper()
	if b.nand {
		if first = e.get(keyTrying) != try; !first {
			return false
		}
		if err := s.change(func(e *environment) { e.set(keyTrying, try) }); err != nil {
			b.t.Fatal(err)
		}
		return first
	}
	for _, name := range []string{"fitA", "fitB"} {
		if header := b.memory[name][:fitslot.Size]; fitslot.Decode(header) == try {
			first = !fitslot.Started(header)
			header[fitslot.MarkAt] = 0
		}
	}
	return first
}

// slots are the revisions of the slots, and whether they are complete.
func (b *board) slots() map[string]bool {
	out := map[string]bool{}
	for _, name := range []string{"fitA", "fitB"} {
		good := []byte{}
		for at := int64(0); at < testSlot; at += testBlock {
			if bad, ok := b.bad[name]; !ok || bad != at {
				good = append(good, b.memory[name][at:at+testBlock]...)
			}
		}
		if rev := fitslot.Decode(good); rev != "" {
			if out[rev] = out[rev] || bytes.HasPrefix(good[fitslot.Size:], b.fit(rev)); !out[rev] && !b.nand {
				b.t.Errorf("slot %s has a header for half a revision %s", name, rev)
			}
		}
	}
	return out
}

// TestTwoSlotsHandshake runs the specification with both kinds of memory, with one copy of the
// environment and with two, and with writes that the power cut leaves half done.
func TestTwoSlotsHandshake(t *testing.T) {
	t.Parallel()
	for _, nand := range []bool{false, true} {
		for _, partial := range []bool{false, true} {
			t.Run(fmt.Sprintf("nand %v, half a write %v", nand, partial), func(t *testing.T) {
				t.Parallel()
				spec.Run(t, func(t *testing.T) spec.Device {
					b := newBoard(t, nand, true)
					b.bad, b.partial = map[string]int64{"fitB": testBlock}, partial
					return twoSlots{b}
				})
			})
		}
	}
}

// twoSlots is a board with a slot for each of two revisions.
type twoSlots struct{ *board }

var _ spec.Device = twoSlots{}

func (d twoSlots) store() Store { return d.board.store(true) }

func (d twoSlots) SetTry(rev string) error { return plain(d.store().SetTry(rev)) }
func (d twoSlots) Commit(rev string) error { return plain(d.store().Commit(rev)) }
func (d twoSlots) ClearTry() error         { return plain(d.store().ClearTry()) }

// Lose destroys the first copy of the environment. Without both U-Boot has lost its commands.
func (d twoSlots) Lose() { clear(d.memory["env"]) }

func (d twoSlots) Boot(bool) string {
	d.t.Helper()
	rev, _ := d.loader(d.board.store(true))
	return startup(d.t, d.store(), rev)
}

// Cut has the power fail behind n writes from now on.
func (b *board) Cut(n int) { b.writes, b.cut = 0, n+1 }

// TestOneEnvironment is the life of a board with one copy of the environment, which survives all
// but a power cut while that is written.
func TestOneEnvironment(t *testing.T) {
	t.Parallel()
	b := newBoard(t, false, false)
	s := b.store(false)
	for _, step := range []struct {
		do   func() error
		want string
	}{
		{func() error { return s.SetTry("1") }, "1 trying"}, {func() error { return nil }, "0 rolled back"},
		{func() error { return s.SetTry("1") }, "1 trying"}, {func() error { return s.Commit("1") }, "1 steady"},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		rev, _ := b.loader(s)
		if got := startup(t, s, rev); got != step.want {
			t.Errorf("%s runs, want %s", got, step.want)
		}
	}
	if !bytes.Equal(b.memory["env"][testBlock:], bytes.Repeat([]byte{0x55}, testBlock)) {
		t.Error("what is behind the environment was changed")
	}
}

func TestTwoSlotsAreSpared(t *testing.T) {
	t.Parallel()
	b := newBoard(t, false, true)
	s := b.store(true)
	if err := s.SetTry("1"); err != nil {
		t.Fatal(err)
	}
	b.writes = 0
	if err := errors.Join(s.SetTry("1"), s.Commit("0"), s.ClearTry()); err != nil {
		t.Fatal(err)
	}
	if b.writes > 3 { // of the environment: the commit
		t.Errorf("%d writes although nothing has changed", b.writes)
	}
}

func TestTwoSlotsMistakes(t *testing.T) {
	t.Parallel()
	for want, try := range map[string]func(b *board, s *ubootAB) error{
		"no such file": func(_ *board, s *ubootAB) error { return s.SetTry("9") },
		"does not fit": func(b *board, s *ubootAB) error {
			b.memory["fitB"] = b.memory["fitB"][:2*testBlock]
			return s.SetTry("1")
		},
		"no flash memory fitB": func(b *board, s *ubootAB) error { delete(b.memory, "fitB"); return s.Commit("0") },
		"checksum is wrong": func(b *board, s *ubootAB) error {
			clear(b.memory["env"])
			clear(b.memory["bak"])
			return s.Commit("0")
		},
		"revision name": func(_ *board, s *ubootAB) error { return s.SetTry("../1") },
	} {
		b := newBoard(t, false, true)
		before := maps.Clone(b.memory)
		if err := try(b, b.store(true)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %s", err, want)
		}
		if diff := cmp.Diff(before["fitA"], b.memory["fitA"]); diff != "" {
			t.Errorf("%s: the good slot was changed", want)
		}
	}
}
