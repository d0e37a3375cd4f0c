package squashfs

import "encoding/binary"

const (
	estimateMin   = 4 << 10 // shorter blocks cost less to compress than to look at
	estimateRange = 4 << 10 // bytes whose distribution is looked at together

	// worthwhile is the part of a block, as a divisor, that compression has to save
	// before the search, and later the decompression at every read, is worth it.
	worthwhile = 100

	keyBytes   = 6 // in a row that count as a repetition
	keyPrime   = 0x9e3779b185ebca87
	sampleBits = 3  // positions whose key hashes to one value in eight are looked at
	seenBits   = 15 // of the number of keys remembered

	// repeatGain is what a repetition found at a sampled position saves: it stands
	// for 1<<sampleBits positions, and a match costs about half of the bytes it covers.
	repeatGain = 4
)

// estimator finds blocks that compression would hardly make smaller: media, archives,
// encrypted data. It looks for what compressors use, bytes that are not equally
// frequent and sequences that occur again. Use it from one goroutine.
type estimator struct {
	seen [1 << seenBits]uint32 // positions by the hash of their key
}

// compressible reports whether compression is likely to save more than
// 1/worthwhile of the block. It stops reading when the answer is yes.
func (e *estimator) compressible(block []byte) bool {
	if len(block) < estimateMin {
		return true
	}
	clear(e.seen[:])
	saved := 0
	for from := 0; from < len(block); from += estimateRange {
		to := min(from+estimateRange, len(block))
		saved += skew(block[from:to])
		if saved > len(block)/worthwhile {
			return true
		}
		saved += repeatGain * e.repetitions(block, from, to)
	}
	return saved > len(block)/worthwhile
}

// skew returns how many bytes a code for single bytes would save. That is how far
// the frequencies are from equal: n·KL(p‖uniform) = χ²/(2 ln 2) bits to the second
// order, less the 255 that χ² is on average for noise.
func skew(b []byte) int {
	var counts [4][256]uint16 // four, so that equal neighbors do not wait for each other
	i := 0
	for ; i+4 <= len(b); i += 4 {
		v := binary.LittleEndian.Uint32(b[i:])
		counts[0][byte(v)]++
		counts[1][byte(v>>8)]++
		counts[2][byte(v>>16)]++
		counts[3][byte(v>>24)]++
	}
	for ; i < len(b); i++ {
		counts[0][b[i]]++
	}
	var squares int64 // up to estimateRange², and 256 times that: too large for 32 bits
	for v := range 256 {
		n := int64(counts[0][v]) + int64(counts[1][v]) + int64(counts[2][v]) + int64(counts[3][v])
		squares += n * n
	}
	length := int64(len(b))
	chi2 := 256*squares/length - length
	const bytesPerChi2 = 0.0902 // 1/(2·8·ln 2)
	return min(int(float64(chi2-255)*bytesPerChi2), len(b))
}

// repetitions counts the sampled positions from from to to whose key occurred
// before. Sampling by the key itself, not by the position, finds repetitions at
// every distance.
func (e *estimator) repetitions(block []byte, from, to int) int {
	n := 0
	for i := from; i < min(to, len(block)-8); i++ {
		key := binary.LittleEndian.Uint64(block[i:]) << (64 - 8*keyBytes)
		hash := key * keyPrime
		if hash>>(64-sampleBits) != 0 {
			continue
		}
		last := &e.seen[hash>>(64-sampleBits-seenBits)%(1<<seenBits)]
		if at := int(*last); at < i && binary.LittleEndian.Uint64(block[at:])<<(64-8*keyBytes) == key {
			n++
		}
		*last = uint32(i)
	}
	return n
}
