package container

import (
	"bytes"
	"cmp"
	"fmt"
	"regexp"
	"strings"

	"github.com/pantavisor/pantavisor/sbom"
	"github.com/pantavisor/pantavisor/sbom/cyclonedx"
	"github.com/pantavisor/pantavisor/sbom/spdx2"
)

// from begins the comments of packages that a document says are there.
const from = "from the document sha256:"

// attachedID begins the identifiers of references to such documents.
const attachedID = "DocumentRef-attached-"

// Attached is a document that somebody attached to an image.
type Attached struct {
	// MediaType is application/spdx+json or application/vnd.cyclonedx+json.
	MediaType string
	Data      []byte
	// SHA256 is that of Data in hex.
	SHA256 string
	// To is the image, for people.
	To string
}

// attached refers to documents by their digests, and adds the packages in them that a scan of the root
// file system has not found. What both have is kept as it was found: the scan has seen the files. It
// returns notes.
func attached(list []Attached, d *sbom.Document, root string) (notes []string) {
	known := map[string]bool{}
	for _, p := range d.Packages {
		known[unqualified(p.PURL)] = true
	}
	for _, a := range list {
		read := spdx2.Read
		if strings.Contains(a.MediaType, "cyclonedx") {
			read = cyclonedx.Read
		}
		other, err := read(bytes.NewReader(a.Data))
		if err != nil {
			notes = append(notes, fmt.Sprintf("the document sha256:%s attached to %s is not used: %v", a.SHA256, a.To, err))
			continue
		}
		d.References = append(d.References, sbom.Reference{
			ID: attachedID + a.SHA256[:12], Namespace: cmp.Or(other.Namespace, sbom.NamespaceBase+"attached:"+a.SHA256),
			SHA256: a.SHA256, Comment: fmt.Sprintf("%s attached to %s", a.MediaType, a.To),
		})
		texts := map[string]sbom.Licence{}
		for _, l := range other.Licences {
			texts[l.ID] = l
		}
		for _, p := range other.Packages {
			if purl := unqualified(p.PURL); p.PURL == "" || p.Host || known[purl] {
				continue
			} else {
				known[purl] = true
			}
			p.ID, p.Comment = "", from+a.SHA256+" attached to "+a.To
			p.Declared, p.Concluded = named(d, texts, p.Declared), named(d, texts, p.Concluded)
			d.Relate(root, sbom.Contains, d.AddPackage(p))
		}
	}
	return notes
}

// kept takes what attached has added to an earlier document of the same image.
func kept(before, d *sbom.Document, root string) {
	if before == nil {
		return
	}
	known := map[string]bool{}
	for _, p := range d.Packages {
		known[unqualified(p.PURL)] = true
	}
	texts := map[string]sbom.Licence{}
	for _, l := range before.Licences {
		texts[l.ID] = l
	}
	for _, r := range before.References {
		if strings.HasPrefix(r.ID, attachedID) {
			d.References = append(d.References, r)
		}
	}
	for _, p := range before.Packages {
		if strings.HasPrefix(p.Comment, from) && !known[unqualified(p.PURL)] {
			p.Declared, p.Concluded = named(d, texts, p.Declared), named(d, texts, p.Concluded)
			d.Relate(root, sbom.Contains, d.AddPackage(p))
		}
	}
}

// unqualified returns a package URL without what follows the version.
func unqualified(purl string) string {
	if i := strings.IndexAny(purl, "?#"); i >= 0 {
		return purl[:i]
	}
	return purl
}

// reference matches the references in an expression.
var reference = regexp.MustCompile(`(DocumentRef-[A-Za-z0-9.-]+:)?LicenseRef-[A-Za-z0-9.-]+`)

// named returns an expression with the references of another document under names of ours, since others
// number theirs, and adds their texts. One with a reference that has no text there is not known.
func named(d *sbom.Document, texts map[string]sbom.Licence, expression string) string {
	missing := false
	out := reference.ReplaceAllStringFunc(expression, func(ref string) string {
		l, ok := texts[ref]
		if !ok {
			missing = true
			return ref
		}
		l.ID = sbom.LicenceID(cmp.Or(l.Name, strings.TrimPrefix(ref, "LicenseRef-")), l.Text)
		d.Licences = append(d.Licences, l)
		return l.ID
	})
	if missing {
		return ""
	}
	return out
}
