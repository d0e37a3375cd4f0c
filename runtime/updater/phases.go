package updater

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/revision/manifest"
	"github.com/pantavisor/pantavisor/runtime/boot"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
	"github.com/pantavisor/pantavisor/runtime/engine"
	"github.com/pantavisor/pantavisor/runtime/step"
)

// Checks that a failure names.
const (
	checkState     = "state"
	checkCompat    = "compatibility"
	checkSpace     = "space"
	checkObject    = "object"
	checkHook      = "hook"
	checkLoader    = "boot loader"
	checkGoal      = "goal"
	checkContainer = "container"
	checkBoot      = "boot"
	checkUser      = "user"
	checkInstall   = "install"
)

// fail notes why an update ends.
func (j *job) fail(check string, err error) {
	if j.failure == nil {
		j.failure = &api.UpdateFailure{Check: check, Text: err.Error()}
	}
}

// install checks a revision and lays its files out. Until it has ended nothing else has
// changed: an error is WONTGO.
func (u *Updater) install(ctx context.Context, j *job) phase {
	st, sys, err := u.o.Device.Load(j.rev)
	if err != nil {
		outcome := message(err)
		if errors.Is(err, fs.ErrNotExist) && !u.o.Steps.Has(j.rev) {
			err = errors.New("the revision is not on the device: send it first")
		}
		j.fail(checkState, err)
		return u.refuse(outcome)
	}
	j.state = st
	if err := u.o.Device.Compatible(st, sys); err != nil {
		j.fail(checkCompat, err)
		return u.refuse(message(err))
	}
	if err := u.o.Device.Space(j.rev, st); err != nil {
		j.fail(checkSpace, err)
		return u.refuse(err.Error())
	}
	t, err := u.compare(j, sys)
	if err != nil {
		return u.refuse(msgInternal)
	}
	if u.needsLoader(j) {
		if err := u.o.Device.Loader(st); err != nil {
			j.fail(checkLoader, err)
			return u.refuse(err.Error())
		}
	}
	if end := u.layOut(ctx, j); end != "" {
		return u.refuse(end)
	}
	if j.reboot {
		u.o.Log.Infof("revision %s needs a restart: %s", j.rev, reasons(t, j.mode))
		return u.restart
	}
	return u.swap
}

// needsLoader reports whether an update that goes well ends with the boot loader's trying it.
func (u *Updater) needsLoader(j *job) bool {
	return j.reboot || j.when == whenReboot || j.mode != TryOnce && u.running.Done != j.rev
}

// layOut lays the files out, with the hooks around that. It returns how the update ends, ""
// when it goes on.
func (u *Updater) layOut(ctx context.Context, j *job) (end string) {
	end = u.files(ctx, j)
	if end == "" || ctx.Err() == nil {
		return end
	}
	j.failure = nil // whatever it was that did not end
	j.fail(checkInstall, fmt.Errorf("the installation was interrupted: %w; nothing has changed, run the revision again", context.Cause(ctx)))
	return msgAborted
}

func (u *Updater) files(ctx context.Context, j *job) (end string) {
	if err := u.before(ctx, j); err != nil {
		return msgInternal
	}
	if err := u.o.Device.Install(ctx, j.rev, j.state); err != nil {
		if damage := (*step.Damage)(nil); errors.As(err, &damage) {
			j.fail(checkObject, err)
			return msgBadObject
		}
		j.fail(checkInstall, err)
		return msgInternal
	}
	if err := u.after(ctx, j); err != nil {
		return msgInternal
	}
	return ""
}

// compare decides how the device gets to the revision.
func (u *Updater) compare(j *job, sys *manifest.System) (Transition, error) {
	if j.from == j.rev && !u.trying() { // started anew: nothing changed
		j.reboot = j.mode == RunCommit
		return Transition{}, nil
	}
	was, wasSys, err := u.o.Device.Load(j.from)
	if err != nil { // what runs cannot be compared; a restart brings order
		u.o.Log.Warnf("comparing with revision %s: %v", j.from, err)
		j.reboot = true
		return Transition{Reboot: []string{"the running state cannot be read"}}, nil
	}
	t := Compare(was, j.state, wasSys, sys)
	j.changed = t.Containers
	if j.mode == Apply {
		if !t.Restartless() {
			err := fmt.Errorf("a change of %s takes a restart; use LOCAL_RUN", strings.Join(t.Reboot, ", "))
			j.fail(checkState, err)
			return t, err
		}
		return t, nil
	}
	j.reboot = len(t.Reboot) > 0 || j.mode == RunCommit
	return t, nil
}

func (u *Updater) trying() bool { return u.running.State == boot.Trying }

// reasons says why a restart is needed.
func reasons(t Transition, m Mode) string {
	if len(t.Reboot) == 0 {
		return "mode " + string(m)
	}
	const shown = 5
	if n := len(t.Reboot); n > shown {
		return fmt.Sprintf("%s and %d more changed", strings.Join(t.Reboot[:shown], ", "), n-shown)
	}
	return strings.Join(t.Reboot, ", ") + " changed"
}

// before runs the hook before the files are laid out, after the one that follows; an
// error ends the update.
func (u *Updater) before(ctx context.Context, j *job) error {
	if !u.o.Slots {
		return u.hook(ctx, j, HookInstall)
	}
	return u.hook(ctx, j, HookBeforeInstall)
}

func (u *Updater) after(ctx context.Context, j *job) error {
	if !u.o.Slots {
		return nil
	}
	return u.hook(ctx, j, HookAfterInstall)
}

func (u *Updater) hook(ctx context.Context, j *job, event string) error {
	h := Hook{Revision: j.rev, Status: j.status, TryBoot: j.booted}
	if j.booted {
		h.Try = j.rev
	}
	err := u.o.Device.Hook(ctx, event, h)
	if err != nil {
		j.fail(checkHook, err)
	}
	return err
}

// refuse is the end of an update of which nothing has taken effect.
func (u *Updater) refuse(message string) phase {
	return func(_ context.Context, j *job) phase {
		_ = u.enter(j, WontGo, clip(message))
		return nil
	}
}

// message is how an update ends whose state cannot be used.
func message(err error) string {
	var told interface{ Outcome() string }
	switch {
	case errors.As(err, &told): // also when a file of certificates does not exist
		return told.Outcome()
	case errors.Is(err, fs.ErrNotExist):
		return msgNoState
	}
	_, text := manifest.Outcome(err)
	return text
}

// clip bounds a message: it stands in lists that show no long ones.
func clip(text string) string {
	const most = 200
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}

// restart tells the boot loader what to try and restarts the device. The record comes
// first: were it last, a device that loses its power would not know what it tries.
func (u *Updater) restart(_ context.Context, j *job) phase {
	if err := u.enter(j, InProgress, msgRebooting); err != nil {
		j.fail(checkInstall, err)
		return u.refuse(msgInternal)
	}
	if err := u.o.Store.SetTry(j.rev); err != nil {
		j.fail(checkLoader, err)
		return u.abandon
	}
	return u.goDown
}

// abandon is the end of an update that the loader could not be told of.
func (u *Updater) abandon(_ context.Context, j *job) phase {
	_ = u.enter(j, Error, msgInternal)
	u.endTry(j.rev)
	return nil
}

// goDown restarts the device; the goroutine ends with it.
func (u *Updater) goDown(ctx context.Context, j *job) phase {
	if err := u.o.Device.Restart("revision " + j.rev); err != nil {
		u.o.Log.Errorf("restarting for revision %s: %v", j.rev, err)
	}
	<-ctx.Done()
	return nil
}

// swap replaces the containers that changed.
func (u *Updater) swap(_ context.Context, j *job) phase {
	if err := u.enter(j, InProgress, msgSwapping); err != nil {
		j.fail(checkInstall, err)
		return u.refuse(msgInternal)
	}
	u.events.take()
	u.o.Device.Trial(true)
	if err := u.o.Device.Swap(j.rev, j.changed); err != nil { // nothing has changed
		u.o.Device.Trial(false)
		j.fail(checkContainer, err)
		return u.refuse(j.text())
	}
	u.ran(func(r *boot.Running) { r.Rev = j.rev })
	return u.prove
}

// resume is the first phase after the restart.
func (u *Updater) resume(_ context.Context, j *job) phase {
	_ = u.enter(j, InProgress, msgTrying)
	if j.failure != nil { // found before its containers were started
		return u.fallBack
	}
	return u.prove
}

// prove waits until all containers have reached their goals and have been stable for as
// long as is asked for.
func (u *Updater) prove(ctx context.Context, j *job) phase {
	p := &proof{}
	if !u.await(ctx, j, p, nil, func() bool { return p.settled }) {
		return u.failed(ctx)
	}
	await := msgAwaitStable
	if j.booted {
		await = msgAwaitCommit
	}
	_ = u.enter(j, Testing, await)
	if delay := u.o.Settings().CommitDelay; delay > 0 {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		if !u.await(ctx, j, p, timer.C, func() bool { return p.elapsed }) {
			return u.failed(ctx)
		}
	}
	if !p.stable {
		_ = u.enter(j, Testing, msgAwaitAll)
	}
	if !u.await(ctx, j, p, nil, func() bool { return p.stable }) {
		return u.failed(ctx)
	}
	if !u.look(j, p) { // it may have failed since the last event was taken
		return u.failed(ctx)
	}
	return u.keep
}

// proof is what has been seen of a revision under test.
type proof struct{ settled, stable, elapsed bool }

// await takes events until enough says so; it returns false when the revision has failed or
// ctx has ended. timer ends the commit delay.
func (u *Updater) await(ctx context.Context, j *job, p *proof, timer <-chan time.Time, enough func() bool) bool {
	for !enough() {
		select {
		case <-ctx.Done():
			return false
		case <-timer:
			p.elapsed = true
		case <-u.events.ready:
			if !u.look(j, p) {
				return false
			}
		case o := <-u.orders: // only cancellations get here
			if o.cancel != j.rev || j.back {
				o.answer <- errOngoing
				continue
			}
			o.answer <- nil
			j.fail(checkUser, errors.New("it was cancelled"))
			return false
		}
	}
	return true
}

// look takes what the engine has reported about the revision; false is a failure.
func (u *Updater) look(j *job, p *proof) bool {
	for _, e := range u.events.take() {
		switch {
		case e.failed != nil && e.failed.Revision == j.rev:
			u.blame(j, *e.failed)
		case e.settled != nil && e.settled.Revision == j.rev:
			p.settled = true
			u.blame(j, e.settled.Below...)
		case e.stable != nil:
			p.stable = *e.stable
		}
		if j.failure != nil {
			return false
		}
	}
	return true
}

// blame makes the first failure that counts the reason.
func (u *Updater) blame(j *job, list ...engine.Failure) {
	for _, f := range list {
		if j.back && !slices.Contains(j.changed, f.Container) {
			continue // it was so before the update
		}
		j.failure = u.describe(f)
		return
	}
}

// describe turns a failure of the engine into the one that people read.
func (u *Updater) describe(f engine.Failure) *api.UpdateFailure {
	check, text := checkContainer, f.Reason
	if f.Timeout > 0 {
		check = checkGoal
		text = fmt.Sprintf("container %s is %s and was to be %s within %v", f.Container, f.Status, f.Goal, f.Timeout)
		if f.Reason != "" {
			text += ": " + f.Reason
		}
	}
	return &api.UpdateFailure{
		Check: check, Container: f.Container, Group: f.Group, Goal: f.Goal, Status: f.Status, Text: text, Exit: f.Reason,
		Retries: f.Retries, Timeout: int(f.Timeout.Seconds()), Log: u.o.Device.Output(f.Revision, f.Container),
	}
}

// failed is the phase after a failure; when the device is going down, there is none.
func (u *Updater) failed(ctx context.Context) phase {
	return func(_ context.Context, j *job) phase {
		switch {
		case ctx.Err() != nil && j.failure == nil:
			return nil
		case j.booted:
			return u.fallBack
		}
		return u.revert
	}
}

// text is the manual's message for a failure.
func (j *job) text() string {
	if j.failure == nil {
		return msgInternal
	}
	switch j.failure.Check {
	case checkGoal:
		return msgGoal
	case checkContainer:
		return msgContainer
	case checkObject:
		return msgBadObject
	case checkState:
		return msgBadState
	case checkBoot:
		return msgUnexpected
	case checkUser:
		return msgAborted
	}
	return msgInternal
}

// fallBack has the boot loader start the committed revision again.
func (u *Updater) fallBack(_ context.Context, j *job) phase {
	_ = u.enter(j, Error, j.text())
	if err := u.o.Store.ClearTry(); err != nil {
		u.o.Log.Errorf("%v", err) // the loader falls back by itself
	}
	return u.goDown
}

// revert brings the containers of the revision before back; when they do not come, a
// restart does.
func (u *Updater) revert(ctx context.Context, j *job) phase {
	_ = u.enter(j, Error, j.text())
	if u.running.Try == j.rev { // it was UPDATED before: the next boot must not try it
		u.endTry(j.rev)
	}
	u.events.take()
	if err := u.o.Device.Swap(j.from, j.changed); err != nil {
		u.o.Log.Errorf("going back to revision %s: %v", j.from, err)
		return u.goDown
	}
	u.ran(func(r *boot.Running) { r.Rev = j.from })
	if j.failure.Check == checkLoader { // who knows what its store says now
		u.endTry(j.rev)
	}
	back, p := &job{rev: j.from, changed: j.changed, back: true}, &proof{}
	if !u.await(ctx, back, p, nil, func() bool { return p.settled }) && ctx.Err() == nil {
		u.o.Log.Errorf("going back to revision %s failed%s", j.from, because(back.failure))
		return u.goDown
	}
	u.o.Device.Trial(false)
	return nil
}

// keep is the end of an update whose revision runs.
func (u *Updater) keep(ctx context.Context, j *job) phase {
	u.o.Device.Trial(false)
	switch {
	case j.booted && j.mode != TryOnce:
		return u.commit(ctx, j)
	case j.mode == TryOnce:
		if v, err := u.o.Store.Load(); j.booted || err != nil || v.Try == j.rev {
			u.endTry(j.rev)
		} // else an UPDATED revision is still to be tried by the next boot
		_ = u.enter(j, Updated, msgUpdated)
		return nil
	case u.running.Done == j.rev:
		u.endTry(j.rev)
		_ = u.enter(j, Done, msgDone)
		return nil
	}
	if err := u.o.Store.SetTry(j.rev); err != nil { // the next boot would start the revision before
		j.fail(checkLoader, fmt.Errorf("the boot loader cannot be told to try it at the next boot: %w", err))
		return u.revert
	}
	u.ran(func(r *boot.Running) { r.Try = j.rev })
	_ = u.enter(j, Updated, msgUpdated)
	return nil
}

// endTry ends the test of a revision at the loader: the next boot starts the committed one, or
// tries the one that runs if that waits for its commit.
func (u *Updater) endTry(rev string) {
	try, set := "", u.o.Store.ClearTry
	if now := u.running; now.Rev != rev && now.Rev != now.Done && u.awaitsCommit(now.Rev) {
		try = u.running.Rev
		set = func() error { return u.o.Store.SetTry(try) }
	}
	if err := set(); err != nil {
		u.o.Log.Errorf("after revision %s: %v", rev, err)
	}
	u.ran(func(r *boot.Running) { r.Try = try })
}

// awaitsCommit reports whether a revision is UPDATED, so that a boot is to try and commit it.
func (u *Updater) awaitsCommit(rev string) bool {
	r := u.o.Journal.Last(rev)
	return r != nil && r.Status == Updated && u.o.Journal.first(*r).Mode != TryOnce
}

// commit makes the revision the one that the loader falls back to. A device whose loader
// cannot be told goes on: the next boot shows whether it falls back.
func (u *Updater) commit(ctx context.Context, j *job) phase {
	if err := u.o.Store.Commit(j.rev); err != nil {
		j.fail(checkLoader, err)
		return u.fallBack
	}
	u.ran(func(r *boot.Running) { *r = boot.Running{Rev: j.rev, Done: j.rev, State: boot.Steady} })
	if err := u.o.Steps.MarkDone(j.rev, Done.progress(msgDone)); err != nil {
		u.o.Log.Warnf("%v", err)
	}
	_ = u.enter(j, Done, msgDone)
	for _, event := range []string{HookBootDone, HookDone} {
		if err := u.hook(ctx, j, event); err != nil {
			u.o.Log.Warnf("%v", err)
		}
	}
	return nil
}
