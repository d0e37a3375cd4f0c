// Package devicetree reads flattened device trees of any origin: what their sizes say is
// compared with what is there before memory is taken for it.
//
// Format: Devicetree Specification 0.4, chapter 5.
package devicetree

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/u-root/u-root/pkg/dt"
)

// maxDepth bounds the nodes inside each other; those of boards have about ten.
const maxDepth = 64

// Tokens of the structure block.
const (
	beginNode = 1
	endNode   = 2
	property  = 3
	nop       = 4
	end       = 9
)

// Read returns the tree. It does not keep data.
func Read(data []byte) (*dt.FDT, error) {
	if err := check(data); err != nil {
		return nil, err
	}
	return dt.ReadFDT(bytes.NewReader(data))
}

// check finds sizes that are larger than what is there.
func check(data []byte) error {
	const header = 40
	if len(data) < header {
		return fmt.Errorf("it has %d bytes and no header of a device tree", len(data))
	}
	field := func(i int) int64 { return int64(binary.BigEndian.Uint32(data[4*i:])) }
	total, structs, strings, sizeStrings, sizeStructs := field(1), field(2), field(3), field(8), field(9)
	switch size := int64(len(data)); {
	case field(0) != int64(dt.Magic):
		return errors.New("it does not begin as a device tree")
	case total > size:
		return fmt.Errorf("it is cut off: %d of %d bytes are there", size, total)
	case structs+sizeStructs > size || strings+sizeStrings > size:
		return errors.New("a block of it reaches behind its end")
	}
	return checkNodes(data[structs : structs+sizeStructs])
}

// checkNodes checks the sizes in a structure block.
func checkNodes(b []byte) error {
	depth := 0
	for len(b) >= 4 {
		token := binary.BigEndian.Uint32(b)
		b = b[4:]
		size := 0
		switch token {
		case beginNode:
			depth++
			size = bytes.IndexByte(b, 0) + 1
			if size == 0 || depth > maxDepth {
				return errors.New("the name of a node does not end, or nodes are nested too deep")
			}
		case property:
			if len(b) < 8 || int64(binary.BigEndian.Uint32(b)) > int64(len(b)-8) {
				return errors.New("a property reaches behind the end of the structure block")
			}
			size = 8 + int(binary.BigEndian.Uint32(b))
		case endNode:
			depth--
		case nop:
		case end:
			return nil
		default:
			return fmt.Errorf("token %d in the structure block is not known", token)
		}
		b = b[min((size+3)&^3, len(b)):]
	}
	return errors.New("the structure block does not end")
}
