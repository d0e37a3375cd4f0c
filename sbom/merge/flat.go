package merge

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/sbom"
	"github.com/pantavisor/pantavisor/sbom/copyright"
	"github.com/pantavisor/pantavisor/sbom/licence"
)

// Options are what a flat document has.
type Options struct {
	// HostTools are kept: packages that run where the build runs and are not in the image.
	HostTools bool
}

// Conflict is something of which two documents say different things. The first one's word is kept.
type Conflict struct {
	// Element is the name of the package, file, document or vulnerability.
	Element string
	// Field is what they differ in.
	Field string
	// Kept and Other are the two values, and KeptFrom and OtherFrom the documents that they come from.
	Kept, Other, KeptFrom, OtherFrom string
}

// String returns a sentence.
func (c Conflict) String() string {
	return fmt.Sprintf("%s: %s is %q in %s and %q in %s", c.Element, c.Field, c.Kept, c.KeptFrom, c.Other, c.OtherFrom)
}

// Flat adds what is in the received documents to the document, which is sealed anew. What stands in more
// than one is joined: files by their SHA-256, packages by their package URL, else by their CPE and name (a
// CPE names a product, and one product has many packages), else by name, version and SHA-256; never by the
// identifiers of the documents, which are made anew. The licence that a package declares stays as its
// supplier wrote it; what it means in SPDX's syntax becomes the licence that is concluded, if none is.
// Statements about vulnerabilities are kept with their source. References to documents of the set, ours and
// theirs, are resolved; what received documents describe is described by ours, unless ours said before where
// it belongs. Whatever two documents say differently is returned.
func (s *Set) Flat(d *sbom.Document, options Options) []Conflict {
	m := &merger{
		set: s, to: d, options: options, packages: map[string]int{}, files: map[string]int{}, from: map[string]string{},
		documents: map[string]int{}, licences: map[string]int{}, taken: map[string]bool{}, statuses: map[string]sbom.Statement{},
		placed: map[int]bool{},
	}
	m.ours()
	for i := range s.docs {
		m.begin(i)
	}
	for i := range s.docs {
		m.elements(i)
	}
	m.resolve()
	for i := range s.docs {
		m.rest(i)
	}
	d.Namespace = ""
	d.Seal()
	return m.conflicts
}

type merger struct {
	set     *Set
	to      *sbom.Document
	options Options
	// packages are the positions of packages in the document, by what they are joined by, and files those of
	// files. Of our own files the digest is enough.
	packages, files map[string]int
	// from are the places that elements come from, by identifier.
	from map[string]string
	// documents are the positions of the received documents by namespace.
	documents map[string]int
	// licences are the positions of licences in the document, by identifier.
	licences map[string]int
	// taken are the identifiers of elements.
	taken map[string]bool
	// ids are the new identifiers of the elements of each received document, and names those of licences.
	ids, names []map[string]string
	// references are where those of each received document lead to.
	references []map[string]target
	// statuses are the first statements about a vulnerability of a package.
	statuses map[string]sbom.Statement
	// placed are the received documents of which ours said where they belong.
	placed    map[int]bool
	conflicts []Conflict
}

// keys returns what a package is joined by, the strongest first.
func keys(p sbom.Package) []string {
	var all []string
	switch {
	case p.PURL != "":
		all = append(all, "purl\x00"+p.PURL)
	case p.CPE != "":
		all = append(all, "cpe\x00"+p.CPE+"\x00"+p.Name)
	default:
		all = append(all, "name\x00"+p.Name+"\x00"+p.Version+"\x00"+p.SHA256)
	}
	if p.SHA256 != "" && p.SHA256 != emptyDigest {
		all = append(all, "sha256\x00"+p.SHA256+"\x00"+p.Name)
	}
	return all
}

func (m *merger) indexPackage(i int, from string) {
	p := m.to.Packages[i]
	m.find(p, i)
	m.taken[p.ID] = true
	m.from[p.ID] = from
}

// find has a package found at a position in the document.
func (m *merger) find(p sbom.Package, i int) {
	for _, key := range keys(p) {
		if _, ok := m.packages[key]; !ok {
			m.packages[key] = i
		}
	}
}

// ours indexes what the document has.
func (m *merger) ours() {
	for i := range m.to.Packages {
		m.indexPackage(i, m.to.Name)
	}
	for i, f := range m.to.Files {
		m.taken[f.ID] = true
		m.from[f.ID] = m.to.Name
		if f.SHA256 == "" || f.SHA256 == emptyDigest {
			continue
		}
		for _, key := range []string{f.SHA256, f.SHA256 + "\x00" + f.Name} {
			if _, ok := m.files[key]; !ok {
				m.files[key] = i
			}
		}
	}
	for i, l := range m.to.Licences {
		m.licences[l.ID] = i
	}
	for _, st := range m.to.Statements {
		m.status(st)
	}
}

// begin reads what the other documents need to know of one: its namespace and its licences.
func (m *merger) begin(i int) {
	d := m.set.docs[i]
	m.ids, m.names = append(m.ids, map[string]string{}), append(m.names, map[string]string{})
	m.references = append(m.references, nil)
	if j, twice := m.documents[d.Namespace]; twice {
		m.conflict("document "+d.Name, "namespace", d.Namespace, d.Namespace+" (another text)", m.set.place(m.set.docs[j]), m.set.place(d))
	} else {
		m.documents[d.Namespace] = i
	}
	for _, l := range d.Licences {
		old := l.ID
		if j, ok := m.licences[l.ID]; ok && m.to.Licences[j].Text != l.Text {
			l.ID = sbom.LicenceID(l.Name, l.Text)
		}
		m.names[i][old] = l.ID
		if _, ok := m.licences[l.ID]; !ok {
			m.licences[l.ID] = len(m.to.Licences)
			m.to.Licences = append(m.to.Licences, l)
		}
	}
}

func (m *merger) conflict(element, field, kept, other, keptFrom, otherFrom string) {
	m.conflicts = append(m.conflicts, Conflict{element, field, kept, other, keptFrom, otherFrom})
}

// elements adds the packages and files of a document.
func (m *merger) elements(i int) {
	d := m.set.docs[i]
	place := m.set.place(d)
	for _, p := range d.Packages {
		if p.Host && !m.options.HostTools {
			continue
		}
		old := p.ID
		p.Declared, p.Concluded = m.expression(i, p.Declared), m.expression(i, p.Concluded)
		p.Concluded = cmp.Or(p.Concluded, m.concluded(p.Declared))
		m.ids[i][old] = m.addPackage(p, place)
	}
	for _, f := range d.Files {
		old := f.ID
		f.Concluded = m.expression(i, f.Concluded)
		m.ids[i][old] = m.addFile(f, place)
	}
	for _, o := range d.Omitted {
		m.to.Omitted = append(m.to.Omitted, place+": "+o)
	}
}

func (m *merger) addPackage(p sbom.Package, place string) string {
	for _, key := range keys(p) {
		if i, ok := m.packages[key]; ok {
			m.join(&m.to.Packages[i], p, place)
			// A third document may know it by what only one of the two says.
			m.find(p, i)
			m.find(m.to.Packages[i], i)
			return m.to.Packages[i].ID
		}
	}
	p.ID = m.fresh(sbom.PackageID(p), p.CPE, place)
	m.to.Packages = append(m.to.Packages, p)
	m.indexPackage(len(m.to.Packages)-1, place)
	return p.ID
}

// fresh returns an identifier that no element has. Two packages of which only the CPE differs have the
// same one otherwise.
func (m *merger) fresh(id, what, place string) string {
	free := id
	for n := 0; m.taken[free]; n++ {
		sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%d", what, place, n))
		free = id + "-" + hex.EncodeToString(sum[:4])
	}
	return free
}

// join fills in what a package does not say, and reports what it says differently.
func (m *merger) join(a *sbom.Package, b sbom.Package, place string) {
	element := strings.TrimSuffix(a.Name+" "+a.Version, " ")
	for _, f := range []struct {
		field    string
		to, from *string
	}{
		{"version", &a.Version, &b.Version}, {"purl", &a.PURL, &b.PURL}, {"cpe", &a.CPE, &b.CPE},
		{"purpose", (*string)(&a.Purpose), (*string)(&b.Purpose)}, {"source", &a.SourceName, &b.SourceName},
		{"source version", &a.SourceVersion, &b.SourceVersion}, {"supplier", &a.Supplier, &b.Supplier}, {"download", &a.Download, &b.Download},
		{"file name", &a.FileName, &b.FileName}, {"sha256", &a.SHA256, &b.SHA256}, {"sha1", &a.SHA1, &b.SHA1},
		{"declared licence", &a.Declared, &b.Declared}, {"concluded licence", &a.Concluded, &b.Concluded}, {"copyright", &a.Copyright, &b.Copyright},
	} {
		switch {
		case *f.to == "":
			*f.to = *f.from
		case *f.from != "" && *f.from != *f.to && !m.sameLicence(f.field, *f.to, *f.from):
			m.conflict(element, f.field, *f.to, *f.from, m.from[a.ID], place)
		}
	}
	// A remark of one does not contradict that of another.
	a.Comment = cmp.Or(a.Comment, b.Comment)
	known := map[string]bool{}
	for _, path := range a.Paths {
		known[path] = true
	}
	for _, path := range b.Paths {
		if !known[path] {
			known[path] = true
			a.Paths = append(a.Paths, path)
		}
	}
	a.Host = a.Host && b.Host
}

// sameLicence reports whether two expressions of a licence say the same.
func (m *merger) sameLicence(field, a, b string) bool {
	if !strings.HasSuffix(field, "licence") {
		return false
	}
	first, ok := licence.Normalise(a, copyright.ShortName)
	second, too := licence.Normalise(b, copyright.ShortName)
	return ok && too && first == second
}

// addFile joins a file with one of ours by its digest, with those of other documents by name and digest:
// there one content has many names.
func (m *merger) addFile(f sbom.File, place string) string {
	if f.SHA256 != "" && f.SHA256 != emptyDigest {
		for _, key := range []string{f.SHA256 + "\x00" + f.Name, f.SHA256} {
			if i, ok := m.files[key]; ok {
				m.joinFile(&m.to.Files[i], f, place)
				return m.to.Files[i].ID
			}
		}
		m.files[f.SHA256+"\x00"+f.Name] = len(m.to.Files)
	}
	f.ID = m.fresh(sbom.FileID(f), "", place)
	m.taken[f.ID] = true
	m.from[f.ID] = place
	m.to.Files = append(m.to.Files, f)
	return f.ID
}

func (m *merger) joinFile(a *sbom.File, b sbom.File, place string) {
	a.SHA1, a.Comment = cmp.Or(a.SHA1, b.SHA1), cmp.Or(a.Comment, b.Comment)
	if a.Size < 0 {
		a.Size = b.Size
	} else if b.Size >= 0 && a.Size != b.Size {
		m.conflict(a.Name, "size", fmt.Sprint(a.Size), fmt.Sprint(b.Size), m.from[a.ID], place)
	}
	if a.Concluded == "" {
		a.Concluded = b.Concluded
	} else if b.Concluded != "" && a.Concluded != b.Concluded && !m.sameLicence("licence", a.Concluded, b.Concluded) {
		m.conflict(a.Name, "concluded licence", a.Concluded, b.Concluded, m.from[a.ID], place)
	}
}

// licenceRef finds the licences outside of SPDX's list in an expression, those of other documents as well.
var licenceRef = regexp.MustCompile(`(?:(DocumentRef-[A-Za-z0-9.-]+):)?(LicenseRef-[^\s()]+)`)

// expression gives the licences in an expression of a document their names in the flat one.
func (m *merger) expression(i int, expression string) string {
	return licenceRef.ReplaceAllStringFunc(expression, func(text string) string {
		parts := licenceRef.FindStringSubmatch(text)
		if parts[1] == "" {
			return cmp.Or(m.names[i][parts[2]], parts[2])
		}
		ref, j := m.reference(i, parts[1])
		if j >= 0 {
			return cmp.Or(m.names[j][parts[2]], parts[2])
		}
		return ref + ":" + parts[2]
	})
}

// concluded returns what a declared licence means in SPDX's syntax, or nothing if that is not known. A
// free name, which is a licence of the document, may be an expression in another syntax.
func (m *merger) concluded(declared string) string {
	text := licenceRef.ReplaceAllStringFunc(declared, func(id string) string {
		if i, ok := m.licences[id]; ok {
			if e, ok := licence.Normalise(m.to.Licences[i].Name, copyright.ShortName); ok {
				return "(" + e + ")"
			}
		}
		return id
	})
	e, _ := licence.Normalise(text, copyright.ShortName)
	return e
}

// target is what a reference leads to.
type target struct {
	// id is the identifier of the reference in the flat document, if it is kept.
	id string
	// document is the position of the received document, -1 if it is not in the set.
	document int
}

// reference returns the received document that a document refers to, by its position. For one that is not
// in the set, this is -1, and the reference is kept, with the identifier that is returned.
func (m *merger) reference(i int, id string) (string, int) {
	if m.references[i] == nil {
		m.references[i] = map[string]target{}
		for _, r := range m.set.docs[i].References {
			m.references[i][r.ID] = m.target(r)
		}
	}
	if t, ok := m.references[i][id]; ok {
		return t.id, t.document
	}
	return id, -1
}

func (m *merger) target(r sbom.Reference) target {
	if j, ok := m.documents[r.Namespace]; ok {
		return target{document: j}
	}
	r.ID = sbom.ReferenceID(strings.TrimPrefix(r.ID, "DocumentRef-"), r.Namespace)
	if !m.taken[r.ID] {
		m.taken[r.ID] = true
		m.to.References = append(m.to.References, r)
	}
	return target{r.ID, -1}
}

// resolve replaces our references to documents of the set by what they lead to.
func (m *merger) resolve() {
	led := map[string]int{}
	m.to.References = slices.DeleteFunc(m.to.References, func(r sbom.Reference) bool {
		j, ok := m.documents[r.Namespace]
		if !ok {
			return false
		}
		led[r.ID] = j
		there := m.set.docs[j]
		if file := m.set.Files[there.file].SHA256; r.SHA256 != "" && r.SHA256 != file && r.SHA256 != there.sha256 {
			m.conflict("document "+there.Name, "sha256", file, r.SHA256, m.set.place(there), m.to.Name)
		}
		return true
	})
	var relations []sbom.Relation
	for _, r := range m.to.Relations {
		ref, _, _ := strings.Cut(r.From, ":")
		if _, ok := led[ref]; ok && r.Kind == sbom.Describes {
			continue // what describes it is in this document now
		}
		for _, from := range m.lead(led, r.From) {
			for _, to := range m.lead(led, r.To) {
				relations = append(relations, sbom.Relation{From: from, Kind: r.Kind, To: to, Comment: r.Comment})
			}
		}
		if ref, _, ok := strings.Cut(r.To, ":"); ok {
			if j, ok := led[ref]; ok {
				m.placed[j] = true
			}
		}
	}
	m.to.Relations = relations
	for i := range m.to.Statements {
		s := &m.to.Statements[i]
		var packages []string
		for _, p := range s.Packages {
			packages = append(packages, m.lead(led, p)...)
		}
		s.Packages = packages
	}
}

// lead returns the elements that an end of a relation of ours leads to: itself, an element of a received
// document, or those that such a document describes. Without an element there the relation is left out.
func (m *merger) lead(led map[string]int, id string) []string {
	ref, element, external := strings.Cut(id, ":")
	j, ok := led[ref]
	if !external || !ok {
		return []string{id}
	}
	elements := []string{element}
	if element == sbom.DocumentID {
		elements = m.set.docs[j].Roots
	}
	var all []string
	for _, e := range elements {
		if id := m.ids[j][e]; id != "" {
			all = append(all, id)
		}
	}
	return all
}

// rest adds the relations and statements of a document.
func (m *merger) rest(i int) {
	d := m.set.docs[i]
	m.checkReferences(i)
	for _, r := range d.Relations {
		r.From, r.To = m.end(i, r.From), m.end(i, r.To)
		// What is about a host tool is not in the document, and this document says nothing of itself.
		if r.From != "" && r.To != "" && r.From != "NONE" && !(r.From == sbom.DocumentID && r.To == sbom.DocumentID) {
			m.to.Relations = append(m.to.Relations, r)
		}
	}
	for _, root := range d.Roots {
		if id := m.ids[i][root]; id != "" && !m.placed[i] {
			m.to.Roots = append(m.to.Roots, id)
		}
	}
	for _, s := range d.Statements {
		m.statement(i, s)
	}
}

// checkReferences compares the digests by which a document refers to others of the set.
func (m *merger) checkReferences(i int) {
	d := m.set.docs[i]
	for _, r := range d.References {
		j, ok := m.documents[r.Namespace]
		if !ok {
			continue
		}
		there := m.set.docs[j]
		for _, digest := range []struct{ name, want, got string }{{"sha256", r.SHA256, there.sha256}, {"sha1", r.SHA1, there.sha1}} {
			if digest.want != "" && digest.want != digest.got {
				m.conflict("document "+there.Name, digest.name, digest.got, digest.want, m.set.place(there), m.set.place(d))
			}
		}
	}
}

// end returns the identifier of an end of a relation, or nothing for one that is left out.
func (m *merger) end(i int, id string) string {
	if id == sbom.DocumentID || id == "NONE" || id == "NOASSERTION" {
		return id
	}
	ref, element, external := strings.Cut(id, ":")
	if !external {
		return m.ids[i][id]
	}
	ref, j := m.reference(i, ref)
	if j < 0 {
		return ref + ":" + element
	}
	if element == sbom.DocumentID {
		return element
	}
	return m.ids[j][element]
}

// statement adds a statement about packages that are in the document.
func (m *merger) statement(i int, s sbom.Statement) {
	var packages []string
	for _, p := range s.Packages {
		if strings.Contains(p, ":") {
			packages = append(packages, p)
		} else if id := m.ids[i][p]; id != "" {
			packages = append(packages, id)
		}
	}
	if len(packages) == 0 && len(s.Packages) > 0 {
		return
	}
	s.Packages, s.Origin = packages, cmp.Or(s.Origin, m.set.place(m.set.docs[i]))
	m.status(s)
	m.to.Statements = append(m.to.Statements, s)
}

// status reports a statement that contradicts another one. Both are kept.
func (m *merger) status(s sbom.Statement) {
	for _, p := range s.Packages {
		key := s.Vulnerability + "\x00" + p
		first, ok := m.statuses[key]
		if !ok {
			m.statuses[key] = s
		} else if first.Status != s.Status {
			m.conflict(s.Vulnerability+" in "+p, "status", first.Status, s.Status, first.Origin, s.Origin)
		}
	}
}
