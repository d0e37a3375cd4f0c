package vulns

import (
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/spelling"
)

// Limits say what makes a pipeline fail.
type Limits struct {
	// States fail, whatever their severity.
	States []State
	// Severity fails for what affects, and is as severe or worse.
	Severity string
	// Uncovered fails for packages without data.
	Uncovered bool
}

// The words of limits that are neither states nor severities.
const (
	nothing   = "none"
	uncovered = "uncovered"
)

// ParseLimits reads limits: words with commas between them, of states, one severity, uncovered, none.
func ParseLimits(text string) (Limits, error) {
	var l Limits
	known := []string{nothing, uncovered}
	for _, s := range states {
		known = append(known, string(s))
	}
	known = append(known, severities...)
	words := strings.Split(text, ",")
	for _, w := range words {
		switch {
		case w == nothing && len(words) > 1:
			return l, fault.New(fault.BadInput, "--fail-on=%s: none is alone", text)
		case w == nothing:
		case w == uncovered:
			l.Uncovered = true
		case slices.Contains(states, State(w)):
			l.States = append(l.States, State(w))
		case slices.Contains(severities, w) && l.Severity == "":
			l.Severity = w
		case slices.Contains(severities, w):
			return l, fault.New(fault.BadInput, "--fail-on=%s: give one severity; worse ones are included", text)
		default:
			return l, spelling.Unknown("value of --fail-on", w, known)
		}
	}
	return l, nil
}
