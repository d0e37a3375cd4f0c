package catalogue

import (
	"bytes"
	"encoding/json"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// A catalogue of thousands of releases is some megabytes of JSON, of which one release changes. It is
// changed in its text: the rest, what other programs have put there included, stays as it is, and is
// not even parsed. All functions here need valid JSON.

// member is a member of an object: where it begins, and where its value is.
type member struct {
	key             string
	at, from, until int
}

// blank skips white space.
func blank(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// skip returns the end of the value at i.
func skip(b []byte, i int) int {
	depth := 0
	for i < len(b) {
		switch b[i] {
		case '"':
			i = quoted(b, i)
		case '{', '[':
			depth++
			i++
		case '}', ']':
			depth--
			i++
		default:
			i++
			for depth == 0 && i < len(b) && bytes.IndexByte([]byte(",]} \n\t\r"), b[i]) < 0 {
				i++
			}
		}
		if depth == 0 {
			return i
		}
	}
	return i
}

// quoted returns the end of the string at i.
func quoted(b []byte, i int) int {
	for i++; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return i
}

// members lists the members of an object.
func members(b []byte) ([]member, error) {
	i := blank(b, 0)
	if i == len(b) || b[i] != '{' {
		return nil, fault.New(fault.BadInput, "a value that must be an object is not one")
	}
	var out []member
	for i = blank(b, i+1); i < len(b) && b[i] != '}'; i = blank(b, i) {
		m := member{at: i}
		end := quoted(b, i)
		if err := json.Unmarshal(b[i:end], &m.key); err != nil {
			return nil, fault.Wrap(fault.BadInput, err, "reading a name")
		}
		m.from = blank(b, blank(b, end)+1)
		m.until = skip(b, m.from)
		out = append(out, m)
		if i = blank(b, m.until); i < len(b) && b[i] == ',' {
			i++
		}
	}
	return out, nil
}

// edit changes the value of a member of an object: change gets it, nil when there is none, and returns
// the new one, nil to remove the member. A new member is the last. The indent is that of the member.
func edit(b []byte, key, indent string, change func(old []byte) ([]byte, error)) ([]byte, error) {
	all, err := members(b)
	if err != nil {
		return nil, err
	}
	at := len(all)
	for i, m := range all {
		if m.key == key {
			at = i
		}
	}
	var old []byte
	if at < len(all) {
		old = b[all[at].from:all[at].until]
	}
	value, err := change(old)
	if err != nil {
		return nil, err
	}
	switch {
	case old == nil && value == nil:
		return b, nil
	case old == nil:
		return appendMember(b, all, key, indent, value)
	case value == nil:
		return removeMember(b, all, at), nil
	}
	return bytes.Join([][]byte{b[:all[at].from], value, b[all[at].until:]}, nil), nil
}

// appendMember adds a member at the end of an object.
func appendMember(b []byte, all []member, key, indent string, value []byte) ([]byte, error) {
	name, err := json.Marshal(key)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "writing a name")
	}
	text := append(append([]byte("\n"+indent), name...), ": "...)
	text = append(text, value...)
	if len(all) > 0 {
		last := all[len(all)-1].until
		return bytes.Join([][]byte{b[:last], []byte(","), text, b[last:]}, nil), nil
	}
	begin := blank(b, 0) + 1
	text = append(text, "\n"+indent[min(2, len(indent)):]...)
	return bytes.Join([][]byte{b[:begin], text, b[blank(b, begin):]}, nil), nil
}

// removeMember removes a member with its comma.
func removeMember(b []byte, all []member, at int) []byte {
	from, until := all[at].at, all[at].until
	switch {
	case at+1 < len(all):
		until = all[at+1].at
	case at > 0:
		from = all[at-1].until
	}
	return bytes.Join([][]byte{b[:from], b[until:]}, nil)
}

// elements lists the elements of an array.
func elements(b []byte) ([]json.RawMessage, error) {
	var out []json.RawMessage
	if err := json.Unmarshal(b, &out); err != nil {
		return nil, fault.New(fault.BadInput, "a value that must be a list is not one")
	}
	return out, nil
}

// list writes an array, an element a line. No element is nil.
func list(all []json.RawMessage, indent string) []byte {
	if len(all) == 0 {
		return []byte("[]")
	}
	out := []byte("[")
	for i, e := range all {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(append(out, "\n"+indent...), e...)
	}
	return append(out, "\n"+indent[min(2, len(indent)):]+"]"...)
}
