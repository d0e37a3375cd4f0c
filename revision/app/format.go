package app

import (
	"strconv"
	"strings"

	"github.com/pantavisor/pantavisor/formats/squashfs"
	"github.com/pantavisor/pantavisor/formats/tree"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// format is how a root file system is written.
type format struct {
	squashfs squashfs.Options
	normal   tree.Normal
	excludes []string
}

// defaultFormat can be mounted by every kernel made for Pantavisor and gives images no
// larger than mksquashfs -comp xz; the larger block makes up for matches that the
// faster encoder does not find. The numbers are in docs/pvr-app.md.
var defaultFormat = squashfs.Options{Compression: squashfs.XZ, BlockSize: 512 << 10}

// parseFormat reads format_options, words of mksquashfs: -comp gzip|xz|zstd,
// -Xcompression-level N, -b SIZE, -all-root, -noappend, -no-progress, -quiet,
// -no-xattrs is not among them, and -e PATH... as the last.
func parseFormat(text string) (format, error) {
	words := strings.Fields(text)
	if len(words) == 0 {
		return format{squashfs: defaultFormat}, nil
	}
	f := format{squashfs: squashfs.Options{Compression: squashfs.Gzip}}
	for len(words) > 0 {
		word := words[0]
		words = words[1:]
		take, err := f.option(word, words)
		if err != nil {
			return f, err
		}
		words = words[take:]
	}
	return f, f.check()
}

// option reads one option and returns how many of the following words belong to it.
func (f *format) option(word string, rest []string) (int, error) {
	switch word {
	case "-noappend", "-no-progress", "-quiet", "-no-recovery", "-no-exports":
		return 0, nil
	case "-all-root":
		f.normal.AllRoot = true
		return 0, nil
	case "-e":
		f.excludes = rest
		return len(rest), nil
	case "-comp", "-b", "-Xcompression-level", "-processors", "-root-mode":
		if len(rest) == 0 {
			return 0, fault.New(fault.BadInput, "format option %s: its value is missing", word)
		}
		return 1, f.set(word, rest[0])
	}
	return 0, fault.New(fault.Unsupported, "format option %s: not known here; -comp, -Xcompression-level, -b, -all-root, -processors and -e are", word)
}

func (f *format) set(option, value string) error {
	var err error
	switch option {
	case "-comp":
		f.squashfs.Compression, err = squashfs.ParseCompression(value)
	case "-b":
		f.squashfs.BlockSize, err = parseSize(value)
	case "-Xcompression-level":
		f.squashfs.Level, err = strconv.Atoi(value)
	case "-processors":
		f.squashfs.Workers, err = strconv.Atoi(value)
	case "-root-mode":
		if value != "0755" && value != "755" {
			return fault.New(fault.Unsupported, "format option -root-mode %s: 0755 is the only one", value)
		}
	}
	if err != nil {
		return fault.Wrap(fault.BadInput, err, "format option %s %s", option, value)
	}
	return nil
}

func parseSize(text string) (int, error) {
	unit := 1
	for suffix, size := range map[string]int{"K": 1 << 10, "M": 1 << 20} {
		if number, ok := strings.CutSuffix(strings.ToUpper(text), suffix); ok {
			text, unit = number, size
		}
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > 1<<20 {
		return 0, fault.New(fault.BadInput, "a size of at most 1M is expected")
	}
	return n * unit, nil
}

func (f *format) check() error {
	if err := f.squashfs.Check(); err != nil {
		return fault.Wrap(fault.BadInput, err, "format options")
	}
	for _, e := range f.excludes {
		if strings.HasPrefix(e, "-") {
			return fault.New(fault.BadInput, "format option -e takes all words behind it; put %s before it", e)
		}
	}
	return nil
}
