package ext4

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math/bits"
	"slices"
	"strings"
)

// Bytes of extended attributes.
const (
	attrMagic     = 0xEA020000
	attrEntry     = 16 // of an entry, before its name
	attrBlockHead = 32
	attrInodeHead = 4
	attrEnd       = 4 // zeros behind the last entry
)

// attrSpaces are the name spaces by their numbers. An ACL has a number for its whole name.
var attrSpaces = []struct {
	prefix string
	number byte
	acl    bool
}{
	{"user.", 1, false}, {accessACL, 2, true}, {defaultACL, 3, true}, {"trusted.", 4, false}, {"security.", 6, false},
}

// attribute is an extended attribute as it is stored.
type attribute struct {
	space byte
	name  string // without the prefix of the name space
	value []byte
}

func (a *attribute) entrySize() int { return attrEntry + (len(a.name)+3)&^3 }
func (a *attribute) size() int      { return a.entrySize() + (len(a.value)+3)&^3 }

// encodeAttribute returns an attribute in the form of the file system.
func encodeAttribute(name string, value []byte) (attribute, error) {
	for _, s := range attrSpaces {
		rest, ok := strings.CutPrefix(name, s.prefix)
		if !ok || (rest == "") != s.acl {
			continue
		}
		if s.acl {
			acl, err := encodeACL(value)
			if err != nil {
				return attribute{}, fmt.Errorf("extended attribute %s: %w", name, err)
			}
			value = acl
		}
		if len(rest) > 255 {
			break
		}
		return attribute{s.number, rest, value}, nil
	}
	return attribute{}, fmt.Errorf("extended attribute %.300q: ext4 takes names in user, trusted and security and the two ACLs: %w", name, errors.ErrUnsupported)
}

// attributes writes the extended attributes of an inode: those that fit into it, the others
// into one block.
func (w *writer) attributes(n *inode) error {
	if len(n.Xattrs) == 0 {
		return nil
	}
	inside, outside, err := splitAttributes(n.Xattrs)
	if err != nil {
		return err
	}
	if len(inside) > 0 {
		n.attributes = make([]byte, inodeSize-128-extraSize)
		le.PutUint32(n.attributes, attrMagic)
		putAttributes(n.attributes[attrInodeHead:], inside, 0)
	}
	if len(outside) == 0 {
		return nil
	}
	b := make([]byte, w.block)
	size := attrBlockHead + attrEnd
	for i := range outside {
		size += outside[i].size()
	}
	if size > len(b) {
		return fmt.Errorf("extended attributes need %d bytes, a block has %d: %w", size, len(b), errors.ErrUnsupported)
	}
	if n.attrBlock, err = w.free.one(); err != nil {
		return err
	}
	n.blocks++
	le.PutUint32(b, attrMagic)
	le.PutUint32(b[4:], 1) // inodes that have the block
	le.PutUint32(b[8:], 1) // blocks
	le.PutUint32(b[12:], putAttributes(b[attrBlockHead:], outside, attrBlockHead))
	sum := checksum(w.seed, le.AppendUint64(nil, uint64(n.attrBlock)))
	le.PutUint32(b[16:], checksum(sum, b))
	w.out.write(n.attrBlock*w.block, b)
	return nil
}

// splitAttributes encodes attributes and divides them in two: what an inode has room for,
// and the rest. Both are in the order in which a block has to be.
func splitAttributes(set map[string][]byte) (inside, outside []attribute, err error) {
	room := inodeSize - 128 - extraSize - attrInodeHead - attrEnd
	var all []attribute
	for _, name := range slices.Sorted(maps.Keys(set)) {
		a, err := encodeAttribute(name, set[name])
		if err != nil {
			return nil, nil, err
		}
		all = append(all, a)
	}
	slices.SortFunc(all, func(a, b attribute) int {
		return cmp.Or(cmp.Compare(a.space, b.space), cmp.Compare(len(a.name), len(b.name)), cmp.Compare(a.name, b.name))
	})
	for _, a := range all {
		if a.size() > room {
			outside = append(outside, a)
			continue
		}
		room -= a.size()
		inside = append(inside, a)
	}
	return inside, outside, nil
}

// putAttributes writes entries from the start and values from the end of b. Offsets of values
// count from base bytes before b; where that is not 0, entries have hashes. It returns the
// hash of all.
func putAttributes(b []byte, list []attribute, base int) (sum uint32) {
	at, end := 0, len(b)
	for i := range list {
		a := &list[i]
		end -= (len(a.value) + 3) &^ 3
		copy(b[end:], a.value)
		e := b[at:]
		e[0], e[1] = byte(len(a.name)), a.space
		if len(a.value) > 0 {
			le.PutUint16(e[2:], uint16(base+end))
		}
		le.PutUint32(e[8:], uint32(len(a.value)))
		copy(e[attrEntry:], a.name)
		if base != 0 {
			hash := a.hash()
			le.PutUint32(e[12:], hash)
			sum = bits.RotateLeft32(sum, 16) ^ hash
		}
		at += a.entrySize()
	}
	return sum
}

// hash returns that of name and value, by which the kernel finds equal blocks.
func (a *attribute) hash() (sum uint32) {
	for i := range len(a.name) {
		sum = bits.RotateLeft32(sum, 5) ^ uint32(a.name[i])
	}
	value := append(slices.Clone(a.value), 0, 0, 0)
	for ; len(value) >= 4; value = value[4:] {
		sum = bits.RotateLeft32(sum, 16) ^ le.Uint32(value)
	}
	return sum
}
