package device

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pantavisor/pantavisor/revision/manifest"
	"github.com/pantavisor/pantavisor/revision/state"
	"github.com/pantavisor/pantavisor/runtime/boot"
	"github.com/pantavisor/pantavisor/runtime/config"
	"github.com/pantavisor/pantavisor/runtime/engine"
	"github.com/pantavisor/pantavisor/runtime/handoff"
	"github.com/pantavisor/pantavisor/runtime/logs"
	"github.com/pantavisor/pantavisor/runtime/shell"
	"github.com/pantavisor/pantavisor/runtime/updater"
)

// updates connects the updater to the device.
type updates struct {
	*session
	hooks systemHooks
	power *power
}

var _ updater.Device = (*updates)(nil)

// makeUpdater makes the updater and lets it finish what the last shutdown cut short. run is
// false when the revision must not run: the device restarts.
func (s *session) makeUpdater() (run bool) {
	store, err := boot.Configured(s.cfg, s.paths.storage)
	if err != nil {
		s.log.Errorf("updates are not possible: %v", err)
		store = noStore{err}
	}
	s.store = store
	values, err := store.Load()
	if err != nil {
		s.log.Errorf("reading what the boot loader is to try: %v", err)
	}
	journal, err := updater.OpenJournal(s.paths.storage)
	if err != nil {
		s.log.Errorf("%v", err)
	}
	log := s.log.Named("updater")
	hooks := newSystemHooks(s.cfg, s.paths, log)
	s.power = &power{cfg: s.cfg, engine: func(code int, why string) error { return s.engine.Stop(code, why) }, log: s.log.Named("shell"), extend: make(chan time.Duration)}
	s.updates = &updates{session: s, hooks: hooks, power: s.power}
	s.updater = updater.New(updater.Options{
		Running: boot.Decide(s.opt.Revision, values), Store: store, Steps: s.steps, Journal: journal,
		Device: s.updates,
		Settings: func() updater.Settings {
			return updater.Settings{CommitDelay: s.cfg.Duration(config.UpdaterCommitDelay), Trials: s.cfg.Int(config.UpdaterTrials)}
		},
		Log: log, Slots: boot.Slot(s.cfg.Enum(config.BootloaderType)) != "",
	})
	if !s.updater.Resume() {
		return false
	}
	if err := hooks.run(s.services.ctx, updater.HookStart, updater.Hook{Revision: s.revision()}); err != nil {
		log.Errorf("%v", err)
		s.updater.Fail("hook", err)
	}
	return true
}

// stepInUse reports whether a revision must not be replaced or removed now.
func (s *session) stepInUse(rev string) bool {
	return slices.Contains(s.updater.InUse(), rev) || slices.Contains(s.revs.inUse(), rev)
}

// Load implements updater.Device.
func (u *updates) Load(rev string) (*state.State, *manifest.System, error) {
	doc, err := u.steps.State(rev)
	if err != nil {
		return nil, nil, err
	}
	st, err := state.Parse(doc)
	if err != nil {
		return nil, nil, err
	}
	if err := verify(u.cfg, st, u.log); err != nil {
		return nil, nil, err
	}
	sys, err := manifest.Parse(st, manifestOptions(u.cfg))
	return st, sys, err
}

// Install implements updater.Device.
func (u *updates) Install(ctx context.Context, rev string, st *state.State) error {
	if rev == u.revision() {
		return nil // it runs
	}
	files, err := u.steps.Files(rev, u.paths.objects)
	if err != nil {
		return err
	}
	files.State = st
	files.Hash, files.Verified, files.Progress = u.hashed(), u.verified, u.log.Infof
	return files.Install(ctx)
}

// Compatible implements updater.Device.
func (u *updates) Compatible(st *state.State, sys *manifest.System) error {
	if bad := u.facts().compatible(u.revs.running(), st, sys); bad != nil {
		return bad
	}
	return nil
}

func (u *updates) facts() facts {
	release := uname().Release
	return facts{version: u.opt.Version, release: release, kernel: runningKernel{proc: "/proc", modules: filepath.Join("/lib/modules", release)}}
}

// Space implements updater.Device.
func (u *updates) Space(rev string, st *state.State) error {
	if rev == u.revision() {
		return nil // it runs
	}
	return u.admission().check(st)
}

// Loader implements updater.Device.
func (u *updates) Loader(st *state.State) error { return u.canTry(st) }

// Swap implements updater.Device.
func (u *updates) Swap(rev string, changed []string) error { return u.transition(rev, changed) }

// Trial implements updater.Device.
func (u *updates) Trial(on bool) { u.engine.SetTrial(on) }

// Restart implements updater.Device.
func (u *updates) Restart(reason string) error {
	u.log.Infof("restarting for %s", reason)
	return u.power.down(handoff.ExitReboot, "the update to "+reason)
}

// Hook implements updater.Device.
func (u *updates) Hook(ctx context.Context, event string, h updater.Hook) error {
	return u.hooks.run(ctx, event, h)
}

// Wake implements updater.Device.
func (u *updates) Wake(on bool) { u.wakes.set(wakeUpdate, on) }

// Bounds of what is kept of a container's output with the reason of a failure.
const (
	maxLastLines = 10
	maxLastBytes = 2 << 10
)

// Output implements updater.Device.
func (u *updates) Output(rev, container string) []string {
	if container == "" {
		return nil
	}
	u.logs.Flush()
	dir := filepath.Join(u.paths.logs, rev, container)
	return ends(lastLines(filepath.Join(dir, consoleSource)), lastLines(filepath.Join(dir, launcherSource)))
}

// ends returns the last lines of a container and of its launcher. Each restart adds lines of the
// launcher: what the container itself wrote goes first.
func ends(container, launcher []string) []string {
	const launchers = 2 // how it ended
	container = last(container, max(maxLastLines-launchers, maxLastLines-len(launcher)))
	return slices.Concat(container, last(launcher, maxLastLines-len(container)))
}

func last(lines []string, n int) []string { return lines[max(0, len(lines)-n):] }

// lastLines returns the end of a file; nil when it cannot be read.
func lastLines(path string) []string {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil
	}
	buf := make([]byte, min(info.Size(), maxLastBytes))
	if _, err := f.ReadAt(buf, info.Size()-int64(len(buf))); err != nil {
		return nil
	}
	text := strings.ReplaceAll(strings.ToValidUTF8(string(buf), ""), "\r\n", "\n") // a terminal's
	if int64(len(buf)) < info.Size() {                                             // it begins in the middle of a line
		_, text, _ = strings.Cut(text, "\n")
	}
	lines := slices.DeleteFunc(strings.Split(text, "\n"), func(l string) bool { return strings.TrimSpace(l) == "" })
	return last(lines, maxLastLines)
}

// power takes the device down. It waits while somebody works in the debug shell.
type power struct {
	cfg     *config.Config
	engine  func(code int, why string) error
	log     logs.Logger
	extend  chan time.Duration // DEFER_REBOOT
	waiting atomic.Bool        // for the shell
}

// down stops all containers; code and why are for the engine. While it waits, another call is
// an error.
func (p *power) down(code int, why string) error {
	if !p.waiting.CompareAndSwap(false, true) {
		return engine.ErrBusy
	}
	defer p.waiting.Store(false)
	shell.Hold(context.Background(), shell.Marker, p.cfg.Duration(config.DebugShellTimeout), p.extend, func(s string) { p.log.Infof("%s", s) })
	return p.engine(code, why)
}

// open reports whether somebody works in the debug shell.
func (p *power) open() bool { return shell.Open(shell.Marker) }

// later puts a restart off that waits for the debug shell; it reports whether one does.
func (p *power) later(d time.Duration) bool {
	select {
	case p.extend <- d:
		return true
	case <-time.After(100 * time.Millisecond):
		return false
	}
}

// noStore is the boot loader's store of a device whose loader is not known: it runs what it
// runs, and can make no update that takes a restart.
type noStore struct{ err error }

func (noStore) Load() (boot.Values, error) { return boot.Values{}, nil }
func (n noStore) SetTry(string) error      { return n.err }
func (n noStore) Commit(string) error      { return n.err }
func (noStore) ClearTry() error            { return nil }

// hashed reports whether the content of objects is checked.
func (s *session) hashed() bool {
	return s.cfg.Bool(config.SecurebootChecksum) && os.Getenv("pv_quickboot") != "1"
}
