// Package octal reads and writes the escapes that the kernel and fstab(5) use for characters that
// separate the fields of a line: a backslash and three octal digits.
package octal

import "strings"

// Unescape decodes all escapes of a field, such as "\040" for a blank. A backslash that
// begins no escape stays.
func Unescape(field string) string {
	if strings.IndexByte(field, '\\') < 0 {
		return field
	}
	var b strings.Builder
	for i := 0; i < len(field); i++ {
		if c, ok := escape(field[i:]); ok {
			b.WriteByte(c)
			i += 3
			continue
		}
		b.WriteByte(field[i])
	}
	return b.String()
}

// escape reads a backslash and three octal digits. A file name has no NUL.
func escape(s string) (byte, bool) {
	if len(s) < 4 || s[0] != '\\' {
		return 0, false
	}
	n := 0
	for _, d := range []byte(s[1:4]) {
		if d < '0' || d > '7' {
			return 0, false
		}
		n = n*8 + int(d-'0')
	}
	return byte(n), n > 0 && n < 256
}

// Escape writes a field in which the special characters are escapes. The backslash is one
// of them unless the field may hold escapes already.
func Escape(s, special string) string {
	if !strings.ContainsAny(s, special) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		if strings.IndexByte(special, c) < 0 {
			b.WriteByte(c)
			continue
		}
		b.Write([]byte{'\\', '0' + c>>6, '0' + c>>3&7, '0' + c&7})
	}
	return b.String()
}
