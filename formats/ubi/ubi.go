// Package ubi writes images of raw NAND flash with one volume (kernel:
// drivers/mtd/ubi/ubi-media.h). Numbers are big-endian.
package ubi

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// Options describe the flash and the volume.
type Options struct {
	// Block is the size of an erase block in bytes, Page that of the smallest write: headers
	// take two pages of each block.
	Block, Page int
	// Volume is the name of the volume, up to 127 bytes.
	Volume string
	// Reserved is how many blocks the volume has at first; it grows to all that are free when
	// the flash is attached.
	Reserved int
	// Sequence distinguishes images: blocks of another one are seen as foreign.
	Sequence uint32
}

// Payload returns how many bytes of a block are for data.
func (o Options) Payload() int { return o.Block - 2*o.Page }

// Magic numbers, and the volume with the table of volumes.
const (
	blockMagic   = 0x55424923 // "UBI#"
	volumeMagic  = 0x55424921 // "UBI!"
	layoutVolume = 0x7fffefff
	layoutReject = 5 // who does not know the volume must not attach the flash
	dynamic      = 1
	autoresize   = 1
	headerSize   = 64
	recordSize   = 172
	maxVolumes   = 128
	maxName      = 127
)

// check checks the options.
func (o Options) check() error {
	switch {
	case o.Page < headerSize || o.Page&(o.Page-1) != 0 || o.Block%o.Page != 0 || o.Block < 8*o.Page || o.Block > 1<<26:
		return fmt.Errorf("erase blocks of %d bytes with pages of %d are not possible", o.Block, o.Page)
	case o.Volume == "" || len(o.Volume) > maxName:
		return fmt.Errorf("the volume's name %q has %d bytes; want 1 to %d", o.Volume, len(o.Volume), maxName)
	case o.Payload() < recordSize:
		return fmt.Errorf("erase blocks of %d bytes have no space for the table of volumes", o.Block)
	}
	return nil
}

// Write writes the table of volumes twice and a block for each block of the volume's content
// that is not erased. The content is a multiple of [Options.Payload] long.
func Write(w io.Writer, content io.Reader, o Options) error {
	if err := o.check(); err != nil {
		return err
	}
	for n := range uint32(2) {
		if err := o.block(w, layoutVolume, n, o.table()); err != nil {
			return err
		}
	}
	data := make([]byte, o.Payload())
	for n := uint32(0); ; n++ {
		_, err := io.ReadFull(content, data)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("reading block %d of volume %s: %w", n, o.Volume, err)
		case n >= uint32(o.Reserved):
			return fmt.Errorf("volume %s has more than its %d blocks", o.Volume, o.Reserved)
		case erased(data):
			continue
		}
		if err := o.block(w, 0, n, data); err != nil {
			return err
		}
	}
}

func erased(data []byte) bool { return len(bytes.TrimLeft(data, "\xff")) == 0 }

// checksum is the kernel's CRC-32: that of IEEE without the last inversion.
func checksum(data []byte) uint32 { return ^crc32.ChecksumIEEE(data) }

// block writes a block with its headers.
func (o Options) block(w io.Writer, volume, number uint32, data []byte) error {
	out := bytes.Repeat([]byte{0xFF}, o.Block)
	be := binary.BigEndian

	head := make([]byte, headerSize)
	be.PutUint32(head, blockMagic)
	head[4] = 1 // version
	be.PutUint32(head[16:], uint32(o.Page))
	be.PutUint32(head[20:], uint32(2*o.Page))
	be.PutUint32(head[24:], o.Sequence)
	be.PutUint32(head[60:], checksum(head[:60]))
	copy(out, head)

	clear(head)
	be.PutUint32(head, volumeMagic)
	head[4], head[5] = 1, dynamic
	if volume == layoutVolume {
		head[7] = layoutReject
	}
	be.PutUint32(head[8:], volume)
	be.PutUint32(head[12:], number)
	be.PutUint32(head[60:], checksum(head[:60]))
	copy(out[o.Page:], head)

	copy(out[2*o.Page:], data)
	_, err := w.Write(out)
	return err
}

// table returns the table of volumes: records of which one is used.
func (o Options) table() []byte {
	be := binary.BigEndian
	out := make([]byte, min(maxVolumes, o.Payload()/recordSize)*recordSize)
	be.PutUint32(out, uint32(o.Reserved))
	be.PutUint32(out[4:], 1) // alignment
	out[12] = dynamic
	be.PutUint16(out[14:], uint16(len(o.Volume)))
	copy(out[16:], o.Volume)
	out[144] = autoresize
	for at := 0; at < len(out); at += recordSize {
		be.PutUint32(out[at+recordSize-4:], checksum(out[at:at+recordSize-4]))
	}
	return out
}
