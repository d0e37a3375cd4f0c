package kernel

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"strings"

	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/decompress"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// Bounds on what is read for a configuration, in bytes.
const (
	maxKernelFile   = 512 << 20
	maxKernelImage  = 512 << 20 // unpacked
	maxKernelConfig = 4 << 20
)

// ikconfigStart is in front of the configuration, packed with gzip, that a kernel with
// CONFIG_IKCONFIG has in it (Linux: kernel/configs.c, scripts/extract-ikconfig).
const ikconfigStart = "IKCFG_ST"

// packed are the first bytes of the forms in which kernels are compressed.
var packed = []string{"\x1f\x8b\x08", "\xfd7zXZ\x00", "\x28\xb5\x2f\xfd", "BZh"}

// ReadConfig reads a kernel's configuration: a .config, a config-RELEASE or config.gz, or that of
// a kernel with CONFIG_IKCONFIG in any form that it boots in.
func ReadConfig(file string) (Config, error) {
	data, err := bounded.ReadRegular(file, maxKernelFile)
	if err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "reading the kernel's configuration")
	}
	text := ConfigText(data, maxKernelImage)
	if text == "" {
		return nil, fault.New(fault.BadInput, "%s is neither a kernel's configuration nor a kernel that has it in it (CONFIG_IKCONFIG)", file)
	}
	return parseConfig(text), nil
}

// maxStreams is how many compressed streams of a form are looked into for a kernel: code has some
// bytes that only look so.
const maxStreams = 64

// ConfigText returns the text of the configuration that data is or has in it, in the forms of
// [ReadConfig], and "" when there is none. It unpacks at most so many bytes.
func ConfigText(data []byte, most int64) string {
	if isConfig(data) {
		return string(data)
	}
	if text := unpackConfig(data); isConfig(text) {
		return string(text)
	}
	if text := inKernel(data); text != "" {
		return text
	}
	for _, magic := range packed {
		rest := data
		for range maxStreams {
			i := bytes.Index(rest, []byte(magic))
			if i < 0 || most <= 0 {
				break
			}
			image := unpackKernel(rest[i:], most)
			if text := inKernel(image); text != "" {
				return text
			}
			most -= int64(len(image))
			rest = rest[i+1:]
		}
	}
	return ""
}

// isConfig reports whether a text has options.
func isConfig(text []byte) bool {
	option := []byte("CONFIG_")
	found := bytes.HasPrefix(text, option) || bytes.Contains(text[:min(len(text), maxKernelConfig)], append([]byte{'\n'}, option...))
	return found && !bytes.ContainsRune(text[:min(len(text), 4096)], 0)
}

// inKernel returns the configuration in an unpacked kernel.
func inKernel(data []byte) string {
	i := bytes.Index(data, []byte(ikconfigStart))
	if i < 0 {
		return ""
	}
	if text := unpackConfig(data[i+len(ikconfigStart):]); isConfig(text) {
		return string(text)
	}
	return ""
}

// unpackConfig unpacks a configuration that is packed with gzip; what follows it does not matter.
func unpackConfig(data []byte) []byte {
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil
	}
	z.Multistream(false)
	text, err := bounded.Read(z, maxKernelConfig)
	if err != nil {
		return nil
	}
	return text
}

// unpackKernel unpacks as much as there is, up to so many bytes: other data may follow a kernel.
func unpackKernel(data []byte, most int64) []byte {
	z, err := decompress.Reader(bytes.NewReader(data))
	if err != nil {
		return nil
	}
	defer z.Close()
	var out bytes.Buffer
	_, err = io.Copy(&out, io.LimitReader(z, most))
	if err != nil && out.Len() == 0 {
		return nil
	}
	return out.Bytes()
}

// Lacking is the error for what a configuration lacks.
func Lacking(lacks []Lack) error {
	if len(lacks) == 0 {
		return nil
	}
	var options []string
	for _, l := range lacks {
		options = append(options, "CONFIG_"+l.Option)
	}
	return fault.Wrap(fault.Unsupported, errors.New(strings.Join(options, ", ")), "the kernel lacks %d options", len(lacks))
}
