package sbom

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// DocumentID is the identifier of the document itself as an end of a relation.
const DocumentID = "DOCUMENT"

// Identifier returns an identifier of an element of which another document says ref: ref itself if it
// can be one in SPDX 2.3 or is empty, else one made from it, the same each time.
func Identifier(ref string) string {
	if ref == "" || idString.MatchString(ref) {
		return ref
	}
	name := ref[strings.LastIndexAny(ref, "/#:")+1:]
	return identifier("Element", name, ref)
}

// idString is the form of identifiers of SPDX 2.3, 3.2.
var idString = regexp.MustCompile(`^[A-Za-z0-9.-]+$`)

// kindForm is the form of kinds of relations.
var kindForm = regexp.MustCompile(`^[A-Z0-9_]+$`)

// statuses are those of OpenVEX.
var statuses = []string{"not_affected", "affected", "fixed", "under_investigation"}

// Check reports whether the document can be written: it is sealed, its identifiers are valid and
// unique, and its relations join what there is. The error names up to ten mistakes.
func (d *Document) Check() error {
	var errs []error
	say := func(format string, args ...any) {
		if len(errs) < 10 {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	if d.Namespace == "" {
		say("it has no namespace; Seal makes one")
	}
	known := d.identifiers(say)
	for _, id := range d.Roots {
		if !known[id] {
			say("root %q: there is no such element", id)
		}
	}
	outside := d.outside(say)
	known[DocumentID] = true
	exists := func(id string) bool {
		ref, _, external := strings.Cut(id, ":")
		return external && outside[ref] || known[id]
	}
	for _, r := range d.Relations {
		if !kindForm.MatchString(string(r.Kind)) {
			say("relation %s %q %s: the kind is not a word in upper case", r.From, r.Kind, r.To)
		}
		if !exists(r.From) {
			say("relation %s %s %s: there is no element %q", r.From, r.Kind, r.To, r.From)
		}
		if !exists(r.To) && r.To != "NONE" && r.To != "NOASSERTION" {
			say("relation %s %s %s: there is no element %q", r.From, r.Kind, r.To, r.To)
		}
	}
	for _, s := range d.Statements {
		if !slices.Contains(statuses, s.Status) {
			say("statement on %q: %q is not a status of OpenVEX: %s", s.Vulnerability, s.Status, strings.Join(statuses, ", "))
		}
	}
	return errors.Join(errs...)
}

// outside returns the identifiers of the references.
func (d *Document) outside(say func(string, ...any)) map[string]bool {
	known := map[string]bool{}
	for _, r := range d.References {
		if name, ok := strings.CutPrefix(r.ID, "DocumentRef-"); !ok || !idString.MatchString(name) {
			say("reference %q: is not a valid identifier of a document", r.ID)
		}
		if known[r.ID] {
			say("reference %q: is there twice", r.ID)
		}
		known[r.ID] = true
		if r.SHA256 != "" && !IsSHA256(r.SHA256) || r.SHA1 != "" && !IsSHA1(r.SHA1) {
			say("reference %q: a digest is not hex digits in lower case of the right number: %q, %q", r.ID, r.SHA256, r.SHA1)
		}
	}
	return known
}

// IsSHA256 and IsSHA1 report whether a text is a digest as the model has it.
func IsSHA256(s string) bool { return len(s) == 64 && hexDigits.MatchString(s) }

// IsSHA1 is [IsSHA256] for the other algorithm.
func IsSHA1(s string) bool { return len(s) == 40 && hexDigits.MatchString(s) }

var hexDigits = regexp.MustCompile(`^[0-9a-f]+$`)

// identifiers returns those of the elements.
func (d *Document) identifiers(say func(string, ...any)) map[string]bool {
	known := map[string]bool{}
	add := func(what, id string) {
		switch {
		case !idString.MatchString(id), id == DocumentID:
			say("%s %q: is not a valid identifier", what, id)
		case known[id]:
			say("%s %q: is there twice", what, id)
		}
		known[id] = true
	}
	digests := func(what, id, sha256, sha1 string) {
		if sha256 != "" && !IsSHA256(sha256) || sha1 != "" && !IsSHA1(sha1) {
			say("%s %q: a digest is not hex digits in lower case of the right number: %q, %q", what, id, sha256, sha1)
		}
	}
	for _, p := range d.Packages {
		add("package", p.ID)
		digests("package", p.ID, p.SHA256, p.SHA1)
	}
	for _, f := range d.Files {
		add("file", f.ID)
		digests("file", f.ID, f.SHA256, f.SHA1)
	}
	for _, l := range d.Licences {
		// Names that others gave are in expressions, so they are not held to the form of the others.
		if !strings.HasPrefix(l.ID, "LicenseRef-") || strings.ContainsAny(l.ID, " ()\t\n") {
			say("licence %q: is not a valid identifier: it begins with LicenseRef- and has neither blanks nor parentheses", l.ID)
		}
		if known[l.ID] {
			say("licence %q: is there twice", l.ID)
		}
		known[l.ID] = true
	}
	return known
}
