// Package compat is the contract between the parts of a revision: what the board and
// each container provide, require and conflict with. A declaration is one word:
//
//	declaration = name [ operator version ]
//	name        = kind ":" word | word
//	kind        = "arch" | "board" | "kernel" | "driver" | "role" | "container"
//	operator    = "=" | "<" | "<=" | ">" | ">="
//	word        = characters except blanks, control characters and , : < = >
//	version     = letters, digits and . + - _ ~, beginning with a letter or digit
//
// What a name means:
//
//	arch:arm64       the architecture, as Go spells it
//	board:rpi64      the board: the name of its target
//	kernel           the release of the kernel
//	kernel:squashfs  a feature of the kernel
//	driver:wifi      a driver of bsp/drivers.json
//	role:mgmt        a container with that role
//	container:web    a container, with the version that it provides itself
//	runtime          the version of the runtime
//	camera           anything else: a name that two parts agree on
//
// A list has a comma or blanks between its declarations. All of them must hold; two about
// one name make a range: kernel>=6.1, kernel<7.
//
// What the platform is like (arch, board, kernel, drivers, runtime) can only be judged
// where somebody states it: see [Check].
package compat

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Kinds of names; the empty kind has plain words.
const (
	Arch      = "arch"
	Board     = "board"
	Feature   = "kernel"
	Driver    = "driver"
	Role      = "role"
	Container = "container"
)

// Plain names with a meaning.
const (
	Kernel  = "kernel"
	Runtime = "runtime"
)

var kinds = []string{Arch, Board, Feature, Driver, Role, Container}

// maxTerm bounds a declaration in bytes.
const maxTerm = 256

// Term is one declaration.
type Term struct {
	Kind    string // one of the kinds, "" for a plain name
	Name    string
	Op      string // "", "=", "<", "<=", ">" or ">="
	Version string // "" without an operator
}

// String returns the form that [Parse] reads.
func (t Term) String() string { return t.key() + t.Op + t.Version }

// key is the name with its kind.
func (t Term) key() string {
	if t.Kind == "" {
		return t.Name
	}
	return t.Kind + ":" + t.Name
}

// subject is what is known or unknown as a whole: all architectures, all features.
func (t Term) subject() string {
	if t.Kind == "" {
		return t.Name
	}
	return t.Kind + ":"
}

// DeclaredIn reports whether a list has something of the term's kind, or the same plain name.
func (t Term) DeclaredIn(list []Term) bool {
	return slices.ContainsFunc(list, func(o Term) bool { return o.subject() == t.subject() })
}

// Parse reads one declaration. The error says at which column, counted in bytes from 1,
// it is wrong, and what is allowed there.
func Parse(text string) (Term, error) {
	p := parser{text: text}
	if len(text) > maxTerm {
		return Term{}, p.wrong(maxTerm, "it is longer than %d bytes", maxTerm)
	}
	return p.term()
}

// ParseProvided reads one declaration of what a part provides: a version is exact there.
func ParseProvided(text string) (Term, error) {
	t, err := Parse(text)
	if err == nil && t.Op != "" && t.Op != "=" {
		return Term{}, parser{text: text}.wrong(len(t.key()), "a part provides one version; write %s=%s", t.key(), t.Version)
	}
	return t, err
}

// Valid reports whether a part can provide a declaration.
func Valid(text string) bool {
	_, err := ParseProvided(text)
	return err == nil
}

// Split returns the declarations of a list, as PV_REQUIRES has them, without reading them.
func Split(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' || unicode.IsSpace(r) })
}

// parser reads a declaration.
type parser struct{ text string }

func (p parser) wrong(at int, format string, args ...any) error {
	return fmt.Errorf("declaration %.80q, column %d: %s", p.text, at+1, fmt.Sprintf(format, args...))
}

func (p parser) term() (Term, error) {
	end := strings.IndexAny(p.text, "<=>")
	if end < 0 {
		end = len(p.text)
	}
	var t Term
	name, at := p.text[:end], 0
	if kind, rest, ok := strings.Cut(name, ":"); ok {
		if !slices.Contains(kinds, kind) {
			return t, p.wrong(0, "kind %q is unknown; known are %s", kind, strings.Join(kinds, ", "))
		}
		t.Kind, name, at = kind, rest, len(kind)+1
	}
	t.Name = name
	if name == "" {
		return t, p.wrong(at, "a name is missing")
	}
	if i := strings.IndexFunc(name, notInWord); i >= 0 {
		r, _ := utf8.DecodeRuneInString(name[i:])
		return t, p.wrong(at+i, "%q cannot be in a name", r)
	}
	return p.version(t, end)
}

func notInWord(r rune) bool {
	return r == ',' || r == ':' || r == utf8.RuneError || unicode.IsSpace(r) || unicode.IsControl(r)
}

// version reads the operator and the version at a place of the text.
func (p parser) version(t Term, at int) (Term, error) {
	rest := p.text[at:]
	if rest == "" {
		return t, nil
	}
	t.Version = strings.TrimLeft(rest, "<=>")
	t.Op = rest[:len(rest)-len(t.Version)]
	if !slices.Contains([]string{"=", "<", "<=", ">", ">="}, t.Op) {
		return t, p.wrong(at, "operator %q is unknown; known are = < <= > >=", t.Op)
	}
	at += len(t.Op)
	if t.Version == "" {
		return t, p.wrong(at, "a version is missing behind %s", t.Op)
	}
	if !isVersion(t.Version) {
		return t, p.wrong(at, "%q is not a version: letters, digits and . + - _ ~ are allowed, a letter or digit first", t.Version)
	}
	return t, nil
}
