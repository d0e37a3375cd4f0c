// Package canon reads JSON and writes it in the canonical form in which state
// documents, signature payloads and posted bodies are compared and signed:
// no white space, members sorted by the bytes of their names, only the escapes
// that JSON requires, and numbers as decimal text of any length (integers as plain
// digits, others as d.dddE<exp>). Numbers never pass through floating point.
//
// The reader is bounded in size, depth and number of values, so that a document
// from outside cannot exhaust a small device.
package canon

import (
	"slices"
	"sort"
)

// Kind is the JSON type of a [Value].
type Kind uint8

// The kinds of JSON values; the zero Value is null.
const (
	Null Kind = iota
	Bool
	Number
	String
	Array
	Object
)

var kindNames = [...]string{"null", "boolean", "number", "string", "array", "object"}

// String returns JSON's name of the type, for messages.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "unknown"
}

// Value is one JSON value. It is immutable: share it freely.
type Value struct {
	kind Kind
	text string  // Bool: true or false; Number: canonical text; String: the decoded text
	in   *nested // of arrays and objects that are not empty
}

// nested is what arrays and objects hold. It is apart from Value because nearly all values
// of a large document are strings.
type nested struct {
	elems   []Value
	members []Member
}

func array(elems []Value) Value {
	if len(elems) == 0 {
		return Value{kind: Array}
	}
	return Value{kind: Array, in: &nested{elems: elems}}
}

func object(sorted []Member) Value {
	if len(sorted) == 0 {
		return Value{kind: Object}
	}
	return Value{kind: Object, in: &nested{members: sorted}}
}

// Member is one member of an object.
type Member struct {
	Name  string
	Value Value
}

// Kind returns the value's JSON type.
func (v Value) Kind() Kind { return v.kind }

// IsNull reports whether the value is null.
func (v Value) IsNull() bool { return v.kind == Null }

// Text returns a string's decoded text and whether the value is a string.
func (v Value) Text() (string, bool) { return v.text, v.kind == String }

// Number returns a number's canonical text and whether the value is a number.
func (v Value) Number() (string, bool) { return v.text, v.kind == Number }

// Bool returns a boolean and whether the value is one.
func (v Value) Bool() (value, ok bool) { return v.text == "true", v.kind == Bool }

// Elems returns the elements of an array, nil for any other kind. Do not modify.
func (v Value) Elems() []Value {
	if v.in == nil {
		return nil
	}
	return v.in.elems
}

// Members returns the members of an object sorted by name, nil for any other
// kind. Do not modify.
func (v Value) Members() []Member {
	if v.in == nil {
		return nil
	}
	return v.in.members
}

// Get returns the named member of an object.
func (v Value) Get(name string) (Value, bool) {
	members := v.Members()
	i := sort.Search(len(members), func(i int) bool { return members[i].Name >= name })
	if i < len(members) && members[i].Name == name {
		return members[i].Value, true
	}
	return Value{}, false
}

// Str returns a string value.
func Str(s string) Value { return Value{kind: String, text: s} }

// Boolean returns a boolean value.
func Boolean(b bool) Value {
	if b {
		return Value{kind: Bool, text: "true"}
	}
	return Value{kind: Bool, text: "false"}
}

// List returns an array value that takes ownership of elems.
func List(elems ...Value) Value { return array(elems) }

// Obj returns an object value; of members with the same name the last one counts.
func Obj(members ...Member) Value {
	sorted, _ := sortMembers(append([]Member(nil), members...))
	return object(sorted)
}

// sortMembers sorts in place, keeps the last of equal names and returns a name
// that occurred more than once ("" and false when there was none).
func sortMembers(m []Member) ([]Member, *string) {
	sort.SliceStable(m, func(i, j int) bool { return m[i].Name < m[j].Name })
	var dup *string
	out := m[:0]
	for i := range m {
		if len(out) > 0 && out[len(out)-1].Name == m[i].Name {
			name := m[i].Name
			dup = &name
			out[len(out)-1] = m[i]
			continue
		}
		out = append(out, m[i])
	}
	return out, dup
}

// Equal reports whether two values have the same canonical form.
func Equal(a, b Value) bool {
	if a.kind != b.kind || a.text != b.text {
		return false
	}
	return slices.EqualFunc(a.Elems(), b.Elems(), Equal) && slices.EqualFunc(a.Members(), b.Members(), func(a, b Member) bool {
		return a.Name == b.Name && Equal(a.Value, b.Value)
	})
}
