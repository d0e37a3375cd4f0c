package cyclonedx

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"

	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/sbom"
	"github.com/pantavisor/pantavisor/sbom/internal/note"
	"github.com/pantavisor/pantavisor/sbom/licence"
)

// maxSize is the most of a document that is read, in bytes.
const maxSize = 128 << 20

// Read reads a document of CycloneDX 1.2 to 1.7 in JSON and seals it. The namespace of a document of
// another tool is its BOM-Link, or made of its SHA-256 when it has no serial number. What the model has no field for is counted in Omitted. Errors are of the
// kind fault.BadInput.
//
// Buildroot's documents say with the property BR_TYPE which components are host tools.
func Read(r io.Reader) (*sbom.Document, error) {
	data, err := bounded.Read(r, maxSize)
	if err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "reading a CycloneDX document")
	}
	bom, err := decode(data)
	if err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "reading a CycloneDX document")
	}
	sum := sha256.Sum256(data)
	in := &reader{from: bom, digest256: hex.EncodeToString(sum[:]), to: &sbom.Document{}, ids: map[string]string{}, texts: map[string]bool{}, named: map[string][]int{}, omitted: map[string]int{}}
	if err := in.document(); err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "reading the CycloneDX document %q", in.to.Name)
	}
	return in.to, nil
}

// decode parses the JSON, which the library also does when the format or the version is another.
func decode(data []byte) (*cdx.BOM, error) {
	var probe struct {
		Format  string `json:"bomFormat"`
		Version string `json:"specVersion"`
	}
	if err := json.Unmarshal(data, &probe); err != nil {
		return nil, err
	}
	switch {
	case probe.Format != cdx.BOMFormat:
		return nil, fmt.Errorf("bomFormat is %q, not %q", probe.Format, cdx.BOMFormat)
	case !slices.Contains([]string{"1.2", "1.3", "1.4", "1.5", "1.6", "1.7"}, probe.Version):
		return nil, fmt.Errorf("specVersion is %q; 1.2 to 1.7 are read here", probe.Version)
	}
	var bom cdx.BOM
	if err := cdx.NewBOMDecoder(bytes.NewReader(data), cdx.BOMFileFormatJSON).Decode(&bom); err != nil {
		return nil, err
	}
	return &bom, nil
}

type reader struct {
	from *cdx.BOM
	// digest256 is the SHA-256 of the text.
	digest256 string
	to        *sbom.Document
	// ids are the identifiers of elements by their references.
	ids map[string]string
	// own says that the document is one of ours: its component stands for the document.
	own bool
	// texts are the identifiers of licences, and named the positions of references that no properties
	// have completed, by namespace.
	texts map[string]bool
	named map[string][]int
	// late are relations in properties, which are read when all elements are known.
	late []lateRelation
	// omitted counts what is not kept, by kind.
	omitted map[string]int
}

type lateRelation struct{ from, text string }

// known are the identifiers that relations may name beside those of elements.
var known = []string{sbom.DocumentID, "NONE", "NOASSERTION"}

func (r *reader) document() error {
	bom := r.from
	if bom.Metadata == nil {
		bom.Metadata = &cdx.Metadata{}
	}
	if err := r.metadata(bom.Metadata); err != nil {
		return err
	}
	for _, c := range all(bom.Components) {
		if err := r.component(c, ""); err != nil {
			return err
		}
	}
	r.references()
	r.dependencies()
	r.relations()
	for _, v := range all(bom.Vulnerabilities) {
		r.vulnerability(v)
	}
	r.omitted["services"] += len(all(bom.Services))
	r.omitted["annotations"] += len(all(bom.Annotations))
	r.omitted["formulation"] += len(all(bom.Formulation))
	r.omitted["properties"] += len(all(bom.Properties))
	for what, count := range r.omitted {
		if count > 0 {
			r.to.Omitted = append(r.to.Omitted, fmt.Sprintf("%s: %d", what, count))
		}
	}
	if err := r.to.Check(); err != nil {
		return err
	}
	r.to.Seal()
	return nil
}

func (r *reader) metadata(m *cdx.Metadata) error {
	r.to.Namespace = "urn:sha256:" + r.digest256
	if number, ok := strings.CutPrefix(r.from.SerialNumber, "urn:uuid:"); ok {
		r.to.Namespace = fmt.Sprintf("urn:cdx:%s/%d", strings.ToLower(number), max(r.from.Version, 1))
	}
	r.to.Created = time.Unix(0, 0).UTC()
	if m.Timestamp != "" {
		created, err := time.Parse(time.RFC3339, m.Timestamp)
		if err != nil {
			return fmt.Errorf("metadata: timestamp: %w", err)
		}
		r.to.Created = created.UTC()
	}
	r.creators(m)
	r.to.Name = "CycloneDX"
	if m.Component == nil {
		return nil
	}
	r.own = m.Component.BOMRef == sbom.DocumentID && len(property(m.Properties, propNS)) == 1
	r.to.Name = m.Component.Name
	if !r.own {
		if err := r.component(*m.Component, ""); err != nil {
			return err
		}
		r.to.Roots = slices.Collect(firstOf(r.to.Packages, r.to.Files))
		return nil
	}
	r.to.Namespace = property(m.Properties, propNS)[0]
	r.to.Comment = m.Component.Description
	if e := m.Component.Manufacturer; e != nil {
		r.to.Support.Manufacturer = e.Name
	}
	return r.properties(m.Properties)
}

// firstOf yields the identifier of the first element that there is.
func firstOf(packages []sbom.Package, files []sbom.File) func(func(string) bool) {
	return func(yield func(string) bool) {
		if len(packages) > 0 {
			yield(packages[0].ID)
		} else if len(files) > 0 {
			yield(files[0].ID)
		}
	}
}

func (r *reader) creators(m *cdx.Metadata) {
	if m.Tools != nil {
		for _, t := range all(m.Tools.Components) {
			r.creator("Tool", strings.TrimSuffix(t.Name+"-"+t.Version, "-"))
		}
		for _, t := range all(m.Tools.Tools) {
			r.creator("Tool", strings.TrimSuffix(t.Name+"-"+t.Version, "-"))
		}
	}
	for _, a := range all(m.Authors) {
		name := a.Name
		if a.Email != "" {
			name += " (" + a.Email + ")"
		}
		r.creator("Person", name)
	}
	for _, e := range []*cdx.OrganizationalEntity{m.Manufacturer, m.Manufacture} {
		if e != nil {
			r.creator("Organization", e.Name)
		}
	}
}

// creator adds a creator in SPDX's form.
func (r *reader) creator(kind, name string) {
	if name = strings.TrimSpace(name); name != "" {
		r.to.Creators = append(r.to.Creators, kind+": "+name)
	}
}

// properties reads those that our documents have.
func (r *reader) properties(list *[]cdx.Property) error {
	for _, p := range all(list) {
		fields := map[string]string{}
		if p.Name == propLicence || p.Name == propRef {
			if err := json.Unmarshal([]byte(p.Value), &fields); err != nil {
				return fmt.Errorf("property %s: %w", p.Name, err)
			}
		}
		switch p.Name {
		case propCreator:
			r.to.Creators = append(r.to.Creators, p.Value)
		case propOmitted:
			r.to.Omitted = append(r.to.Omitted, p.Value)
		case propSupport:
			r.to.Support.End = p.Value
		case propContact:
			r.to.Support.Contact = p.Value
		case propLicence:
			r.texts[fields["id"]] = true
			r.to.Licences = append(r.to.Licences, sbom.Licence{ID: fields["id"], Name: fields["name"], Text: fields["text"]})
		case propRef:
			r.to.References = append(r.to.References, sbom.Reference{ID: fields["id"], Namespace: fields["namespace"], File: fields["file"]})
		case propRelation:
			from, text, _ := strings.Cut(p.Value, " ")
			r.late = append(r.late, lateRelation{from, text})
		}
	}
	return nil
}

// component reads a package or file, and those that stand inside of it.
func (r *reader) component(c cdx.Component, owner string) error {
	var id string
	if c.Type == cdx.ComponentTypeFile {
		id = r.to.AddFile(r.file(c))
	} else {
		id = r.to.AddPackage(r.pack(c))
	}
	ref := cmp.Or(c.BOMRef, id)
	if _, twice := r.ids[ref]; twice {
		return fmt.Errorf("component %q: is there twice", ref)
	}
	r.ids[ref] = id
	if owner != "" {
		r.to.Relate(owner, sbom.Contains, id)
	}
	for _, text := range property(c.Properties, propRelation) {
		r.late = append(r.late, lateRelation{id, text})
	}
	r.pedigree(c, id)
	for _, inside := range all(c.Components) {
		if err := r.component(inside, id); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) pack(c cdx.Component) sbom.Package {
	p := sbom.Package{
		ID: sbom.Identifier(c.BOMRef), Name: c.Name, Version: c.Version, Comment: c.Description, PURL: c.PackageURL, CPE: c.CPE,
		Copyright: c.Copyright, SHA256: r.digest(c.Hashes, cdx.HashAlgoSHA256), SHA1: r.digest(c.Hashes, cdx.HashAlgoSHA1),
		Host:    c.Scope == cdx.ScopeExcluded || slices.Contains(property(c.Properties, "BR_TYPE"), "host"),
		Purpose: sbom.Purpose(strings.ToUpper(string(c.Type))),
	}
	if c.Group != "" {
		p.Name = c.Group + "/" + c.Name
	}
	if c.Supplier != nil && c.Supplier.Name != "" {
		p.Supplier = "Organization: " + c.Supplier.Name
	}
	r.download(c, &p)
	p.Declared, p.Concluded = r.licences(c.Licenses)
	if c.Evidence != nil {
		r.evidence(*c.Evidence, &p)
	}
	for _, set := range []struct {
		name string
		to   *string
	}{
		{propSupplier, &p.Supplier}, {propSource, &p.SourceName}, {propVersion, &p.SourceVersion}, {propFileName, &p.FileName},
		{propPurpose, (*string)(&p.Purpose)},
	} {
		for _, value := range property(c.Properties, set.name) {
			*set.to = value
		}
	}
	if p.Purpose == "-" {
		p.Purpose = ""
	}
	for _, q := range all(c.Properties) {
		if !strings.HasPrefix(q.Name, prefix) && q.Name != "BR_TYPE" {
			r.omitted["components: properties"]++
		}
	}
	return p
}

// download reads where a package comes from.
func (r *reader) download(c cdx.Component, p *sbom.Package) {
	for _, e := range all(c.ExternalReferences) {
		if p.Download != "" || e.Type != cdx.ERTypeDistribution && e.Type != cdx.ERTypeSourceDistribution {
			r.omitted["components: externalReferences"]++
			continue
		}
		p.Download = e.URL
		if p.SHA256 == "" {
			// Buildroot names the archive of the source, whose digest is that of the package as well.
			p.SHA256 = r.digest(e.Hashes, cdx.HashAlgoSHA256)
		}
	}
}

// evidence reads the paths of a package, and the licence that was found.
func (r *reader) evidence(e cdx.Evidence, p *sbom.Package) {
	for _, o := range all(e.Occurrences) {
		p.Paths = append(p.Paths, o.Location)
	}
	declared, concluded := r.licences(e.Licenses)
	p.Concluded = cmp.Or(p.Concluded, concluded, declared)
	r.omitted["components: evidence: copyright"] += len(all(e.Copyright))
}

func (r *reader) file(c cdx.Component) sbom.File {
	f := sbom.File{
		ID: sbom.Identifier(c.BOMRef), Name: c.Name, Comment: c.Description, Size: -1,
		SHA256: r.digest(c.Hashes, cdx.HashAlgoSHA256), SHA1: r.digest(c.Hashes, cdx.HashAlgoSHA1),
	}
	declared, concluded := r.licences(c.Licenses)
	f.Concluded = cmp.Or(concluded, declared)
	for _, value := range property(c.Properties, propSize) {
		if size, err := strconv.ParseInt(value, 10, 64); err == nil && size >= 0 {
			f.Size = size
		}
	}
	return f
}

// digest returns the digest of an algorithm, if it can be one.
func (r *reader) digest(list *[]cdx.Hash, algorithm cdx.HashAlgorithm) string {
	for _, h := range all(list) {
		if h.Algorithm != algorithm {
			continue
		}
		value := strings.ToLower(h.Value)
		if algorithm == cdx.HashAlgoSHA256 && sbom.IsSHA256(value) || algorithm == cdx.HashAlgoSHA1 && sbom.IsSHA1(value) {
			return value
		}
		r.omitted["digests that cannot be one"]++
	}
	return ""
}

// licences returns the expression of the licences of a component, as the one that is declared or the one
// that is concluded. In a list all hold. A free name becomes a licence of the document.
func (r *reader) licences(list *cdx.Licenses) (declared, concluded string) {
	if list == nil {
		return "", ""
	}
	var said cdx.LicenseAcknowledgement
	var terms []string
	for _, l := range *list {
		switch {
		case l.Expression != "":
			terms = append(terms, l.Expression)
			if l.Acknowledgement != nil {
				said = *l.Acknowledgement
			}
		case l.License == nil:
			continue
		case l.License.ID != "":
			terms = append(terms, l.License.ID)
			said = l.License.Acknowledgement
		case l.License.Name == "NONE":
			terms, said = append(terms, "NONE"), l.License.Acknowledgement
		case l.License.Name != "":
			terms, said = append(terms, r.free(*l.License)), l.License.Acknowledgement
		}
	}
	expression := ""
	if len(terms) == 1 {
		expression = terms[0]
	} else {
		expression = licence.And(terms...)
	}
	if said == cdx.LicenseAcknowledgementConcluded {
		return "", expression
	}
	return expression, ""
}

// free adds a licence with a name that is not an identifier.
func (r *reader) free(l cdx.License) string {
	text := l.Name
	if l.Text != nil && l.Text.Encoding == "" {
		text = l.Text.Content
	} else if l.Text != nil {
		r.omitted["licences: encoded text"]++
	}
	id := sbom.LicenceID(l.Name, text)
	if !r.texts[id] {
		r.texts[id] = true
		r.to.Licences = append(r.to.Licences, sbom.Licence{ID: id, Name: l.Name, Text: text})
	}
	return id
}

// pedigree reads which vulnerabilities the patches of a component fix.
func (r *reader) pedigree(c cdx.Component, id string) {
	if c.Pedigree == nil {
		return
	}
	for _, p := range all(c.Pedigree.Patches) {
		r.omitted["components: patches"]++
		for _, issue := range all(p.Resolves) {
			if issue.Type == cdx.IssueTypeSecurity && issue.ID != "" {
				r.to.Statements = append(r.to.Statements, sbom.Statement{
					Vulnerability: issue.ID, Status: "fixed", Packages: []string{id}, Text: "A patch fixes it.",
				})
			}
		}
	}
}

// references reads the other documents that are named. Those of our documents are known from their
// properties.
func (r *reader) references() {
	for i, ref := range r.to.References {
		r.named[ref.Namespace] = append(r.named[ref.Namespace], i)
	}
	for _, e := range all(r.from.ExternalReferences) {
		if e.Type != cdx.ERTypeBOM {
			r.omitted["externalReferences"]++
			continue
		}
		if len(r.named[e.URL]) == 0 {
			r.named[e.URL] = []int{len(r.to.References)}
			r.to.References = append(r.to.References, sbom.Reference{ID: "DocumentRef-" + sbom.Identifier(e.URL), Namespace: e.URL})
		}
		ref := &r.to.References[r.named[e.URL][0]]
		ref.Comment, ref.SHA256, ref.SHA1 = e.Comment, r.digest(e.Hashes, cdx.HashAlgoSHA256), r.digest(e.Hashes, cdx.HashAlgoSHA1)
		if ref.Comment+ref.SHA256+ref.SHA1 != "" {
			r.named[e.URL] = r.named[e.URL][1:]
		}
	}
}

func (r *reader) dependencies() {
	for _, d := range all(r.from.Dependencies) {
		for _, on := range all(d.Dependencies) {
			from, to := r.ids[d.Ref], r.ids[on]
			switch {
			case to != "" && from != "":
				r.to.Relate(from, sbom.DependsOn, to)
			case to != "" && d.Ref == sbom.DocumentID && r.own:
				r.to.Roots = append(r.to.Roots, to)
			default:
				r.omitted["dependencies of components that do not exist"]++
			}
		}
		r.omitted["dependencies: provides"] += len(all(d.Provides))
	}
}

// relationText is the form of a relation in a property: kind, end, comment.
var relationText = regexp.MustCompile(`(?s)^(\S+) (\S+)(?: (.*))?$`)

func (r *reader) relations() {
	ends := map[string]bool{}
	for _, id := range r.ids {
		ends[id] = true
	}
	for _, ref := range r.to.References {
		ends[ref.ID] = true
	}
	exists := func(id string) bool {
		ref, _, _ := strings.Cut(id, ":")
		return ends[ref] || slices.Contains(known, id)
	}
	for _, l := range r.late {
		m := relationText.FindStringSubmatch(l.text)
		if m == nil || !exists(l.from) || !exists(m[2]) || l.from == "NONE" || l.from == "NOASSERTION" {
			r.omitted["properties: relations with elements that do not exist"]++
			continue
		}
		r.to.Relations = append(r.to.Relations, sbom.Relation{From: l.from, Kind: note.Kind(m[1]), To: m[2], Comment: m[3]})
	}
}

func (r *reader) vulnerability(v cdx.Vulnerability) {
	s := sbom.Statement{Vulnerability: v.ID, Status: "under_investigation"}
	if a := v.Analysis; a != nil {
		s.Status = cmp.Or(readStates[a.State], s.Status)
		s.Justification, s.Text = readJustifications[a.Justification], a.Detail
	}
	for _, value := range property(v.Properties, propJustify) {
		s.Justification = value
	}
	for _, value := range property(v.Properties, propOrigin) {
		s.Origin = value
	}
	for _, a := range all(v.Affects) {
		if id := r.ids[a.Ref]; id != "" {
			s.Packages = append(s.Packages, id)
		} else if strings.HasPrefix(a.Ref, "pkg:") {
			s.Packages = append(s.Packages, a.Ref)
		} else {
			r.omitted["vulnerabilities: components that do not exist"]++
		}
	}
	s.Packages = append(s.Packages, property(v.Properties, propAffects)...)
	r.to.Statements = append(r.to.Statements, s)
}
