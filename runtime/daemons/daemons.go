// Package daemons keeps the device's own programs running (manual: Local control,
// daemons).
package daemons

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
	"github.com/pantavisor/pantavisor/runtime/logs"
)

// restartPause is the time between a daemon's end and its next start.
const restartPause = 5 * time.Second

// daemon is a program that the runtime keeps running. The mutex of its list protects it.
type daemon struct {
	name    string
	args    []string // the first is the program
	respawn bool
	idle    bool        // not run in this init mode
	process *os.Process // nil when it does not run
}

// Daemons are the managed daemons. One goroutine waits for each that runs.
type Daemons struct {
	log    logs.Logger
	output func(source string, level logs.Level, line string)
	pause  time.Duration

	mu      sync.Mutex
	list    []*daemon
	stopped bool
	ctx     context.Context // ends all pauses
	cancel  context.CancelFunc
	wg      sync.WaitGroup
}

// New returns the daemons of an init mode (PV_SYSTEM_INIT_MODE), none of which runs yet.
// usr is the directory that has bin/; output is called with each line that one prints.
// The service mesh is listed even without its program, because tools ask for it by name.
func New(mode, usr string, log logs.Logger, output func(source string, level logs.Level, line string)) *Daemons {
	d := &Daemons{log: log, pause: restartPause, output: output}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	d.list = []*daemon{
		{name: "hwrngd", args: []string{usr + "/bin/rngd", "-f"}, respawn: true, idle: mode == "appengine"},
		{name: "pv-xconnect", args: []string{usr + "/bin/pv-xconnect"}, respawn: true},
	}
	return d
}

// Start starts the daemons of this mode. A daemon whose program the device lacks is not
// respawned.
func (d *Daemons) Start() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, one := range d.list {
		if one.respawn {
			if err := d.spawn(one); err != nil {
				d.log.Debugf("daemon %s: %v", one.name, err)
			}
		}
	}
}

// spawn starts a daemon that does not run; the caller holds the lock.
func (d *Daemons) spawn(one *daemon) error {
	if one.process != nil || d.stopped || one.idle {
		return nil
	}
	if _, err := os.Stat(one.args[0]); err != nil {
		one.respawn = false
		return err
	}
	out, outEnd, err := os.Pipe()
	if err != nil {
		return err
	}
	bad, badEnd, err := os.Pipe()
	if err != nil {
		_, _ = out.Close(), outEnd.Close()
		return err
	}
	one.process, err = os.StartProcess(one.args[0], one.args, &os.ProcAttr{Dir: "/", Env: os.Environ(), Files: []*os.File{nil, outEnd, badEnd}})
	_, _ = outEnd.Close(), badEnd.Close()
	d.wg.Go(func() { d.read(out, one.name+"-out", logs.Info) })
	d.wg.Go(func() { d.read(bad, one.name+"-err", logs.Warn) })
	if err != nil {
		one.respawn = false
		return err
	}
	d.log.Infof("daemon %s runs as process %d", one.name, one.process.Pid)
	process := one.process
	d.wg.Go(func() { d.wait(one, process) })
	return nil
}

// read logs what a daemon prints, until it ends.
func (d *Daemons) read(f *os.File, source string, level logs.Level) {
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		d.output(source, level, lines.Text())
	}
	_, _ = io.Copy(io.Discard, f) // an overlong line ends the scanner: the daemon must not block
}

// wait waits for a daemon's end, and starts it again after a pause if it should run.
func (d *Daemons) wait(one *daemon, process *os.Process) {
	state, err := process.Wait()
	d.mu.Lock()
	one.process = nil
	again := one.respawn && !d.stopped
	d.mu.Unlock()
	d.log.Infof("daemon %s ended: %v", one.name, ending(state, err))
	if !again {
		return
	}
	select {
	case <-d.ctx.Done():
	case <-time.After(d.pause):
		d.Start()
	}
}

func ending(state *os.ProcessState, err error) string {
	if err != nil {
		return err.Error()
	}
	return state.String()
}

// stopGrace is how long a daemon may take to end after it was asked to.
const stopGrace = 5 * time.Second

// Stop ends all daemons and waits for them.
func (d *Daemons) Stop() {
	d.mu.Lock()
	d.stopped = true
	for _, one := range d.list {
		one.signal(unix.SIGTERM)
	}
	d.mu.Unlock()
	d.cancel()
	late := time.AfterFunc(stopGrace, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		for _, one := range d.list {
			one.signal(unix.SIGKILL)
		}
	})
	d.wg.Wait()
	late.Stop()
}

func (one *daemon) signal(sig unix.Signal) {
	if one.process != nil {
		_ = one.process.Signal(sig) // it may just have ended
	}
}

// Daemons lists the daemons.
func (d *Daemons) Daemons() ([]api.Daemon, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := make([]api.Daemon, 0, len(d.list))
	for _, one := range d.list {
		pid := 0
		if one.process != nil {
			pid = one.process.Pid
		}
		out = append(out, api.Daemon{Name: one.name, PID: pid, Respawn: one.respawn})
	}
	return out, nil
}

// DaemonAction starts or stops a daemon, action being "start" or "stop".
func (d *Daemons) DaemonAction(name, action string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, one := range d.list {
		if one.name != name {
			continue
		}
		if one.respawn = action == "start"; !one.respawn {
			one.signal(unix.SIGTERM)
			return nil
		}
		if one.idle {
			return &api.Error{Status: 501, Text: fmt.Sprintf("Daemon %s is not run in this init mode", name)}
		}
		if err := d.spawn(one); err != nil {
			return &api.Error{Status: 501, Text: fmt.Sprintf("Daemon %s is not available on this device: %v", name, err)}
		}
		return nil
	}
	return &api.Error{Status: 404, Text: "Daemon not found"}
}
