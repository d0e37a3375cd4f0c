package flash

import "unsafe"

// alignment is what the kernel wants of memory and of places for input and output past its
// cache, in bytes: no device has larger sectors.
const alignment = 4096

// aligned returns a slice of n bytes whose place in memory is a multiple of [alignment].
func aligned(n int) []byte {
	b := make([]byte, n+alignment)
	skip := -int(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) & (alignment - 1)
	return b[skip : skip+n : skip+n]
}

// isAligned reports whether a slice and its place on a device are such that the kernel takes
// them past its cache.
func isAligned(p []byte, at int64) bool {
	return len(p)%sectorSize == 0 && at%sectorSize == 0 && uintptr(unsafe.Pointer(unsafe.SliceData(p)))%sectorSize == 0
}

// sectorSize is that of the disks that are written, in bytes.
const sectorSize = 512
