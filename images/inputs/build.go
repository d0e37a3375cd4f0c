package inputs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/images"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/filelock"
	"github.com/pantavisor/pantavisor/kernel"
)

// Options are those of [List.Build].
type Options struct {
	// Jobs is the number of cores to keep busy. Default: all.
	Jobs int
	// Cache is a directory that keeps what steps have made, for the next composition with the same
	// one, which then makes only what has changed. It has no more than the last one has used, and
	// may be removed at any time. Default: nothing is kept.
	Cache string
	// Sink takes the events of the build; nil drops them.
	Sink build.Sink
}

// Compose returns the graph of steps for the outputs of the list. The list must have all
// digests. Inputs that no step of this package reads are checked.
func (l *List) Compose(ctx context.Context) (*images.Composition, error) {
	in, err := l.Inputs()
	if err != nil {
		return nil, err
	}
	if err := l.contents(ctx, in); err != nil {
		return nil, err
	}
	c, err := images.Compose(in)
	if err != nil {
		return nil, err
	}
	pinned, err := l.pinned()
	if err != nil {
		return nil, err
	}
	c.Artefacts = append(c.Artefacts, build.Artefact{Step: pinned, From: ListFile, To: ListFile})
	if slices.Contains(l.Outputs, outputContainers) {
		c.Artefacts = append(c.Artefacts, containerExports(in)...)
	}
	if l.Kernel != nil && l.Kernel.Config != nil {
		check := &kernel.ConfigCheck{Tree: in.Kernel.Tree.Step}
		c.Artefacts = append(c.Artefacts, build.Artefact{Step: check, From: kernel.ConfigReport, To: kernel.ConfigReport})
	}
	return c, nil
}

// Build reads all inputs and composes the outputs into dir, which is made if it is not there.
// Beside them it leaves the report, and the list with all digests. It writes nowhere else but to
// Options.Cache, and nothing at all when an input is wrong, or when what the directory has was made of the same list by
// the same program.
func (l *List) Build(ctx context.Context, dir string, o Options) (*build.Report, error) {
	if err := l.Digest(ctx); err != nil {
		return nil, err
	}
	for _, written := range []string{dir, o.Cache} {
		if err := l.outside(written); err != nil {
			return nil, err
		}
	}
	made, err := l.stamp(ctx)
	if err != nil {
		return nil, err
	}
	if report := made.unchanged(dir); report != nil {
		o.tell(l.Target, dir)
		return report, nil
	}
	c, err := l.Compose(ctx)
	if err != nil {
		return nil, err
	}
	if err := build.CheckInside(dir, workDir); err != nil {
		return nil, err
	}
	_, absent := os.Lstat(dir)
	lock, err := reserve(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer lock.Unlock()
	if err := forget(dir); err != nil {
		return nil, err
	}
	work := filepath.Join(dir, workDir)
	if err := errors.Join(os.RemoveAll(work), os.Mkdir(work, 0o700)); err != nil { // of one that was killed
		return nil, fault.Wrap(fault.IO, err, "making a work directory")
	}
	cache := work
	if o.Cache != "" {
		cache, err = made.cache(o.Cache)
	}
	var report *build.Report
	if err == nil {
		report, err = l.deliver(ctx, c, dir, cache, o)
	}
	if err == nil {
		err = made.save(dir)
	}
	removed := fault.Wrap(fault.IO, os.RemoveAll(work), "removing the work directory")
	if err != nil && removed == nil {
		leave(lock, dir, absent != nil)
	}
	return report, errors.Join(err, removed)
}

// reserve makes the output directory and keeps other compositions out of it.
func reserve(ctx context.Context, dir string) (*filelock.Lock, error) {
	for {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(workDir)), 0o755); err != nil {
			return nil, fault.Wrap(fault.IO, err, "making the output directory")
		}
		lock, err := filelock.Acquire(ctx, filepath.Join(dir, lockFile), filelock.Options{Create: 0o644})
		if errors.Is(err, fs.ErrNotExist) && ctx.Err() == nil { // another one has failed and left
			continue
		}
		return lock, fault.Wrap(fault.IO, err, "waiting for another composition into %s", dir)
	}
}

// leave removes what a composition that failed has made in the output directory, and the directory
// if it made that too. What cannot be removed is not empty.
func leave(lock *filelock.Lock, dir string, made bool) {
	_ = lock.Remove()
	_ = os.Remove(filepath.Join(dir, filepath.Dir(workDir)))
	if made {
		_ = os.Remove(dir)
	}
}

// Names in the output directory: outputs are made in workDir while lockFile is held.
const (
	workDir  = ".build/work"
	lockFile = ".build/composing"
)

// deliver composes with the cache in a directory.
func (l *List) deliver(ctx context.Context, c *images.Composition, dir, in string, o Options) (*build.Report, error) {
	cache, err := build.OpenCache(in)
	if err != nil {
		return nil, err
	}
	b := &build.Builder{Cache: cache, Target: l.Target, Workspace: in, Jobs: o.Jobs, Sink: o.Sink, Unchanged: true}
	report, err := b.Deliver(ctx, dir, c.Artefacts)
	if err != nil || o.Cache == "" {
		return report, err
	}
	keys := make([]string, len(report.Steps))
	for i, s := range report.Steps {
		keys[i] = s.Key
	}
	return report, cache.Only(ctx, keys)
}

// listStep is the step that writes the list with all digests.
type listStep struct{ Text string }

var _ build.Step = (*listStep)(nil)

// pinned returns the step for the list. Its paths are absolute: the list moves to another
// directory.
func (l *List) pinned() (*listStep, error) {
	text, err := l.Encode()
	if err != nil {
		return nil, err
	}
	abs, read := &List{}, json.NewDecoder(bytes.NewReader(text))
	read.UseNumber() // arguments of containers keep the numbers that they have
	if err := read.Decode(abs); err != nil {
		return nil, fault.Wrap(fault.Internal, err, "writing the list of inputs")
	}
	abs.Absolute(l.dir)
	text, err = abs.Encode()
	return &listStep{string(text)}, err
}

// Name is "input/list".
func (*listStep) Name() string { return "input/list" }

// Deps is empty.
func (*listStep) Deps() []build.Step { return nil }

// Run writes the list.
func (s *listStep) Run(_ context.Context, w *build.Work) error {
	return fault.Wrap(fault.IO, os.WriteFile(filepath.Join(w.Out, ListFile), []byte(s.Text), 0o644), "writing the list of inputs")
}

// outside checks that no input is in a directory that is written, "" for none: a result must not
// become an input.
func (l *List) outside(dir string) error {
	if dir == "" {
		return nil
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return fault.Wrap(fault.IO, err, "looking for the output directory")
	}
	for _, in := range l.all() {
		rel, err := filepath.Rel(abs, l.place(*in.path))
		if err == nil && filepath.IsLocal(rel) {
			return fault.New(fault.BadInput, "%s: %s is in the directory %s, which is written: take another one", in.field, *in.path, dir)
		}
	}
	return nil
}

// Entry is one input for people.
type Entry struct {
	Input  string `json:"input"` // its place in the list
	Path   string `json:"path"`
	SHA256 string `json:"sha256"`
}

// Entries lists all inputs in the order of the list.
func (l *List) Entries() []Entry {
	var out []Entry
	for _, in := range l.all() {
		out = append(out, Entry{in.field, l.place(*in.path), *in.sha256})
	}
	return out
}

// String is the input as a line.
func (e Entry) String() string { return fmt.Sprintf("%s  %s  %s", e.SHA256, e.Input, e.Path) }
