// Package sbom is the model of a software bill of materials: what packages and files a part of a
// revision or an image is made of, where they come from, and under which licences.
//
// The model has what SPDX 2.3, SPDX 3.0.1 and CycloneDX 1.6 have in common; its words are those of
// SPDX. Below it are
//
//	spdx2  spdx3  cyclonedx     the forms that documents have; forms picks one by its name, or by what is read
//	part                        the form of a part's document in a revision
//	copyright  licence          licences: Debian's copyright files, SPDX's list and other ways to write them
//	scan                        what is in a root file system; container is what is in a part or revision
//	merge                       documents of others, linked or joined to one
//	vulns  cra                  known vulnerabilities; the list for a technical file
//	sbomtest                    a document with everything, for tests
//
// Identifiers of elements are made from what they stand for, by [PackageID] and [FileID]: documents of
// several parts are joined by the union of their elements ([Document.Add]).
package sbom

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Document is a bill of materials.
type Document struct {
	// Name says what it describes: "bsp of x64-uefi".
	Name string
	// Namespace is a URI that no other document has; see [Document.Seal].
	Namespace string
	// Created is the epoch of the build, so that the same inputs give the same document.
	Created time.Time
	// Creators are the tools, organisations and persons who made it, in SPDX's form "Tool: NAME".
	Creators []string
	Comment  string
	// Roots are the identifiers of the elements that it describes.
	Roots     []string
	Packages  []Package
	Files     []File
	Relations []Relation
	// Licences are the texts of licences outside of SPDX's list.
	Licences []Licence
	// References are other documents that this one refers to by their digests.
	References []Reference
	// Statements say how vulnerabilities affect packages of the document (VEX).
	Statements []Statement
	// Support is for how long, and by whom, what it describes is maintained; the zero value: not
	// stated.
	Support Support
	// Omitted lists, for people, what a reader found in the document and the model has no field for.
	Omitted []string
}

// Purpose says what a package is (SPDX 2.3, 7.24).
type Purpose string

// The purposes in use.
const (
	Application     Purpose = "APPLICATION"
	Library         Purpose = "LIBRARY"
	Container       Purpose = "CONTAINER"
	OperatingSystem Purpose = "OPERATING-SYSTEM"
	Device          Purpose = "DEVICE"
	Firmware        Purpose = "FIRMWARE"
	Source          Purpose = "SOURCE"
	Archive         Purpose = "ARCHIVE"
	Install         Purpose = "INSTALL"
	Other           Purpose = "OTHER"
)

// Package is a unit of distribution: a Debian package, a Go module, a container, an image.
type Package struct {
	// ID is unique in the document.
	ID string
	// Name and Version are those that its ecosystem uses; Version may be empty.
	Name, Version string
	Purpose       Purpose
	// PURL is a package URL (https://github.com/package-url/purl-spec), and CPE a name of version
	// 2.3 of that form. Each may be empty.
	PURL, CPE string
	// SourceName and SourceVersion are those of the source package that a binary package was built
	// of; empty when they are not known.
	SourceName, SourceVersion string
	// Supplier is who distributes it, as "Organization: NAME"; empty when not known.
	Supplier string
	// Download is where it comes from; empty when not known.
	Download string
	// FileName is its archive's name.
	FileName string
	// SHA256 and SHA1 are digests of the archive in lower-case hex; each may be empty.
	SHA256, SHA1 string
	// Declared is the licence expression that the package states, Concluded the one that we hold to be
	// right, both in SPDX's syntax with identifiers of SPDX's list and LicenseRef- of [Document].Licences;
	// empty when not known.
	Declared, Concluded string
	Copyright           string
	Comment             string
	// Paths are files of the package in what the document describes, of which no digest of their own is
	// listed: the modules of a kernel.
	Paths []string
	// Host says that the package runs where the build runs and is not in what the document describes.
	Host bool
}

// File is a single file.
type File struct {
	ID string
	// Name is its path with slashes in what the document describes.
	Name string
	// SHA256 and SHA1 are in lower-case hex. SHA1 may be empty in the model; SPDX 2.3 wants it.
	SHA256, SHA1 string
	// Size is in bytes, -1 when not known.
	Size int64
	// Concluded is its licence expression; empty when not known.
	Concluded string
	Comment   string
}

// Kind is the kind of a relation (SPDX 2.3, clause 11).
type Kind string

// The kinds in use. From and To are read as in a sentence: From CONTAINS To.
const (
	Describes     Kind = "DESCRIBES"
	Contains      Kind = "CONTAINS"
	GeneratedFrom Kind = "GENERATED_FROM"
	BuildToolOf   Kind = "BUILD_TOOL_OF"
	DependsOn     Kind = "DEPENDS_ON"
	VariantOf     Kind = "VARIANT_OF"
	// Amends is a document that says more of another, e.g. a received one of the same part.
	Amends Kind = "AMENDS"
)

// Relation joins two elements. An end is [DocumentID] or an element; To may
// also be NONE, and each an element of another document: "DocumentRef-NAME:ID".
type Relation struct {
	From string
	Kind Kind
	To   string
	// Comment may be empty.
	Comment string
}

// Licence is a licence outside of SPDX's list.
type Licence struct {
	// ID begins with "LicenseRef-".
	ID   string
	Name string
	Text string
}

// Reference is another document.
type Reference struct {
	// ID begins with "DocumentRef-".
	ID string
	// Namespace is that of the document.
	Namespace string
	// SHA256 is that of the document's bytes as they are kept. SHA1 is what documents of SPDX 2.2 say
	// in its place. Each may be empty.
	SHA256, SHA1 string
	// File is where it is: the key of an object of the revision, or a path beside the document.
	File string
	// Comment names what it is about, for people.
	Comment string
}

// Statement is one statement of VEX: how a vulnerability affects a package.
type Statement struct {
	// Vulnerability is its name: CVE-2024-1234.
	Vulnerability string
	// Status is one of OpenVEX: not_affected, affected, fixed, under_investigation.
	Status string
	// Justification is one of OpenVEX for not_affected; may be empty.
	Justification string
	// Packages are identifiers in the document, or package URLs.
	Packages []string
	// Text is the impact, or the action to take.
	Text string
	// Origin names the document that it comes from.
	Origin string
}

// Support is what the manufacturer promises (Regulation (EU) 2024/2847, Annex II).
type Support struct {
	// End is the day until which vulnerabilities are handled, as 2031-12-31.
	End string `json:"end,omitempty"`
	// Contact is where vulnerabilities are reported: a mail address or a URL.
	Contact string `json:"contact,omitempty"`
	// Manufacturer is the name of who makes the product.
	Manufacturer string `json:"manufacturer,omitempty"`
}

// noID are the characters that SPDX's identifiers do not have (SPDX 2.3, 3.2).
var noID = regexp.MustCompile(`[^A-Za-z0-9.-]+`)

// identifier joins a readable word and a digest of everything that makes an element what it is.
func identifier(prefix, name string, parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	name = noID.ReplaceAllString(name, "-")
	return fmt.Sprintf("%s-%.40s-%s", prefix, strings.Trim(name, "-"), hex.EncodeToString(sum[:6]))
}

// PackageID returns the identifier of a package: the same package has the same one in each document.
func PackageID(p Package) string {
	return identifier("Package", p.Name, p.PURL, p.Name, p.Version, p.SHA256)
}

// FileID returns the identifier of a file, from its path and content.
func FileID(f File) string { return identifier("File", f.Name, f.Name, f.SHA256) }

// LicenceID returns a LicenseRef for a text that is not in SPDX's list.
func LicenceID(name, text string) string { return identifier("LicenseRef", name, text) }

// ReferenceID returns the identifier of a reference to another document, which name describes.
func ReferenceID(name, namespace string) string { return identifier("DocumentRef", name, namespace) }

// AddPackage adds a package, with an identifier if it has none, and returns the identifier.
// The same package may be added more than once: see [Document.Seal].
func (d *Document) AddPackage(p Package) string {
	p.ID = cmp.Or(p.ID, PackageID(p))
	d.Packages = append(d.Packages, p)
	return p.ID
}

// AddFile adds a file as [Document.AddPackage] adds a package.
func (d *Document) AddFile(f File) string {
	f.ID = cmp.Or(f.ID, FileID(f))
	d.Files = append(d.Files, f)
	return f.ID
}

// Relate adds relations of one kind.
func (d *Document) Relate(from string, kind Kind, to ...string) {
	for _, id := range to {
		d.Relations = append(d.Relations, Relation{From: from, Kind: kind, To: id})
	}
}

// Add adds the elements of another document: those of Describes become further roots.
func (d *Document) Add(o *Document) {
	d.Roots = append(d.Roots, o.Roots...)
	d.Packages = append(d.Packages, o.Packages...)
	d.Files = append(d.Files, o.Files...)
	d.Relations = append(d.Relations, o.Relations...)
	d.Licences = append(d.Licences, o.Licences...)
	d.References = append(d.References, o.References...)
	d.Statements = append(d.Statements, o.Statements...)
	d.Support = cmp.Or(d.Support, o.Support)
	d.Omitted = append(d.Omitted, o.Omitted...)
}

// NamespaceBase begins the namespaces of our documents. It names no place on the network.
const NamespaceBase = "urn:pantavisor:sbom:"

// Seal sorts the elements, joins those with one identifier, of which the first that knows a thing says
// it, and, if the document has no namespace, makes it from the digest of all that it has.
func (d *Document) Seal() {
	d.Packages = joined(d.Packages, func(p Package) string { return p.ID }, joinPackages)
	d.Files = joined(d.Files, func(f File) string { return f.ID }, func(a, _ File) File { return a })
	d.Relations = joined(d.Relations, func(r Relation) string {
		return strings.Join([]string{r.From, string(r.Kind), r.To}, "\x00")
	}, func(a, _ Relation) Relation { return a })
	d.Licences = joined(d.Licences, func(l Licence) string { return l.ID }, func(a, _ Licence) Licence { return a })
	d.References = joined(d.References, func(r Reference) string { return r.ID }, func(a, _ Reference) Reference { return a })
	for _, list := range []*[]string{&d.Roots, &d.Creators, &d.Omitted} {
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
	d.Statements = joined(d.Statements, func(s Statement) string {
		return strings.Join(append([]string{s.Vulnerability, s.Origin, s.Status, s.Justification, s.Text}, s.Packages...), "\x00")
	}, func(a, _ Statement) Statement { return a })
	if d.Namespace == "" {
		d.Namespace = NamespaceBase + d.digest()
	}
}

// digest returns the SHA-256 of all that the document has but its namespace.
func (d *Document) digest() string {
	h := sha256.New()
	// An error would be one of a type that JSON does not have, or of a hash, and neither has any.
	_ = json.NewEncoder(h).Encode(d)
	return hex.EncodeToString(h.Sum(nil))
}

// joined sorts elements by their identifiers and joins those with the same one. The order of
// those is that in which they were added.
func joined[T any](list []T, id func(T) string, join func(a, b T) T) []T {
	slices.SortStableFunc(list, func(a, b T) int { return strings.Compare(id(a), id(b)) })
	var out []T
	for _, e := range list {
		if n := len(out); n > 0 && id(out[n-1]) == id(e) {
			out[n-1] = join(out[n-1], e)
			continue
		}
		out = append(out, e)
	}
	return out
}

// joinPackages fills in what the first does not know.
func joinPackages(a, b Package) Package {
	for _, f := range []struct{ to, from *string }{
		{&a.CPE, &b.CPE}, {&a.SourceName, &b.SourceName}, {&a.SourceVersion, &b.SourceVersion}, {&a.Supplier, &b.Supplier},
		{&a.Download, &b.Download}, {&a.FileName, &b.FileName}, {&a.SHA1, &b.SHA1}, {&a.Declared, &b.Declared},
		{&a.Concluded, &b.Concluded}, {&a.Copyright, &b.Copyright}, {&a.Comment, &b.Comment},
	} {
		*f.to = cmp.Or(*f.to, *f.from)
	}
	if len(a.Paths) == 0 {
		a.Paths = b.Paths
	}
	// What one of two documents has in the image is in the image.
	a.Host = a.Host && b.Host
	return a
}
