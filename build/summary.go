package build

import "fmt"

// summary makes the lines of a build for people. Steps that are taken from the cache are only
// counted, and warnings come once, at the end, where people look.
type summary struct {
	cached   int
	warnings []string
	ended    bool
}

// lines returns the lines to show when an event occurs.
func (s *summary) lines(e Event) []string {
	line := Line(e)
	switch {
	case e.Type == Cached:
		s.cached++
		return nil
	case e.Type == Warning && !s.ended:
		s.warnings = append(s.warnings, line)
		return nil
	case e.Type == Finished:
		return s.end(line)
	case line == "":
		return nil
	}
	return []string{line}
}

func (s *summary) end(line string) []string {
	var out []string
	switch s.cached {
	case 0:
	case 1:
		out = append(out, "cached   1 step (nothing changed)")
	default:
		out = append(out, fmt.Sprintf("cached   %d steps (nothing changed)", s.cached))
	}
	if line != "" {
		out = append(out, line)
	}
	out = append(out, s.warnings...)
	*s = summary{ended: true}
	return out
}
