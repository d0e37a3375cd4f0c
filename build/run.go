package build

import (
	"cmp"
	"context"
	"errors"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// run is one build under way. Each node has a goroutine that waits for its
// dependencies; memory and slots bound how many work at once.
type run struct {
	*Builder
	graph *graph
	cores int64
	slots *semaphore.Weighted
	// space is the memory for large steps, taken before the cores: who has cores waits no more.
	space  int64
	memory *semaphore.Weighted
	meter  meter
	ended  map[*node]chan struct{}
	stop   chan struct{} // closed by the first failure
	mu     sync.Mutex    // guards the rest
	res    map[*node]*StepResult
	// replacements are those of each node that was looked at.
	replacements map[*node][]Replacement
	uses         map[*node][]Use // of checks that failed
	failed       []FailedStep
	keeper       *keeper
}

// errStopped is the error of a step that did not start because another failed.
var errStopped = errors.New("another step failed")

func newRun(b *Builder, g *graph) *run {
	cores, space := b.cores(), cmp.Or(b.Memory, defaultMemory)
	r := &run{
		Builder: b, graph: g, cores: int64(cores), slots: semaphore.NewWeighted(int64(cores)), space: space, memory: semaphore.NewWeighted(space),
		ended: map[*node]chan struct{}{}, stop: make(chan struct{}), res: map[*node]*StepResult{},
		replacements: map[*node][]Replacement{}, uses: map[*node][]Use{}, keeper: b.newKeeper(),
	}
	for _, n := range g.nodes {
		r.ended[n] = make(chan struct{})
	}
	return r
}

// all runs every node and returns the errors, each naming its step.
func (r *run) all(ctx context.Context) error {
	var group sync.WaitGroup
	for _, n := range r.graph.nodes {
		group.Go(func() {
			defer close(r.ended[n])
			r.settle(n, r.node(ctx, n))
		})
	}
	group.Wait()
	if ctx.Err() != nil { // how each step ended is in the events
		return fault.New(fault.Cancelled, "building %s: interrupted (%w); what was done is kept", r.Target, context.Cause(ctx))
	}
	errs := make([]error, len(r.failed))
	for i, f := range r.failed {
		errs[i] = f.Err
	}
	return errors.Join(errs...)
}

// settle records how a node ended.
func (r *run) settle(n *node, err error) {
	if err == nil || errors.Is(err, errStopped) {
		return
	}
	err = fault.Wrap(fault.Internal, err, "running step %s", n.name)
	r.emit(Event{Type: Failed, Step: n.name, Text: err.Error(), Kind: kindName(err)})
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.failed) == 0 {
		close(r.stop)
	}
	r.failed = append(r.failed, FailedStep{n.name, err})
}

func (r *run) node(ctx context.Context, n *node) error {
	if err := r.await(ctx, n); err != nil {
		return err
	}
	inputs, err := r.inputs(n)
	if err != nil {
		return err
	}
	if err := r.replaced(ctx, n); err != nil {
		return err
	}
	key := keyOf(inputs)
	rec, why := r.Cache.lookup(key, r.Verify)
	if rec != nil {
		r.hit(n, rec, "nothing changed")
		return nil
	}
	if err := r.take(ctx, n); err != nil {
		return err
	}
	defer r.release(n)
	return r.makeOrWait(ctx, n, inputs, key, why)
}

// replaced tells which files of its inputs the step replaces by others, before it runs: a
// step may fail because of them.
func (r *run) replaced(ctx context.Context, n *node) error {
	list, err := n.replaced(ctx, r.dir)
	if err != nil {
		return err
	}
	for _, one := range list {
		r.tellReplaced(n.name, one)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.replacements[n] = list
	return nil
}

// dir returns the output of a step of the graph, "" when there is none.
func (r *run) dir(s Step) string {
	if made := r.get(r.graph.byName[s.Name()]); made != nil {
		return made.Dir
	}
	return ""
}

// await waits for the dependencies. A node one of whose dependencies has no
// result does not run.
func (r *run) await(ctx context.Context, n *node) error {
	for _, d := range slices.Concat(n.deps, n.after) {
		select {
		case <-r.ended[d]:
		case <-ctx.Done():
			return errStopped
		}
		if r.get(d) == nil {
			return errStopped
		}
	}
	return nil
}

func (r *run) get(n *node) *StepResult {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.res[n]
}

func (r *run) put(n *node, s *StepResult) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.res[n] = s
}

func (r *run) inputs(n *node) ([]Input, error) {
	inputs, err := r.knownInputs(n)
	if err != nil {
		return nil, err
	}
	for _, d := range n.deps {
		inputs = append(inputs, Input{Name: "dep/" + d.name, Digest: r.get(d).Record.Output})
	}
	return inputs, nil
}

// knownInputs returns all inputs except the outputs of dependencies.
func (b *Builder) knownInputs(n *node) ([]Input, error) {
	own, err := ownInputs(n.step)
	if err != nil {
		return nil, err
	}
	code, err := b.codeInputs(n.step)
	if err != nil {
		return nil, err
	}
	sources, err := sourceInputs(n.step, b.Cache.stats)
	return slices.Concat(own, code, sources), err
}

// take waits until the memory and the cores that the step needs are free.
func (r *run) take(ctx context.Context, n *node) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := r.stop
	if n.checking {
		stop = nil
	}
	go func() {
		select {
		case <-stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	// Who needs none does not queue behind those that wait for it.
	if size := r.size(n); size > 0 && r.memory.Acquire(ctx, size) != nil {
		return errStopped
	}
	if r.slots.Acquire(ctx, r.weight(n)) != nil {
		r.memory.Release(r.size(n))
		return errStopped
	}
	select {
	case <-stop:
		r.release(n)
		return errStopped
	default:
		return nil
	}
}

// release gives back what take took.
func (r *run) release(n *node) {
	r.slots.Release(r.weight(n))
	r.memory.Release(r.size(n))
}

// defaultMemory is the default of Builder.Memory.
const defaultMemory = 64 << 20

// size is how much of the memory a step takes.
func (r *run) size(n *node) int64 {
	if l, ok := n.step.(Large); ok {
		return min(l.Memory(), r.space)
	}
	return 0
}

func (r *run) weight(n *node) int64 {
	w, ok := n.step.(Weighted)
	if !ok {
		return 1
	}
	if c := int64(w.Cores()); c > 0 {
		return min(c, r.cores)
	}
	return r.cores
}

// makeOrWait makes the entry of a key unless another build is making it; then it waits
// for that one.
func (r *run) makeOrWait(ctx context.Context, n *node, inputs []Input, key, why string) error {
	lock, err := r.Cache.lock(ctx, key)
	if ctx.Err() != nil && err != nil {
		return errStopped
	}
	if err != nil {
		return err
	}
	defer lock.Unlock()
	if rec, _ := r.Cache.lookup(key, r.Verify); rec != nil {
		r.hit(n, rec, "made by another build or step meanwhile")
		return nil
	}
	why = r.keeper.explain(n.name, inputs, why)
	r.emit(Event{Type: Running, Step: n.name, Key: key, Why: why})
	rec, err := r.execute(ctx, n, inputs, key)
	if err != nil {
		return err
	}
	r.keeper.remember(n.name, r.Cache.entry(key))
	r.put(n, &StepResult{Name: n.name, Dir: r.Cache.out(key), Why: why, Record: rec})
	r.emit(Event{
		Type: Done, Step: n.name, Key: key, Output: rec.Output, Bytes: rec.Bytes, Wall: rec.Wall, CPU: rec.CPU,
	})
	return nil
}

func (r *run) hit(n *node, rec *Record, why string) {
	r.Cache.touch(rec.Key)
	r.keeper.remember(n.name, r.Cache.entry(rec.Key))
	r.put(n, &StepResult{Name: n.name, Dir: r.Cache.out(rec.Key), Cached: true, Why: why, Record: rec})
	r.emit(Event{Type: Cached, Step: n.name, Key: rec.Key, Output: rec.Output, Bytes: rec.Bytes, Why: why})
	for _, text := range rec.Warnings {
		r.emit(Event{Type: Warning, Step: n.name, Text: text})
	}
}

// execute runs the step in a work directory, which becomes an entry of the cache.
func (r *run) execute(ctx context.Context, n *node, inputs []Input, key string) (*Record, error) {
	dir, err := r.Cache.workspace(key)
	if err != nil {
		return nil, err
	}
	defer removeAll(dir) //nolint:errcheck // the next build removes leftovers
	rec := &Record{Step: n.name, Key: key, Inputs: inputs}
	w := NewWork(filepath.Join(dir, "out"), filepath.Join(dir, "tmp"), r.in(n), r.noter(n, rec))
	w.sum = func(ctx context.Context, dep Step, file string) (string, error) {
		_ = w.In(dep) // which must be a dependency
		return r.Cache.sum(ctx, r.get(r.graph.byName[dep.Name()]).Record, file)
	}
	start, usage := time.Now(), r.meter.begin()
	err = guard(ctx, n.step, w)
	rec.CPU, rec.Wall = usage.end().Seconds(), time.Since(start).Seconds()
	if ctx.Err() != nil {
		// Also when Run returned no error: a step that ignored the cancellation may have
		// left an incomplete output.
		return nil, fault.New(fault.Cancelled, "%w", errors.Join(context.Cause(ctx), err))
	}
	if err != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.uses[n] = w.Used()
		return nil, err
	}
	rec.Made, rec.Contains, rec.Uses = start, w.Contents(), w.Used()
	tree, err := DigestTree(w.Out)
	if err != nil {
		return nil, err
	}
	rec.Output, rec.Files, rec.Bytes = tree.Digest, tree.Files, tree.Bytes
	return rec, r.Cache.keep(dir, rec)
}

// guard runs a step and turns a panic into an error.
func guard(ctx context.Context, s Step, w *Work) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fault.New(fault.Internal, "panic: %v\n%s", p, debug.Stack())
		}
	}()
	return s.Run(ctx, w)
}

// in returns the function behind Work.In: only declared dependencies have a directory.
func (r *run) in(n *node) func(Step) string {
	return func(s Step) string {
		for _, d := range n.deps {
			if d.name == s.Name() {
				return r.get(d).Dir
			}
		}
		panic("step " + n.name + " reads the output of " + s.Name() + ", which is not among its Deps")
	}
}

func (r *run) noter(n *node, rec *Record) func(Note) {
	var mu sync.Mutex
	return func(note Note) {
		e := Event{Type: Progress, Step: n.name, Text: note.Text, Done: note.Done, Total: note.Total, Unit: note.Unit}
		switch {
		case note.Warn:
			mu.Lock()
			rec.Warnings = append(rec.Warnings, note.Text)
			mu.Unlock()
			e.Type = Warning
		case note.Text != "":
			e.Type = Message
		}
		r.emit(e)
	}
}

func (r *run) result() *Result {
	res := &Result{Target: r.Target, Failed: r.failed, byName: map[string]*StepResult{}}
	for _, one := range r.Replaced {
		res.Replaced = append(res.Replaced, StepReplacement{Replacement: one})
	}
	for _, n := range r.graph.nodes {
		for _, one := range r.replacements[n] {
			res.Replaced = append(res.Replaced, StepReplacement{n.name, one})
		}
		res.Uses = append(res.Uses, r.uses[n]...)
		if s := r.res[n]; s != nil {
			res.Uses = append(res.Uses, s.Record.Uses...)
			res.Steps = append(res.Steps, s)
			res.byName[n.name] = s
			continue
		}
		if !slices.ContainsFunc(r.failed, func(f FailedStep) bool { return f.Name == n.name }) {
			res.NotRun = append(res.NotRun, n.name)
		}
	}
	return res
}
