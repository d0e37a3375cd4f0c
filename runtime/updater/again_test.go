package updater

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/runtime/boot"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
)

// unwilling is a boot loader's store that fails after it has written a revision to try.
type unwilling struct {
	boot.Store
	rev string
}

func (u unwilling) SetTry(rev string) error {
	if rev == u.rev {
		_ = u.Store.SetTry(rev)
		return errors.New("the store is read-only")
	}
	return u.Store.SetTry(rev)
}

// updated runs revision a, which is then UPDATED.
func updated(t *testing.T, m *machine) {
	t.Helper()
	m.put("a", "1", "app 1 container")
	m.start("a", Run)
	m.expect("a", boot.Values{Try: "a"}, "a", Updated, wasInstalled, wasSwapped, awaitStable, isUpdated)
}

// TestWhatRanBeforeIsRunAgain restarts a device for an update that does not last. The loader knows only
// what was committed: what ran before, and was to be committed at the next boot, is run again.
func TestWhatRanBeforeIsRunAgain(t *testing.T) {
	for _, c := range []struct {
		name   string
		mode   Mode
		broken bool
	}{{"a failure", Run, true}, {"a try once", TryOnce, false}} {
		t.Run(c.name, func(t *testing.T) {
			onMachine(t, func(t *testing.T, m *machine) {
				updated(t, m)
				m.put("b", "2", "app 2 container")
				m.broken["b"] = c.broken
				m.start("b", c.mode)
				m.restarts()
				if got := m.u.InUse(); !slices.Contains(got, "a") {
					t.Errorf("in use are %q", got)
				}
				m.settle()
				if got := m.u.InUse(); !slices.Contains(got, "a") || !slices.Contains(got, "0") {
					t.Errorf("when the update has ended, in use are %q", got)
				}
				m.restarts()
				m.settle()
				m.expect("a", boot.Values{Try: "a"}, "a", Updated, wasInstalled, wasSwapped, awaitStable, isUpdated)
				m.restarts()
				m.settle()
				m.expect("a", boot.Values{Rev: "a"}, "a", Done, wasInstalled, wasSwapped, awaitStable, isUpdated, wasTried, awaitCommit, isDone)
			})
		})
	}
}

// TestRunAgainOnlyOnce has the revision that is run again fail: the device stays with the committed one.
func TestRunAgainOnlyOnce(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		updated(t, m)
		m.put("b", "2", "app 2 container")
		m.broken["a"], m.broken["b"] = true, true
		m.start("b", Run)
		m.restarts()
		m.settle()
		for range 3 {
			m.restarts()
			m.settle()
			m.expect("0", boot.Values{}, "a", Error, wasInstalled, wasSwapped, "ERROR A container could not be started")
		}
	})
}

// TestTryOutlivesAnother takes the place of a revision that waits for its commit, and then not: the next boot
// still tries it.
func TestTryOutlivesAnother(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, m *machine){
		"cancelled": func(t *testing.T, m *machine) {
			must(t, m.u.Start(t.Context(), Request{Revision: "b", Mode: Run, When: "reboot"}))
			m.settle()
			must(t, m.u.Cancel(t.Context(), "b"))
		},
		"not taken by the loader": func(_ *testing.T, m *machine) {
			m.start("b", RunCommit)
		},
		"not taken by the loader after a run": func(_ *testing.T, m *machine) {
			m.start("b", Run)
		},
	} {
		t.Run(name, func(t *testing.T) {
			onMachine(t, func(t *testing.T, m *machine) {
				if name != "cancelled" {
					m.u.o.Store = unwilling{m.store, "b"}
				}
				updated(t, m)
				m.put("b", "1", "app 2 container")
				end(t, m)
				m.expect("a", boot.Values{Try: "a"}, "a", Updated, wasInstalled, wasSwapped, awaitStable, isUpdated)
			})
		})
	}
}

// TestLoaderThatCannotTry ends an update before or after its containers have run, and says why.
func TestLoaderThatCannotTry(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		m.put("b", "1", "app 1 container")
		m.refuse["loader"] = errors.New("no partition to write to")
		m.start("b", Run)
		m.expect("0", boot.Values{}, "b", WontGo, wasInstalled, "WONTGO no partition to write to")
		delete(m.refuse, "loader")
		m.u.o.Store = unwilling{m.store, "b"}
		m.start("b", Run)
		m.expect("0", boot.Values{}, "b", Error, wasInstalled, wasSwapped, awaitStable, "ERROR Internal error")
		if f := m.failure("b"); f == nil || f.Check != checkLoader || !strings.Contains(f.Text, "at the next boot: the store is read-only") {
			t.Errorf("the reason is %+v", f)
		}
	})
}

// TestInterruptedInstallation takes the device down while files are laid out.
func TestInterruptedInstallation(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		m.put("b", "2")
		m.hang = true
		must(t, m.u.Start(t.Context(), Request{Revision: "b", Mode: Run}))
		m.restarts()
		m.expect("0", boot.Values{}, "b", WontGo, wasInstalled, "WONTGO Update aborted")
		f := m.failure("b")
		if f == nil || f.Text != "the installation was interrupted: the power is off; nothing has changed, run the revision again" {
			t.Errorf("the reason is %+v", f)
		}
	})
}

// TestOrdersOfAClientThatIsCutOff are answered as those that can be repeated.
func TestOrdersOfAClientThatIsCutOff(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		m.off()
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errors.New("the device stopped for a reboot because of the signal SIGTERM"))
		for what, err := range map[string]error{
			"start": m.u.Start(ctx, Request{Revision: "b", Mode: Run}), "cancel": m.u.Cancel(ctx, "b"),
		} {
			told, ok := errors.AsType[*api.Error](err)
			if !ok || told.Status != 503 || told.Text != "The request was not taken: the device stopped for a reboot because of the signal SIGTERM. Try again" {
				t.Errorf("%s: %v", what, err)
			}
		}
	})
}

// TestCutBeforeProgress loses the power between the record of a failure and the progress.
func TestCutBeforeProgress(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		m.put("b", "2")
		path := filepath.Join(m.steps.Dir("b"), ".pv/progress")
		var cut []byte
		m.said = func(msg string) {
			if strings.Contains(msg, "b is WONTGO") {
				cut, _ = os.ReadFile(path)
			}
		}
		m.refuse["space"] = errors.New("too large")
		m.start("b", Run)
		// Another update ends, and only then is the device off.
		m.start("never", Run)
		must(t, os.WriteFile(path, cut, 0o600))
		m.restarts()
		m.expect("0", boot.Values{}, "b", WontGo, wasInstalled, "WONTGO too large")
	})
}

// TestCommittedAgainAfterAFailure runs a committed revision again, which fails, and then once more.
func TestCommittedAgainAfterAFailure(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		m.put("n", "2", "app 1 container")
		for _, broken := range []bool{false, true, false} {
			m.broken["n"] = broken
			m.start("n", RunCommit)
			m.restarts()
			m.settle()
			if broken {
				m.restarts()
				m.settle()
			}
			want := map[bool]Status{false: Done, true: Error}[broken]
			if p, err := m.steps.Progress("n"); err != nil || p.Status != string(want) {
				t.Errorf("progress is %+v, %v; want %s", p, err, want)
			}
			m.start("0", RunCommit)
			m.restarts()
			m.settle()
		}
	})
}
