// Package regiontest collects the regions of an image, for tests that ask for many bytes.
package regiontest

import (
	"cmp"
	"slices"
	"sort"

	"github.com/pantavisor/pantavisor/formats/region"
)

// Map is a list of regions.
type Map struct {
	list   []region.Region
	sorted bool
}

// Add adds a region; it is a [region.Add].
func (m *Map) Add(from, length int64, place func() region.Place) {
	if length > 0 {
		m.list, m.sorted = append(m.list, region.Region{From: from, To: from + length, Place: place()}), false
	}
}

// Find returns the region that a byte is in, by the rule of [region.Finder].
func (m *Map) Find(at int64) (region.Region, bool) {
	if !m.sorted {
		slices.SortStableFunc(m.list, func(a, b region.Region) int {
			return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(b.To, a.To))
		})
		m.sorted = true
	}
	for i := sort.Search(len(m.list), func(i int) bool { return m.list[i].From > at }) - 1; i >= 0; i-- {
		if at < m.list[i].To {
			return m.list[i], true
		}
	}
	return region.Region{}, false
}
