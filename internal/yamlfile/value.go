package yamlfile

import (
	"encoding"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/goccy/go-yaml/ast"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/spelling"
)

// value fills v from a node. The tag is the field's jsonschema tag.
func (f *File) value(path string, n ast.Node, v reflect.Value, tag string) {
	if f.at[path] == nil {
		f.at[path] = place(n)
	}
	if u, own := v.Addr().Interface().(encoding.TextUnmarshaler); own {
		f.own(path, n, u)
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		f.value(path, n, v.Elem(), tag)
	case reflect.Struct:
		if path != "" {
			v.SetZero() // a field replaces what was there as a whole
		}
		f.fields(path, n, v)
	case reflect.Map:
		f.mapping(path, n, v)
	case reflect.Slice:
		f.sequence(path, n, v, tag)
	case reflect.Int, reflect.Int64:
		f.number(path, n, v, tag)
	case reflect.Bool:
		f.truth(path, n, v)
	case reflect.String:
		f.text(path, n, v, tag)
	case reflect.Interface:
		if free := f.free(path, n); free != nil {
			v.Set(reflect.ValueOf(free))
		}
	default:
		panic("yamlfile: a field of kind " + v.Kind().String() + " cannot be read")
	}
}

// own reads a value of a type with its own form of text.
func (f *File) own(path string, n ast.Node, v encoding.TextUnmarshaler) {
	text, ok := written(n)
	if !ok {
		f.expected(path, "text", n)
		return
	}
	if err := v.UnmarshalText([]byte(text)); err != nil {
		f.lost = append(f.lost, path)
		f.problem(place(n), "%s: %v", path, err)
	}
}

func (f *File) fields(path string, n ast.Node, v reflect.Value) {
	m, ok := n.(ast.MapNode)
	if !ok {
		f.expected(path, "fields", n)
		return
	}
	fields := fieldsOf(v.Type())
	given := make(map[string]bool, len(fields.byName))
	for iter := m.MapRange(); iter.Next(); {
		key := iter.Key()
		name := key.GetToken().Value
		field, ok := fields.byName[name]
		if !ok {
			f.problem(place(key), "%s", unknownField(path, name, fields.names()))
			continue
		}
		given[name] = true
		at := join(path, name)
		f.at[at] = place(key)
		f.value(at, iter.Value(), v.FieldByIndex(field.Index), field.Tag.Get("jsonschema"))
	}
	for _, name := range fields.required {
		if optional := f.kind.Optional; !given[name] && (optional == nil || !optional(join(path, name))) {
			f.Wrong(path, "field %s is missing", name)
			f.lost = append(f.lost, join(path, name))
		}
	}
}

func join(path, name string) string { return strings.TrimPrefix(path+"."+name, ".") }

// structFields are the fields of a type of structs by their names in files.
type structFields struct {
	byName   map[string]reflect.StructField
	required []string // sorted
}

// knownFields has the structFields of each reflect.Type that was asked for: a lock has
// hundreds of values of one type.
var knownFields sync.Map

func fieldsOf(t reflect.Type) *structFields {
	if known, ok := knownFields.Load(t); ok {
		return known.(*structFields)
	}
	s := &structFields{byName: map[string]reflect.StructField{}}
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if name == "-" || !f.IsExported() {
			continue
		}
		s.byName[name] = f
		if !strings.Contains(options, "omitempty") {
			s.required = append(s.required, name)
		}
	}
	slices.Sort(s.required)
	knownFields.Store(t, s)
	return s
}

// names returns the names of all fields, sorted.
func (s *structFields) names() []string { return slices.Sorted(maps.Keys(s.byName)) }

func unknownField(path, name string, known []string) string {
	where := ""
	if path != "" {
		where = " in " + path
	}
	if near := spelling.Nearest(name, known); len(near) > 0 {
		return fmt.Sprintf("unknown field %q%s; did you mean %s?", name, where, strings.Join(near, " or "))
	}
	return fmt.Sprintf("unknown field %q%s; there are %s", name, where, strings.Join(known, ", "))
}

func (f *File) expected(path, what string, n ast.Node) {
	f.lost = append(f.lost, path)
	f.problem(place(n), "%s: want %s, not %s", orTop(path), what, strings.ToLower(n.Type().YAMLName()))
}

func orTop(path string) string {
	if path == "" {
		return "the file"
	}
	return path
}

// mapping fills a map whose keys are texts.
func (f *File) mapping(path string, n ast.Node, v reflect.Value) {
	m, ok := n.(ast.MapNode)
	if !ok {
		f.expected(path, "fields", n)
		return
	}
	v.Set(reflect.MakeMap(v.Type()))
	for iter := m.MapRange(); iter.Next(); {
		key := reflect.New(v.Type().Key()).Elem()
		value := reflect.New(v.Type().Elem()).Elem()
		if !f.key(path, iter.Key(), key) {
			continue
		}
		at := join(path, key.String())
		f.at[at] = place(iter.Key())
		f.value(at, iter.Value(), value, "")
		v.SetMapIndex(key, value)
	}
}

// key reads a key of a map and reports whether it is valid.
func (f *File) key(path string, n ast.Node, v reflect.Value) bool {
	lost := len(f.lost)
	f.text(path, n, v, "")
	return len(f.lost) == lost
}

func (f *File) sequence(path string, n ast.Node, v reflect.Value, tag string) {
	if _, one := v.Interface().(OneOrMore); one {
		if _, block := n.(ast.MapNode); block {
			v.Set(reflect.MakeSlice(v.Type(), 1, 1))
			f.fields(path, n, v.Index(0))
			return
		}
	}
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		f.expected(path, "a list", n)
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(seq.Values), len(seq.Values)))
	for i, item := range seq.Values {
		f.value(fmt.Sprintf("%s[%d]", path, i), item, v.Index(i), tag)
	}
}

// free reads a value of any type, including texts of several lines, into the types of JSON.
func (f *File) free(path string, n ast.Node) any {
	switch node := n.(type) {
	case *ast.NullNode:
		return nil
	case *ast.BoolNode:
		return node.Value
	case *ast.IntegerNode:
		return node.Value
	case *ast.FloatNode:
		return node.Value
	case *ast.SequenceNode:
		var list []any
		f.sequence(path, n, reflect.ValueOf(&list).Elem(), "")
		return list
	case ast.MapNode:
		var fields map[string]any
		f.mapping(path, n, reflect.ValueOf(&fields).Elem())
		return fields
	}
	text, ok := written(n)
	if !ok {
		f.expected(path, "a value", n)
	}
	return text
}

func (f *File) number(path string, n ast.Node, v reflect.Value, tag string) {
	node, ok := n.(*ast.IntegerNode)
	if !ok {
		f.expected(path, "a whole number", n)
		return
	}
	i, err := strconv.ParseInt(fmt.Sprint(node.Value), 10, 64)
	low, high := bounds(tag)
	if err != nil || i < low || i > high || v.OverflowInt(i) {
		f.lost = append(f.lost, path)
		f.problem(place(n), "%s: %v is out of range; want %d to %d", path, node.Value, low, high)
		return
	}
	v.SetInt(i)
}

func (f *File) truth(path string, n ast.Node, v reflect.Value) {
	node, ok := n.(*ast.BoolNode)
	if !ok {
		f.expected(path, "true or false", n)
		return
	}
	v.SetBool(node.Value)
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

// text takes one line: strings, and numbers and truth values, so that "arm: 7" and
// "command: [sleep, 1.5]" are read.
func (f *File) text(path string, n ast.Node, v reflect.Value, tag string) {
	text, ok := written(n)
	if !ok {
		f.expected(path, "text", n)
		return
	}
	if err := f.checkText(path, text); err != nil {
		f.lost = append(f.lost, path)
		f.problem(place(n), "%s: %v", path, err)
		return
	}
	if allowed := enum(tag); len(allowed) > 0 && !slices.Contains(allowed, text) {
		f.lost = append(f.lost, path)
		f.problem(place(n), "%s: %v", path, spelling.Impossible(text, allowed))
		return
	}
	if i := strings.IndexFunc(text, func(c rune) bool { return c < ' ' || c == 0x7f || c == 0xfffd }); i >= 0 {
		f.lost = append(f.lost, path)
		f.problem(place(n), "%s: a control character in %q", path, text)
		return
	}
	v.SetString(text)
}

func (f *File) checkText(path, text string) error {
	if f.kind.Text == nil {
		return nil
	}
	err := f.kind.Text(path, text)
	if fault.Of(err) == fault.Unsupported {
		f.unsupported++
	}
	return err
}

// written returns a text, or a number or truth value as it is written.
func written(n ast.Node) (string, bool) {
	switch node := n.(type) {
	case *ast.StringNode:
		return node.Value, true
	case *ast.LiteralNode:
		return node.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return node.GetToken().Value, true
	}
	return "", false
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
