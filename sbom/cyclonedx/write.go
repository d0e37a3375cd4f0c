package cyclonedx

import (
	"cmp"
	"encoding/json"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/sbom"
)

// Write writes a document, which is sealed, as CycloneDX 1.6 JSON in one line. The same document gives
// the same bytes. A document that cannot be written is of the kind fault.BadInput, and w gets nothing.
func Write(w io.Writer, d *sbom.Document) error {
	if err := d.Check(); err != nil {
		return fault.Wrap(fault.BadInput, err, "writing the SBOM %q", d.Name)
	}
	out := &writer{from: d, nested: map[string][]int{}, owned: map[string]bool{}, properties: map[string][]cdx.Property{}}
	e := cdx.NewBOMEncoder(w, cdx.BOMFileFormatJSON).SetEscapeHTML(false)
	return fault.Wrap(fault.IO, e.Encode(out.bom()), "writing the SBOM %q", d.Name)
}

type writer struct {
	from *sbom.Document
	// nested are the elements that stand inside of others: positions in Packages, and behind them in
	// Files. owned are their identifiers.
	nested map[string][]int
	owned  map[string]bool
	// properties are those that relations make, by the elements that they start at.
	properties map[string][]cdx.Property
}

func (w *writer) bom() *cdx.BOM {
	d := w.from
	bom := cdx.NewBOM()
	bom.SpecVersion, bom.JSONSchema = cdx.SpecVersion1_6, "http://cyclonedx.org/schema/bom-1.6.schema.json"
	bom.SerialNumber = serial(d.Namespace)
	if m := link.FindStringSubmatch(d.Namespace); m != nil {
		bom.SerialNumber = "urn:uuid:" + m[1]
		bom.Version, _ = strconv.Atoi(m[2])
	}
	w.nest()
	bom.Dependencies = some(w.relations())
	bom.Metadata = w.metadata()
	var components []cdx.Component
	for i := range len(d.Packages) + len(d.Files) {
		if !w.owned[w.id(i)] {
			components = append(components, w.component(i))
		}
	}
	bom.Components = some(components)
	for _, r := range d.References {
		ref := cdx.ExternalReference{Type: cdx.ERTypeBOM, URL: r.Namespace, Comment: r.Comment, Hashes: hashes(r.SHA256, r.SHA1)}
		bom.ExternalReferences = some(append(all(bom.ExternalReferences), ref))
	}
	var vulnerabilities []cdx.Vulnerability
	for _, s := range d.Statements {
		vulnerabilities = append(vulnerabilities, w.vulnerability(s))
	}
	bom.Vulnerabilities = some(vulnerabilities)
	// The model does not say that a document is complete; it does say when something is left out.
	aggregate := cdx.CompositionAggregateUnknown
	if len(d.Omitted) > 0 {
		aggregate = cdx.CompositionAggregateIncomplete
	}
	bom.Compositions = &[]cdx.Composition{{Aggregate: aggregate, Assemblies: &[]cdx.BOMReference{sbom.DocumentID}}}
	return bom
}

// id returns the identifier of the element at a position.
func (w *writer) id(i int) string {
	if i < len(w.from.Packages) {
		return w.from.Packages[i].ID
	}
	return w.from.Files[i-len(w.from.Packages)].ID
}

// nest finds the elements that stand inside of others: those with one owner, not too deep, and not in a
// circle.
func (w *writer) nest() {
	owners := map[string][]string{}
	for _, r := range w.from.Relations {
		if r.Kind == sbom.Contains && r.Comment == "" && component(r.From) && component(r.To) {
			owners[r.To] = append(owners[r.To], r.From)
		}
	}
	for i := range len(w.from.Packages) + len(w.from.Files) {
		id := w.id(i)
		depth := 0
		for at := id; len(owners[at]) == 1 && depth <= maxDepth; depth++ {
			at = owners[at][0]
		}
		if depth > 0 && depth <= maxDepth {
			owner := owners[id][0]
			w.nested[owner] = append(w.nested[owner], i)
			w.owned[id] = true
		}
	}
}

// component reports whether an end of a relation is a component of this document.
func component(id string) bool {
	return id != sbom.DocumentID && id != "NONE" && id != "NOASSERTION" && !strings.Contains(id, ":")
}

// relations returns the dependencies, and makes the other relations properties: of the element that they
// start at, else of the document.
func (w *writer) relations() []cdx.Dependency {
	depends := map[string][]string{}
	for _, r := range w.from.Relations {
		plain := r.Comment == "" && component(r.From) && component(r.To)
		switch {
		case plain && r.Kind == sbom.Contains && w.owned[r.To]:
		case plain && r.Kind == sbom.DependsOn:
			depends[r.From] = append(depends[r.From], r.To)
		default:
			value := strings.TrimSuffix(string(r.Kind)+" "+r.To+" "+r.Comment, " ")
			at := r.From
			if !component(r.From) {
				at, value = "", r.From+" "+value
			}
			w.properties[at] = append(w.properties[at], cdx.Property{Name: propRelation, Value: value})
		}
	}
	var list []cdx.Dependency
	if len(w.from.Roots) > 0 {
		list = append(list, cdx.Dependency{Ref: sbom.DocumentID, Dependencies: &w.from.Roots})
	}
	for i := range len(w.from.Packages) + len(w.from.Files) {
		if on := depends[w.id(i)]; on != nil {
			list = append(list, cdx.Dependency{Ref: w.id(i), Dependencies: &on})
		}
	}
	return list
}

func (w *writer) metadata() *cdx.Metadata {
	d := w.from
	m := &cdx.Metadata{
		Timestamp: d.Created.UTC().Format(time.RFC3339),
		Component: &cdx.Component{BOMRef: sbom.DocumentID, Type: cdx.ComponentTypeFirmware, Name: d.Name, Description: d.Comment},
	}
	var properties []cdx.Property
	say := func(name, value string) {
		properties = append(properties, cdx.Property{Name: name, Value: value})
	}
	say(propNS, d.Namespace)
	var tools []cdx.Component
	var authors []cdx.OrganizationalContact
	for _, c := range d.Creators {
		kind, name, _ := strings.Cut(c, ": ")
		switch {
		case kind == "Tool":
			tools = append(tools, cdx.Component{Type: cdx.ComponentTypeApplication, Name: name})
		case kind == "Person":
			authors = append(authors, cdx.OrganizationalContact{Name: name})
		case kind == "Organization" && m.Manufacturer == nil:
			m.Manufacturer = &cdx.OrganizationalEntity{Name: name}
		default:
			say(propCreator, c)
		}
	}
	if tools != nil {
		m.Tools = &cdx.ToolsChoice{Components: &tools}
	}
	m.Authors = some(authors)
	if s := d.Support; s.Manufacturer != "" {
		m.Component.Manufacturer = &cdx.OrganizationalEntity{Name: s.Manufacturer}
	}
	if contact := d.Support.Contact; contact != "" {
		url := contact
		if !strings.Contains(contact, ":") && strings.Contains(contact, "@") {
			url = "mailto:" + contact
		}
		m.Component.ExternalReferences = &[]cdx.ExternalReference{{Type: cdx.ERTypeSecurityContact, URL: url}}
		say(propContact, contact)
	}
	if d.Support.End != "" {
		say(propSupport, d.Support.End)
	}
	for _, l := range d.Licences {
		say(propLicence, text(map[string]string{"id": l.ID, "name": l.Name, "text": l.Text}))
	}
	for _, r := range d.References {
		say(propRef, text(map[string]string{"id": r.ID, "namespace": r.Namespace, "file": r.File}))
	}
	for _, o := range d.Omitted {
		say(propOmitted, o)
	}
	m.Properties = some(append(properties, w.properties[""]...))
	return m
}

// text returns the JSON of an object, with sorted keys and without those that have no value.
func text(fields map[string]string) string {
	for key, value := range fields {
		if value == "" {
			delete(fields, key)
		}
	}
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	// JSON has strings.
	_ = e.Encode(fields)
	return strings.TrimSpace(b.String())
}

// component returns the element at a position, with those that stand inside of it.
func (w *writer) component(i int) cdx.Component {
	var c cdx.Component
	if i < len(w.from.Packages) {
		c = pack(w.from.Packages[i])
	} else {
		c = file(w.from.Files[i-len(w.from.Packages)])
	}
	var inside []cdx.Component
	for _, j := range w.nested[c.BOMRef] {
		inside = append(inside, w.component(j))
	}
	c.Components = some(inside)
	c.Properties = some(append(all(c.Properties), w.properties[c.BOMRef]...))
	return c
}

func pack(p sbom.Package) cdx.Component {
	c := cdx.Component{
		BOMRef: p.ID, Type: types[p.Purpose], Name: p.Name, Version: p.Version, Description: p.Comment, PackageURL: p.PURL, CPE: p.CPE,
		Copyright: p.Copyright, Hashes: hashes(p.SHA256, p.SHA1), Licenses: licences(p.Declared, cdx.LicenseAcknowledgementDeclared),
	}
	var properties []cdx.Property
	say := func(name, value string) {
		if value != "" {
			properties = append(properties, cdx.Property{Name: name, Value: value})
		}
	}
	if c.Type == "" {
		// A component has to have a type. No purpose is the value "-".
		c.Type = cdx.ComponentTypeLibrary
		say(propPurpose, cmp.Or(string(p.Purpose), "-"))
	}
	if p.Host {
		c.Scope = cdx.ScopeExcluded
	}
	if name, ok := strings.CutPrefix(p.Supplier, "Organization: "); ok && name != "" {
		c.Supplier = &cdx.OrganizationalEntity{Name: name}
	} else {
		say(propSupplier, p.Supplier)
	}
	say(propSource, p.SourceName)
	say(propVersion, p.SourceVersion)
	say(propFileName, p.FileName)
	if p.Download != "" {
		c.ExternalReferences = &[]cdx.ExternalReference{{Type: cdx.ERTypeDistribution, URL: p.Download}}
	}
	var evidence cdx.Evidence
	for _, path := range p.Paths {
		evidence.Occurrences = some(append(all(evidence.Occurrences), cdx.EvidenceOccurrence{Location: path}))
	}
	evidence.Licenses = licences(p.Concluded, cdx.LicenseAcknowledgementConcluded)
	if evidence != (cdx.Evidence{}) {
		c.Evidence = &evidence
	}
	c.Properties = some(properties)
	return c
}

func file(f sbom.File) cdx.Component {
	c := cdx.Component{
		BOMRef: f.ID, Type: cdx.ComponentTypeFile, Name: f.Name, Description: f.Comment, Hashes: hashes(f.SHA256, f.SHA1),
		Licenses: licences(f.Concluded, cdx.LicenseAcknowledgementConcluded),
	}
	if f.Size >= 0 {
		c.Properties = &[]cdx.Property{{Name: propSize, Value: strconv.FormatInt(f.Size, 10)}}
	}
	return c
}

// licences returns an expression. NONE is none, but the name of a licence.
func licences(expression string, said cdx.LicenseAcknowledgement) *cdx.Licenses {
	switch expression {
	case "":
		return nil
	case "NONE":
		return &cdx.Licenses{{License: &cdx.License{Name: expression, Acknowledgement: said}}}
	}
	return &cdx.Licenses{{Expression: expression, Acknowledgement: &said}}
}

func hashes(sha256, sha1 string) *[]cdx.Hash {
	var list []cdx.Hash
	if sha256 != "" {
		list = append(list, cdx.Hash{Algorithm: cdx.HashAlgoSHA256, Value: sha256})
	}
	if sha1 != "" {
		list = append(list, cdx.Hash{Algorithm: cdx.HashAlgoSHA1, Value: sha1})
	}
	return some(list)
}

func (w *writer) vulnerability(s sbom.Statement) cdx.Vulnerability {
	v := cdx.Vulnerability{
		ID:       s.Vulnerability,
		Analysis: &cdx.VulnerabilityAnalysis{State: states[s.Status], Justification: justifications[s.Justification], Detail: s.Text},
	}
	var properties []cdx.Property
	if s.Justification != "" {
		properties = append(properties, cdx.Property{Name: propJustify, Value: s.Justification})
	}
	if s.Origin != "" {
		properties = append(properties, cdx.Property{Name: propOrigin, Value: s.Origin})
	}
	var affects []cdx.Affects
	for _, p := range s.Packages {
		if strings.Contains(p, ":") || slices.ContainsFunc(affects, func(a cdx.Affects) bool { return a.Ref == p }) {
			properties = append(properties, cdx.Property{Name: propAffects, Value: p})
		} else {
			affects = append(affects, cdx.Affects{Ref: p})
		}
	}
	v.Affects, v.Properties = some(affects), some(properties)
	return v
}
