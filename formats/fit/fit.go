// Package fit writes FIT images: kernels, initrds and device trees in one file with
// configurations that say which of them belong together (U-Boot: doc/uImage.FIT;
// devicetree.org: Flat Image Tree specification).
//
// A FIT is a flattened device tree (Devicetree Specification 0.4, chapter 5). The content of
// the images is in it, so that bootm needs no more than its address; it is streamed.
package fit

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"math"
	"regexp"
	"strings"

	"github.com/pantavisor/pantavisor/internal/ctxio"
)

// File describes a FIT.
type File struct {
	// Description is for people. U-Boot does not take a FIT without one.
	Description string
	// Time is in seconds since 1970.
	Time uint32
	// Hash is the algorithm of the images' hash nodes, crc32 or sha256. U-Boot starts no
	// image with a hash that it cannot compute; each U-Boot that reads FITs has crc32.
	Hash   string
	Images []Image
	// Configurations: the first is the default.
	Configurations []Configuration
}

// Image is one of the contents.
type Image struct {
	// Name is that of its node: letters, digits and ",._+-".
	Name, Description string
	// Type is kernel, ramdisk or flat_dt; OS is empty for the latter.
	Type, Arch, OS string
	// Compression is none for content that the loader uses as it is.
	Compression string
	// Load is the address that the loader copies it to, and that a kernel is entered at. 0:
	// it is used where it is.
	Load uint64
	// Size of the content in bytes. Open opens it.
	Size int64
	Open func() (io.ReadCloser, error)
}

// Configuration names images that are started together.
type Configuration struct {
	Name, Description string
	// Kernel and, where there is one, Ramdisk.
	Kernel, Ramdisk string
	// Trees are the device tree and the overlays that are applied to it, in order; none for a
	// machine that has its own. With overlays the device tree needs a Load address.
	Trees []string
}

// ConfigurationName returns the customary name of the configuration for a device tree, which is
// given by its path below the kernel's directory of device trees.
func ConfigurationName(tree string) string { return "conf-" + strings.ReplaceAll(tree, "/", "_") }

// PlainConfiguration is the name of our configuration without a device tree. A loader names it:
// one that looks for the configuration of its board takes no other as default.
const PlainConfiguration = "conf-1"

// Values of the format.
const (
	magic      = 0xd00dfeed
	version    = 17
	compatible = 16
	headerSize = 40
	mapSize    = 16 // of a list of memory reservations without an entry

	beginNode = 1
	endNode   = 2
	property  = 3
	end       = 9
)

var nameForm = regexp.MustCompile(`^[A-Za-z0-9,._+-]{1,255}$`)

var hashes = map[string]func() hash.Hash{
	"crc32":  func() hash.Hash { return crc32.NewIEEE() },
	"sha256": sha256.New,
}

// Write writes a FIT. It is an error if a name is not valid, a configuration names an image
// that is not there, or a content has another length than its Size.
func Write(ctx context.Context, w io.Writer, f File) error {
	if err := f.check(); err != nil {
		return fmt.Errorf("writing a FIT: %w", err)
	}
	size := &tree{ctx: ctx, out: bufio.NewWriter(io.Discard), offsets: map[string]uint32{}, dry: true}
	if err := size.file(f); err != nil {
		return fmt.Errorf("writing a FIT: %w", err)
	}
	total := headerSize + mapSize + size.written + int64(len(size.names))
	if total > math.MaxInt32 {
		return fmt.Errorf("writing a FIT: %d bytes are more than a device tree can have", total)
	}
	out := bufio.NewWriterSize(w, 64<<10)
	for _, v := range []uint32{
		magic, uint32(total), headerSize + mapSize, uint32(headerSize + mapSize + size.written), headerSize,
		version, compatible, 0, uint32(len(size.names)), uint32(size.written), 0, 0, 0, 0,
	} {
		_ = binary.Write(out, binary.BigEndian, v) // Flush has the error
	}
	t := &tree{ctx: ctx, out: out, offsets: size.offsets}
	if err := t.file(f); err != nil {
		return fmt.Errorf("writing a FIT: %w", err)
	}
	if _, err := out.Write(size.names); err != nil {
		return fmt.Errorf("writing a FIT: %w", err)
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("writing a FIT: %w", err)
	}
	return nil
}

func (f *File) check() error {
	if hashes[f.Hash] == nil {
		return fmt.Errorf("hash %q: want crc32 or sha256", f.Hash)
	}
	if f.Description == "" {
		return fmt.Errorf("no description")
	}
	if len(f.Configurations) == 0 {
		return fmt.Errorf("no configuration")
	}
	images, configurations := map[string]bool{"": true}, map[string]bool{}
	for _, m := range f.Images {
		if !nameForm.MatchString(m.Name) || images[m.Name] {
			return fmt.Errorf("image %q: want a name of its own, of letters, digits and ,._+-", m.Name)
		}
		images[m.Name] = true
	}
	for _, c := range f.Configurations {
		if !nameForm.MatchString(c.Name) || configurations[c.Name] {
			return fmt.Errorf("configuration %q: want a name of its own, of letters, digits and ,._+-", c.Name)
		}
		configurations[c.Name] = true
		for _, name := range append([]string{c.Kernel, c.Ramdisk}, c.Trees...) {
			if !images[name] {
				return fmt.Errorf("configuration %s: there is no image %s", c.Name, name)
			}
		}
	}
	return nil
}

// tree writes the structure block. With dry, it only counts and collects names.
type tree struct {
	ctx     context.Context
	out     *bufio.Writer
	written int64
	dry     bool
	names   []byte
	offsets map[string]uint32 // in names
}

// file writes all nodes.
func (t *tree) file(f File) error {
	t.begin("")
	t.number("timestamp", f.Time)
	t.text("description", f.Description)
	t.number("#address-cells", 1)
	t.begin("images")
	for _, m := range f.Images {
		if err := t.image(m, f.Hash); err != nil {
			return fmt.Errorf("image %s: %w", m.Name, err)
		}
	}
	t.word(endNode)
	t.begin("configurations")
	t.text("default", f.Configurations[0].Name)
	for _, c := range f.Configurations {
		t.begin(c.Name)
		t.text("description", c.Description)
		t.text("kernel", c.Kernel)
		t.text("ramdisk", c.Ramdisk)
		t.text("fdt", strings.Join(c.Trees, "\x00"))
		t.word(endNode)
	}
	t.word(endNode)
	t.word(endNode)
	t.word(end)
	return t.out.Flush()
}

func (t *tree) image(m Image, algorithm string) error {
	t.begin(m.Name)
	t.text("description", m.Description)
	sum := hashes[algorithm]()
	if err := t.content(m, sum); err != nil {
		return err
	}
	t.text("type", m.Type)
	t.text("arch", m.Arch)
	t.text("os", m.OS)
	t.text("compression", m.Compression)
	if m.Load != 0 {
		t.address("load", m.Load)
		if m.Type == "kernel" {
			t.address("entry", m.Load)
		}
	}
	t.begin("hash-1")
	t.property("value", sum.Sum(nil))
	t.text("algo", algorithm)
	t.word(endNode)
	t.word(endNode)
	return nil
}

// content writes the property data and hashes it.
func (t *tree) content(m Image, sum io.Writer) error {
	if m.Size < 0 || m.Size > math.MaxInt32 {
		return fmt.Errorf("%d bytes are more than a device tree can have", m.Size)
	}
	t.head("data", uint32(m.Size))
	if t.dry {
		t.written += m.Size
		t.pad()
		return nil
	}
	r, err := m.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	n, err := io.Copy(io.MultiWriter(t.out, sum), ctxio.Reader(t.ctx, io.LimitReader(r, m.Size+1)))
	if err != nil {
		return err
	}
	if n != m.Size {
		return fmt.Errorf("its content has changed: %d bytes, expected %d", n, m.Size)
	}
	t.written += n
	t.pad()
	return nil
}

// The following report no errors: those of the buffer stay until it is flushed.

func (t *tree) write(b []byte) {
	_, _ = t.out.Write(b)
	t.written += int64(len(b))
}

func (t *tree) word(v uint32) { t.write(binary.BigEndian.AppendUint32(nil, v)) }

// pad fills up to a multiple of 4.
func (t *tree) pad() { t.write(make([]byte, -t.written&3)) }

func (t *tree) begin(name string) {
	t.word(beginNode)
	t.write(append([]byte(name), 0))
	t.pad()
}

func (t *tree) head(name string, size uint32) {
	at, known := t.offsets[name]
	if !known {
		at = uint32(len(t.names))
		t.offsets[name] = at
		t.names = append(append(t.names, name...), 0)
	}
	t.word(property)
	t.word(size)
	t.word(at)
}

func (t *tree) property(name string, value []byte) {
	t.head(name, uint32(len(value)))
	t.write(value)
	t.pad()
}

// text writes a string, and nothing for an empty one.
func (t *tree) text(name, value string) {
	if value != "" {
		t.property(name, append([]byte(value), 0))
	}
}

func (t *tree) number(name string, v uint32) {
	t.property(name, binary.BigEndian.AppendUint32(nil, v))
}

// address writes one cell, or two for an address that does not fit one.
func (t *tree) address(name string, v uint64) {
	if v <= math.MaxUint32 {
		t.number(name, uint32(v))
		return
	}
	t.property(name, binary.BigEndian.AppendUint64(nil, v))
}
