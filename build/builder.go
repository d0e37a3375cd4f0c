package build

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/build/gosource"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// Weighted steps state how many cores they keep busy; any other step counts as one core.
// 0 or less means all cores.
type Weighted interface{ Cores() int }

// Builder runs graphs of steps against a cache.
type Builder struct {
	Cache *Cache
	// Target names the build in events and in the history that Why reads.
	Target string
	// Workspace is the directory of the source tree; histories of two clones are kept
	// apart by it.
	Workspace string
	// Code is the module whose packages the steps' types are in. A step's key then
	// covers the Go files of its package and of all packages in the module that it needs.
	// nil: a step's Versioned number alone stands for its logic.
	Code *gosource.Module
	// Jobs is the number of cores to keep busy. Default: all of the machine.
	Jobs int
	// Memory is what [Large] steps that run at the same time may need together, in bytes. One
	// that needs more runs without others. Default: 64 MiB.
	Memory int64
	// Verify reads every cached output again before it is used.
	Verify bool
	// Sink takes the events; nil drops them.
	Sink Sink
	// Warnings from before the build are reported with it and kept in its report.
	Warnings []string
	// Replaced are files of the build's inputs that others are used in place of.
	Replaced []Replacement
	// Recipe is kept in the report of a build that goes well; nil when it is not known.
	Recipe *Recipe
	// Sign signs what a delivery has published, while its directory is locked, and sets the
	// report's field Signed; nil signs nothing. It is called for complete builds only.
	Sign func(ctx context.Context, dir string, r *Report) error
	// Checks are those of the steps that are built; others are left out.
	Checks []Check
	// Delivered, if it is set, gets the result of a delivery that went well. Its error is told as a
	// warning.
	Delivered func(*Result) error
	// Incomplete says what the artefacts lack that was not given; nil when nothing is. The
	// build then makes and publishes them all the same and returns it at the end.
	Incomplete error
	// Unchanged leaves the directory of a delivery as it is when the build fails before it
	// publishes: the report of the failure is returned, and not written.
	Unchanged bool

	mu    sync.Mutex // guards Sink
	codes codes
}

// StepResult is the outcome of one step.
type StepResult struct {
	Name   string
	Dir    string  // the output directory; read only
	Cached bool    // taken from the cache, not run
	Why    string  // why it ran, or why it did not
	Record *Record // inputs, sizes, times and content of the run that made Dir
}

// Result is a finished build.
type Result struct {
	Target string
	Steps  []*StepResult // dependencies before their users
	Wall   time.Duration
	CPU    time.Duration // of this process and the children it waited for
	// Failed are the steps that failed, in the order in which they did; NotRun are those
	// that did not start because of them.
	Failed []FailedStep
	NotRun []string
	// Replaced are the files of inputs that others are used in place of.
	Replaced []StepReplacement
	// Uses are what checks found, also those that failed.
	Uses []Use

	byName map[string]*StepResult
}

// FailedStep is a step with its error.
type FailedStep struct {
	Name string
	Err  error
}

// Step returns the result of a step by its name, nil if it is not in the graph.
func (r *Result) Step(name string) *StepResult { return r.byName[name] }

// Dir returns the output directory of a step of the graph.
func (r *Result) Dir(s Step) string { return r.byName[s.Name()].Dir }

// Build makes the outputs of the wanted steps. After the first failure no further step
// starts; steps that are running may finish, so that their work is kept. The error names
// the steps that failed. When ctx ends, the context of the running steps ends too.
//
// During the build the umask of the process is 022: the modes of files that steps make
// are content and must not depend on the user who builds.
func (b *Builder) Build(ctx context.Context, wanted ...Step) (*Result, error) {
	res, err := b.make(ctx, wanted)
	b.finish(res, err)
	return res, err
}

// finish tells how a build ended; res is nil when nothing has begun.
func (b *Builder) finish(res *Result, err error) {
	e := Event{Type: Finished}
	if res != nil {
		e.Wall, e.CPU = res.Wall.Seconds(), res.CPU.Seconds()
	}
	if err != nil {
		e.Kind, e.Code, e.Text = kindName(err), int(fault.Of(err)), err.Error()
	}
	b.emit(e)
}

// make is Build without its last event. The result is nil when nothing has begun.
func (b *Builder) make(ctx context.Context, wanted []Step) (*Result, error) {
	g, err := b.graphOf(wanted)
	if err != nil {
		return nil, err
	}
	lock, err := b.Cache.share(ctx)
	if err != nil {
		return nil, err
	}
	defer lock.Unlock()
	defer unix.Umask(unix.Umask(0o022))
	start, cpu := time.Now(), cpuTime()
	b.emit(Event{Type: Started, Total: int64(len(g.nodes))})
	for _, text := range b.Warnings {
		b.emit(Event{Type: Warning, Text: text})
	}
	for _, one := range b.Replaced {
		b.tellReplaced("", one)
	}
	r := newRun(b, g)
	err = errors.Join(r.all(ctx), b.Cache.stats.Save())
	res := r.result()
	res.Wall, res.CPU = time.Since(start), cpuTime()-cpu
	return res, err
}

// cores returns the number of cores to keep busy.
func (b *Builder) cores() int {
	if b.Jobs < 1 {
		return runtime.NumCPU()
	}
	return b.Jobs
}

func kindName(err error) string {
	if err == nil {
		return ""
	}
	return fault.Of(err).String()
}

func (b *Builder) emit(e Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.Sink == nil {
		return
	}
	e.Time, e.Target = time.Now(), b.Target
	b.Sink.Event(e)
}
