package boot

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/pantavisor/pantavisor/formats/fitslot"
	"github.com/pantavisor/pantavisor/formats/ubootenv"
)

// defaultFlash has the names that the settings have by default.
var defaultFlash = Flash{A: "fitA", B: "fitB", Env: "env"}

// Flash says where a loader with two slots in flash memory keeps what.
type Flash struct {
	// A and B are the names of the slots' MTD partitions.
	A, B string
	// Env is that of U-Boot's environment, Backup that of its second copy; empty for none.
	Env, Backup string
	// Offset and Size of the environment in its partition, in bytes. Size 0: up to its end.
	Offset, Size int64
}

// ubootAB is the store of a U-Boot that boots FITs from two slots. pv_rev and pv_try are in
// U-Boot's environment; U-Boot's mark of a started test is in the slot in NOR flash, and else in
// the environment.
//
// A revision is in the slot whose header names it. Its steps, each of which may be the last
// one:
//
//	SetTry  N's FIT is written to the slot without the good revision, its header last,
//	        without a mark; pv_try=N
//	Commit  pv_rev=N, pv_try=; a revision that came without a restart is written to the
//	        other slot before
//
// The good slot is never written. The environment has two copies where the board has them; a
// power cut while the only one is written loses it.
type ubootAB struct {
	flash  Flash
	trails string
	open   func(name string) (flashMemory, error)
}

var _ Store = (*ubootAB)(nil)

// ubootABLoader is PV_BOOTLOADER_TYPE of a loader with two slots in flash memory.
const ubootABLoader = "uboot-ab"

// newUBootAB returns the store of a loader with two slots. The storage is mounted at dir.
func newUBootAB(dir string, f Flash) *ubootAB {
	return &ubootAB{flash: f, trails: filepath.Join(dir, "trails"), open: openMTD}
}

// flashMemory is a partition of flash memory.
type flashMemory interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// Size is that of the partition, Block that of what is erased at once, in bytes.
	Size() int64
	Block() int64
	// Erase makes the block at an offset writable.
	Erase(offset int64) error
	// Bad reports whether the block at an offset must not be used.
	Bad(offset int64) (bool, error)
	// Counts reports whether the environment's mark is a counter, as on NAND. On NOR it is a
	// flag that is cleared in place.
	Counts() bool
}

func (u *ubootAB) Load() (Values, error) {
	e, err := u.environment()
	if err != nil {
		return Values{}, err
	}
	return Values{Rev: e.get(keyRev), Try: e.get(keyTry)}, nil
}

func (u *ubootAB) SetTry(rev string) error {
	if err := Validate(rev); err != nil {
		return fmt.Errorf("setting the revision to try: %w", err)
	}
	if v, err := u.Load(); err == nil && v.Rev == rev {
		return u.ClearTry()
	}
	if err := u.install(rev, true); err != nil {
		return fmt.Errorf("setting the revision to try: %w", err)
	}
	return u.change(func(e *environment) { e.set(keyTry, rev); e.set(keyTrying, "") })
}

func (u *ubootAB) Commit(rev string) error {
	if err := Validate(rev); err != nil {
		return fmt.Errorf("committing a revision: %w", err)
	}
	if err := u.install(rev, false); err != nil {
		return fmt.Errorf("committing revision %s: %w", rev, err)
	}
	return u.change(func(e *environment) { e.set(keyRev, rev); e.set(keyTry, ""); e.set(keyTrying, "") })
}

func (u *ubootAB) ClearTry() error {
	return u.change(func(e *environment) { e.set(keyTry, ""); e.set(keyTrying, "") })
}

// install writes a revision to the slot that the good one is not in. For a test it does so
// even if the revision is in that slot already: the mark of an earlier test is in it.
func (u *ubootAB) install(rev string, test bool) error {
	v, err := u.Load()
	if err != nil {
		return err
	}
	heads, err := u.heads()
	if err != nil {
		return err
	}
	if slices.Contains(heads[:], rev) && !test {
		return nil
	}
	name := u.flash.A
	if heads[0] == v.Rev {
		name = u.flash.B
	}
	if err := u.fill(name, rev); err != nil {
		return fmt.Errorf("slot %s: %w", name, err)
	}
	return nil
}

// heads returns the revisions of the slots.
func (u *ubootAB) heads() (heads [2]string, err error) {
	for i, name := range []string{u.flash.A, u.flash.B} {
		if heads[i], err = u.head(name); err != nil {
			return heads, fmt.Errorf("slot %s: %w", name, err)
		}
	}
	return heads, nil
}

// head returns the revision of a slot, "" for an empty one.
func (u *ubootAB) head(name string) (string, error) {
	f, err := u.open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b := make([]byte, fitslot.Size)
	if _, err := io.ReadFull(&blocks{f: f}, b); err != nil {
		return "", fmt.Errorf("reading the header: %w", err)
	}
	return fitslot.Decode(b), nil
}

// fill writes a revision to a slot and reads it back. What is there already is not written
// again: the test of a FIT that the slot has costs the flash memory no more than a block.
func (u *ubootAB) fill(name, rev string) (err error) {
	image, err := os.Open(filepath.Join(u.trails, rev, ".pv/pantavisor.fit"))
	if err != nil {
		return err
	}
	defer image.Close()
	info, err := image.Stat()
	if err != nil {
		return err
	}
	header, err := fitslot.Encode(rev)
	if err != nil {
		return err
	}
	f, err := u.open(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	c := slotContent{bytes.NewReader(header), image, fitslot.Size + info.Size()}
	if same, err := (&blocks{f: f}).equal(c.from(0)); same || err != nil {
		return err
	}
	if err := c.write(f); err != nil {
		return err
	}
	same, err := (&blocks{f: f}).equal(c.from(0))
	if err == nil && !same {
		err = errors.New("the flash memory returns other data than was written")
	}
	return err
}

// slotContent is what a slot has: a header and a FIT.
type slotContent struct {
	header, image io.ReaderAt
	size          int64
}

// from returns the content from an offset that is 0 or not in the header.
func (c slotContent) from(offset int64) io.Reader {
	if offset == 0 {
		return io.MultiReader(io.NewSectionReader(c.header, 0, fitslot.Size), c.from(fitslot.Size))
	}
	return io.NewSectionReader(c.image, offset-fitslot.Size, max(0, c.size-offset))
}

// write writes the content from the beginning of the memory, the header last: until then the
// slot has none. A power cut while NAND's first block is written may leave a header and half of
// that block: no value in the environment names the slot yet, and the FIT's checksums are wrong.
func (c slotContent) write(f flashMemory) error {
	w := &blocks{f: f}
	first, err := w.next()
	if err != nil {
		return err
	}
	if err := f.Erase(first); err != nil {
		return fmt.Errorf("erasing the header: %w", err)
	}
	rest := *w
	if same, err := rest.equal(c.from(f.Block())); err != nil {
		return err
	} else if !same {
		if err := w.write(c.from(f.Block())); err != nil {
			return err
		}
	}
	head := make([]byte, f.Block())
	if _, err := io.ReadFull(c.from(0), head); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	if f.Counts() { // the pages of a NAND block are written in their order
		_, err = f.WriteAt(head, first)
		return err
	}
	if _, err := f.WriteAt(head[fitslot.Size:], first+fitslot.Size); err != nil {
		return err
	}
	_, err = f.WriteAt(head[:fitslot.Size], first)
	return err
}

// environment is U-Boot's environment as it was read.
type environment struct {
	entries []ubootenv.Entry
	mark    byte
	copy    int // that it is from
	changed bool
}

func (e *environment) get(name string) string {
	for _, v := range e.entries {
		if v.Name == name {
			return v.Value
		}
	}
	return ""
}

// set changes a variable; an empty value removes it.
func (e *environment) set(name, value string) {
	if e.get(name) == value {
		return
	}
	e.changed = true
	at := slices.IndexFunc(e.entries, func(v ubootenv.Entry) bool { return v.Name == name })
	switch {
	case at < 0:
		e.entries = append(e.entries, ubootenv.Entry{Name: name, Value: value})
	case value == "":
		e.entries = slices.Delete(e.entries, at, at+1)
	default:
		e.entries[at].Value = value
	}
}

// copies are the names of the environment's partitions.
func (u *ubootAB) copies() []string {
	if u.flash.Backup == "" {
		return []string{u.flash.Env}
	}
	return []string{u.flash.Env, u.flash.Backup}
}

// environment reads the copy that U-Boot would take.
func (u *ubootAB) environment() (*environment, error) {
	var found []*environment
	var errs []error
	counts := false
	for i, name := range u.copies() {
		e, err := u.readCopy(i, name, &counts)
		if err != nil {
			errs = append(errs, fmt.Errorf("reading U-Boot's environment in %s: %w", name, err))
			continue
		}
		found = append(found, e)
	}
	switch {
	case len(found) == 0:
		return nil, errors.Join(errs...)
	case len(found) == 2 && newer(found[1].mark, found[0].mark, counts):
		return found[1], nil
	}
	return found[0], nil
}

// newer reports whether a copy with mark b is newer than one with mark a (U-Boot:
// env/common.c, env_check_redund; env/flash.c).
func newer(b, a byte, counts bool) bool {
	if !counts {
		return b == 1 && a != 1
	}
	return b != a && b-a < 128
}

func (u *ubootAB) readCopy(i int, name string, counts *bool) (*environment, error) {
	f, err := u.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	*counts = f.Counts()
	b := u.block(f)
	data, err := io.ReadAll(io.NewSectionReader(f, u.flash.Offset, int64(b.Size)))
	if err != nil {
		return nil, err
	}
	entries, mark, err := b.Decode(data)
	return &environment{entries: entries, mark: mark, copy: i}, err
}

// block is the form of a copy.
func (u *ubootAB) block(f flashMemory) ubootenv.Block {
	size := u.flash.Size
	if size == 0 {
		size = f.Size() - u.flash.Offset
	}
	return ubootenv.Block{Size: int(size), Order: binary.NativeEndian, Redundant: u.flash.Backup != ""}
}

// change rewrites the environment: the older copy where there are two. One that cannot be
// read stays as it is: U-Boot's own commands are in it.
func (u *ubootAB) change(edit func(*environment)) error {
	e, err := u.environment()
	if err != nil {
		return err
	}
	edit(e)
	if !e.changed {
		return nil
	}
	names := u.copies()
	to := (e.copy + 1) % len(names)
	if err := u.writeCopy(names[to], e); err != nil {
		return fmt.Errorf("writing U-Boot's environment in %s: %w", names[to], err)
	}
	if to == e.copy {
		return nil
	}
	return u.retire(names[e.copy])
}

func (u *ubootAB) writeCopy(name string, e *environment) (err error) {
	f, err := u.open(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	mark := byte(1)
	if f.Counts() {
		mark = e.mark + 1
	}
	data, err := u.block(f).Encode(e.entries, mark)
	if err != nil {
		return err
	}
	if u.flash.Offset%f.Block() != 0 {
		return fmt.Errorf("it begins at byte %d, within an erase block of %d", u.flash.Offset, f.Block())
	}
	end := u.flash.Offset + int64(len(data))
	rest := make([]byte, -end&(f.Block()-1))
	if _, err := f.ReadAt(rest, end); err != nil {
		return err
	}
	data = append(data, rest...)
	for at := int64(0); at < int64(len(data)); at += f.Block() {
		if err := f.Erase(u.flash.Offset + at); err != nil {
			return err
		}
	}
	_, err = f.WriteAt(data, u.flash.Offset)
	return err
}

// retire clears the mark of the copy that has become the older one, where it is a flag.
func (u *ubootAB) retire(name string) (err error) {
	f, err := u.open(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if f.Counts() {
		return nil
	}
	_, err = f.WriteAt([]byte{0}, u.flash.Offset+4)
	return err
}
