// Package region says where a byte of an image belongs: readers of formats describe an image
// by regions, and a Map finds the one that an offset is in.
package region

import (
	"slices"
	"sort"
)

// Place is where a byte is.
type Place struct {
	// Name is for people: "superblock", "group 3: block bitmap", "inode 17".
	Name string
	// File is the path of the file whose content the byte is, and Offset its place in this
	// content, -1 where it is stored in another form. Without a file it belongs to the
	// format.
	File   string
	Offset int64
}

// Region is a run of bytes From to To, exclusive.
type Region struct {
	From, To int64
	Place
}

// Map is a list of regions.
type Map struct {
	list   []Region
	sorted bool
}

// Add adds a region. One that is empty is left out.
func (m *Map) Add(from, length int64, p Place) {
	if length > 0 {
		m.list, m.sorted = append(m.list, Region{from, from + length, p}), false
	}
}

// Find returns the region that a byte is in; of several the one that begins last.
func (m *Map) Find(at int64) (Region, bool) {
	if !m.sorted {
		slices.SortStableFunc(m.list, func(a, b Region) int {
			switch {
			case a.From != b.From:
				return compare(a.From, b.From)
			default:
				return compare(b.To, a.To)
			}
		})
		m.sorted = true
	}
	for i := sort.Search(len(m.list), func(i int) bool { return m.list[i].From > at }) - 1; i >= 0; i-- {
		if at < m.list[i].To {
			return m.list[i], true
		}
		if at-m.list[i].From > farthest {
			break
		}
	}
	return Region{}, false
}

// farthest is how far Find looks back for a region that others are in.
const farthest = 1 << 40

func compare(a, b int64) int {
	if a < b {
		return -1
	}
	return 1
}
