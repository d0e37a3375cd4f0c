package vulns

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/sbom"
)

// Part is a bill of materials and the part of a revision that it is about.
type Part struct {
	Name     string
	Document *sbom.Document
	// File is where it was read, below the directory of the first one; empty when it was not.
	File string
}

// Scan is a join in the making.
type Scan struct {
	parts      []Part
	components []*component
	index      map[key][]place
	kernel     bool // there is one, so that files of its source are of interest

	files     map[string][]string // of the kernel's source, by vulnerability
	filesSize int
	entries   int
	seen      map[string]bool // ecosystems that data speak of
	data      []*Source

	statements map[string][]*statement // by the names of vulnerabilities
	wholes     []whole
	order      int
}

// component is a package of a part.
type component struct {
	part    string
	pkg     sbom.Package
	ids     []identity
	thing   thing
	wholes  []whole // of which it is the package that stands for them
	entries []entry
	code    *kernelCode // of a kernel
}

type key struct{ ecosystem, name string }

// place is an identity of a component.
type place struct {
	*component
	id *identity
}

// entry is what one record of data says of a component.
type entry struct {
	names    []string // of the vulnerability, its own first
	state    State
	why      string
	fixedIn  string
	severity string
	files    []string
	form     string
	upstream bool
}

// New indexes the packages of bills of materials. The first one is about the whole, the others about
// parts of it.
func New(parts ...Part) *Scan {
	s := &Scan{parts: parts, index: map[key][]place{}, files: map[string][]string{}, seen: map[string]bool{}, statements: map[string][]*statement{}}
	type known struct{ part, id string }
	there := map[known]bool{}
	for i, p := range parts {
		of := p.Name
		if i == 0 {
			of = ""
		}
		wholes := wholesOf(of, p.Document)
		s.wholes = append(s.wholes, wholes...)
		tools := toolsOf(p.Document)
		for _, pkg := range p.Document.Packages {
			if there[known{p.Name, pkg.ID}] {
				continue
			}
			there[known{p.Name, pkg.ID}] = true
			part := p.Name
			if tools[pkg.ID] {
				part = buildTools
			}
			c := s.component(part, pkg)
			if slices.Contains(p.Document.Roots, pkg.ID) {
				c.wholes = wholes
			}
		}
		for _, st := range p.Document.Statements {
			s.state(statementOf(st))
		}
	}
	return s
}

// buildTools is the part of packages that ran on the machine of the build alone.
const buildTools = "build tools"

// toolsOf returns the packages of a document that ran on the machine of the build, and of which nothing
// that it describes is made.
func toolsOf(d *sbom.Document) map[string]bool {
	tools := map[string]bool{}
	for _, r := range d.Relations {
		if r.Kind == sbom.BuildToolOf {
			tools[r.From] = true
		}
	}
	for _, r := range d.Relations {
		if r.Kind == sbom.Contains || r.Kind == sbom.GeneratedFrom || r.Kind == sbom.Describes {
			delete(tools, r.To)
		}
	}
	return tools
}

func (s *Scan) component(part string, pkg sbom.Package) *component {
	c := &component{part: part, pkg: pkg, ids: identities(pkg)}
	u, _ := parsePURL(pkg.PURL)
	u.version = cmp.Or(u.version, pkg.Version)
	var source *identity
	if len(c.ids) > 0 && c.ids[0].ecosystem != linux {
		source = &c.ids[0]
	}
	c.thing = thingOf(pkg, u, source)
	s.components = append(s.components, c)
	for i := range c.ids {
		id := &c.ids[i]
		if id.ecosystem == linux {
			c.code, s.kernel = codeOf(pkg), true
		}
		k := key{id.ecosystem, id.name}
		s.index[k] = append(s.index[k], place{c, id})
	}
	return c
}

// maxEntries bounds what is kept of data.
const maxEntries = 4 << 20

// add keeps what a record says of a component.
func (s *Scan) add(c *component, e entry) error {
	if s.entries++; s.entries > maxEntries {
		return fmt.Errorf("more than %d entries concern the packages", maxEntries)
	}
	c.entries = append(c.entries, e)
	return nil
}

// maxFiles bounds the names of files of the kernel's source, in bytes.
const maxFiles = 64 << 20

// name keeps the files that have the code of a vulnerability.
func (s *Scan) name(vulnerability string, files []string) error {
	for _, f := range files {
		if s.filesSize += len(f); s.filesSize > maxFiles {
			return fmt.Errorf("the names of files of the kernel are more than %d bytes", maxFiles)
		}
	}
	s.files[vulnerability] = append(s.files[vulnerability], files...)
	return nil
}

// groups joins the entries of a component that are about one vulnerability, by its names.
func (c *component) groups() [][]entry {
	leader := map[string]string{}
	find := func(name string) string {
		for leader[name] != name {
			leader[name] = leader[leader[name]]
			name = leader[name]
		}
		return name
	}
	for _, e := range c.entries {
		for _, n := range e.names {
			if leader[n] == "" {
				leader[n] = n
			}
			leader[find(n)] = find(e.names[0])
		}
	}
	byName := map[string][]entry{}
	for _, e := range c.entries {
		root := find(e.names[0])
		byName[root] = append(byName[root], e)
	}
	var out [][]entry
	for _, root := range slices.Sorted(maps.Keys(byName)) {
		out = append(out, byName[root])
	}
	return out
}

// definite is the order in which statements of data of the same rank count: what says that a version
// is affected, what says that it is not, then what does not know.
var definite = []State{Affected, Fixed, NotAffected, Investigation, Unknown}

// finding joins what data say of one vulnerability. plain is set when they alone rule it out.
func (s *Scan) finding(c *component, group []entry) (f Finding, plain bool) {
	f = Finding{Part: c.part, Package: c.pkg.Name, Version: c.pkg.Version, PURL: c.pkg.PURL}
	f.Vulnerability, f.Aliases = names(group)
	if id := c.ids[0]; id.name != c.pkg.Name && id.ecosystem != linux {
		f.Source = id.name
	}
	decisive := slices.DeleteFunc(slices.Clone(group), func(e entry) bool { return e.upstream })
	if len(decisive) == 0 {
		decisive = group
	}
	rank := func(e entry) int { return slices.Index(definite, e.state) }
	slices.SortStableFunc(decisive, func(a, b entry) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), strings.Compare(a.form, b.form), strings.Compare(a.why, b.why))
	})
	first := decisive[0]
	f.State, f.Why = first.state, first.form+": "+first.why
	for _, e := range decisive {
		if e.state == first.state {
			f.FixedIn = cmp.Or(f.FixedIn, e.fixedIn)
		} else if e.state == Fixed || e.state == NotAffected {
			f.Why += fmt.Sprintf("; but %s: %s", e.form, e.why)
		}
		f.Severity = worse(f.Severity, e.severity)
	}
	for _, e := range group {
		if f.Severity == "" {
			f.Severity = worse(f.Severity, e.severity)
		}
		f.Data = append(f.Data, e.form)
		f.Files = append(f.Files, e.files...)
	}
	f.Data = unique(f.Data)
	plain = f.State == Fixed || f.State == NotAffected
	if c.code != nil {
		s.weigh(c, &f)
	}
	return f, plain
}

// names returns the name of a vulnerability and its other names: that of CVE comes first.
func names(group []entry) (name string, others []string) {
	var all []string
	for _, e := range group {
		all = append(all, e.names...)
	}
	all = unique(all)
	i := max(slices.IndexFunc(all, func(n string) bool { return strings.HasPrefix(n, "CVE-") }), 0)
	return all[i], slices.Delete(slices.Clone(all), i, i+1)
}

func unique(list []string) []string {
	slices.Sort(list)
	return slices.Compact(list)
}

// weigh says of a kernel whose version is affected whether it has the code.
func (s *Scan) weigh(c *component, f *Finding) {
	for _, n := range append(f.Aliases, f.Vulnerability) {
		f.Files = append(f.Files, s.files[n]...)
	}
	f.Files = unique(f.Files)
	if f.State != Affected {
		return
	}
	if len(f.Files) == 0 {
		f.State, f.Why = Unknown, f.Why+"; no data name the files of the source, so that it is not known whether this kernel has the code"
		return
	}
	has, files := c.code.weigh(f.Files)
	list := strings.Join(files[:min(len(files), 3)], ", ")
	switch has {
	case present:
		f.Why += "; this kernel has " + list
	case absent:
		f.State, f.Justification = NotAffected, "vulnerable_code_not_present"
		f.Why += "; this kernel cannot have " + list
	case unsure:
		f.State = Unknown
		f.Why += "; its modules do not show whether this kernel has " + list
	}
}

// Report is the result.
type Report struct {
	// Name and Namespace are those of the bill of materials of the whole.
	Name      string `json:"name"`
	Namespace string `json:"namespace,omitempty"`
	// Data are what was joined.
	Data []Source `json:"data"`
	// Counts are the numbers of findings by state, without those of tools of the build, which are
	// OfTools.
	Counts  map[State]int `json:"counts"`
	OfTools int           `json:"of_tools,omitempty"`
	// RuledOut are the vulnerabilities of other versions of the packages, which data rule out; they
	// are findings only when all are asked for.
	RuledOut int       `json:"ruled_out"`
	Findings []Finding `json:"findings"`
	// Uncovered are packages of which no data speak.
	Uncovered []Uncovered `json:"uncovered,omitempty"`
	// Unapplied are statements of VEX that concern nothing in the bills of materials.
	Unapplied []string `json:"unapplied,omitempty"`
}

// Uncovered is a package of which no data speak.
type Uncovered struct {
	Part    string `json:"part"`
	Package string `json:"package"`
	Version string `json:"version,omitempty"`
	PURL    string `json:"purl,omitempty"`
	Why     string `json:"why"`
}

// Report joins what was read. With all, vulnerabilities that data rule out are findings too.
func (s *Scan) Report(all bool) *Report {
	r := &Report{Counts: map[State]int{}, Findings: []Finding{}, Data: []Source{}}
	if len(s.parts) > 0 {
		r.Name, r.Namespace = s.parts[0].Document.Name, s.parts[0].Document.Namespace
	}
	for _, d := range s.data {
		r.Data = append(r.Data, *d)
	}
	for _, list := range s.statements {
		slices.SortStableFunc(list, func(a, b *statement) int { return cmp.Or(a.time.Compare(b.time), cmp.Compare(a.order, b.order)) })
	}
	for _, c := range s.components {
		if why := s.uncovered(c); why != "" {
			r.Uncovered = append(r.Uncovered, Uncovered{Part: c.part, Package: c.pkg.Name, Version: c.pkg.Version, PURL: c.pkg.PURL, Why: why})
		}
		for _, group := range c.groups() {
			f, plain := s.finding(c, group)
			stated := s.apply(c, &f)
			if plain && !stated && !all {
				r.RuledOut++
				continue
			}
			r.Findings = append(r.Findings, f)
		}
		r.Findings = append(r.Findings, s.onlyStated(c)...)
	}
	slices.SortFunc(r.Findings, compareFindings)
	for _, f := range r.Findings {
		if f.Part == buildTools {
			r.OfTools++
			continue
		}
		r.Counts[f.State]++
	}
	r.Unapplied = s.unapplied()
	return r
}

// uncovered says why no data speak of a package; empty when some do. What has no version and no package
// URL, as a container or a partition, is made of others that are listed.
func (s *Scan) uncovered(c *component) string {
	switch {
	case len(c.ids) == 0 && c.pkg.PURL == "" && (c.pkg.Version == "" || c.pkg.Purpose != sbom.Application && c.pkg.Purpose != sbom.Library):
		return ""
	case len(c.ids) == 0 && c.pkg.PURL == "":
		return "it has no package URL"
	case len(c.ids) == 0:
		return "packages of this type have no data of a known form"
	}
	for _, id := range c.ids {
		if s.seen[id.place()] {
			return ""
		}
	}
	return "no data about " + strings.ReplaceAll(c.ids[0].place(), ":", " ")
}

// place is the ecosystem with the release, if that is known.
func (id *identity) place() string {
	if id.release == "" {
		return id.ecosystem
	}
	return id.ecosystem + ":" + id.release
}

// see notes that data speak of an ecosystem of OSV, as Debian:12.
func (s *Scan) see(ecosystem string) {
	if s.seen[ecosystem] {
		return
	}
	base, release, _ := strings.Cut(ecosystem, ":")
	s.seen[ecosystem], s.seen[base] = true, true
	for _, d := range distributions {
		if d.ecosystem == base && d.release != nil && release != "" {
			s.seen[base+":"+d.release(release)] = true
		}
	}
}

// Fails reports whether there is a finding of one of the states, of one of the severities or a worse
// one that affects, or a package without data. Tools of the build do not count.
func (r *Report) Fails(l Limits) bool {
	for _, f := range r.Findings {
		if f.Part == buildTools {
			continue
		}
		if slices.Contains(l.States, f.State) || l.Severity != "" && f.State == Affected && f.reaches(l.Severity) {
			return true
		}
	}
	return l.Uncovered && slices.ContainsFunc(r.Uncovered, func(u Uncovered) bool { return u.Part != buildTools })
}

// reaches reports whether a finding is as severe as a severity; one that nobody has rated may be.
func (f *Finding) reaches(severity string) bool {
	i := slices.Index(severities, f.Severity)
	return i <= slices.Index(severities, severity)
}
