package sbom

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
)

// document writes the document, in which the lists come first: what is said of the whole is known
// when they have been written.
func (j *joiner) document() error {
	name := "revision " + j.rev.Name
	if !j.whole {
		name = j.parts[0].name + " of " + name
	}
	j.print(`{"spdxVersion":"SPDX-2.3","dataLicense":"CC0-1.0","SPDXID":"`+theDocument+`","name":`, text(name))
	for _, list := range lists {
		if err := j.list(list); err != nil {
			return err
		}
	}
	j.creator("Tool: pantavisor")
	if j.created == "" {
		j.created = stamp(j.rev.Changed)
	}
	j.print(`,"creationInfo":{"created":"`, j.created, `","creators":[`)
	for i, c := range j.creators {
		j.comma(i == 0)
		j.print(text(c))
	}
	comment := j.comment()
	space := namespace + j.rev.SHA256
	if !j.whole {
		space += ":" + digest(j.parts[0].name)
	}
	j.print(`]},"comment":`, text(comment), `,"documentNamespace":`, text(space), "}\n")
	return nil
}

// print writes texts; the writer keeps the first error for Flush.
func (j *joiner) print(texts ...any) {
	for _, t := range texts {
		switch t := t.(type) {
		case string:
			_, _ = j.out.WriteString(t)
		case []byte:
			_, _ = j.out.Write(t)
		}
	}
}

// comma writes a comma unless it would be the first one.
func (j *joiner) comma(isFirst bool) {
	if !isFirst {
		_ = j.out.WriteByte(',')
	}
}

// comment returns what is to be said of the joining.
func (j *joiner) comment() string {
	var b strings.Builder
	b.WriteString("The device has joined this from the SBOMs of the parts of the revision. Objects that they do not have by their SHA-256 are listed from the revision's state.")
	for _, c := range j.comments {
		b.WriteString("\n" + c)
	}
	if j.dangling > 0 {
		fmt.Fprintf(&b, "\n%d relations with elements that do not exist are left out.", j.dangling)
	}
	return b.String()
}

// list writes a list: what is in it because of the revision, and the elements of the parts.
func (j *joiner) list(name string) error {
	l := &list{joiner: j, name: name}
	switch name {
	case packages:
		l.ownPackages()
	case relations:
		j.known[number(theDocument)] = written
		l.seen = map[uint64]bool{}
		l.ownRelations()
	}
	for i := range j.parts {
		p := &j.parts[i]
		visit := func(_ string, raw []byte) error { return l.pass(p, raw) }
		if name == relations && p.has[described] {
			if err := j.read(p, described, visit); err != nil {
				return err
			}
		}
		if p.has[name] {
			if err := j.read(p, name, visit); err != nil {
				return err
			}
		}
	}
	if l.open {
		j.print("]")
	}
	return nil
}

// list is a list that is being written.
type list struct {
	*joiner
	name string
	open bool
	seen map[uint64]bool // relations
}

// add writes an element.
func (l *list) add(raw []byte) {
	if l.open {
		l.print(",")
	} else {
		l.print(`,"`, l.name, `":[`)
	}
	l.open = true
	l.print(raw)
}

// value writes an element that is not of a part's document.
func (l *list) value(v any) {
	raw, err := json.Marshal(v)
	if err == nil { // the types of this package always can be written
		l.add(raw)
	}
}

// pass writes an element of a part's document unless that has been done.
func (l *list) pass(p *part, raw []byte) error {
	switch l.name {
	case annotations:
		l.add(raw)
		return nil
	case relations:
		return l.relation(p, raw)
	}
	var e element
	if err := json.Unmarshal(raw, &e); err != nil {
		return err
	}
	key := number(e.identifier(l.name))
	if l.known[key]&written == 0 {
		l.known[key] |= written
		l.add(raw)
	}
	return nil
}

// relation writes a relation if both of its ends exist. What a part's document describes is in the
// part.
func (l *list) relation(p *part, raw []byte) error {
	var r relation
	if raw[0] == '"' { // of documentDescribes
		var id string
		if err := json.Unmarshal(raw, &id); err != nil {
			return err
		}
		r = relation{From: theDocument, Kind: "DESCRIBES", To: id}
	} else if err := json.Unmarshal(raw, &r); err != nil {
		return err
	}
	if !l.exists(r.From) || !l.exists(r.To) && r.To != "NONE" && r.To != "NOASSERTION" {
		l.dangling++
		return nil
	}
	l.relate(r)
	switch {
	case r.From == theDocument && r.Kind == "DESCRIBES":
		l.relate(relation{From: partID(p.name), Kind: "CONTAINS", To: r.To})
	case r.To == theDocument && r.Kind == "DESCRIBED_BY":
		l.relate(relation{From: partID(p.name), Kind: "CONTAINS", To: r.From})
	}
	return nil
}

// exists reports whether there is an element of that identifier here, or a document that has it.
func (l *list) exists(id string) bool {
	if strings.HasPrefix(id, otherDocument) {
		id, _, _ = strings.Cut(id, ":")
	}
	return l.known[number(id)]&written != 0
}

// relate writes a relation, once.
func (l *list) relate(r relation) {
	key := number(r.From, r.Kind, r.To, r.Comment)
	if !l.seen[key] {
		l.seen[key] = true
		l.value(r)
	}
}

// The identifiers of the packages of this package.
func revisionID(sum string) string { return own + sum }
func partID(name string) string    { return own + "Part-" + digest(name) }
func objectID(sum string) string   { return own + "Object-" + sum }

// digest returns a name as characters of an identifier.
func digest(name string) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:8])
}

// ownPackages writes the packages that stand for the revision, its parts, and the objects that no
// part's document has.
func (l *list) ownPackages() {
	if l.whole {
		l.pack(element{
			ID: revisionID(l.rev.SHA256), Name: "revision " + l.rev.Name, Purpose: "FIRMWARE",
			Checksums: []checksum{{"SHA256", l.rev.SHA256}}, Comment: "The checksum is that of the revision's state.",
		})
	}
	for _, p := range l.parts {
		l.pack(element{ID: partID(p.name), Name: p.name, Purpose: "OTHER", Comment: "A part of the revision."})
	}
	for _, p := range l.parts {
		for _, o := range p.objects {
			if !p.listed[o.Sum] {
				l.pack(element{
					ID: objectID(o.Sum), Name: o.Path, PackageFile: o.Path, Purpose: "FILE", Checksums: []checksum{{"SHA256", o.Sum}},
				})
			}
		}
	}
}

// pack writes a package unless it is there.
func (l *list) pack(e element) {
	key := number(e.ID)
	if l.known[key] != 0 {
		return
	}
	l.known[key] = written
	e.Download, e.Analyzed = "NOASSERTION", new(bool)
	l.value(e)
}

// ownRelations writes the relations of those packages.
func (l *list) ownRelations() {
	if l.whole {
		l.relate(relation{From: theDocument, Kind: "DESCRIBES", To: revisionID(l.rev.SHA256)})
	}
	for _, p := range l.parts {
		if l.whole {
			l.relate(relation{From: revisionID(l.rev.SHA256), Kind: "CONTAINS", To: partID(p.name)})
		} else {
			l.relate(relation{From: theDocument, Kind: "DESCRIBES", To: partID(p.name)})
		}
		for _, o := range p.objects {
			if !p.listed[o.Sum] {
				l.relate(relation{From: partID(p.name), Kind: "CONTAINS", To: objectID(o.Sum)})
			}
		}
	}
}
