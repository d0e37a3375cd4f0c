package spdx3

import (
	"cmp"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/sbom"
	"github.com/pantavisor/pantavisor/sbom/internal/note"
	"github.com/pantavisor/pantavisor/sbom/licence"
)

const (
	// maxSize is the most of a document that is read, in bytes. An image's document of OpenEmbedded,
	// without the sources, has a tenth of it.
	maxSize = 128 << 20
	// maxPairs is the most relations that one build is turned into: each of its outputs is generated
	// from each of its inputs.
	maxPairs = 100_000
	// maxRelations is the most that all builds are turned into.
	maxRelations = 1_000_000
)

// Read reads a document of SPDX 3.0 in JSON-LD and seals it. Identifiers of its elements follow from
// their IRIs. What the model has no field for is counted in Omitted, and so are relationships with
// elements that do not exist. Errors are of the kind fault.BadInput.
func Read(r io.Reader) (*sbom.Document, error) {
	data, err := bounded.Read(r, maxSize)
	if err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "reading an SPDX 3 document")
	}
	g, err := parse(data)
	if err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "reading an SPDX 3 document")
	}
	in := &reader{
		graph: g, to: &sbom.Document{}, omitted: map[string]int{}, elements: map[string]bool{}, builds: map[string]*build{},
		outside: map[string]string{}, texts: map[string]string{}, taken: map[string]bool{}, packages: map[string]int{}, files: map[string]int{},
	}
	if err := in.document(); err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "reading the SPDX 3 document %q", in.to.Name)
	}
	return in.to, nil
}

// build is a build_Build.
type build struct {
	native                 bool
	inputs, outputs, tools []string
}

type reader struct {
	*graph
	to   *sbom.Document
	note note.Document
	// elements are the identifiers of packages and files, and packages and files their positions.
	elements        map[string]bool
	packages, files map[string]int
	builds          map[string]*build
	// outside are the ends of relations that are elements of other documents, by their IRIs.
	outside map[string]string
	// texts are the identifiers of licences by the IRIs of their texts, and taken those that are in use.
	texts map[string]string
	taken map[string]bool
	// omitted counts what is not kept, by kind.
	omitted map[string]int
}

func (r *reader) document() error {
	var doc, bom node
	var id string
	for _, i := range r.order {
		switch n := r.nodes[i]; n.text("type") {
		case "SpdxDocument":
			if doc != nil {
				return fmt.Errorf("it has two elements of type SpdxDocument: %q and %q", id, i)
			}
			doc, id = n, i
		case "software_Sbom", "Bom", "Bundle":
			bom = n
		}
	}
	if doc == nil {
		return fmt.Errorf("it has no element of type SpdxDocument")
	}
	r.to.Namespace = id
	r.to.Name, r.to.Comment = cmp.Or(doc.text("name"), bom.text("name")), doc.text("comment")
	if err := r.creation(doc); err != nil {
		return err
	}
	r.notes()
	r.imports(doc)
	r.licenceTexts()
	for _, i := range r.order {
		r.element(i, r.nodes[i])
	}
	for _, i := range r.order {
		r.relationship(i, r.nodes[i])
	}
	r.generated()
	for _, e := range doc.objects("extension") {
		if e[isNative] == true {
			for i := range r.to.Packages {
				r.to.Packages[i].Host = true
			}
		}
	}
	r.roots(doc)
	r.rest()
	if err := r.to.Check(); err != nil {
		return err
	}
	r.to.Seal()
	return nil
}

// creation reads the creation information of the document.
func (r *reader) creation(doc node) error {
	info := r.nodes[doc.text("creationInfo")]
	if info == nil {
		return fmt.Errorf("it has no CreationInfo %q", doc.text("creationInfo"))
	}
	if v := info.text("specVersion"); !strings.HasPrefix(v, "3.0.") {
		return fmt.Errorf("specVersion is %q; 3.0.x is read here", v)
	}
	created, err := time.Parse(time.RFC3339, info.text("created"))
	if err != nil {
		return fmt.Errorf("created: %w", err)
	}
	r.to.Created = created.UTC()
	for _, id := range append(info.texts("createdBy"), info.texts("createdUsing")...) {
		if n := r.nodes[id]; n != nil {
			r.to.Creators = append(r.to.Creators, agent(n, "Tool: "))
		}
	}
	return nil
}

// agent returns an agent or tool in SPDX 2.3's form; other is for those that are neither an
// organisation nor a person.
func agent(n node, other string) string {
	switch n.text("type") {
	case "Organization", "Person":
		return n.text("type") + ": " + n.text("name")
	}
	return other + n.text("name")
}

// notes reads our annotation of the document.
func (r *reader) notes() {
	for _, i := range r.order {
		if n := r.nodes[i]; n.text("type") == "Annotation" && n.text("subject") == r.to.Namespace {
			note.Decode(note.Author, n.text("statement"), &r.note)
		}
	}
}

// name returns the identifier of an element of this document.
func (r *reader) name(iri string) string {
	if id, ok := strings.CutPrefix(iri, r.to.Namespace+"#"); ok {
		return sbom.Identifier(id)
	}
	return sbom.Identifier(iri)
}

// imports reads the references to other documents. Those of ours are in the note; of others each
// external element is one.
func (r *reader) imports(doc node) {
	byNamespace := map[string]*sbom.Reference{}
	for id, n := range r.note.References {
		byNamespace[n.Namespace] = &sbom.Reference{ID: id, Namespace: n.Namespace, Comment: n.Comment}
	}
	for _, m := range doc.objects("import") {
		iri := m.text("externalSpdxId")
		namespace, element, found := strings.Cut(iri, "#")
		ref := byNamespace[namespace]
		if ref == nil || found && element == "" {
			namespace, element = iri, ""
			if ref = byNamespace[iri]; ref == nil {
				ref = &sbom.Reference{ID: "DocumentRef-" + sbom.Identifier(iri), Namespace: iri}
				byNamespace[iri] = ref
			}
		}
		r.outside[iri] = ref.ID + ":" + cmp.Or(element, sbom.DocumentID)
		if namespace == iri || ref.File == "" && ref.SHA256 == "" && ref.SHA1 == "" {
			ref.File, ref.SHA256, ref.SHA1 = m.text("locationHint"), r.digest(m, "sha256"), r.digest(m, "sha1")
		}
	}
	for _, ref := range byNamespace {
		r.to.References = append(r.to.References, *ref)
	}
}

// digest returns a digest of an element, if it can be one.
func (r *reader) digest(n node, algorithm string) string {
	for _, h := range n.objects("verifiedUsing") {
		if h.text("algorithm") != algorithm {
			continue
		}
		value := strings.ToLower(h.text("hashValue"))
		if algorithm == "sha256" && sbom.IsSHA256(value) || algorithm == "sha1" && sbom.IsSHA1(value) {
			return value
		}
		r.omitted["digests that cannot be one"]++
	}
	return ""
}

// count counts values that are not kept.
func (r *reader) count(n node, what string, keys ...string) {
	for _, key := range keys {
		if c := len(n.list(key)); c > 0 {
			r.omitted[what+": "+key] += c
		}
	}
}

// licenceTexts reads the texts of licences. Their identifiers are those that the expressions give them,
// or for ours those of the model.
func (r *reader) licenceTexts() {
	for _, i := range r.order {
		n := r.nodes[i]
		if n.text("type") != "simplelicensing_LicenseExpression" {
			continue
		}
		for _, e := range n.objects("simplelicensing_customIdToUri") {
			r.licenceText(e.text("key"), e.text("value"))
		}
	}
	for _, i := range r.order {
		if r.nodes[i].text("type") == "simplelicensing_SimpleLicensingText" {
			r.licenceText(strings.TrimPrefix(i, r.to.Namespace+"#"), i)
		}
	}
}

// licenceText returns the identifier of a text, which is key unless another text has it.
func (r *reader) licenceText(key, iri string) string {
	n := r.nodes[iri]
	if n == nil {
		return key
	}
	if id := r.texts[iri]; id != "" {
		return id
	}
	l := sbom.Licence{ID: key, Name: n.text("name"), Text: n.text("simplelicensing_licenseText")}
	if !strings.HasPrefix(key, "LicenseRef-") || strings.ContainsAny(key, " ()\t\n") || r.taken[key] {
		l.ID = sbom.LicenceID(l.Name, l.Text+iri)
	}
	r.taken[l.ID] = true
	r.texts[iri] = l.ID
	r.to.Licences = append(r.to.Licences, l)
	return l.ID
}

// expression returns the expression of an end of a licence relationship.
func (r *reader) expression(iri string) string {
	n := r.nodes[iri]
	switch {
	case iri == noneLicence || iri == noneElement || strings.HasSuffix(iri, "/NoneLicense"):
		return "NONE"
	case iri == noAssertionLicence || iri == noAssertionElement || strings.HasSuffix(iri, "/NoAssertionLicense"):
		return ""
	case n == nil:
		if id, ok := strings.CutPrefix(iri, "https://spdx.org/licenses/"); ok {
			return id
		}
		r.omitted["licences that do not exist"]++
		return ""
	case n.text("type") == "simplelicensing_SimpleLicensingText":
		return r.licenceText("", iri)
	case n.text("type") != "simplelicensing_LicenseExpression":
		r.omitted["licences of type "+n.text("type")]++
		return ""
	}
	text := n.text("simplelicensing_licenseExpression")
	ids := map[string]string{}
	for _, e := range n.objects("simplelicensing_customIdToUri") {
		ids[e.text("key")] = r.licenceText(e.text("key"), e.text("value"))
	}
	return licenceRef.ReplaceAllStringFunc(text, func(id string) string { return cmp.Or(ids[id], id) })
}

// isNative is OpenEmbedded's property of the document of a recipe of host tools.
const isNative = "https://rdf.openembedded.org/spdx/3.0/is-native"

// native is the form of the names of OpenEmbedded's builds of host tools.
var native = regexp.MustCompile(`^(?:nativesdk-[^:]*|[^:]*-native|[^:]*-cross(?:-[^:]*)?):do_`)

// element reads packages, files and builds.
func (r *reader) element(id string, n node) {
	switch class := n.text("type"); class {
	case "software_Package", "ai_AIPackage", "dataset_DatasetPackage":
		r.pack(id, n)
	case "software_File":
		r.file(id, n)
	case "build_Build":
		r.builds[id] = &build{native: native.MatchString(n.text("name"))}
	case "CreationInfo", "SpdxDocument", "software_Sbom", "Bom", "Bundle", "Agent", "Organization", "Person", "SoftwareAgent", "Tool",
		"simplelicensing_LicenseExpression", "simplelicensing_SimpleLicensingText", "Annotation", "security_Vulnerability":
	default:
		if !strings.HasSuffix(class, "Relationship") {
			r.omitted["elements of type "+class]++
		}
	}
}

func (r *reader) pack(id string, n node) {
	p := sbom.Package{
		ID: r.name(id), Name: n.text("name"), Version: n.text("software_packageVersion"), PURL: n.text("software_packageUrl"),
		Purpose: purpose(n.text("software_primaryPurpose")), Download: n.text("software_downloadLocation"),
		Copyright: n.text("software_copyrightText"), Comment: n.text("comment"),
		SHA256: r.digest(n, "sha256"), SHA1: r.digest(n, "sha1"),
	}
	if a := r.nodes[n.text("suppliedBy")]; a != nil {
		p.Supplier = agent(a, "")
	}
	for _, e := range n.objects("externalIdentifier") {
		switch kind := e.text("externalIdentifierType"); {
		case kind == "cpe23" && p.CPE == "":
			p.CPE = e.text("identifier")
		case kind == "packageUrl" && p.PURL == "":
			p.PURL = e.text("identifier")
		default:
			r.omitted["packages: externalIdentifier "+kind]++
		}
	}
	if m := sourcePackage.FindStringSubmatch(n.text("software_sourceInfo")); m != nil {
		p.SourceName, p.SourceVersion = m[1], m[2]
	} else {
		r.count(n, "packages", "software_sourceInfo")
	}
	r.count(n, "packages", "software_homePage", "summary", "description", "externalRef", "originatedBy", "builtTime", "releaseTime",
		"software_additionalPurpose", "software_attributionText", "software_contentIdentifier")
	r.elements[p.ID] = true
	r.packages[id] = len(r.to.Packages)
	r.to.Packages = append(r.to.Packages, p)
}

func (r *reader) file(id string, n node) {
	f := sbom.File{
		ID: r.name(id), Name: n.text("name"), SHA256: r.digest(n, "sha256"), SHA1: r.digest(n, "sha1"), Size: -1, Comment: n.text("comment"),
	}
	if size := r.note.Files[f.ID].Size; size != nil {
		f.Size = *size
	}
	r.count(n, "files", "software_primaryPurpose", "software_additionalPurpose", "software_copyrightText", "contentType", "builtTime",
		"summary", "description", "software_contentIdentifier")
	r.elements[f.ID] = true
	r.files[id] = len(r.to.Files)
	r.to.Files = append(r.to.Files, f)
}

// end returns the identifier of an end of a relation, or nothing if it does not exist.
func (r *reader) end(iri string) string {
	switch {
	case iri == r.to.Namespace:
		return sbom.DocumentID
	case iri == noneElement || strings.HasSuffix(iri, "/NoneElement"):
		return "NONE"
	case iri == noAssertionElement || strings.HasSuffix(iri, "/NoAssertionElement"):
		return "NOASSERTION"
	case r.outside[iri] != "":
		return r.outside[iri]
	}
	if id := r.name(iri); r.elements[id] {
		return id
	}
	return ""
}

// relationship reads relationships of all classes, and the notes of packages.
func (r *reader) relationship(id string, n node) {
	class, kind := n.text("type"), n.text("relationshipType")
	switch {
	case class == "Annotation":
		r.annotation(n)
	case strings.HasPrefix(class, "security_Vex"):
		r.vex(n, class)
	case class != "Relationship" && class != "LifecycleScopedRelationship":
		if strings.HasSuffix(class, "Relationship") {
			r.omitted["elements of type "+class]++
		}
	case kind == "hasDeclaredLicense" || kind == "hasConcludedLicense":
		r.licensed(n, kind)
	case r.builds[n.text("from")] != nil:
		r.built(r.builds[n.text("from")], n, kind)
	case kind == "hasAssociatedVulnerability":
		// OpenEmbedded writes it beside the statement of each vulnerability.
	default:
		r.relation(n, kind)
	}
}

// annotation reads an annotation of a package.
func (r *reader) annotation(n node) {
	i, ok := r.packages[n.text("subject")]
	var text note.Package
	if !ok || !note.Decode(note.Author, n.text("statement"), &text) {
		if n.text("subject") != r.to.Namespace {
			r.omitted["annotations"]++
		}
		return
	}
	p := &r.to.Packages[i]
	p.Paths, p.Host, p.FileName = text.Paths, text.Host, text.FileName
	p.SourceName, p.SourceVersion = cmp.Or(p.SourceName, text.SourceName), cmp.Or(p.SourceVersion, text.SourceVersion)
	p.Purpose = cmp.Or(sbom.Purpose(text.Purpose), p.Purpose)
}

func (r *reader) licensed(n node, kind string) {
	var all []string
	for _, iri := range n.texts("to") {
		all = append(all, r.expression(iri))
	}
	expression := licence.And(all...)
	if len(all) == 1 {
		// One alone is kept as it was written.
		expression = all[0]
	}
	from := n.text("from")
	if i, ok := r.packages[from]; ok {
		p := &r.to.Packages[i]
		if kind == "hasDeclaredLicense" {
			p.Declared = cmp.Or(p.Declared, expression)
		} else {
			p.Concluded = cmp.Or(p.Concluded, expression)
		}
	} else if i, ok := r.files[from]; ok && kind == "hasConcludedLicense" {
		r.to.Files[i].Concluded = cmp.Or(r.to.Files[i].Concluded, expression)
	} else {
		r.omitted["relationships "+kind+" of other elements than packages and files"]++
	}
}

// built reads what goes into a build and comes out of it.
func (r *reader) built(b *build, n node, kind string) {
	var list *[]string
	switch kind {
	case "hasInput":
		list = &b.inputs
	case "hasOutput":
		list = &b.outputs
	case "usesTool":
		list = &b.tools
	default:
		r.omitted["relationships "+kind+" of builds"]++
		return
	}
	for _, iri := range n.texts("to") {
		if id := r.end(iri); r.elements[id] {
			*list = append(*list, id)
		} else {
			r.omitted["relationships "+kind+" with elements that do not exist"]++
		}
	}
}

// generated turns the builds into relations, and marks what only builds of host tools take.
func (r *reader) generated() {
	host, target := map[string]bool{}, map[string]bool{}
	made := 0 // relations
	for _, i := range r.order {
		b := r.builds[i]
		if b == nil {
			continue
		}
		taken := target
		if b.native {
			taken = host
		}
		for _, id := range append(b.inputs, b.outputs...) {
			taken[id] = true
		}
		pairs := len(b.outputs) * (len(b.inputs) + len(b.tools))
		if pairs > maxPairs {
			r.omitted[fmt.Sprintf("builds with more than %d pairs of input and output", maxPairs)]++
			continue
		}
		if made += pairs; made > maxRelations {
			r.omitted[fmt.Sprintf("builds after those with %d pairs of input and output", maxRelations)]++
			continue
		}
		for _, out := range b.outputs {
			r.to.Relate(out, sbom.GeneratedFrom, b.inputs...)
			for _, tool := range b.tools {
				r.to.Relate(tool, sbom.BuildToolOf, out)
			}
		}
	}
	for i := range r.to.Packages {
		p := &r.to.Packages[i]
		p.Host = p.Host || host[p.ID] && !target[p.ID]
	}
}

func (r *reader) vex(n node, class string) {
	for status, how := range statuses {
		if how.class != class {
			continue
		}
		s := sbom.Statement{
			Vulnerability: r.vulnerability(n.text("from")), Status: status,
			Text: cmp.Or(n.text("security_impactStatement"), n.text("security_actionStatement"), n.text("security_statusNotes")),
		}
		for theirs, name := range justifications {
			if name == n.text("security_justificationType") {
				s.Justification = theirs
			}
		}
		s.Origin, _ = strings.CutPrefix(n.text("comment"), statedBy)
		for _, iri := range n.texts("to") {
			if id := r.end(iri); r.elements[id] {
				s.Packages = append(s.Packages, id)
			} else if strings.HasPrefix(iri, "pkg:") {
				s.Packages = append(s.Packages, iri)
			}
		}
		r.to.Statements = append(r.to.Statements, s)
		return
	}
	r.omitted["elements of type "+class]++
}

// vulnerability returns the name of a vulnerability.
func (r *reader) vulnerability(iri string) string {
	n := r.nodes[iri]
	for _, kind := range []string{"cve", "securityOther"} {
		for _, e := range n.objects("externalIdentifier") {
			if e.text("externalIdentifierType") == kind {
				return e.text("identifier")
			}
		}
	}
	return cmp.Or(n.text("name"), iri[strings.LastIndexAny(iri, "/#")+1:])
}

// relation reads a relationship between packages, files and documents.
func (r *reader) relation(n node, kind string) {
	how := relationship{kind: "OTHER"}
	for _, known := range relationships {
		// One of a scope that is not known here is taken for one without.
		if known.name == kind && (known.scope == n.text("scope") || known.scope == "" && how.name == "") {
			how = known
		}
	}
	comment := n.text("comment")
	if kind == "other" {
		how.kind, comment = note.ParseOther(comment)
	} else if how.kind == "OTHER" {
		how.kind = note.Kind(capital.ReplaceAllString(kind, "_$0"))
	}
	from := r.end(n.text("from"))
	for _, iri := range n.texts("to") {
		rel := sbom.Relation{From: from, Kind: how.kind, To: r.end(iri), Comment: comment}
		if how.turned {
			rel.From, rel.To = rel.To, rel.From
		}
		if rel.From == "" || rel.To == "" || rel.From == "NONE" || rel.From == "NOASSERTION" {
			r.omitted["relationships "+kind+" with elements that do not exist"]++
			continue
		}
		r.to.Relations = append(r.to.Relations, rel)
	}
}

// roots reads what the document is about: its own roots, or those of its bill of materials.
func (r *reader) roots(doc node) {
	for _, iri := range doc.texts("rootElement") {
		roots := []string{iri}
		switch n := r.nodes[iri]; n.text("type") {
		case "software_Sbom", "Bom", "Bundle":
			roots = n.texts("rootElement")
		}
		for _, iri := range roots {
			if id := r.end(iri); r.elements[id] {
				r.to.Roots = append(r.to.Roots, id)
			}
		}
	}
}

// rest reads what the note of the document says, and lists what was not kept.
func (r *reader) rest() {
	if s := r.note.Support; s != nil {
		r.to.Support = *s
	} else {
		r.validUntil()
	}
	for _, s := range r.note.Statements {
		r.to.Statements = append(r.to.Statements, sbom.Statement(s))
	}
	r.to.Omitted = r.note.Omitted
	for what, count := range r.omitted {
		r.to.Omitted = append(r.to.Omitted, fmt.Sprintf("%s: %d", what, count))
	}
}

// validUntil takes the end of support from an element that the document describes.
func (r *reader) validUntil() {
	for _, i := range r.order {
		until := r.nodes[i].text("validUntilTime")
		if until == "" || !slices.Contains(r.to.Roots, r.name(i)) {
			continue
		}
		if day, err := time.Parse(time.RFC3339, until); err == nil {
			r.to.Support.End = day.UTC().Format(time.DateOnly)
			return
		}
	}
}
