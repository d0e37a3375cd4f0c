package updater

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pantavisor/pantavisor/revision/manifest"
	"github.com/pantavisor/pantavisor/revision/state"
	"github.com/pantavisor/pantavisor/runtime/boot"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
	"github.com/pantavisor/pantavisor/runtime/engine"
	"github.com/pantavisor/pantavisor/runtime/logs"
	"github.com/pantavisor/pantavisor/runtime/step"
)

// Device is what the updater needs of the running device. Its methods may take long; only
// the updater's goroutine calls them.
type Device interface {
	// Load reads and checks the state of a revision, its signatures included.
	Load(rev string) (*state.State, *manifest.System, error)
	// Install lays the files of a revision out and makes them durable. An error of a
	// missing or damaged object is a [step.Damage].
	Install(ctx context.Context, rev string, st *state.State) error
	// Compatible returns an error that names both sides when parts of a state do not go
	// together, or do not with the device.
	Compatible(st *state.State, sys *manifest.System) error
	// Space returns an error with the numbers when a revision does not fit.
	Space(rev string, st *state.State) error
	// Loader returns an error when the boot loader cannot try a state.
	Loader(st *state.State) error
	// Swap makes a revision the running one without a restart: containers that changed
	// are replaced. Its end comes as an event.
	Swap(rev string, changed []string) error
	// Trial says whether an update is under test: then a container that fails does not
	// restart the device by itself.
	Trial(on bool)
	// Restart stops all containers and restarts the device.
	Restart(reason string) error
	// Hook runs the device's own programs for an event (manual: system hooks).
	Hook(ctx context.Context, event string, h Hook) error
	// Output returns the last lines that a container wrote.
	Output(rev, container string) []string
	// Wake keeps the device awake while an update is in progress.
	Wake(on bool)
}

// Hook is what a hook's program learns.
type Hook struct {
	Revision string
	Try      string // the revision under test, "" outside of a test
	TryBoot  bool   // it runs for the first time
	Status   Status
}

// Events of hooks (manual: system hooks, PV_OP).
const (
	HookStart         = "system-start"
	HookBeforeInstall = "system-before-install-update"
	HookInstall       = "system-install-update"
	HookAfterInstall  = "system-after-install-update"
	HookBootDone      = "system-boot-done"
	HookDone          = "system-done"
)

// Settings are what the configuration says; they may change while the device runs.
type Settings struct {
	CommitDelay time.Duration // PV_UPDATER_COMMIT_DELAY
	// Trials is PV_UPDATER_TRIALS: the most boots that an update gets whose revision restarts the
	// device without a word. Below 2 it is one.
	Trials int
}

// Options are what an [Updater] works with.
type Options struct {
	Running  boot.Running
	Store    boot.Store
	Steps    *step.Store
	Journal  *Journal
	Device   Device
	Settings func() Settings
	Log      logs.Logger
	// Slots says that the loader's store keeps boot images elsewhere: other hooks run.
	Slots bool
	// Changed is called after each record; it must not wait. May be nil.
	Changed func(Record)
}

// job is one update.
type job struct {
	rev, from string
	mode      Mode
	when      string // see [Request]
	asked     time.Time
	began     int64 // of the journal
	reboot    bool  // it was, or will be, a restart
	booted    bool  // the revision runs after a restart
	back      bool  // it goes back to a revision that ran before
	trial     int   // of those that the loader has been told of, from 2 on; 0 is the first
	status    Status
	state     *state.State
	changed   []string
	failure   *api.UpdateFailure
}

// Updater runs updates, one at a time. Make one with [New], call [Updater.Resume], and
// then Run in a goroutine of its own.
type Updater struct {
	o       Options
	running boot.Running // only the goroutine of Run changes it, under mu
	mu      sync.Mutex
	busy    atomic.Bool  // an update is in progress: others must wait
	told    atomic.Int64 // the last record that clients may see: what it says is in force
	orders  chan order
	events  queue
	current atomic.Pointer[job]
	resumed *job
	again   *job // UPDATED before the last update took the device down
	waiting *job // QUEUED
}

// order is a call from outside.
type order struct {
	job    *job
	cancel string
	answer chan error
}

// New returns an updater for the running revision.
func New(o Options) *Updater {
	u := &Updater{o: o, running: o.Running, orders: make(chan order), events: queue{ready: make(chan struct{}, 1)}}
	u.tellAll()
	return u
}

// tellAll lets clients see all records.
func (u *Updater) tellAll() {
	if r := u.o.Journal.Last(""); r != nil {
		u.told.Store(r.Seq)
	}
}

// errOngoing is the answer to what must not be done during an update.
var errOngoing = &api.Error{Status: 503, Text: "Cannot do this operation while update is ongoing", RetryAfter: 600}

// Ongoing returns an error while an update is in progress. One that waits for a
// reboot or for its time, or has ended as UPDATED, is not.
func (u *Updater) Ongoing() error {
	if u.busy.Load() {
		return errOngoing
	}
	return nil
}

// InUse returns the revisions that must not be changed or removed: the running one, those
// that the loader may boot, and those of updates that have not ended.
func (u *Updater) InUse() []string {
	u.mu.Lock()
	list := []string{u.running.Rev, u.running.Done, u.running.Try}
	u.mu.Unlock()
	if v, err := u.o.Store.Load(); err == nil {
		list = append(list, v.Rev, v.Try)
	}
	for _, r := range u.o.Journal.Open() {
		list = append(list, r.Revision)
	}
	if j := u.current.Load(); j != nil {
		list = append(list, j.rev, j.from)
	}
	if last := u.o.Journal.Last(""); last != nil { // it may be run again, see [Updater.displaced]
		if before := u.o.Journal.first(*last).From; u.awaitsCommit(before) {
			list = append(list, before)
		}
	}
	list = slices.DeleteFunc(list, func(rev string) bool { return rev == "" })
	slices.Sort(list)
	return slices.Compact(list)
}

// Request asks for an update.
type Request struct {
	Revision string
	Mode     Mode
	// When is empty for now, "reboot" for the next reboot whoever asks for it, or a time
	// of day, "HH:MM" or "HH:MM-HH:MM", in the device's local time.
	When string
}

// Start begins an update. It returns at once with what can be told before: what follows is
// in the journal. An error is an [api.Error].
func (u *Updater) Start(ctx context.Context, r Request) error {
	if err := boot.Validate(r.Revision); err != nil {
		return &api.Error{Status: 400, Text: err.Error()}
	}
	if !known(r.Mode) {
		return &api.Error{Status: 400, Text: fmt.Sprintf("mode %q: want one of %v", r.Mode, modes)}
	}
	if _, err := parseWindow(r.When); err != nil {
		return &api.Error{Status: 400, Text: err.Error()}
	}
	if !u.busy.CompareAndSwap(false, true) {
		return errOngoing
	}
	return u.tell(ctx, order{job: &job{rev: r.Revision, mode: r.Mode, when: r.When}})
}

// cancelTime is how long a cancellation waits for an update to look at it: what takes longer,
// such as an installation, is not interrupted.
const cancelTime = time.Second

// Cancel ends an update that waits for a reboot or for its time, and takes back one that has
// not proved itself: its containers may take for ever to become stable.
func (u *Updater) Cancel(ctx context.Context, rev string) error {
	ctx, stop := context.WithTimeoutCause(ctx, cancelTime, errOngoing)
	defer stop()
	return u.tell(ctx, order{cancel: rev})
}

// tell passes an order to the goroutine and waits until it was taken.
func (u *Updater) tell(ctx context.Context, o order) error {
	o.answer = make(chan error, 1)
	select {
	case u.orders <- o:
		return <-o.answer
	case <-ctx.Done():
		if o.job != nil {
			u.busy.Store(false)
		}
		return unheard(ctx)
	}
}

// unheard is the answer to an order that nobody took: an update is busy, or the device goes down.
func unheard(ctx context.Context) error {
	err := context.Cause(ctx)
	if told := (*api.Error)(nil); errors.As(err, &told) {
		return err
	}
	return &api.Error{Status: 503, Text: fmt.Sprintf("The request was not taken: %v. Try again", err), RetryAfter: 30}
}

// Settled is called by the engine when all containers of a revision have reached their
// goals or no more of them will. It does not wait.
func (u *Updater) Settled(o engine.Outcome) { u.events.put(event{settled: &o}) }

// Failed is called by the engine when a container does not recover. It does not wait.
func (u *Updater) Failed(f engine.Failure) { u.events.put(event{failed: &f}) }

// Stable is called by the engine when all containers have become stable, or are no longer.
// It does not wait.
func (u *Updater) Stable(yes bool) { u.events.put(event{stable: &yes}) }

// event is what the engine reports; one member is set.
type event struct {
	settled *engine.Outcome
	failed  *engine.Failure
	stable  *bool
}

// queue holds events that nobody has looked at. It has no bound because the engine must
// not wait, and does not need one: the engine reports each container once.
type queue struct {
	mu    sync.Mutex
	list  []event
	ready chan struct{}
}

func (q *queue) put(e event) {
	q.mu.Lock()
	q.list = append(q.list, e)
	q.mu.Unlock()
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// take removes all events.
func (q *queue) take() []event {
	q.mu.Lock()
	defer q.mu.Unlock()
	list := q.list
	q.list = nil
	return list
}

// phase is a state function; see the package comment. nil is the end.
type phase func(context.Context, *job) phase

// Run runs updates until ctx ends.
func (u *Updater) Run(ctx context.Context) error {
	if j := u.resumed; j != nil {
		u.resumed = nil
		u.perform(ctx, j, u.resume)
	}
	u.runAgain(ctx)
	for {
		due := u.timer()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-u.events.ready:
			u.events.take() // of a revision that is not under test
		case o := <-u.orders:
			u.obey(ctx, o)
		case <-due:
			u.activate(ctx)
		}
	}
}

// obey carries an order out.
func (u *Updater) obey(ctx context.Context, o order) {
	if o.job == nil {
		o.answer <- u.cancel(o.cancel)
		return
	}
	u.mu.Lock()
	o.job.from = u.running.Rev
	u.mu.Unlock()
	if err := u.begin(o.job); err != nil {
		u.busy.Store(false)
		o.answer <- err
		return
	}
	next := u.install
	if o.job.when != "" {
		next = u.queued
	}
	if !u.o.Steps.Has(o.job.rev) { // this ends at once: the next request need not wait
		u.perform(ctx, o.job, next)
		o.answer <- nil
		return
	}
	o.answer <- nil
	u.perform(ctx, o.job, next)
}

// begin writes the first record of an update, so that a client that has its answer finds it.
func (u *Updater) begin(j *job) error {
	u.replace(j.rev)
	return u.open(j)
}

func (u *Updater) open(j *job) error {
	status, message := InProgress, msgInstalling
	if j.when != "" {
		status, message = Queued, msgPreparing
	}
	r, err := u.o.Journal.Add(Record{
		Time: time.Now(), Revision: j.rev, Status: status, Message: message, Mode: j.mode, From: j.from, When: j.when,
	})
	if err != nil {
		u.o.Log.Errorf("%v", err)
		return &api.Error{Status: 507, Text: "The update cannot be recorded: " + err.Error()}
	}
	j.began, j.asked, j.status = r.Began, r.Time, status
	if status == Queued {
		u.publish(j, status, message)
	}
	u.tellAll()
	u.notify(r)
	return nil
}

// replace ends an update that waits, which a new one takes the place of.
func (u *Updater) replace(by string) {
	if w := u.waiting; w != nil {
		u.o.Log.Warnf("revision %s, which was waiting, is replaced by %s", w.rev, by)
		u.waiting = nil
		u.drop(w)
	}
}

// perform runs the phases of an update.
func (u *Updater) perform(ctx context.Context, j *job, first phase) {
	u.busy.Store(true)
	u.current.Store(j)
	u.o.Steps.Settle() // from here on, nobody replaces its state
	u.o.Device.Wake(true)
	for p := first; p != nil; {
		p = p(ctx, j)
	}
	if ctx.Err() == nil { // else the device goes down, in the middle of it
		u.o.Device.Wake(false)
		u.current.Store(nil)
		u.busy.Store(false)
		u.tellAll()
	}
}

// enter records a status and makes it the revision's progress. An error is logged: what
// the caller is about to do must then still be right, see the package comment.
func (u *Updater) enter(j *job, s Status, message string) error {
	r := Record{Time: time.Now(), Revision: j.rev, Status: s, Message: message, Began: j.began, Trial: j.trial}
	if s.Failed() {
		r.Failure = j.failure
		u.settle(j)
	}
	r, err := u.o.Journal.Add(r)
	if err != nil {
		u.o.Log.Errorf("%v", err)
	}
	if err == nil {
		j.began = r.Began // the first record of an update whose earlier ones were lost
	}
	j.status = s
	if s.Failed() {
		u.o.Log.Errorf("revision %s is %s: %s%s", j.rev, s, message, because(j.failure))
	} else {
		u.o.Log.Infof("revision %s is %s: %s", j.rev, s, message)
	}
	u.publish(j, s, message)
	if goesOn := !s.Final() && s != Queued; goesOn || u.current.Load() != j { // else perform does, when the next update may begin
		u.tellAll()
	}
	u.notify(r)
	return err
}

func because(f *api.UpdateFailure) string {
	if f == nil || f.Text == "" {
		return ""
	}
	return ": " + f.Text
}

// settle makes it durable that an update has begun: a progress that still said NEW after the record of
// a failure would be that of a revision that was stored anew.
func (u *Updater) settle(j *job) {
	err := u.o.Steps.SetProgress(j.rev, InProgress.progress(msgInstalling))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		u.o.Log.Warnf("%v", err)
	}
}

// publish writes the revision's progress. A revision that was committed in an earlier
// update keeps saying so until it fails.
func (u *Updater) publish(j *job, s Status, message string) {
	if u.o.Steps.Done(j.rev) && !s.Failed() {
		if p, err := u.o.Steps.Progress(j.rev); err == nil && p.Status == string(Done) {
			return
		}
	}
	p := s.progress(message)
	if s.Failed() && j.failure != nil {
		p.Logs = progressLogs(j.failure)
	}
	set := u.o.Steps.SetProgress
	if !s.Final() && s != Queued { // after a power cut, [Updater.Resume] writes it or what follows
		set = u.o.Steps.ShowProgress
	}
	err := set(j.rev, p)
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // it was never stored: [Updater.Progress] answers
		u.o.Log.Warnf("%v", err)
	}
}

func (u *Updater) notify(r Record) {
	if u.o.Changed != nil {
		u.o.Changed(r)
	}
}

// ran notes which revision runs.
func (u *Updater) ran(change func(*boot.Running)) {
	u.mu.Lock()
	defer u.mu.Unlock()
	change(&u.running)
}
