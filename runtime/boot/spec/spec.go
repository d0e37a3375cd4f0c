// Package spec is the specification of the boot handshake in a form that runs. Tests have every
// store and every boot loader go through it: as a model, on files with a loader that reads the
// very bytes, and in an emulator.
//
// The runtime has three operations (package boot, Store): a test of a revision is ordered, the
// revision is committed, or the test is given up. What must hold on every loader:
//
//   - A test is one boot. Each boot after it is one of the last good revision, however often the
//     device is restarted, until a test is ordered again.
//   - After a power cut between any two writes of an operation, the next boot is as if the
//     operation had been done or not, and an update can be made.
//   - The running revision learns whether it is the last good one, is under test, or runs because
//     another one has failed.
//
// The scenarios have these as sequences. What a loader with a mark does in a state of the store is in
// [States]; the tests with real loaders run that table, and [Covered] proves that no state of the
// sequences is missing from it.
//
// The tests of this package have a model of each loader, and follow the state machine of an update
// with a crash after each write, in every order that can happen.
package spec

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// Device is a device under test. It has the revisions 0 (good at first), 1 and 2, each with a
// kernel of its own, and 6 with the kernel of revision 0.
type Device interface {
	// SetTry, Commit and ClearTry are those of the store.
	SetTry(rev string) error
	Commit(rev string) error
	ClearTry() error
	// Boot restarts the device and says what then runs: "1 trying". When the power was lost,
	// memory that needs it is empty.
	Boot(powerLost bool) string
	// Cut has the power fail in the next operation, which then returns ErrCut, behind n of
	// its writes.
	Cut(n int)
	// Lose destroys the store of the runtime.
	Lose()
}

// Cut is the error of an operation in which the power failed.
type Cut struct{}

// Error implements error.
func (Cut) Error() string { return "the power has failed" }

// scenario is a sequence of steps, each "WORD ARGUMENT":
//
//	try REV, commit REV, clear   an operation
//	boot: RESULT                 a restart and what then runs; "a | b" are alternatives
//	power: RESULT                the same after a loss of power
//	cut OPERATION: RESULT        the operation with the power failing behind each number of its
//	                             writes, on a device each, and what runs then; it is the last step
//	lose                         the store is destroyed
type scenario struct {
	Name  string
	Steps []string
}

// scenarios returns the sequences.
func scenarios() []scenario {
	return []scenario{
		{"steady", []string{"boot: 0 steady", "power: 0 steady"}},
		{"commit", []string{"try 1", "boot: 1 trying", "commit 1", "boot: 1 steady", "power: 1 steady"}},
		{"fall back", []string{"try 1", "boot: 1 trying", "boot: 0 rolled back", "boot: 0 rolled back", "power: 0 rolled back", "clear", "boot: 0 steady"}},
		{"power is lost in the test", []string{"try 1", "boot: 1 trying", "power: 0 rolled back", "boot: 0 rolled back"}},
		{"power is lost before the test", []string{"try 1", "power: 1 trying | 0 rolled back", "power: 0 rolled back"}},
		{"try again after a failure", []string{"try 1", "boot: 1 trying", "boot: 0 rolled back", "clear", "try 1", "boot: 1 trying", "commit 1", "boot: 1 steady"}},
		{"try again without giving up", []string{"try 1", "boot: 1 trying", "boot: 0 rolled back", "try 1", "boot: 1 trying", "boot: 0 rolled back"}},
		{"another one after a failure", []string{"try 1", "boot: 1 trying", "boot: 0 rolled back", "try 2", "boot: 2 trying", "commit 2", "boot: 2 steady"}},
		{"given up before the restart", []string{"try 1", "clear", "boot: 0 steady", "power: 0 steady"}},
		{"given up by the revision under test", []string{"try 1", "boot: 1 trying", "clear", "boot: 0 steady"}},
		{"replaced before the restart", []string{"try 1", "try 2", "boot: 2 trying", "commit 2", "boot: 2 steady"}},
		{"second update while trying", []string{"try 1", "boot: 1 trying", "try 2", "boot: 2 trying", "boot: 0 rolled back", "boot: 0 rolled back"}},
		{"there and back", []string{"try 1", "boot: 1 trying", "commit 1", "try 0", "boot: 0 trying", "commit 0", "boot: 0 steady", "try 1", "boot: 1 trying", "commit 1", "boot: 1 steady"}},
		{"committed without a restart", []string{"commit 6", "boot: 6 steady", "try 1", "boot: 1 trying", "commit 1", "boot: 1 steady"}},
		{"the same kernel", []string{"try 6", "boot: 6 trying", "boot: 0 rolled back", "boot: 0 rolled back", "clear", "try 6", "boot: 6 trying", "commit 6", "boot: 6 steady", "power: 6 steady"}},
		{"an old mark", []string{"try 6", "boot: 6 trying", "commit 6", "boot: 6 steady", "commit 0", "boot: 0 steady", "try 6", "boot: 6 trying", "commit 6", "boot: 6 steady"}},
		{"the good one needs no test", []string{"try 0", "boot: 0 steady", "try 1", "try 0", "boot: 0 steady"}},
		{"committed twice", []string{"try 1", "boot: 1 trying", "commit 1", "commit 1", "clear", "boot: 1 steady"}},
		{"cut in try", []string{"cut try 1: 0 steady | 0 rolled back | 1 trying"}},
		{"cut in try of the same kernel", []string{"cut try 6: 0 steady | 0 rolled back | 6 trying"}},
		{"cut in try after a commit", []string{"try 1", "boot: 1 trying", "commit 1", "cut try 2: 1 steady | 1 rolled back | 2 trying"}},
		{"cut in commit", []string{"try 1", "boot: 1 trying", "cut commit 1: 0 rolled back | 1 steady"}},
		{"cut in commit without a restart", []string{"cut commit 6: 0 steady | 6 steady"}},
		{"cut in clear", []string{"try 1", "boot: 1 trying", "boot: 0 rolled back", "cut clear: 0 rolled back | 0 steady"}},
		{"cut in clear before the restart", []string{"try 1", "cut clear: 0 rolled back | 0 steady | 1 trying"}},
		{"cut in second try", []string{"try 1", "boot: 1 trying", "boot: 0 rolled back", "cut try 1: 0 rolled back | 0 steady | 1 trying"}},
		{"cut in try while trying", []string{"try 1", "boot: 1 trying", "cut try 2: 0 rolled back | 0 steady | 2 trying"}},
		{"lost store", []string{"try 1", "boot: 1 trying", "commit 1", "lose", "boot: 0 steady | 1 steady | 0 rolled back", "try 2", "boot: 2 trying", "commit 2", "boot: 2 steady"}},
	}
}

// Older returns a device whose loader removes its mark when it falls back: it tests the revision
// again if the device is restarted before the runtime has noted the failure. That restart is
// not seen.
func Older(d Device) Device { return &older{Device: d} }

type older struct {
	Device
	failed bool // and nothing was done since
}

func (o *older) done(err error) error {
	o.failed = o.failed && err != nil
	return err
}

func (o *older) SetTry(rev string) error { return o.done(o.Device.SetTry(rev)) }
func (o *older) Commit(rev string) error { return o.done(o.Device.Commit(rev)) }
func (o *older) ClearTry() error         { return o.done(o.Device.ClearTry()) }

func (o *older) Boot(powerLost bool) string {
	got := o.Device.Boot(powerLost)
	if o.failed && strings.HasSuffix(got, " trying") {
		got = o.Device.Boot(powerLost)
	}
	o.failed = strings.HasSuffix(got, " rolled back")
	return got
}

// Run has devices go through the scenarios.
func Run(t *testing.T, newDevice func(t *testing.T) Device) {
	for _, s := range scenarios() {
		t.Run(s.Name, func(t *testing.T) {
			if err := s.check(func() Device { return newDevice(t) }); err != nil {
				t.Error(err)
			}
		})
	}
}

func (s scenario) check(newDevice func() Device) error {
	d := newDevice()
	for i, step := range s.Steps {
		if operation, ok := strings.CutPrefix(step, "cut "); ok {
			return s.cut(newDevice, s.Steps[:i], operation)
		}
		if err := do(d, step); err != nil {
			return fmt.Errorf("step %d, %s: %w", i+1, step, err)
		}
	}
	return nil
}

// cut runs an operation with the power failing behind each number of its writes. Behind the last
// one the operation is done; the power fails then, too.
func (s scenario) cut(newDevice func() Device, before []string, step string) error {
	operation, want, _ := strings.Cut(step, ": ")
	for n := 0; ; n++ {
		d := newDevice()
		for _, step := range before {
			if err := do(d, step); err != nil {
				return fmt.Errorf("%s: %w", step, err)
			}
		}
		d.Cut(n)
		err := do(d, operation)
		if err != nil && !errors.Is(err, Cut{}) {
			return fmt.Errorf("%s, cut behind %d writes: %w", operation, n, err)
		}
		d.Cut(-1)
		if err := recovers(d, want); err != nil {
			return fmt.Errorf("%s, cut behind %d writes: %w", operation, n, err)
		}
		if err == nil {
			return nil
		}
	}
}

// recovers restarts a device whose power was lost, ends what it is in, and makes an update.
func recovers(d Device, want string) error {
	steps := []string{"power: " + want, "clear", "boot: 0 steady | 1 steady | 2 steady | 6 steady",
		"try 2", "boot: 2 trying | 2 steady", "commit 2", "boot: 2 steady", "try 0", "boot: 0 trying", "boot: 2 rolled back"}
	for _, step := range steps {
		if err := do(d, step); err != nil {
			return fmt.Errorf("%s: %w", step, err)
		}
	}
	return nil
}

// do carries out one step other than "cut".
func do(d Device, step string) error {
	word, argument, _ := strings.Cut(step, " ")
	switch word {
	case "try":
		return d.SetTry(argument)
	case "commit":
		return d.Commit(argument)
	case "clear":
		return d.ClearTry()
	case "lose":
		d.Lose()
		return nil
	case "boot:", "power:":
		got := d.Boot(word == "power:")
		for want := range strings.SplitSeq(argument, " | ") {
			if got == want {
				return nil
			}
		}
		return fmt.Errorf("%s runs, want %s", got, argument)
	}
	return fmt.Errorf("step %q is not known", step)
}
