package vulns

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/sbom"
)

// apply changes a finding by the last statement that concerns it, and reports whether there is one.
func (s *Scan) apply(c *component, f *Finding) bool {
	var last *statement
	for _, n := range append([]string{f.Vulnerability}, f.Aliases...) {
		for _, st := range s.statements[n] {
			if !s.concerns(st, c) {
				continue
			}
			st.applied = true
			if last == nil || !st.before(last) {
				last = st
			}
		}
	}
	if last == nil {
		return false
	}
	f.State, f.Justification = last.status, last.justification
	f.Why = last.why() + "; " + f.Why
	f.Data = unique(append(f.Data, "VEX"))
	return true
}

func (st *statement) before(o *statement) bool {
	if c := st.time.Compare(o.time); c != 0 {
		return c < 0
	}
	return st.order < o.order
}

func (st *statement) why() string {
	text := st.origin + ": " + string(st.status)
	for _, more := range []string{st.justification, st.text} {
		if more != "" {
			text += ", " + more
		}
	}
	return text
}

// onlyStated are the vulnerabilities of a component that statements alone know of, and which affect it
// or may. What is said of a whole is one of the package that stands for it, not of all that is in it.
func (s *Scan) onlyStated(c *component) []Finding {
	known := map[string]bool{}
	for _, e := range c.entries {
		for _, n := range e.names {
			known[n] = true
		}
	}
	var out []Finding
	last := map[string]*statement{} // by the first name
	for _, n := range s.stating() {
		for _, st := range s.statements[n] {
			if st.names[0] != n || slices.ContainsFunc(st.names, func(n string) bool { return known[n] }) || !s.concerns(st, c) {
				continue
			}
			st.applied = true
			if o := last[n]; s.names(st, c) && (o == nil || o.before(st)) {
				last[n] = st
			}
		}
		if st := last[n]; st != nil && (st.status == Affected || st.status == Investigation) {
			f := Finding{
				Vulnerability: n, Part: c.part, Package: c.pkg.Name, Version: c.pkg.Version, PURL: c.pkg.PURL, State: st.status,
				Justification: st.justification, Why: st.why(), Data: []string{"VEX"},
			}
			f.Aliases = slices.DeleteFunc(unique(slices.Clone(st.names)), func(o string) bool { return o == n })
			out = append(out, f)
		}
	}
	return out
}

// stating are the names of vulnerabilities of which there are statements, sorted.
func (s *Scan) stating() []string {
	var out []string
	for n := range s.statements {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}

// concerns reports whether a statement is about a component: it names the component, a whole that has
// it, or it as a part of such a whole.
func (s *Scan) concerns(st *statement, c *component) bool {
	return slices.ContainsFunc(st.products, func(p product) bool {
		if len(p.parts) == 0 {
			return p.is(c) || s.isWhole(&p, c)
		}
		if !s.isWhole(&p, c) && !p.is(c) {
			return false
		}
		return slices.ContainsFunc(p.parts, func(q product) bool { return q.is(c) })
	})
}

// names reports whether a statement is about a component itself.
func (s *Scan) names(st *statement, c *component) bool {
	return slices.ContainsFunc(st.products, func(p product) bool {
		if len(p.parts) == 0 {
			return p.is(c) || slices.ContainsFunc(c.wholes, func(w whole) bool { return p.names(&w.thing) })
		}
		return s.concerns(st, c)
	})
}

// is reports whether a product is a component.
func (p *product) is(c *component) bool { return p.names(&c.thing) }

// thing is what a product may name: by an identifier, a digest, or a package URL.
type thing struct {
	ids    []string
	sha256 string
	purls  []purl
}

// thingOf returns what names a package: its source package does too.
func thingOf(pkg sbom.Package, u purl, source *identity) thing {
	t := thing{sha256: pkg.SHA256}
	for _, id := range []string{pkg.ID, pkg.PURL, pkg.CPE} {
		if id != "" {
			t.ids = append(t.ids, id)
		}
	}
	if u.kind == "" {
		return t
	}
	t.purls = append(t.purls, u)
	if source != nil && (u.kind == "deb" || u.kind == "apk") {
		u.name, u.version, u.qualifiers = source.name, source.version, maps.Clone(u.qualifiers)
		u.qualifiers["arch"] = "source"
		t.purls = append(t.purls, u)
	}
	return t
}

func (p *product) names(t *thing) bool {
	return p.sha256 != "" && p.sha256 == t.sha256 ||
		slices.ContainsFunc(p.ids, func(id string) bool { return slices.Contains(t.ids, id) }) ||
		slices.ContainsFunc(p.purls, func(stated purl) bool { return slices.ContainsFunc(t.purls, stated.covers) })
}

// whole is what a bill of materials describes, with all that is in it.
type whole struct {
	part string // empty for that of everything
	thing
}

// wholesOf returns what a document names: itself, by its namespace and name, and what it describes.
func wholesOf(part string, d *sbom.Document) []whole {
	out := []whole{{part, thing{ids: slices.DeleteFunc([]string{d.Namespace, d.Name}, func(id string) bool { return id == "" })}}}
	for _, pkg := range d.Packages {
		if !slices.Contains(d.Roots, pkg.ID) {
			continue
		}
		u, _ := parsePURL(pkg.PURL)
		t := thingOf(pkg, u, nil)
		t.ids = append(t.ids, pkg.Name)
		out = append(out, whole{part, t})
	}
	return out
}

// isWhole reports whether a product is something that has a component as a part.
func (s *Scan) isWhole(p *product, c *component) bool {
	return slices.ContainsFunc(s.wholes, func(w whole) bool { return (w.part == "" || w.part == c.part) && p.names(&w.thing) })
}

// unapplied lists the statements of files that concern nothing.
func (s *Scan) unapplied() []string {
	var out []string
	for _, n := range s.stating() {
		for _, st := range s.statements[n] {
			if st.names[0] != n || st.applied {
				continue
			}
			var about []string
			for _, p := range st.products {
				about = append(about, p.ids...)
			}
			out = append(out, fmt.Sprintf("%s: %s of %s", st.origin, n, strings.Join(about, ", ")))
		}
	}
	return unique(out)
}
