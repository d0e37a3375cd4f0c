package xzenc

import "encoding/binary"

// The branch filter for x86: calls and jumps to the same place from several ones have
// different offsets, and the same address.
const (
	callSize   = 5 // the opcode and an offset of 32 bits
	addrBits   = 25
	recentMask = 7 // of the opcodes in the last three bytes
)

// recentAllowed says with which opcodes before it an opcode may begin a call, and
// recentByte which byte of the offset is then the topmost of an earlier one.
var (
	recentAllowed = [recentMask + 1]bool{0: true, 1: true, 2: true, 4: true}
	recentByte    = [recentMask + 1]int{0, 1, 2, 2, 3, 3, 3, 3}
)

// isSign reports whether a byte is the topmost of an offset of less than 2^24.
func isSign(b byte) bool { return b == 0 || b == 0xff }

// filterX86 replaces the offsets of calls and jumps by addresses, counted from the
// beginning of the block.
func filterX86(block []byte) {
	last := -1        // where the last opcode was
	recent := uint(0) // which of the three bytes before were opcodes that are left alone
	for i := 0; i+callSize <= len(block); i++ {
		if block[i]&0xfe != 0xe8 {
			continue
		}
		gap := i - last
		last = i
		if gap > 3 {
			recent = 0
		} else if recent = recent << (gap - 1) & recentMask; recent != 0 {
			if !recentAllowed[recent] || isSign(block[i+callSize-1-recentByte[recent]]) {
				recent = recent<<1 | 1
				continue
			}
		}
		if !isSign(block[i+callSize-1]) {
			recent = recent<<1 | 1
			continue
		}
		offset := block[i+1 : i+callSize]
		binary.LittleEndian.PutUint32(offset, address(binary.LittleEndian.Uint32(offset), uint32(i+callSize), recent))
		i += callSize - 1
	}
}

// address returns the address for an offset, sign-extended. The decoder must not take a
// byte of it for the topmost of an earlier offset: it then turns it over.
func address(offset, next uint32, recent uint) uint32 {
	addr := offset + next
	if recent != 0 {
		shift := uint(recentByte[recent]) * 8
		for isSign(byte(addr >> (24 - shift))) {
			addr = (addr ^ (1<<(32-shift) - 1)) + next
		}
	}
	addr &= 1<<addrBits - 1
	return addr | -(addr >> (addrBits - 1) << (addrBits - 1))
}
