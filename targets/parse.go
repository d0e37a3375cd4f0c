package targets

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/spelling"
)

// Parse reads a target from YAML, checks it and fills defaults. The file's name
// is for messages. The error is a fault.BadInput around [Problems], or fault.Unsupported
// when nothing is wrong but values that are not implemented yet.
func Parse(file, name string, data []byte) (*Target, error) {
	r := &reader{file: file, at: map[string]*token.Position{}}
	t := &Target{}
	if body := r.document(data); body != nil {
		r.value("", body, reflect.ValueOf(t).Elem(), "")
	}
	t.Name = name
	if r.at[""] != nil {
		r.broken = r.places()
		r.check(t)
	}
	if len(r.problems) > 0 {
		slices.SortStableFunc(r.problems, func(a, b Problem) int {
			if a.Line != b.Line {
				return a.Line - b.Line
			}
			return a.Column - b.Column
		})
		kind := fault.BadInput
		if r.unsupported == len(r.problems) {
			kind = fault.Unsupported
		}
		return nil, fault.New(kind, "%w", r.problems)
	}
	t.complete()
	return t, nil
}

// complete fills what is left out.
func (t *Target) complete() {
	if t.Platform == "" {
		t.Platform = t.Name
	}
	if t.Image == nil {
		return
	}
	next := 1
	for i := range t.Image.Partitions {
		p := &t.Image.Partitions[i]
		if p.Start == 0 {
			p.Start = next
		}
		next = p.Start + p.Size
	}
}

// reader fills a struct from a YAML tree by the struct's own tags and collects
// what is wrong. The library's decoder stops at the first mistake.
type reader struct {
	file     string
	problems Problems
	at       map[string]*token.Position // by path: "image.partitions[1].size"
	// lost are the paths whose values could not be read; broken are the paths of
	// which nothing can be said because of them.
	lost   []string
	broken []string
	// unsupported counts the problems with values that are right, but not implemented.
	unsupported int
}

// places are the paths that what was lost may decide on: the block it is in. A field
// at the top is a block of its own; the other blocks have their own mistakes to tell.
func (r *reader) places() []string {
	var out []string
	for _, path := range r.lost {
		if i := strings.LastIndex(path, "."); i >= 0 {
			path = path[:i]
		}
		out = append(out, path)
	}
	return out
}

// doubtful tells whether a mistake at a path may only follow from another: it is in
// a block of which something could not be read, or of such a block.
func (r *reader) doubtful(path string) bool {
	return slices.ContainsFunc(r.broken, func(b string) bool { return within(path, b) || within(b, path) })
}

// within tells whether a path is the block or in it.
func within(path, block string) bool {
	rest, ok := strings.CutPrefix(path, block)
	return ok && (block == "" || rest == "" || rest[0] == '.' || rest[0] == '[')
}

func (r *reader) problem(pos *token.Position, format string, args ...any) {
	p := Problem{File: r.file, Line: 1, Column: 1, Text: fmt.Sprintf(format, args...)}
	if pos != nil {
		p.Line, p.Column = pos.Line, pos.Column
	}
	r.problems = append(r.problems, p)
}

// wrong adds a problem at the place of a path, or of what it is in.
func (r *reader) wrong(path, format string, args ...any) {
	if r.doubtful(path) {
		return
	}
	for at := path; ; at = at[:max(0, strings.LastIndexAny(at, ".["))] {
		if pos := r.at[at]; pos != nil || at == "" {
			r.problem(pos, strings.TrimPrefix(path+": ", ": ")+format, args...)
			return
		}
	}
}

func (r *reader) document(data []byte) ast.Node {
	if len(data) > fileLimit {
		r.problem(nil, "file is larger than %d KiB", fileLimit>>10)
		return nil
	}
	tree, err := parser.ParseBytes(data, 0)
	if err != nil {
		r.syntax(err)
		return nil
	}
	var body ast.Node
	for _, doc := range tree.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.CommentType {
			continue
		}
		if body != nil {
			r.problem(place(doc.Body), "a second document: a target is one")
			return nil
		}
		body = doc.Body
	}
	if body == nil {
		r.problem(nil, "file is empty: a target needs at least description and arch")
	}
	return body
}

func (r *reader) syntax(err error) {
	var known yaml.Error
	if errors.As(err, &known) && known.GetToken() != nil {
		r.problem(known.GetToken().Position, "%s", known.GetMessage())
		return
	}
	r.problem(nil, "%v", err)
}

// place is where a node begins; the library says of a block of fields only where
// its first colon is.
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

// value fills v from a node. The tag is the field's jsonschema tag.
func (r *reader) value(path string, n ast.Node, v reflect.Value, tag string) {
	if r.at[path] == nil {
		r.at[path] = place(n)
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		r.value(path, n, v.Elem(), tag)
	case reflect.Struct:
		r.mapping(path, n, v)
	case reflect.Slice:
		r.sequence(path, n, v)
	case reflect.Int:
		r.number(path, n, v, tag)
	case reflect.String:
		r.text(path, n, v, tag)
	default:
		panic("targets: a field of kind " + v.Kind().String() + " cannot be read")
	}
}

func (r *reader) mapping(path string, n ast.Node, v reflect.Value) {
	m, ok := n.(ast.MapNode)
	if !ok {
		r.expected(path, "fields", n)
		return
	}
	fields := fieldsOf(v.Type())
	given := map[string]bool{}
	for iter := m.MapRange(); iter.Next(); {
		key := iter.Key()
		name := key.GetToken().Value
		f, ok := fields[name]
		if !ok {
			r.problem(place(key), "%s", unknownField(path, name, fields))
			continue
		}
		given[name] = true
		at := strings.TrimPrefix(path+"."+name, ".")
		r.at[at] = place(key)
		r.value(at, iter.Value(), v.FieldByIndex(f.Index), f.Tag.Get("jsonschema"))
	}
	for _, name := range sortedNames(fields) {
		if !given[name] && !strings.Contains(fields[name].Tag.Get("yaml"), "omitempty") {
			r.wrong(path, "field %s is missing", name)
			r.lost = append(r.lost, strings.TrimPrefix(path+"."+name, "."))
		}
	}
}

func fieldsOf(t reflect.Type) map[string]reflect.StructField {
	fields := map[string]reflect.StructField{}
	for i := range t.NumField() {
		f := t.Field(i)
		if name, _, _ := strings.Cut(f.Tag.Get("yaml"), ","); name != "-" {
			fields[name] = f
		}
	}
	return fields
}

func sortedNames(fields map[string]reflect.StructField) []string {
	var names []string
	for name := range fields {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func unknownField(path, name string, fields map[string]reflect.StructField) string {
	where := ""
	if path != "" {
		where = " in " + path
	}
	if near := spelling.Nearest(name, sortedNames(fields)); len(near) > 0 {
		return fmt.Sprintf("unknown field %q%s; did you mean %s?", name, where, strings.Join(near, " or "))
	}
	return fmt.Sprintf("unknown field %q%s; there are %s", name, where, strings.Join(sortedNames(fields), ", "))
}

func (r *reader) expected(path, what string, n ast.Node) {
	r.lost = append(r.lost, path)
	r.problem(place(n), "%s: want %s, not %s", orTop(path), what, strings.ToLower(n.Type().YAMLName()))
}

func orTop(path string) string {
	if path == "" {
		return "the file"
	}
	return path
}

func (r *reader) sequence(path string, n ast.Node, v reflect.Value) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		r.expected(path, "a list", n)
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(seq.Values), len(seq.Values)))
	for i, item := range seq.Values {
		r.value(fmt.Sprintf("%s[%d]", path, i), item, v.Index(i), "")
	}
}

func (r *reader) number(path string, n ast.Node, v reflect.Value, tag string) {
	node, ok := n.(*ast.IntegerNode)
	if !ok {
		r.expected(path, "a whole number", n)
		return
	}
	i, err := strconv.ParseInt(fmt.Sprint(node.Value), 10, 32)
	low, high := bounds(tag)
	if err != nil || i < low || i > high {
		r.lost = append(r.lost, path)
		r.problem(place(n), "%s: %v is out of range; want %d to %d", path, node.Value, low, high)
		return
	}
	v.SetInt(i)
}

func bounds(tag string) (low, high int64) {
	high = 1 << 31
	for part := range strings.SplitSeq(tag, ",") {
		name, value, _ := strings.Cut(part, "=")
		i, err := strconv.ParseInt(value, 10, 64)
		switch {
		case err != nil:
		case name == "minimum":
			low = i
		case name == "maximum":
			high = i
		}
	}
	return low, high
}

// text takes strings, and numbers as they are written, so that "arm: 7" is read.
func (r *reader) text(path string, n ast.Node, v reflect.Value, tag string) {
	var text string
	switch node := n.(type) {
	case *ast.StringNode:
		text = node.Value
	case *ast.LiteralNode:
		text = node.Value.Value
	case *ast.IntegerNode:
		text = node.GetToken().Value
	default:
		r.expected(path, "text", n)
		return
	}
	if table := valuesOf(path); table != nil && !r.isReady(path, n, text, table) {
		return
	}
	if allowed := enum(tag); len(allowed) > 0 && !slices.Contains(allowed, text) {
		r.lost = append(r.lost, path)
		r.problem(place(n), "%s: %v", path, oneOf(text, allowed))
		return
	}
	if i := strings.IndexFunc(text, func(c rune) bool { return c < ' ' || c == 0x7f || c == 0xfffd }); i >= 0 {
		r.lost = append(r.lost, path)
		r.problem(place(n), "%s: a control character in %q", path, text)
		return
	}
	v.SetString(text)
}

// isReady reports whether a value of a field with a table can be used, and says what is
// wrong otherwise.
func (r *reader) isReady(path string, n ast.Node, text string, table []value) bool {
	v, known := lookup(table, text)
	switch {
	case !known:
		r.problem(place(n), "%s: %s", path, impossible(text, table))
	case !v.ready:
		r.unsupported++
		r.problem(place(n), "%s: %s", path, unsupported(text, table))
	default:
		return true
	}
	r.lost = append(r.lost, path)
	return false
}

func enum(tag string) []string {
	var allowed []string
	for part := range strings.SplitSeq(tag, ",") {
		if value, ok := strings.CutPrefix(part, "enum="); ok {
			allowed = append(allowed, value)
		}
	}
	return allowed
}

func oneOf(text string, allowed []string) string {
	if near := spelling.Nearest(text, allowed); len(near) > 0 {
		return fmt.Sprintf("%q is not possible; did you mean %s?", text, strings.Join(near, " or "))
	}
	return fmt.Sprintf("%q is not possible; want %s", text, strings.Join(allowed, ", "))
}
