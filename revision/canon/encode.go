package canon

import (
	"strings"
	"unicode/utf8"
)

// Encode returns the canonical form.
func (v Value) Encode() []byte { return v.Append(nil) }

// Append appends the canonical form to dst.
func (v Value) Append(dst []byte) []byte {
	switch v.kind {
	case Null:
		return append(dst, "null"...)
	case Bool, Number:
		return append(dst, v.text...)
	case String:
		return appendString(dst, v.text)
	case Array:
		return v.appendArray(dst)
	default:
		return v.appendObject(dst)
	}
}

func (v Value) appendArray(dst []byte) []byte {
	dst = append(dst, '[')
	for i, e := range v.Elems() {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = e.Append(dst)
	}
	return append(dst, ']')
}

func (v Value) appendObject(dst []byte) []byte {
	dst = append(dst, '{')
	for i, m := range v.Members() {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendString(dst, m.Name), ':')
		dst = m.Value.Append(dst)
	}
	return append(dst, '}')
}

const (
	upperHex = "0123456789ABCDEF"
	lowerHex = "0123456789abcdef"
)

// appendString appends s as a canonical JSON string: only the quotation mark, the
// backslash and U+0000 to U+001F are escaped.
func appendString(dst []byte, s string) []byte {
	return appendQuoted(dst, s, upperHex, false)
}

// AppendText appends text as a JSON string that is not signed: the canonical form
// but for lower-case digits. Bytes that are not valid UTF-8 become U+FFFD, so that
// every line is readable whatever a program printed (RFC 8259 §7, §8.1).
func AppendText[T string | []byte](dst []byte, text T) []byte {
	return appendQuoted(dst, text, lowerHex, false)
}

// AppendLong appends text as a JSON string in which every escape has six characters,
// \u0022 for a quotation mark: the form that clients of the device's lists expect.
func AppendLong(dst []byte, text string) []byte {
	dst = append(dst, '"')
	for _, c := range strings.ToValidUTF8(text, "\uFFFD") {
		if c < ' ' || c == '"' || c == '\\' {
			dst = append(dst, '\\', 'u', '0', '0', upperHex[c>>4], upperHex[c&0xF])
		} else {
			dst = utf8.AppendRune(dst, c)
		}
	}
	return append(dst, '"')
}

func appendQuoted[T string | []byte](dst []byte, s T, hex string, html bool) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			i += escapeRune(&dst, s, &start, i, html)
			continue
		}
		if c >= 0x20 && c != '"' && c != '\\' && !(html && (c == '<' || c == '>' || c == '&')) {
			i++
			continue
		}
		dst = append(dst, s[start:i]...)
		dst = appendEscape(dst, c, hex)
		i++
		start = i
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}

// escapeRune handles one non-ASCII character at s[i:] and returns its length.
func escapeRune[T string | []byte](dst *[]byte, s T, start *int, i int, html bool) int {
	r, n := utf8.DecodeRuneInString(string(s[i:min(i+utf8.UTFMax, len(s))]))
	switch {
	case r == utf8.RuneError && n == 1:
		*dst = append(append(*dst, s[*start:i]...), "\uFFFD"...)
	case html && (r == '\u2028' || r == '\u2029'):
		*dst = append(append(*dst, s[*start:i]...), `\u202`...)
		*dst = append(*dst, lowerHex[r&0xF])
	default:
		return n
	}
	*start = i + n
	return n
}

func appendEscape(dst []byte, c byte, hex string) []byte {
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\b':
		return append(dst, '\\', 'b')
	case '\f':
		return append(dst, '\\', 'f')
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	}
	return append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&0xF])
}

// Style is a human-readable layout.
type Style struct {
	Prefix string // put before every line but the first
	Indent string // one level of indentation
	HTML   bool   // also escape <, >, & and U+2028/9, with lower-case digits
}

// Checkout is the layout of JSON files in a working tree: four spaces, HTML
// escapes, no newline at the end.
var Checkout = Style{Indent: "    ", HTML: true}

// Tabs is the layout of states on a terminal.
var Tabs = Style{Indent: "\t"}

// Pretty returns the value in the given layout, members sorted, numbers in their
// canonical text, no newline at the end.
func (v Value) Pretty(s Style) []byte { return s.append(nil, v, "\n"+s.Prefix) }

func (s Style) append(dst []byte, v Value, line string) []byte {
	switch {
	case v.kind == String:
		return s.quote(dst, v.text)
	case v.kind == Array && len(v.Elems()) > 0:
		dst = append(dst, '[')
		for i, e := range v.Elems() {
			dst = s.append(s.next(dst, i, line), e, line+s.Indent)
		}
		return append(append(dst, line...), ']')
	case v.kind == Object && len(v.Members()) > 0:
		dst = append(dst, '{')
		for i, m := range v.Members() {
			dst = append(s.quote(s.next(dst, i, line), m.Name), ':', ' ')
			dst = s.append(dst, m.Value, line+s.Indent)
		}
		return append(append(dst, line...), '}')
	}
	return v.Append(dst)
}

func (s Style) next(dst []byte, i int, line string) []byte {
	if i > 0 {
		dst = append(dst, ',')
	}
	return append(append(dst, line...), s.Indent...)
}

func (s Style) quote(dst []byte, text string) []byte {
	if s.HTML {
		return appendQuoted(dst, text, lowerHex, true)
	}
	return appendString(dst, text)
}
