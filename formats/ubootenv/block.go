package ubootenv

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strings"
)

// Block is the form of U-Boot's own environment on a medium: a checksum, with two copies a
// mark of which is newer, and a list of variables that is padded with zeros (U-Boot:
// include/env_internal.h, struct environment_s).
type Block struct {
	// Size is that of one copy in bytes (CONFIG_ENV_SIZE).
	Size int
	// Order is the byte order of the CPU. Default: little-endian.
	Order binary.ByteOrder
	// Redundant is set when there are two copies. U-Boot writes the older one, so that a
	// power cut leaves the other.
	Redundant bool
}

// Limits of Size.
const (
	minBlock = 64
	maxBlock = 4 << 20
)

func (b Block) head() int {
	if b.Redundant {
		return 5
	}
	return 4
}

func (b Block) order() binary.ByteOrder {
	if b.Order == nil {
		return binary.LittleEndian
	}
	return b.Order
}

func (b Block) check() error {
	if b.Size < minBlock || b.Size > maxBlock {
		return fmt.Errorf("an environment of %d bytes: want %d to %d", b.Size, minBlock, maxBlock)
	}
	return nil
}

// Encode returns a copy with the variables, in their order. mark is ignored without a second
// copy. It is an error if they do not fit, or if a name or value cannot be kept.
func (b Block) Encode(entries []Entry, mark byte) ([]byte, error) {
	if err := b.check(); err != nil {
		return nil, err
	}
	out := make([]byte, b.head(), b.Size)
	for _, e := range entries {
		if e.Name == "" || strings.ContainsAny(e.Name, "=\x00") || strings.ContainsRune(e.Value, 0) {
			return nil, fmt.Errorf("variable %q: want a name without '=', and no NUL in the value", e.Name)
		}
		out = fmt.Appendf(out, "%s=%s\x00", e.Name, e.Value)
	}
	if len(out) >= b.Size {
		return nil, fmt.Errorf("variables of %d bytes do not fit an environment of %d, which holds %d", len(out)-b.head(), b.Size, b.Size-b.head()-1)
	}
	out = append(out, make([]byte, b.Size-len(out))...)
	if b.Redundant {
		out[4] = mark
	}
	b.order().PutUint32(out, crc32.ChecksumIEEE(out[b.head():]))
	return out, nil
}

// Decode returns the variables of a copy and its mark. A copy with a wrong checksum is an
// error: U-Boot takes none of its variables.
func (b Block) Decode(data []byte) (entries []Entry, mark byte, err error) {
	if err := b.check(); err != nil {
		return nil, 0, err
	}
	if len(data) < b.Size {
		return nil, 0, fmt.Errorf("an environment of %d bytes; it has %d", b.Size, len(data))
	}
	data = data[:b.Size]
	if b.order().Uint32(data) != crc32.ChecksumIEEE(data[b.head():]) {
		return nil, 0, fmt.Errorf("the environment's checksum is wrong")
	}
	if b.Redundant {
		mark = data[4]
	}
	data = data[b.head():]
	for len(data) > 0 && data[0] != 0 {
		entry, rest, _ := bytes.Cut(data, []byte{0})
		data = rest
		if name, value, ok := strings.Cut(string(entry), "="); ok && name != "" {
			entries = append(entries, Entry{name, value})
		}
	}
	return entries, mark, nil
}
