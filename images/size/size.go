// Package size says where the bytes of images and exports go: as text, as a treemap that a browser
// shows without scripts, as entries that are kept to compare later sizes with.
//
// It arranges what package inspect has measured. To show something else about it, add a view to
// views; a form of the result is a method of [Report].
package size

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/images/inspect"
	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// Entry is a file, a module, a package of a program: one thing that a size has as its part. Archives,
// file systems and programs are entries, too, besides what is in them.
type Entry struct {
	// Name is its path in what was measured.
	Name string `json:"name"`
	// Bytes is what it takes on the medium, Unpacked the size of its content.
	Bytes    int64 `json:"bytes"`
	Unpacked int64 `json:"unpacked"`
}

// Thing is something with a size, with what it consists of.
type Thing struct {
	// Name is its name in budgets: "image", "partition pvroot", "initrd".
	Name  string `json:"name"`
	Bytes int64  `json:"bytes"`
	// Entries are the largest parts, the largest first. Cut is set when there are more.
	Entries []Entry `json:"entries,omitempty"`
	Cut     bool    `json:"cut,omitempty"`
}

// Saved are sizes of a target that later ones are compared with.
type Saved struct {
	// Target is the name of the target.
	Target string `json:"target"`
	// Release is the version that they are the sizes of, as a tag; may be empty.
	Release string  `json:"release,omitempty"`
	Things  []Thing `json:"things"`
}

// maxSaved bounds a file with sizes, in bytes.
const maxSaved = 64 << 20

// Load reads what Encode has written, from a file.
func Load(file string) (*Saved, error) {
	text, err := bounded.ReadRegular(file, maxSaved)
	if err != nil {
		return nil, fault.Wrap(fault.IO, err, "reading the sizes in %s", file)
	}
	s, err := Decode(text)
	return s, fault.Wrap(fault.BadInput, err, "reading the sizes in %s", file)
}

// Decode reads what Encode has written.
func Decode(text []byte) (*Saved, error) {
	var s Saved
	if err := json.Unmarshal(text, &s); err != nil {
		return nil, fault.New(fault.BadInput, "it is not a file of mage size TARGET --save: %w", err)
	}
	return &s, nil
}

// Encode returns the text of a file, which is the same for the same sizes.
func (s *Saved) Encode() ([]byte, error) {
	text, err := json.MarshalIndent(s, "", " ")
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "writing sizes")
	}
	return append(text, '\n'), nil
}

// Thing returns the thing of a name, nil when there is none. The receiver may be nil.
func (s *Saved) Thing(name string) *Thing {
	if s == nil {
		return nil
	}
	for i := range s.Things {
		if s.Things[i].Name == name {
			return &s.Things[i]
		}
	}
	return nil
}

// mostEntries is how many of a thing are kept.
const mostEntries = 400

// Measured makes a thing, as it is kept, of what was measured.
func Measured(name string, s *inspect.Sized) Thing {
	t := whole(name, s)
	if t.Cut = len(t.Entries) > mostEntries; t.Cut {
		t.Entries = t.Entries[:mostEntries]
	}
	return t
}

// whole makes a thing with all entries.
func whole(name string, s *inspect.Sized) Thing {
	t := Thing{Name: name, Bytes: s.Bytes}
	walkAll(s, "", func(path string, p *inspect.Sized) bool {
		if p != s && (len(p.Parts) == 0 || p.Sort == inspect.SortArchive || p.Sort == inspect.SortProgram) {
			t.Entries = append(t.Entries, Entry{path, p.Bytes, p.Unpacked})
		}
		return true
	})
	sortEntries(t.Entries)
	return t
}

func sortEntries(list []Entry) {
	slices.SortStableFunc(list, func(a, b Entry) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), strings.Compare(a.Name, b.Name))
	})
}

// Growth is an entry that has another size than before.
type Growth struct {
	Name string `json:"name"`
	// Old is 0 for what is new, or was too small to be kept.
	Old int64 `json:"old"`
	New int64 `json:"new"`
}

// Bytes is by how much it has grown; negative when it has shrunk.
func (g Growth) Bytes() int64 { return g.New - g.Old }

// Change is a text such as "+3.1 KiB".
func Change(bytes int64) string {
	if bytes < 0 {
		return "-" + build.Size(-bytes)
	}
	return "+" + build.Size(bytes)
}

// Since returns the entries of a thing that differ from those of an earlier one, what has grown most
// first. Where only the largest were kept, what is smaller than these is left out.
func (t *Thing) Since(old *Thing) []Growth {
	was, least := old.bySize()
	now, leastNow := t.bySize()
	var out []Growth
	for name, bytes := range now {
		if before, there := was[name]; there && bytes != before || !there && bytes > least {
			out = append(out, Growth{name, before, bytes})
		}
	}
	for name, before := range was {
		if _, there := now[name]; !there && before > leastNow {
			out = append(out, Growth{name, before, 0})
		}
	}
	slices.SortFunc(out, func(a, b Growth) int {
		return cmp.Or(cmp.Compare(b.Bytes(), a.Bytes()), strings.Compare(a.Name, b.Name))
	})
	return out
}

// bySize returns the sizes of the entries by name, and the size up to which an entry may be missing.
func (t *Thing) bySize() (sizes map[string]int64, least int64) {
	sizes = map[string]int64{}
	for _, e := range t.Entries {
		sizes[e.Name] += e.Bytes
	}
	if n := len(t.Entries); t.Cut && n > 0 {
		least = t.Entries[n-1].Bytes
	}
	return sizes, least
}
