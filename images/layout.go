package images

import (
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/pantavisor/pantavisor/internal/fault"
)

const mib = 1 << 20

// span is a partition with start and length in bytes.
type span struct {
	Partition
	Start, Length int64
}

// layout places the partitions of an image. Space at the beginning and the end is reserved
// for the partition table.
func layout(im Layout) ([]span, error) {
	form, err := tableOf(im)
	if err != nil {
		return nil, err
	}
	var out []span
	var errs []error
	next, end := form.first, int64(im.Size)*mib-form.last
	for i, p := range im.Partitions {
		s := span{Partition: p, Start: p.Start, Length: p.Size}
		if s.Start == 0 {
			s.Start = roundUp(next, mib)
		}
		if s.Length == 0 && i == len(im.Partitions)-1 {
			s.Length = end - s.Start
		}
		if s.Start < next || s.Length <= 0 || s.Start+s.Length > end || s.Start%sector != 0 || s.Length%sector != 0 {
			errs = append(errs, fault.New(fault.NoSpace, "laying out the image: partition %s would have %d bytes from byte %d on, but only bytes %d to %d are free, in sectors of %d: raise image.size or give the partition another size in target.yaml", p.Name, s.Length, s.Start, next, end, sector))
		}
		next = s.Start + s.Length
		out = append(out, s)
	}
	return out, errors.Join(errs...)
}

func roundUp(n, to int64) int64 { return (n + to - 1) / to * to }

// identity derives the identifiers of an image from its content: equal content gives
// equal identifiers, and different images never share one.
type identity [sha256.Size]byte

// identify returns the identity for the target's name and the state of revision 0, which
// contains the digest of every object.
func identify(target string, state []byte) identity {
	return sha256.Sum256(fmt.Appendf(nil, "%s\x00%s", target, state))
}

// bytes returns the identifier for one use: a UUID of RFC 9562 version 8.
func (id identity) bytes(use string) [16]byte {
	b := sha256.Sum256(fmt.Appendf(id[:], "\x00%s", use))
	b[6], b[8] = b[6]&0x0f|0x80, b[8]&0x3f|0x80
	return [16]byte(b[:16])
}

// uuid returns the identifier for one use as text.
func (id identity) uuid(use string) string {
	b := id.bytes(use)
	return fmt.Sprintf("%X-%X-%X-%X-%X", b[0:4], b[4:6], b[6:8], b[8:10], b[10:16])
}

// number returns 32 bits for one use, never 0.
func (id identity) number(use string) uint32 {
	b := sha256.Sum256(fmt.Appendf(id[:], "\x00%s", use))
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3]) | 1
}
