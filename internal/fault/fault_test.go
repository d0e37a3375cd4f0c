package fault

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"
)

func TestKindSurvivesWraps(t *testing.T) {
	cause := errors.New("cause")
	err := fmt.Errorf("outer: %w", Wrap(Internal, New(Unreachable, "fetching x: %w", cause), "building"))
	if Of(err) != Unreachable || !errors.Is(err, cause) {
		t.Errorf("kind %v, is cause %v", Of(err), errors.Is(err, cause))
	}
	if want := "outer: building: fetching x: cause"; err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
}

func TestOf(t *testing.T) {
	_, missing := os.Open("/nowhere/at/all")
	for _, c := range []struct {
		err  error
		want Kind
	}{
		{nil, 0},
		{errors.New("x"), Internal},
		{fmt.Errorf("x: %w", context.Canceled), Cancelled},
		{&fs.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}, NoSpace},
		{fmt.Errorf("x: %w", syscall.EDQUOT), NoSpace},
		{missing, IO},
		{errors.Join(errors.New("x"), New(Locked, "y")), Locked},
		{Wrap(BadInput, syscall.ENOSPC, "writing"), NoSpace},
		{Wrap(BadInput, errors.New("x"), "reading"), BadInput},
	} {
		if got := Of(c.err); got != c.want {
			t.Errorf("%v: got %v, want %v", c.err, got, c.want)
		}
	}
}

func TestWrapNil(t *testing.T) {
	if err := Wrap(IO, nil, "doing"); err != nil {
		t.Errorf("got %v", err)
	}
}

func TestExitStatus(t *testing.T) {
	var status interface{ ExitStatus() int }
	if !errors.As(fmt.Errorf("x: %w", New(Goal, "y")), &status) || status.ExitStatus() != 10 {
		t.Error("the exit code is not 10")
	}
}

func TestString(t *testing.T) {
	if got := Digest.String() + ", " + Kind(77).String(); got != "digest mismatch, kind 77" {
		t.Errorf("got %q", got)
	}
}

func TestKindsAreDocumented(t *testing.T) {
	data, err := os.ReadFile("../../docs/exit-codes.md")
	if err != nil {
		t.Fatal(err)
	}
	for kind, name := range names {
		if row := fmt.Sprintf("| %d | %s |", int(kind), name); !strings.Contains(string(data), row) {
			t.Errorf("docs/exit-codes.md has no row %q", row)
		}
	}
	if rows := strings.Count(string(data), "\n| "); rows != len(names)+2 {
		t.Errorf("docs/exit-codes.md has %d rows, want %d kinds, the head and 0", rows, len(names))
	}
}
