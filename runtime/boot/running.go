// Package boot is the protocol with the boot loader: which revision is committed, which
// is to be tried, and which one runs.
//
// The runtime writes two values into the boot loader's store: pv_rev, the last good
// revision, and pv_try, a revision to test. The boot loader marks with a value of its own
// (pv_trying) that it has started the test once, boots according to the table of the
// manual, and passes the booted revision as pv_rev on the kernel command line. These
// three values determine the state:
//
//	command line | store pv_rev | store pv_try | state
//	-------------+--------------+--------------+------------------------------------------
//	R            | R            | empty        | Steady: the committed revision runs
//	N            | R            | N            | Trying: a test boot; commit it or reboot
//	R            | R            | N            | RolledBack: N was tried and failed, or its
//	             |              |              | try was cut short; note it, then ClearTry
//	R            | R            | R            | Trying: R is tried anew although committed
//	X            | R            | empty or N   | Foreign: X was chosen at the loader's
//	             |              |              | prompt; it runs, and nothing is committed
//	none         | R            | empty        | Steady with R
//	none         | R            | N            | RolledBack with R: no proof that N was booted
//	any R        | none         | empty        | Steady with R (first boot, or a lost store)
//	N            | none         | N            | Trying; the committed revision is 0
//	none         | none         | any          | revision 0, the factory's; RolledBack if N
//
// A store that cannot be read counts as empty: the kernel command line is sufficient
// evidence of what was booted, and a device with a broken store must still start.
package boot

import (
	"fmt"
	"os"
	"strings"
)

// State is the relation of the running revision to the boot loader's store.
type State int

// The states of the table in the package comment.
const (
	Steady State = iota
	Trying
	RolledBack
	Foreign
)

// String returns the state's name in lower case.
func (s State) String() string {
	switch s {
	case Steady:
		return "steady"
	case Trying:
		return "trying"
	case RolledBack:
		return "rolled back"
	case Foreign:
		return "foreign"
	}
	return fmt.Sprintf("state %d", int(s))
}

// Values are the content of a boot loader's store; empty means not set.
type Values struct {
	Rev string // last good revision
	Try string // revision to test
}

// Running says which revision runs, and why.
type Running struct {
	Rev   string // the running revision, never empty
	Done  string // the committed revision, the target of a rollback
	Try   string // the revision under test or rolled back from; empty otherwise
	State State
}

// Factory is the revision of a device that has never been updated.
const Factory = "0"

// Decide applies the table of the package comment. booted is pv_rev of the kernel
// command line, empty when there is none.
func Decide(booted string, v Values) Running {
	r := Running{Rev: booted, Done: v.Rev, Try: v.Try}
	if r.Done == "" && booted != v.Try {
		r.Done = booted
	}
	if r.Done == "" { // the loader falls back to it
		r.Done = Factory
	}
	if r.Rev == "" {
		r.Rev = r.Done
	}
	switch {
	case booted != "" && booted == v.Try:
		r.State = Trying
	case r.Rev != r.Done:
		r.State = Foreign
	case v.Try != "":
		r.State = RolledBack
	}
	return r
}

// Booted returns pv_rev of the environment, in which the kernel passes unknown parameters
// to init, otherwise of the kernel command line, otherwise "". A value that is not a valid
// revision name is an error: it would become part of a path.
func Booted(environ []string, cmdline string) (string, error) {
	for _, words := range [][]string{environ, strings.Fields(cmdline)} {
		for _, w := range words {
			if v, ok := strings.CutPrefix(w, "pv_rev="); ok && v != "" {
				return v, Validate(v)
			}
		}
	}
	return "", nil
}

// FromSystem is Booted with this process's environment and /proc/cmdline.
func FromSystem() (string, error) {
	b, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return "", fmt.Errorf("reading the kernel command line: %w", err)
	}
	return Booted(os.Environ(), string(b))
}

// maxName is the longest part of a revision's name (manual: Control Socket, PUT
// steps/locals).
const maxName = 64

// Validate checks a revision's name: NAME or locals/NAME with letters, digits and
// ".-_+:", not beginning with a dot, at most 64 characters.
func Validate(rev string) error {
	name := strings.TrimPrefix(rev, "locals/")
	ok := name != "" && len(name) <= maxName && name[0] != '.' && rev != "current"
	for _, c := range []byte(name) {
		ok = ok && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte(".-_+:", c) >= 0)
	}
	if !ok {
		return fmt.Errorf("revision name %q: want NAME or locals/NAME of letters, digits and .-_+:, up to %d characters, not beginning with a dot", rev, maxName)
	}
	return nil
}
