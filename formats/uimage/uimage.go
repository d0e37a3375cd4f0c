// Package uimage writes scripts, kernels and initrds as U-Boot's legacy images: a header of 64
// bytes and what it describes (U-Boot: include/image.h, struct legacy_img_hdr).
package uimage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
)

// HeaderSize is the size in bytes of what is before the data.
const HeaderSize = 64

const (
	magic    = 0x27051956
	nameSize = 32
)

// Type is what an image holds (ih_type).
type Type uint8

// Types of images.
const (
	Kernel  Type = 2
	Ramdisk Type = 3
	script  Type = 6
)

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
	// Load is where U-Boot puts the unpacked data of a kernel, Entry where the kernel is
	// started. An initrd stays where it is.
	Load, Entry uint32
	// Gzip is set when U-Boot has to unpack the data.
	Gzip bool
}

// encode returns the 64 bytes before data of the given size and checksum.
func (h Header) encode(t Type, size int64, sum uint32) ([]byte, error) {
	if len(h.Name) > nameSize {
		return nil, fmt.Errorf("the image's name %q has %d bytes; at most %d fit", h.Name, len(h.Name), nameSize)
	}
	if size > math.MaxUint32 {
		return nil, fmt.Errorf("%d bytes do not fit a legacy image", size)
	}
	out := make([]byte, HeaderSize)
	for i, v := range []uint32{magic, 0, h.Time, uint32(size), h.Load, h.Entry, sum} {
		binary.BigEndian.PutUint32(out[4*i:], v)
	}
	out[28], out[29], out[30] = linux, byte(h.Arch), byte(t)
	if h.Gzip {
		out[31] = 1
	}
	copy(out[32:], h.Name)
	binary.BigEndian.PutUint32(out[4:], crc32.ChecksumIEEE(out))
	return out, nil
}

// Write writes the image of a kernel or an initrd. The header, which has a checksum of the
// data, is written last.
func Write(w io.WriteSeeker, t Type, h Header, data io.Reader) error {
	if _, err := w.Write(make([]byte, HeaderSize)); err != nil {
		return fmt.Errorf("writing a legacy image: %w", err)
	}
	sum := crc32.NewIEEE()
	n, err := io.Copy(io.MultiWriter(w, sum), data)
	if err != nil {
		return fmt.Errorf("writing a legacy image: %w", err)
	}
	head, err := h.encode(t, n, sum.Sum32())
	if err != nil {
		return err
	}
	_, err = w.Seek(-n-HeaderSize, io.SeekCurrent)
	if err == nil {
		_, err = w.Write(head)
	}
	_, end := w.Seek(n, io.SeekCurrent)
	if err = errors.Join(err, end); err != nil {
		return fmt.Errorf("writing the header of a legacy image: %w", err)
	}
	return nil
}

// EncodeScript returns the image of a script. Its data begins with a list of lengths that
// ends with 0, of which a script has one.
func EncodeScript(h Header, text []byte) ([]byte, error) {
	data := binary.BigEndian.AppendUint32(nil, uint32(len(text)))
	data = binary.BigEndian.AppendUint32(data, 0)
	data = append(data, text...)
	head, err := h.encode(script, int64(len(data)), crc32.ChecksumIEEE(data))
	if err != nil {
		return nil, err
	}
	return append(head, data...), nil
}
