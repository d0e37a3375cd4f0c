// Package spelling suggests known names for a misspelt one.
package spelling

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// Nearest returns up to three known names that are similar to name, the most similar
// first: those within a third of its length in edits, and those that begin with it or
// contain it.
func Nearest(name string, known []string) []string {
	type candidate struct {
		name string
		far  int
	}
	var near []candidate
	lower := strings.ToLower(name)
	for _, k := range known {
		far := distance(lower, strings.ToLower(k))
		if len(lower) >= 3 && strings.Contains(strings.ToLower(k), lower) {
			far = min(far, 1)
		}
		if far <= max(1, len(name)/3) && far < len(name) {
			near = append(near, candidate{k, far})
		}
	}
	slices.SortStableFunc(near, func(a, b candidate) int {
		if a.far != b.far {
			return a.far - b.far
		}
		return strings.Compare(a.name, b.name)
	})
	var names []string
	for _, c := range near[:min(3, len(near))] {
		names = append(names, c.name)
	}
	return names
}

// Unknown returns the error for a name that is not among the known ones of its kind
// ("target", "component", "step"): a fault.BadInput that names the nearest.
func Unknown(kind, name string, known []string) error {
	near := Nearest(name, known)
	if len(near) > 0 {
		return fault.New(fault.BadInput, "%s %q: unknown; did you mean %s?", kind, name, strings.Join(near, " or "))
	}
	return fault.New(fault.BadInput, "%s %q: unknown; there are %s", kind, name, cmp.Or(strings.Join(known, ", "), "none"))
}

// Impossible returns a text for a value that is not allowed, with the nearest allowed
// ones.
func Impossible(value string, allowed []string) string {
	if near := Nearest(value, allowed); len(near) > 0 {
		return fmt.Sprintf("%q is not possible; did you mean %s?", value, strings.Join(near, " or "))
	}
	return fmt.Sprintf("%q is not possible; want %s", value, strings.Join(allowed, ", "))
}

// distance returns the number of edits between two words: insertions, deletions,
// replacements and swaps of neighbours (optimal string alignment).
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	two, one := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range one {
		one[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(one[j]+1, row[j-1]+1, one[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], two[j-2]+1)
			}
		}
		two, one = one, row
	}
	return one[len(b)]
}
