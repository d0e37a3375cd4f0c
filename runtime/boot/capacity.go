package boot

import (
	"errors"
	"fmt"
	"io"

	"github.com/pantavisor/pantavisor/formats/fitslot"
)

// Slotted is a store of a loader that keeps boot images in two partitions of its own.
type Slotted interface {
	// Capacity returns how many bytes a boot image may have: what the smaller of the
	// partitions takes.
	Capacity() (int64, error)
}

var (
	_ Slotted = (*slots)(nil)
	_ Slotted = (*ubootAB)(nil)
)

// Capacity implements Slotted.
func (s *slots) Capacity() (int64, error) {
	choice, _, err := s.running()
	if err != nil {
		return 0, fmt.Errorf("finding the boot partitions: %w", err)
	}
	a, err := s.capacity(choice.Default)
	b, err2 := s.capacity(choice.Try)
	return min(a, b), errors.Join(err, err2)
}

func (s *slots) capacity(number int) (int64, error) {
	p, err := s.open(number)
	if err != nil {
		return 0, err
	}
	size, err := p.Seek(0, io.SeekEnd)
	return size, errors.Join(err, p.Close())
}

// Capacity implements Slotted.
func (u *ubootAB) Capacity() (int64, error) {
	a, err := u.capacity(u.flash.A)
	b, err2 := u.capacity(u.flash.B)
	return min(a, b), errors.Join(err, err2)
}

// capacity returns the bytes of a slot's good blocks, less those of the header.
func (u *ubootAB) capacity(name string) (size int64, err error) {
	f, err := u.open(name)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	good := blocks{f: f}
	for {
		switch _, err := good.next(); {
		case errors.Is(err, errFull):
			return max(0, size-fitslot.Size), nil
		case err != nil:
			return 0, fmt.Errorf("slot %s: %w", name, err)
		}
		size += f.Block()
	}
}
