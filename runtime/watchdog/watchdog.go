// Package watchdog keeps the hardware watchdog fed, as PV_WDT_MODE says (manual:
// Watchdog):
//
//	mode     | while starting | while running | while rebooting | while powering off
//	---------+----------------+---------------+-----------------+-------------------
//	disabled | off            | off           | off             | off
//	shutdown | off            | off           | fed             | off
//	startup  | fed            | off           | fed             | off
//	always   | fed            | fed           | fed             | fed
//
// "Off" after "fed" is a magic close, which stops the hardware's timer and lets a
// container take the device, unless the driver was built with nowayout. The feed
// of process 1 in the end stops when the kernel restarts the machine; a machine
// that hangs in its shutdown is reset.
package watchdog

import (
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Mode is PV_WDT_MODE.
type Mode string

// The modes of the table above.
const (
	Disabled Mode = "disabled"
	Shutdown Mode = "shutdown"
	Startup  Mode = "startup"
	Always   Mode = "always"
)

// Stage is where the device's life stands.
type Stage int

// The stages of the table above.
const (
	Starting Stage = iota
	Running
	Rebooting
	PoweringOff
)

// Fed reports whether a watchdog is fed in a stage.
func (m Mode) Fed(s Stage) bool {
	switch m {
	case Always:
		return true
	case Startup:
		return s == Starting || s == Rebooting
	case Shutdown:
		return s == Rebooting
	}
	return false
}

// Device is the path of the watchdog that the kernel calls the first.
const Device = "/dev/watchdog"

// Keeper feeds one watchdog. Its methods may be called from any goroutine.
type Keeper struct {
	path    string
	mode    Mode
	timeout time.Duration

	mu   sync.Mutex
	file *os.File
	stop chan struct{}
	done chan struct{}
}

// New returns a keeper that has opened nothing yet. timeout is the time without
// feed after which the hardware resets the device; whole seconds, at least 1.
func New(path string, mode Mode, timeout time.Duration) *Keeper {
	return &Keeper{path: path, mode: mode, timeout: max(timeout, time.Second)}
}

// Enter tells the keeper a stage: it starts or stops feeding. A device that is
// not there is an error, which does not stop anything else from working; the next
// stage tries again.
func (k *Keeper) Enter(s Stage) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	fed := k.mode.Fed(s)
	switch {
	case fed && k.file == nil:
		return k.start()
	case !fed && k.file != nil:
		return k.end()
	}
	return nil
}

func (k *Keeper) start() error {
	f, err := os.OpenFile(k.path, os.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening the watchdog: %w", err)
	}
	// A driver with a fixed timeout refuses; it is asked which one it has.
	_ = unix.IoctlSetPointerInt(int(f.Fd()), unix.WDIOC_SETTIMEOUT, int(k.timeout/time.Second))
	timeout := k.timeout
	if n, err := unix.IoctlGetInt(int(f.Fd()), unix.WDIOC_GETTIMEOUT); err == nil && n > 0 {
		timeout = time.Duration(n) * time.Second
	}
	k.file, k.stop, k.done = f, make(chan struct{}), make(chan struct{})
	go feed(f, timeout/3, k.stop, k.done)
	return nil
}

// feed writes a byte at once and then at every interval.
func feed(f *os.File, every time.Duration, stop <-chan struct{}, done chan<- struct{}) {
	defer close(done)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		_, _ = f.Write([]byte{0}) // a feed that fails is what the hardware acts on
		select {
		case <-tick.C:
		case <-stop:
			return
		}
	}
}

// end closes with the magic character (kernel documentation, "The Linux Watchdog
// driver API").
func (k *Keeper) end() error {
	close(k.stop)
	<-k.done
	f := k.file
	k.file = nil
	_, werr := f.Write([]byte("V"))
	if err := f.Close(); err != nil || werr != nil {
		return fmt.Errorf("closing the watchdog: %w", firstOf(werr, err))
	}
	return nil
}

func firstOf(a, b error) error {
	if a != nil {
		return a
	}
	return b
}
