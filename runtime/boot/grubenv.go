package boot

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// grubenv is boot/grubenv: the header line, key=value lines, and '#' up to 1024
// bytes (GNU GRUB manual, "The GRUB environment block"). GRUB escapes a backslash
// and a newline in values with a backslash.
type grubenv struct{}

var _ form = grubenv{}

const (
	grubHeader = "# GRUB Environment Block\n"
	grubSize   = 1024
)

var errNoBlock = errors.New("it does not begin as a GRUB environment block")

func (grubenv) decode(b []byte) ([]pair, error) {
	rest, ok := bytes.CutPrefix(b, []byte(grubHeader))
	if !ok {
		return nil, errNoBlock
	}
	var out []pair
	for len(rest) > 0 && rest[0] != '#' {
		var line string
		line, rest = grubLine(rest)
		if k, v, ok := strings.Cut(line, "="); ok && k != "" {
			out = append(out, pair{k, v})
		}
	}
	return out, nil
}

// grubLine takes one line off and undoes its escapes.
func grubLine(b []byte) (line string, rest []byte) {
	var s strings.Builder
	for i := 0; i < len(b); i++ {
		switch {
		case b[i] == '\n':
			return s.String(), b[i+1:]
		case b[i] == '\\' && i+1 < len(b):
			i++
		}
		s.WriteByte(b[i])
	}
	return s.String(), nil
}

func (grubenv) encode(pairs []pair) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString(grubHeader)
	escape := strings.NewReplacer(`\`, `\\`, "\n", "\\\n")
	for _, p := range pairs {
		b.WriteString(p.key + "=" + escape.Replace(p.value) + "\n")
	}
	if b.Len() > grubSize {
		return nil, fmt.Errorf("%d bytes do not fit a GRUB environment block of %d", b.Len(), grubSize)
	}
	b.Write(bytes.Repeat([]byte{'#'}, grubSize-b.Len()))
	return b.Bytes(), nil
}
