package scan

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/formats/tree"
	"github.com/pantavisor/pantavisor/internal/bounded"
)

// index are the names of a tree.
type index struct {
	entries []entry
	at      map[string]int
	// resolved are the real names of directories; there are few of them.
	resolved map[string]string
}

// entry is one name.
type entry struct {
	name string
	mode fs.FileMode
	size int64
	link string
	hard string // the first name of the file, if this is another one
	open func() (io.ReadCloser, error)
}

func (e *entry) regular() bool { return e.mode.IsRegular() && e.hard == "" }

// errEnough ends a walk.
var errEnough = errors.New("enough")

// index reads all names.
func (s *scanner) index(walk Walk) (*index, error) {
	x := &index{at: map[string]int{}, resolved: map[string]string{}}
	err := walk(s.ctx, func(e tree.Entry) error {
		if e.Name == "." {
			return nil
		}
		if len(x.entries) == maxNames {
			s.note("the root file system has more than %d names: what comes after %.100q is not described", maxNames, e.Name)
			return errEnough
		}
		x.at[e.Name] = len(x.entries)
		x.entries = append(x.entries, entry{e.Name, e.Mode, e.Size, e.Link, e.HardLink, e.Open})
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return x, err
}

// split returns directory and last element of a name; the root is "".
func split(name string) (dir, base string) {
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		return name[:i], name[i+1:]
	}
	return "", name
}

func join(dir, base string) string {
	if dir == "" {
		return base
	}
	return dir + "/" + base
}

// maxLinks is how many symbolic links a name may lead through, as in the kernel.
const maxLinks = 40

// real returns a name without symbolic links in its directories. The last element is not followed,
// as package managers own the link.
func (x *index) real(name string) string {
	dir, base := split(name)
	if dir == "" {
		return name
	}
	real, ok := x.resolved[dir]
	if !ok {
		real = x.follow(dir)
		x.resolved[dir] = real
	}
	return join(real, base)
}

// follow returns a name without any symbolic link; a name that leads nowhere stays as far as it was
// followed.
func (x *index) follow(name string) string {
	done, rest := "", name
	for links := 0; rest != ""; {
		var part string
		part, rest, _ = strings.Cut(rest, "/")
		next := join(done, part)
		if part == "" || part == "." {
			continue
		}
		if part == ".." {
			done, _ = split(done)
			continue
		}
		at, ok := x.at[next]
		if !ok || x.entries[at].mode.Type() != fs.ModeSymlink {
			done = next
			continue
		}
		if links++; links > maxLinks {
			return name
		}
		target := x.entries[at].link
		if path.IsAbs(target) {
			done = ""
		}
		rest = strings.Trim(target, "/") + "/" + rest
	}
	return done
}

// find returns a regular file, through symbolic links, or nil.
func (x *index) find(name string) *entry {
	at, ok := x.at[x.follow(name)]
	if !ok || !x.entries[at].mode.IsRegular() {
		return nil
	}
	e := &x.entries[at]
	if e.hard != "" && e.open == nil {
		if at, ok = x.at[e.hard]; !ok {
			return nil
		}
		e = &x.entries[at]
	}
	return e
}

// in returns the names in a directory, sorted; through symbolic links.
func (x *index) in(dir string) []*entry {
	prefix := x.follow(dir) + "/"
	var out []*entry
	for i := range x.entries {
		e := &x.entries[i]
		if rest, ok := strings.CutPrefix(e.name, prefix); ok && !strings.Contains(rest, "/") {
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(a, b *entry) int { return strings.Compare(a.name, b.name) })
	return out
}

// read returns the content of a file, of which at most limit bytes; whole is whether that is all.
func (e *entry) read(limit int64) (data []byte, whole bool, err error) {
	if e.open == nil {
		return nil, true, nil
	}
	r, err := e.open()
	if err != nil {
		return nil, false, fmt.Errorf("reading %.200q: %w", e.name, err)
	}
	defer r.Close()
	data, err = bounded.ReadSized(io.LimitReader(r, limit), min(e.size, limit), limit)
	if err != nil {
		return nil, false, fmt.Errorf("reading %.200q: %w", e.name, err)
	}
	return data, e.size <= limit, nil
}

// document returns the content of a small file; nil for one that is not there, and with a note for one
// that is too large.
func (s *scanner) document(name string, limit int64) ([]byte, error) {
	e := s.files.find(name)
	if e == nil {
		return nil, nil
	}
	if e.size > limit {
		s.note("%s has %d bytes, more than %d: what it says is not described", e.name, e.size, limit)
		return nil, nil
	}
	if !s.room(e, e.size) {
		return nil, nil
	}
	data, _, err := e.read(limit)
	return data, err
}

// database returns the content of a database in text, cut at the limit with a note.
func (s *scanner) database(name string) (string, bool, error) {
	e := s.files.find(name)
	if e == nil {
		return "", false, nil
	}
	if !s.room(e, min(e.size, maxDatabase)) {
		return "", false, nil
	}
	data, whole, err := e.read(maxDatabase)
	if !whole {
		s.note("%s has %d bytes: what comes after %d is not described", e.name, e.size, maxDatabase)
	}
	return string(data), true, err
}
