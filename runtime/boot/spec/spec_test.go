package spec

import (
	"slices"
	"strings"
	"testing"
)

// TestStatesAreThoseOfPick compares the table with the function that models have.
func TestStatesAreThoseOfPick(t *testing.T) {
	t.Parallel()
	for _, s := range States() {
		now := s
		for round, want := range [][]Start{s.Want, s.Again} {
			if now.Rev == "" {
				now.Rev = "0"
			}
			boot, mark := Pick(now)
			if !slices.Contains(s.Revisions, boot) { // loaders fall back, and set no mark
				boot, mark = now.Rev, now.Trying
			}
			if got := (Start{boot, s.Try}); got != want[0] {
				t.Errorf("%s, boot %d: %+v, want %+v", s.Name, round, got, want[0])
			}
			now.Trying = mark
		}
	}
}

func TestCovered(t *testing.T) {
	t.Parallel()
	if !Covered(State{Rev: "a", Try: "b", Trial: "9", Trying: "b@8"}) || Covered(State{Rev: "a", Try: "b", Trying: "b@8"}) {
		t.Error("states are not told from each other")
	}
}

// wrong is a device in memory with one mistake.
type wrong struct {
	State
	mistake string
	left    int
}

func (w *wrong) write(f func()) error {
	if w.left == 0 {
		return Cut{}
	}
	w.left--
	f()
	return nil
}

func (w *wrong) SetTry(rev string) error {
	if rev == w.Rev {
		return w.ClearTry()
	}
	return w.write(func() {
		if w.Try = rev; w.mistake != "same number" {
			w.Trial += "1"
		}
	})
}

func (w *wrong) Commit(rev string) error {
	if w.mistake == "two writes" {
		if err := w.write(func() { w.Rev, w.Try = "", "" }); err != nil {
			return err
		}
	}
	return w.write(func() { w.Rev, w.Try = rev, "" })
}

func (w *wrong) ClearTry() error {
	return w.write(func() {
		if w.mistake != "try stays" {
			w.Try = ""
		}
	})
}

func (w *wrong) Boot(bool) string {
	if w.Rev == "" {
		w.Rev = "0"
	}
	boot, mark := Pick(w.State)
	if w.mistake != "no mark" {
		w.Trying = mark
	}
	switch {
	case boot == w.Try:
		return boot + " trying"
	case w.Try != "":
		return boot + " rolled back"
	}
	return boot + " steady"
}

func (w *wrong) Cut(n int) { w.left = n }
func (w *wrong) Lose()     { w.Rev, w.Try = "", "" }

// TestMistakesAreFound proves that the scenarios can fail.
func TestMistakesAreFound(t *testing.T) {
	t.Parallel()
	for mistake, in := range map[string]string{
		"": "", "same number": "an old mark", "two writes": "cut in commit", "try stays": "given up before the restart", "no mark": "fall back",
	} {
		var failed []string
		for _, s := range scenarios() {
			newDevice := func() Device { return &wrong{State: State{Rev: "0"}, mistake: mistake, left: -1} }
			if err := s.check(newDevice); err != nil {
				failed = append(failed, s.Name)
			}
		}
		if mistake == "" && len(failed) > 0 || mistake != "" && !slices.Contains(failed, in) {
			t.Errorf("mistake %q: these fail: %s", mistake, strings.Join(failed, "; "))
		}
	}
}
