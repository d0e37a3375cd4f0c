package pvs

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// ErrPattern is wrapped by the errors for malformed patterns.
var ErrPattern = errors.New("malformed pattern")

// maxAlternatives bounds the expansion of braces.
const maxAlternatives = 256

// Syntax is the syntax of patterns. Two are in use, and they differ in the meaning of
// some patterns with "**".
type Syntax int

const (
	// Signer is the syntax of the signing tools: ** spans any number of path
	// elements, * and ? stay inside one, [...] and [^...] are classes, {a,b} are
	// alternatives and \ takes the next character as it is. dir/** does not match
	// dir itself; **/x matches x. In the path element in which a brace opens, ** is
	// the same as *: {**/x,y} matches a/x, but neither x nor a/b/x.
	Signer Syntax = iota
	// Device is the syntax of the runtimes in the field: dir/** matches dir and
	// everything below; ** has no special meaning elsewhere and matches nothing alone;
	// braces are ordinary characters.
	Device
)

// Pattern is a compiled pattern over state keys.
type Pattern struct {
	alternatives [][]string // path elements of each
	below        bool       // Device: also everything below a match
}

// Compile reads a pattern.
func (s Syntax) Compile(text string) (*Pattern, error) {
	if s == Device {
		return compileDevice(text)
	}
	alternatives, err := expand(text)
	if err != nil {
		return nil, fmt.Errorf("%w %.120q: %w", ErrPattern, text, err)
	}
	p := &Pattern{}
	for _, a := range alternatives {
		for _, e := range a.elems {
			if err := checkElement(e); err != nil {
				return nil, fmt.Errorf("%w %.120q: %w", ErrPattern, text, err)
			}
		}
		p.alternatives = append(p.alternatives, a.pattern())
	}
	return p, nil
}

func compileDevice(text string) (*Pattern, error) {
	p := &Pattern{}
	if text == "**" {
		return p, nil
	}
	dir, below := strings.CutSuffix(text, "/**")
	// No element may be "**", because matching would treat it as the signer's "**".
	elems := strings.Split(dir, "/")
	for i, e := range elems {
		if err := checkElement(e); err != nil {
			return nil, fmt.Errorf("%w %.120q: %w", ErrPattern, text, err)
		}
		if e == "**" {
			elems[i] = "*"
		}
	}
	return &Pattern{alternatives: [][]string{elems}, below: below}, nil
}

// Match reports whether a whole key matches.
func (p *Pattern) Match(key string) bool {
	elems := strings.Split(key, "/")
	for _, a := range p.alternatives {
		if p.below && len(elems) > len(a) && matchPath(a, elems[:len(a)]) || matchPath(a, elems) {
			return true
		}
	}
	return false
}

// matchPath matches path elements. After a mismatch behind a "**" it extends that one
// by an element; earlier ones need no backtracking, as in matchElement.
func matchPath(pattern, key []string) bool {
	p, k := 0, 0
	star, mark := -1, 0
	for k < len(key) {
		switch {
		case p < len(pattern) && pattern[p] == "**":
			if p == len(pattern)-1 {
				return true
			}
			star, mark = p, k
			p++
		case p < len(pattern) && matchElement(pattern[p], key[k]):
			p, k = p+1, k+1
		case star >= 0:
			mark++
			p, k = star+1, mark
		default:
			return false
		}
	}
	return p == len(pattern)
}

// matchElement matches one path element with * ? [...] and \.
func matchElement(pattern, text string) bool {
	p, t := 0, 0
	star, mark := -1, 0
	for t < len(text) {
		if p < len(pattern) && pattern[p] == '*' {
			star, mark = p, t
			p++
			continue
		}
		if np, nt, ok := matchOne(pattern, p, text, t); ok {
			p, t = np, nt
			continue
		}
		if star < 0 {
			return false
		}
		_, n := utf8.DecodeRuneInString(text[mark:])
		mark += n
		p, t = star+1, mark
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// matchOne matches one character and returns the positions behind it.
func matchOne(pattern string, p int, text string, t int) (np, nt int, ok bool) {
	if p >= len(pattern) {
		return 0, 0, false
	}
	r, n := utf8.DecodeRuneInString(text[t:])
	switch pattern[p] {
	case '?':
		return p + 1, t + n, true
	case '[':
		in, end := class(pattern, p, r)
		return end, t + n, in
	case '\\':
		p++
	}
	want, m := utf8.DecodeRuneInString(pattern[p:])
	return p + m, t + n, want == r
}

// class reports whether the class that starts at p contains r, and where it ends.
// The pattern was checked, so the class is whole.
func class(pattern string, p int, r rune) (in bool, end int) {
	p++
	negated := strings.HasPrefix(pattern[p:], "^")
	if negated {
		p++
	}
	for pattern[p] != ']' {
		var low, high rune
		low, p = classRune(pattern, p)
		high = low
		if pattern[p] == '-' && pattern[p+1] != ']' {
			high, p = classRune(pattern, p+1)
		}
		in = in || low <= r && r <= high
	}
	return in != negated, p + 1
}

func classRune(pattern string, p int) (rune, int) {
	if pattern[p] == '\\' {
		p++
	}
	r, n := utf8.DecodeRuneInString(pattern[p:])
	return r, p + n
}

// checkElement rejects open classes and a trailing backslash.
func checkElement(e string) error {
	for i := 0; i < len(e); i++ {
		switch e[i] {
		case '\\':
			if i++; i == len(e) {
				return errors.New("nothing follows the backslash")
			}
		case '[':
			end, err := classEnd(e, i)
			if err != nil {
				return err
			}
			i = end
		}
	}
	return nil
}

func classEnd(e string, start int) (int, error) {
	i := start + 1
	if i < len(e) && e[i] == '^' {
		i++
	}
	for first := i; i < len(e); i++ {
		switch {
		case e[i] == '\\':
			if i++; i == len(e) {
				return 0, errors.New("nothing follows the backslash")
			}
		case e[i] == ']' && i > first:
			return i, nil
		case e[i] == ']':
			return 0, errors.New("empty class")
		}
	}
	return 0, errors.New("the class [ is not closed")
}

// expansion is a pattern without braces, as path elements.
type expansion struct {
	elems  []string
	braced []bool // a brace opened in this element
}

func unbraced(text string) expansion {
	elems := strings.Split(text, "/")
	return expansion{elems, make([]bool, len(elems))}
}

// join returns the pattern a followed by b; the last element of a and the first of b
// become one.
func join(a, b expansion) expansion {
	last := len(a.elems) - 1
	elems := append(slices.Clone(a.elems), b.elems[1:]...)
	braced := append(slices.Clone(a.braced), b.braced[1:]...)
	elems[last] += b.elems[0]
	braced[last] = braced[last] || b.braced[0]
	return expansion{elems, braced}
}

// pattern returns the elements for [matchPath]. Where a brace opened, ** is the same as
// *: the signing tools in the field match such an element character by character.
func (e expansion) pattern() []string {
	for i, braced := range e.braced {
		if braced && e.elems[i] == "**" {
			e.elems[i] = "*"
		}
	}
	return e.elems
}

// expand replaces braces with their alternatives.
func expand(text string) ([]expansion, error) {
	open := findOpen(text)
	if open < 0 {
		return []expansion{unbraced(text)}, nil
	}
	words, rest, err := alternatives(text[open+1:])
	if err != nil {
		return nil, err
	}
	tails, err := expand(rest)
	if err != nil {
		return nil, err
	}
	head := unbraced(text[:open])
	head.braced[len(head.braced)-1] = true
	var out []expansion
	for _, w := range words {
		middles, err := expand(w)
		if err != nil {
			return nil, err
		}
		for _, m := range middles {
			for _, t := range tails {
				if out = append(out, join(join(head, m), t)); len(out) > maxAlternatives {
					return nil, fmt.Errorf("more than %d alternatives", maxAlternatives)
				}
			}
		}
	}
	return out, nil
}

// findOpen returns the first brace that is neither escaped nor in a class.
func findOpen(text string) int {
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '[':
			if end, err := classEnd(text, i); err == nil {
				i = end
			}
		case '{':
			return i
		}
	}
	return -1
}

// alternatives splits what follows an opening brace at the commas of its level.
func alternatives(text string) (words []string, rest string, err error) {
	depth, start := 0, 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '{':
			if depth++; depth > 8 {
				return nil, "", errors.New("braces nested deeper than 8")
			}
		case ',':
			if depth == 0 {
				words, start = append(words, text[start:i]), i+1
			}
		case '}':
			if depth == 0 {
				return append(words, text[start:i]), text[i+1:], nil
			}
			depth--
		}
	}
	return nil, "", errors.New("the brace { is not closed")
}
