package vulns

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// cveRecord is what is read of a record of CVE (https://cveproject.github.io/cve-schema/, version 5) of
// which the Linux kernel's names files of its source.
type cveRecord struct {
	Metadata struct {
		ID      string `json:"cveId"`
		State   string `json:"state"`
		Updated string `json:"dateUpdated"`
	} `json:"cveMetadata"`
	Containers struct {
		CNA struct {
			Affected []cveAffected `json:"affected"`
			Metrics  []cveMetric   `json:"metrics"`
		} `json:"cna"`
	} `json:"containers"`
}

type cveAffected struct {
	Vendor        string       `json:"vendor"`
	Product       string       `json:"product"`
	DefaultStatus string       `json:"defaultStatus"`
	ProgramFiles  []string     `json:"programFiles"`
	Versions      []cveVersion `json:"versions"`
}

type cveVersion struct {
	Version         string `json:"version"`
	LessThan        string `json:"lessThan"`
	LessThanOrEqual string `json:"lessThanOrEqual"`
	Status          string `json:"status"`
	Type            string `json:"versionType"`
}

type cveMetric struct {
	V31 struct {
		Severity string `json:"baseSeverity"`
	} `json:"cvssV3_1"`
	V40 struct {
		Severity string `json:"baseSeverity"`
	} `json:"cvssV4_0"`
}

// cve takes a record of CVE: those that are not about the kernel are passed over.
func (s *Scan) cve(r *cveRecord, src *Source) error {
	src.Records++
	if updated, err := time.Parse(time.RFC3339, r.Metadata.Updated); err == nil && updated.After(src.Modified) {
		src.Modified = updated.UTC()
	}
	about := slices.DeleteFunc(slices.Clone(r.Containers.CNA.Affected), func(a cveAffected) bool {
		return !strings.EqualFold(a.Vendor, "Linux") || !strings.EqualFold(a.Product, "Linux") && !strings.EqualFold(a.Product, "Linux Kernel")
	})
	if len(about) == 0 || r.Metadata.ID == "" || r.Metadata.State == "REJECTED" {
		return nil
	}
	s.see(linux)
	if !s.kernel {
		return nil
	}
	var files []string
	for _, a := range about {
		files = append(files, a.ProgramFiles...)
	}
	if err := s.name(r.Metadata.ID, unique(files)); err != nil {
		return err
	}
	about = slices.DeleteFunc(about, func(a cveAffected) bool { return !a.hasVersions() })
	for _, p := range s.index[key{linux, "Kernel"}] {
		e := r.entry(p.id, about)
		e.names, e.form, e.upstream = []string{r.Metadata.ID}, formCVE, p.id.upstream
		if err := s.add(p.component, e); err != nil {
			return err
		}
	}
	return nil
}

// entry returns what a record says of a version of the kernel: the worst that one of the blocks says.
func (r *cveRecord) entry(id *identity, about []cveAffected) entry {
	out := entry{state: Unknown, why: "the record names commits alone"}
	if id.version == "" {
		out.why = "the bill of materials has no version of the kernel"
	} else {
		for i, a := range about {
			if e := a.entry(id); i == 0 || slices.Index(states, e.state) < slices.Index(states, out.state) {
				out = e
			}
		}
	}
	for _, m := range r.Containers.CNA.Metrics {
		out.severity = worse(out.severity, worse(severityOf(m.V31.Severity), severityOf(m.V40.Severity)))
	}
	return out
}

// hasVersions reports whether a block speaks of versions, not of commits alone.
func (a *cveAffected) hasVersions() bool {
	return slices.ContainsFunc(a.Versions, func(v cveVersion) bool { return v.Type != "git" })
}

// entry compares a version with those of a block: what is listed as affected counts before what is
// listed as not, and the default is for what is not listed.
func (a *cveAffected) entry(id *identity) entry {
	state, next := "", ""
	for _, v := range a.Versions {
		if v.Type == "git" {
			continue
		}
		in, err := v.holds(id)
		if err != nil {
			return entry{state: Unknown, why: err.Error()}
		}
		if in && state != "affected" {
			state = v.Status
		}
		if v.Status == "unaffected" && v.mends(id) && (next == "" || closer(id, v.Version, next)) {
			next = v.Version
		}
	}
	if state == "" {
		state = a.DefaultStatus
	}
	switch state {
	case "affected":
		return entry{state: Affected, why: affectedText(id.version, next), fixedIn: next}
	case "unaffected":
		return entry{state: Fixed, why: id.version + " has the fix, or never had the code"}
	}
	return entry{state: Unknown, why: fmt.Sprintf("the record does not say whether %s is affected", id.version)}
}

// holds reports whether an entry is about the version of an identity: a single one, or those from it on
// up to a limit, which may end in a wildcard.
func (v *cveVersion) holds(id *identity) (bool, error) {
	from, err := 1, error(nil)
	if v.Version != "0" {
		from, err = id.order(id.version, v.Version)
	}
	switch {
	case err != nil || from < 0:
		return false, err
	case v.LessThan == "*" || v.LessThanOrEqual == "*":
		return true, nil
	case v.LessThan != "":
		c, err := id.order(id.version, v.LessThan)
		return c < 0, err
	case v.LessThanOrEqual == "":
		return from == 0, nil
	}
	if branch, ok := strings.CutSuffix(v.LessThanOrEqual, "*"); ok {
		return strings.HasPrefix(id.version+".", branch), nil
	}
	c, err := id.order(id.version, v.LessThanOrEqual)
	return c <= 0, err
}

// mends reports whether an entry begins with a version behind that of an identity.
func (v *cveVersion) mends(id *identity) bool {
	if v.Version == "0" {
		return false
	}
	c, err := id.order(id.version, v.Version)
	return err == nil && c < 0
}

// closer reports whether a version is the better fix: the smaller one, as that of the same branch is.
func closer(id *identity, a, b string) bool {
	c, err := id.order(a, b)
	return err == nil && c < 0
}
