// Package watchdog feeds the hardware watchdog according to PV_WDT_MODE (manual:
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
// container open the device, unless the driver was built with nowayout. While
// rebooting, process 1 feeds until the kernel restarts the machine; a machine that
// hangs then is reset.
//
// Process 1 feeds from a goroutine that does nothing else. What takes long - installing a
// revision, hashing its objects, collecting garbage - is the engine's, another process, and
// cannot delay it, nor can process 1's own work.
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

// Stage is a stage of the device's operation.
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

// Device is the path of the first watchdog.
const Device = "/dev/watchdog"

// Keeper feeds one watchdog. Its methods are safe for concurrent use.
type Keeper struct {
	path    string
	mode    Mode
	timeout time.Duration

	mu   sync.Mutex
	file *os.File
	stop chan struct{}
	done chan struct{}
}

// New returns a keeper; [Keeper.Enter] opens the device. timeout is the time without
// feed after which the hardware resets the machine; whole seconds, at least 1.
func New(path string, mode Mode, timeout time.Duration) *Keeper {
	return &Keeper{path: path, mode: mode, timeout: max(timeout, time.Second)}
}

// Enter starts or stops feeding for a stage. When the device does not exist, it returns
// an error, and the next stage tries again.
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
	// A driver with a fixed timeout returns an error; ask for its timeout.
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
		_, _ = f.Write([]byte{0}) // when it fails, the hardware resets the machine
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
