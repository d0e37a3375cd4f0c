// Package region says where a byte of an image belongs: readers of formats describe an image
// by regions, and a Finder keeps the one that a byte is in.
package region

import "fmt"

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

// Add takes a region of length bytes. An image may have many millions, so that place is asked
// only for those that matter. A region that is empty does not count.
type Add func(from, length int64, place func() Place)

// Own adds a region of the format itself, with a name.
func (a Add) Own(from, length int64, name string, args ...any) {
	a(from, length, func() Place { return Place{Name: fmt.Sprintf(name, args...), Offset: -1} })
}

// Finder finds the region that a byte is in; of several the one that begins last, of these the
// shortest, of these the last.
type Finder struct {
	at           int64
	from, length int64
	place        func() Place
}

// Find returns what finds the region of the byte at an offset.
func Find(at int64) *Finder { return &Finder{at: at} }

// Add considers a region; it is an [Add].
func (f *Finder) Add(from, length int64, place func() Place) {
	if f.at < from || f.at-from >= length {
		return
	}
	if f.place == nil || from > f.from || from == f.from && length <= f.length {
		f.from, f.length, f.place = from, length, place
	}
}

// Place returns where the byte is, and false when it is in no region.
func (f *Finder) Place() (Place, bool) {
	if f.place == nil {
		return Place{}, false
	}
	return f.place(), true
}
