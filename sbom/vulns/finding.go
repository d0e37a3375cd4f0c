package vulns

import (
	"cmp"
	"slices"
	"strings"
)

// State says how a vulnerability affects a package: the words of OpenVEX, and Unknown.
type State string

// The states, the worst one first.
const (
	Affected      State = "affected"
	Unknown       State = "unknown"
	Investigation State = "under_investigation"
	NotAffected   State = "not_affected"
	Fixed         State = "fixed"
)

// states are all states, the worst one first.
var states = []State{Affected, Unknown, Investigation, NotAffected, Fixed}

// Finding is a vulnerability of a package.
type Finding struct {
	// Vulnerability is its name, that of CVE where it has one.
	Vulnerability string   `json:"vulnerability"`
	Aliases       []string `json:"aliases,omitempty"`
	// Part is the part of the revision that has the package.
	Part    string `json:"part"`
	Package string `json:"package"`
	Version string `json:"version"`
	PURL    string `json:"purl,omitempty"`
	// Source is the package that data name, if that is another one.
	Source string `json:"source,omitempty"`
	State  State  `json:"state"`
	// Justification is that of VEX for what is not affected.
	Justification string `json:"justification,omitempty"`
	// Why says on what the state is based.
	Why string `json:"why"`
	// FixedIn is the first version without it; empty when there is none, or none is known.
	FixedIn string `json:"fixed_in,omitempty"`
	// Severity is critical, high, medium, low or negligible; empty when nobody says it.
	Severity string `json:"severity,omitempty"`
	// Files are those of the source that have the vulnerable code, if data name them.
	Files []string `json:"files,omitempty"`
	// Data are the forms of data that know of it.
	Data []string `json:"data"`
}

// severities are the words of Finding.Severity, the worst one first.
var severities = []string{"critical", "high", "medium", "low", "negligible"}

// severityOf returns one of [severities] for a word of data, or nothing.
func severityOf(word string) string {
	switch w := strings.ToLower(strings.TrimRight(word, "*")); w {
	case "moderate":
		return "medium"
	case "important":
		return "high"
	case "unimportant", "none":
		return "negligible"
	default:
		if slices.Contains(severities, w) {
			return w
		}
	}
	return ""
}

// worse returns the worse of two severities; an unknown one gives way.
func worse(a, b string) string {
	i, j := slices.Index(severities, a), slices.Index(severities, b)
	if j >= 0 && (i < 0 || j < i) {
		return b
	}
	return a
}

func compareFindings(a, b Finding) int {
	rank := func(f Finding) int {
		if i := slices.Index(severities, f.Severity); i >= 0 {
			return i
		}
		return 2 // as medium
	}
	return cmp.Or(
		strings.Compare(a.Part, b.Part), cmp.Compare(slices.Index(states, a.State), slices.Index(states, b.State)), cmp.Compare(rank(a), rank(b)),
		strings.Compare(a.Package, b.Package), strings.Compare(a.Version, b.Version), strings.Compare(a.Vulnerability, b.Vulnerability), strings.Compare(a.PURL, b.PURL),
	)
}
