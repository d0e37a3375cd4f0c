package build

import (
	"context"
	"maps"
	"slices"
)

// Deliver builds what the artefacts need, publishes them into dir (out/TARGET)
// and leaves the report there. The error of the build comes before any change
// below dir.
func (b *Builder) Deliver(ctx context.Context, dir string, artefacts []Artefact) (*Report, error) {
	var wanted []Step
	for _, a := range artefacts {
		wanted = append(wanted, a.Step)
	}
	res, err := b.make(ctx, wanted)
	if err != nil {
		b.finish(res, err)
		return nil, err
	}
	report, err := b.deliver(ctx, res, dir, artefacts)
	b.finish(res, err)
	return report, err
}

// deliver publishes what a build has made.
func (b *Builder) deliver(ctx context.Context, res *Result, dir string, artefacts []Artefact) (*Report, error) {
	lock, err := lockOut(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer lock.Unlock()
	sweepOut(dir, artefacts)
	published, err := b.publishAll(ctx, res, dir, artefacts)
	if err != nil {
		return nil, err
	}
	report := newReport(res, published)
	for _, text := range b.Warnings {
		report.Warnings = append(report.Warnings, StepNote{"build", text})
	}
	return report, report.Save(dir)
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
