// Package ubootenv reads and writes lists of U-Boot variables: entries NAME=VALUE that end
// with NUL, and one more NUL behind the last (U-Boot's "env import -b" and "env export -b").
// The boot handshake keeps pv_rev and pv_try in such a file on the storage; U-Boot's own
// environment, a [Block], has a checksum before the list.
package ubootenv

import (
	"bytes"
	"fmt"
	"strings"
)

// blockSize is the size limit in bytes: older runtimes and boot scripts read no more.
const blockSize = 1024

// Entry is one variable.
type Entry struct{ Name, Value string }

// Parse reads a list up to its end. It also takes text with one entry in each line, which
// U-Boot's "env import -t" reads. Anything without a name and '=' is skipped, blanks around
// names and values are removed.
func Parse(b []byte) []Entry {
	if i := bytes.Index(b, []byte{0, 0}); i >= 0 {
		b = b[:i]
	}
	var out []Entry
	for _, e := range strings.FieldsFunc(string(b), func(r rune) bool { return r == 0 || r == '\n' || r == '\r' }) {
		name, value, ok := strings.Cut(e, "=")
		if name = strings.TrimSpace(name); ok && name != "" {
			out = append(out, Entry{name, strings.TrimSpace(value)})
		}
	}
	return out
}

// Encode returns the list in the order of the entries, empty values included. It is an
// error if it is longer than [blockSize] or if Parse would read an entry otherwise.
func Encode(entries []Entry) ([]byte, error) {
	var b bytes.Buffer
	for _, e := range entries {
		if e.Name == "" || strings.ContainsAny(e.Name, "=\x00\r\n") || strings.ContainsAny(e.Value, "\x00\r\n") {
			return nil, fmt.Errorf("variable %q with the value %q: want a name without '=', and neither NUL nor line breaks", e.Name, e.Value)
		}
		fmt.Fprintf(&b, "%s=%s\x00", e.Name, e.Value)
	}
	b.WriteByte(0)
	if b.Len() > blockSize {
		return nil, fmt.Errorf("%d bytes do not fit the %d that boot scripts read", b.Len(), blockSize)
	}
	return b.Bytes(), nil
}
