package spdx3

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/sbom"
	"github.com/pantavisor/pantavisor/sbom/internal/note"
)

// element is an element of the graph as it is written. The order of its fields is that of the text.
type element struct {
	Type               string               `json:"type"`
	ID                 string               `json:"spdxId,omitempty"`
	Blank              string               `json:"@id,omitempty"`
	CreationInfo       string               `json:"creationInfo,omitempty"`
	Created            string               `json:"created,omitempty"`
	CreatedBy          []string             `json:"createdBy,omitempty"`
	CreatedUsing       []string             `json:"createdUsing,omitempty"`
	SpecVersion        string               `json:"specVersion,omitempty"`
	Name               string               `json:"name,omitempty"`
	Comment            string               `json:"comment,omitempty"`
	DataLicense        string               `json:"dataLicense,omitempty"`
	ProfileConformance []string             `json:"profileConformance,omitempty"`
	RootElement        []string             `json:"rootElement,omitempty"`
	Import             []externalMap        `json:"import,omitempty"`
	SbomType           []string             `json:"software_sbomType,omitempty"`
	PackageVersion     string               `json:"software_packageVersion,omitempty"`
	PackageURL         string               `json:"software_packageUrl,omitempty"`
	PrimaryPurpose     string               `json:"software_primaryPurpose,omitempty"`
	DownloadLocation   string               `json:"software_downloadLocation,omitempty"`
	CopyrightText      string               `json:"software_copyrightText,omitempty"`
	SourceInfo         string               `json:"software_sourceInfo,omitempty"`
	SuppliedBy         string               `json:"suppliedBy,omitempty"`
	ValidUntil         string               `json:"validUntilTime,omitempty"`
	ExternalIdentifier []externalIdentifier `json:"externalIdentifier,omitempty"`
	VerifiedUsing      []hash               `json:"verifiedUsing,omitempty"`
	LicenseExpression  string               `json:"simplelicensing_licenseExpression,omitempty"`
	CustomIDs          []dictionaryEntry    `json:"simplelicensing_customIdToUri,omitempty"`
	LicenseText        *string              `json:"simplelicensing_licenseText,omitempty"`
	BuildType          string               `json:"build_buildType,omitempty"`
	AnnotationType     string               `json:"annotationType,omitempty"`
	ContentType        string               `json:"contentType,omitempty"`
	Subject            string               `json:"subject,omitempty"`
	Statement          string               `json:"statement,omitempty"`
	From               string               `json:"from,omitempty"`
	RelationshipType   string               `json:"relationshipType,omitempty"`
	To                 []string             `json:"to,omitempty"`
	Scope              string               `json:"scope,omitempty"`
	VexVersion         string               `json:"security_vexVersion,omitempty"`
	Justification      string               `json:"security_justificationType,omitempty"`
	ImpactStatement    string               `json:"security_impactStatement,omitempty"`
	ActionStatement    *string              `json:"security_actionStatement,omitempty"`
	StatusNotes        string               `json:"security_statusNotes,omitempty"`
}

type externalMap struct {
	Type           string `json:"type"`
	ExternalSpdxID string `json:"externalSpdxId"`
	LocationHint   string `json:"locationHint,omitempty"`
	VerifiedUsing  []hash `json:"verifiedUsing,omitempty"`
}

type externalIdentifier struct {
	Type       string `json:"type"`
	Kind       string `json:"externalIdentifierType"`
	Identifier string `json:"identifier"`
}

type hash struct {
	Type      string `json:"type"`
	Algorithm string `json:"algorithm"`
	Value     string `json:"hashValue"`
}

type dictionaryEntry struct {
	Type  string `json:"type"`
	Key   string `json:"key"`
	Value string `json:"value"`
}

// Write writes a document, which is sealed, as SPDX 3.0.1 JSON-LD with one element a line. The same
// document gives the same bytes. A document that cannot be written is of the kind fault.BadInput, and w
// gets nothing.
func Write(w io.Writer, d *sbom.Document) error {
	if err := d.Check(); err != nil {
		return fault.Wrap(fault.BadInput, err, "writing the SBOM %q", d.Name)
	}
	out := &writer{from: d, seen: map[string]bool{}, outside: map[string]string{}, licences: map[string]bool{}}
	for _, r := range d.References {
		out.outside[r.ID] = r.Namespace
	}
	for _, l := range d.Licences {
		out.licences[l.ID] = true
	}
	out.document()
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	text.WriteString(`{"@context":"` + context + `","@graph":[` + "\n")
	for i, node := range out.graph {
		if i > 0 {
			text.Truncate(text.Len() - 1)
			text.WriteString(",\n")
		}
		if err := e.Encode(node); err != nil {
			return fault.Wrap(fault.Internal, err, "writing the SBOM %q", d.Name)
		}
	}
	text.WriteString("]}\n")
	_, err := w.Write(text.Bytes())
	return fault.Wrap(fault.IO, err, "writing the SBOM %q", d.Name)
}

type writer struct {
	from  *sbom.Document
	graph []element
	// seen are the identifiers of the elements that are needed once, such as agents.
	seen map[string]bool
	// outside are the namespaces of the references.
	outside map[string]string
	// imports are the elements of other documents that relations name.
	imports map[string]string
	// licences are the identifiers of the licences outside of the list.
	licences map[string]bool
	note     note.Document
}

// add adds an element, with the creation information that all have.
func (w *writer) add(e element) string {
	e.CreationInfo = creation
	w.graph = append(w.graph, e)
	return e.ID
}

// once adds an element of which the identifier follows from what it says.
func (w *writer) once(e element) string {
	if !w.seen[e.ID] {
		w.seen[e.ID] = true
		w.add(e)
	}
	return e.ID
}

// made returns the IRI of an element that the model does not have.
func (w *writer) made(class string, parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return w.from.Namespace + "/" + class + "/" + hex.EncodeToString(sum[:12])
}

// iri returns the IRI of an identifier of the model.
func (w *writer) iri(id string) string {
	switch ref, element, external := strings.Cut(id, ":"); {
	case id == sbom.DocumentID:
		return w.from.Namespace
	case id == "NONE":
		return noneElement
	case id == "NOASSERTION":
		return noAssertionElement
	case external:
		out := w.outside[ref]
		if element != sbom.DocumentID {
			out += "#" + element
			if w.imports == nil {
				w.imports = map[string]string{}
			}
			w.imports[out] = ref
		}
		return out
	}
	return w.from.Namespace + "#" + id
}

func (w *writer) document() {
	d := w.from
	info := element{Type: "CreationInfo", Blank: creation, Created: d.Created.UTC().Format(time.RFC3339), SpecVersion: specVersion}
	w.graph = []element{{}, {}}
	info.CreatedBy, info.CreatedUsing = w.creators()
	sbomID := w.made("sbom")
	roots := make([]string, 0, len(d.Roots))
	for _, id := range d.Roots {
		roots = append(roots, w.iri(id))
	}
	w.add(element{Type: "software_Sbom", ID: sbomID, Name: d.Name, SbomType: []string{"build"}, RootElement: roots})
	for _, l := range d.Licences {
		w.add(element{Type: "simplelicensing_SimpleLicensingText", ID: w.iri(l.ID), Name: l.Name, LicenseText: &l.Text})
	}
	for _, p := range d.Packages {
		w.pack(p)
	}
	for _, f := range d.Files {
		w.file(f)
	}
	w.relations()
	for _, s := range d.Statements {
		w.statement(s)
	}
	doc := element{
		Type: "SpdxDocument", ID: d.Namespace, Name: d.Name, Comment: d.Comment, CreationInfo: creation, RootElement: []string{sbomID},
		DataLicense:        "https://spdx.org/licenses/CC0-1.0",
		ProfileConformance: []string{"build", "core", "security", "simpleLicensing", "software"},
	}
	doc.Import = w.references()
	w.graph[0], w.graph[1] = info, doc
	if d.Support != (sbom.Support{}) {
		w.note.Support = &d.Support
	}
	w.note.Omitted = d.Omitted
	w.annotate(d.Namespace, note.Encode(w.note))
}

// creators returns the agents and tools, of which there has to be an agent.
func (w *writer) creators() (by, using []string) {
	for _, c := range w.from.Creators {
		if name, ok := strings.CutPrefix(c, "Tool: "); ok {
			using = append(using, w.once(element{Type: "Tool", ID: w.made("tool", name), Name: name}))
		} else {
			by = append(by, w.agent(c))
		}
	}
	if len(by) == 0 {
		name := note.Author
		if len(using) > 0 {
			name = strings.TrimPrefix(w.from.Creators[0], "Tool: ")
		}
		by = []string{w.once(element{Type: "SoftwareAgent", ID: w.made("agent", "SoftwareAgent", name), Name: name})}
	}
	return by, using
}

// agent returns the element of an organisation or a person in SPDX 2.3's form; anything else is an
// agent of which nothing more is known.
func (w *writer) agent(s string) string {
	class, name := "Agent", s
	for _, c := range []string{"Organization", "Person"} {
		if rest, ok := strings.CutPrefix(s, c+": "); ok {
			class, name = c, rest
		}
	}
	return w.once(element{Type: class, ID: w.made("agent", class, name), Name: name})
}

func (w *writer) pack(p sbom.Package) {
	e := element{
		Type: "software_Package", ID: w.iri(p.ID), Name: p.Name, Comment: p.Comment, PackageVersion: p.Version, PackageURL: p.PURL,
		DownloadLocation: p.Download, CopyrightText: p.Copyright, VerifiedUsing: hashes(p.SHA256, p.SHA1),
		PrimaryPurpose: purposes[p.Purpose],
	}
	n := note.Package{Paths: p.Paths, Host: p.Host, FileName: p.FileName}
	if p.Purpose != "" && e.PrimaryPurpose == "" {
		e.PrimaryPurpose, n.Purpose = "other", string(p.Purpose)
	}
	if p.CPE != "" {
		e.ExternalIdentifier = []externalIdentifier{{Type: "ExternalIdentifier", Kind: "cpe23", Identifier: p.CPE}}
	}
	if p.Supplier != "" {
		e.SuppliedBy = w.agent(p.Supplier)
	}
	info := strings.TrimSuffix(sourceText+p.SourceName+" "+p.SourceVersion, " ")
	if m := sourcePackage.FindStringSubmatch(info); m != nil && m[1] == p.SourceName && m[2] == p.SourceVersion {
		e.SourceInfo = info
	} else {
		n.SourceName, n.SourceVersion = p.SourceName, p.SourceVersion
	}
	e.ValidUntil = w.validUntil(p.ID)
	w.add(e)
	w.licence(e.ID, "hasDeclaredLicense", p.Declared)
	w.licence(e.ID, "hasConcludedLicense", p.Concluded)
	w.annotate(e.ID, note.Encode(n))
}

// validUntil returns the end of support of a root.
func (w *writer) validUntil(id string) string {
	if day, err := time.Parse(time.DateOnly, w.from.Support.End); err == nil && slices.Contains(w.from.Roots, id) {
		return day.Format(time.RFC3339)
	}
	return ""
}

func (w *writer) file(f sbom.File) {
	e := element{
		Type: "software_File", ID: w.iri(f.ID), Name: f.Name, Comment: f.Comment, VerifiedUsing: hashes(f.SHA256, f.SHA1),
		ValidUntil: w.validUntil(f.ID),
	}
	w.add(e)
	w.licence(e.ID, "hasConcludedLicense", f.Concluded)
	if f.Size >= 0 {
		w.note.AddFile(f.ID, note.File{Size: &f.Size})
	}
}

func hashes(sha256, sha1 string) []hash {
	var all []hash
	if sha256 != "" {
		all = append(all, hash{"Hash", "sha256", sha256})
	}
	if sha1 != "" {
		all = append(all, hash{"Hash", "sha1", sha1})
	}
	return all
}

// licenceRef finds the identifiers of licences outside of the list in an expression.
var licenceRef = regexp.MustCompile(`LicenseRef-[^\s()]+`)

// licence relates an element to the expression of its licence.
func (w *writer) licence(id, kind, expression string) {
	if expression == "" {
		return
	}
	to := noneLicence
	if expression != "NONE" {
		e := element{Type: "simplelicensing_LicenseExpression", ID: w.made("licence", expression), LicenseExpression: expression}
		refs := licenceRef.FindAllString(expression, -1)
		slices.Sort(refs)
		for _, ref := range slices.Compact(refs) {
			if w.licences[ref] {
				e.CustomIDs = append(e.CustomIDs, dictionaryEntry{"DictionaryEntry", ref, w.iri(ref)})
			}
		}
		to = w.once(e)
	}
	w.relate(id, kind, "", "", to)
}

// relate adds a relationship.
func (w *writer) relate(from, kind, scope, comment string, to ...string) {
	class := "Relationship"
	if scope != "" {
		class = "LifecycleScopedRelationship"
	}
	id := w.made("relationship", append([]string{from, kind, scope, comment}, to...)...)
	w.once(element{Type: class, ID: id, Comment: comment, From: from, RelationshipType: kind, To: to, Scope: scope})
}

// annotate adds a note about an element.
func (w *writer) annotate(id, text string) {
	if text == "" {
		return
	}
	w.add(element{
		Type: "Annotation", ID: w.made("annotation", id), AnnotationType: "other", ContentType: "application/json", Subject: id, Statement: text,
	})
}

// relations writes those with the same start and kind as one relationship, and those of files that are
// generated as builds.
func (w *writer) relations() {
	type key struct{ from, kind, scope, comment string }
	var order []key
	ends := map[key][]string{}
	builds := w.builds()
	for _, r := range w.from.Relations {
		if ofBuild(r) && (r.Kind == sbom.GeneratedFrom && builds[r.From] || r.Kind == sbom.BuildToolOf && builds[r.To]) {
			continue
		}
		how, from, to, comment := relationship{name: "other"}, w.iri(r.From), w.iri(r.To), r.Comment
		if i := slices.IndexFunc(relationships, func(how relationship) bool { return how.kind == r.Kind }); i >= 0 {
			how = relationships[i]
		} else {
			comment = note.Other(r.Kind, comment)
		}
		if how.turned && r.To != "NONE" && r.To != "NOASSERTION" {
			from, to = to, from
		} else if how.turned {
			// NONE is only an end of a relationship, so the kind that cannot be turned is named.
			how = relationship{name: "other"}
			comment = note.Other(r.Kind, comment)
		}
		k := key{from, how.name, how.scope, comment}
		if ends[k] == nil {
			order = append(order, k)
		}
		ends[k] = append(ends[k], to)
	}
	for _, k := range order {
		w.relate(k.from, k.kind, k.scope, k.comment, ends[k]...)
	}
}

// ofBuild reports whether a build can say the relation: it joins elements of this document and has no
// comment.
func ofBuild(r sbom.Relation) bool {
	for _, id := range []string{r.From, r.To} {
		if id == sbom.DocumentID || id == "NONE" || id == "NOASSERTION" || strings.Contains(id, ":") {
			return false
		}
	}
	return r.Comment == ""
}

// builds writes a build for each element that is generated from others, and returns those elements.
func (w *writer) builds() map[string]bool {
	inputs, tools := map[string][]string{}, map[string][]string{}
	for _, r := range w.from.Relations {
		switch {
		case !ofBuild(r):
		case r.Kind == sbom.GeneratedFrom:
			inputs[r.From] = append(inputs[r.From], w.iri(r.To))
		case r.Kind == sbom.BuildToolOf:
			tools[r.To] = append(tools[r.To], w.iri(r.From))
		}
	}
	built := map[string]bool{}
	for _, id := range slices.Sorted(maps.Keys(inputs)) {
		build := w.add(element{Type: "build_Build", ID: w.made("build", id), BuildType: buildType})
		w.relate(build, "hasInput", "build", "", inputs[id]...)
		w.relate(build, "hasOutput", "build", "", w.iri(id))
		if len(tools[id]) > 0 {
			w.relate(build, "usesTool", "build", "", tools[id]...)
		}
		built[id] = true
	}
	return built
}

func (w *writer) statement(s sbom.Statement) {
	justification := justifications[s.Justification]
	if s.Justification != "" && (justification == "" || s.Status != "not_affected") {
		w.note.Statements = append(w.note.Statements, note.Statement(s))
		return
	}
	kind := "securityOther"
	if strings.HasPrefix(s.Vulnerability, "CVE-") {
		kind = "cve"
	}
	vulnerability := w.once(element{
		Type: "security_Vulnerability", ID: w.made("vulnerability", s.Vulnerability), Name: s.Vulnerability,
		ExternalIdentifier: []externalIdentifier{{"ExternalIdentifier", kind, s.Vulnerability}},
	})
	how := statuses[s.Status]
	e := element{Type: how.class, RelationshipType: how.name, From: vulnerability, VexVersion: vexVersion}
	if s.Origin != "" {
		e.Comment = statedBy + s.Origin
	}
	for _, p := range s.Packages {
		if strings.Contains(p, ":") {
			e.To = append(e.To, p)
		} else {
			e.To = append(e.To, w.iri(p))
		}
	}
	if len(e.To) == 0 {
		e.To = []string{noAssertionElement}
	}
	switch s.Status {
	case "not_affected":
		e.ImpactStatement, e.Justification = s.Text, justification
	case "affected":
		// The class has to have it.
		e.ActionStatement = &s.Text
	default:
		e.StatusNotes = s.Text
	}
	e.ID = w.made("vex", append([]string{s.Vulnerability, s.Status, s.Justification, s.Text, s.Origin}, s.Packages...)...)
	w.add(e)
}

// references returns the imports: the other documents, and those elements of theirs that are named.
func (w *writer) references() []externalMap {
	var all []externalMap
	for _, r := range w.from.References {
		m := externalMap{Type: "ExternalMap", ExternalSpdxID: r.Namespace, LocationHint: r.File, VerifiedUsing: hashes(r.SHA256, r.SHA1)}
		all = append(all, m)
		for _, id := range slices.Sorted(maps.Keys(w.imports)) {
			if w.imports[id] == r.ID {
				m.ExternalSpdxID = id
				all = append(all, m)
			}
		}
		w.note.AddReference(r.ID, note.Reference{Namespace: r.Namespace, Comment: r.Comment})
	}
	return all
}
