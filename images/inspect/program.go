package inspect

import (
	"bytes"
	"cmp"
	"context"
	"debug/elf"
	"debug/gosym"
	"io"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/internal/cell"
)

// maxSymbols bounds the table of functions of a Go program that is read, in bytes.
const maxSymbols = 64 << 20

// program says whether a file is a program, and what a Go program consists of.
func (s *sizer) program(ctx context.Context, n *Node, out *Sized) {
	in, err := n.Content.Open()
	if err != nil {
		return
	}
	head := make([]byte, 20)
	_, err = io.ReadFull(in, head)
	if err = cmp.Or(err, in.Close()); err != nil || !bytes.HasPrefix(head, []byte(elf.ELFMAG)) {
		return
	}
	out.Sort = SortProgram
	if strings.Contains(n.Name, ".so") {
		out.Sort = SortLibrary
		return
	}
	mark := len(s.open)
	defer func() { _ = s.closeFrom(mark) }()
	at, err := s.at(ctx, n.Content)
	if err != nil {
		return
	}
	f, err := elf.NewFile(at)
	if err != nil {
		return
	}
	defer f.Close()
	if sizes := goPackages(f, n.Content.Size); sizes != nil {
		divide(out, sizes)
	}
}

// goPackages returns what a Go program of size bytes consists of: the code of each package, from the
// table of functions that also a stripped program has (runtime.pclntab), and the other sections, as
// they are in the file. It is nil for any other program.
func goPackages(f *elf.File, size int64) map[string]int64 {
	text, table := f.Section(".text"), f.Section(".gopclntab")
	if text == nil || table == nil || table.Size > maxSymbols {
		return nil
	}
	inFile := func(s *elf.Section) int64 { return int64(min(s.FileSize, uint64(size))) }
	data, err := table.Data()
	if err != nil {
		return nil
	}
	functions := functionsOf(data, text.Addr)
	if len(functions) == 0 {
		return nil
	}
	sizes := map[string]int64{}
	for _, one := range f.Sections {
		if one.Type != elf.SHT_NOBITS && one != text && one.Size > 0 && one.Name != "" {
			sizes["section "+one.Name] += inFile(one)
		}
	}
	left := inFile(text)
	for i := range functions {
		fn := &functions[i]
		if fn.End <= fn.Entry || fn.Entry < text.Addr || fn.End > text.Addr+text.Size {
			continue
		}
		code := min(int64(fn.End-fn.Entry), left)
		left -= code
		name := fn.PackageName()
		if name == "" {
			name = "code that the compiler makes"
		}
		sizes[name] += code
	}
	return sizes
}

// functionsOf reads a table of functions. A damaged one, at which package gosym may panic, has
// none.
func functionsOf(table []byte, text uint64) (functions []gosym.Func) {
	defer func() {
		if recover() != nil {
			functions = nil
		}
	}()
	symbols, err := gosym.NewTable(nil, gosym.NewLineTable(table, text))
	if err != nil {
		return nil
	}
	return symbols.Funcs
}

// divide makes the parts of a program by their sizes in the file, scaled to what it takes.
func divide(out *Sized, sizes map[string]int64) {
	sum := int64(0)
	for _, size := range sizes {
		sum += size
	}
	scale := float64(out.Bytes) / float64(max(sum, out.Unpacked, 1))
	left := out.Bytes
	names := make([]string, 0, len(sizes))
	for name := range sizes {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		bytes := min(int64(float64(sizes[name])*scale), left)
		left -= bytes
		out.Parts = append(out.Parts, &Sized{Name: cell.Printable(name), Sort: SortCode, Bytes: bytes, Unpacked: sizes[name]})
	}
	if left > 0 {
		out.Parts = append(out.Parts, &Sized{Name: overhead("program"), Sort: SortRest, Bytes: left})
	}
	arrange(out)
}
