// Package partition reads partition tables: GUID partition tables, those of a master boot
// record, and both together. Damage is reported beside what can be read, so that a table can
// be shown whatever is wrong with it.
//
// Formats: UEFI specification 2.10, chapter 5; MBR as Linux has it (block/partitions/msdos.c).
package partition

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"strings"
	"unicode/utf16"

	"github.com/pantavisor/pantavisor/formats/region"
)

// ErrFormat is wrapped by every error about bytes that are not a partition table.
var ErrFormat = errors.New("not a partition table")

const sector = 512

// Of a GPT.
const (
	headerSize = 92
	entrySize  = 128
	maxEntries = 512
	protective = 0xEE
	codeSize   = 440
	mbrEntries = 446
)

// Table is a partition table.
type Table struct {
	// Form is gpt, mbr or hybrid: a GPT with a master boot record that has partitions too.
	Form string
	// ID is the identifier of the disk.
	ID         string
	Partitions []Partition
	// Record are the entries of the master boot record beside a GPT.
	Record []Partition
	// Damage says what is wrong, a line each.
	Damage []string

	size  int64
	front *header
	back  *header
}

// Partition is an entry of a table. Start and Size are in bytes.
type Partition struct {
	Number      int
	Start, Size int64
	// Type is a GUID, or two hexadecimal digits in a master boot record.
	Type string
	// ID and Name are empty in a master boot record.
	ID, Name string
	// Attributes are those of a GPT, or 0x80 for a partition that is active.
	Attributes uint64
}

// Read reads the table of a disk of size bytes.
func Read(r io.ReaderAt, size int64) (*Table, error) {
	b := make([]byte, sector)
	if _, err := r.ReadAt(b, 0); err != nil {
		return nil, fmt.Errorf("reading the master boot record: %w", err)
	}
	t := &Table{Form: "mbr", size: size}
	record := b[510] == 0x55 && b[511] == 0xAA
	var entries []Partition
	if record {
		entries = recordEntries(b)
	}
	if err := t.readGPT(r); err != nil {
		return nil, err
	}
	if t.front == nil && t.back == nil {
		if !record || !plausible(b, entries, size) {
			return nil, fmt.Errorf("reading the master boot record: %w", ErrFormat)
		}
		t.Partitions, t.ID = entries, fmt.Sprintf("%08x", binary.LittleEndian.Uint32(b[440:]))
		return t, nil
	}
	t.Form, t.Record = "gpt", entries
	for _, e := range entries {
		if e.Type != fmt.Sprintf("%02x", protective) {
			t.Form = "hybrid"
		}
	}
	if !record {
		t.Damage = append(t.Damage, "the master boot record has no signature")
	}
	return t, nil
}

// recordEntries reads the entries of a master boot record that are used.
func recordEntries(b []byte) (out []Partition) {
	le := binary.LittleEndian
	for n := range 4 {
		e := b[mbrEntries+16*n:]
		if e[4] == 0 {
			continue
		}
		out = append(out, Partition{
			Number: n + 1, Type: fmt.Sprintf("%02x", e[4]), Attributes: uint64(e[0]),
			Start: int64(le.Uint32(e[8:])) * sector, Size: int64(le.Uint32(e[12:])) * sector,
		})
	}
	return out
}

// plausible reports whether a first sector is a master boot record: that of a file system
// has the same signature and what looks like entries.
func plausible(b []byte, entries []Partition, size int64) bool {
	for n := range 4 {
		if b[mbrEntries+16*n]&0x7f != 0 {
			return false
		}
	}
	for _, e := range entries {
		if e.Start == 0 || e.Size == 0 || e.Start >= size {
			return false
		}
	}
	return len(entries) > 0
}

// header is one of the two headers of a GPT, with its entries.
type header struct {
	at, entries int64 // in bytes
	count       int64
	list        []byte
	raw         []byte
	sound       bool
}

// readGPT reads both headers and takes the entries of the first that is sound.
func (t *Table) readGPT(r io.ReaderAt) error {
	for _, h := range []struct {
		at   int64
		into **header
		name string
	}{{sector, &t.front, "the header"}, {t.size/sector*sector - sector, &t.back, "the second header"}} {
		if h.at < sector {
			continue
		}
		got, problem, err := readHeader(r, h.at, t.size)
		if err != nil {
			return fmt.Errorf("reading %s of the GPT: %w", h.name, err)
		}
		*h.into = got
		if problem != "" {
			t.Damage = append(t.Damage, h.name+" of the GPT "+problem)
		}
	}
	use := t.front
	switch {
	case t.front == nil && t.back == nil:
		t.Damage = nil
		return nil
	case t.front == nil || !t.front.sound && t.back != nil && t.back.sound:
		use = t.back
	}
	t.ID, t.Partitions = guid(use.raw[56:]), use.partitions()
	if t.front != nil && t.back != nil && !bytes.Equal(t.front.list, t.back.list) {
		t.Damage = append(t.Damage, "the two lists of entries of the GPT differ")
	}
	return nil
}

// readHeader reads a header, nil when there is none, and says what is wrong with it.
func readHeader(r io.ReaderAt, at, size int64) (*header, string, error) {
	le := binary.LittleEndian
	b := make([]byte, sector)
	if _, err := r.ReadAt(b, at); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, "is behind the end", nil
		}
		return nil, "", err
	}
	if string(b[:8]) != "EFI PART" {
		return nil, "is not there", nil
	}
	h := &header{at: at, raw: b, entries: int64(le.Uint64(b[72:])), count: int64(le.Uint32(b[80:]))}
	if h.count > maxEntries || le.Uint32(b[84:]) != entrySize || h.entries < 1 || h.entries > size/sector {
		return nil, fmt.Sprintf("has %d entries of %d bytes in sector %d", h.count, le.Uint32(b[84:]), h.entries), nil
	}
	h.entries *= sector
	h.list = make([]byte, h.count*entrySize)
	if _, err := r.ReadAt(h.list, h.entries); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, "has entries behind the end", nil
		}
		return nil, "", err
	}
	sum := le.Uint32(b[16:])
	head := bytes.Clone(b[:headerSize])
	clear(head[16:20])
	switch {
	case le.Uint32(b[12:]) == headerSize && crc32.ChecksumIEEE(head) != sum:
		return h, "has a wrong checksum", nil
	case crc32.ChecksumIEEE(h.list) != le.Uint32(b[88:]):
		return h, "has a wrong checksum of its entries", nil
	}
	h.sound = true
	return h, "", nil
}

// partitions returns the entries that are used.
func (h *header) partitions() (out []Partition) {
	le := binary.LittleEndian
	for n := range int(h.count) {
		e := h.list[n*entrySize : (n+1)*entrySize]
		if bytes.Equal(e[:16], make([]byte, 16)) {
			continue
		}
		first, last := le.Uint64(e[32:]), le.Uint64(e[40:])
		if first > 1<<50 || last > 1<<50 || last+1 < first {
			first, last = 0, 0
		}
		var name []uint16
		for at := 56; at < entrySize && le.Uint16(e[at:]) != 0; at += 2 {
			name = append(name, le.Uint16(e[at:]))
		}
		out = append(out, Partition{
			Number: n + 1, Start: int64(first) * sector, Size: int64(last+1-first) * sector, Type: guid(e), ID: guid(e[16:]),
			Name: string(utf16.Decode(name)), Attributes: le.Uint64(e[48:]),
		})
	}
	return out
}

// guid returns the text of a GUID, of which the first three numbers are little-endian.
func guid(b []byte) string {
	le := binary.LittleEndian
	return strings.ToLower(fmt.Sprintf("%08x-%04x-%04x-%x-%x", le.Uint32(b), le.Uint16(b[4:]), le.Uint16(b[6:]), b[8:10], b[10:16]))
}

// Regions describes the disk. The content of partitions is that of files with their numbers as
// names.
func (t *Table) Regions(add region.Add) {
	add.Own(0, t.size, "outside of the partitions")
	add.Own(0, codeSize, bootCode)
	add.Own(codeSize, 6, "identifier of the disk in the master boot record")
	for n := range int64(4) {
		add.Own(mbrEntries+16*n, 16, "entry %d of the master boot record", n+1)
	}
	add.Own(510, 2, "signature of the master boot record")
	for _, h := range []struct {
		*header
		which string
	}{{t.front, "the GPT"}, {t.back, "the second GPT"}} {
		if h.header == nil {
			continue
		}
		add.Own(h.at, sector, "header of %s", h.which)
		for n := range h.count {
			add.Own(h.entries+n*entrySize, entrySize, "entry %d of %s", n+1, h.which)
		}
	}
	for _, p := range t.Partitions {
		add(p.Start, p.Size, func() region.Place {
			return region.Place{Name: fmt.Sprintf("partition %d", p.Number), File: fmt.Sprint(p.Number), Offset: 0}
		})
	}
}

// Gap is a run of the disk outside of the partitions, where boards have boot stages.
type Gap struct {
	// Name is for people: "before partition 1", "after the last partition".
	Name string
	// Start and Size are in bytes.
	Start, Size int64
	// Runs are what of it the table does not take, in order; Offset counts from Start, From is
	// that of the disk.
	Runs []region.Run
}

// bootCode is the name of the program in a master boot record.
const bootCode = "code of the master boot record"

// Gaps returns the runs outside of the partitions, in order. The first one before a partition
// begins with the disk, so that places in it are those on the disk.
func (t *Table) Gaps() (out []Gap) {
	var parts []Partition
	for _, p := range t.Partitions {
		if p.Size > 0 && p.Start < t.size {
			parts = append(parts, p)
		}
	}
	slices.SortStableFunc(parts, func(a, b Partition) int { return cmp.Compare(a.Start, b.Start) })
	if len(parts) == 0 || parts[0].Start > 0 {
		out = append(out, Gap{bootCode, 0, codeSize, []region.Run{{Length: codeSize}}})
	}
	add := func(name string, from, to int64) {
		if runs := t.unused(from, to); len(runs) > 0 {
			out = append(out, Gap{name, from, to - from, runs})
		}
	}
	end := int64(0)
	for _, p := range parts {
		add(fmt.Sprintf("before partition %d", p.Number), end, p.Start)
		end = max(end, p.Start+p.Size)
	}
	add("after the last partition", end, t.size)
	return out
}

// unused returns what the table does not take of a run of the disk.
func (t *Table) unused(from, to int64) (out []region.Run) {
	taken := []region.Run{{Length: sector}}
	for _, h := range []*header{t.front, t.back} {
		if h != nil {
			taken = append(taken, region.Run{From: h.at, Length: sector}, region.Run{From: h.entries, Length: h.count * entrySize})
		}
	}
	slices.SortFunc(taken, func(a, b region.Run) int { return cmp.Compare(a.From, b.From) })
	at := from
	add := func(end int64) {
		if end = min(end, to); at < end {
			out = append(out, region.Run{Offset: at - from, Length: end - at, From: at})
		}
	}
	for _, r := range taken {
		add(r.From)
		at = max(at, r.From+r.Length)
	}
	add(to)
	return out
}
