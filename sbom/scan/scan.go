// Package scan finds the packages in a root file system, for bills of materials: what package
// managers have installed (dpkg, apk, rpm, opkg), what Go programs were built of, and the packages of
// Python and npm. Regular files that belong to none are listed with their digest.
//
// A root file system comes from others and may be anything. What is odd in it, or larger than the
// limits of this package, becomes a note in the result and not an error: errors are those of reading.
// Nothing outside of the tree is ever read, symbolic links are looked up in it.
//
// Archives of Java and packages of other languages are not read. Their files are listed.
package scan

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/pantavisor/pantavisor/formats/tree"
	"github.com/pantavisor/pantavisor/sbom"
	"github.com/pantavisor/pantavisor/sbom/copyright"
)

// Limits. What is beyond them is left out with a note.
const (
	maxNames    = 1 << 20   // of files in the tree
	maxDatabase = 64 << 20  // bytes of a database of packages
	maxDocument = 4 << 20   // bytes of a small file: METADATA, package.json, lists
	maxPackages = 100_000   // in all
	maxLists    = 256 << 20 // bytes of the lists of files together
	maxRead     = 1 << 30   // bytes of small files and databases in text together
	maxPath     = 4096
	maxNotes    = 100
	maxWord     = 1024 // bytes of a name or version
)

// Walk calls do for every name of a tree, as [tree.Walk] and the readers of file systems do: directories
// before what is in them. Open of the entries is called after it, too.
type Walk func(ctx context.Context, do func(tree.Entry) error) error

// Result is what is in a root file system.
type Result struct {
	// Document has the packages, the files of none, their relations and the texts of licences. It is
	// to be added to a document that has the root package.
	Document *sbom.Document
	// Notes say what is not described, and why; for people.
	Notes []string

	s *scanner
}

// Options say how a root file system is described.
type Options struct {
	// Root is the identifier of the package that contains all.
	Root string
	// Prefix comes before the names of files in the document, as the name of the image that has them with
	// a slash.
	Prefix string
}

// Scan describes a root file system.
func Scan(ctx context.Context, walk Walk, o Options) (*Result, error) {
	s := &scanner{
		ctx: ctx, root: o.Root, prefix: o.Prefix, doc: &sbom.Document{}, owner: map[string]string{}, below: map[string]string{},
		packages: map[string]int{}, references: map[string]bool{}, related: map[string]bool{},
		copyrights: map[string]*copyright.Copyright{},
	}
	var err error
	if s.files, err = s.index(walk); err != nil {
		return nil, fmt.Errorf("looking for packages: %w", err)
	}
	for _, find := range []func() error{s.system, s.dpkg, s.opkg, s.apk, s.rpm, s.python, s.npm, s.golang, s.orphans} {
		if err := find(); err != nil {
			return nil, fmt.Errorf("looking for packages: %w", err)
		}
	}
	for i := range s.doc.Packages {
		p := &s.doc.Packages[i]
		slices.Sort(p.Paths)
		p.Paths = slices.Compact(p.Paths)
	}
	if s.skipped > 0 {
		s.notes = append(s.notes, fmt.Sprintf("and %d more notes", s.skipped))
	}
	return &Result{Document: s.doc, Notes: s.notes, s: s}, nil
}

// Owner returns the identifier of the package that a path below the root belongs to, and reports
// whether there is one.
func (r *Result) Owner(name string) (string, bool) { return r.s.ownerOf(name) }

// scanner is a scan in progress.
type scanner struct {
	ctx    context.Context //nolint:containedctx // of one run
	root   string
	prefix string
	files  *index
	doc    *sbom.Document
	// distro is the operating system.
	distro osRelease
	// owner has the package of each file in a list, below that of everything below a directory that no
	// list has.
	owner map[string]string
	below map[string]string
	lists int64 // bytes of lists read
	read  int64 // bytes of small files and databases read
	// packages has the places of packages in the document by identifier.
	packages   map[string]int
	references map[string]bool // identifiers of licences in the document
	related    map[string]bool
	copyrights map[string]*copyright.Copyright
	notes      []string
	skipped    int
}

// note adds a note.
func (s *scanner) note(format string, args ...any) {
	if len(s.notes) == maxNotes {
		s.skipped++
		return
	}
	s.notes = append(s.notes, fmt.Sprintf(format, args...))
}

// add adds a package that is in another one, and returns its identifier; "" for one that cannot be
// described, because its name is none. in is the root unless its files belong to another package. where
// is for notes.
func (s *scanner) add(p sbom.Package, in, where string) string {
	if !valid(p.Name) || p.Version != "" && !valid(p.Version) {
		s.note("%s: a package named %.100q, version %.100q, is left out: such names are not valid", where, p.Name, p.Version)
		return ""
	}
	id := sbom.PackageID(p)
	if at, ok := s.packages[id]; ok {
		old := &s.doc.Packages[at]
		old.Paths = append(old.Paths, p.Paths...)
	} else {
		if len(s.doc.Packages) == maxPackages {
			s.note("%s: package %s is left out: there are more than %d", where, p.Name, maxPackages)
			return ""
		}
		s.packages[id] = len(s.doc.Packages)
		s.doc.AddPackage(p)
	}
	s.relate(in, sbom.Contains, id)
	return id
}

// relate adds a relation once.
func (s *scanner) relate(from string, kind sbom.Kind, to string) {
	key := from + "\x00" + string(kind) + "\x00" + to
	if from != to && !s.related[key] {
		s.related[key] = true
		s.doc.Relate(from, kind, to)
	}
}

// refer adds texts of licences.
func (s *scanner) refer(list []sbom.Licence) {
	for _, l := range list {
		if !s.references[l.ID] {
			s.references[l.ID] = true
			s.doc.Licences = append(s.doc.Licences, l)
		}
	}
}

// maxLine is the longest licence that is read as names; what is longer is a text.
const maxLine = 200

// declared returns the expression for what a package says of its licence: a line with names, or a text.
func (s *scanner) declared(name, text string) string {
	text = strings.TrimSpace(strings.ToValidUTF8(text, "\uFFFD"))
	if text == "" || strings.EqualFold(text, "unknown") {
		return ""
	}
	if len(text) > maxLine || strings.Contains(text, "\n") {
		id := sbom.LicenceID(name+"-licence", text)
		s.refer([]sbom.Licence{{ID: id, Name: name + "-licence", Text: text}})
		return id
	}
	expression, refs := copyright.Line(text)
	s.refer(refs)
	return expression
}

// room reports whether so many bytes of a file may still be read, and notes it once when that ends.
func (s *scanner) room(e *entry, size int64) bool {
	before := s.read
	s.read += size
	if before <= maxRead && s.read > maxRead {
		s.note("the data of packages has more than %d bytes: what %s and further files say is not described", maxRead, shown(e.name))
	}
	return s.read <= maxRead
}

// own says that a package has a file; the first one that says so has it. Lists may name files through
// symbolic links: /bin/sh is in usr/bin.
func (s *scanner) own(id, name string) {
	name = strings.Trim(name, "/")
	if id == "" || len(name) > maxPath {
		return
	}
	name = s.files.real(name)
	at, there := s.files.at[name]
	if _, owned := s.owner[name]; there && !owned && !s.files.entries[at].mode.IsDir() {
		s.owner[name] = id
	}
}

// list returns the lines of a list of files.
func (s *scanner) list(name string) ([]string, error) {
	if s.lists > maxLists {
		return nil, nil
	}
	text, err := s.document(name, maxDocument)
	if s.lists += int64(len(text)); s.lists > maxLists {
		s.note("the lists of files of all packages have more than %d bytes: files of further ones are listed as belonging to none", maxLists)
	}
	return strings.Split(string(text), "\n"), err
}

// ownerOf returns the package of a file.
func (s *scanner) ownerOf(name string) (string, bool) {
	name = s.files.real(strings.Trim(name, "/"))
	if id, ok := s.owner[name]; ok {
		return id, true
	}
	// What Python compiled belongs to who has the source: DIR/__pycache__/NAME.cpython-311.pyc.
	dir, base := split(name)
	if parent, last := split(dir); last == "__pycache__" && strings.HasSuffix(base, ".pyc") {
		module, _, _ := strings.Cut(base, ".")
		if id, ok := s.owner[join(parent, module+".py")]; ok {
			return id, true
		}
	}
	for dir != "" {
		if id, ok := s.below[dir]; ok {
			return id, true
		}
		dir, _ = split(dir)
	}
	return "", false
}

// container returns the package that a file is in: its owner, or the root.
func (s *scanner) container(name string) string {
	if id, ok := s.ownerOf(name); ok {
		return id
	}
	return s.root
}

// valid reports whether a name or version of a package can be one.
func valid(s string) bool {
	if s == "" || len(s) > maxWord || !utf8.ValidString(s) {
		return false
	}
	return strings.IndexFunc(s, func(c rune) bool { return unicode.IsControl(c) || unicode.IsSpace(c) }) < 0
}
