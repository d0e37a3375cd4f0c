package step

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestHeldObjectsAreKept has an object that is held, and one that is not.
func TestHeldObjectsAreKept(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		age   time.Duration // of the hold's file
		known bool          // this run of the runtime has seen it come
		held  bool
	}{
		{"now", 0, true, true},
		{"days ago", 6 * 24 * time.Hour, false, true},
		{"before the clock was set", 50 * 365 * 24 * time.Hour, true, true},
		{"in the future", -time.Hour, false, true},
		{"a week ago", 7 * 24 * time.Hour, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newStorage(t)
			s.revision("1", "kept")
			held, missing := s.object("held"), strings.Repeat("0", 64)
			s.object("garbage")
			steps := s.garbage.Steps
			if err := steps.Hold("sdk", "../a", []string{held, missing}); err != nil {
				t.Fatal(err)
			}
			s.stamp(time.Now().Add(-c.age))
			if !c.known {
				steps.recent.at = nil
			}
			s.collect()
			if s.objects.Has(held) != c.held {
				t.Errorf("left are %s", s.left())
			}
			files, err := steps.heldFiles()
			if err != nil || len(files) == 1 != c.held {
				t.Errorf("holds: %q, %v", files, err)
			}
		})
	}
}

func TestHoldsEnd(t *testing.T) {
	t.Parallel()
	s := newStorage(t)
	steps, first, second := s.garbage.Steps, s.object("first"), s.object("second")
	hold := func(owner, sum string) {
		t.Helper()
		if err := steps.Hold(owner, "tx", []string{sum}); err != nil {
			t.Fatal(err)
		}
	}
	hold("a", first)
	hold("b", first)
	hold("a", second) // replaces
	s.collect()
	if got := s.left(); got != "[] 2" {
		t.Errorf("left are %s", got)
	}
	for _, owner := range []string{"a", "a", "nobody"} {
		if err := steps.Release(owner, "tx"); err != nil {
			t.Error(err)
		}
	}
	s.collect()
	if got := s.left(); got != "[] 1" || !s.objects.Has(first) {
		t.Errorf("left are %s", got)
	}
}

func TestHoldsAreBounded(t *testing.T) {
	t.Parallel()
	s := newStorage(t)
	steps := s.garbage.Steps
	for i := range maxHolds {
		if err := steps.Hold("sdk", fmt.Sprint(i), nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := steps.Hold("sdk", "more", nil); !errors.Is(err, ErrHolds) {
		t.Errorf("one more: %v", err)
	}
	if err := steps.Hold("sdk", "7", nil); err != nil {
		t.Errorf("one of them again: %v", err)
	}
	if err := steps.Hold("sdk", "7", slices.Repeat([]string{strings.Repeat("a", 64)}, maxHold/65+1)); err == nil {
		t.Error("a hold of any size is taken")
	}
}

// TestUnreadableHoldKeepsEverything wants nothing removed in doubt.
func TestUnreadableHoldKeepsEverything(t *testing.T) {
	t.Parallel()
	s := newStorage(t)
	s.object("garbage")
	path := s.garbage.Steps.hold("sdk", "tx")
	s.file("holds/"+filepath.Base(path), "")
	if err := os.Truncate(path, maxHold+1); err != nil {
		t.Fatal(err)
	}
	if _, err := s.garbage.Collect(t.Context()); err == nil || s.left() != "[] 1" {
		t.Errorf("%v, left are %s", err, s.left())
	}
}
