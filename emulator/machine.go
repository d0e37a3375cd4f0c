// Package emulator starts a composed image in QEMU: for `mage run`, which shows
// the console and powers the device down cleanly, and for the VM tests, which
// type on the console, ask the control API and cut the power.
//
// A [Machine] works on its own copy of the image, so the image under out/ is
// never changed. The copy, the firmware's variables and the sockets are in one
// directory, which a second machine can take over: that is a device that is switched
// on again.
package emulator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/filecopy"
	"github.com/pantavisor/pantavisor/internal/filelock"
	"github.com/pantavisor/pantavisor/internal/host"
	"github.com/pantavisor/pantavisor/internal/scratch"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
	"github.com/pantavisor/pantavisor/targets"
)

// portName is the virtio-serial port over which the host asks the control API.
const portName = "org.pantavisor.ctrl.0"

// Config describes a machine.
type Config struct {
	// Emulator is the target's machine: program, type, memory, firmware, devices. What it
	// leaves out gets the defaults of targets.
	Emulator targets.Emulator
	// Image is the disk image to start from. It is copied, holes stay holes.
	// Empty: a disk that is already in Dir, or none.
	Image string
	// Server is the path of a socket at which a server of the network block device protocol
	// answers; it has the disk then, in place of Image.
	Server string
	// Kernel, Initrd, DTB and Append boot without a boot loader: three files and the kernel's
	// command line. Without a DTB the machine has its own. Default: the firmware boots the disk.
	Kernel, Initrd, DTB, Append string
	// AppendAt is the offset of the boot partition of a U-Boot that boots from the disk: Append
	// is written to its oemEnv.txt when the working copy is made. Default: it is not.
	AppendAt int64
	// Dir holds the working copy and the sockets. Default: a temporary directory that
	// Close removes. Its path must be short: a socket's path has at most 107 bytes.
	Dir string
	// Keep is a directory in which disk and firmware's variables stay after the end. A disk
	// that is there is used in place of Image: that is a device that is switched on again.
	// Default: they are in Dir.
	Keep string
	// ImageSum is the SHA-256 of Image, which is noted beside a disk that stays; see
	// [KeptFrom]. Default: nothing is noted.
	ImageSum string
	// Accelerator is "tcg" or "kvm". Default: tcg.
	Accelerator string
	// Forward are ports of the host that lead to the device, beside those of Emulator.
	Forward []targets.Forward
	// NoNetwork leaves the network card out.
	NoNetwork bool
	// Saved is a file of Machine.Save from which the machine goes on, when Continue says so.
	// Default: it is switched on.
	Saved string
	// Paused has the machine wait for Continue with its first instruction.
	Paused bool
	// Args are appended to QEMU's command line.
	Args []string
}

// Machine is a running QEMU.
type Machine struct {
	// Console is the serial console.
	Console *Console
	// API asks the device's control API. It is nil when the machine has no channel for it.
	API *API

	cfg     Config
	dir     string
	own     *scratch.Dir   // nil when the directory was given
	kept    *filelock.Lock // of the directory of a disk that stays; nil without one
	cmd     *exec.Cmd
	qmp     *qmp
	stderr  tailWriter
	started time.Time

	done    chan struct{} // closed when QEMU has ended
	exitErr error         // valid after done
	once    sync.Once
}

// Disk returns the path of the working copy.
func (m *Machine) Disk() string { return filepath.Join(m.diskDir(), diskName) }

func (m *Machine) diskDir() string { return cmp.Or(m.cfg.Keep, m.dir) }

// dirPrefix begins the names of machines' temporary directories.
const dirPrefix = "pv-run-"

const (
	diskName = "disk.img"
	varsName = "vars.fd"
	sumName  = "image.sha256"
	treeName = "board.dtb"
	portSock = "ctrl.sock"
)

// Start makes the working copy and starts QEMU. The machine runs until the device
// powers off, Kill, or Close; ctx ends only the start. A missing program is of
// kind Missing (see [Missing]); QEMU's own complaint is in the error.
func Start(ctx context.Context, cfg Config) (*Machine, error) {
	cfg.Emulator = cfg.Emulator.Complete()
	m := &Machine{cfg: cfg, done: make(chan struct{})}
	if err := m.prepare(ctx); err != nil {
		m.removeDir()
		return nil, err
	}
	if err := m.launch(ctx); err != nil {
		m.removeDir()
		return nil, err
	}
	return m, nil
}

func (m *Machine) prepare(ctx context.Context) (err error) {
	m.dir = m.cfg.Dir
	if m.dir == "" {
		if m.own, err = scratch.New(dirPrefix); err != nil {
			return err
		}
		m.dir = m.own.Path
	}
	const maxSocket = 107 // sun_path without its NUL
	if n := len(filepath.Join(m.dir, portSock)); n > maxSocket {
		return fault.New(fault.BadInput, "directory %s: %d bytes too long for a socket in it", m.dir, n-maxSocket)
	}
	if err := os.Remove(filepath.Join(m.dir, portSock)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fault.Wrap(fault.IO, err, "removing an old socket")
	}
	if m.cfg.Keep != "" {
		if err := m.lockKept(); err != nil || exists(m.Disk()) {
			return err
		}
	}
	if m.cfg.Image == "" {
		return nil
	}
	return m.copyDisk(ctx)
}

// lockKept makes the directory of a disk that stays and keeps other machines off it.
func (m *Machine) lockKept() error {
	if err := os.MkdirAll(m.cfg.Keep, 0o755); err != nil {
		return fault.Wrap(fault.IO, err, "making the directory of the disk")
	}
	lock, err := filelock.Try(filepath.Join(m.cfg.Keep, "lock"), filelock.Options{Create: 0o644})
	if errors.Is(err, filelock.ErrHeld) {
		return fault.New(fault.BadInput, "another machine runs with the disk in %s: end it, or run without --keep", m.cfg.Keep)
	}
	if err != nil {
		return fault.Wrap(fault.IO, err, "locking the disk")
	}
	m.kept = lock
	return nil
}

// copyDisk makes the working copy; a copy that is interrupted leaves none.
func (m *Machine) copyDisk(ctx context.Context) error {
	_ = os.Remove(m.Disk()) // of an earlier run in this directory
	part := m.Disk() + ".part"
	if err := m.noteImage(); err != nil {
		return fault.Wrap(fault.IO, err, "noting the image of the disk")
	}
	err := filecopy.File(ctx, part, m.cfg.Image, 0o600)
	if err == nil && m.cfg.Emulator.Disk == "sd" {
		err = growToPowerOfTwo(part)
	}
	if err == nil && m.cfg.AppendAt != 0 {
		err = addOEM(part, m.cfg.AppendAt, m.cfg.Append)
	}
	if err == nil {
		err = os.Rename(part, m.Disk())
	}
	if err != nil {
		_ = os.Remove(part)
		return fault.Wrap(fault.IO, err, "copying %s for the machine", m.cfg.Image)
	}
	return nil
}

// noteImage writes beside a disk that stays which image it is made from.
func (m *Machine) noteImage() error {
	if m.cfg.Keep == "" || m.cfg.ImageSum == "" {
		return nil
	}
	return os.WriteFile(filepath.Join(m.cfg.Keep, sumName), []byte(m.cfg.ImageSum+"\n"), 0o644)
}

// KeptFrom returns the SHA-256 of the image that the disk in a directory for Config.Keep
// was made from, "" when there is no disk or its image is not known.
func KeptFrom(dir string) string {
	if !exists(filepath.Join(dir, diskName)) {
		return ""
	}
	sum, err := os.ReadFile(filepath.Join(dir, sumName))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(sum))
}

// launch starts the process with its ends of console and QMP as inherited
// sockets: nothing to wait for, nothing left behind.
func (m *Machine) launch(ctx context.Context) error {
	args, err := m.commandLine()
	if err != nil {
		return err
	}
	con, conFD, err := socketPair("console")
	if err != nil {
		return err
	}
	mon, monFD, err := socketPair("monitor")
	if err != nil {
		return errors.Join(err, con.Close(), conFD.Close())
	}
	m.cmd = exec.Command(program(m.cfg.Emulator), args...)
	m.cmd.ExtraFiles = []*os.File{conFD, monFD} // file descriptors 3 and 4
	m.cmd.Stderr = &m.stderr
	// Its own process group: a Ctrl-C on the terminal is for us, not for QEMU. It
	// dies with us, so that no machine is left running.
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	err = startFromLivingThread(m.cmd)
	_ = conFD.Close()
	_ = monFD.Close()
	if err != nil {
		_, _ = con.Close(), mon.Close()
		return startError(m.cfg.Emulator, err)
	}
	m.started = time.Now()
	m.Console = newConsole(con)
	go m.wait()
	if m.qmp, err = openQMP(ctx, mon); err != nil {
		m.Kill()
		return fault.New(fault.IO, "starting %s: %w\n%s", program(m.cfg.Emulator), err, m.stderr.String())
	}
	if err = m.openChannel(ctx); err != nil {
		m.Kill()
	}
	return err
}

// openChannel makes the API of a machine that has a channel for it.
func (m *Machine) openChannel(ctx context.Context) (err error) {
	open := unixDialer(filepath.Join(m.dir, portSock))
	if onSerial(m.cfg.Emulator) {
		open, err = serialDialer(ctx, filepath.Join(m.dir, portSock))
	}
	if hasChannel(m.cfg.Emulator) {
		m.API = newAPI(open, m.done)
	}
	return err
}

// startFromLivingThread starts cmd from a thread that never ends while the
// process lives: Pdeathsig is sent when the starting thread ends.
func startFromLivingThread(cmd *exec.Cmd) error {
	starter.once.Do(func() {
		starter.work = make(chan func())
		go starterThread()
	})
	result := make(chan error)
	starter.work <- func() { result <- cmd.Start() }
	return <-result
}

var starter struct {
	once sync.Once
	work chan func()
}

func startError(e targets.Emulator, err error) error {
	if errors.Is(err, exec.ErrNotFound) {
		return fault.New(fault.Missing, "%s is not installed; type: %s", program(e), host.Command(e.Packages))
	}
	return fault.Wrap(fault.IO, err, "starting %s", program(e))
}

func (m *Machine) wait() {
	err := m.cmd.Wait()
	if err != nil {
		if text := m.stderr.String(); text != "" {
			err = fmt.Errorf("%w\n%s", err, text)
		}
		m.exitErr = fault.New(fault.IO, "%s ended: %w", program(m.cfg.Emulator), err)
	}
	close(m.done)
}

// Powerdown presses the power button. The device then shuts down by itself; see Wait.
func (m *Machine) Powerdown(ctx context.Context) error {
	return m.qmp.execute(ctx, "system_powerdown")
}

// Reset pulls the reset line: the guest starts anew, its memory is lost.
func (m *Machine) Reset(ctx context.Context) error { return m.qmp.execute(ctx, "system_reset") }

// Kill cuts the power and waits until QEMU is gone.
func (m *Machine) Kill() {
	_ = m.cmd.Process.Kill()
	<-m.done
}

// Wait waits until the machine is off. A power-off by the device is not an error; QEMU
// dying by itself is.
func (m *Machine) Wait(ctx context.Context) error {
	select {
	case <-m.done:
		return m.exitErr
	case <-ctx.Done():
		return fmt.Errorf("waiting for the device to power off: %w", ctx.Err())
	}
}

// Done is closed when the machine is off.
func (m *Machine) Done() <-chan struct{} { return m.done }

// Uptime is the time since QEMU was started.
func (m *Machine) Uptime() time.Duration { return time.Since(m.started) }

// PID is QEMU's process ID, for measuring.
func (m *Machine) PID() int { return m.cmd.Process.Pid }

// CanPowerOff reports whether the machine has a way to ask its device to power off: a
// power button or a channel to the control API.
func (m *Machine) CanPowerOff() bool { return m.cfg.Emulator.PowerButton() || m.API != nil }

// askAgain is the pause between two requests to power off: firmware, a boot loader and a
// kernel that begins or ends do not hear one.
const askAgain = 3 * time.Second

// presses are how often the power button is pressed before the control API is asked too: not
// every kernel has a driver for the button.
const presses = 4

// Shutdown powers the device down cleanly: it presses the power button, or asks the
// control API where there is none, again and again until the machine is off, but for at
// most patience; then it cuts the power and says so in the error. It cuts the power at once
// when ctx ends.
func (m *Machine) Shutdown(ctx context.Context, patience time.Duration) error {
	bounded, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	halted := m.halted(bounded)
	for n := 0; ; n++ {
		err := m.askPowerOff(bounded, n >= presses)
		if err != nil && bounded.Err() == nil {
			select {
			case <-m.done: // it was about to be off
				return m.exitErr
			case <-time.After(attempt):
			}
			m.Kill()
			return fault.Wrap(fault.IO, err, "pressing the power button")
		}
		select {
		case <-m.done:
			return m.exitErr
		case <-halted:
			m.Kill() // it is off, and its machine would stay on
			return nil
		case <-time.After(askAgain):
		case <-bounded.Done():
			m.Kill()
			if ctx.Err() != nil {
				return fault.Wrap(fault.Cancelled, context.Cause(ctx), "waiting for the device to power off")
			}
			return fault.New(fault.Goal, "the device did not power off within %v; its power was cut", patience)
		}
	}
}

// halts are the last lines of a kernel that has shut its devices down (kernel/reboot.c), and
// the line of init behind the last unmount, whose end a terminal may send twice: the raspi0
// machine stops in the kernel's shutdown.
var halts = []string{"reboot: Power down", "reboot: System halted", "init: power off\r"}

// halted returns a channel that is closed when the console says so on a machine that stays on
// then; nil for other machines.
func (m *Machine) halted(ctx context.Context) <-chan struct{} {
	if !m.cfg.Emulator.StaysOn() {
		return nil
	}
	out := make(chan struct{})
	from := m.Console.end()
	go func() {
		if m.Console.waitFor(ctx, from, halts) {
			close(out)
		}
	}()
	return out
}

func (m *Machine) askPowerOff(ctx context.Context, bothWays bool) error {
	button := m.cfg.Emulator.PowerButton()
	if !button && m.API == nil {
		return fault.New(fault.Unsupported, "the machine %s has neither a power button nor a channel to its device", m.cfg.Emulator.Name)
	}
	if button {
		if err := m.Powerdown(ctx); err != nil {
			return err
		}
	}
	if m.API != nil && (bothWays || !button) {
		ctx, cancel := context.WithTimeout(ctx, attempt)
		defer cancel()
		_ = m.API.Command(ctx, api.OpPowerOff, "") // it may be off before it has answered
	}
	return nil
}

// Close cuts the power if it is still on and removes the directory if Start made it.
func (m *Machine) Close() {
	m.once.Do(func() {
		m.Kill()
		m.qmp.close()
		m.Console.close()
		m.removeDir()
	})
}

func (m *Machine) removeDir() {
	m.own.Remove()
	if m.kept != nil {
		m.kept.Unlock()
		m.kept = nil
	}
}
