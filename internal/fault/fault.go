// Package fault sorts errors into kinds, so that a program can tell its caller
// by exit code what went wrong and a script can react without reading prose.
//
// An error gets its kind where the cause is known and keeps it through any
// number of wraps with %w:
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

// Kind says what sort of thing went wrong. Its number is the exit code of every
// program of this repository (docs/exit-codes.md); codes 0, 1 and 128 and above
// keep their customary meaning.
type Kind int

// The kinds, by exit code.
const (
	Internal    Kind = 1   // a defect of this program, or an error that nobody sorted
	BadInput    Kind = 2   // the user's words, a file of the project or a setting is wrong
	Unsupported Kind = 3   // asked for correctly, but not possible for this target or machine
	Missing     Kind = 4   // a program, package or file that the work needs is not there
	IO          Kind = 5   // reading or writing went wrong on this machine
	NoSpace     Kind = 6   // a file system or an image is full
	Unreachable Kind = 7   // an archive, registry or device does not answer
	Digest      Kind = 8   // content differs from the digest that names it
	Locked      Kind = 9   // a lock file pins what no longer exists, and --locked forbids another
	Goal        Kind = 10  // a device or container did not reach its goal
	Cancelled   Kind = 130 // interrupted by the user (128 + SIGINT)
)

var names = map[Kind]string{
	Internal: "internal", BadInput: "bad input", Unsupported: "unsupported", Missing: "missing",
	IO: "i/o", NoSpace: "no space", Unreachable: "unreachable", Digest: "digest mismatch",
	Locked: "locked", Goal: "goal not reached", Cancelled: "cancelled",
}

// String returns the kind's name in lower case, as events and reports carry it.
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

// Unwrap returns the sorted error, so that errors.Is and errors.As see through.
func (e *Error) Unwrap() error { return e.err }

// ExitStatus returns the exit code; mage asks for it under this name.
func (e *Error) ExitStatus() int { return int(e.Kind) }

// New returns an error of the kind with a formatted message; %w wraps.
func New(k Kind, format string, args ...any) error {
	return &Error{Kind: k, err: fmt.Errorf(format, args...)}
}

// Wrap says what was being done when err happened and gives it the kind, unless
// err already has one: the cause knows better. A nil err stays nil.
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

// Of returns the kind of err: the outermost sorted error in its chain, else what
// the system's own errors say, else Internal. The kind of nil is 0.
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
