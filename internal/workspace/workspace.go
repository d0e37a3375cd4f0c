// Package workspace joins targets, locks, images and the build for the commands that
// a user types: each exported method is one command, and package mage only calls
// it.
package workspace

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/build/gosource"
	"github.com/pantavisor/pantavisor/build/options"
	"github.com/pantavisor/pantavisor/containers"
	"github.com/pantavisor/pantavisor/debian"
	"github.com/pantavisor/pantavisor/images"
	"github.com/pantavisor/pantavisor/images/resolve"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/layers"
	"github.com/pantavisor/pantavisor/internal/pipelinelog"
	"github.com/pantavisor/pantavisor/internal/spelling"
	"github.com/pantavisor/pantavisor/targets"
)

// Workspace is a source tree in which commands run. A command sets the fields that it has
// flags for.
type Workspace struct {
	Root    string // the source tree; "": the directory of the process
	OutDir  string // for results; "": out in Root
	Events  string // file for JSON lines, "-" for Stdout, which has nothing else then; "": none
	List    string // file for a list of what mage build writes, as JSON; "": none
	Locked  bool   // as PV_LOCKED
	JSON    bool   // results as JSON
	Signing Signing
	Options *options.Options

	Stdout, Stderr io.Writer

	// Log is the log of the pipeline in which the command runs.
	Log *pipelinelog.Log

	layers *layers.Layers // set by Sources
	code   code           // set by modules
}

// composerMemory is where the garbage collector begins to work harder, in bytes:
// many short-lived buffers of compressors pile up otherwise.
const composerMemory = 80 << 20

// New returns the workspace in the current directory, with options from the environment.
func New() (*Workspace, error) {
	root, err := os.Getwd()
	if err != nil {
		return nil, fault.Wrap(fault.IO, err, "looking for the source tree")
	}
	o, err := options.FromEnvironment()
	return At(root, o), err
}

// At returns the workspace at root. It bounds the memory of the process, unless GOMEMLIMIT
// does.
func At(root string, o *options.Options) *Workspace {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(composerMemory)
	}
	return &Workspace{Root: root, Options: o, Stdout: os.Stdout, Stderr: os.Stderr, Log: pipelinelog.New(os.Stderr, os.Getenv)}
}

// job is one command on one target.
type job struct {
	*build.Builder
	target *targets.Target
	layers *layers.Layers
	own    *gosource.Module // the workspace's code, nil when it has none
	parts  *debian.Parts
	// lock has the packages that the build uses.
	lock *debian.Lock
	// reference is what the lock pins, nil for nothing.
	reference *debian.Reference
	inputs    *images.Inputs
	comp      *images.Composition
	close     func() error
}

// Out is the directory of a target's results.
func (w *Workspace) Out(target string) string { return filepath.Join(w.outDir(), target) }

// outDir is the directory of all results: out in the workspace, or what the user says.
func (w *Workspace) outDir() string {
	if w.OutDir == "" {
		return filepath.Join(w.Root, "out")
	}
	return w.path(w.OutDir)
}

func (w *Workspace) load(name string, further ...targets.Check) (*targets.Target, error) {
	l, err := w.Sources()
	if err != nil {
		return nil, err
	}
	t, err := targets.Load(definitions(l), name, further...)
	if err == nil {
		l.Find(path.Join("targets", t.Definition, targets.FileName)) // for the plan
	}
	return t, err
}

// loadWhole loads a target with everything that its file names in other places.
func (w *Workspace) loadWhole(name string) (*targets.Target, error) {
	l, err := w.Sources()
	if err != nil {
		return nil, err
	}
	c, err := w.modules(l)
	if err != nil {
		return nil, err
	}
	return w.loadWith(c, l, name)
}

// loadWith is loadWhole with code that is open.
func (w *Workspace) loadWith(c code, l *layers.Layers, name string) (*targets.Target, error) {
	return w.load(name, resolve.References(resolve.Options{
		Layers: l, Module: c.this, Own: c.own, MergeSource: w.Options.MergeSource, UseSourceBSP: w.Options.UseSourceBSP,
	}))
}

// start loads a target whole and returns the job of building it. The code of the workspace is
// opened once for both.
func (w *Workspace) start(name string) (*job, error) {
	l, err := w.Sources()
	if err != nil {
		return nil, err
	}
	c, err := w.modules(l)
	if err != nil {
		return nil, err
	}
	t, err := w.loadWith(c, l, name)
	if err != nil {
		return nil, err
	}
	return w.builderWith(c, l, t)
}

// open resolves a target: its parts, then its graph. Nothing is run.
func (w *Workspace) open(ctx context.Context, name string) (*job, error) {
	j, err := w.start(name)
	if err != nil {
		return nil, err
	}
	if err := w.plan(ctx, j); err != nil {
		return nil, errors.Join(err, j.close())
	}
	return j, nil
}

// plan resolves the target of a job.
func (w *Workspace) plan(ctx context.Context, j *job) error {
	j.Warnings = append(j.Warnings, w.Options.Notes...)
	var err error
	j.parts, err = w.parts(ctx, j)
	var merge string
	if err = w.roomFor(err, j.Cache.Dir()); err == nil {
		m := w.mergeSource(j.Cache.Dir(), func(text string) { j.Warnings = append(j.Warnings, text) })
		merge, _, err = m.fetch(ctx, j.reference)
	}
	if err != nil {
		return err
	}
	o := resolve.Options{
		GivenParts:  w.Options.Parts,
		MergeSource: merge, UseSourceBSP: w.Options.UseSourceBSP, Debug: w.Options.Debug, Epoch: w.Options.Epoch,
		TrustCertificates: w.Options.Certificate, TrustKey: w.Options.Key, Release: w.Options.Release,
		Pipeline: w.Options.Pipeline, FactoryToken: w.Options.FactoryToken,
	}
	if w.Options.MergeSBOM != "" {
		o.MergeSBOM = w.path(w.Options.MergeSBOM)
	}
	o.Layers = j.layers
	if err = resolve.CheckParts(ctx, j.target, o); err != nil {
		return err
	}
	j.comp, err = j.compose(o)
	j.Incomplete = resolve.Lacks(j.target, o)
	return err
}

// compose makes the target's graph from the job's tree, code and parts.
func (j *job) compose(o resolve.Options) (*images.Composition, error) {
	o.Layers, o.Module, o.Own, o.Parts = j.layers, j.Code, j.own, j.parts
	in, err := resolve.Target(j.target, o)
	if err != nil {
		return nil, err
	}
	warnings, err := checkSettings(j.target, in.Config, in.Containers, os.Environ())
	if err != nil {
		return nil, err
	}
	warnings = append(warnings, misspelt(j.layers, j.target)...)
	j.Warnings, j.Replaced, j.inputs = append(j.Warnings, warnings...), j.hidden(), in
	comp, err := images.Compose(in)
	if err != nil {
		return nil, err
	}
	return comp, j.budgets(in, comp)
}

func (w *Workspace) builder(t *targets.Target) (*job, error) {
	l, err := w.Sources()
	if err != nil {
		return nil, err
	}
	c, err := w.modules(l)
	if err != nil {
		return nil, err
	}
	return w.builderWith(c, l, t)
}

// builderWith is builder with code that is open.
func (w *Workspace) builderWith(c code, l *layers.Layers, t *targets.Target) (*job, error) {
	dir, err := build.CacheDir()
	if err != nil {
		return nil, err
	}
	cache, err := build.OpenCache(dir)
	if err != nil {
		return nil, err
	}
	c.this.Memory = cache.Memory()
	if c.own != nil {
		c.own.Memory = cache.Memory()
	}
	sink, end, err := w.sinks()
	return &job{target: t, layers: l, own: c.own, close: end, Builder: &build.Builder{
		Cache: cache, Target: t.Name, Workspace: w.Root, Code: c.this, Jobs: w.Options.Jobs, Verify: w.Options.Verify, Sink: sink,
	}}, err
}

// sinks are lines or bars for people and, when asked for, JSON lines.
func (w *Workspace) sinks() (build.Sink, func() error, error) {
	var all build.Sinks
	end := func() error { return nil }
	if f, ok := w.Stderr.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		live := build.NewLive(f)
		all, end = append(all, live), func() error { live.Close(); return nil }
	} else if w.Log.Here() {
		all = append(all, &build.Folded{W: w.Stderr, Folds: w.Log})
	} else {
		all = append(all, &build.Plain{W: w.Stderr})
	}
	switch w.Events {
	case "":
		return all, end, nil
	case eventsToStdout:
		return append(all, build.JSON{W: w.Stdout}), end, nil
	}
	f, err := os.Create(w.Events)
	if err != nil {
		return nil, end, errors.Join(fault.Wrap(fault.IO, err, "opening the file of --events"), end())
	}
	finish := end
	return append(all, build.JSON{W: f}), func() error { return errors.Join(finish(), f.Close()) }, nil
}

// parts answers what the target takes from Debian, from its lock.
func (w *Workspace) parts(ctx context.Context, j *job) (*debian.Parts, error) {
	lock, err := debian.LoadLock(w.usedLock(j.layers, j.target.Definition))
	if errors.Is(err, fs.ErrNotExist) {
		lock, err = &debian.Lock{}, nil
	}
	if err != nil {
		return nil, err
	}
	store := debian.Open(j.Cache.Dir(), func(text string) { j.Warnings = append(j.Warnings, text) })
	j.reference = lock.Reference
	locked := w.Locked || w.Options.Locked
	requests, err := resolve.BuildRequests(j.target, j.layers)
	if err != nil {
		return nil, err
	}
	lock, replaced, err := store.Refresh(ctx, lock, requests, debian.Options{
		Locked: locked, Target: j.target.Name,
		Progress: func(e debian.Entry) { fmt.Fprintln(w.Stderr, "fetching", e.Package, e.Version) },
	})
	if err != nil {
		return nil, located(err, j.target, j.layers)
	}
	for _, r := range replaced {
		j.Warnings = append(j.Warnings, r.String())
	}
	j.lock = lock
	return debian.NewParts(store, lock), nil
}

// located adds to an error for what Debian does not have where target and containers name it.
func located(err error, t *targets.Target, l *layers.Layers) error {
	var suite *debian.UnknownSuiteError
	if errors.As(err, &suite) {
		if places := targets.LocateSuite(definitions(l), t.Definition, suite.Suite, suite.Error()); places != nil {
			return places
		}
	}
	var absent *debian.AbsentError
	if !errors.As(err, &absent) {
		return err
	}
	if places := containers.Locate(t, l, absent); places != nil {
		return fault.New(fault.Of(err), "%w\n%w", err, places)
	}
	return err
}

// definitions returns the targets of all layers.
func definitions(l *layers.Layers) fs.FS { return targets.In(l.Dirs("targets")...) }

// lockFile is the lock that mage lock writes, of a target and all its builds.
func (w *Workspace) lockFile(definition string) string {
	return filepath.Join(w.Root, "targets", definition, lockName)
}

const lockName = "parts.lock"

// usedLock is the lock of a target: that of the workspace, or else the one beside the
// definition of the target that is used.
func (w *Workspace) usedLock(l *layers.Layers, definition string) string {
	own := w.lockFile(definition)
	if _, err := os.Stat(own); err != nil {
		if def, ok := l.Find(path.Join("targets", definition, targets.FileName)); ok && def.Layer != l.Top() {
			place, _ := l.Find(path.Join("targets", definition, lockName))
			return place.Path
		}
		return own
	}
	l.Find(path.Join("targets", definition, lockName)) // for the plan
	return own
}

// Build makes everything of a target and prints where it is.
func (w *Workspace) Build(ctx context.Context, target string) (*build.Report, error) {
	w.Signing = w.Signing.or(w.Options)
	report, _, err := w.build(ctx, target)
	return report, err
}

// build is Build; it returns the graph too. The report of a failed build is printed and
// saved as that of any other.
func (w *Workspace) build(ctx context.Context, target string) (*build.Report, *images.Composition, error) {
	j, err := w.start(target)
	if err != nil {
		return w.unplanned(ctx, target, err)
	}
	report, err := w.deliver(ctx, j)
	err = errors.Join(err, j.close())
	w.tellSigned(report, err)
	err = errors.Join(err, w.list(report))
	if w.JSON {
		err = errors.Join(err, w.Print(report))
	}
	return report, j.comp, err
}

// deliver plans and builds the target of a job.
func (w *Workspace) deliver(ctx context.Context, j *job) (*build.Report, error) {
	out := w.Out(j.target.Name)
	if err := os.MkdirAll(out, 0o755); err != nil { // before the work
		err = fault.Wrap(fault.IO, err, "making the directory of the results (another place: --out=DIR)")
		return j.Fail(ctx, "", err), err
	}
	err := w.sign(ctx, j)
	if err == nil {
		err = w.plan(ctx, j)
	}
	if err == nil {
		j.Recipe, err = w.recipe(j)
	}
	if err != nil {
		return j.Fail(ctx, out, err), err
	}
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(memory))
	report, err := j.Deliver(ctx, out, j.comp.Artefacts)
	if err = w.roomFor(err, j.Cache.Dir()); err == nil {
		w.tidy(ctx, j)
	}
	return report, err
}

// memory is where the garbage collector begins to work harder while steps run, in bytes.
const memory = 48 << 20

// unplanned ends a build whose target could not be loaded. It leaves a report if the
// target is defined, or was built before: an old report would be taken for one of this
// build.
func (w *Workspace) unplanned(ctx context.Context, target string, err error) (*build.Report, *images.Composition, error) {
	sink, end, events := w.sinks()
	if events != nil { // which may be the very error
		if events.Error() != err.Error() {
			err = errors.Join(err, events)
		}
		return nil, nil, err
	}
	dir := ""
	if w.known(target) {
		dir = w.Out(target)
	}
	report := (&build.Builder{Target: target, Sink: sink}).Fail(ctx, dir, err)
	err = errors.Join(err, end(), w.list(report))
	if w.JSON {
		err = errors.Join(err, w.Print(report))
	}
	return report, nil, err
}

// known reports whether a word is the name of a target that is defined or was built.
func (w *Workspace) known(target string) bool {
	if !directoryName(target) {
		return false
	}
	if _, err := os.Stat(filepath.Join(w.Out(target), build.ReportName)); err == nil {
		return true
	}
	l, err := w.Sources()
	if err != nil {
		return false
	}
	defined, err := targets.Names(definitions(l))
	return err == nil && slices.Contains(defined, target)
}

// roomFor adds to an error of a full file system which directories need room; an image
// that is too small says itself what mends it.
func (w *Workspace) roomFor(err error, cache string) error {
	if !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EDQUOT) {
		return err
	}
	return fmt.Errorf("%w; free space there: the cache is %s (another place: PV_CACHE_DIR), results go to %s (another place: --out)", err, cache, w.outDir())
}

// unusedDownloads is how long a package stays in the download cache that no build
// asks for: a cleaned build shall not need the network.
const unusedDownloads = 90 * 24 * time.Hour

// tidy keeps the caches in bounds. The build is done: what goes wrong is told only.
func (w *Workspace) tidy(ctx context.Context, j *job) {
	day, err := j.Cache.Tidy(ctx, w.Options.CacheSize<<30)
	if day {
		err = errors.Join(err, debian.Open(j.Cache.Dir(), nil).Prune(unusedDownloads))
	}
	if err != nil {
		fmt.Fprintln(w.Stderr, "warning ", err)
	}
}

// Print writes a result as JSON to Stdout: one value or, where events go there, the last of
// the lines.
func (w *Workspace) Print(v any) error {
	enc := json.NewEncoder(w.Stdout)
	if w.eventsOut() {
		return enc.Encode(build.Event{Time: time.Now(), Type: build.Resulted, Result: v})
	}
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// eventsToStdout is the value of Events for the standard output.
const eventsToStdout = "-"

// eventsOut reports whether events go to Stdout, which then has nothing but JSON lines.
func (w *Workspace) eventsOut() bool { return w.Events == eventsToStdout }

// tell prints a result as JSON or for people.
func (w *Workspace) tell(v any, text func(io.Writer) error) error {
	if w.JSON || w.eventsOut() {
		return w.Print(v)
	}
	return text(w.Stdout)
}

// Plan prints the resolved graph: text, json or dot; "" is text, or json with JSON.
func (w *Workspace) Plan(ctx context.Context, target, format string) error {
	switch {
	case format == "" && w.JSON:
		format = "json"
	case w.JSON && format != "json":
		return fault.New(fault.BadInput, "--json and --format=%s contradict each other", format)
	}
	j, err := w.open(ctx, target)
	if err != nil {
		return err
	}
	defer j.close() //nolint:errcheck // nothing was written
	plan, err := j.Plan(ctx, j.comp.Wanted()...)
	if err != nil {
		return err
	}
	for _, text := range j.Warnings {
		fmt.Fprintln(w.Stderr, build.Line(build.Event{Type: build.Warning, Text: text}))
	}
	plan.Origins = j.origins()
	return plan.Write(w.Stdout, format)
}

// hidden are the files of the workspace that are used in place of those that this module
// ships.
func (j *job) hidden() []build.Replacement {
	var out []build.Replacement
	for _, p := range j.layers.Found() {
		if p.Over != "" {
			out = append(out, build.Replacement{Files: []string{p.Name}, Of: "this module", By: "the " + p.Layer.Label})
		}
	}
	return out
}

// origins says where the files of the target came from.
func (j *job) origins() []build.Origin {
	var out []build.Origin
	for _, p := range j.layers.Found() {
		out = append(out, build.Origin{Name: p.Name, From: p.Layer.Label, Path: p.Path, Over: p.Over})
	}
	code := []build.Origin{{Name: j.Code.Path(), From: j.layers.Shipped().Label, Path: j.Code.Root()}}
	if j.own != nil && j.own != j.Code {
		code = append(code, build.Origin{Name: j.own.Path(), From: layers.Workspace, Path: j.own.Root()})
	}
	return append(out, code...)
}

// Why says which input of a step changed.
func (w *Workspace) Why(ctx context.Context, target, step string) error {
	j, err := w.open(ctx, target)
	if err != nil {
		return err
	}
	defer j.close() //nolint:errcheck // nothing was written
	reason, err := j.Why(ctx, step, j.comp.Wanted()...)
	if err != nil {
		return err
	}
	return w.tell(reason, reason.Write)
}

// Clean removes what was made for a target: its outputs and its cached steps.
// Downloads stay.
func (w *Workspace) Clean(ctx context.Context, target string) error {
	t, err := w.load(target)
	if err != nil {
		return w.cleanGone(target, err)
	}
	target = t.Name // which an alias is not
	j, err := w.builder(t)
	if err != nil {
		return err
	}
	defer j.close() //nolint:errcheck // nothing was written
	if err := j.Forget(ctx); err != nil {
		return err
	}
	if err := os.RemoveAll(w.Out(target)); err != nil {
		return fault.Wrap(fault.IO, err, "cleaning %s", target)
	}
	fmt.Fprintf(w.Stderr, "removed %s and the cached steps of %s\n", w.Out(target), target)
	return w.cleaned(Cleaned{Target: target, Removed: w.Out(target), Steps: true})
}

// Cleaned is what [Workspace.Clean] removed.
type Cleaned struct {
	Target  string `json:"target"`
	Removed string `json:"removed"` // the directory of results
	Steps   bool   `json:"steps"`   // the cached steps, too
}

// cleaned prints what was removed, which people have read already.
func (w *Workspace) cleaned(c Cleaned) error { return w.tell(c, noText) }

// noText prints nothing for people.
func noText(io.Writer) error { return nil }

// cleanGone removes the outputs of a target whose definition was deleted. For any
// other name, and for a definition that is there but wrong, it returns unknown.
func (w *Workspace) cleanGone(target string, unknown error) error {
	l, err := w.Sources()
	if err != nil {
		return err
	}
	defined, err := targets.Names(definitions(l))
	if err != nil || slices.Contains(defined, target) || !directoryName(target) {
		return unknown
	}
	out := w.Out(target)
	if _, err := os.Stat(filepath.Join(out, build.ReportName)); err != nil {
		return unknown
	}
	if err := os.RemoveAll(out); err != nil {
		return fault.Wrap(fault.IO, err, "cleaning %s", target)
	}
	fmt.Fprintf(w.Stderr, "removed %s; target %s is no longer defined, its cached steps go with age\n", out, target)
	return w.cleaned(Cleaned{Target: target, Removed: out})
}

// directoryName reports whether a word names an entry of a directory and nothing else.
func directoryName(word string) bool {
	return word != "." && filepath.IsLocal(word) && word == filepath.Base(word)
}

// replacedComponents are sub-targets of the earlier build system, with what replaces them
// (docs/migration.md).
var replacedComponents = map[string]string{
	"pv_lxc":         "the launcher of containers is part of the runtime; mage component TARGET init builds it",
	"config-check":   "there is no configuration of modules; mage plan TARGET checks the target, and mage component TARGET kernel the options of the kernel",
	"config-update":  "there is no configuration of modules; mage lock TARGET moves the pinned packages",
	"init-codecheck": "mage lint checks form and style",
}

// Component makes one component of a target, or with "-clean" behind its name
// drops it from the cache.
func (w *Workspace) Component(ctx context.Context, target, name string) error {
	base, clean := strings.CutSuffix(name, "-clean")
	if instead := replacedComponents[base]; instead != "" && !slices.Contains(images.Components, base) {
		return fault.New(fault.Unsupported, "component %q: there is none: %s", base, instead)
	}
	if !slices.Contains(images.Components, base) {
		return spelling.Unknown("component", base, images.Components)
	}
	j, err := w.open(ctx, target)
	if err != nil {
		return err
	}
	defer j.close() //nolint:errcheck // the build's own error says more
	target = j.target.Name
	steps := j.comp.Components[base]
	if len(steps) == 0 {
		return fault.New(fault.Unsupported, "target %s has no component %s", target, base)
	}
	if clean {
		if err := j.ForgetSteps(ctx, steps...); err != nil {
			return err
		}
		fmt.Fprintf(w.Stderr, "forgot component %s of %s\n", base, target)
		return w.tell(componentOf(target, base, steps, nil), noText)
	}
	res, err := j.Build(ctx, steps...)
	if err = w.roomFor(err, j.Cache.Dir()); err != nil {
		return err
	}
	made := componentOf(target, base, steps, res)
	return w.tell(made, func(out io.Writer) error {
		for _, s := range made.Steps {
			fmt.Fprintf(out, "%s\t%s\n", s.Name, s.Directory)
		}
		return nil
	})
}

// Component is a component of a target.
type Component struct {
	Target    string          `json:"target"`
	Component string          `json:"component"`
	Steps     []ComponentStep `json:"steps"`
}

// ComponentStep is a step of a component with the directory of its output, "" when it was
// forgotten.
type ComponentStep struct {
	Name      string `json:"name"`
	Directory string `json:"directory,omitempty"`
}

// componentOf describes a component; res is nil when it was forgotten.
func componentOf(target, name string, steps []build.Step, res *build.Result) Component {
	c := Component{Target: target, Component: name}
	for _, s := range steps {
		step := ComponentStep{Name: s.Name()}
		if res != nil {
			step.Directory = res.Dir(s)
		}
		c.Steps = append(c.Steps, step)
	}
	return c
}

// Lock moves the target's pinned parts to the newest of their suites.
func (w *Workspace) Lock(ctx context.Context, target string) error {
	t, err := w.loadWhole(target)
	if err != nil {
		return err
	}
	target = t.Name
	dir, err := build.CacheDir()
	if err != nil {
		return err
	}
	store := debian.Open(dir, func(text string) { fmt.Fprintln(w.Stderr, "warning ", text) })
	fmt.Fprintf(w.Stderr, "looking for the newest parts of %s in the archive\n", target)
	l, err := w.Sources()
	if err != nil {
		return err
	}
	requests, err := w.lockRequests(t, l)
	if err != nil {
		return err
	}
	lock, err := store.Resolve(ctx, requests)
	if err != nil {
		return located(err, t, l)
	}
	before, err := debian.LoadLock(w.usedLock(l, t.Definition))
	if err != nil { // a damaged lock is written anew
		before = &debian.Lock{}
	}
	m := w.mergeSource(dir, func(text string) { fmt.Fprintln(w.Stderr, "warning ", text) })
	if lock.Reference, err = m.pin(ctx, before.Reference); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(w.lockFile(t.Definition)), 0o755); err != nil { // a shipped target has none here
		return fault.Wrap(fault.IO, err, "saving the lock of %s", target)
	}
	if err := lock.Save(w.lockFile(t.Definition)); err != nil {
		return err
	}
	moved := Locked{Target: target, Lock: w.lockFile(t.Definition), Packages: len(lock.Packages), Moved: append([]string{}, lock.Moved(before)...)}
	if !w.JSON {
		for _, line := range moved.Moved {
			fmt.Fprintln(w.Stdout, line)
		}
	}
	fmt.Fprintf(w.Stderr, "%s pins %d packages, all the newest of their suites\n", moved.Lock, moved.Packages)
	if err := w.fetch(ctx, target); err != nil {
		return err
	}
	return w.tell(moved, noText)
}

// lockRequests lists the packages for the lock of a target: those of the target and of all
// its builds.
func (w *Workspace) lockRequests(t *targets.Target, l *layers.Layers) ([]debian.Request, error) {
	all := []*targets.Target{t}
	whole, err := w.loadWhole(t.Definition)
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(whole.Builds)) {
		b, err := w.loadWhole(t.Definition + "-" + name)
		if err != nil {
			return nil, err
		}
		all = append(all, b)
	}
	var out []debian.Request
	for _, one := range all {
		requests, err := resolve.LockRequests(one, l)
		if err != nil {
			return nil, err
		}
		for _, r := range requests {
			if !slices.ContainsFunc(out, r.Equal) {
				out = append(out, r)
			}
		}
	}
	return out, nil
}

// Locked is what [Workspace.Lock] wrote.
type Locked struct {
	Target   string   `json:"target"`
	Lock     string   `json:"lock"`     // the file
	Packages int      `json:"packages"` // how many it pins
	Moved    []string `json:"moved"`    // a line for each package that is new, other or gone
}
