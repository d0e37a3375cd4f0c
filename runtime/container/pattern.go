package container

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// pattern is an extended regular expression (POSIX.1-2017, 9.4) for whole strings.
// Package regexp would add 85 KB to the compressed device binary. Bracket expressions
// may have ranges and single characters, but no classes.
type pattern struct{ root matcher }

// patternSteps bounds the work of one match, which can grow exponentially.
const patternSteps = 1 << 16

// try is one match in progress.
type try struct {
	text  string
	steps int
}

// matcher matches from an offset on and calls next with each offset where it can end.
type matcher func(t *try, at int, next func(at int) bool) bool

// match reports whether the whole text matches.
func (p *pattern) match(text string) bool {
	return p.root(&try{text: text}, 0, func(at int) bool { return at == len(text) })
}

// patternReader reads an expression.
type patternReader struct {
	text  string
	depth int
}

func compilePattern(text string) (*pattern, error) {
	r := &patternReader{text: text}
	m, err := r.alternatives()
	if err == nil && r.text != "" {
		err = errors.New("unmatched )")
	}
	if err != nil {
		return nil, err
	}
	return &pattern{m}, nil
}

func (r *patternReader) next() byte {
	if r.text == "" {
		return 0
	}
	return r.text[0]
}

// alternatives reads a|b.
func (r *patternReader) alternatives() (matcher, error) {
	if r.depth++; r.depth > 64 {
		return nil, errors.New("more than 64 nested groups")
	}
	defer func() { r.depth-- }()
	var list []matcher
	for {
		m, err := r.sequence()
		if err != nil {
			return nil, err
		}
		if list = append(list, m); r.next() != '|' {
			break
		}
		r.text = r.text[1:]
	}
	return func(t *try, at int, next func(int) bool) bool {
		for _, m := range list {
			if t.steps++; t.steps > patternSteps {
				return false
			}
			if m(t, at, next) {
				return true
			}
		}
		return false
	}, nil
}

func (r *patternReader) sequence() (matcher, error) {
	all := func(_ *try, at int, next func(int) bool) bool { return next(at) }
	for r.text != "" && r.next() != '|' && r.next() != ')' {
		one, err := r.atom()
		if err != nil {
			return nil, err
		}
		if one, err = r.repeat(one); err != nil {
			return nil, err
		}
		before := all
		all = func(t *try, at int, next func(int) bool) bool {
			return before(t, at, func(at int) bool { return one(t, at, next) })
		}
	}
	return all, nil
}

// repeat reads what may follow an atom: *, +, ?, {2}, {2,} or {2,3}.
func (r *patternReader) repeat(one matcher) (matcher, error) {
	for {
		least, most := 0, -1
		switch r.next() {
		case '*':
		case '+':
			least = 1
		case '?':
			most = 1
		case '{':
			inside, rest, ok := strings.Cut(r.text[1:], "}")
			a, b, two := strings.Cut(inside, ",")
			n, err := strconv.ParseUint(a, 10, 8)
			least, most = int(n), int(n)
			if two && b == "" {
				most = -1
			} else if two {
				var m uint64
				if m, err = strconv.ParseUint(b, 10, 8); err != nil || m < n {
					return nil, fmt.Errorf("{%s} is not a number of times", inside)
				}
				most = int(m)
			}
			if !ok || err != nil {
				return nil, fmt.Errorf("{%s} is not a number of times", inside)
			}
			r.text = "}" + rest
		default:
			return one, nil
		}
		r.text = r.text[1:]
		one = times(one, least, most)
	}
}

// times matches as often as possible, and then less often.
func times(one matcher, least, most int) matcher {
	var from func(t *try, at, n int, next func(int) bool) bool
	from = func(t *try, at, n int, next func(int) bool) bool {
		if t.steps++; t.steps > patternSteps {
			return false
		}
		if n != most && one(t, at, func(end int) bool {
			return (end > at || n < least) && from(t, end, n+1, next)
		}) {
			return true
		}
		return n >= least && next(at)
	}
	return func(t *try, at int, next func(int) bool) bool { return from(t, at, 0, next) }
}

// atom reads one character, a set, a group or an anchor.
func (r *patternReader) atom() (matcher, error) {
	c, size := utf8.DecodeRuneInString(r.text)
	r.text = r.text[size:]
	switch c {
	case '(':
		m, err := r.alternatives()
		if err != nil {
			return nil, err
		}
		if r.next() != ')' {
			return nil, errors.New("unmatched (")
		}
		r.text = r.text[1:]
		return m, nil
	case '[':
		return r.set()
	case '.':
		return character(func(rune) bool { return true }), nil
	case '^':
		return func(_ *try, at int, next func(int) bool) bool { return at == 0 && next(at) }, nil
	case '$':
		return func(t *try, at int, next func(int) bool) bool { return at == len(t.text) && next(at) }, nil
	case '*', '+', '?', '{':
		return nil, fmt.Errorf("%q with nothing before it", c)
	case '\\':
		if r.text == "" {
			return nil, errors.New(`a \ at the end`)
		}
		c, size = utf8.DecodeRuneInString(r.text)
		r.text = r.text[size:]
	}
	return character(func(x rune) bool { return x == c }), nil
}

func character(is func(rune) bool) matcher {
	return func(t *try, at int, next func(int) bool) bool {
		if t.steps++; at >= len(t.text) || t.steps > patternSteps {
			return false
		}
		c, size := utf8.DecodeRuneInString(t.text[at:])
		return is(c) && next(at+size)
	}
}

// set reads the characters between [ and ]; a ] that comes first is one of them.
func (r *patternReader) set() (matcher, error) {
	not := strings.HasPrefix(r.text, "^")
	if not {
		r.text = r.text[1:]
	}
	var ranges [][2]rune
	for first := true; ; first = false {
		c, size := utf8.DecodeRuneInString(r.text)
		if r.text == "" {
			return nil, errors.New("unmatched [")
		}
		r.text = r.text[size:]
		if c == ']' && !first {
			break
		}
		if c == '[' && r.next() == ':' {
			return nil, errors.New("classes such as [:alpha:] are not supported")
		}
		end := c
		if len(r.text) > 1 && r.text[0] == '-' && r.text[1] != ']' {
			end, size = utf8.DecodeRuneInString(r.text[1:])
			r.text = r.text[1+size:]
		}
		ranges = append(ranges, [2]rune{c, end})
	}
	return character(func(x rune) bool {
		in := false
		for _, g := range ranges {
			in = in || g[0] <= x && x <= g[1]
		}
		return in != not
	}), nil
}
