// Package verity makes dm-verity hash trees (Linux:
// Documentation/admin-guide/device-mapper/verity.rst) with the on-disk header of
// veritysetup, format version 1: SHA-256, data and hash blocks of 4096 bytes.
// The tree is computed while the data is written.
package verity

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
)

// BlockSize is the size of data and hash blocks, in bytes.
const BlockSize = 4096

const (
	digestSize = sha256.Size
	fanout     = BlockSize / digestSize
	maxSalt    = 256
)

// Params are the parameters of a tree.
type Params struct {
	// Salt is hashed before every block; at most 256 bytes, usually 32.
	Salt []byte
	// UUID is that of the hash device, 16 bytes in the order of its text.
	UUID [16]byte
}

// ParseParams reads salt and UUID in the form of a _dm manifest: hexadecimal, and
// 8-4-4-4-12 hexadecimal digits.
func ParseParams(salt, uuid string) (Params, error) {
	var p Params
	var err error
	if p.Salt, err = hex.DecodeString(salt); err != nil || len(p.Salt) > maxSalt {
		return p, fmt.Errorf("salt %q: want up to %d bytes in hexadecimal", salt, maxSalt)
	}
	if len(uuid) != 36 || uuid[8] != '-' || uuid[13] != '-' || uuid[18] != '-' || uuid[23] != '-' {
		return p, fmt.Errorf("UUID %q: want 8-4-4-4-12 hexadecimal digits", uuid)
	}
	if n, err := hex.Decode(p.UUID[:], []byte(uuid[:8]+uuid[9:13]+uuid[14:18]+uuid[19:23]+uuid[24:])); err != nil || n != 16 {
		return p, fmt.Errorf("UUID %q: want 8-4-4-4-12 hexadecimal digits", uuid)
	}
	return p, nil
}

// Tree collects the hashes of the data written to it. It holds 32 bytes for each
// block of data.
type Tree struct {
	params  Params
	sum     hash.Hash
	partial []byte // data short of a block
	leaves  []byte
}

// NewTree returns an empty tree.
func NewTree(p Params) *Tree {
	return &Tree{params: p, sum: sha256.New()}
}

// Write takes the next bytes of the data device. It never fails.
func (t *Tree) Write(b []byte) (int, error) {
	n := len(b)
	if len(t.partial) > 0 {
		take := min(BlockSize-len(t.partial), len(b))
		t.partial = append(t.partial, b[:take]...)
		b = b[take:]
		if len(t.partial) < BlockSize {
			return n, nil
		}
		t.leaves = t.digest(t.leaves, t.partial)
		t.partial = t.partial[:0]
	}
	for len(b) >= BlockSize {
		t.leaves = t.digest(t.leaves, b[:BlockSize])
		b = b[BlockSize:]
	}
	t.partial = append(t.partial, b...)
	return n, nil
}

func (t *Tree) digest(to, block []byte) []byte {
	t.sum.Reset()
	t.sum.Write(t.params.Salt)
	t.sum.Write(block)
	return t.sum.Sum(to)
}

// errEmpty reports data without a whole block.
var errEmpty = errors.New("no whole block of 4096 bytes to protect")

// levels returns the hash blocks of each level, leaves first, and the root hash.
// An incomplete block at the end is not covered, as in veritysetup.
func (t *Tree) levels() ([][]byte, []byte, error) {
	if len(t.leaves) == 0 {
		return nil, nil, errEmpty
	}
	var levels [][]byte
	digests := t.leaves
	for len(digests) > digestSize {
		level := pad(digests)
		levels = append(levels, level)
		var next []byte
		for at := 0; at < len(level); at += BlockSize {
			next = t.digest(next, level[at:at+BlockSize])
		}
		digests = next
	}
	return levels, digests, nil
}

func pad(b []byte) []byte {
	padded := make([]byte, (len(b)+BlockSize-1)/BlockSize*BlockSize)
	copy(padded, b)
	return padded
}

// WriteTo writes the hash device: the header's block, then the levels from the
// root down.
func (t *Tree) WriteTo(w io.Writer) (int64, error) {
	levels, _, err := t.levels()
	if err != nil {
		return 0, fmt.Errorf("writing the hash tree: %w", err)
	}
	total := int64(0)
	for _, blocks := range append([][]byte{t.header()}, reversed(levels)...) {
		n, err := w.Write(blocks)
		total += int64(n)
		if err != nil {
			return total, fmt.Errorf("writing the hash tree: %w", err)
		}
	}
	return total, nil
}

func reversed(levels [][]byte) [][]byte {
	levels = slices.Clone(levels)
	slices.Reverse(levels)
	return levels
}

// Root returns the root hash in hexadecimal.
func (t *Tree) Root() (string, error) {
	_, root, err := t.levels()
	if err != nil {
		return "", fmt.Errorf("computing the root hash: %w", err)
	}
	return hex.EncodeToString(root), nil
}

// Byte offsets in the header, little-endian.
const (
	headerVersion   = 8
	headerType      = 12
	headerUUID      = 16
	headerAlgorithm = 32
	headerDataBlock = 64
	headerHashBlock = 68
	headerBlocks    = 72
	headerSaltSize  = 80
	headerSalt      = 88
)

// header returns veritysetup's superblock, padded to a block.
func (t *Tree) header() []byte {
	b := make([]byte, BlockSize)
	le := binary.LittleEndian
	copy(b, "verity\x00\x00")
	le.PutUint32(b[headerVersion:], 1)
	le.PutUint32(b[headerType:], 1)
	copy(b[headerUUID:], t.params.UUID[:])
	copy(b[headerAlgorithm:], "sha256")
	le.PutUint32(b[headerDataBlock:], BlockSize)
	le.PutUint32(b[headerHashBlock:], BlockSize)
	le.PutUint64(b[headerBlocks:], uint64(len(t.leaves)/digestSize))
	le.PutUint16(b[headerSaltSize:], uint16(len(t.params.Salt)))
	copy(b[headerSalt:], t.params.Salt)
	return b
}

var (
	_ io.Writer   = (*Tree)(nil)
	_ io.WriterTo = (*Tree)(nil)
)
