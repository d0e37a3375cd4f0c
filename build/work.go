package build

// Work is what a running step is given.
type Work struct {
	// Out is the empty folder that the step fills; it becomes the output.
	Out string
	// Tmp is a scratch folder on the same file system, removed afterwards.
	Tmp string

	in   func(Step) string
	note func(Note)
}

// In returns the output folder of a dependency. It is read-only: it is shared
// with other builds.
func (w *Work) In(dep Step) string { return w.in(dep) }

// Note is what a running step says; it becomes an event.
type Note struct {
	Warn  bool   // shown in any mode and kept in the build report
	Text  string // one line; empty for a pure progress note
	Done  int64  // work done so far
	Total int64  // of so much; 0 when unknown
	Unit  string // "bytes", "files"
}

// Progress reports how far the step is.
func (w *Work) Progress(done, total int64, unit string) {
	w.note(Note{Done: done, Total: total, Unit: unit})
}

// Warn reports what the user should know although the build goes on, for example
// that a pinned package was replaced.
func (w *Work) Warn(text string) { w.note(Note{Warn: true, Text: text}) }

// NewWork makes the Work for a run outside the executor: tests of single steps.
func NewWork(out, tmp string, in func(Step) string, note func(Note)) *Work {
	if note == nil {
		note = func(Note) {}
	}
	return &Work{Out: out, Tmp: tmp, in: in, note: note}
}
