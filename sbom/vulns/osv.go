package vulns

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// osvRecord is what is read of a record of OSV (https://ossf.github.io/osv-schema/, 1.7).
type osvRecord struct {
	ID               string          `json:"id"`
	Modified         string          `json:"modified"`
	Withdrawn        string          `json:"withdrawn"`
	Aliases          []string        `json:"aliases"`
	Upstream         []string        `json:"upstream"`
	Severity         []osvSeverity   `json:"severity"`
	Affected         []osvAffected   `json:"affected"`
	DatabaseSpecific json.RawMessage `json:"database_specific"`
}

type osvSeverity struct {
	Type  string `json:"type"`
	Score string `json:"score"`
}

type osvAffected struct {
	Package struct {
		Ecosystem string `json:"ecosystem"`
		Name      string `json:"name"`
	} `json:"package"`
	Severity          []osvSeverity   `json:"severity"`
	Ranges            []osvRange      `json:"ranges"`
	Versions          []string        `json:"versions"`
	EcosystemSpecific json.RawMessage `json:"ecosystem_specific"`
	DatabaseSpecific  json.RawMessage `json:"database_specific"`
}

type osvRange struct {
	Type   string     `json:"type"`
	Events []osvEvent `json:"events"`
}

type osvEvent struct {
	Introduced   string `json:"introduced"`
	Fixed        string `json:"fixed"`
	LastAffected string `json:"last_affected"`
	Limit        string `json:"limit"`
}

// record takes a record of OSV.
func (s *Scan) record(r *osvRecord, src *Source) error {
	src.Records++
	if modified, err := time.Parse(time.RFC3339, r.Modified); err == nil && modified.After(src.Modified) {
		src.Modified = modified.UTC()
	}
	for _, a := range r.Affected {
		s.see(a.Package.Ecosystem)
	}
	if r.Withdrawn != "" {
		return nil
	}
	said := map[place][]*osvAffected{}
	var places []place
	for i := range r.Affected {
		a := &r.Affected[i]
		base, _, _ := strings.Cut(a.Package.Ecosystem, ":")
		name := a.Package.Name
		if base == "PyPI" {
			name = separators.ReplaceAllString(strings.ToLower(name), "-")
		}
		for _, p := range s.index[key{base, name}] {
			if yes, _ := p.id.ofRelease(a.Package.Ecosystem); yes {
				if said[p] == nil {
					places = append(places, p)
				}
				said[p] = append(said[p], a)
			}
		}
	}
	for _, p := range places {
		if err := s.add(p.component, r.entry(p.id, said[p])); err != nil {
			return err
		}
	}
	return nil
}

// entry returns what a record says of an identity: it is affected when one of the blocks says so.
func (r *osvRecord) entry(id *identity, said []*osvAffected) entry {
	var out entry
	for i, a := range said {
		e := a.entry(id)
		if i == 0 || slices.Index(states, e.state) < slices.Index(states, out.state) {
			e.files = append(out.files, e.files...)
			out = e
		}
		if out.severity == "" {
			out.severity = worse(rated(a.Severity), worse(specific(a.EcosystemSpecific).severity, specific(a.DatabaseSpecific).severity))
		}
	}
	out.names, out.form, out.upstream = r.names(), "OSV "+said[0].Package.Ecosystem, id.upstream
	if out.severity == "" {
		out.severity = rated(r.Severity)
	}
	if out.severity == "" {
		out.severity = specific(r.DatabaseSpecific).severity
	}
	return out
}

// names are those of the vulnerability. A record of a distribution that is made of a single one of
// others is about the same.
func (r *osvRecord) names() []string {
	out := append([]string{r.ID}, r.Aliases...)
	if len(r.Upstream) == 1 && !strings.HasPrefix(r.ID, "CVE-") {
		out = append(out, r.Upstream...)
	}
	return slices.DeleteFunc(out, func(n string) bool { return n == "" })
}

// entry returns what a block says of an identity.
func (a *osvAffected) entry(id *identity) entry {
	own := specific(a.EcosystemSpecific)
	e := entry{files: append(own.files, specific(a.DatabaseSpecific).files...)}
	_, sure := id.ofRelease(a.Package.Ecosystem)
	e.state, e.why, e.fixedIn = a.verdict(id)
	if e.state == Affected && len(own.imports) > 0 {
		e.why += ", in " + strings.Join(own.imports[:min(3, len(own.imports))], ", ")
	}
	if !sure && e.state != Unknown {
		e.state, e.why = Unknown, fmt.Sprintf("%s; but it is not known whether the package is of %s", e.why, a.Package.Ecosystem)
	}
	return e
}

// verdict compares the version of an identity with a block's versions and ranges (OSV schema,
// "Evaluation").
func (a *osvAffected) verdict(id *identity) (state State, why, fixed string) {
	if id.version == "" {
		return Unknown, "the bill of materials has no version of the package", ""
	}
	listed := slices.Contains(a.Versions, id.version)
	state, comparable := NotAffected, false
	why = id.version + " is not among the versions that are affected"
	for _, r := range a.Ranges {
		if r.Type != "ECOSYSTEM" && r.Type != "SEMVER" {
			continue
		}
		comparable = true
		if id.order == nil {
			state, why = Unknown, "versions of "+id.ecosystem+" cannot be compared"
			break
		}
		in, next, err := r.holds(id)
		switch {
		case err != nil:
			state, why = Unknown, err.Error()
		case in == Affected:
			return Affected, affectedText(id.version, next), next
		case in == Fixed && state == NotAffected:
			state, why = Fixed, fmt.Sprintf("%s has the fix of %s", id.version, next)
		}
	}
	switch {
	case listed:
		return Affected, id.version + " is listed as affected", fixed
	case !comparable && len(a.Versions) == 0:
		return Unknown, "the record names commits alone, or no versions", ""
	}
	return state, why, ""
}

func affectedText(version, fixed string) string {
	if fixed == "" {
		return version + " is affected, and no fixed version is known"
	}
	return fmt.Sprintf("%s is affected, fixed in %s", version, fixed)
}

// point is an event of a range.
type point struct {
	version string
	kind    int // which of the events, in the order of those of one version
}

// The kinds of points.
const (
	introduced = iota
	fixed
	last
)

// holds reports whether a range holds a version: Affected with the version that fixes it, Fixed with
// the one that has fixed it, or NotAffected.
func (r *osvRange) holds(id *identity) (state State, version string, err error) {
	points, limits, err := r.points(id)
	if err != nil {
		return Unknown, "", err
	}
	state = NotAffected
	for _, p := range points {
		c, err := against(id, p.version)
		if err != nil {
			return Unknown, "", err
		}
		switch {
		case p.kind == introduced && c >= 0:
			state, version = Affected, ""
		case state != Affected:
		case p.kind == fixed && c >= 0:
			state, version = Fixed, p.version
		case p.kind == fixed && version == "":
			version = p.version
		case p.kind == last && c > 0:
			state, version = NotAffected, ""
		}
	}
	if state != Affected {
		return state, version, nil
	}
	below, err := belowOne(id, limits)
	switch {
	case err != nil:
		return Unknown, "", err
	case !below:
		return NotAffected, "", nil
	}
	return Affected, version, nil
}

// belowOne reports whether a version is below one of the limits, or there are none.
func belowOne(id *identity, limits []string) (bool, error) {
	for _, l := range limits {
		if c, err := against(id, l); c < 0 || err != nil {
			return true, err
		}
	}
	return len(limits) == 0, nil
}

// against compares the version of an identity with that of an event: "0" is before every version.
func against(id *identity, event string) (int, error) {
	if event == "0" {
		return 1, nil
	}
	return id.order(id.version, event)
}

// maxEvents bounds the events of a range.
const maxEvents = 100_000

// points returns the events in the order of their versions, and the limits.
func (r *osvRange) points(id *identity) (points []point, limits []string, err error) {
	if len(r.Events) > maxEvents {
		return nil, nil, fmt.Errorf("a range has more than %d events", maxEvents)
	}
	for _, e := range r.Events {
		switch {
		case e.Introduced != "":
			points = append(points, point{e.Introduced, introduced})
		case e.Fixed != "":
			points = append(points, point{e.Fixed, fixed})
		case e.LastAffected != "":
			points = append(points, point{e.LastAffected, last})
		case e.Limit != "" && e.Limit != "*":
			limits = append(limits, e.Limit)
		}
	}
	slices.SortStableFunc(points, func(a, b point) int {
		var c int
		var wrong error
		switch {
		case a.version == "0" || b.version == "0":
			c = flag(b.version == "0") - flag(a.version == "0")
		default:
			c, wrong = id.order(a.version, b.version)
		}
		if wrong != nil {
			err = wrong
		}
		return c
	})
	return points, limits, err
}

func flag(b bool) int {
	if b {
		return 1
	}
	return 0
}
