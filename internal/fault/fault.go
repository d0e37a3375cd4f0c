// Package fault gives errors a kind, so that a program can report by its exit code what
// went wrong and a script can react without parsing messages.
//
// An error gets its kind where the cause is known and keeps it when it is wrapped with
// %w:
//
//	return fault.New(fault.BadInput, "target %q: unknown; nearest are %s", name, near)
//	return fault.Wrap(fault.Unreachable, err, "fetching %s", uri)
package fault

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"
)

// Kind is a category of errors. Its number is the exit code of the commands of mage
// (docs/exit-codes.md); codes 0, 1 and 128 and above keep their usual meaning.
type Kind int

// The kinds, by exit code.
const (
	Internal    Kind = 1   // a defect of this program, or an error of unknown kind
	BadInput    Kind = 2   // an argument, a file of the project or a setting is wrong
	Unsupported Kind = 3   // a valid request that is not possible for this target or machine
	Missing     Kind = 4   // a required program, package or file does not exist
	IO          Kind = 5   // reading or writing failed on this machine
	NoSpace     Kind = 6   // a file system or an image is full
	Unreachable Kind = 7   // an archive, registry or device does not answer
	Digest      Kind = 8   // content differs from the digest that names it, or from what was signed
	Locked      Kind = 9   // a lock file pins what no longer exists, and --locked forbids another
	Goal        Kind = 10  // a device or container did not reach its goal
	Different   Kind = 11  // what was compared differs
	Budget      Kind = 12  // a size, a time or an amount of memory exceeds its budget
	Vulnerable  Kind = 13  // a vulnerability is known that must not be there
	Cancelled   Kind = 130 // interrupted by the user (128 + SIGINT)
)

var names = map[Kind]string{
	Internal: "internal", BadInput: "bad input", Unsupported: "unsupported", Missing: "missing",
	IO: "i/o", NoSpace: "no space", Unreachable: "unreachable", Digest: "digest mismatch",
	Locked: "locked", Goal: "goal not reached", Different: "different", Budget: "over budget",
	Vulnerable: "vulnerable", Cancelled: "cancelled",
}

// String returns the kind's name in lower case, as in events and reports.
func (k Kind) String() string {
	if n, ok := names[k]; ok {
		return n
	}
	return fmt.Sprintf("kind %d", int(k))
}

// Error is an error of a known kind. Make one with [New] or [Wrap].
type Error struct {
	Kind Kind
	err  error
}

func (e *Error) Error() string { return e.err.Error() }

// Unwrap returns the error without its kind, for errors.Is and errors.As.
func (e *Error) Unwrap() error { return e.err }

// ExitStatus returns the exit code; mage calls this method.
func (e *Error) ExitStatus() int { return int(e.Kind) }

// New returns an error of the kind with a formatted message; %w wraps.
func New(k Kind, format string, args ...any) error {
	return &Error{Kind: k, err: fmt.Errorf(format, args...)}
}

// Wrap adds what was being done when err occurred and gives it the kind, unless err
// already has one: its cause knows better. Wrap of nil is nil.
func Wrap(k Kind, err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	var sorted *Error
	if errors.As(err, &sorted) {
		k = sorted.Kind
	} else if known := recognise(err); known != 0 {
		k = known
	}
	return &Error{Kind: k, err: fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), err)}
}

// Of returns the kind of err: that of the outermost Error in its chain, else the kind
// that fits a system error in it, else Internal. The kind of nil is 0.
func Of(err error) Kind {
	if err == nil {
		return 0
	}
	var sorted *Error
	if errors.As(err, &sorted) {
		return sorted.Kind
	}
	if known := recognise(err); known != 0 {
		return known
	}
	return Internal
}

func recognise(err error) Kind {
	var path *fs.PathError
	switch {
	case errors.Is(err, context.Canceled):
		return Cancelled
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return NoSpace
	case errors.As(err, &path):
		return IO
	}
	return 0
}
