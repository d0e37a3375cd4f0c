package adapters

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// genSection is a section of genimage.cfg: KIND TITLE { … }.
type genSection struct {
	kind, title string
	line        int
	values      []*genValue
	sections    []*genSection
}

// genValue is a key with its words: one, or those of a list.
type genValue struct {
	key   string
	words []string
	line  int
}

// maxGenimage bounds a file, in bytes; maxGenDepth how deep sections are in others.
const (
	maxGenimage = 256 << 10
	maxGenDepth = 8
)

// genPlaceholder matches what scripts replace in templates: @NAME@, %NAME%, #NAME# and variables.
var genPlaceholder = regexp.MustCompile(`@[A-Za-z_][A-Za-z0-9_]*@|%[A-Z_][A-Z0-9_]*%|#[A-Z_]+#|\$\{?[A-Za-z_]+\}?`)

// readGenimage reads a file (genimage: README.rst; its grammar is libconfuse's).
func readGenimage(file string) (*genSection, error) {
	text, err := bounded.ReadRegular(file, maxGenimage)
	if err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "reading a layout")
	}
	for i, line := range strings.Split(string(text), "\n") {
		if found := genPlaceholder.FindString(line); found != "" {
			return nil, fault.New(fault.BadInput, "%s:%d: %s is a placeholder: this is a template that a script of the board fills in; give the file that it writes, images/genimage.cfg or build/genimage.cfg for most",
				file, i+1, found)
		}
	}
	p := &genParser{file: file, text: string(text), line: 1}
	root := &genSection{}
	if err := p.section(root, 0); err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "reading a layout")
	}
	return root, nil
}

// genParser reads tokens.
type genParser struct {
	file, text string
	line       int // of the token that was read last
	ahead      int // line breaks in it and behind it
}

func (p *genParser) wrong(format string, args ...any) error {
	return fault.New(fault.BadInput, "%s:%d: %s", p.file, p.line, fmt.Sprintf(format, args...))
}

// section reads keys and sections up to the closing brace, or to the end at depth 0.
func (p *genParser) section(s *genSection, depth int) error {
	if depth > maxGenDepth {
		return p.wrong("sections are in each other more than %d deep", maxGenDepth)
	}
	for {
		word, quoted, err := p.next()
		if err != nil {
			return err
		}
		switch {
		case word == "" && !quoted:
			if depth > 0 {
				return p.wrong("the file ends in section %s of line %d", s.kind, s.line)
			}
			return nil
		case word == "}" && !quoted:
			if depth == 0 {
				return p.wrong("a closing brace without a section")
			}
			return nil
		case strings.HasPrefix(word, "include"):
			return p.wrong("include is not read: put the other file's lines in its place")
		}
		if err := p.entry(s, word, depth); err != nil {
			return err
		}
	}
}

// entry reads what follows the word that a key or a section begins with.
func (p *genParser) entry(s *genSection, word string, depth int) error {
	line := p.line
	next, quoted, err := p.next()
	if err != nil {
		return err
	}
	if !quoted && (next == "=" || next == "+=") {
		words, err := p.value()
		s.values = append(s.values, &genValue{word, words, line})
		return err
	}
	inner := &genSection{kind: word, line: line}
	if quoted || next != "{" {
		inner.title = next
		if next, quoted, err = p.next(); err != nil {
			return err
		}
	}
	if quoted || next != "{" {
		return p.wrong("%q: want KEY = VALUE, or SECTION {", word)
	}
	s.sections = append(s.sections, inner)
	return p.section(inner, depth+1)
}

// value reads a word, or a list in braces.
func (p *genParser) value() ([]string, error) {
	word, quoted, err := p.next()
	if err != nil || quoted || word != "{" {
		if err == nil && !quoted && (word == "" || word == "}") {
			err = p.wrong("a value is missing")
		}
		return []string{word}, err
	}
	var words []string
	for {
		word, quoted, err := p.next()
		switch {
		case err != nil:
			return nil, err
		case quoted:
			words = append(words, word)
		case word == "}":
			return words, nil
		case word == "":
			return nil, p.wrong("the file ends in a list")
		case word != ",":
			words = append(words, word)
		}
	}
}

// next returns the next token; "" without quotes is the end.
func (p *genParser) next() (word string, quoted bool, err error) {
	if err := p.blank(); err != nil {
		return "", false, err
	}
	switch {
	case p.text == "":
		return "", false, nil
	case p.text[0] == '"' || p.text[0] == '\'':
		return p.quoted()
	case strings.HasPrefix(p.text, "+="):
		return p.take(2), false, nil
	case strings.ContainsRune("{}=,", rune(p.text[0])):
		return p.take(1), false, nil
	}
	end := strings.IndexAny(p.text, " \t\r\n{}=,\"'#")
	if end < 0 {
		end = len(p.text)
	}
	if end == 0 {
		return "", false, p.wrong("%q is not expected here", p.text[:1])
	}
	return p.take(end), false, nil
}

// take takes n bytes.
func (p *genParser) take(n int) string {
	word := p.text[:n]
	p.text = p.text[n:]
	p.line += p.ahead
	p.ahead = strings.Count(word, "\n")
	return word
}

// blank skips blanks and comments.
func (p *genParser) blank() error {
	for {
		rest := strings.TrimLeft(p.text, " \t\r\n;")
		p.take(len(p.text) - len(rest))
		end := 0
		switch {
		case strings.HasPrefix(rest, "#"), strings.HasPrefix(rest, "//"):
			if end = strings.IndexByte(rest, '\n'); end < 0 {
				end = len(rest)
			}
		case strings.HasPrefix(rest, "/*"):
			if end = strings.Index(rest, "*/"); end < 0 {
				p.line += p.ahead
				return p.wrong("a comment does not end")
			}
			end += 2
		default:
			p.line += p.ahead
			p.ahead = 0
			return nil
		}
		p.take(end)
	}
}

// quoted reads a string, in which a backslash takes the next character as it is.
func (p *genParser) quoted() (string, bool, error) {
	quote, out := p.text[0], strings.Builder{}
	for i := 1; i < len(p.text); i++ {
		switch c := p.text[i]; {
		case c == quote:
			p.take(i + 1)
			return out.String(), true, nil
		case c == '\\' && i+1 < len(p.text):
			i++
			out.WriteByte(p.text[i])
		default:
			out.WriteByte(c)
		}
	}
	return "", false, p.wrong("a string does not end")
}

// get returns the one word of a key, "" when the section does not have it.
func (s *genSection) get(key string) (word string, line int) {
	for _, v := range s.values {
		if v.key == key && len(v.words) > 0 {
			word, line = v.words[0], v.line
		}
	}
	return word, line
}

// sub returns the section of a kind, nil when there is none.
func (s *genSection) sub(kind string) *genSection {
	for _, inner := range s.sections {
		if inner.kind == kind {
			return inner
		}
	}
	return nil
}
