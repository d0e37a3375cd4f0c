package spdx2

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spdx/tools-golang/spdx/v2/common"
	spdx "github.com/spdx/tools-golang/spdx/v2/v2_3"

	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/sbom"
	"github.com/pantavisor/pantavisor/sbom/internal/note"
)

// maxSize is the most of a document that is read, in bytes. The largest documents seen, of a kernel with
// all its sources, have a fifth of it.
const maxSize = 128 << 20

// Read reads a document of SPDX 2.2 or 2.3 in JSON. What the model has no field for is listed in
// Omitted, and so are relations to elements that do not exist. Errors are of the kind fault.BadInput.
func Read(r io.Reader) (*sbom.Document, error) {
	data, err := bounded.Read(r, maxSize)
	if err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "reading an SPDX document")
	}
	doc, err := decode(data)
	if err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "reading an SPDX document")
	}
	in := &reader{from: doc, omitted: map[string]int{}}
	d, err := in.document()
	return d, fault.Wrap(fault.BadInput, err, "reading the SPDX document %q", doc.DocumentName)
}

// decode parses the JSON. The JSON of version 2.2 is one of version 2.3 with fewer optional fields.
func decode(data []byte) (doc *spdx.Document, err error) {
	var probe struct {
		Version string `json:"spdxVersion"`
	}
	if err := json.Unmarshal(data, &probe); err != nil {
		return nil, err
	}
	switch probe.Version {
	case "SPDX-2.2", "SPDX-2.3":
	case "":
		return nil, fmt.Errorf("it has no spdxVersion")
	default:
		return nil, fmt.Errorf("spdxVersion is %q; SPDX-2.2 and SPDX-2.3 are read here", probe.Version)
	}
	// The library's decoder dereferences null elements of arrays.
	defer func() {
		if r := recover(); r != nil {
			doc, err = nil, fmt.Errorf("its form is wrong: %v", r)
		}
	}()
	doc = &spdx.Document{}
	if err := json.Unmarshal(data, doc); err != nil {
		return nil, err
	}
	return doc, nil
}

type reader struct {
	from *spdx.Document
	to   *sbom.Document
	note note.Document
	// omitted counts what is not kept, by kind.
	omitted map[string]int
}

func (r *reader) document() (*sbom.Document, error) {
	in := r.from
	r.to = &sbom.Document{Name: in.DocumentName, Namespace: in.DocumentNamespace, Comment: in.DocumentComment}
	if in.CreationInfo == nil {
		return nil, fmt.Errorf("it has no creationInfo")
	}
	created, err := time.Parse(time.RFC3339, in.CreationInfo.Created)
	if err != nil {
		return nil, fmt.Errorf("creationInfo: created: %w", err)
	}
	r.to.Created = created.UTC()
	for _, c := range in.CreationInfo.Creators {
		r.to.Creators = append(r.to.Creators, named(c.CreatorType, c.Creator))
	}
	for _, a := range in.Annotations {
		var n note.Document
		switch {
		case a == nil:
		case note.Decode(a.Annotator.Annotator, a.AnnotationComment, &n):
			r.note.Add(n)
		default:
			r.omitted["annotations"]++
		}
	}
	for _, p := range in.Packages {
		r.pack(p)
	}
	for _, f := range in.Files {
		r.file(f)
	}
	for _, l := range in.OtherLicenses {
		if l != nil {
			r.to.Licences = append(r.to.Licences, sbom.Licence{ID: l.LicenseIdentifier, Name: l.LicenseName, Text: l.ExtractedText})
		}
	}
	r.references()
	r.relations()
	r.rest()
	// Mistakes that are left are those that would make elements ambiguous.
	return r.to, r.to.Check()
}

// named joins the parts of a creator or supplier. The library leaves JSON's escapes in them.
func named(kind, name string) string {
	var plain string
	if err := json.Unmarshal([]byte(`"`+name+`"`), &plain); err == nil {
		name = plain
	}
	return kind + ": " + name
}

// asserted returns a value, or nothing for one that says that it is not known.
func asserted(s string) string {
	if s == none {
		return ""
	}
	return s
}

// digest returns the digest of an algorithm, if it can be one.
func (r *reader) digest(list []common.Checksum, algorithm common.ChecksumAlgorithm) string {
	value := strings.ToLower(checksum(list, algorithm))
	if value == "" || algorithm == common.SHA256 && sbom.IsSHA256(value) || algorithm == common.SHA1 && sbom.IsSHA1(value) {
		return value
	}
	r.omitted["digests that cannot be one"]++
	return ""
}

// fixedCVEs is what OpenEmbedded writes into the source information of a recipe with patches.
var fixedCVEs = regexp.MustCompile(`^CVEs fixed: ((?:CVE-\d+-\d+[ ,]*)+)$`)

func (r *reader) pack(in *spdx.Package) {
	if in == nil {
		return
	}
	p := sbom.Package{
		ID: sbom.Identifier(string(in.PackageSPDXIdentifier)), Name: in.PackageName, Version: in.PackageVersion, Purpose: sbom.Purpose(in.PrimaryPackagePurpose),
		PURL: external(in, common.TypePackageManagerPURL), CPE: external(in, common.TypeSecurityCPE23Type),
		Download: asserted(in.PackageDownloadLocation), FileName: in.PackageFileName,
		SHA256: r.digest(in.PackageChecksums, common.SHA256), SHA1: r.digest(in.PackageChecksums, common.SHA1),
		Declared: asserted(in.PackageLicenseDeclared), Concluded: asserted(in.PackageLicenseConcluded),
		Copyright: asserted(in.PackageCopyrightText), Comment: in.PackageComment,
	}
	if p.Download == "NONE" {
		p.Download = ""
	}
	if s := in.PackageSupplier; s != nil && s.Supplier != none {
		p.Supplier = named(s.SupplierType, s.Supplier)
	}
	var n note.Package
	for _, a := range in.Annotations {
		switch {
		case note.Decode(a.Annotator.Annotator, a.AnnotationComment, &n):
		case a.AnnotationComment == "isNative":
			// OpenEmbedded's word for a recipe of a host tool.
			n.Host = true
		default:
			r.omitted["packages: annotations"]++
		}
	}
	p.Paths, p.Host = n.Paths, n.Host
	p.Purpose = cmp.Or(sbom.Purpose(n.Purpose), p.Purpose)
	p.Supplier = cmp.Or(n.Supplier, p.Supplier)
	p.SourceName, p.SourceVersion = n.SourceName, n.SourceVersion
	if m := sourcePackage.FindStringSubmatch(in.PackageSourceInfo); m != nil {
		p.SourceName, p.SourceVersion = m[1], m[2]
	} else if m := fixedCVEs.FindStringSubmatch(in.PackageSourceInfo); m != nil {
		for _, cve := range strings.FieldsFunc(m[1], func(c rune) bool { return c == ' ' || c == ',' }) {
			r.to.Statements = append(r.to.Statements, sbom.Statement{
				Vulnerability: cve, Status: "fixed", Packages: []string{p.ID},
			})
		}
	} else {
		r.count("packages: sourceInfo", in.PackageSourceInfo)
	}
	r.to.Packages = append(r.to.Packages, p)
	r.packageRest(in, p)
	for _, f := range in.Files {
		if f != nil {
			r.file(f)
			r.to.Relate(p.ID, sbom.Contains, sbom.Identifier(string(f.FileSPDXIdentifier)))
		}
	}
}

// packageRest counts what of a package has no field.
func (r *reader) packageRest(in *spdx.Package, p sbom.Package) {
	for _, e := range in.PackageExternalReferences {
		if e != nil && e.Locator != p.PURL && e.Locator != p.CPE {
			r.omitted["packages: externalRefs"]++
		}
	}
	for _, c := range in.PackageChecksums {
		if c.Algorithm != common.SHA256 && c.Algorithm != common.SHA1 {
			r.omitted["packages: checksums of other algorithms"]++
		}
	}
	if o := in.PackageOriginator; o != nil {
		r.count("packages: originator", asserted(o.Originator))
	}
	r.count("packages: homepage", asserted(in.PackageHomePage))
	r.count("packages: licenseComments", in.PackageLicenseComments)
	r.count("packages: licenseInfoFromFiles", in.PackageLicenseInfoFromFiles...)
	r.count("packages: summary", in.PackageSummary)
	r.count("packages: description", in.PackageDescription)
	r.count("packages: attributionTexts", in.PackageAttributionTexts...)
	r.count("packages: releaseDate", in.ReleaseDate)
	r.count("packages: builtDate", in.BuiltDate)
	if in.PackageVerificationCode != nil {
		r.omitted["packages: packageVerificationCode"]++
	}
}

// count counts values that are not kept.
func (r *reader) count(what string, values ...string) {
	for _, v := range values {
		if v != "" {
			r.omitted[what]++
		}
	}
}

func (r *reader) file(in *spdx.File) {
	if in == nil {
		return
	}
	n := r.note.Files[string(in.FileSPDXIdentifier)]
	f := sbom.File{
		ID: sbom.Identifier(string(in.FileSPDXIdentifier)), Name: cmp.Or(n.Name, pathOf(in.FileName)), Size: -1,
		SHA256: r.digest(in.Checksums, common.SHA256), SHA1: r.digest(in.Checksums, common.SHA1),
		Concluded: asserted(in.LicenseConcluded), Comment: in.FileComment,
	}
	if n.Size != nil {
		f.Size = *n.Size
	}
	r.to.Files = append(r.to.Files, f)
	r.count("files: fileTypes", in.FileTypes...)
	for _, l := range in.LicenseInfoInFiles {
		r.count("files: licenseInfoInFiles", asserted(l))
	}
	r.count("files: licenseComments", in.LicenseComments)
	r.count("files: copyrightText", asserted(in.FileCopyrightText))
	r.count("files: noticeText", in.FileNotice)
	r.count("files: fileContributors", in.FileContributors...)
	r.count("files: attributionTexts", in.FileAttributionTexts...)
	r.omitted["files: annotations"] += len(in.Annotations)
	for _, c := range in.Checksums {
		if c.Algorithm != common.SHA256 && c.Algorithm != common.SHA1 {
			r.omitted["files: checksums of other algorithms"]++
		}
	}
}

func (r *reader) references() {
	for _, e := range r.from.ExternalDocumentReferences {
		id := "DocumentRef-" + string(e.DocumentRefID)
		n := r.note.References[id]
		ref := sbom.Reference{ID: id, Namespace: e.URI, File: n.File, Comment: n.Comment, SHA1: n.SHA1}
		switch e.Checksum.Algorithm {
		case common.SHA256:
			ref.SHA256 = r.digest([]common.Checksum{e.Checksum}, common.SHA256)
		case common.SHA1:
			ref.SHA1 = cmp.Or(r.digest([]common.Checksum{e.Checksum}, common.SHA1), n.SHA1)
		default:
			r.count("externalDocumentRefs: checksums of other algorithms", e.Checksum.Value)
		}
		r.to.References = append(r.to.References, ref)
	}
}

// turned are the kinds that say the same as another one with the ends exchanged.
var turned = map[string]sbom.Kind{
	common.TypeRelationshipDescribeBy:   sbom.Describes,
	common.TypeRelationshipContainedBy:  sbom.Contains,
	common.TypeRelationshipDependencyOf: sbom.DependsOn,
	common.TypeRelationshipGenerates:    sbom.GeneratedFrom,
}

func (r *reader) relations() {
	elements := map[string]bool{}
	for _, p := range r.to.Packages {
		elements[p.ID] = true
	}
	for _, f := range r.to.Files {
		elements[f.ID] = true
	}
	known := map[string]bool{sbom.DocumentID: true}
	for _, e := range r.to.References {
		known[e.ID] = true
	}
	exists := func(id string) bool {
		ref, _, _ := strings.Cut(id, ":")
		return known[ref] || elements[ref]
	}
	for _, in := range r.from.Relationships {
		if in == nil {
			continue
		}
		rel := relation(in)
		switch {
		case !exists(rel.From), !exists(rel.To) && rel.To != "NONE" && rel.To != none:
			r.omitted["relationships with elements that do not exist"]++
		case rel.Kind == sbom.Describes && rel.From == sbom.DocumentID && rel.Comment == "" && elements[rel.To]:
			r.to.Roots = append(r.to.Roots, rel.To)
		default:
			r.to.Relations = append(r.to.Relations, rel)
		}
	}
}

// relation returns a relation in the model's form.
func relation(in *spdx.Relationship) sbom.Relation {
	rel := sbom.Relation{From: name(in.RefA), Kind: note.Kind(in.Relationship), To: name(in.RefB), Comment: in.RelationshipComment}
	if kind, ok := turned[string(rel.Kind)]; ok {
		rel.From, rel.Kind, rel.To = rel.To, kind, rel.From
	}
	if rel.Kind == "OTHER" {
		rel.Kind, rel.Comment = note.ParseOther(rel.Comment)
	}
	return rel
}

// name returns an end of a relation in the model's form.
func name(id common.DocElementID) string {
	switch {
	case id.SpecialID != "":
		return id.SpecialID
	case id.DocumentRefID != "" && id.ElementRefID == "":
		return "DocumentRef-" + string(id.DocumentRefID) + ":" + sbom.DocumentID
	case id.DocumentRefID != "":
		return "DocumentRef-" + string(id.DocumentRefID) + ":" + sbom.Identifier(string(id.ElementRefID))
	}
	return sbom.Identifier(string(id.ElementRefID))
}

// rest reads what the note of the document says, and lists what was not kept.
func (r *reader) rest() {
	in, n := r.from, r.note
	if n.Support != nil {
		r.to.Support = *n.Support
	} else {
		r.validUntil()
	}
	for _, s := range n.Statements {
		r.to.Statements = append(r.to.Statements, sbom.Statement(s))
	}
	r.omitted["snippets"] += len(in.Snippets)
	r.count("creationInfo: comment", in.CreationInfo.CreatorComment)
	for _, l := range in.OtherLicenses {
		if l != nil {
			r.count("hasExtractedLicensingInfos: seeAlsos", l.LicenseCrossReferences...)
			r.count("hasExtractedLicensingInfos: comment", l.LicenseComment)
		}
	}
	r.to.Omitted = n.Omitted
	for what, count := range r.omitted {
		if count > 0 {
			r.to.Omitted = append(r.to.Omitted, fmt.Sprintf("%s: %d", what, count))
		}
	}
	slices.Sort(r.to.Omitted[len(n.Omitted):])
}

// validUntil takes the end of support from a package that the document describes.
func (r *reader) validUntil() {
	roots := map[string]bool{}
	for _, id := range r.to.Roots {
		roots[id] = true
	}
	for _, p := range r.from.Packages {
		if p == nil || p.ValidUntilDate == "" || !roots[sbom.Identifier(string(p.PackageSPDXIdentifier))] {
			continue
		}
		if day, err := time.Parse(time.RFC3339, p.ValidUntilDate); err == nil {
			r.to.Support.End = day.UTC().Format(time.DateOnly)
			return
		}
	}
}
