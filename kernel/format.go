package kernel

import (
	"bufio"
	"cmp"
	"compress/gzip"
	"context"
	"debug/elf"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/formats/uimage"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// Forms of a kernel, as a target's kernel.format names them.
const (
	flatImage   = "Image"    // arm64 and riscv64 (kernel: Documentation/arm64/booting.rst)
	gzipImage   = "Image.gz" // the same, compressed
	zImage      = "zImage"   // 32-bit ARM, unpacks itself
	bzImage     = "bzImage"  // x86
	elfImage    = "vmlinux"
	legacyImage = "uImage" // U-Boot's legacy image of any of them
)

// marks are what the forms have at a fixed place: the magic numbers of their headers.
var marks = []struct {
	form  string
	at    int
	bytes string
}{
	{elfImage, 0, "\x7fELF"},
	{gzipImage, 0, "\x1f\x8b\x08"},
	{legacyImage, 0, "\x27\x05\x19\x56"},
	{zImage, 0x24, "\x18\x28\x6f\x01"},
	{flatImage, 0x38, "ARM\x64"},
	{flatImage, 0x38, "RSC\x05"},
	{bzImage, 0x202, "HdrS"},
}

// headSize is how much of a kernel the marks are in.
const headSize = 0x206

// formOf returns the form of a kernel that begins with head, "" for an unknown one.
func formOf(head []byte) string {
	for _, m := range marks {
		if len(head) >= m.at+len(m.bytes) && string(head[m.at:m.at+len(m.bytes)]) == m.bytes {
			return m.form
		}
	}
	return ""
}

// Converted is the step that picks the kernel image and brings it into a form. It is in place
// of [Image] and has the same output.
type Converted struct {
	// Format is the form: Image, Image.gz, zImage, bzImage, uImage or vmlinux.
	Format string
	// Arch and Load are for a uImage: the CPU, and where U-Boot loads a kernel that does not
	// say so itself.
	Arch uimage.Arch
	Load uint32
	Tree build.Step `json:"-"`
}

var (
	_ build.Step      = (*Converted)(nil)
	_ build.Versioned = (*Converted)(nil)
)

// Name is "kernel/image".
func (i *Converted) Name() string { return "kernel/image" }

// Version of the step's logic.
func (i *Converted) Version() int { return 1 }

// Deps is the kernel's tree.
func (i *Converted) Deps() []build.Step { return []build.Step{i.Tree} }

// Run copies or converts the kernel image. One that cannot get the form is bad input.
func (i *Converted) Run(ctx context.Context, w *build.Work) error {
	from, err := imageOf(w.In(i.Tree))
	if err != nil {
		return err
	}
	return i.convert(ctx, w, from)
}

// converter writes a kernel in another form.
type converter struct {
	image *Converted
	tmp   string
}

// converters are the conversions by the form that is there and the wanted one.
var converters = map[[2]string]func(c converter, out *os.File, in *os.File) error{
	{gzipImage, flatImage}:   converter.unpack,
	{gzipImage, elfImage}:    converter.unpack,
	{flatImage, gzipImage}:   converter.pack,
	{elfImage, legacyImage}:  converter.wrapELF,
	{zImage, legacyImage}:    converter.wrap,
	{flatImage, legacyImage}: converter.wrap,
}

// convert writes the kernel of a file in the wanted form.
func (i *Converted) convert(ctx context.Context, w *build.Work, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return fault.Wrap(fault.IO, err, "reading the kernel")
	}
	defer in.Close()
	head := make([]byte, headSize)
	n, err := io.ReadFull(in, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return fault.Wrap(fault.IO, err, "reading the kernel")
	}
	form := formOf(head[:n])
	if form == i.Format {
		return fault.Wrap(fault.IO, copyFile(ctx, filepath.Join(w.Out, ImageFile), from), "copying the kernel image")
	}
	do, ok := converters[[2]string{form, i.Format}]
	if !ok {
		return fault.New(fault.BadInput, "converting the kernel: %s is %s, which cannot become kernel.format %s", filepath.Base(from), formName(form), i.Format)
	}
	if _, err := in.Seek(0, io.SeekStart); err != nil {
		return fault.Wrap(fault.IO, err, "reading the kernel")
	}
	return fault.Wrap(fault.BadInput, i.write(w, in, do), "converting the kernel from %s to %s", form, i.Format)
}

func formName(form string) string {
	if form == "" {
		return "not in a known form"
	}
	return form
}

// write writes the output by a conversion.
func (i *Converted) write(w *build.Work, in *os.File, do func(converter, *os.File, *os.File) error) error {
	name := filepath.Join(w.Out, ImageFile)
	out, err := os.Create(name)
	if err != nil {
		return err
	}
	defer out.Close()
	if err := do(converter{i, w.Tmp}, out, in); err != nil {
		return err
	}
	if err := out.Close(); err != nil {
		return err
	}
	return os.Chtimes(name, epoch, epoch)
}

// unpack decompresses a kernel, which must then be in the wanted form.
func (c converter) unpack(out, in *os.File) error {
	z, err := gzip.NewReader(bufio.NewReader(in))
	if err != nil {
		return err
	}
	content := bufio.NewReaderSize(z, 4096)
	head, err := content.Peek(headSize)
	if form := formOf(head); err == nil && form != c.image.Format {
		return fault.New(fault.BadInput, "what is compressed is %s", formName(form))
	}
	_, err = io.Copy(out, content)
	return err
}

// pack compresses a kernel. The header has neither name nor time.
func (c converter) pack(out, in *os.File) error {
	z, err := gzip.NewWriterLevel(out, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := io.Copy(z, in); err != nil {
		return err
	}
	return z.Close()
}

// wrap makes a legacy image of a kernel that needs no more than to be started at its
// beginning.
func (c converter) wrap(out, in *os.File) error {
	if c.image.Load == 0 {
		return fault.New(fault.BadInput, "a kernel of this form does not say where it is loaded to: name it in bootloader.addresses.kernel")
	}
	return uimage.Write(out, uimage.Kernel, c.header(c.image.Load, c.image.Load), in)
}

func (c converter) header(load, entry uint32) uimage.Header {
	return uimage.Header{Name: "Linux", Arch: c.image.Arch, Time: build.Epoch, Load: load, Entry: entry}
}

// wrapELF makes a legacy image of the loadable segments of an ELF kernel, which says where it
// is loaded to and started. It is compressed if that makes it clearly smaller: some unpack
// themselves.
func (c converter) wrapELF(out, in *os.File) error {
	return c.temporary(func(flat *os.File) error {
		return c.temporary(func(packed *os.File) error { return c.wrapFlat(out, in, flat, packed) })
	})
}

// wrapFlat is wrapELF with two empty files.
func (c converter) wrapFlat(out, in, flat, packed *os.File) error {
	load, entry, size, err := flatten(flat, in)
	if err != nil {
		return err
	}
	if err := c.pack(packed, flat); err != nil {
		return err
	}
	n, err := packed.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	h, data := c.header(load, entry), flat
	if h.Gzip = n < size-size/10; h.Gzip {
		data = packed
	}
	if _, err := data.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return uimage.Write(out, uimage.Kernel, h, data)
}

// temporary calls a function with an empty file that is removed afterwards.
func (c converter) temporary(do func(*os.File) error) error {
	f, err := os.CreateTemp(c.tmp, "kernel")
	if err != nil {
		return err
	}
	return errors.Join(do(f), f.Close(), os.Remove(f.Name()))
}

// maxKernel limits the memory that a kernel's segments may span.
const maxKernel = 1 << 28

// flatten writes the loadable segments of an ELF file at their distances in physical memory,
// as "objcopy -O binary" does, and seeks to the beginning. It returns the address of the
// first byte, that of the entry and the size.
func flatten(out *os.File, in io.ReaderAt) (load, entry uint32, size int64, err error) {
	f, err := elf.NewFile(in)
	if err != nil {
		return 0, 0, 0, err
	}
	defer f.Close()
	segments := slices.DeleteFunc(slices.Clone(f.Progs), func(p *elf.Prog) bool { return p.Type != elf.PT_LOAD || p.Filesz == 0 })
	if len(segments) == 0 {
		return 0, 0, 0, fault.New(fault.BadInput, "it has no segments to load")
	}
	first := slices.MinFunc(segments, func(a, b *elf.Prog) int { return cmp.Compare(a.Paddr, b.Paddr) })
	for _, s := range segments {
		at := int64(s.Paddr - first.Paddr)
		if at < 0 || at > maxKernel || s.Filesz > maxKernel {
			return 0, 0, 0, fault.New(fault.BadInput, "its segments span more than %d MiB", maxKernel>>20)
		}
		if _, err := io.Copy(io.NewOffsetWriter(out, at), s.Open()); err != nil {
			return 0, 0, 0, err
		}
		size = max(size, at+int64(s.Filesz))
	}
	start := f.Entry - first.Vaddr + first.Paddr
	if first.Paddr > math.MaxUint32 || start > math.MaxUint32 {
		return 0, 0, 0, fault.New(fault.Unsupported, "it is loaded to %#x, beyond the 4 GiB that a legacy image describes", first.Paddr)
	}
	_, err = out.Seek(0, io.SeekStart)
	return uint32(first.Paddr), uint32(start), size, err
}
