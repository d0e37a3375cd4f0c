package canon

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Bounds of a document. A state of a million files is within them, and the memory that
// a hostile document can take is at most some four times its size.
const (
	MaxSize    = 256 << 20 // bytes of text
	maxDepth   = 256       // nested arrays and objects
	someValues = 1 << 18   // values in a document of any size
	valueSize  = 32        // bytes of text for each value beyond these
)

func maxValues(size int) int { return someValues + size/valueSize }

// Document returns the canonical form of a value that is to be stored. A value that
// [Parse] would reject gives an error that wraps [ErrBounds].
func (v Value) Document() ([]byte, error) {
	text := v.Encode()
	if err := checkSize(text); err != nil {
		return nil, err
	}
	count, depth := v.measure()
	if count > maxValues(len(text)) {
		return nil, fmt.Errorf("%w: %d values in %d bytes, at most %d are allowed", ErrBounds, count, len(text), maxValues(len(text)))
	}
	if depth > maxDepth {
		return nil, fmt.Errorf("%w: nested deeper than %d", ErrBounds, maxDepth)
	}
	return text, nil
}

func checkSize(text []byte) error {
	if len(text) > MaxSize {
		return fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrBounds, len(text), MaxSize)
	}
	return nil
}

// measure returns the number of values and how deep arrays and objects are nested.
func (v Value) measure() (count, depth int) {
	count = 1
	add := func(e Value) {
		n, d := e.measure()
		count, depth = count+n, max(depth, d)
	}
	for _, e := range v.Elems() {
		add(e)
	}
	for _, m := range v.Members() {
		add(m.Value)
	}
	if v.kind >= Array {
		depth++
	}
	return count, depth
}

// ErrBounds is wrapped by the errors for documents beyond the bounds.
var ErrBounds = errors.New("document beyond bounds")

// errDuplicate is wrapped by the errors of [Parse] for an object with two members
// of the same name.
var errDuplicate = errors.New("duplicate member")

// Parse reads a document that holds exactly one value and no object with two
// members of the same name. It is for everything that is verified or comes from
// outside, where two readers must not see different meanings.
func Parse(text []byte) (Value, error) {
	p := &parser{in: text, strict: true}
	v, err := p.document()
	if err != nil {
		return Value{}, err
	}
	p.space()
	if p.pos < len(p.in) {
		return Value{}, p.bad("after top-level value")
	}
	return v, nil
}

// One reads a text that holds exactly one value; of members with the same name the last
// one counts. JSON files that people write are read this way.
func One(text []byte) (Value, error) {
	p := &parser{in: text}
	v, err := p.document()
	if err != nil {
		return Value{}, err
	}
	if p.space(); p.pos < len(p.in) {
		before := p.in[:p.pos]
		line, column := bytes.Count(before, []byte("\n"))+1, p.pos-bytes.LastIndexByte(before, '\n')
		rest, _, _ := bytes.Cut(p.in[p.pos:], []byte("\n"))
		return Value{}, fmt.Errorf("line %d, column %d: text behind the JSON value: %.40q", line, column, rest)
	}
	return v, nil
}

// First reads the first value of a text and ignores the rest; of members with the
// same name the last one counts.
func First(text []byte) (Value, error) {
	p := &parser{in: text}
	return p.document()
}

// Canonical returns the canonical form of a text that holds one value, see [One].
func Canonical(text []byte) ([]byte, error) {
	v, err := One(text)
	if err != nil {
		return nil, err
	}
	return v.Encode(), nil
}

type parser struct {
	in     []byte
	pos    int
	depth  int
	count  int
	strict bool
}

func (p *parser) document() (Value, error) {
	if err := checkSize(p.in); err != nil {
		return Value{}, err
	}
	p.space()
	if p.pos == len(p.in) {
		return Value{}, io.EOF
	}
	return p.value()
}

func (p *parser) space() {
	for p.pos < len(p.in) {
		switch p.in[p.pos] {
		case ' ', '\t', '\n', '\r':
			p.pos++
		default:
			return
		}
	}
}

// bad returns an error about the character at the current position, in the wording
// of encoding/json.
func (p *parser) bad(where string) error {
	if p.pos >= len(p.in) {
		return io.ErrUnexpectedEOF
	}
	return fmt.Errorf("invalid character %s %s", quoteChar(p.in[p.pos]), where)
}

func quoteChar(c byte) string {
	switch c {
	case '\'':
		return `'\''`
	case '"':
		return `'"'`
	}
	s := strconv.Quote(string(rune(c)))
	return "'" + s[1:len(s)-1] + "'"
}

func (p *parser) value() (Value, error) {
	if p.count++; p.count > maxValues(len(p.in)) {
		return Value{}, fmt.Errorf("%w: more than %d values in %d bytes", ErrBounds, maxValues(len(p.in)), len(p.in))
	}
	p.space()
	if p.pos >= len(p.in) {
		return Value{}, io.ErrUnexpectedEOF
	}
	switch c := p.in[p.pos]; {
	case c == '{':
		return p.nested(p.object)
	case c == '[':
		return p.nested(p.array)
	case c == '"':
		s, err := p.str()
		return Value{kind: String, text: s}, err
	case c == '-' || isDigit(c):
		return p.number()
	case c == 't':
		return p.literal("true", Value{kind: Bool, text: "true"})
	case c == 'f':
		return p.literal("false", Value{kind: Bool, text: "false"})
	case c == 'n':
		return p.literal("null", Value{})
	}
	return Value{}, p.bad("looking for beginning of value")
}

func (p *parser) nested(read func() (Value, error)) (Value, error) {
	if p.depth++; p.depth > maxDepth {
		return Value{}, fmt.Errorf("%w: nested deeper than %d", ErrBounds, maxDepth)
	}
	p.pos++
	v, err := read()
	p.depth--
	return v, err
}

func (p *parser) literal(word string, v Value) (Value, error) {
	for i := 0; i < len(word); i++ {
		if p.pos >= len(p.in) || p.in[p.pos] != word[i] {
			return Value{}, p.bad(fmt.Sprintf("in literal %s (expecting %s)", word, quoteChar(word[i])))
		}
		p.pos++
	}
	return v, nil
}

// closes consumes c if it is the next character after white space, and reports
// whether it did.
func (p *parser) closes(c byte) bool {
	p.space()
	if p.pos < len(p.in) && p.in[p.pos] == c {
		p.pos++
		return true
	}
	return false
}

func (p *parser) array() (Value, error) {
	if p.closes(']') {
		return array(nil), nil
	}
	var elems []Value
	for {
		e, err := p.value()
		if err != nil {
			return Value{}, err
		}
		elems = append(elems, e)
		switch {
		case p.closes(']'):
			return array(elems), nil
		case !p.closes(','):
			return Value{}, p.bad("after array element")
		}
	}
}

func (p *parser) object() (Value, error) {
	if p.closes('}') {
		return object(nil), nil
	}
	var members []Member
	for {
		m, err := p.member()
		if err != nil {
			return Value{}, err
		}
		members = append(members, m)
		if p.closes('}') {
			break
		}
		if !p.closes(',') {
			return Value{}, p.bad("after object key:value pair")
		}
	}
	sorted, dup := sortMembers(members)
	if dup != nil && p.strict {
		return Value{}, fmt.Errorf("%w %q", errDuplicate, *dup)
	}
	return object(sorted), nil
}

func (p *parser) member() (Member, error) {
	p.space()
	if p.pos >= len(p.in) || p.in[p.pos] != '"' {
		return Member{}, p.bad("looking for beginning of object key string")
	}
	name, err := p.str()
	if err != nil {
		return Member{}, err
	}
	if !p.closes(':') {
		return Member{}, p.bad("after object key")
	}
	v, err := p.value()
	return Member{Name: name, Value: v}, err
}

// str reads a string whose opening quotation mark is at the current position.
func (p *parser) str() (string, error) {
	p.pos++
	start := p.pos
	for p.pos < len(p.in) {
		switch c := p.in[p.pos]; {
		case c == '"':
			p.pos++
			return validText(p.in[start : p.pos-1]), nil
		case c == '\\':
			return p.escaped(validText(p.in[start:p.pos]))
		case c < 0x20:
			return "", p.bad("in string literal")
		default:
			p.pos++
		}
	}
	return "", io.ErrUnexpectedEOF
}

// validText replaces every byte that is not valid UTF-8 with U+FFFD.
func validText(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	return string([]rune(string(b)))
}

// escaped continues a string at its first backslash; done is what came before.
func (p *parser) escaped(done string) (string, error) {
	out := []byte(done)
	for p.pos < len(p.in) {
		c := p.in[p.pos]
		switch {
		case c == '"':
			p.pos++
			return string(out), nil
		case c < 0x20:
			return "", p.bad("in string literal")
		case c == '\\':
			r, err := p.escape()
			if err != nil {
				return "", err
			}
			out = utf8.AppendRune(out, r)
		case c < utf8.RuneSelf:
			out = append(out, c)
			p.pos++
		default:
			r, n := utf8.DecodeRune(p.in[p.pos:])
			out = utf8.AppendRune(out, r)
			p.pos += n
		}
	}
	return "", io.ErrUnexpectedEOF
}

// shortEscapes are the letters after a backslash, escaped the characters that they
// stand for.
const (
	shortEscapes = `"\/bfnrt`
	escaped      = "\"\\/\b\f\n\r\t"
)

func (p *parser) escape() (rune, error) {
	p.pos++
	if p.pos >= len(p.in) {
		return 0, io.ErrUnexpectedEOF
	}
	c := p.in[p.pos]
	if i := strings.IndexByte(shortEscapes, c); i >= 0 {
		p.pos++
		return rune(escaped[i]), nil
	}
	if c != 'u' {
		return 0, p.bad("in string escape code")
	}
	p.pos++
	r, err := p.hex4()
	if err != nil || !utf16.IsSurrogate(r) {
		return r, err
	}
	return p.surrogate(r), nil
}

// surrogate joins the second half of a pair; a lone half becomes U+FFFD.
func (p *parser) surrogate(first rune) rune {
	if p.pos+1 >= len(p.in) || p.in[p.pos] != '\\' || p.in[p.pos+1] != 'u' {
		return utf8.RuneError
	}
	back := p.pos
	p.pos += 2
	second, err := p.hex4()
	if err != nil {
		p.pos = back
		return utf8.RuneError
	}
	r := utf16.DecodeRune(first, second)
	if r == utf8.RuneError {
		p.pos = back
	}
	return r
}

func (p *parser) hex4() (rune, error) {
	var r rune
	for range 4 {
		if p.pos >= len(p.in) {
			return 0, io.ErrUnexpectedEOF
		}
		d := hexDigit(p.in[p.pos])
		if d < 0 {
			return 0, p.bad(`in \u hexadecimal character escape`)
		}
		r = r<<4 | d
		p.pos++
	}
	return r, nil
}

func hexDigit(c byte) rune {
	switch {
	case isDigit(c):
		return rune(c - '0')
	case c >= 'a' && c <= 'f':
		return rune(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return rune(c-'A') + 10
	}
	return -1
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
