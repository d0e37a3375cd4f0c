package boot

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/pantavisor/pantavisor/formats/ubootenv"
	"github.com/pantavisor/pantavisor/formats/ubootstate"
)

// defaultState is the partition of the values when PV_BOOTLOADER_MTD_ENV names none.
const defaultState = "pv-env"

// flashEnv is the store of a U-Boot whose values are in flash memory alone
// (PV_BOOTLOADER_MTD_ONLY). The partition has two copies (package ubootstate), so that a power
// cut while one is erased and written leaves the other:
//
//	first copy | second copy | values of
//	complete   | any         | the first one
//	other      | complete    | the second one
//	other      | other       | the first one, as the build or an older runtime has written it
//
// A change writes the copy that does not count and then the other one, so it comes into
// effect with one word. A loader that knows the first copy only, as those of older
// devices do, starts revision 0 after a power cut while that copy is written.
type flashEnv struct {
	name string
	open func(name string) (flashMemory, error)
}

var _ Store = (*flashEnv)(nil)

// stateCopy is one copy as it was read.
type stateCopy struct {
	pairs    []pair
	complete bool
}

func (s *flashEnv) Load() (Values, error) {
	copies, use, err := s.read()
	if err != nil {
		return Values{}, err
	}
	p := copies[use].pairs
	return Values{Rev: get(p, keyRev), Try: get(p, keyTry)}, nil
}

func (s *flashEnv) SetTry(rev string) error {
	if err := Validate(rev); err != nil {
		return fmt.Errorf("setting the revision to try: %w", err)
	}
	v, err := s.Load()
	if err != nil {
		return fmt.Errorf("setting the revision to try: %w", err)
	}
	if v.Rev == rev {
		return s.ClearTry()
	}
	return s.change(func(p []pair) []pair { return set(set(p, keyTry, rev), keyTrying, "") })
}

func (s *flashEnv) Commit(rev string) error {
	if err := Validate(rev); err != nil {
		return fmt.Errorf("committing a revision: %w", err)
	}
	return s.change(func(p []pair) []pair { return set(endTest(p), keyRev, rev) })
}

func (s *flashEnv) ClearTry() error { return s.change(endTest) }

// read returns the copies and the number of the one that counts.
func (s *flashEnv) read() ([]stateCopy, int, error) {
	f, err := s.open(s.name)
	if err != nil {
		return nil, 0, fmt.Errorf("reading the boot loader's store: %w", err)
	}
	defer f.Close()
	var copies []stateCopy
	var errs []error
	for _, at := range copiesOf(f) {
		c, err := readState(f, at)
		copies, errs = append(copies, c), append(errs, err) // one that cannot be read is not complete
	}
	use := 0
	if len(copies) == 2 && !copies[0].complete && copies[1].complete {
		use = 1
	}
	if errs[use] != nil {
		return nil, 0, fmt.Errorf("reading the boot loader's store %s: %w", s.name, errs[use])
	}
	return copies, use, nil
}

// copiesOf returns where the copies of a memory begin.
func copiesOf(f flashMemory) []int64 {
	if second := ubootstate.Second(f.Size(), f.Block()); second > 0 {
		return []int64{0, second}
	}
	return []int64{0}
}

// readState reads the copy from an offset.
func readState(f flashMemory, at int64) (c stateCopy, err error) {
	b := &blocks{f: f, at: at}
	data := make([]byte, ubootstate.Size)
	if _, err := io.ReadFull(b, data); err != nil {
		return c, err
	}
	for _, e := range ubootenv.Parse(bytes.TrimRight(data[:ubootstate.MarkAt], "\xff")) {
		c.pairs = append(c.pairs, pair{e.Name, e.Value})
	}
	c.complete = ubootstate.Complete(data)
	return c, nil
}

// change rewrites both copies, the one that does not count first.
func (s *flashEnv) change(edit func([]pair) []pair) error {
	copies, use, err := s.read()
	if err != nil {
		return err
	}
	list, err := uboot{}.encode(edit(copies[use].pairs))
	if err != nil {
		return fmt.Errorf("writing the boot loader's store %s: %w", s.name, err)
	}
	f, err := s.open(s.name)
	if err != nil {
		return fmt.Errorf("writing the boot loader's store: %w", err)
	}
	at := copiesOf(f)
	for i := range at {
		n := (use + 1 + i) % len(at)
		if err = writeState(f, at[n], list); err != nil {
			break
		}
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("writing the boot loader's store %s: %w", s.name, err)
	}
	return nil
}

// writeState writes a copy: its last word, which makes it complete, after the others. Before the
// block is erased that word is cleared: half an erasure must not leave it. The pages of NAND
// are written as a whole, and one that was not has errors when it is read.
func writeState(f flashMemory, at int64, list []byte) error {
	b := &blocks{f: f, at: at}
	at, err := b.next()
	if err != nil {
		return err
	}
	data, err := ubootstate.Encode(list)
	if err != nil {
		return err
	}
	const last = ubootstate.CompleteAt
	if !f.Counts() {
		if _, err := f.WriteAt(make([]byte, ubootstate.Size-last), at+last); err != nil {
			return err
		}
	}
	if err := f.Erase(at); err != nil {
		return fmt.Errorf("erasing the block at %d: %w", at, err)
	}
	if f.Counts() {
		_, err = f.WriteAt(append(data, bytes.Repeat([]byte{0xff}, page-len(data))...), at)
		return err
	}
	if _, err := f.WriteAt(data[:last], at); err != nil {
		return err
	}
	_, err = f.WriteAt(data[last:], at+last)
	return err
}

// marked is a store in a file beside a mark of the loader's in flash memory: pv_trying is in the
// first block of the partition that PV_BOOTLOADER_MTD_ENV names. The mark is erased when no
// test is ordered, so it is never that of the next one.
type marked struct {
	file
	name string
	open func(name string) (flashMemory, error)
}

var _ Store = (*marked)(nil)

func (m *marked) SetTry(rev string) error {
	if err := Validate(rev); err != nil {
		return fmt.Errorf("setting the revision to try: %w", err)
	}
	if err := m.ClearTry(); err != nil {
		return err
	}
	return m.file.SetTry(rev)
}

func (m *marked) Commit(rev string) error {
	if err := m.file.Commit(rev); err != nil {
		return err
	}
	return m.erase()
}

func (m *marked) ClearTry() error {
	if err := m.file.ClearTry(); err != nil {
		return err
	}
	return m.erase()
}

// erase erases the mark where there is one.
func (m *marked) erase() (err error) {
	f, err := m.open(m.name)
	if err != nil {
		return fmt.Errorf("erasing the boot loader's mark: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	b := &blocks{f: f}
	at, err := b.next()
	if err != nil {
		return fmt.Errorf("erasing the boot loader's mark: %w", err)
	}
	data := make([]byte, f.Block())
	if _, err := f.ReadAt(data, at); err == nil && len(bytes.Trim(data, "\xff")) == 0 {
		return nil
	}
	if err := f.Erase(at); err != nil {
		return fmt.Errorf("erasing the boot loader's mark: %w", err)
	}
	return nil
}
