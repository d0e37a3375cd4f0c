package images

import (
	"bytes"
	"errors"
	"io"
	"slices"
)

// flashTable is the table of flash without a table on it: the kernel gets its partitions
// from its command line or the device tree.
const flashTable = "mtd"

// maxFlash is the size in bytes of the largest flash whose image is written whole.
const maxFlash = 1 << 30

// erase fills the medium with what erased flash has.
func (c *composition) erase() error {
	block := bytes.Repeat([]byte{0xFF}, 64<<10)
	for at := int64(0); at < int64(c.disk.Layout.Size)*mib; at += int64(len(block)) {
		if _, err := c.file.WriteAt(block, at); err != nil {
			return err
		}
	}
	return nil
}

// swapped reads words of 32 bits with their bytes in reverse order. A last word that is not
// complete is filled up with 0xFF, as erased flash has it.
type swapped struct {
	from io.Reader
	word [4]byte
	rest []byte // of word
}

func (s *swapped) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		if len(s.rest) == 0 {
			if err := s.next(); err != nil {
				return n, err
			}
		}
		k := copy(p[n:], s.rest)
		n, s.rest = n+k, s.rest[k:]
	}
	return n, nil
}

// next reads a word.
func (s *swapped) next() error {
	s.word = [4]byte{0xFF, 0xFF, 0xFF, 0xFF}
	if _, err := io.ReadFull(s.from, s.word[:]); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	slices.Reverse(s.word[:])
	s.rest = s.word[:]
	return nil
}
