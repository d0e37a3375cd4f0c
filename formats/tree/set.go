package tree

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
)

// Set is a tree under construction: entries by name.
type Set map[string]Entry

// Put adds entries; a later one replaces an earlier one with the same name.
func (s Set) Put(entries ...Entry) {
	for _, e := range entries {
		s[e.Name] = e
	}
}

// Complete adds the root and every directory that leads to an entry and is missing,
// with mode 0755.
func (s Set) Complete() {
	for _, name := range slices.Collect(maps.Keys(s)) {
		for name != "." {
			name = path.Dir(name)
			if _, there := s[name]; there {
				break
			}
			s.Put(Dir(name, 0o755))
		}
	}
	if _, there := s["."]; !there {
		s.Put(Dir(".", 0o755))
	}
}

// Sorted returns the entries in the order of [Compare]. Of a file with several names, the
// first in this order has the content, whichever has it in the set.
func (s Set) Sorted() []Entry {
	out := slices.SortedFunc(maps.Values(s), Compare)
	first := s.firstNames(out)
	if len(first) == 0 {
		return out
	}
	for i := range out {
		e := &out[i]
		origin := cmp.Or(e.HardLink, e.Name)
		switch name, several := first[origin]; {
		case !several:
		case name == e.Name:
			*e = s[origin]
			e.Name = name
		default:
			e.HardLink = name
		}
	}
	return out
}

// firstNames returns the first name of each file that has several, by the name that
// has its content.
func (s Set) firstNames(sorted []Entry) map[string]string {
	first := map[string]string{}
	for _, e := range sorted {
		if _, there := s[e.HardLink]; e.HardLink == "" || !there {
			continue
		}
		if _, known := first[e.HardLink]; !known {
			first[e.HardLink] = min(e.Name, e.HardLink)
		}
	}
	return first
}

// Validate checks a whole tree and returns all mistakes: entries that the format's check
// refuses, names that occur twice, parents that are missing or not directories.
func Validate(entries []Entry, check func(*Entry) error) error {
	types := make(map[string]fs.FileMode, len(entries))
	var errs []error
	for i := range entries {
		e := &entries[i]
		if _, twice := types[e.Name]; twice {
			errs = append(errs, fmt.Errorf("%.200q is there twice", e.Name))
		}
		types[e.Name] = e.Mode.Type()
		errs = append(errs, check(e))
	}
	for i := range entries {
		parent := path.Dir(entries[i].Name)
		if t, ok := types[parent]; parent != "." && (!ok || t != fs.ModeDir) {
			errs = append(errs, fmt.Errorf("%.200q has no directory %.200q to be in", entries[i].Name, parent))
		}
	}
	return errors.Join(errs...)
}
