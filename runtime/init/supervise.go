package init

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/runtime/config"
	"github.com/pantavisor/pantavisor/runtime/handoff"
	"github.com/pantavisor/pantavisor/runtime/program"
	"github.com/pantavisor/pantavisor/runtime/watchdog"
)

const (
	// engineGrace is how long the engine may take to stop its containers.
	engineGrace = 90 * time.Second
	// coldPlugDelay is when the remaining devices get their modules if the engine
	// does not say earlier that the revision runs: they must not slow its start.
	coldPlugDelay = 2 * time.Second
)

// engine is the running engine.
type engine struct {
	pid    int
	done   <-chan syscall.WaitStatus
	words  <-chan string
	stopAt <-chan time.Time // when it should have stopped; nil while nobody asked
	want   action
}

// supervise starts the engine and returns when the machine is to go down.
func (m *machine) supervise(ctx context.Context) outcome {
	m.catchSignals(ctx)
	e := &engine{}
	if m.storage != "" { // else standalone: only the shell
		var err error
		if e, err = m.startEngine(); err != nil {
			return outcome{reason: err.Error(), failed: true}
		}
	}
	debug.FreeOSMemory()
	plug := time.After(coldPlugDelay)
	for {
		select {
		case status := <-e.done:
			return e.verdict(status)
		case a := <-m.asked:
			if e.pid == 0 {
				return outcome{action: a, reason: "asked for without an engine"}
			}
			e.ask(a)
			m.entering(a)
		case <-e.stopAt:
			return outcome{action: e.want, reason: fmt.Sprintf("the engine did not stop within %v", engineGrace), failed: true}
		case w := <-e.words:
			if m.heard(w) && plug != nil {
				plug = time.After(0)
			}
		case reason := <-m.crashed:
			return outcome{reason: reason, failed: true}
		case <-plug:
			plug = nil
			m.plugRest()
		}
	}
}

// startEngine runs this program as the engine, from a copy that containers cannot
// change. Descriptor 3 is the early log, 4 takes the engine's words.
func (m *machine) startEngine() (*engine, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("starting the engine: %w", err)
	}
	defer w.Close()
	const earlyLog, notify = 3, 4
	attr := &syscall.ProcAttr{Dir: "/", Env: m.environment(earlyLog, notify),
		Files: []uintptr{0, 1, 2, uintptr(m.journal.reader), w.Fd()}, Sys: &syscall.SysProcAttr{Setsid: true}}
	path, err := program.Path()
	if err != nil {
		_ = r.Close()
		return nil, fmt.Errorf("starting the engine: %w", err)
	}
	pid, done, err := m.reaper.Spawn(path, []string{"pantavisor", "engine"}, attr)
	if err != nil {
		_ = r.Close()
		return nil, fmt.Errorf("starting the engine: %w", err)
	}
	words := make(chan string, 8)
	m.background("engine", func() error { return listen(r, words) })
	m.log.Infof("the engine is process %d", pid)
	return &engine{pid: pid, done: done, words: words}, nil
}

// listen passes on the engine's words, one a line, of which only a bounded part counts.
func listen(r *os.File, words chan<- string) error {
	defer r.Close()
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 64), 256)
	for lines.Scan() {
		words <- strings.TrimSpace(lines.Text())
	}
	return lines.Err()
}

// ask tells the engine to stop: SIGTERM for a reboot, SIGINT for a power-off.
func (e *engine) ask(a action) {
	sig := unix.SIGTERM
	if a == powerOff {
		sig = unix.SIGINT
	}
	_ = unix.Kill(e.pid, sig) // it may have gone; its status then comes
	if e.stopAt == nil {
		e.stopAt = time.After(engineGrace)
	}
	e.want = a
}

// heard acts on a word of the engine and reports whether the revision runs now.
func (m *machine) heard(word string) (ready bool) {
	switch word {
	case handoff.Ready:
		m.stage(watchdog.Running)
		return true
	case handoff.Rebooting:
		m.entering(reboot)
	case handoff.PoweringOff:
		m.entering(powerOff)
	default:
		m.log.Warnf("the engine says %q, which nobody knows", word)
	}
	return false
}

func (m *machine) entering(a action) {
	if a == powerOff {
		m.stage(watchdog.PoweringOff)
		return
	}
	m.stage(watchdog.Rebooting)
}

// verdict is what the engine's end means.
func (e *engine) verdict(ws syscall.WaitStatus) outcome {
	asked := e.stopAt != nil && ws.Signaled()
	switch {
	case asked && (ws.Signal() == unix.SIGINT || ws.Signal() == unix.SIGTERM):
		return outcome{action: e.want, reason: "asked for before the engine could hear it"}
	case ws.Exited() && ws.ExitStatus() == handoff.ExitReboot:
		return outcome{action: reboot, reason: "the engine asks for it"}
	case ws.Exited() && ws.ExitStatus() == handoff.ExitPowerOff:
		return outcome{action: powerOff, reason: "the engine asks for it"}
	}
	return outcome{reason: "the engine ended unexpectedly: " + describe(ws), failed: true}
}

// ask notes that the machine is to go down; the first to ask is heard.
func (m *machine) ask(a action, who string) {
	m.log.Infof("%s: %v", who, a)
	select {
	case m.asked <- a:
	default:
	}
}

// catchSignals takes over Ctrl-Alt-Del and the signals that reboot(8), halt(8)
// and power failure daemons send to process 1.
func (m *machine) catchSignals(ctx context.Context) {
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_CAD_OFF) // SIGINT instead of a hard reset
	ch := make(chan os.Signal, 4)
	signal.Notify(ch, unix.SIGINT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2, unix.SIGPWR)
	m.background("signals", func() error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case s := <-ch:
				m.ask(askedBy(s), s.String())
			}
		}
	})
}

func askedBy(s os.Signal) action {
	if s == unix.SIGINT || s == unix.SIGTERM {
		return reboot
	}
	return powerOff
}

// failureWait is how long the reason of a failure stays on the console when no
// debug shell can be opened; PV_DEBUG_SHELL_TIMEOUT otherwise.
const failureWait = 5 * time.Second

// pause lets somebody read the reason of a failure and open the debug shell.
func (m *machine) pause() {
	wait := failureWait
	if m.config.Bool(config.DebugShell) && m.reaper != nil && m.console().Available() == nil {
		wait = m.config.Duration(config.DebugShellTimeout)
	}
	m.log.Infof("rebooting in %v", wait)
	select {
	case <-time.After(wait):
	case <-m.asked:
	}
}
