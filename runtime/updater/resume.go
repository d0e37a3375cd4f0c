package updater

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/pantavisor/pantavisor/runtime/boot"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
)

// Verdict is what the boot loader's store and the journal say at a boot; see the package
// comment. Of Prove, Refuse and Behind only one is set, and none together with another one.
type Verdict struct {
	Prove      bool // the running revision is under test
	Refuse     bool // it has failed before and must not run
	Unexpected bool // another one has ended without a word
	Committed  bool // the running one is committed, and that was not recorded
	Factory    bool // it is the factory's, and was never updated
	Behind     bool // another one is committed, which the loader did not see
}

// Judge is the table of the package comment. running is the last status of the running
// revision, tried that of the one that the loader's store says to try, or that it says is
// committed if the running one is [boot.Foreign]; empty when there is none.
func Judge(r boot.Running, running, tried Status) Verdict {
	if r.State == boot.Trying {
		return Verdict{Prove: !running.Failed(), Refuse: running.Failed()}
	}
	if r.State == boot.Foreign {
		return Verdict{Behind: tried == InProgress || tried == Testing}
	}
	v := Verdict{Unexpected: r.State == boot.RolledBack && !tried.Failed() && tried != Canceled}
	// The loader's store is written only for a revision that has proved itself.
	v.Committed = running == InProgress || running == Testing || running == Queued || running.Failed()
	v.Factory = r.Rev == boot.Factory && (running == "" || running == neverRun)
	return v
}

// Resume does what an update that was in progress at the last shutdown calls for. It must
// be called before containers are started. When it returns false the running revision must
// not run: the device restarts, and the loader starts the committed one.
func (u *Updater) Resume() (run bool) {
	r := u.o.Running
	u.republish()
	other := r.Try
	if r.State == boot.Foreign {
		other = r.Done
	}
	v := Judge(r, u.last(r.Rev), u.last(other))
	switch {
	case v.Prove:
		u.resumed = u.reopen(r.Rev)
		u.resumed.booted, u.resumed.reboot = true, true
		u.busy.Store(true) // until Run has ended it
	case v.Refuse:
		u.o.Log.Errorf("revision %s has failed before and does not run", r.Rev)
		u.endTry(r.Rev)
		return false
	case v.Behind:
		u.o.Log.Warnf("the boot loader has started revision %s, and %s is committed: restarting", r.Rev, r.Done)
		u.finish(r.Done, Verdict{Committed: true})
		return false
	case v.Committed, v.Factory:
		u.finish(r.Rev, v)
	}
	if v.Unexpected {
		j := u.reopen(r.Try)
		if u.tryAgain(j) {
			return false
		}
		u.unexpected(j)
	}
	if r.State == boot.RolledBack {
		u.endTry(r.Try)
	}
	u.settleOpen(r)
	if rev := u.displaced(r); rev != "" {
		u.again = &job{rev: rev, mode: Run, from: r.Rev}
	}
	return true
}

// displaced returns the revision that ran, UPDATED, before the last update restarted the device and
// came to nothing; "" when there is none. The loader knows only the committed one.
func (u *Updater) displaced(r boot.Running) string {
	last := u.o.Journal.Last("")
	if last == nil || r.State == boot.Foreign || u.resumed != nil {
		return ""
	}
	first := u.o.Journal.first(*last)
	back := last.Status.Failed() || last.Status == Updated && first.Mode == TryOnce
	if !back || first.From == r.Rev || first.From == last.Revision || !u.awaitsCommit(first.From) {
		return ""
	}
	return first.From
}

// runAgain runs the revision that the last update took the place of for nothing. It may
// have failed itself: that ends it.
func (u *Updater) runAgain(ctx context.Context) {
	j := u.again
	u.again = nil
	if j == nil || !u.busy.CompareAndSwap(false, true) { // a client was faster
		return
	}
	u.o.Log.Infof("revision %s ran before the last update: it is run again", j.rev)
	if err := u.open(j); err != nil {
		u.busy.Store(false)
		return
	}
	u.perform(ctx, j, u.install)
}

// last returns the last status of a revision, from the journal, or for an update that
// another runtime began, from its progress.
func (u *Updater) last(rev string) Status {
	if rev == "" {
		return ""
	}
	if r := u.o.Journal.Last(rev); r != nil {
		return r.Status
	}
	p, err := u.o.Steps.Progress(rev)
	if err != nil {
		return ""
	}
	return Status(p.Status)
}

// republish writes the progress of each revision again that is not what its last record says: the
// power was lost between the two or before it was on the medium, or the storage was full. One that
// was stored anew has its own.
func (u *Updater) republish() {
	records := u.o.Journal.Records()
	seen := map[string]bool{}
	for i := range slices.Backward(records) {
		r := &records[i]
		if seen[r.Revision] {
			continue
		}
		seen[r.Revision] = true
		p, err := u.o.Steps.Progress(r.Revision)
		if errors.Is(err, fs.ErrNotExist) || err == nil && (p.Status == string(neverRun) || p.Status == string(r.Status)) {
			continue
		}
		if newest := i == len(records)-1; !newest && p.Status == string(Done) { // of another runtime, or an earlier update
			continue
		}
		j := u.reopen(r.Revision)
		j.failure = r.Failure
		u.publish(j, r.Status, r.Message)
	}
}

// reopen returns the update of a revision as far as it had come.
func (u *Updater) reopen(rev string) *job {
	j := &job{rev: rev, mode: Run, from: u.o.Running.Done}
	r := u.o.Journal.Last(rev)
	if r == nil || r.Status.Final() && r.Status != Updated {
		return j // the journal was lost, or another runtime wrote the store
	}
	first := u.o.Journal.first(*r)
	j.began, j.asked, j.mode, j.from, j.when = first.Seq, first.Time, first.Mode, first.From, first.When
	j.status, j.trial = r.Status, r.Trial
	return j
}

// tryAgain has the loader try a revision once more that ended without a word, as often as
// PV_UPDATER_TRIALS says. The record comes first: a power cut between the two costs a trial, and
// never adds one.
func (u *Updater) tryAgain(j *job) bool {
	had, most := max(j.trial, 1), u.o.Settings().Trials
	if j.began == 0 || j.mode == TryOnce || had >= most {
		return false
	}
	j.trial = had + 1
	err := u.enter(j, InProgress, fmt.Sprintf("%s, trial %d of %d", msgRebooting, j.trial, most))
	if err == nil {
		err = u.o.Store.SetTry(j.rev)
	}
	if err != nil {
		u.o.Log.Errorf("revision %s is not tried again: %v", j.rev, err)
		j.trial = had
	}
	return err == nil
}

// unexpected records the end of an update that could not say why it ended.
func (u *Updater) unexpected(j *job) {
	j.failure = &api.UpdateFailure{Check: checkBoot, Text: "the device restarted before the revision had proved itself; a crash, a watchdog or a loss of power leaves no other trace", Status: string(j.status)}
	if j.trial > 1 {
		j.failure.Text = fmt.Sprintf("in %d trials %s", j.trial, j.failure.Text)
	}
	_ = u.enter(j, Error, msgUnexpected)
}

// finish records what the loader's store says already: the revision is committed.
func (u *Updater) finish(rev string, v Verdict) {
	message := msgDone
	if v.Factory {
		message = msgFactory
	}
	err := u.o.Steps.MarkDone(rev, Done.progress(message))
	if err == nil && v.Committed { // it may have been marked by an earlier update
		err = u.o.Steps.SetProgress(rev, Done.progress(message))
	}
	if err != nil {
		u.o.Log.Warnf("marking revision %s as done: %v", rev, err)
	}
	if v.Committed {
		j := u.reopen(rev)
		if err := u.enter(j, Done, message); err == nil {
			u.o.Log.Infof("revision %s had been committed before the device went down", rev)
		}
	}
}

// settleOpen ends updates that the last shutdown cut short, except those that go on.
func (u *Updater) settleOpen(r boot.Running) {
	for _, open := range u.o.Journal.Open() {
		j := u.reopen(open.Revision)
		j.began = open.Began
		switch {
		case u.resumed != nil && j.rev == u.resumed.rev:
		case open.Status == Queued && j.when != whenReboot:
			u.waiting = j
		case open.Status == Queued && r.Try == j.rev:
			u.waiting = j
		case open.Status == Queued:
			_ = u.enter(j, Canceled, msgAborted)
		default:
			u.unexpected(j)
		}
	}
}

// Fail says that the revision under test cannot even be started; without one under test it
// returns false. It must be called before [Updater.Run].
func (u *Updater) Fail(check string, err error) bool {
	if u.resumed == nil {
		return false
	}
	u.resumed.fail(check, err)
	return true
}
