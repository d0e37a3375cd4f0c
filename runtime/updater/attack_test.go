package updater

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/internal/oracle"
	"github.com/pantavisor/pantavisor/runtime/boot"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
	"github.com/pantavisor/pantavisor/runtime/engine"
)

// TestJournalIsLostDuringTrial removes the journal before the restart, or has it written by
// another runtime: what follows is one update, and the next boot changes nothing.
func TestJournalIsLostDuringTrial(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		m.put("n", "2")
		m.start("n", Run)
		must(t, os.RemoveAll(filepath.Join(m.dir, "updates")))
		m.restarts()
		m.settle()
		m.expect("n", boot.Values{Rev: "n"}, "n", Done, wasTried, awaitCommit, isDone)
		m.restarts()
		m.settle()
		m.expect("n", boot.Values{Rev: "n"}, "n", Done, wasTried, awaitCommit, isDone)
	})
}

// TestLastRecordIsLost has an update whose last record could not be written: a later update
// of the same revision counts, not that one.
func TestLastRecordIsLost(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		m.put("n", "2")
		if _, err := m.u.o.Journal.Add(Record{Revision: "n", Status: Testing}); err != nil {
			t.Fatal(err)
		}
		m.start("n", Run)
		m.restarts()
		m.settle()
		m.restarts()
		m.settle()
		m.expect("n", boot.Values{Rev: "n"}, "n", Done, wasInstalled, wasRestarted, wasTried, awaitCommit, isDone)
	})
}

// TestTrialIsOngoingFromTheStart asks between Resume and Run: the engine must know that what it
// starts is under test, and a client must not begin another update.
func TestTrialIsOngoingFromTheStart(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		m.put("n", "2")
		m.start("n", Run)
		m.off()
		rev, err := boot.Pick(m.store)
		must(t, err)
		values, err := m.store.Load()
		must(t, err)
		o := m.u.o
		o.Running = boot.Decide(rev, values)
		u := New(o)
		if !u.Resume() {
			t.Fatal("the revision does not run")
		}
		if err := u.Ongoing(); !errors.Is(err, errOngoing) {
			t.Errorf("before its containers are started an update is not ongoing: %v", err)
		}
	})
}

// TestContainerThatWasBrokenBefore goes back to a revision with a container that did not run
// before the update either: no restart mends that.
func TestContainerThatWasBrokenBefore(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		m.put("n", "1", "app 1 container")
		m.broken["n"] = true
		m.below = []engine.Failure{{Container: "other", Reason: "exited with code 1"}}
		m.start("n", Run)
		m.expect("0", boot.Values{}, "n", Error, wasInstalled, wasSwapped, "ERROR A container could not be started")
		if slices.Contains(m.calls, "restart") {
			t.Errorf("calls are %q", m.calls)
		}
	})
}

// TestSwapThatDoesNotBegin wants no container to be restarted for a change that never began.
func TestSwapThatDoesNotBegin(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		m.put("n", "1", "app 1 container")
		m.refuse["swap n [app]"] = errors.New("changing to revision n: no")
		m.start("n", Run)
		m.expect("0", boot.Values{}, "n", WontGo, wasInstalled, wasSwapped, "WONTGO A container could not be started")
		if want := []string{"install n", "swap n [app]"}; !slices.Equal(m.calls, want) || m.trial {
			t.Errorf("calls are %q, trial %v", m.calls, m.trial)
		}
	})
}

// TestTryOnceLeavesWhatIsUpdated tries a revision once while another one waits for its commit: the
// restart goes back to that.
func TestTryOnceLeavesWhatIsUpdated(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		m.put("a", "1", "app 1 container")
		m.put("b", "1", "app 2 container")
		m.start("a", Run)
		m.start("b", TryOnce)
		m.expect("b", boot.Values{Try: "a"}, "b", Updated, wasInstalled, wasSwapped, awaitStable, isUpdated)
		m.restarts()
		m.settle()
		m.expect("a", boot.Values{Rev: "a"}, "a", Done, wasInstalled, wasSwapped, awaitStable, isUpdated, wasTried, awaitCommit, isDone)
	})
}

// TestCancelDuringRestart comes too late and is told so.
func TestCancelDuringRestart(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		m.put("n", "2")
		m.start("n", Run)
		began := time.Now()
		if err := m.u.Cancel(t.Context(), "n"); !errors.Is(err, errOngoing) || time.Since(began) > cancelTime {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

// TestCancelOfWhatNeverEnds takes an update back whose containers neither reach their goals nor
// fail, without a restart and after one.
func TestCancelOfWhatNeverEnds(t *testing.T) {
	for bsp, path := range map[string][]string{"1": {wasInstalled, wasSwapped}, "2": {wasInstalled, wasRestarted, wasTried}} {
		t.Run("bsp "+bsp, func(t *testing.T) {
			onMachine(t, func(t *testing.T, m *machine) {
				m.put("n", bsp, "app 1 container")
				m.mute = true
				m.start("n", Run)
				if bsp == "2" {
					m.restarts()
				}
				m.settle()
				m.mute = false
				if err := m.u.Cancel(t.Context(), "0"); !errors.Is(err, errOngoing) {
					t.Errorf("another one: %v", err)
				}
				must(t, m.u.Cancel(t.Context(), "n"))
				m.settle()
				if bsp == "2" {
					m.restarts()
					m.settle()
				}
				m.expect("0", boot.Values{}, "n", Error, append(path, "ERROR Update aborted")...)
			})
		})
	}
}

// TestWindowWaitsForTheClock starts a device whose clock has not been set, at a time of day
// at which a waiting update may begin.
func TestWindowWaitsForTheClock(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		m.put("n", "1", "app 1 container")
		now := time.Now()
		// As if it had been asked for a day ahead of the clock.
		_, err := m.u.o.Journal.Add(Record{
			Time: now.Add(24*time.Hour + time.Minute), Revision: "n", Status: Queued, Message: msgQueuedTime, Mode: Run, From: "0",
			When: now.Add(-time.Hour).Format("15:04") + "-" + now.Add(3*time.Hour).Format("15:04"),
		})
		must(t, err)
		m.restarts()
		time.Sleep(23 * time.Hour)
		synctest.Wait()
		if m.rev != "0" {
			t.Fatalf("%s runs before the clock has been set", m.rev)
		}
		time.Sleep(90 * time.Minute)
		synctest.Wait()
		if m.rev != "n" {
			t.Errorf("%s runs", m.rev)
		}
	})
}

// TestManyUpdates makes two hundred updates, of which every third fails: the journal stays
// bounded, and the newest reasons are there.
func TestManyUpdates(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		const updates = 200
		for i := range updates {
			rev := fmt.Sprint("locals/", i)
			m.put(rev, "1", fmt.Sprintf("app %d container", i))
			m.broken[rev] = i%3 == 0
			m.start(rev, Run)
		}
		list := m.u.Updates()
		if n := len(list); n < 100 || list[n-1].Revision != "locals/199" || list[n-2].Failure == nil {
			t.Errorf("%d updates are known, the last is %+v", n, list[n-1])
		}
		info, err := os.Stat(filepath.Join(m.dir, journalFile))
		must(t, err)
		if info.Size() > maxJournal {
			t.Errorf("the journal has %d bytes", info.Size())
		}
		m.restarts()
		m.settle()
		m.expect("locals/199", boot.Values{Rev: "locals/199"}, "locals/199", Done, wasInstalled, wasSwapped, awaitStable, isUpdated, wasTried, awaitCommit, isDone)
	})
}

// TestHalfALineIsOverwritten opens a journal that a power cut has cut: it takes no further file,
// for which there may be no space, to go on with it.
func TestHalfALineIsOverwritten(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j, err := OpenJournal(dir)
	must(t, err)
	for range 2 {
		_, err = j.Add(Record{Revision: "a", Status: InProgress})
		must(t, err)
	}
	path := filepath.Join(dir, journalFile)
	must(t, os.Truncate(path, j.size-5))
	before, err := os.Stat(path)
	must(t, err)
	j, err = OpenJournal(dir)
	must(t, err)
	_, err = j.Add(Record{Revision: "b", Status: Done})
	must(t, err)
	info, err := os.Stat(path)
	must(t, err)
	if !os.SameFile(before, info) {
		t.Error("the journal was written anew")
	}
	j, err = OpenJournal(dir)
	if err != nil || len(j.Records()) != 2 || j.Last("").Revision != "b" || info.Size() != j.size {
		t.Errorf("%d records in %d of %d bytes, %v", len(j.Records()), j.size, info.Size(), err)
	}
}

// TestReasonOnFullStorage fills an ext4 to its last byte: records are still written.
func TestReasonOnFullStorage(t *testing.T) {
	dir := full(t)
	j, err := OpenJournal(dir)
	must(t, err)
	_, err = j.Add(Record{Revision: "n", Status: InProgress})
	must(t, err)
	fill(t, dir)
	failure := &api.UpdateFailure{Check: checkContainer, Text: strings.Repeat("why ", 500)}
	for i := range 20 {
		if _, err := j.Add(Record{Revision: "n", Status: Error, Failure: failure}); err != nil {
			t.Fatalf("record %d: %v", i, err)
		}
	}
}

// TestReadOnlyStorage begins no update that cannot be recorded.
func TestReadOnlyStorage(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		m.put("n", "1", "app 1 container")
		must(t, os.RemoveAll(filepath.Join(m.dir, "updates")))
		must(t, os.WriteFile(filepath.Join(m.dir, "updates"), nil, 0o600)) // no directory
		err := m.u.Start(t.Context(), Request{Revision: "n", Mode: Run})
		var told *api.Error
		if !errors.As(err, &told) || told.Status != 507 || len(m.calls) > 0 {
			t.Errorf("%v; calls are %q", err, m.calls)
		}
		if err := m.u.Ongoing(); err != nil {
			t.Error(err)
		}
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// full mounts a small ext4.
func full(t *testing.T) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	oracle.Need(t, "mkfs.ext4", "mount", "umount")
	dir := t.TempDir()
	image, at := filepath.Join(dir, "image"), filepath.Join(dir, "storage")
	must(t, os.WriteFile(image, nil, 0o600))
	must(t, os.Truncate(image, 8<<20))
	must(t, os.Mkdir(at, 0o755))
	for _, args := range [][]string{{"mkfs.ext4", "-q", "-m", "0", image}, {"mount", "-o", "loop", image, at}} {
		if out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	t.Cleanup(func() { _ = unix.Unmount(at, unix.MNT_DETACH) })
	return at
}

// fill writes until nothing more fits.
func fill(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "filler"))
	must(t, err)
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			size /= 2
		}
	}
	must(t, f.Sync())
}

// TestFailedRevisionIsNotRunAgain has a loader that starts a revision again that has failed, as
// one whose store could not be written: it does not run, and the next boot is of the other one.
func TestFailedRevisionIsNotRunAgain(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		m.put("n", "2", "app 1 container")
		m.broken["n"] = true
		m.start("n", Run)
		m.restarts()
		m.settle()
		m.off()
		must(t, m.store.SetTry("n"))
		if m.boot() {
			t.Error("the revision runs again")
		}
		if !m.boot() {
			t.Fatal("nothing runs")
		}
		m.settle()
		m.expect("0", boot.Values{}, "n", Error, wasInstalled, wasRestarted, wasTried, "ERROR A container could not be started")
	})
}
