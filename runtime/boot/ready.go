package boot

import "errors"

// Ready returns why an update that takes a restart could not be tried; nil when it could. It
// writes nothing. image says that the update brings another boot image than the good
// revision has.
func Ready(s Store, image bool) error {
	if r, ok := s.(preparer); ok {
		return r.prepare(image)
	}
	_, err := s.Load()
	if errors.Is(err, errDamaged) { // the next change replaces it
		return nil
	}
	return err
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
	if _, err := u.Load(); err != nil {
		return err
	}
	_, err := u.heads()
	return err
}
