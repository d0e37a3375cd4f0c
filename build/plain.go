package build

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// Plain writes events as lines for a log: no colour, no cursor, no progress. Cached steps are
// only counted, and warnings come at the end.
type Plain struct {
	W io.Writer

	summary summary
}

var _ Sink = (*Plain)(nil)

// Event implements Sink. Write errors are ignored: the build goes on.
func (p *Plain) Event(e Event) {
	for _, line := range p.summary.lines(e) {
		_, _ = fmt.Fprintln(p.W, line)
	}
}

// Line returns an event as a line for people, empty for events that only bars show.
func Line(e Event) string {
	switch e.Type {
	case Running:
		return fmt.Sprintf("running  %s (%s)", e.Step, e.Why)
	case Done:
		return fmt.Sprintf("done     %s in %.1f s, %s", e.Step, e.Wall, orNothing(sizeText(e.Bytes)))
	case Failed:
		return fmt.Sprintf("failed   %s: %s", e.Step, e.Text)
	case Warning:
		if e.Step == "" {
			return "warning  " + e.Text
		}
		return fmt.Sprintf("warning  %s: %s", e.Step, e.Text)
	case Message:
		return fmt.Sprintf("         %s: %s", e.Step, e.Text)
	case Replaced:
		return "replaced " + strings.TrimPrefix(e.Step+": ", ": ") + e.Text
	case Written:
		return fmt.Sprintf("written  %s, %s", e.Text, orNothing(sizeText(e.Bytes)))
	case Finished:
		return finishedLine(e)
	}
	return ""
}

func finishedLine(e Event) string {
	if e.Wall == 0 { // it did not begin; the error says all
		return ""
	}
	end := "finished"
	if e.Kind != "" {
		end = "stopped (" + e.Kind + ")"
	}
	return fmt.Sprintf("%s %s in %.1f s, %.1f s of CPU", end, e.Target, e.Wall, e.CPU)
}

func orNothing(size string) string {
	if size == "" {
		return "empty"
	}
	return size
}

// JSON writes events as JSON lines, the form of --events.
type JSON struct{ W io.Writer }

var _ Sink = JSON{}

// Event implements Sink.
func (j JSON) Event(e Event) {
	data, err := json.Marshal(e)
	if err == nil {
		_, _ = j.W.Write(append(data, '\n'))
	}
}
