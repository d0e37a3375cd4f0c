// Package copyright reads the licences of Debian packages from their copyright files, in the
// machine-readable form (DEP-5, https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/).
//
// What the form calls a short name becomes an identifier of SPDX's list where that has the licence;
// every other licence becomes a LicenseRef with its text. A file that does not follow the form is kept
// whole as one LicenseRef: what it says is for people.
package copyright

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/sbom"
	"github.com/pantavisor/pantavisor/sbom/licence"
)

const (
	// MaxSize bounds a copyright file in bytes. The largest in use have 2 MiB.
	MaxSize = 8 << 20
	// maxHolders bounds the lines with holders of copyrights, of which a large package has thousands.
	maxHolders = 200
)

// Copyright is what a copyright file says of a package.
type Copyright struct {
	// Expression is in SPDX's syntax: the licences of all files of the source package together. It
	// is empty for an empty file.
	Expression string
	// Licences are the texts of the LicenseRefs in the expression.
	Licences []sbom.Licence
	// Holders are the lines with holders of copyrights, each once; of very many the first.
	Holders string
	// Formal reports whether the file follows the form.
	Formal bool
}

// Parse reads a copyright file. The name of the source package is part of the name of a text
// that does not follow the form. The only error is that of a file beyond [MaxSize].
func Parse(source string, text []byte) (*Copyright, error) {
	if len(text) > MaxSize {
		return nil, fault.New(fault.BadInput, "the copyright file of %.200q has %d bytes: the limit is %d", source, len(text), MaxSize)
	}
	plain := strings.ToValidUTF8(strings.ReplaceAll(string(text), "\r\n", "\n"), "\uFFFD")
	if c := parse(plain); c != nil {
		return c, nil
	}
	return informal(source, plain), nil
}

// Line reads what a package of any kind says of its licence in one line: the form's short names and
// operators, and identifiers of SPDX's list. Licences outside of it become LicenseRefs.
func Line(line string) (expression string, refs []sbom.Licence) {
	if strings.TrimSpace(line) == "" {
		return "", nil
	}
	if id, ok := ShortName(line); ok {
		return id, nil // a name with a comma: "Apache License, Version 2.0"
	}
	r := reader{refs: map[string]sbom.Licence{}}
	expression = r.expression(line, "")
	return expression, r.used(expression)
}

// informal keeps a text whole.
func informal(source, text string) *Copyright {
	if strings.TrimSpace(text) == "" {
		return &Copyright{}
	}
	name := source + "-copyright"
	id := sbom.LicenceID(name, text)
	return &Copyright{Expression: id, Licences: []sbom.Licence{{ID: id, Name: name, Text: text}}}
}

// parse reads the form; it returns nil for a text that does not follow it.
func parse(text string) *Copyright {
	paragraphs := split(text)
	if len(paragraphs) == 0 || !isForm(paragraphs[0]) {
		return nil
	}
	r := reader{texts: map[string]string{}, refs: map[string]sbom.Licence{}}
	for _, p := range paragraphs {
		if synopsis, body := cutLicence(p["license"]); body != "" && p["files"] == "" {
			r.texts[fold(synopsis)] = body
		}
	}
	var all []string
	header := ""
	for i, p := range paragraphs {
		expression := ""
		if p["license"] != "" && (i == 0 || p["files"] != "") {
			expression = r.expression(cutLicence(p["license"]))
		}
		if i == 0 {
			header = expression
		} else {
			all = append(all, expression)
		}
		r.hold(p["copyright"])
	}
	c := &Copyright{Expression: licence.And(all...), Holders: r.holderLines(), Formal: true}
	if c.Expression == "" {
		c.Expression = header
	}
	if c.Expression == "" {
		return nil // a header alone says nothing
	}
	c.Licences = r.used(c.Expression)
	return c
}

// isForm reports whether the first paragraph names the form. Drafts of the form had other names for
// the field, and other addresses.
func isForm(header map[string]string) bool {
	format := strings.ToLower(header["format"] + header["format-specification"])
	for _, address := range []string{"copyright-format", "dep5", "dep-5", "machinereadablelicense", "copyright-spec"} {
		if strings.Contains(format, address) {
			return true
		}
	}
	return false
}

// split returns the paragraphs with their fields by lower-case name. The first line of a value
// comes first in it, the others are without the blank of their continuation. A line that is neither a
// field nor a continuation belongs to the field above it: texts were pasted without blanks.
func split(text string) []map[string]string {
	var out []map[string]string
	var current map[string]*strings.Builder
	var field *strings.Builder
	flush := func() {
		if len(current) > 0 {
			p := make(map[string]string, len(current))
			for name, value := range current {
				p[name] = strings.TrimRight(value.String(), " \t\n")
			}
			out = append(out, p)
		}
		current, field = map[string]*strings.Builder{}, nil
	}
	flush()
	for line := range strings.Lines(strings.TrimPrefix(text, "\uFEFF")) {
		line = strings.TrimRight(line, " \t\n")
		name, value, isField := cutField(line)
		switch {
		case line == "":
			flush()
		case strings.HasPrefix(line, "#"): // a comment
		case isField && current[name] == nil:
			field = &strings.Builder{}
			current[name] = field
			field.WriteString(value)
		case field != nil:
			field.WriteString("\n" + unfold(line))
		}
	}
	flush()
	return out
}

// fields are those of the form: in a text without blanks, "Note: ..." begins no field.
var fields = []string{
	"format", "format-specification", "upstream-name", "upstream-contact", "source", "disclaimer", "comment",
	"license", "copyright", "files", "files-excluded", "maintainer", "name",
}

func cutField(line string) (name, value string, ok bool) {
	name, value, ok = strings.Cut(line, ":")
	name = strings.ToLower(name)
	return name, strings.TrimSpace(value), ok && slices.Contains(fields, name)
}

// unfold removes what makes a line a continuation: a blank, and a dot for an empty line.
func unfold(line string) string {
	if strings.TrimSpace(line) == "." {
		return ""
	}
	if line[0] == ' ' || line[0] == '\t' {
		return line[1:]
	}
	return line
}

// cutLicence returns the first line of a field License and the text below it.
func cutLicence(value string) (synopsis, body string) {
	synopsis, body, _ = strings.Cut(value, "\n")
	return strings.TrimSpace(synopsis), strings.Trim(body, "\n")
}

// fold returns the form of a name in which it is looked up.
func fold(name string) string { return strings.Join(strings.Fields(strings.ToLower(name)), " ") }

// reader reads the paragraphs of one file.
type reader struct {
	texts   map[string]string       // texts of the paragraphs of licences, by folded name
	refs    map[string]sbom.Licence // those made, by ID
	seen    map[string]bool         // holders
	holders []string
	more    int
}

// reference returns a LicenseRef for a name that SPDX's list does not have, with the text of its
// paragraph, or with that which stands in the paragraph of the files.
func (r *reader) reference(name, body string) string {
	text := ""
	if name != "" {
		text = r.texts[fold(name)]
	}
	if text == "" {
		text = body
	}
	if text == "" {
		// "GPL-2+ with OpenSSL exception" is often explained below GPL-2+.
		base, _, _ := strings.Cut(fold(name), " with ")
		text = r.texts[base]
	}
	if text == "" {
		text = fmt.Sprintf("The package names the licence %q and has no text of it.", name)
	}
	if name == "" {
		name = "unnamed"
	}
	id := sbom.LicenceID(name, text)
	r.refs[id] = sbom.Licence{ID: id, Name: name, Text: text}
	return id
}

// used returns the texts of those references that an expression has, by ID.
func (r *reader) used(expression string) []sbom.Licence {
	var out []sbom.Licence
	for _, word := range strings.FieldsFunc(expression, func(c rune) bool { return c == ' ' || c == '(' || c == ')' }) {
		if l, ok := r.refs[word]; ok {
			out = append(out, l)
			delete(r.refs, word)
		}
	}
	slices.SortFunc(out, func(a, b sbom.Licence) int { return strings.Compare(a.ID, b.ID) })
	return out
}

// hold takes the lines of a field Copyright.
func (r *reader) hold(value string) {
	if r.seen == nil {
		r.seen = map[string]bool{}
	}
	for line := range strings.Lines(value) {
		line = strings.TrimSpace(line)
		if line == "" || r.seen[line] {
			continue
		}
		if len(r.holders) == maxHolders {
			r.more++
			continue
		}
		r.seen[line] = true
		r.holders = append(r.holders, line)
	}
}

func (r *reader) holderLines() string {
	lines := r.holders
	if r.more > 0 {
		lines = append(lines, fmt.Sprintf("and %d more lines", r.more))
	}
	return strings.Join(lines, "\n")
}
