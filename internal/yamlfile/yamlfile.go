// Package yamlfile reads the YAML files of the project, targets, containers and locks,
// into structs and reports all their mistakes at once, each with its line.
//
// The struct's own tags are the rules: yaml names a field, and without omitempty it is
// required; jsonschema gives a text's enum and a number's minimum and maximum, and makes
// the schema for editors. Anchors, merges and tags are not allowed: a file means what it
// shows.
package yamlfile

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// Limit bounds a file whose kind has no other limit, in bytes.
const Limit = 64 << 10

// maxNesting bounds how deep lists and blocks of fields are nested on a line or in brackets:
// the time that the library takes grows with the square of it.
const maxNesting = 64

// Text reads as much of a file as [Read] needs, which reports one that is larger than
// [Limit] like any other problem of the file. What is not a regular file, a pipe for example,
// is a fault.BadInput and is not opened.
func Text(fsys fs.FS, name string) ([]byte, error) {
	info, err := fs.Stat(fsys, name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fault.New(fault.BadInput, "%s is not a regular file", name)
	}
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, Limit+1))
}

// Problem is one mistake in a file.
type Problem struct {
	File   string
	Line   int // from 1
	Column int // from 1
	Text   string
}

// String returns "FILE:LINE:COLUMN: TEXT", which editors can jump to.
func (p Problem) String() string {
	return fmt.Sprintf("%s:%d:%d: %s", p.File, p.Line, p.Column, p.Text)
}

// Problems are all mistakes of a file, in its order.
type Problems []Problem

// Error returns one line for each problem.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, one := range p {
		lines[i] = one.String()
	}
	return strings.Join(lines, "\n")
}

// Kind is a kind of file.
type Kind struct {
	// Name is the kind for messages: "a target".
	Name string
	// Text checks the value of a field by its path, for fields whose values have other
	// rules than tags can give. An error of kind fault.Unsupported is for values that are
	// right but not supported yet. It may be nil.
	Text func(path, text string) error
	// Optional reports whether a field may be left out that the tags require, by its path. It may
	// be nil.
	Optional func(path string) bool
	// Limit bounds a file, in bytes. Default: the constant Limit.
	Limit int
}

// File is a file that was read. Its users check it further with Wrong and the methods
// below, by the paths of fields such as "image.partitions[1].size".
type File struct {
	name     string
	kind     Kind
	problems Problems
	at       map[string]*token.Position // by path
	// lost are the paths whose values could not be read; broken are the paths that cannot
	// be checked because of them.
	lost   []string
	broken []string
	// unsupported counts the problems with values that are right, but not supported yet.
	unsupported int
}

// Read fills the struct that v points to from the one document of a file. What the struct
// has already stays in fields that the file does not have. The name is for
// messages. It reports whether the file has anything to check; [File.Err] returns its
// mistakes.
func Read(name string, kind Kind, data []byte, v any) (*File, bool) {
	f := &File{name: name, kind: kind, at: map[string]*token.Position{}}
	to := reflect.ValueOf(v).Elem()
	body := f.document(data, to.Type())
	if body == nil {
		return f, false
	}
	f.value("", body, to, "")
	f.broken = f.places()
	return f, true
}

// Err returns a fault.BadInput around [Problems], nil if the file is right. It is a
// fault.Unsupported when nothing is wrong but values that are not supported yet.
func (f *File) Err() error {
	if len(f.problems) == 0 {
		return nil
	}
	slices.SortStableFunc(f.problems, func(a, b Problem) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
	kind := fault.BadInput
	if f.unsupported == len(f.problems) {
		kind = fault.Unsupported
	}
	return fault.New(kind, "%w", f.problems)
}

// OneOrMore is a list of structs which a file may write as one block of fields. The paths
// of that block's fields have no index.
type OneOrMore interface{ OneOrMore() }

// Root makes the fields below a path the places of those with the same names at the top, for
// a check of what replaces them.
func (f *File) Root(path string) {
	for at, pos := range f.at {
		if below, ok := strings.CutPrefix(at, path+"."); ok {
			f.at[below] = pos
		}
	}
}

// Given reports whether the file has a value at a path.
func (f *File) Given(path string) bool { return f.at[path] != nil }

// Wrong adds a problem at the position of a path, or of its parent, unless it may only
// follow from another problem.
func (f *File) Wrong(path, format string, args ...any) {
	if f.doubtful(path) {
		return
	}
	for at := path; ; at = at[:max(0, strings.LastIndexAny(at, ".["))] {
		if pos := f.at[at]; pos != nil || at == "" {
			f.problem(pos, strings.TrimPrefix(path+": ", ": ")+format, args...)
			return
		}
	}
}

// Unsupported is Wrong for what is right but not supported yet.
func (f *File) Unsupported(path, format string, args ...any) {
	before := len(f.problems)
	f.Wrong(path, format, args...)
	f.unsupported += len(f.problems) - before
}

// Need adds a problem if a field that other fields require is empty.
func (f *File) Need(path, value, why string) {
	if value == "" {
		parent := path[:max(0, strings.LastIndex(path, "."))]
		f.Wrong(parent, "field %s is missing: %s", path[strings.LastIndex(path, ".")+1:], why)
	}
}

// Form adds a problem if a text does not have the form.
func (f *File) Form(path, text string, form *regexp.Regexp) {
	if !form.MatchString(text) {
		f.Wrong(path, "%q is not a legal name; want the form %s", text, form)
	}
}

// List checks the form of names and that there are no duplicates.
func (f *File) List(path string, names []string, form *regexp.Regexp) {
	for i, name := range names {
		at := fmt.Sprintf("%s[%d]", path, i)
		f.Form(at, name, form)
		if slices.Index(names, name) < i {
			f.Wrong(at, "%q is listed twice", name)
		}
	}
}

// places are the paths that what was lost may decide on: the block it is in. A field
// at the top is a block of its own; the other blocks have their own mistakes to tell.
func (f *File) places() []string {
	var out []string
	for _, path := range f.lost {
		if i := strings.LastIndex(path, "."); i >= 0 {
			path = path[:i]
		}
		out = append(out, path)
	}
	return out
}

// doubtful reports whether a mistake at a path may only follow from another: it is in
// a block of which something could not be read, or of such a block.
func (f *File) doubtful(path string) bool {
	return slices.ContainsFunc(f.broken, func(b string) bool { return within(path, b) || within(b, path) })
}

// within reports whether a path is the block or in it.
func within(path, block string) bool {
	rest, ok := strings.CutPrefix(path, block)
	return ok && (block == "" || rest == "" || rest[0] == '.' || rest[0] == '[')
}

func (f *File) problem(pos *token.Position, format string, args ...any) {
	p := Problem{File: f.name, Line: 1, Column: 1, Text: fmt.Sprintf(format, args...)}
	if pos != nil {
		p.Line, p.Column = pos.Line, pos.Column
	}
	f.problems = append(f.problems, p)
}

func (f *File) document(data []byte, want reflect.Type) ast.Node {
	if limit := cmp.Or(f.kind.Limit, Limit); len(data) > limit {
		f.problem(nil, "file is larger than %d KiB", limit>>10)
		return nil
	}
	tokens := lexer.Tokenize(string(data))
	if deep := tooDeep(tokens); deep != nil {
		f.problem(deep.Position, "more than %d lists or blocks of fields in each other", maxNesting)
		return nil
	}
	tree, err := parser.Parse(tokens, 0)
	if err != nil {
		f.syntax(err)
		return nil
	}
	var body ast.Node
	for _, doc := range tree.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.CommentType {
			continue
		}
		if body != nil {
			f.problem(place(doc.Body), "a second document: %s is one", f.kind.Name)
			return nil
		}
		body = doc.Body
	}
	if body == nil {
		f.problem(nil, "file is empty: %s needs at least %s", f.kind.Name, strings.Join(fieldsOf(want).required, " and "))
	}
	return body
}

// tooDeep returns the token that exceeds maxNesting, nil when there is none.
func tooDeep(tokens token.Tokens) *token.Token {
	brackets, entries, line := 0, 0, 0
	for _, t := range tokens {
		if t.Position.Line != line {
			entries, line = 0, t.Position.Line
		}
		switch t.Type {
		case token.MappingStartType, token.SequenceStartType:
			brackets++
		case token.MappingEndType, token.SequenceEndType:
			brackets--
		case token.SequenceEntryType, token.MappingKeyType:
			entries++
		}
		if brackets > maxNesting || entries > maxNesting {
			return t
		}
	}
	return nil
}

func (f *File) syntax(err error) {
	var known yaml.Error
	if errors.As(err, &known) && known.GetToken() != nil {
		f.problem(known.GetToken().Position, "%s", known.GetMessage())
		return
	}
	f.problem(nil, "%v", err)
}

// place returns the start of a node; for a block of fields the library only knows the
// position of its first colon.
func place(n ast.Node) *token.Position {
	if m, ok := n.(ast.MapNode); ok && n.GetToken().Value == ":" {
		if iter := m.MapRange(); iter.Next() {
			n = iter.Key()
		}
	}
	if t := n.GetToken(); t != nil {
		return t.Position
	}
	return nil
}
