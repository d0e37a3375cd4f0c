package boot

import (
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Ready returns why an update that takes a restart could not be tried; nil when it could. It
// writes nothing. image says that the update brings another boot image than the good
// revision has.
func Ready(s Store, image bool) error {
	if w, ok := s.(interface{ writable() error }); ok {
		if err := w.writable(); err != nil {
			return err
		}
	}
	if r, ok := s.(preparer); ok {
		return r.prepare(image)
	}
	_, err := s.Load()
	if errors.Is(err, errDamaged) { // the next change replaces it
		return nil
	}
	return err
}

// writable returns an error for a file system that is read-only, as an error may make it.
func (f *file) writable() error {
	dir := filepath.Dir(f.path)
	err := unix.Access(dir, unix.W_OK)
	for errors.Is(err, unix.ENOENT) && dir != filepath.Dir(dir) { // it is made with the store
		dir = filepath.Dir(dir)
		err = unix.Access(dir, unix.W_OK)
	}
	if errors.Is(err, unix.EROFS) {
		return fmt.Errorf("%s cannot be written: %w", f.path, err)
	}
	return nil
}

// preparer is a store with boot images in partitions of its own.
type preparer interface {
	// prepare does what SetTry does before it writes.
	prepare(image bool) error
}

var (
	_ preparer = (*slots)(nil)
	_ preparer = (*ubootAB)(nil)
)

func (s *slots) prepare(image bool) error {
	choice, _, err := s.running()
	if err != nil || !image {
		return err
	}
	if err := s.firmware.ready(); err != nil {
		return err
	}
	p, err := s.open(choice.Try)
	if err != nil {
		return err
	}
	return p.Close()
}

// prepare ignores image: a test always writes the slot that the good revision is not in.
func (u *ubootAB) prepare(bool) error {
	if u.flash.A == u.flash.B {
		return fmt.Errorf("both slots are %q: there is none to write to beside the good one", u.flash.A)
	}
	if _, err := u.Load(); err != nil {
		return err
	}
	_, err := u.heads()
	return err
}
