package spdx2

import (
	"cmp"
	"encoding/json"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spdx/tools-golang/spdx/v2/common"
	spdx "github.com/spdx/tools-golang/spdx/v2/v2_3"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/sbom"
	"github.com/pantavisor/pantavisor/sbom/internal/note"
)

// Write writes a document, which is sealed, as SPDX 2.3 JSON in one line. The same document gives the
// same bytes. A document that cannot be written is of the kind fault.BadInput, and w gets nothing.
func Write(w io.Writer, d *sbom.Document) error {
	if err := d.Check(); err != nil {
		return fault.Wrap(fault.BadInput, err, "writing the SBOM %q", d.Name)
	}
	out := &writer{from: d, created: d.Created.UTC().Format(time.RFC3339)}
	doc, err := out.document()
	if err != nil {
		return err
	}
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return fault.Wrap(fault.IO, e.Encode(doc), "writing the SBOM %q", d.Name)
}

type writer struct {
	from    *sbom.Document
	created string
	note    note.Document
}

func (w *writer) document() (*spdx.Document, error) {
	d := w.from
	doc := &spdx.Document{
		SPDXVersion: spdx.Version, DataLicense: spdx.DataLicense, SPDXIdentifier: sbom.DocumentID,
		DocumentName: d.Name, DocumentNamespace: d.Namespace, DocumentComment: d.Comment,
		CreationInfo: &spdx.CreationInfo{Created: w.created},
	}
	for _, c := range d.Creators {
		if !person.MatchString(c) {
			return nil, fault.New(fault.BadInput, "writing the SBOM %q: creator %q: want \"Tool: NAME\", \"Organization: NAME\" or \"Person: NAME\"",
				d.Name, c)
		}
		kind, name, _ := strings.Cut(c, ": ")
		doc.CreationInfo.Creators = append(doc.CreationInfo.Creators, common.Creator{CreatorType: kind, Creator: name})
	}
	if len(d.Creators) == 0 {
		doc.CreationInfo.Creators = []common.Creator{{CreatorType: "Tool", Creator: note.Author}}
	}
	for _, p := range d.Packages {
		doc.Packages = append(doc.Packages, w.pack(p))
	}
	for _, f := range d.Files {
		doc.Files = append(doc.Files, w.file(f))
	}
	for _, l := range d.Licences {
		doc.OtherLicenses = append(doc.OtherLicenses, &spdx.OtherLicense{LicenseIdentifier: l.ID, ExtractedText: l.Text, LicenseName: l.Name})
	}
	for _, r := range d.References {
		doc.ExternalDocumentReferences = append(doc.ExternalDocumentReferences, w.reference(r))
	}
	doc.Relationships = w.relations()
	w.documentNote(doc)
	return doc, nil
}

func (w *writer) pack(p sbom.Package) *spdx.Package {
	out := &spdx.Package{
		PackageName: p.Name, PackageSPDXIdentifier: common.ElementID(p.ID), PackageVersion: p.Version, PackageFileName: p.FileName,
		PackageDownloadLocation: cmp.Or(p.Download, none), PackageChecksums: checksums(p.SHA256, p.SHA1),
		PackageLicenseConcluded: p.Concluded, PackageLicenseDeclared: p.Declared, PackageCopyrightText: p.Copyright,
		PackageComment: p.Comment, PrimaryPackagePurpose: string(p.Purpose),
	}
	n := note.Package{Paths: p.Paths, Host: p.Host}
	if out.PrimaryPackagePurpose != "" && !purposes[out.PrimaryPackagePurpose] {
		out.PrimaryPackagePurpose, n.Purpose = "OTHER", out.PrimaryPackagePurpose
	}
	if kind, name, _ := strings.Cut(p.Supplier, ": "); person.MatchString(p.Supplier) && kind != "Tool" {
		out.PackageSupplier = &common.Supplier{SupplierType: kind, Supplier: name}
	} else {
		n.Supplier = p.Supplier
	}
	out.PackageExternalReferences = externals(p)
	info := strings.TrimSuffix(sourceText+p.SourceName+" "+p.SourceVersion, " ")
	switch m := sourcePackage.FindStringSubmatch(info); {
	case m != nil && m[1] == p.SourceName && m[2] == p.SourceVersion:
		out.PackageSourceInfo = info
	default:
		n.SourceName, n.SourceVersion = p.SourceName, p.SourceVersion
	}
	if text := note.Encode(n); text != "" {
		out.Annotations = []spdx.Annotation{w.annotation(text)}
	}
	// Without a date this stays empty.
	if day, err := time.Parse(time.DateOnly, w.from.Support.End); err == nil && slices.Contains(w.from.Roots, p.ID) {
		out.ValidUntilDate = day.Format(time.RFC3339)
	}
	return out
}

// externals returns the names of a package elsewhere.
func externals(p sbom.Package) []*spdx.PackageExternalReference {
	var out []*spdx.PackageExternalReference
	if p.PURL != "" {
		out = append(out, &spdx.PackageExternalReference{
			Category: common.CategoryPackageManager, RefType: common.TypePackageManagerPURL, Locator: p.PURL,
		})
	}
	if p.CPE != "" {
		out = append(out, &spdx.PackageExternalReference{
			Category: common.CategorySecurity, RefType: common.TypeSecurityCPE23Type, Locator: p.CPE,
		})
	}
	return out
}

func (w *writer) file(f sbom.File) *spdx.File {
	out := &spdx.File{
		FileName: fileName(f.Name), FileSPDXIdentifier: common.ElementID(f.ID), Checksums: checksums(f.SHA256, f.SHA1),
		LicenseConcluded: f.Concluded, FileCopyrightText: none, FileComment: f.Comment,
	}
	var n note.File
	if f.Size >= 0 {
		n.Size = &f.Size
	}
	if pathOf(out.FileName) != f.Name {
		n.Name = f.Name
	}
	w.note.AddFile(f.ID, n)
	return out
}

// fileName returns the form that SPDX 2.3, 8.1, gives to the path of a file.
func fileName(name string) string {
	if strings.HasPrefix(name, "/") || strings.HasPrefix(name, "./") {
		return name
	}
	return "./" + name
}

// pathOf undoes fileName.
func pathOf(name string) string { return strings.TrimPrefix(name, "./") }

func checksums(sha256, sha1 string) []common.Checksum {
	all := []common.Checksum{}
	if sha1 != "" {
		all = append(all, common.Checksum{Algorithm: common.SHA1, Value: sha1})
	}
	if sha256 != "" {
		all = append(all, common.Checksum{Algorithm: common.SHA256, Value: sha256})
	}
	return all
}

func (w *writer) reference(r sbom.Reference) spdx.ExternalDocumentRef {
	out := spdx.ExternalDocumentRef{DocumentRefID: common.DocumentID(r.ID), URI: r.Namespace}
	n := note.Reference{File: r.File, Comment: r.Comment}
	switch {
	case r.SHA256 != "":
		out.Checksum, n.SHA1 = common.Checksum{Algorithm: common.SHA256, Value: r.SHA256}, r.SHA1
	case r.SHA1 != "":
		out.Checksum = common.Checksum{Algorithm: common.SHA1, Value: r.SHA1}
	}
	w.note.AddReference(r.ID, n)
	return out
}

func (w *writer) relations() []*spdx.Relationship {
	var out []*spdx.Relationship
	for _, id := range w.from.Roots {
		out = append(out, &spdx.Relationship{
			RefA: end(sbom.DocumentID), RefB: end(id), Relationship: common.TypeRelationshipDescribe,
		})
	}
	for _, r := range w.from.Relations {
		kind, comment := string(r.Kind), r.Comment
		if !kinds[kind] {
			comment = note.Other(r.Kind, comment)
			kind = common.TypeRelationshipOther
		}
		out = append(out, &spdx.Relationship{RefA: end(r.From), RefB: end(r.To), Relationship: kind, RelationshipComment: comment})
	}
	return out
}

// end returns an end of a relation in the library's form.
func end(id string) common.DocElementID {
	if id == "NONE" || id == none {
		return common.MakeDocElementSpecial(id)
	}
	if ref, element, ok := strings.Cut(id, ":"); ok {
		return common.MakeDocElementID(ref, element)
	}
	return common.MakeDocElementID("", id)
}

// documentNote adds the note of the document, if it has to say something.
func (w *writer) documentNote(doc *spdx.Document) {
	d, n := w.from, &w.note
	if d.Support != (sbom.Support{}) {
		n.Support = &d.Support
	}
	for _, s := range d.Statements {
		n.Statements = append(n.Statements, note.Statement(s))
	}
	n.Omitted = d.Omitted
	if text := note.Encode(*n); text != "" {
		a := w.annotation(text)
		doc.Annotations = []*spdx.Annotation{&a}
	}
}

func (w *writer) annotation(text string) spdx.Annotation {
	return spdx.Annotation{
		Annotator: common.Annotator{AnnotatorType: "Tool", Annotator: note.Author}, AnnotationDate: w.created,
		AnnotationType: "OTHER", AnnotationComment: text,
	}
}
