package inspect

import (
	"context"
	"debug/pe"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/pantavisor/pantavisor/formats/fitslot"
	"github.com/pantavisor/pantavisor/formats/region"
)

// errDamaged is wrapped by errors about structures that cannot be right.
var errDamaged = errors.New("its structure is damaged")

// Tokens of a flattened device tree (Devicetree Specification 0.4, section 5.4).
const (
	treeBegin = 1
	treeEnd   = 2
	treeProp  = 3
	treeNop   = 4
	treeLast  = 9

	treeHeader = 40
	// Bounds of what a damaged tree makes us read.
	maxTreeNames  = 1 << 20
	maxTreePaths  = 64 << 20
	maxTreeDepth  = 64
	maxTreeTokens = 1 << 20
	maxTreeValue  = 64 // bytes of a property that is an attribute
)

// openTree reads a flattened device tree: its properties are attributes, those called data, the
// contents of a FIT, are parts (U-Boot: doc/uImage.FIT).
func openTree(_ *Reader, ctx context.Context, c *Content) (*Inside, error) {
	head := make([]byte, treeHeader)
	if _, err := c.At.ReadAt(head, 0); err != nil {
		return nil, err
	}
	be := binary.BigEndian
	t := treeReader{c: c, at: int64(be.Uint32(head[8:]))}
	names := make([]byte, min(int64(be.Uint32(head[32:])), maxTreeNames))
	if _, err := c.At.ReadAt(names, int64(be.Uint32(head[12:]))); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	t.names = string(names)
	in := &Inside{Form: "device tree", regions: func(ctx context.Context, add region.Add) error {
		add.Own(0, c.Size, "structure of the tree")
		add.Own(0, treeHeader, "header")
		again := t
		again.add = add
		return again.read(ctx, &Inside{})
	}}
	reading := t
	return in, reading.read(ctx, in)
}

// treeReader reads the tokens of a tree.
type treeReader struct {
	c     *Content
	at    int64
	names string
	named int // bytes of all names so far
	path  []string
	add   region.Add // takes the regions, if somebody asks for them
}

// word reads the next 32 bits.
func (t *treeReader) word() (uint32, error) {
	var b [4]byte
	if n, err := t.c.At.ReadAt(b[:], t.at); n < len(b) {
		return 0, fmt.Errorf("reading a token at %d: %w: %w", t.at, errDamaged, err)
	}
	t.at += 4
	return binary.BigEndian.Uint32(b[:]), nil
}

func (t *treeReader) read(ctx context.Context, in *Inside) error {
	for range maxTreeTokens {
		token, err := t.word()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return err
		case token == treeLast:
			return nil
		case token == treeBegin:
			err = t.begin()
		case token == treeEnd && len(t.path) > 0:
			t.path = t.path[:len(t.path)-1]
		case token == treeProp:
			err = t.property(in)
		case token != treeNop:
			err = fmt.Errorf("token %d at %d: %w", token, t.at-4, errDamaged)
		}
		if err != nil {
			return err
		}
	}
	return fmt.Errorf("it has more than %d tokens: %w", maxTreeTokens, errDamaged)
}

// begin reads the name of a node.
func (t *treeReader) begin() error {
	b := make([]byte, 256)
	n, err := t.c.At.ReadAt(b, t.at)
	end := strings.IndexByte(string(b[:n]), 0)
	switch {
	case end < 0 && err != nil && !errors.Is(err, io.EOF):
		return fmt.Errorf("reading the name of a node at %d: %w", t.at, err)
	case end < 0:
		return fmt.Errorf("the name of the node at %d has no end: %w", t.at, errDamaged)
	case len(t.path) == maxTreeDepth:
		return fmt.Errorf("the node at %d is in more than %d others: %w", t.at, maxTreeDepth, errDamaged)
	}
	t.at += int64(end+4) &^ 3
	t.path = append(t.path, string(b[:end]))
	return nil
}

// property reads a property of the node that is open.
func (t *treeReader) property(in *Inside) error {
	length, err := t.word()
	if err != nil {
		return err
	}
	offset, err := t.word()
	if err != nil {
		return err
	}
	if int64(offset) >= int64(len(t.names)) || t.at+int64(length) > t.c.Size {
		return fmt.Errorf("a property of %d bytes at %d: %w", length, t.at, errDamaged)
	}
	name, _, _ := strings.Cut(t.names[offset:], "\x00")
	name = strings.TrimPrefix(strings.Join(t.path, "/")+"/"+name, "/")
	if t.named += len(name); t.named > maxTreePaths {
		return fmt.Errorf("the names of its properties have more than %d bytes: %w", maxTreePaths, errDamaged)
	}
	at := t.at
	t.at += (int64(length) + 3) &^ 3
	if strings.HasSuffix(name, "/data") || length > maxTreeValue {
		in.Nodes = append(in.Nodes, &Node{Name: strings.TrimSuffix(name, "/data"), Content: t.c.part(at, int64(length))})
		if t.add != nil {
			t.add(at, int64(length), func() region.Place { return region.Place{Name: "property", File: name, Offset: 0} })
		}
		return nil
	}
	if t.add != nil {
		t.add.Own(at, int64(length), "property %s", name)
	}
	value := make([]byte, length)
	if n, err := t.c.At.ReadAt(value, at); n < len(value) {
		return err
	}
	in.Attributes = append(in.Attributes, Attribute{Name: name, Value: propertyText(value), Derived: strings.Contains(name, "/hash")})
	return nil
}

// propertyText returns a value as text where it is one, or else as hexadecimal digits.
func propertyText(value []byte) string {
	text := strings.TrimRight(string(value), "\x00")
	for _, c := range text {
		if c < ' ' && c != 0 || c > '~' {
			return fmt.Sprintf("%x", value)
		}
	}
	if text == "" && len(value) > 0 {
		return fmt.Sprintf("%x", value)
	}
	return strings.ReplaceAll(text, "\x00", " ")
}

// openSlot reads a slot of an A/B boot: a header and a FIT (package fitslot).
func openSlot(_ *Reader, _ context.Context, c *Content) (*Inside, error) {
	head := make([]byte, fitslot.Size)
	if _, err := c.At.ReadAt(head, 0); err != nil {
		return nil, err
	}
	in := &Inside{Form: "FIT slot", Attributes: []Attribute{{Name: "revision", Value: fitslot.Decode(head)}}}
	in.Nodes = []*Node{{Name: "FIT", Content: c.part(fitslot.Size, c.Size-fitslot.Size)}}
	in.regions = func(_ context.Context, add region.Add) error {
		add.Own(0, fitslot.Size, "header")
		return nil
	}
	return in, nil
}

// openPE reads a unified kernel image, a program for UEFI that has its parts as sections. Other
// programs are not looked into.
func openPE(_ *Reader, _ context.Context, c *Content) (*Inside, error) {
	f, err := pe.NewFile(io.NewSectionReader(c.At, 0, c.Size))
	if err != nil {
		return nil, err
	}
	if f.Section(".linux") == nil {
		return nil, nil
	}
	in := &Inside{Form: "UKI", regions: func(_ context.Context, add region.Add) error {
		add.Own(0, c.Size, "headers")
		for _, s := range f.Sections {
			add(int64(s.Offset), int64(s.Size), func() region.Place { return region.Place{Name: "section", File: s.Name, Offset: 0} })
		}
		return nil
	}}
	seen := map[string]bool{}
	for _, s := range f.Sections {
		size := int64(s.Size)
		if s.VirtualSize > 0 {
			size = min(size, int64(s.VirtualSize)) // the rest is padding
		}
		if seen[s.Name] || size == 0 {
			continue
		}
		seen[s.Name] = true
		in.Nodes = append(in.Nodes, &Node{Name: "section " + s.Name, Content: c.part(int64(s.Offset), size)})
	}
	return in, nil
}
