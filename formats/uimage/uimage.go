// Package uimage writes scripts as U-Boot's legacy images: a header of 64 bytes and what it
// describes (U-Boot: include/image.h, struct legacy_img_hdr).
package uimage

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
)

// Header size and magic number.
const (
	headerSize = 64
	magic      = 0x27051956
	nameSize   = 32
)

// script is what our images hold (ih_type).
const script = 6

// Arch is the CPU that an image is for (ih_arch).
type Arch uint8

// Architectures. U-Boot checks that of a kernel, not that of a script.
const (
	ARM   Arch = 2
	I386  Arch = 3
	MIPS  Arch = 5
	ARM64 Arch = 22
	X8664 Arch = 24
	RISCV Arch = 26
)

// linux is the operating system of all our images (ih_os).
const linux = 5

// Header describes an image.
type Header struct {
	// Name is for people; U-Boot prints it. At most 32 bytes.
	Name string
	Arch Arch
	// Time is in seconds since 1970.
	Time uint32
}

// encode returns the image of data, which is not compressed and smaller than 4 GiB.
func encode(h Header, data []byte) ([]byte, error) {
	if len(h.Name) > nameSize {
		return nil, fmt.Errorf("the image's name %q has %d bytes; at most %d fit", h.Name, len(h.Name), nameSize)
	}
	if uint64(len(data)) > math.MaxUint32 {
		return nil, fmt.Errorf("%d bytes do not fit a legacy image", len(data))
	}
	out := make([]byte, headerSize, headerSize+len(data))
	for i, v := range []uint32{magic, 0, h.Time, uint32(len(data)), 0, 0, crc32.ChecksumIEEE(data)} {
		binary.BigEndian.PutUint32(out[4*i:], v)
	}
	out[28], out[29], out[30], out[31] = linux, byte(h.Arch), script, 0
	copy(out[32:], h.Name)
	binary.BigEndian.PutUint32(out[4:], crc32.ChecksumIEEE(out[:headerSize]))
	return append(out, data...), nil
}

// EncodeScript returns the image of a script. Its data begins with a list of lengths that
// ends with 0, of which a script has one.
func EncodeScript(h Header, text []byte) ([]byte, error) {
	data := binary.BigEndian.AppendUint32(nil, uint32(len(text)))
	data = binary.BigEndian.AppendUint32(data, 0)
	return encode(h, append(data, text...))
}
