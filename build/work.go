package build

import (
	"context"
	"path/filepath"
)

// Work gives a running step its directories and takes its notes.
type Work struct {
	// Out is the empty directory that the step fills; it becomes the output.
	Out string
	// Tmp is a scratch directory on the same file system, removed afterwards.
	Tmp string

	in       func(Step) string
	sum      func(ctx context.Context, dep Step, file string) (string, error)
	note     func(Note)
	contents []Content
	uses     []Use
}

// Content is one thing that an output holds, for the build report: a module of a
// squashfs, a file of an initrd, a partition of a disk.
type Content struct {
	Name  string `json:"name"`
	Bytes int64  `json:"bytes"`
}

// In returns the output directory of a dependency. It is read-only: it is shared
// with other builds.
func (w *Work) In(dep Step) string { return w.in(dep) }

// SHA256 returns the digest, in hex, of a file in the output of a dependency. It is remembered with that
// output: of an image of gigabytes it takes seconds.
func (w *Work) SHA256(ctx context.Context, dep Step, file string) (string, error) {
	if w.sum != nil {
		return w.sum(ctx, dep, file)
	}
	return SumFile(ctx, filepath.Join(w.In(dep), filepath.FromSlash(file)))
}

// Note is a message of a running step; it becomes an event.
type Note struct {
	Warn  bool   // shown in any mode and kept in the build report
	Text  string // one line; empty for a pure progress note
	Done  int64  // work done so far
	Total int64  // the whole work; 0 when unknown
	Unit  string // "bytes", "files"
}

// Progress reports how far the step is.
func (w *Work) Progress(done, total int64, unit string) {
	w.note(Note{Done: done, Total: total, Unit: unit})
}

// Warn reports something that the user should know although the build goes on, for
// example that a pinned package was replaced.
func (w *Work) Warn(text string) { w.note(Note{Warn: true, Text: text}) }

// Contains records one thing that the output holds, for the build report, in the order of
// the calls. Like Progress and Warn it must not be called by two goroutines at once.
func (w *Work) Contains(name string, bytes int64) {
	w.contents = append(w.contents, Content{name, bytes})
}

// Contents returns what Contains recorded.
func (w *Work) Contents() []Content { return w.contents }

// NewWork returns the Work for a run outside the executor, for tests of single steps.
func NewWork(out, tmp string, in func(Step) string, note func(Note)) *Work {
	if note == nil {
		note = func(Note) {}
	}
	return &Work{Out: out, Tmp: tmp, in: in, note: note}
}
