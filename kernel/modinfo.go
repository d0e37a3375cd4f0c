package kernel

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/therootcompany/xz"

	"github.com/pantavisor/pantavisor/internal/bounded"
)

// Info is the content of a module's .modinfo section: NAME=VALUE strings, each terminated
// by NUL (include/linux/module.h, MODULE_INFO).
type Info struct {
	// Depends are the modules whose symbols it uses.
	Depends []string `json:"depends,omitempty"`
	// Pre and Post are its soft dependencies: loaded before and after it, if they exist.
	Pre  []string `json:"pre,omitempty"`
	Post []string `json:"post,omitempty"`
	// Aliases are the device patterns and other names that it has.
	Aliases []string `json:"aliases,omitempty"`
	// Firmware are files below lib/firmware that it may ask for.
	Firmware []string `json:"firmware,omitempty"`
}

// errModule is in the chain when a file is not a kernel module.
var errModule = errors.New("not a kernel module")

// Limits on what is read from a module, in bytes.
const (
	maxModule  = 256 << 20
	maxModinfo = 16 << 20
)

// readInfo reads the module metadata of an uncompressed module.
func readInfo(r io.ReaderAt) (Info, error) {
	f, err := elf.NewFile(r)
	if err != nil {
		return Info{}, fmt.Errorf("reading a module: %w: %w", errModule, err)
	}
	defer f.Close()
	s := f.Section(".modinfo")
	if s == nil || s.Type != elf.SHT_PROGBITS || s.Size > maxModinfo {
		return Info{}, fmt.Errorf("reading a module: no usable .modinfo section: %w", errModule)
	}
	data, err := io.ReadAll(io.LimitReader(s.Open(), maxModinfo))
	if err != nil {
		return Info{}, fmt.Errorf("reading a module's .modinfo: %w", err)
	}
	return parseInfo(data), nil
}

// parseInfo parses the content of a .modinfo section and ignores all other fields.
func parseInfo(data []byte) Info {
	var m Info
	for field := range bytes.SplitSeq(data, []byte{0}) {
		name, value, ok := strings.Cut(string(field), "=")
		if !ok || strings.ContainsAny(value, "\n\r") {
			continue
		}
		switch name {
		case "depends":
			m.Depends = append(m.Depends, names(strings.Split(value, ","))...)
		case "softdep":
			m.soft(value)
		case "alias":
			m.Aliases = append(m.Aliases, value)
		case "firmware":
			m.Firmware = append(m.Firmware, value)
		}
	}
	return m
}

// soft reads "pre: a b post: c".
func (m *Info) soft(text string) {
	into := (*[]string)(nil)
	for _, w := range strings.Fields(text) {
		switch w {
		case "pre:":
			into = &m.Pre
		case "post:":
			into = &m.Post
		default:
			if into != nil {
				*into = append(*into, canonicalName(w))
			}
		}
	}
}

// names normalizes module names and drops empty ones.
func names(list []string) []string {
	var out []string
	for _, s := range list {
		if s = canonicalName(strings.TrimSpace(s)); s != "" {
			out = append(out, s)
		}
	}
	return out
}

// canonicalName returns a module's name as in the kernel: modprobe treats '-' and '_' alike.
func canonicalName(s string) string { return strings.ReplaceAll(s, "-", "_") }

// suffixes of module files, by compression.
var suffixes = []string{".ko", ".ko.xz", ".ko.zst"}

// moduleName returns the module's name for a file name, empty when it is not the file
// name of a module.
func moduleName(base string) string {
	for _, s := range suffixes {
		if name, ok := strings.CutSuffix(base, s); ok && name != "" {
			return canonicalName(name)
		}
	}
	return ""
}

// readModuleFile reads the metadata of a module file, compressed or not.
func readModuleFile(file string) (Info, error) {
	f, err := os.Open(file)
	if err != nil {
		return Info{}, err
	}
	defer f.Close()
	if strings.HasSuffix(file, ".ko") {
		return readInfo(f)
	}
	plain, err := unpackModule(file, f)
	if err != nil {
		return Info{}, err
	}
	return readInfo(bytes.NewReader(plain))
}

// unpackModule returns the content of a module file; the suffix of its name determines the
// compression.
func unpackModule(name string, r io.Reader) ([]byte, error) {
	plain := r
	switch {
	case strings.HasSuffix(name, ".xz"):
		z, err := xz.NewReader(r, xz.DefaultDictMax)
		if err != nil {
			return nil, fmt.Errorf("decompressing %s: %w", name, err)
		}
		plain = z
	case strings.HasSuffix(name, ".zst"):
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxModule))
		if err != nil {
			return nil, fmt.Errorf("decompressing %s: %w", name, err)
		}
		defer z.Close()
		plain = z
	}
	data, err := bounded.Read(plain, maxModule)
	if errors.Is(err, bounded.LimitError(maxModule)) {
		return nil, fmt.Errorf("decompressing %s: %w: %w", name, err, errModule)
	}
	if err != nil {
		return nil, fmt.Errorf("decompressing %s: %w", name, err)
	}
	return data, nil
}
