package zstddec

import (
	"encoding/binary"
	"math/bits"
)

// xxh64 is the hash XXH64 with the seed 0, of which a frame's checksum is the lower half
// (https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md).
type xxh64 struct {
	lanes [4]uint64
	size  uint64
	part  [stripe]byte // what does not fill a stripe yet
	have  int
}

const stripe = 32

// The primes of XXH64.
const (
	prime1 uint64 = 0x9e3779b185ebca87
	prime2 uint64 = 0xc2b2ae3d27d4eb4f
	prime3 uint64 = 0x165667b19e3779f9
	prime4 uint64 = 0x85ebca77c2b2ae63
	prime5 uint64 = 0x27d4eb2f165667c5
)

func (h *xxh64) start() {
	one := prime1
	*h = xxh64{lanes: [4]uint64{one + prime2, prime2, 0, -one}}
}

func (h *xxh64) write(p []byte) {
	h.size += uint64(len(p))
	if h.have > 0 {
		n := copy(h.part[h.have:], p)
		h.have += n
		p = p[n:]
		if h.have < stripe {
			return
		}
		h.stripe(h.part[:])
	}
	for ; len(p) >= stripe; p = p[stripe:] {
		h.stripe(p)
	}
	h.have = copy(h.part[:], p)
}

func round(acc, v uint64) uint64 { return bits.RotateLeft64(acc+v*prime2, 31) * prime1 }

func (h *xxh64) stripe(p []byte) {
	for i := range h.lanes {
		h.lanes[i] = round(h.lanes[i], binary.LittleEndian.Uint64(p[8*i:]))
	}
}

func (h *xxh64) sum() uint64 {
	acc := prime5
	if h.size >= stripe {
		acc = 0
		for i, n := range []int{1, 7, 12, 18} {
			acc += bits.RotateLeft64(h.lanes[i], n)
		}
		for _, l := range h.lanes {
			acc = (acc^round(0, l))*prime1 + prime4
		}
	}
	acc += h.size
	p := h.part[:h.have]
	for ; len(p) >= 8; p = p[8:] {
		acc = bits.RotateLeft64(acc^round(0, binary.LittleEndian.Uint64(p)), 27)*prime1 + prime4
	}
	if len(p) >= 4 {
		acc = bits.RotateLeft64(acc^uint64(binary.LittleEndian.Uint32(p))*prime1, 23)*prime2 + prime3
		p = p[4:]
	}
	for _, c := range p {
		acc = bits.RotateLeft64(acc^uint64(c)*prime5, 11) * prime1
	}
	acc = (acc ^ acc>>33) * prime2
	acc = (acc ^ acc>>29) * prime3
	return acc ^ acc>>32
}
