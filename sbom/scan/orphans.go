package scan

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/pantavisor/pantavisor/internal/ctxio"
	"github.com/pantavisor/pantavisor/sbom"
)

// maxFiles is how many files of no package are listed. Beyond that, directories stand for all that is
// in them and belongs to no package: the tree is opened from the root, level by level, as long as the
// list has room.
const maxFiles = 2000

// orphan is a regular file that belongs to no package.
type orphan struct {
	name string
	sum  string
	size int64
}

// orphans lists the regular files of no package with their digests.
func (s *scanner) orphans() error {
	var list []orphan
	buf := make([]byte, 128<<10)
	for i := range s.files.entries {
		e := &s.files.entries[i]
		if !e.regular() {
			continue
		}
		if _, owned := s.ownerOf(e.name); owned {
			continue
		}
		if err := s.ctx.Err(); err != nil {
			return err
		}
		sum, err := s.digest(e, buf)
		if err != nil {
			return err
		}
		list = append(list, orphan{e.name, sum, e.size})
	}
	for _, f := range group(list) {
		f.Name = s.prefix + f.Name
		s.doc.Relate(s.root, sbom.Contains, s.doc.AddFile(f))
	}
	return nil
}

// digest returns the SHA-256 of a file.
func (s *scanner) digest(e *entry, buf []byte) (string, error) {
	h := sha256.New()
	if e.open != nil {
		r, err := e.open()
		if err != nil {
			return "", fmt.Errorf("reading %.200q: %w", e.name, err)
		}
		defer r.Close()
		// Without WriteTo, which takes a buffer for each file.
		if _, err := io.CopyBuffer(struct{ io.Writer }{h}, struct{ io.Reader }{ctxio.Reader(s.ctx, r)}, buf); err != nil {
			return "", fmt.Errorf("reading %.200q: %w", e.name, err)
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// folder is a directory with orphans.
type folder struct {
	name    string
	files   []orphan
	folders map[string]*folder
}

// group returns the elements for files: themselves, or directories that stand for them.
func group(list []orphan) []sbom.File {
	top := &folder{folders: map[string]*folder{}}
	for _, o := range list {
		d := top
		dir, _ := split(o.name)
		if len(list) <= maxFiles {
			dir = ""
		}
		for part := range strings.SplitSeq(dir, "/") {
			if part == "" {
				continue
			}
			next := d.folders[part]
			if next == nil {
				next = &folder{name: join(d.name, part), folders: map[string]*folder{}}
				d.folders[part] = next
			}
			d = next
		}
		d.files = append(d.files, o)
	}
	var out []sbom.File
	room := maxFiles - 1 // the root takes one
	for level := []*folder{top}; len(level) > 0; {
		var next []*folder
		for _, d := range level {
			below := slices.Sorted(maps.Keys(d.folders))
			if more := len(d.files) + len(below) - 1; more > room {
				out = append(out, d.file())
				continue
			} else {
				room -= more
			}
			for _, o := range d.files {
				out = append(out, sbom.File{Name: shown(o.name), SHA256: o.sum, Size: o.size})
			}
			for _, name := range below {
				next = append(next, d.folders[name])
			}
		}
		level = next
	}
	return out
}

// file returns the element that stands for a directory.
func (d *folder) file() sbom.File {
	list := d.all(nil)
	slices.SortFunc(list, func(a, b orphan) int { return strings.Compare(a.name, b.name) })
	h := sha256.New()
	size := int64(0)
	var line bytes.Buffer
	for _, o := range list {
		line.Reset()
		line.WriteString(o.sum + "  " + o.name + "\n")
		h.Write(line.Bytes())
		size += o.size
	}
	return sbom.File{
		Name: shown(d.name) + "/", SHA256: hex.EncodeToString(h.Sum(nil)), Size: size,
		Comment: fmt.Sprintf("%d files that belong to no package; the digest is that of lines with their SHA-256, two blanks and their path, sorted by path", len(list)),
	}
}

func (d *folder) all(list []orphan) []orphan {
	list = append(list, d.files...)
	for _, f := range d.folders {
		list = f.all(list)
	}
	return list
}

// shown returns a path as a document can have it: bytes that are not UTF-8 and control characters
// become \xNN.
func shown(name string) string {
	if utf8.ValidString(name) && strings.IndexFunc(name, unicode.IsControl) < 0 {
		return name
	}
	var b strings.Builder
	for _, c := range []byte(name) {
		if c < ' ' || c >= 0x7f || c == '\\' {
			fmt.Fprintf(&b, `\x%02x`, c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
