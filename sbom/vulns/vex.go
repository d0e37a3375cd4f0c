package vulns

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/sbom"
)

// statement is one of VEX.
type statement struct {
	names                       []string // of the vulnerability
	status                      State
	justification, text, origin string
	products                    []product
	time                        time.Time
	order                       int
	applied                     bool
}

// product is what a statement is about: a thing, or parts of it.
type product struct {
	ids    []string // identifiers in a bill of materials, names, or package URLs
	purls  []purl   // those of ids that are package URLs
	sha256 string
	parts  []product
}

// read reads the package URLs.
func (p *product) read() {
	for _, id := range p.ids {
		if u, ok := parsePURL(id); ok {
			p.purls = append(p.purls, u)
		}
	}
	for i := range p.parts {
		p.parts[i].read()
	}
}

// The justifications of OpenVEX for what is not affected.
var justifications = []string{
	"component_not_present", "vulnerable_code_not_present", "vulnerable_code_not_in_execute_path",
	"vulnerable_code_cannot_be_controlled_by_adversary", "inline_mitigations_already_exist",
}

// VEX takes a file with statements in OpenVEX or CycloneDX.
func (s *Scan) VEX(ctx context.Context, file string) error {
	return (&load{Scan: s, ctx: ctx, single: true, vex: true}).file(file, file)
}

// statementOf returns a statement of a bill of materials.
func statementOf(st sbom.Statement) *statement {
	out := &statement{
		names: []string{st.Vulnerability}, status: State(st.Status), justification: st.Justification, text: st.Text, origin: st.Origin,
	}
	if out.origin == "" {
		out.origin = "the bill of materials"
	}
	for _, p := range st.Packages {
		out.products = append(out.products, product{ids: []string{p}})
	}
	return out
}

// state keeps a statement.
func (s *Scan) state(st *statement) {
	s.order++
	st.order = s.order
	for i := range st.products {
		st.products[i].read()
	}
	for _, n := range unique(slices.Clone(st.names)) {
		s.statements[n] = append(s.statements[n], st)
	}
}

// openVEX is what is read of a document of OpenVEX (https://github.com/openvex/spec, 0.2.0).
type openVEX struct {
	Timestamp  time.Time `json:"timestamp"`
	Statements []struct {
		Vulnerability openVEXName      `json:"vulnerability"`
		Timestamp     time.Time        `json:"timestamp"`
		Updated       time.Time        `json:"last_updated"`
		Products      []openVEXProduct `json:"products"`
		Status        State            `json:"status"`
		Notes         string           `json:"status_notes"`
		Justification string           `json:"justification"`
		Impact        string           `json:"impact_statement"`
		Action        string           `json:"action_statement"`
	} `json:"statements"`
}

// openVEXName names a vulnerability. Version 0.0.1 has a word in its place.
type openVEXName struct {
	Name    string   `json:"name"`
	Aliases []string `json:"aliases"`
}

// UnmarshalJSON takes both forms.
func (n *openVEXName) UnmarshalJSON(text []byte) error {
	if json.Unmarshal(text, &n.Name) == nil {
		return nil
	}
	type plain openVEXName
	return json.Unmarshal(text, (*plain)(n))
}

type openVEXProduct struct {
	ID            string            `json:"@id"`
	Identifiers   map[string]string `json:"identifiers"`
	Hashes        map[string]string `json:"hashes"`
	Subcomponents []openVEXProduct  `json:"subcomponents"`
}

// UnmarshalJSON takes both forms: version 0.0.1 has a word in place of an object.
func (p *openVEXProduct) UnmarshalJSON(text []byte) error {
	if json.Unmarshal(text, &p.ID) == nil {
		return nil
	}
	type plain openVEXProduct
	return json.Unmarshal(text, (*plain)(p))
}

func (p *openVEXProduct) product() product {
	out := product{sha256: strings.ToLower(p.Hashes["sha-256"])}
	for _, id := range []string{p.ID, p.Identifiers["purl"], p.Identifiers["cpe23"]} {
		if id != "" {
			out.ids = append(out.ids, id)
		}
	}
	for _, part := range p.Subcomponents {
		out.parts = append(out.parts, part.product())
	}
	return out
}

// openVEX takes a document of OpenVEX.
func (l *load) openVEX(text []byte, src *Source) error {
	var d openVEX
	if err := strict(text, &d); err != nil {
		return err
	}
	for i, v := range d.Statements {
		st := &statement{
			names: append([]string{v.Vulnerability.Name}, v.Vulnerability.Aliases...), status: v.Status, justification: v.Justification,
			origin: filepath.Base(src.Path), time: latest(d.Timestamp, v.Timestamp, v.Updated), text: firstOf(v.Impact, v.Action, v.Notes),
		}
		for _, p := range v.Products {
			st.products = append(st.products, p.product())
		}
		if err := l.stated(st, src); err != nil {
			return fmt.Errorf("statements[%d]: %w", i, err)
		}
	}
	return nil
}

// latest returns the time of a statement: its own, or that of the document.
func latest(document time.Time, own ...time.Time) time.Time {
	out := time.Time{}
	for _, t := range own {
		if t.After(out) {
			out = t
		}
	}
	if out.IsZero() {
		return document
	}
	return out
}

func firstOf(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

// stated checks and keeps a statement of a file.
func (l *load) stated(st *statement, src *Source) error {
	st.names = slices.DeleteFunc(st.names, func(n string) bool { return n == "" })
	switch {
	case len(st.names) == 0:
		return errors.New("it names no vulnerability")
	case len(st.products) == 0:
		return errors.New("it names no product: name the package, or the whole, as docs/vulns.md says")
	case st.status == Unknown || !slices.Contains(states, st.status):
		return fmt.Errorf("%q is not a status: want not_affected, affected, fixed or under_investigation", st.status)
	case st.justification != "" && !slices.Contains(justifications, st.justification):
		return fmt.Errorf("%q is not a justification: want one of %s", st.justification, strings.Join(justifications, ", "))
	case st.status == NotAffected && st.justification == "" && st.text == "":
		return errors.New("not_affected needs a justification, or an impact_statement: say why")
	}
	for _, p := range st.products {
		if p.empty() {
			return errors.New("a product has neither an identifier nor a digest")
		}
	}
	src.Records++
	if st.time.After(src.Modified) {
		src.Modified = st.time.UTC()
	}
	l.state(st)
	return nil
}

func (p *product) empty() bool {
	return len(p.ids) == 0 && p.sha256 == "" || slices.ContainsFunc(p.parts, func(q product) bool { return q.empty() })
}

// cycloneDX is what is read of a document of CycloneDX (version 1.4 to 1.6).
type cycloneDX struct {
	Metadata struct {
		Timestamp time.Time          `json:"timestamp"`
		Component cycloneDXComponent `json:"component"`
	} `json:"metadata"`
	Components      []cycloneDXComponent `json:"components"`
	Vulnerabilities []struct {
		ID         string    `json:"id"`
		Updated    time.Time `json:"updated"`
		References []struct {
			ID string `json:"id"`
		} `json:"references"`
		Analysis struct {
			State         string    `json:"state"`
			Justification string    `json:"justification"`
			Detail        string    `json:"detail"`
			Updated       time.Time `json:"lastUpdated"`
		} `json:"analysis"`
		Affects []struct {
			Ref string `json:"ref"`
		} `json:"affects"`
	} `json:"vulnerabilities"`
}

type cycloneDXComponent struct {
	Ref        string               `json:"bom-ref"`
	PURL       string               `json:"purl"`
	Components []cycloneDXComponent `json:"components"`
}

// analyses are the states of CycloneDX in OpenVEX's words.
var analyses = map[string]State{
	"resolved": Fixed, "resolved_with_pedigree": Fixed, "exploitable": Affected, "in_triage": Investigation, "false_positive": NotAffected, "not_affected": NotAffected,
}

// reasons are the justifications of CycloneDX in OpenVEX's words.
var reasons = map[string]string{
	"code_not_present": "vulnerable_code_not_present", "code_not_reachable": "vulnerable_code_not_in_execute_path",
	"requires_configuration": "vulnerable_code_cannot_be_controlled_by_adversary", "requires_dependency": "vulnerable_code_cannot_be_controlled_by_adversary",
	"requires_environment": "vulnerable_code_cannot_be_controlled_by_adversary", "protected_by_compiler": "inline_mitigations_already_exist",
	"protected_at_runtime": "inline_mitigations_already_exist", "protected_at_perimeter": "inline_mitigations_already_exist",
	"protected_by_mitigating_control": "inline_mitigations_already_exist",
}

// cycloneDX takes the analyses of a document of CycloneDX. Vulnerabilities without one say nothing of
// how they affect.
func (l *load) cycloneDX(text []byte, src *Source) error {
	var d cycloneDX
	if err := strict(text, &d); err != nil {
		return err
	}
	purls := map[string]string{}
	for _, c := range append(d.Components, d.Metadata.Component) {
		c.collect(purls)
	}
	for i, v := range d.Vulnerabilities {
		status, ok := analyses[v.Analysis.State]
		switch {
		case v.Analysis.State == "":
			continue
		case !ok:
			return fmt.Errorf("vulnerabilities[%d]: %q is not a state of an analysis", i, v.Analysis.State)
		}
		st := &statement{
			names: []string{v.ID}, status: status, justification: reasons[v.Analysis.Justification], text: v.Analysis.Detail,
			origin: filepath.Base(src.Path), time: latest(d.Metadata.Timestamp, v.Updated, v.Analysis.Updated),
		}
		if st.status == NotAffected && st.text == "" && st.justification == "" {
			st.text = v.Analysis.State
		}
		for _, r := range v.References {
			st.names = append(st.names, r.ID)
		}
		for _, a := range v.Affects {
			ref := a.Ref
			if strings.HasPrefix(ref, "urn:cdx:") { // a BOM-Link
				_, ref, _ = strings.Cut(ref, "#")
			}
			p := product{ids: []string{ref}}
			if u := purls[ref]; u != "" {
				p.ids = append(p.ids, u)
			}
			st.products = append(st.products, p)
		}
		if err := l.stated(st, src); err != nil {
			return fmt.Errorf("vulnerabilities[%d]: %w", i, err)
		}
	}
	return nil
}

// collect notes the package URLs of a component and those in it.
func (c *cycloneDXComponent) collect(purls map[string]string) {
	if c.Ref != "" && c.PURL != "" {
		purls[c.Ref] = c.PURL
	}
	for _, below := range c.Components {
		below.collect(purls)
	}
}

// strict reads a JSON text in which no object has a name twice: of a statement it would not be clear
// what it says.
func strict(text []byte, v any) error {
	if err := single(json.NewDecoder(bytes.NewReader(text)), 0); err != nil {
		return ended(err)
	}
	return json.Unmarshal(text, v)
}

// maxDepth bounds how deep values are in others.
const maxDepth = 100

// single reads a value and checks that no object in it has a name twice.
func single(dec *json.Decoder, depth int) error {
	t, err := dec.Token()
	if err != nil {
		if errors.Is(err, io.EOF) {
			return io.ErrUnexpectedEOF
		}
		return err
	}
	d, _ := t.(json.Delim)
	if d == 0 {
		return nil
	}
	if depth > maxDepth {
		return fmt.Errorf("values are more than %d deep in others", maxDepth)
	}
	names := map[string]bool{}
	for dec.More() {
		if d == '{' {
			t, err := dec.Token()
			if err != nil {
				return err
			}
			name, _ := t.(string)
			if names[name] {
				return fmt.Errorf("an object has the member %q twice", name)
			}
			names[name] = true
		}
		if err := single(dec, depth+1); err != nil {
			return err
		}
	}
	_, err = dec.Token()
	return err
}
