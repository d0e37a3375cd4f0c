package ext4

import "math/bits"

// hasher computes the hashes of names in directories: the half of MD4 that ext4 has, over
// bytes without a sign.
type hasher struct{ seed [4]uint32 }

// newHasher returns a hasher with a seed; zeros stand for the constants of MD4.
func newHasher(seed [16]byte) hasher {
	if seed == [16]byte{} {
		return hasher{[4]uint32{0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476}}
	}
	var h hasher
	for i := range h.seed {
		h.seed[i] = le.Uint32(seed[4*i:])
	}
	return h
}

// endOfDirectory is the hash that stands for the end.
const endOfDirectory = 0x7fffffff << 1

// hash returns the hash of a name and what orders names with the same hash.
func (h hasher) hash(name string) (major, minor uint32) {
	state := h.seed
	for rest := name; rest != ""; rest = rest[min(len(rest), 32):] {
		words := pack(rest)
		mix(&state, &words)
	}
	major = state[1] &^ 1
	if major == endOfDirectory {
		major -= 2
	}
	return major, state[2]
}

// pack returns the first 32 bytes of a text as words, filled up with its length.
func pack(text string) (out [8]uint32) {
	pad := uint32(len(text))
	pad |= pad << 8
	pad |= pad << 16
	for i := range out {
		out[i] = pad
	}
	value := pad
	n := min(len(text), 32)
	for i := range n {
		value = uint32(text[i]) + value<<8
		if i%4 == 3 {
			out[i/4], value = value, pad
		}
	}
	if n%4 != 0 {
		out[n/4] = value
	}
	return out
}

// rounds are those of MD4 with 32 bytes: which words, in which order, with which rotations.
var rounds = [3]struct {
	f        func(x, y, z uint32) uint32
	constant uint32
	words    [8]int
	rotate   [4]int
}{
	{func(x, y, z uint32) uint32 { return z ^ x&(y^z) }, 0, [8]int{0, 1, 2, 3, 4, 5, 6, 7}, [4]int{3, 7, 11, 19}},
	{func(x, y, z uint32) uint32 { return x&y + (x^y)&z }, 0x5A827999, [8]int{1, 3, 5, 7, 0, 2, 4, 6}, [4]int{3, 5, 9, 13}},
	{func(x, y, z uint32) uint32 { return x ^ y ^ z }, 0x6ED9EBA1, [8]int{3, 7, 2, 6, 1, 5, 0, 4}, [4]int{3, 9, 11, 15}},
}

// mix adds eight words to the state.
func mix(state *[4]uint32, words *[8]uint32) {
	s := *state
	for _, r := range rounds {
		for i, w := range r.words {
			a := s[(8-i)%4]
			b, c, d := s[(9-i)%4], s[(10-i)%4], s[(11-i)%4]
			s[(8-i)%4] = bits.RotateLeft32(a+r.f(b, c, d)+words[w]+r.constant, r.rotate[i%4])
		}
	}
	for i := range state {
		state[i] += s[i]
	}
}
