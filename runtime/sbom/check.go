package sbom

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// element is an element of a list: what identifies it, what says that it is another one, and what
// relations join. It is also the form of the packages that the joined document has beside those of the
// parts.
type element struct {
	ID          string     `json:"SPDXID,omitempty"`
	Licence     string     `json:"licenseId,omitempty"`
	Reference   string     `json:"externalDocumentId,omitempty"`
	Name        string     `json:"name,omitempty"`
	File        string     `json:"fileName,omitempty"`
	PackageFile string     `json:"packageFileName,omitempty"`
	Version     string     `json:"versionInfo,omitempty"`
	Text        string     `json:"extractedText,omitempty"`
	Document    string     `json:"spdxDocument,omitempty"`
	Download    string     `json:"downloadLocation,omitempty"`
	Analyzed    *bool      `json:"filesAnalyzed,omitempty"`
	Checksums   []checksum `json:"checksums,omitempty"`
	Checksum    *checksum  `json:"checksum,omitempty"` // of a reference
	Purpose     string     `json:"primaryPackagePurpose,omitempty"`
	Comment     string     `json:"comment,omitempty"`
}

type checksum struct {
	Algorithm string `json:"algorithm"`
	Value     string `json:"checksumValue"`
}

// relation joins two elements.
type relation struct {
	From    string `json:"spdxElementId"`
	Kind    string `json:"relationshipType"`
	To      string `json:"relatedSpdxElement"`
	Comment string `json:"comment,omitempty"`
}

// The beginnings of identifiers (SPDX 2.3, 3.2, 6.6 and 10.1). Those with own are of this package alone.
const (
	prefix        = "SPDXRef-"
	own           = prefix + "Revision-"
	licencePrefix = "LicenseRef-"
	otherDocument = "DocumentRef-"
	theDocument   = prefix + "DOCUMENT"
)

// written is the bit of an element's hash that says that it has been written.
const written = 1

// check reads the document of a part and decides whether it can be used. If it cannot, a comment
// says why, and nothing else of it is kept.
func (j *joiner) check(p *part) {
	if p.sum == "" {
		if len(p.objects) > 0 {
			j.comments = append(j.comments, fmt.Sprintf("Part %s has no SBOM: its objects are listed by their digests.", p.name))
		}
		return
	}
	c := &checker{joiner: j, has: map[string]bool{}, listed: map[string]bool{}, created: j.created, relations: j.rest}
	for _, o := range p.objects {
		c.listed[o.Sum] = false
	}
	err := j.read(p, "", c.visit)
	if err == nil && c.version == "" {
		err = errors.New("it has no spdxVersion")
	}
	if err != nil {
		for _, key := range c.added {
			delete(j.known, key)
		}
		j.comments = append(j.comments, fmt.Sprintf("The SBOM of part %s is left out, its objects are listed by their digests: %s", p.name, short(strings.ToValidUTF8(err.Error(), "?"))))
		return
	}
	p.has, p.listed = c.has, c.listed
	j.created, j.rest = c.created, c.relations
	for _, text := range c.creators {
		j.creator(text)
	}
	if c.comment != "" {
		j.comments = append(j.comments, p.name+": "+short(c.comment))
	}
}

// creator adds a creator, once.
func (j *joiner) creator(text string) {
	for _, have := range j.creators {
		if have == text {
			return
		}
	}
	if len(j.creators) < maxCreators && len(text) <= maxText {
		j.creators = append(j.creators, text)
	}
}

// checker is what one part's document has brought.
type checker struct {
	*joiner
	has       map[string]bool
	listed    map[string]bool // of the part's objects, whether an element has their digest
	version   string
	created   string
	creators  []string
	comment   string
	added     []uint64 // keys of known
	relations int
}

func (c *checker) visit(list string, raw []byte) error {
	if !utf8.Valid(raw) {
		return fmt.Errorf("%.40s: it has bytes that are not UTF-8", list)
	}
	switch list {
	case "spdxVersion":
		if err := json.Unmarshal(raw, &c.version); err != nil || c.version != "SPDX-2.3" && c.version != "SPDX-2.2" {
			return fmt.Errorf("its version is %.40s, not SPDX-2.3", raw)
		}
	case "comment":
		return json.Unmarshal(raw, &c.comment)
	case "creationInfo":
		return c.creation(raw)
	case references, licences, packages, files, snippets:
		c.has[list] = true
		return c.element(list, raw)
	case annotations:
		c.has[list] = true
		if raw[0] != '{' {
			return errors.New("an annotation is not an object")
		}
	case described, relations:
		c.has[list] = true
		if c.relations++; c.relations > maxElements {
			return fmt.Errorf("the parts have more than %d relations", maxElements)
		}
		return wellFormed(list, raw)
	}
	return nil
}

// wellFormed checks that a relation can be read when it is written.
func wellFormed(list string, raw []byte) error {
	if list == described {
		var id string
		return json.Unmarshal(raw, &id)
	}
	var r relation
	if err := json.Unmarshal(raw, &r); err != nil {
		return err
	}
	if r.From == "" || r.Kind == "" || r.To == "" {
		return fmt.Errorf("the relation %.200s lacks an end or its type", raw)
	}
	return nil
}

func (c *checker) creation(raw []byte) error {
	var info struct {
		Created  time.Time
		Creators []string
	}
	if err := json.Unmarshal(raw, &info); err != nil {
		return fmt.Errorf("creationInfo: %w", err)
	}
	if !info.Created.IsZero() {
		c.created = max(c.created, stamp(info.Created))
	}
	c.creators = info.Creators
	return nil
}

// stamp is the form of times in a document (SPDX 2.3, 6.9).
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

// element checks that the identifier of an element stands for nothing else.
func (c *checker) element(list string, raw []byte) error {
	var e element
	if err := json.Unmarshal(raw, &e); err != nil {
		return fmt.Errorf("%s: %w", list, err)
	}
	id := e.identifier(list)
	if id == "" || strings.HasPrefix(id, own) || id == theDocument {
		return fmt.Errorf("%s: %.200s has no valid identifier", list, raw)
	}
	what := []string{list, e.Name, e.File, e.Version, e.Text, e.Document}
	for _, sum := range e.Checksums {
		if sum.Algorithm == "SHA256" {
			value := strings.ToLower(sum.Value)
			what = append(what, value)
			if _, mine := c.listed[value]; mine {
				c.listed[value] = true
			}
		}
	}
	if e.Checksum != nil {
		what = append(what, e.Checksum.Algorithm, e.Checksum.Value)
	}
	key, hash := number(id), number(what...)&^written
	switch have, ok := c.known[key]; {
	case !ok:
		if len(c.known) >= maxElements {
			return fmt.Errorf("the parts have more than %d elements", maxElements)
		}
		c.known[key] = hash
		c.added = append(c.added, key)
	case have != hash:
		return fmt.Errorf("%s: %.100s is the identifier of something else already", list, id)
	}
	return nil
}

// identifier returns the identifier of an element of a list, "" for one that is not valid.
func (e *element) identifier(list string) string {
	id, begins := e.ID, prefix
	switch list {
	case licences:
		id, begins = e.Licence, licencePrefix
	case references:
		id, begins = e.Reference, otherDocument
	}
	name, ok := strings.CutPrefix(id, begins)
	if !ok || name == "" || strings.Trim(name, "-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz") != "" {
		return ""
	}
	return id
}

// number returns 64 bits of the SHA-256 of texts.
func number(texts ...string) uint64 {
	h := sha256.New()
	var size [4]byte
	for _, t := range texts {
		binary.BigEndian.PutUint32(size[:], uint32(len(t)))
		h.Write(size[:])
		h.Write([]byte(t))
	}
	return binary.BigEndian.Uint64(h.Sum(nil))
}
