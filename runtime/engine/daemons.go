package engine

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/runtime/config"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
	"github.com/pantavisor/pantavisor/runtime/logs"
)

// daemonPause is the time between a daemon's end and its next start.
const daemonPause = 5 * time.Second

// daemon is a program that the runtime keeps running (manual: Local control, daemons).
// Its mutex is that of its list.
type daemon struct {
	name    string
	args    []string // the first is the program
	respawn bool
	idle    bool        // not run in this init mode
	process *os.Process // nil when it is down
}

// daemons are the managed daemons. They are few and change rarely, so one goroutine
// waits for each.
type daemons struct {
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

// newDaemons lists the daemons of an init mode, none of which runs yet. The mesh has
// its place in the list, because tools ask for it by name.
func newDaemons(mode, usr string, log logs.Logger) *daemons {
	d := &daemons{log: log, pause: daemonPause, output: func(string, logs.Level, string) {}}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	d.list = []*daemon{
		{name: "hwrngd", args: []string{usr + "/bin/rngd", "-f"}, respawn: true, idle: mode == "appengine"},
		{name: "pv-xconnect", args: []string{usr + "/bin/pv-xconnect"}, respawn: true},
	}
	return d
}

// start starts what should run. A program that the device does not have turns
// respawning off.
func (d *daemons) start() {
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

// spawn starts a daemon that is down; the list is locked.
func (d *daemons) spawn(one *daemon) error {
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
func (d *daemons) read(f *os.File, source string, level logs.Level) {
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		d.output(source, level, lines.Text())
	}
	_, _ = io.Copy(io.Discard, f) // a line too long ends the scanner, not the daemon
}

// wait waits for a daemon's end, and starts it again after a pause if it should run.
func (d *daemons) wait(one *daemon, process *os.Process) {
	state, err := process.Wait()
	d.mu.Lock()
	one.process = nil
	again := one.respawn && !d.stopped
	d.mu.Unlock()
	d.log.Infof("daemon %s ended: %v", one.name, orElse(errorText(err), fmt.Sprint(state)))
	if !again {
		return
	}
	select {
	case <-d.ctx.Done():
	case <-time.After(d.pause):
		d.start()
	}
}

// stop ends all daemons and waits for them.
func (d *daemons) stop() {
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

// show lists the daemons for GET /daemons.
func (d *daemons) show() []api.Daemon {
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
	return out
}

// act starts or stops a daemon.
func (d *daemons) act(name, action string) error {
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

// startDaemons starts the managed daemons; their output goes to the log.
func (s *session) startDaemons() {
	s.daemons = newDaemons(s.cfg.Enum(config.SystemInitMode), orElse(s.cfg.String(config.SystemUsrDir), "/usr"), s.log.Named("daemons"))
	s.daemons.output = func(source string, level logs.Level, line string) { s.logs.Log(logs.Runtime, source, level, line) }
	s.daemons.start()
}

// Daemons implements ctrl.Engine.
func (a backends) Daemons() ([]api.Daemon, error) { return a.daemons.show(), nil }

// DaemonAction implements ctrl.Engine.
func (a backends) DaemonAction(name, action string) error { return a.daemons.act(name, action) }
