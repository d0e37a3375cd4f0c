// Package init is process 1 of a device. It does little, so that little can go
// wrong in it: it prepares the machine in named phases, starts the engine as a
// process of its own, reaps orphans, and takes the machine down cleanly.
//
// Process 1 never exits and never panics the kernel. Whatever ends the engine or
// a phase unexpectedly is written to the console and the kernel log, and the
// machine reboots: the boot loader's try logic then decides which revision comes
// up.
//
//	what happens                         | what process 1 does
//	-------------------------------------+--------------------------------------------
//	engine exits with 0                  | clean shutdown, reboot
//	engine exits with 3                  | clean shutdown, power off
//	engine exits otherwise, or by signal | reason logged, clean shutdown, reboot
//	a phase fails                        | reason logged, debug shell if allowed, reboot
//	Ctrl-Alt-Del, SIGINT, SIGTERM        | SIGTERM to the engine (stop and reboot)
//	power button, SIGUSR1/2, SIGPWR      | SIGINT to the engine (stop and power off)
//	engine does not stop in time         | shutdown goes on without it
package init

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/runtime/boot"
	"github.com/pantavisor/pantavisor/runtime/config"
	"github.com/pantavisor/pantavisor/runtime/handoff"
	"github.com/pantavisor/pantavisor/runtime/logs"
	"github.com/pantavisor/pantavisor/runtime/modules"
	"github.com/pantavisor/pantavisor/runtime/watchdog"
)

// gcPercent keeps the heap of process 1 near what it really uses.
const gcPercent = 20

// Run is process 1; args are the kernel's words for init. It returns only when
// this process is not process 1.
func Run(ctx context.Context, args []string, _ io.Reader, _, stderr io.Writer) int {
	if os.Getpid() != 1 {
		_, _ = fmt.Fprintln(stderr, "pantavisor init: this is for process 1; the kernel starts it (rdinit=)")
		return 1
	}
	runtime.GOMAXPROCS(1)
	debug.SetGCPercent(gcPercent)
	m := newMachine(args)
	m.end(m.live(ctx))
	select {} // the kernel is restarting the machine
}

// A machine is what process 1 knows.
type machine struct {
	args     []string
	bootCPU  uint64 // clock ticks
	journal  *journal
	log      logs.Logger
	reaper   *reaper
	modules  *modules.Loader
	config   *config.Config
	watchdog *watchdog.Keeper
	running  boot.Running
	storage  string      // mount point, "" while not mounted
	device   string      // block device of the storage
	seen     *sighting   // of the storage while the early modules were loaded
	asked    chan action // reboot or power off asked for from outside
	crashed  chan string // a goroutine of process 1 panicked
	stop     context.CancelFunc
}

func newMachine(args []string) *machine {
	j := newJournal()
	return &machine{args: args, journal: j, log: logs.Logger{Sink: j, Source: "init"}, config: config.New(),
		watchdog: watchdog.New(watchdog.Device, watchdog.Disabled, 0), stop: func() {},
		asked: make(chan action, 1), crashed: make(chan string, 1)}
}

// A phase is one named part of the way up.
type phase struct {
	name string
	run  func(*machine, context.Context) error
}

// phases in the order of the boot.
var phases = []phase{
	{"early mounts", (*machine).earlyMounts},
	{"reaping", (*machine).startReaping},
	{"configuration", (*machine).configure},
	{"early modules", (*machine).earlyModules},
	{"watchdog", (*machine).startWatchdog},
	{"debug shell", (*machine).offerShell},
	{"storage", (*machine).mountStorage},
	{"modules of the revision", (*machine).mountModules},
}

// action is how the machine ends.
type action int

const (
	reboot action = iota
	powerOff
)

// String names the action as the console shows it.
func (a action) String() string {
	if a == powerOff {
		return "power off"
	}
	return "reboot"
}

// outcome is why and how the machine ends.
type outcome struct {
	action action
	reason string
	failed bool // not what anybody asked for
}

// live runs the phases and then watches the engine. It returns when the machine
// is to go down; a defect of process 1 itself counts as a failed phase.
func (m *machine) live(ctx context.Context) (out outcome) {
	defer func() {
		if r := recover(); r != nil {
			out = outcome{reason: fmt.Sprintf("defect in process 1: %v\n%s", r, debug.Stack()), failed: true}
		}
	}()
	ctx, m.stop = context.WithCancel(ctx)
	for _, p := range phases {
		began, used := time.Now(), cpuTime()
		if err := p.run(m, ctx); err != nil {
			return outcome{reason: fmt.Sprintf("%s: %v", p.name, err), failed: true}
		}
		m.log.Debugf("%s took %d ms, %d ms of CPU", p.name, time.Since(began).Milliseconds(), (cpuTime() - used).Milliseconds())
	}
	return m.supervise(ctx)
}

// background runs a part of process 1 beside the rest. A panic in it ends the
// machine in order instead of panicking the kernel.
func (m *machine) background(name string, run func() error) {
	go func() {
		defer func() {
			if r := recover(); r != nil {
				select {
				case m.crashed <- fmt.Sprintf("defect in %s: %v\n%s", name, r, debug.Stack()):
				default:
				}
			}
		}()
		if err := run(); err != nil {
			m.log.Named(name).Debugf("%v", err)
		}
	}()
}

// environment is what the engine gets: the kernel's for init, and the hand-over.
func (m *machine) environment(earlyLog, notify int) []string {
	var env []string
	for _, e := range os.Environ() {
		if len(e) < 7 || e[:7] != "pv_rev=" {
			env = append(env, e)
		}
	}
	return append(env,
		fmt.Sprintf("%s=%d", handoff.EnvEarlyLog, earlyLog),
		fmt.Sprintf("%s=%d", handoff.EnvNotify, notify),
		fmt.Sprintf("%s=%d", handoff.EnvBootCPU, m.bootCPU),
		handoff.EnvRevision+"="+m.running.Rev,
		"PATH=/usr/sbin:/usr/bin:/sbin:/bin")
}

// cpuTime is what this process has used, in user space and in the kernel.
func cpuTime() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// uptime is the time since the machine started.
func uptime() time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
