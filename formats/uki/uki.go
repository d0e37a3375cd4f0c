// Package uki writes unified kernel images: one program for UEFI firmware that contains a kernel,
// its initrd and its command line. It is a small program, the stub of systemd-boot, with these as
// further sections (UAPI group: Unified Kernel Image; Microsoft: PE Format).
package uki

import (
	"bytes"
	"debug/pe"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// Section is a section that is added to the stub.
type Section struct {
	// Name has up to eight characters. The stub of systemd-boot takes .osrel, .cmdline, .initrd
	// and .linux.
	Name string
	// Data has Size bytes.
	Data io.Reader
	Size int64
}

// maxFileAlignment is the largest alignment in the file, in bytes.
const maxFileAlignment = 64 << 10

// page is what sections are aligned to in memory at least.
const page = 4096

// Lengths and places of the headers, in bytes.
const (
	lfanewAt   = 0x3c // in the DOS header: where the PE signature is
	coffSize   = 24   // signature and COFF header
	headerSize = 40   // of a section

	sectionsAt = 6 // the number of sections, from the PE signature
	symbolsAt  = 12
	// From the start of the optional header:
	initializedAt = 8
	imageSizeAt   = 56
	checksumAt    = 64

	certificates = 4 // the number of the data directory for signatures
)

// readable are the characteristics of the sections: initialized data that can be read.
const readable = pe.IMAGE_SCN_CNT_INITIALIZED_DATA | pe.IMAGE_SCN_MEM_READ

// Write writes the stub with further sections, in their order, to w, which is empty. A kernel
// comes last: what it needs behind its end then overlaps nothing. A signature of the stub would be
// void: a signed stub is an error.
func Write(w io.WriterAt, stub []byte, sections []Section) error {
	l, err := parse(stub)
	if err == nil {
		err = l.add(sections)
	}
	if err != nil {
		return fmt.Errorf("writing a unified kernel image: %w", err)
	}
	out := &summed{w: w}
	if err := out.write(bytes.NewReader(l.image), int64(len(l.image)), l.file); err != nil {
		return fmt.Errorf("writing a unified kernel image: %w", err)
	}
	for _, s := range sections {
		if err := out.write(s.Data, s.Size, l.file); err != nil {
			return fmt.Errorf("writing section %s of a unified kernel image: %w", s.Name, err)
		}
	}
	sum := binary.LittleEndian.AppendUint32(nil, out.checksum())
	if _, err := w.WriteAt(sum, int64(l.optional+checksumAt)); err != nil {
		return fmt.Errorf("writing a unified kernel image: %w", err)
	}
	return nil
}

// layout is an image in which sections are entered.
type layout struct {
	image       []byte
	pe          int // where its PE signature is
	optional    int // and its optional header
	table       int // and its section table
	count       int // of sections
	headers     int // the size of all headers
	file        int64
	memory      int64 // alignment of sections, and
	end         int64 // their end
	initialized int64
}

// parse reads the headers of a stub and returns a copy of it without symbols.
func parse(stub []byte) (*layout, error) {
	f, err := pe.NewFile(bytes.NewReader(stub))
	if err != nil {
		return nil, fmt.Errorf("reading the stub: %w", err)
	}
	defer f.Close()
	h, ok := f.OptionalHeader.(*pe.OptionalHeader64)
	switch {
	case !ok:
		return nil, errors.New("reading the stub: want a program of 64 bits (PE32+)")
	case !bytes.HasPrefix(stub, []byte("MZ")):
		return nil, errors.New("reading the stub: want a program with a DOS header")
	case !alignment(h.FileAlignment) || !alignment(h.SectionAlignment) || h.FileAlignment > maxFileAlignment:
		return nil, fmt.Errorf("reading the stub: alignments of %d bytes in the file and %d in memory are not valid", h.FileAlignment, h.SectionAlignment)
	case h.NumberOfRvaAndSizes > certificates && h.DataDirectory[certificates].Size != 0:
		return nil, errors.New("reading the stub: it is signed: take the stub without a signature and sign the whole image")
	}
	l := &layout{
		pe: int(binary.LittleEndian.Uint32(stub[lfanewAt:])), count: len(f.Sections), headers: int(h.SizeOfHeaders),
		file: int64(h.FileAlignment), memory: max(page, int64(h.SectionAlignment)), initialized: int64(h.SizeOfInitializedData),
	}
	l.optional = l.pe + coffSize
	l.table = l.optional + int(f.SizeOfOptionalHeader)
	last := int64(h.SizeOfHeaders)
	for _, s := range f.Sections {
		l.end = max(l.end, int64(s.VirtualAddress)+int64(max(s.VirtualSize, s.Size)))
		last = max(last, int64(s.Offset)+int64(s.Size))
	}
	if l.table+l.count*headerSize > l.headers {
		return nil, errors.New("reading the stub: its section table is longer than its headers")
	}
	if last > int64(len(stub)) {
		return nil, fmt.Errorf("reading the stub: it ends at byte %d, its last section at %d", len(stub), last)
	}
	l.image = append(bytes.Clone(stub[:last]), make([]byte, round(last, l.file)-last)...)
	clear(l.image[l.pe+symbolsAt : l.pe+symbolsAt+8]) // what follows the sections is left out
	return l, nil
}

// add enters sections into the headers.
func (l *layout) add(sections []Section) error {
	if room := (l.headers - l.table) / headerSize; room < l.count+len(sections) {
		return fmt.Errorf("the stub's headers have room for %d sections, not for %d", room, l.count+len(sections))
	}
	offset := int64(len(l.image))
	for _, s := range sections {
		if len(s.Name) > 8 || s.Name == "" {
			return fmt.Errorf("section %q: want a name of up to 8 characters", s.Name)
		}
		at, size := round(l.end, l.memory), round(s.Size, l.file)
		if s.Size <= 0 || at+size > math.MaxUint32 || offset+size > math.MaxUint32 {
			return fmt.Errorf("section %s has %d bytes: want some, and less than 4 GiB in all", s.Name, s.Size)
		}
		h := l.image[l.table+l.count*headerSize:][:headerSize]
		clear(h)
		copy(h, s.Name)
		for i, v := range []int64{s.Size, at, size, offset} {
			binary.LittleEndian.PutUint32(h[8+4*i:], uint32(v))
		}
		binary.LittleEndian.PutUint32(h[36:], readable)
		l.count, l.end = l.count+1, at+s.Size
		l.initialized, offset = l.initialized+size, offset+size
	}
	binary.LittleEndian.PutUint16(l.image[l.pe+sectionsAt:], uint16(l.count))
	o := l.image[l.optional:]
	binary.LittleEndian.PutUint32(o[initializedAt:], uint32(l.initialized))
	binary.LittleEndian.PutUint32(o[imageSizeAt:], uint32(round(l.end, l.memory)))
	clear(o[checksumAt : checksumAt+4])
	return nil
}

// alignment reports whether a number is a power of two.
func alignment(n uint32) bool { return n > 1 && n&(n-1) == 0 }

// round returns the next multiple of an alignment.
func round(n, alignment int64) int64 { return (n + alignment - 1) / alignment * alignment }

// summed writes one behind the other and adds up what it writes.
type summed struct {
	w   io.WriterAt
	at  int64
	sum uint64
}

// write copies size bytes and fills up to the alignment, which is even.
func (s *summed) write(r io.Reader, size, alignment int64) error {
	n, err := io.Copy(s, io.LimitReader(r, size))
	if err != nil {
		return err
	}
	if n != size {
		return fmt.Errorf("%d of %d bytes: %w", n, size, io.ErrUnexpectedEOF)
	}
	_, err = s.Write(make([]byte, round(size, alignment)-size))
	return err
}

// Write implements io.Writer.
func (s *summed) Write(b []byte) (int, error) {
	for i, c := range b {
		s.sum += uint64(c) << (8 * ((s.at + int64(i)) & 1))
	}
	n, err := s.w.WriteAt(b, s.at)
	s.at += int64(n)
	return n, err
}

// checksum returns the sum of all 16-bit words with carries added, and the length, as the header
// has it.
func (s *summed) checksum() uint32 {
	sum := s.sum
	for sum > math.MaxUint16 {
		sum = sum>>16 + sum&math.MaxUint16
	}
	return uint32(sum) + uint32(s.at)
}
