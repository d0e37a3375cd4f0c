package spec

import (
	"slices"
	"strings"
)

// State is what a loader finds, and what it must do: now and, with the same storage, at the next
// boot.
type State struct {
	Name string
	// Rev, Try and Trial are pv_rev, pv_try and pv_trial of the runtime's store, Trying is the
	// loader's own pv_trying.
	Rev, Try, Trial, Trying string
	// Revisions are those that can be started: at most two, as a loader with two slots has.
	Revisions []string
	// Want is what is started, in this order, when each start fails. Again is the same at
	// the next boot.
	Want, Again []Start
}

// Start is the start of a kernel: pv_rev and pv_try of its command line.
type Start struct{ Rev, Try string }

// Mark returns pv_trying for a test. Without a number it is one that an older runtime has ordered.
func Mark(try, trial string) string {
	if trial == "" {
		return try
	}
	return try + "@" + trial
}

// Pick is what a loader with a mark does: the revision that it boots, and the mark that it leaves.
// That of a test with a number stays, so that the test is not repeated if the runtime does not get
// to note that it has failed.
func Pick(s State) (boot, mark string) {
	switch {
	case s.Try == "":
		return s.Rev, s.Trying
	case s.Trying != Mark(s.Try, s.Trial):
		return s.Try, Mark(s.Try, s.Trial)
	case s.Trial == "":
		return s.Rev, ""
	}
	return s.Rev, s.Trying
}

// States returns the table of package bootloader, with what surrounds it.
func States() []State {
	steady := []Start{{"3", ""}}
	test, failed := []Start{{"4", "4"}, {"3", "4"}}, []Start{{"3", "4"}}
	both := []string{"3", "4"}
	return []State{
		{Name: "normal", Rev: "3", Revisions: []string{"3"}, Want: steady, Again: steady},
		{Name: "normal with a number", Rev: "3", Trial: "7", Revisions: []string{"3"}, Want: steady, Again: steady},
		{Name: "normal ignores an old mark", Rev: "3", Trial: "7", Trying: "2@6", Revisions: []string{"3"}, Want: steady, Again: steady},
		{Name: "normal after a test that was good", Rev: "3", Trial: "7", Trying: "3@7", Revisions: []string{"3"}, Want: steady, Again: steady},
		{Name: "try", Rev: "3", Try: "4", Trial: "1", Revisions: both, Want: test, Again: failed},
		{Name: "try after another one failed", Rev: "3", Try: "4", Trial: "8", Trying: "2@7", Revisions: both, Want: test, Again: failed},
		{Name: "try after it has failed", Rev: "3", Try: "4", Trial: "8", Trying: "4@7", Revisions: both, Want: test, Again: failed},
		{Name: "failed try", Rev: "3", Try: "4", Trial: "7", Trying: "4@7", Revisions: both, Want: failed, Again: failed},
		{Name: "prefix is not equal", Rev: "3", Try: "4", Trial: "7", Trying: "4@71", Revisions: both, Want: test, Again: failed},
		{Name: "older runtime: try", Rev: "3", Try: "4", Trying: "2", Revisions: both, Want: test, Again: failed},
		{Name: "older runtime: failed try", Rev: "3", Try: "4", Trying: "4", Revisions: both, Want: failed, Again: test},
		{Name: "newer runtime", Rev: "3", Try: "4", Trial: "1", Trying: "4", Revisions: both, Want: test, Again: failed},
		{Name: "local revisions", Rev: "locals/a.b-c_1", Try: "locals/x", Trial: "999999", Revisions: []string{"locals/a.b-c_1", "locals/x"},
			Want: []Start{{"locals/x", "locals/x"}, {"locals/a.b-c_1", "locals/x"}}, Again: []Start{{"locals/a.b-c_1", "locals/x"}}},
		{Name: "try that cannot be started", Rev: "3", Try: "4", Trial: "1", Revisions: []string{"3"}, Want: failed, Again: failed},
		{Name: "no state at all", Revisions: []string{"0"}, Want: []Start{{"0", ""}}, Again: []Start{{"0", ""}}},
		{Name: "try after a lost store", Try: "4", Trial: "1", Trying: "3@7", Revisions: []string{"0", "4"},
			Want: []Start{{"4", "4"}, {"0", "4"}}, Again: []Start{{"0", "4"}}},
		{Name: "lost store", Trying: "3@7", Revisions: []string{"0"}, Want: []Start{{"0", ""}}, Again: []Start{{"0", ""}}},
	}
}

// class is a state less its names.
type class struct{ good, try, numbered, marked, sameRevision, sameTest bool }

func (s State) class() class {
	rev, _, _ := strings.Cut(s.Trying, "@")
	return class{
		good: s.Rev != "", try: s.Try != "", numbered: s.Trial != "", marked: s.Trying != "",
		sameRevision: s.Trying != "" && s.Try != "" && rev == s.Try, sameTest: s.Try != "" && s.Trying == Mark(s.Try, s.Trial),
	}
}

// Covered reports whether [States] has the state, with other names.
func Covered(s State) bool {
	return slices.ContainsFunc(States(), func(o State) bool { return o.class() == s.class() })
}
