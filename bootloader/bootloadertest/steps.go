package bootloadertest

import "github.com/pantavisor/pantavisor/runtime/boot/spec"

// Step is a boot of a disk that has been booted before.
type Step struct {
	Name string
	// Rev, Try and Trial are what the runtime has written to pv_rev, pv_try and pv_trial before it.
	Rev, Try, Trial string
	// Want is what is started, in this order, when each start fails.
	Want []spec.Start
	// Trying is what pv_trying must be after it.
	Trying string
}

// Steps returns the boots of a disk with the revisions 3 and 4: an update that fails, and one
// that the runtime keeps.
func Steps() []Step {
	test, failed := []spec.Start{{Rev: "4", Try: "4"}, {Rev: "3", Try: "4"}}, []spec.Start{{Rev: "3", Try: "4"}}
	return []Step{
		{Name: "try", Rev: "3", Try: "4", Trial: "1", Want: test, Trying: "4@1"},
		{Name: "fall back", Rev: "3", Try: "4", Trial: "1", Want: failed, Trying: "4@1"},
		{Name: "try again", Rev: "3", Try: "4", Trial: "2", Want: test, Trying: "4@2"},
		{Name: "commit", Rev: "4", Want: []spec.Start{{Rev: "4"}}, Trying: "4@2"},
	}
}
