package build

import (
	"fmt"
	"io"
	"strings"
)

// Folds is the log of a pipeline, in which lines can be folded and errors are marked.
type Folds interface {
	Open(title string)
	Close()
	Error(text string)
	Warning(text string)
	Summarize(markdown string) error
}

// Folded writes events for the log of a pipeline: the steps are in one group that is folded, for several
// run at the same time. Behind it are the errors, the line of the end, which is also the job's summary,
// and the warnings.
type Folded struct {
	W     io.Writer
	Folds Folds

	summary summary
	failed  []Event
	files   int
	bytes   int64
}

var _ Sink = (*Folded)(nil)

// Event implements Sink. Write errors are ignored: the build goes on.
func (f *Folded) Event(e Event) {
	switch e.Type {
	case Started:
		f.Folds.Open("steps of " + e.Target)
	case Failed:
		f.failed = append(f.failed, e)
	case Written:
		f.files, f.bytes = f.files+1, f.bytes+e.Bytes
	case Warning: // told at the end, or now if that was
		if f.summary.ended {
			f.Folds.Warning(plainWarning(Line(e)))
			return
		}
	case Finished:
		f.end(e)
		return
	}
	for _, line := range f.summary.lines(e) {
		_, _ = fmt.Fprintln(f.W, line)
	}
}

func (f *Folded) end(e Event) {
	warnings := f.summary.warnings
	f.summary.warnings = nil
	lines := f.summary.lines(e)
	f.Folds.Close()
	for _, one := range f.failed {
		f.Folds.Error(one.Step + ": " + one.Text)
	}
	for _, line := range lines {
		_, _ = fmt.Fprintln(f.W, line)
	}
	for _, text := range warnings {
		f.Folds.Warning(plainWarning(text))
	}
	if e.Wall == 0 {
		return
	}
	line := fmt.Sprintf("%s; %d files, %s; %d warnings", finishedLine(e), f.files, orNothing(sizeText(f.bytes)), len(warnings))
	if err := f.Folds.Summarize("- " + line); err != nil {
		f.Folds.Warning(err.Error())
	}
	f.failed, f.files, f.bytes = nil, 0, 0
}

// plainWarning is the line of a warning without its first word, which the log's mark says.
func plainWarning(line string) string { return strings.TrimPrefix(line, "warning  ") }
