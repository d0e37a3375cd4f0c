// Package bootloadertest is the specification of the boot handshake as a table that the
// tests of every boot loader run, and what these tests share.
package bootloadertest

// Scenario is a state of the handshake and what a loader must do with it, now and, with the
// same storage, at the next boot.
type Scenario struct {
	Name string
	// Rev, Try and Trying are pv_rev, pv_try and pv_trying.
	Rev, Try, Trying string
	// Revisions are those that can be started.
	Revisions []string
	// Want is what is started, in this order, when each start fails. Again is the same at
	// the next boot.
	Want, Again []Start
}

// Start is the start of a kernel: pv_rev and pv_try of its command line.
type Start struct{ Rev, Try string }

// Scenarios returns the table of package bootloader, with what surrounds it: at most two
// revisions, as a loader with two slots can hold.
func Scenarios() []Scenario {
	steady := []Start{{"3", ""}}
	test, failed := []Start{{"4", "4"}, {"3", "4"}}, []Start{{"3", "4"}}
	both := []string{"3", "4"}
	return []Scenario{
		{Name: "normal", Rev: "3", Revisions: []string{"3"}, Want: steady, Again: steady},
		{Name: "normal ignores an old mark", Rev: "3", Trying: "2", Revisions: []string{"3"}, Want: steady, Again: steady},
		{Name: "try", Rev: "3", Try: "4", Revisions: both, Want: test, Again: failed},
		{Name: "try after another one failed", Rev: "3", Try: "4", Trying: "2", Revisions: both, Want: test, Again: failed},
		{Name: "failed try", Rev: "3", Try: "4", Trying: "4", Revisions: both, Want: failed, Again: test},
		{Name: "prefix is not equal", Rev: "3", Try: "4", Trying: "41", Revisions: both, Want: test, Again: failed},
		{Name: "local revisions", Rev: "locals/a.b-c_1", Try: "locals/x", Revisions: []string{"locals/a.b-c_1", "locals/x"},
			Want: []Start{{"locals/x", "locals/x"}, {"locals/a.b-c_1", "locals/x"}}, Again: []Start{{"locals/a.b-c_1", "locals/x"}}},
		{Name: "try that cannot be started", Rev: "3", Try: "4", Revisions: []string{"3"}, Want: failed, Again: failed},
		{Name: "no state at all", Revisions: []string{"0"}, Want: []Start{{"0", ""}}, Again: []Start{{"0", ""}}},
	}
}
