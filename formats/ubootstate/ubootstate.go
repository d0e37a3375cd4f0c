// Package ubootstate is the form in which flash memory holds pv_rev and pv_try for a U-Boot that
// has them nowhere else: a list as in package ubootenv, and two words behind it.
//
//	offset | content
//	     0 | the list
//	  1024 | the mark: all bits set until U-Boot starts the test of pv_try, and 0 then
//	  1028 | 0x5a5a5a5a when the copy is complete; it is written last, and cleared first
//
// In NOR flash bits are cleared without erasing, so U-Boot needs no erasure to keep its mark, and no
// power cut can make the board forget how it boots. A partition that has space has a second copy in
// its second half; it counts when the first one is not complete.
package ubootstate

import (
	"bytes"
	"fmt"
)

// Offsets of the words in bytes, and the size of a copy.
const (
	MarkAt     = 1024
	CompleteAt = MarkAt + wordSize
	Size       = CompleteAt + wordSize

	wordSize = 4
)

// Word is the last word of a complete copy. It reads the same in both byte orders.
const Word = 0x5a5a5a5a

// complete are its bytes.
var complete = bytes.Repeat([]byte{0x5a}, wordSize)

// Encode returns a complete copy, without a mark.
func Encode(list []byte) ([]byte, error) {
	if len(list) > MarkAt {
		return nil, fmt.Errorf("the boot loader's values have %d bytes, and there is space for %d", len(list), MarkAt)
	}
	out := bytes.Repeat([]byte{0xff}, Size)
	copy(out, list)
	copy(out[CompleteAt:], complete)
	return out, nil
}

// Complete reports whether a copy was written to its end.
func Complete(data []byte) bool {
	return len(data) >= Size && bytes.Equal(data[CompleteAt:Size], complete)
}

// Second returns where the second copy begins in a partition with a size and a size of what is
// erased at once, in bytes; 0 when there is no space for it.
func Second(size, block int64) int64 {
	if half := size / 2; block > 0 && half >= block && half%block == 0 {
		return half
	}
	return 0
}
