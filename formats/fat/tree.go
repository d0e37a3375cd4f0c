package fat

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf16"

	"github.com/pantavisor/pantavisor/formats/tree"
)

// node is a file or directory with its position.
type node struct {
	name     string
	short    [11]byte
	long     bool        // needs a long name beside the short one
	file     *tree.Entry // only files
	time     time.Time
	children []*node          // only directories
	byName   map[string]*node // children by their names without regard to case
	parent   *node
	cluster  int64 // first cluster; 0 for an empty file
	count    int64 // clusters
}

func (n *node) isDir() bool { return n.file == nil }

// build checks the entries and returns the tree of directories with unique short names.
// Directories that are not among the entries have the time at.
func build(entries []tree.Entry, at time.Time) (*node, error) {
	top := &node{time: at}
	sorted := slices.SortedFunc(slices.Values(entries), func(a, b tree.Entry) int {
		return strings.Compare(sortKey(&a), sortKey(&b))
	})
	for i := range sorted {
		e := &sorted[i]
		if err := limits.Check(e); err != nil {
			return nil, fmt.Errorf("placing: %w", err)
		}
		if e.Name == "." {
			continue // the root keeps no attributes
		}
		if err := top.add(e, at); err != nil {
			return nil, fmt.Errorf("placing %.200q: %w", e.Name, err)
		}
	}
	return top, top.shorten()
}

// sortKey sorts a directory to where its first file would create it.
func sortKey(e *tree.Entry) string {
	if e.Mode.IsDir() {
		return e.Name + "/"
	}
	return e.Name
}

func (n *node) add(e *tree.Entry, made time.Time) error {
	parts := strings.Split(e.Name, "/")
	at := n
	for i, part := range parts {
		if err := checkName(part); err != nil {
			return err
		}
		last := i == len(parts)-1
		child := at.child(part)
		if child != nil && (last || !child.isDir() || child.name != part) {
			return fmt.Errorf("it clashes with %q, and FAT does not tell upper from lower case", child.name)
		}
		if child == nil {
			child = &node{name: part, parent: at, time: made}
			at.adopt(child)
		}
		at = child
	}
	at.time = e.ModTime
	if !e.Mode.IsDir() {
		at.file = e
	}
	return nil
}

func (n *node) child(name string) *node { return n.byName[fold(name)] }

func (n *node) adopt(child *node) {
	if n.byName == nil {
		n.byName = map[string]*node{}
	}
	n.byName[fold(child.name)] = child
	n.children = append(n.children, child)
}

// fold returns the same text for names that differ in case only, as strings.EqualFold has
// it.
func fold(name string) string {
	return strings.Map(func(r rune) rune {
		least := r
		for next := unicode.SimpleFold(r); next != r; next = unicode.SimpleFold(next) {
			least = min(least, next)
		}
		return least
	}, name)
}

func checkName(name string) error {
	units := utf16.Encode([]rune(name))
	switch {
	case name == "" || name == "." || name == ".." || len(units) > 255:
		return fmt.Errorf("name %q cannot be used", name)
	case strings.ContainsAny(name, "\"*/:<>?\\|") || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f || r == 0xFFFD }):
		return fmt.Errorf("name %q has a letter that FAT forbids", name)
	case strings.HasSuffix(name, ".") || strings.HasSuffix(name, " "):
		return fmt.Errorf("name %q ends in a dot or space", name)
	}
	return nil
}

// shorten gives every name its 8.3 form, unique in its directory: "NAME~2.EXT"
// when the plain form is taken or would lose letters.
func (n *node) shorten() error {
	taken := shortNames{taken: make(map[[11]byte]bool, len(n.children)), next: map[numberedForm]int{}}
	for _, c := range n.children {
		plain, fits := plainShort(c.name)
		c.short, c.long = plain, !fits || restore(plain) != c.name
		if !fits || taken.taken[plain] {
			var ok bool
			if c.short, ok = taken.number(plain); !ok {
				return fmt.Errorf("placing %q: too many names that begin alike", c.name)
			}
		}
		taken.taken[c.short] = true
		if err := c.shorten(); err != nil {
			return err
		}
	}
	return n.checkEntries()
}

// maxEntries is the number of entries that a directory holds.
const maxEntries = 65536

// checkEntries checks that a directory is not larger than the format has it.
func (n *node) checkEntries() error {
	if have := n.entries(); n.isDir() && have > maxEntries {
		where := "the top directory"
		if n.parent != nil {
			where = fmt.Sprintf("directory %q", n.name)
		}
		return fmt.Errorf("placing %s: its %d names take %d entries, FAT takes %d in a directory; a name that is not upper-case 8.3 takes one more for every 13 letters: %w",
			where, len(n.children), have, maxEntries, errors.ErrUnsupported)
	}
	return nil
}

// shortNames are the short names of a directory.
type shortNames struct {
	taken map[[11]byte]bool
	// next is the first number that may be free, so that each is tried once.
	next map[numberedForm]int
}

// numberedForm is what short names with a number of so many digits have in common.
type numberedForm struct {
	short  [11]byte
	digits int
}

// number returns the first free short name with a number.
func (s *shortNames) number(plain [11]byte) (short [11]byte, ok bool) {
	for digits, low := 1, 1; digits <= 5; digits, low = digits+1, low*10 {
		form := numberedForm{numbered(plain, low), digits}
		for i := max(s.next[form], low); i < low*10; i++ {
			if short = numbered(plain, i); !s.taken[short] {
				s.next[form] = i + 1
				return short, true
			}
		}
		s.next[form] = low * 10
	}
	return short, false
}

// plainShort is the 8.3 form without a number; fits reports that
// nothing but case was lost.
func plainShort(name string) (short [11]byte, fits bool) {
	base, ext := name, ""
	if i := strings.LastIndexByte(name, '.'); i > 0 {
		base, ext = name[:i], name[i+1:]
	}
	a, okA := squeeze(base, 8)
	b, okB := squeeze(ext, 3)
	copy(short[:], fmt.Sprintf("%-8s%-3s", a, b))
	return short, okA && okB
}

func squeeze(s string, limit int) (string, bool) {
	var out []byte
	fits := len(s) <= limit
	for _, r := range s {
		switch {
		case r == ' ' || r == '.':
			fits = false
			continue
		case r > '~' || !shortChar(upper(byte(r))):
			fits, r = false, '_'
		}
		if len(out) < limit {
			out = append(out, upper(byte(r)))
		}
	}
	return string(out), fits
}

func numbered(plain [11]byte, i int) [11]byte {
	tail := fmt.Sprintf("~%d", i)
	base := strings.TrimRight(string(plain[:8]), " ")
	base = base[:min(len(base), 8-len(tail))] + tail
	short := plain
	copy(short[:8], fmt.Sprintf("%-8s", base))
	return short
}

// restore returns the name that a reader shows for a short name without a long one.
func restore(short [11]byte) string {
	base, ext := strings.TrimRight(string(short[:8]), " "), strings.TrimRight(string(short[8:]), " ")
	if ext == "" {
		return base
	}
	return base + "." + ext
}

func upper(c byte) byte {
	if 'a' <= c && c <= 'z' {
		return c - 'a' + 'A'
	}
	return c
}

func shortChar(c byte) bool {
	return 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("!#$%&'()-@^_`{}~", c) >= 0
}

// placeAll assigns clusters to a tree and returns the first free one. FAT16 has its root
// directory outside of them, with a fixed number of entries.
func (n *node) placeAll(g geometry) (int64, error) {
	if g.rootSectors == 0 {
		return n.place(g, root), nil
	}
	if most := g.rootSectors * sector / entry; n.entries() > most {
		return 0, fmt.Errorf("placing the top directory: its names take %d entries, FAT16 has %d there: %w", n.entries(), most, errors.ErrUnsupported)
	}
	next := int64(root)
	for _, c := range n.children {
		next = c.place(g, next)
	}
	return next, nil
}

// place assigns clusters to n and everything below it, from cluster next on, and returns
// the first free one.
func (n *node) place(g geometry, next int64) int64 {
	size := n.dirSize()
	if !n.isDir() {
		size = n.file.Size
	}
	n.count = g.clustersFor(size)
	if n.count > 0 {
		n.cluster = next
	}
	next += n.count
	for _, c := range n.children {
		next = c.place(g, next)
	}
	return next
}

// dirSize returns the size of a directory's entries and the end marker, in bytes. A full
// directory has no end marker.
func (n *node) dirSize() int64 { return min(n.entries()+1, maxEntries) * entry }

// entries returns the number of a directory's entries.
func (n *node) entries() int64 {
	count := int64(2) // "." and ".."
	if n.parent == nil {
		count = 1 // the label
	}
	for _, c := range n.children {
		count += 1 + c.longEntries()
	}
	return count
}

func (n *node) longEntries() int64 {
	if !n.long {
		return 0
	}
	return int64(len(utf16.Encode([]rune(n.name)))+12) / 13
}
