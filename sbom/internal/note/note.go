// Package note is the text of annotations in which documents of SPDX keep what the model says and SPDX
// cannot: a JSON object with the one key "pantavisor".
package note

import (
	"cmp"
	"encoding/json"
	"reflect"
	"strings"

	"github.com/pantavisor/pantavisor/sbom"
)

// Author is the tool that our annotations are by.
const Author = "pantavisor"

// Package is what the note of a package says. The fields that SPDX has are set where their form there
// does not hold the value.
type Package struct {
	Paths         []string `json:"paths,omitempty"`
	Host          bool     `json:"host,omitempty"`
	FileName      string   `json:"fileName,omitempty"`
	SourceName    string   `json:"sourceName,omitempty"`
	SourceVersion string   `json:"sourceVersion,omitempty"`
	Supplier      string   `json:"supplier,omitempty"`
	Purpose       string   `json:"purpose,omitempty"`
}

// Document is what the note of a document says. Files and references are named by their identifiers.
type Document struct {
	Support    *sbom.Support        `json:"support,omitempty"`
	Statements []Statement          `json:"statements,omitempty"`
	Files      map[string]File      `json:"files,omitempty"`
	References map[string]Reference `json:"references,omitempty"`
	Omitted    []string             `json:"omitted,omitempty"`
}

// File is what the note of a document says of a file.
type File struct {
	Size *int64 `json:"size,omitempty"`
	Name string `json:"name,omitempty"`
}

// Reference is what the note of a document says of a reference.
type Reference struct {
	Namespace string `json:"namespace,omitempty"`
	File      string `json:"file,omitempty"`
	Comment   string `json:"comment,omitempty"`
	SHA256    string `json:"sha256,omitempty"`
	SHA1      string `json:"sha1,omitempty"`
}

// Statement is [sbom.Statement].
type Statement struct {
	Vulnerability string   `json:"vulnerability,omitempty"`
	Status        string   `json:"status,omitempty"`
	Justification string   `json:"justification,omitempty"`
	Packages      []string `json:"packages,omitempty"`
	Text          string   `json:"text,omitempty"`
	Origin        string   `json:"origin,omitempty"`
}

// AddFile adds what is said of a file, if it is anything.
func (d *Document) AddFile(id string, f File) {
	if f == (File{}) {
		return
	}
	if d.Files == nil {
		d.Files = map[string]File{}
	}
	d.Files[id] = f
}

// AddReference adds what is said of a reference, if it is anything.
func (d *Document) AddReference(id string, r Reference) {
	if r == (Reference{}) {
		return
	}
	if d.References == nil {
		d.References = map[string]Reference{}
	}
	d.References[id] = r
}

// Add adds what another note says: a document that was joined of several has one of each. What both
// say stays.
func (d *Document) Add(o Document) {
	d.Support = cmp.Or(d.Support, o.Support)
	d.Statements = append(d.Statements, o.Statements...)
	d.Omitted = append(d.Omitted, o.Omitted...)
	for id, f := range o.Files {
		if _, ok := d.Files[id]; !ok {
			d.AddFile(id, f)
		}
	}
	for id, r := range o.References {
		if _, ok := d.References[id]; !ok {
			d.AddReference(id, r)
		}
	}
}

const prefix = `{"pantavisor":`

// Encode returns the text of a note, which is empty if the note says nothing.
func Encode[T Package | Document](n T) string {
	if reflect.ValueOf(n).IsZero() {
		return ""
	}
	var text strings.Builder
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	// Its types are strings, numbers and maps with keys of strings, which JSON has.
	_ = e.Encode(n)
	return prefix + strings.TrimSpace(text.String()) + "}"
}

// Decode reads a note from the text of an annotation by author, and reports whether it was one.
func Decode[T Package | Document](author, text string, to *T) bool {
	if author != Author || !strings.HasPrefix(text, prefix) {
		return false
	}
	outer := struct {
		Pantavisor *T `json:"pantavisor"`
	}{to}
	return json.Unmarshal([]byte(text), &outer) == nil
}
