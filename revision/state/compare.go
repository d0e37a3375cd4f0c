package state

import (
	"maps"
	"slices"
)

// PartChange is how a part differs between two states.
type PartChange struct {
	Part   string `json:"part"`
	Change string `json:"change"` // "added", "changed" or "removed"
	Files  int    `json:"files"`  // keys of the state that differ
	Bytes  int64  `json:"bytes"`  // of objects that the first state lacks; those of two parts count for each
}

// Difference is how a state differs from another, for people.
type Difference struct {
	Parts []PartChange `json:"parts"` // sorted by name
	// Bytes is the size of all objects that the first state lacks, as far as it is known: what
	// a device that has only that state has to get.
	Bytes int64 `json:"bytes"`
	// Missing are the objects of the second state whose size is not known, sorted.
	Missing []string `json:"missing"`
}

// Compare compares two states part by part. size returns the size of an object, false for one
// that is not there.
func Compare(from, to *State, size func(sum string) (int64, bool)) Difference {
	had := map[string]bool{}
	for _, sum := range from.Sums() {
		had[sum] = true
	}
	comes := func(sum string) int64 {
		if n, ok := size(sum); ok && !had[sum] {
			return n
		}
		return 0
	}
	d := Difference{Parts: changedParts(from, to), Missing: []string{}}
	for _, sum := range to.Sums() {
		if _, ok := size(sum); !ok {
			d.Missing = append(d.Missing, sum)
		}
		d.Bytes += comes(sum)
	}
	for i := range d.Parts {
		for _, sum := range d.Parts[i].sums(to) {
			d.Parts[i].Bytes += comes(sum)
		}
	}
	return d
}

// sums returns the objects of the part in a state, each once.
func (p PartChange) sums(st *State) []string {
	return st.Select(p.Part, "_config/"+p.Part, "_sigs/"+p.Part+".json").Sums()
}

// changedParts returns the parts that differ, without their bytes.
func changedParts(from, to *State) []PartChange {
	files := map[string]int{}
	for _, c := range Changes(from, to) {
		if c.Key != SpecKey {
			files[PartOf(c.Key)]++
		}
	}
	before, after := from.Parts(), to.Parts()
	parts := []PartChange{}
	for _, part := range slices.Sorted(maps.Keys(files)) {
		change := "changed"
		switch {
		case !slices.Contains(before, part):
			change = "added"
		case !slices.Contains(after, part):
			change = "removed"
		}
		parts = append(parts, PartChange{Part: part, Change: change, Files: files[part]})
	}
	return parts
}
