// Package cra writes the list for the technical documentation of a product with digital elements
// (Regulation (EU) 2024/2847, Annexes II and VII): its parts and licences, what is known of their
// vulnerabilities, how it is updated and reset, its keys, and until when it is supported. It is a list
// of facts about what was built, not the documentation.
package cra

import (
	"cmp"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/sbom"
	"github.com/pantavisor/pantavisor/sbom/vulns"
)

// Format is the form of the list as JSON.
const Format = "pantavisor-cra@1"

// File is the list. The same product, data and statements have the same one.
type File struct {
	Format  string  `json:"format"`
	Product Product `json:"product"`
	// Gaps are what the regulation wants and nobody has said.
	Gaps     []string  `json:"gaps,omitempty"`
	Bills    []Bill    `json:"bills"`
	Licences []Licence `json:"licences"`
	Packages []Package `json:"packages"`
	// Vulnerabilities are nil when no data were given.
	Vulnerabilities *vulns.Report `json:"vulnerabilities,omitempty"`
	Updates         Updates       `json:"updates"`
	Reset           Reset         `json:"reset"`
	Keys            []Key         `json:"keys"`
	// Access are ways into the device that a product should not have.
	Access []string `json:"access,omitempty"`
	// Signatures are the files that prove who made the results.
	Signatures []string `json:"signatures,omitempty"`
}

// Product is what was built (Annex II 1 to 3 and 7, Annex VII 1).
type Product struct {
	Target      string `json:"target"`
	Description string `json:"description"`
	Release     string `json:"release,omitempty"`
	Arch        string `json:"arch"`
	// Built is the time in what was built.
	Built   time.Time    `json:"built"`
	Support sbom.Support `json:"support"`
}

// Bill is a bill of materials (Annex VII 2 b).
type Bill struct {
	Part      string `json:"part"`
	File      string `json:"file"`
	SHA256    string `json:"sha256"`
	Namespace string `json:"namespace,omitempty"`
	Packages  int    `json:"packages"`
	Files     int    `json:"files"`
}

// Licence is an expression with the number of packages that have it; empty for those of which none is
// known.
type Licence struct {
	Expression string `json:"expression"`
	Packages   int    `json:"packages"`
}

// Package is a component of the product.
type Package struct {
	Part     string `json:"part"`
	Name     string `json:"name"`
	Version  string `json:"version,omitempty"`
	Licence  string `json:"licence,omitempty"`
	Supplier string `json:"supplier,omitempty"`
	PURL     string `json:"purl,omitempty"`
}

// Updates say how security updates get onto the device (Annex I, part I 2 c; Annex II 8 c).
type Updates struct {
	// Loader is bootloader.type; empty when the product has none of its own.
	Loader string `json:"loader,omitempty"`
	// Tried reports that the boot loader falls back from a kernel that does not come up.
	Tried bool `json:"tried"`
	// How says in words how it falls back.
	How string `json:"how"`
	// Trials are the boots that an update gets, Delay the seconds that it must run before it is
	// committed, and Goals those in which its containers must be up.
	Trials int `json:"trials"`
	Delay  int `json:"commit_delay"`
	Goals  int `json:"goals_timeout"`
	// Signatures is what the device does with parts that are not signed.
	Signatures string `json:"signatures"`
	// Channels are where updates come from.
	Channels []string `json:"channels"`
}

// Reset says how the device gets back to how it was delivered (Annex I, part I 2 b).
type Reset struct {
	// Kept reports that revision 0 is never removed.
	Kept bool     `json:"kept"`
	How  []string `json:"how"`
}

// Key is a key or certificate that the device trusts.
type Key struct {
	// Name is that of the file in the image.
	Name    string `json:"name"`
	Kind    string `json:"kind"`
	Subject string `json:"subject,omitempty"`
	Issuer  string `json:"issuer,omitempty"`
	// SHA256 is that of the certificate, or of the public key as DER.
	SHA256 string `json:"sha256"`
	// Expires is the end of a certificate.
	Expires time.Time `json:"expires,omitzero"`
	// Problem is set for a key that no product may trust.
	Problem string `json:"problem,omitempty"`
}

// Contents adds the parts, packages and licences of bills of materials.
func (f *File) Contents(b *vulns.Bills) {
	f.Bills, f.Packages, f.Licences = []Bill{}, []Package{}, []Licence{}
	counts := map[string]int{}
	for _, p := range b.Parts {
		d := p.Document
		f.Bills = append(f.Bills, Bill{
			Part: p.Name, File: p.File, SHA256: b.Digests[p.File], Namespace: d.Namespace, Packages: len(d.Packages), Files: len(d.Files),
		})
		for _, pkg := range d.Packages {
			if pkg.Version == "" && pkg.PURL == "" {
				continue // stands for others, as a partition
			}
			licence := cmp.Or(pkg.Concluded, pkg.Declared)
			counts[licence]++
			f.Packages = append(f.Packages, Package{Part: p.Name, Name: pkg.Name, Version: pkg.Version, Licence: licence, Supplier: pkg.Supplier, PURL: pkg.PURL})
		}
		if d.Support != (sbom.Support{}) && f.Product.Support == (sbom.Support{}) {
			f.Product.Support = d.Support
		}
	}
	for expression, n := range counts {
		f.Licences = append(f.Licences, Licence{expression, n})
	}
	slices.SortFunc(f.Licences, func(a, b Licence) int {
		return cmp.Or(cmp.Compare(b.Packages, a.Packages), strings.Compare(a.Expression, b.Expression))
	})
	slices.SortStableFunc(f.Packages, func(a, b Package) int {
		return cmp.Or(strings.Compare(a.Part, b.Part), strings.Compare(a.Name, b.Name), strings.Compare(a.Version, b.Version), strings.Compare(a.PURL, b.PURL))
	})
	for _, u := range b.Unread {
		f.Gaps = append(f.Gaps, fmt.Sprintf("the bill of materials %s of %s was not read: %s", u.Package, u.Part, u.Why))
	}
}

// Known adds what is known of vulnerabilities. Times of files are left out: those of records stay.
func (f *File) Known(r *vulns.Report) {
	for i := range r.Data {
		r.Data[i].FileTime = time.Time{}
	}
	f.Vulnerabilities = r
}

// Certificate adds a certificate; problem may be empty.
func (f *File) Certificate(name string, c *x509.Certificate, problem string) {
	k := Key{
		Name: name, Kind: "certificate, " + c.PublicKeyAlgorithm.String(), Subject: c.Subject.String(), Issuer: c.Issuer.String(), SHA256: digest(c.Raw),
		Expires: c.NotAfter.UTC(), Problem: problem,
	}
	if end, ok := f.Product.Support.Ends(); ok && k.Problem == "" && c.NotAfter.Before(end) {
		k.Problem = "it expires before the support ends"
	}
	f.Keys = append(f.Keys, k)
}

// PublicKeys adds the keys of a text in PEM, and returns how many there are.
func (f *File) PublicKeys(name string, text []byte) int {
	n := 0
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "PUBLIC KEY" {
			n++
			f.Keys = append(f.Keys, Key{Name: name, Kind: "public key", SHA256: digest(block.Bytes)})
		}
	}
	return n
}

func digest(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// Complete lists what is missing.
func (f *File) Complete() {
	s := f.Product.Support
	for _, g := range []struct {
		missing bool
		text    string
	}{
		{s.Manufacturer == "", "nobody is named as the manufacturer: support.manufacturer in target.yaml (Annex II 1)"},
		{s.Contact == "", "there is no contact for reports of vulnerabilities: support.contact in target.yaml (Annex II 2)"},
		{s.End == "", "the end of the support period is not stated: support.end in target.yaml (Annex II 7)"},
		{f.Product.Release == "", "the product has no version: PV_VERSION (Annex II 3)"},
		{f.Vulnerabilities == nil, "known vulnerabilities were not looked for: --data (Annex I, part I 2 a)"},
		{f.Vulnerabilities != nil && f.Vulnerabilities.Counts[vulns.Affected] > 0, "there are vulnerabilities that affect the product (Annex I, part I 2 a)"},
		{f.Vulnerabilities != nil && f.Vulnerabilities.Counts[vulns.Unknown]+f.counted(vulns.Investigation) > 0, "of some vulnerabilities it is not known whether they affect the product"},
		{len(f.Keys) == 0, "the device trusts no key: parts of other origin cannot be told from those of the manufacturer (Annex I, part I 2 c)"},
		{!f.Updates.Tried, "the boot loader does not fall back by itself: " + f.Updates.How},
		{!f.Reset.Kept, "revision 0 may be removed when space is needed: PV_STORAGE_GC_KEEP_FACTORY=1 keeps it (Annex I, part I 2 b)"},
		{len(f.Access) > 0, "there are ways into the device that a product should not have (Annex I, part I 2 b)"},
	} {
		if g.missing {
			f.Gaps = append(f.Gaps, g.text)
		}
	}
	for _, k := range f.Keys {
		if k.Problem != "" {
			f.Gaps = append(f.Gaps, fmt.Sprintf("%s of %s: %s", cmp.Or(k.Subject, k.Kind), k.Name, k.Problem))
		}
	}
}

func (f *File) counted(s vulns.State) int { return f.Vulnerabilities.Counts[s] }
