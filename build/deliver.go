package build

import (
	"context"
	"maps"
	"slices"
	"time"
)

// Deliver builds what the artefacts need, publishes them into dir (out/TARGET)
// and leaves the report there. The error of a step comes before any change below
// dir but that of the report, which a failed build leaves too. [Builder.Incomplete] is
// returned when all else is done.
func (b *Builder) Deliver(ctx context.Context, dir string, artefacts []Artefact) (*Report, error) {
	if err := b.checkNames(artefacts); err != nil {
		return b.fail(ctx, dir, nil, nil, err), err
	}
	var wanted []Step
	for _, a := range artefacts {
		wanted = append(wanted, a.Step)
	}
	res, err := b.make(ctx, wanted)
	if err != nil {
		return b.fail(ctx, dir, res, nil, err), err
	}
	report, err := b.deliver(ctx, res, dir, artefacts)
	if err != nil {
		return b.fail(ctx, dir, res, report.Artefacts, err), err
	}
	if b.Incomplete != nil {
		return b.fail(ctx, dir, res, report.Artefacts, b.Incomplete), b.Incomplete
	}
	if b.Delivered != nil {
		if err := b.Delivered(res); err != nil {
			b.emit(Event{Type: Warning, Text: err.Error()})
		}
	}
	b.finish(res, nil)
	return report, nil
}

// deliver publishes what a build has made. The report of an error has what was published.
func (b *Builder) deliver(ctx context.Context, res *Result, dir string, artefacts []Artefact) (*Report, error) {
	lock, err := lockOut(ctx, dir)
	if err != nil {
		return &Report{}, err
	}
	defer lock.Unlock()
	sweepOut(dir, artefacts)
	published, err := b.publishAll(ctx, res, dir, artefacts)
	if err != nil {
		return &Report{Artefacts: published}, err
	}
	report := b.report(res, published, nil)
	if b.Sign != nil && b.Incomplete == nil {
		if err := b.Sign(ctx, dir, report); err != nil {
			return report, err
		}
	}
	return report, report.Save(dir)
}

func (b *Builder) report(res *Result, published []Published, err error) *Report {
	r := newReport(res, published, err)
	for _, text := range b.Warnings {
		r.Warnings = append(r.Warnings, StepNote{"build", text})
	}
	if err == nil {
		r.Recipe = b.Recipe
	}
	return r
}

// Fail leaves the report of a build that failed before its first step in dir, unless that
// is "", and tells that it has ended.
func (b *Builder) Fail(ctx context.Context, dir string, err error) *Report {
	return b.fail(ctx, dir, nil, nil, err)
}

// patience is how long the report of a failed build waits for another build that publishes.
const patience = 5 * time.Second

// fail leaves the report of a failed build in dir, in place of that of an earlier one,
// and ends the build.
func (b *Builder) fail(ctx context.Context, dir string, res *Result, published []Published, err error) *Report {
	if res == nil {
		res = &Result{Target: b.Target}
	}
	report := b.report(res, published, err)
	if dir != "" && (!b.Unchanged || len(published) > 0) {
		b.saveFailed(ctx, dir, report)
	}
	b.finish(res, err)
	return report
}

// saveFailed writes the report of a failed build. What prevents it is not worth another
// error: the first is the one to mend.
func (b *Builder) saveFailed(ctx context.Context, dir string, report *Report) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	lock, unsaved := lockOut(ctx, dir)
	if unsaved == nil {
		defer lock.Unlock()
		unsaved = report.Save(dir)
	}
	if unsaved != nil {
		b.emit(Event{Type: Warning, Text: "the report of the failure is not written: " + unsaved.Error()})
	}
}

// Forget removes the last two cache entries that the target used of each named step, of
// all steps when no name is given.
func (b *Builder) Forget(ctx context.Context, steps ...string) error {
	keys := b.newKeeper().keys()
	if len(steps) == 0 {
		steps = slices.Sorted(maps.Keys(keys))
	}
	for _, name := range steps {
		for _, key := range keys[name] {
			if err := b.Cache.Forget(ctx, key); err != nil {
				return err
			}
		}
	}
	return nil
}

// ForgetSteps removes, for the wanted steps alone, the entries that the target last used
// and the one that it would use now: another setting may have been built in between.
func (b *Builder) ForgetSteps(ctx context.Context, wanted ...Step) error {
	plan, err := b.Plan(ctx, wanted...)
	if err != nil {
		return err
	}
	var names []string
	for _, s := range wanted {
		names = append(names, s.Name())
	}
	for _, s := range plan.Steps {
		if s.State != cachedState || !slices.Contains(names, s.Name) {
			continue
		}
		if err := b.Cache.Forget(ctx, s.Key); err != nil {
			return err
		}
	}
	return b.Forget(ctx, names...)
}
