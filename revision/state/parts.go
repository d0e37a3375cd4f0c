package state

import (
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/pantavisor/pantavisor/revision/canon"
)

// SBOM is the name of the object in a part that is its bill of materials.
const SBOM = "sbom.spdx.zst"

// Within reports whether a part name selects a key: the key equal to it and every
// key below it, by whole path elements. A trailing slash of the name is ignored.
func Within(part, key string) bool {
	part = strings.TrimSuffix(part, "/")
	return key == part || len(key) > len(part) && key[len(part)] == '/' && strings.HasPrefix(key, part)
}

func withinAny(parts []string, key string) bool {
	for _, p := range parts {
		if Within(p, key) {
			return true
		}
	}
	return false
}

// Fragment selects parts of a state: the text behind '#' in a repository's name,
// "bsp,_sigs/bsp.json,-old". It has no wildcards.
type Fragment struct {
	Take []string // parts that are taken from the source; none means all
	Drop []string // parts written with a leading '-', removed
}

// ParseFragment reads a comma-separated list of part names.
func ParseFragment(text string) (Fragment, error) {
	var f Fragment
	if text == "" {
		return f, nil
	}
	for _, word := range strings.Split(text, ",") {
		name, drop := strings.CutPrefix(word, "-")
		name = strings.TrimSuffix(name, "/")
		if err := CheckKey(name); err != nil {
			return Fragment{}, fmt.Errorf("reading fragment %.120q: %w", text, err)
		}
		if drop {
			f.Drop = append(f.Drop, name)
		} else {
			f.Take = append(f.Take, name)
		}
	}
	return f, nil
}

// Takes reports whether the fragment takes a key of the source.
func (f Fragment) Takes(key string) bool {
	return !withinAny(f.Drop, key) && (len(f.Take) == 0 || withinAny(f.Take, key))
}

// Unmatched returns the parts of the fragment that match no key of any of the states.
func (f Fragment) Unmatched(states ...*State) []string {
	var out []string
	for _, part := range slices.Concat(f.Take, f.Drop) {
		if !slices.ContainsFunc(states, func(s *State) bool { return s.has(part) }) {
			out = append(out, part)
		}
	}
	return out
}

// has reports whether a part name selects a key.
func (s *State) has(part string) bool {
	return slices.ContainsFunc(s.entries, func(e entry) bool { return Within(part, e.key) })
}

// String returns the text that ParseFragment reads.
func (f Fragment) String() string {
	words := append([]string(nil), f.Take...)
	for _, d := range f.Drop {
		words = append(words, "-"+d)
	}
	return strings.Join(words, ",")
}

// Parts returns the names of all parts, sorted: the first path elements, with
// keys below _config/ and _sigs/ counted as the part that they belong to, and files
// at the top level under their own names. "#spec" is not a part.
func (s *State) Parts() []string {
	seen := map[string]bool{}
	for _, e := range s.entries {
		if e.key != SpecKey {
			seen[PartOf(e.key)] = true
		}
	}
	out := make([]string, 0, len(seen))
	for p := range seen {
		out = append(out, p)
	}
	sort.Strings(out)
	return out
}

// PartOf returns the part that a key belongs to: "app" for app/run.json,
// _config/app/etc/x and _sigs/app.json.
func PartOf(key string) string {
	if rest, ok := strings.CutPrefix(key, "_config/"); ok {
		key = rest
	} else if rest, ok := strings.CutPrefix(key, "_sigs/"); ok {
		key = strings.TrimSuffix(rest, ".json")
	}
	first, _, _ := strings.Cut(key, "/")
	return first
}

// Select returns the state that holds "#spec" and the keys of the given parts;
// without parts it is a copy of the whole.
func (s *State) Select(parts ...string) *State {
	if len(parts) == 0 {
		return s.Clone()
	}
	return s.filter(func(key string) bool { return key == SpecKey || withinAny(parts, key) })
}

// Without returns the state without the given parts.
func (s *State) Without(parts ...string) *State {
	return s.filter(func(key string) bool { return !withinAny(parts, key) })
}

func (s *State) filter(keep func(string) bool) *State {
	out := &State{}
	for _, e := range s.entries {
		if keep(e.key) {
			out.entries = append(out.entries, e)
		}
	}
	return out
}

// Get returns what `pvr get` makes of the states: the parts that the fragment
// takes are replaced by the source's, all of them without a fragment, and the
// dropped parts are removed. "#spec" comes from the source only when no part is
// taken, or when it is one of them.
func Get(local, source *State, f Fragment) (*State, error) {
	if len(f.Take) == 0 {
		return source.Without(f.Drop...), nil
	}
	taken := source.filter(func(key string) bool { return withinAny(f.Take, key) })
	out, err := local.Without(f.Take...).With(taken)
	if err != nil {
		return nil, err
	}
	return out.Without(f.Drop...), nil
}

// Merge returns what `pvr merge` makes of the states: JSON objects of the parts
// that the fragment takes (all when it takes none) are merged member by member into
// the local ones, everything else is replaced; the dropped parts are removed from
// both.
func Merge(local, source *State, f Fragment) (*State, error) {
	if len(f.Take)+len(f.Drop) > 0 {
		local = local.Without(f.Drop...)
		source = source.filter(f.Takes)
	}
	return join(local.entries, source.entries, overlay)
}

// overlay merges b into a. Unlike in a merge patch null is a value like any other,
// because a file may hold it.
func overlay(a, b canon.Value) canon.Value {
	if a.Kind() != canon.Object || b.Kind() != canon.Object {
		return b
	}
	members := append([]canon.Member(nil), a.Members()...)
	for _, m := range b.Members() {
		have, _ := a.Get(m.Name)
		members = append(members, canon.Member{Name: m.Name, Value: overlay(have, m.Value)})
	}
	return canon.Obj(members...)
}
