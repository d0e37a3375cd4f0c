package state

import "github.com/pantavisor/pantavisor/revision/canon"

// Diff returns the merge patch (RFC 7386) that turns a into b: removed members are
// null, arrays and scalars appear whole. The format cannot distinguish a null inside
// b from a removal; use [Changes] to decide whether states differ.
func Diff(a, b *State) canon.Value { return diff(a.value(), b.value()) }

func diff(a, b canon.Value) canon.Value {
	if a.Kind() != canon.Object || b.Kind() != canon.Object {
		return b
	}
	var out []canon.Member
	for _, m := range a.Members() {
		if _, ok := b.Get(m.Name); !ok {
			out = append(out, canon.Member{Name: m.Name})
		}
	}
	for _, m := range b.Members() {
		have, ok := a.Get(m.Name)
		if !ok || !canon.Equal(have, m.Value) {
			out = append(out, canon.Member{Name: m.Name, Value: diff(have, m.Value)})
		}
	}
	return canon.Obj(out...)
}

// Change is how one key differs between two states.
type Change struct {
	Key string
	Op  Op
}

// Op is the letter that status prints for a change.
type Op byte

// The changes of a key.
const (
	Added   Op = 'A'
	Deleted Op = 'D'
	Changed Op = 'C'
)

// Changes lists the keys that differ from a to b, in byte order.
func Changes(a, b *State) []Change {
	var out []Change
	i, j := 0, 0
	for i < len(a.entries) || j < len(b.entries) {
		switch {
		case j == len(b.entries) || i < len(a.entries) && a.entries[i].key < b.entries[j].key:
			out = append(out, Change{a.entries[i].key, Deleted})
			i++
		case i == len(a.entries) || b.entries[j].key < a.entries[i].key:
			out = append(out, Change{b.entries[j].key, Added})
			j++
		default:
			if !canon.Equal(a.entries[i].value, b.entries[j].value) {
				out = append(out, Change{a.entries[i].key, Changed})
			}
			i, j = i+1, j+1
		}
	}
	return out
}
