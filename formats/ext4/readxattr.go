package ext4

import (
	"bytes"
	"fmt"
)

// readAttributes returns the extended attributes in an inode and in its block of them.
func (f *FS) readAttributes(n *File, b []byte) (map[string][]byte, error) {
	out := map[string][]byte{}
	if len(b) > 128+2 {
		at := 128 + int(le.Uint16(b[128:]))
		if at+attrInodeHead <= len(b) && le.Uint32(b[at:]) == attrMagic {
			inside := b[at+attrInodeHead:]
			if err := listAttributes(out, inside, inside); err != nil {
				return nil, err
			}
		}
	}
	if n.attrs = int64(le.Uint32(b[104:])) | int64(le.Uint16(b[118:]))<<32; n.attrs != 0 {
		if n.attrs >= f.blocks {
			return nil, fmt.Errorf("its attributes are in block %d of %d: %w", n.attrs, f.blocks, errFormat)
		}
		block := make([]byte, f.block)
		if _, err := f.r.ReadAt(block, n.attrs*f.block); err != nil {
			return nil, err
		}
		if le.Uint32(block) != attrMagic {
			return nil, fmt.Errorf("the block of its attributes has another magic number: %w", errFormat)
		}
		if err := listAttributes(out, block[attrBlockHead:], block); err != nil {
			return nil, err
		}
	}
	if len(out) == 0 {
		return nil, nil
	}
	return out, nil
}

// listAttributes reads a list of entries whose values are at offsets of base.
func listAttributes(out map[string][]byte, list, base []byte) error {
	damaged := fmt.Errorf("its attributes are damaged: %w", errFormat)
	for len(list) >= 4 && le.Uint32(list) != 0 {
		if len(list) < attrEntry+int(list[0]) {
			return damaged
		}
		name, space := string(list[attrEntry:attrEntry+int(list[0])]), list[1]
		at, size := int64(le.Uint16(list[2:])), int64(le.Uint32(list[8:]))
		if le.Uint32(list[4:]) != 0 || at+size > int64(len(base)) {
			return damaged
		}
		value := bytes.Clone(base[at : at+size])
		prefix := fmt.Sprintf("%d.", space)
		for _, s := range attrSpaces {
			if s.number != space {
				continue
			}
			prefix = s.prefix
			if s.acl {
				value = decodeACL(value)
			}
		}
		out[prefix+name] = value
		list = list[min((attrEntry+int(list[0])+3)&^3, len(list)):]
	}
	return nil
}

// decodeACL is the reverse of encodeACL. A value that is not an ACL stays as it is.
func decodeACL(value []byte) []byte {
	if len(value) < 4 || le.Uint32(value) != aclDisk {
		return value
	}
	out := le.AppendUint32(nil, aclXattr)
	for e := value[4:]; len(e) >= 4; e = e[4:] {
		out = append(out, e[:4]...)
		if tag := le.Uint16(e); (tag == aclUser || tag == aclGroup) && len(e) >= 8 {
			out = append(out, e[4:8]...)
			e = e[4:]
			continue
		}
		out = le.AppendUint32(out, 1<<32-1)
	}
	return out
}
