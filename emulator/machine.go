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
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/filecopy"
	"github.com/pantavisor/pantavisor/internal/filelock"
	"github.com/pantavisor/pantavisor/internal/host"
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
	// Kernel, Initrd, DTB and Append boot without a boot loader: three files and the kernel's
	// command line. Without a DTB the machine has its own. Default: the firmware boots the disk.
	Kernel, Initrd, DTB, Append string
	// Dir holds the working copy and the sockets. Default: a temporary directory that
	// Close removes. Its path must be short: a socket's path has at most 107 bytes.
	Dir string
	// Accelerator is "tcg" or "kvm". Default: tcg.
	Accelerator string
	// Forward are host ports in the form of QEMU's hostfwd, "tcp:127.0.0.1:8222-:8222".
	Forward []string
	// NoNetwork leaves the network card out.
	NoNetwork bool
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
	ownDir  bool
	lock    *filelock.Lock // held while the directory is in use
	cmd     *exec.Cmd
	qmp     *qmp
	stderr  tailWriter
	started time.Time

	done    chan struct{} // closed when QEMU has ended
	exitErr error         // valid after done
	once    sync.Once
}

// Disk returns the path of the working copy.
func (m *Machine) Disk() string { return filepath.Join(m.dir, diskName) }

const (
	diskName = "disk.img"
	varsName = "vars.fd"
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
		if m.dir, m.lock, err = makeDir(); err != nil {
			return err
		}
		m.ownDir = true
	}
	const maxSocket = 107 // sun_path without its NUL
	if n := len(filepath.Join(m.dir, portSock)); n > maxSocket {
		return fault.New(fault.BadInput, "directory %s: %d bytes too long for a socket in it", m.dir, n-maxSocket)
	}
	if err := os.Remove(filepath.Join(m.dir, portSock)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fault.Wrap(fault.IO, err, "removing an old socket")
	}
	if m.cfg.Image == "" {
		return nil
	}
	_ = os.Remove(m.Disk()) // of an earlier run in this directory
	if err := filecopy.File(ctx, m.Disk(), m.cfg.Image, 0o600); err != nil {
		return fault.Wrap(fault.IO, err, "copying %s for the machine", m.cfg.Image)
	}
	if m.cfg.Emulator.Disk != "sd" {
		return nil
	}
	return fault.Wrap(fault.IO, growToPowerOfTwo(m.Disk()), "growing the card of the machine")
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
	if hasChannel(m.cfg.Emulator) {
		m.API = newAPI(filepath.Join(m.dir, portSock), m.done)
	}
	return nil
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

// Shutdown powers the device down cleanly: it presses the power button, or asks the
// control API where there is none, and waits for at most patience; then it cuts the power
// and says so in the error.
func (m *Machine) Shutdown(ctx context.Context, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := m.askPowerOff(ctx); err != nil {
		select {
		case <-m.done: // it was off already
			return m.exitErr
		default:
		}
		m.Kill()
		return fault.Wrap(fault.IO, err, "pressing the power button")
	}
	if err := m.Wait(ctx); ctx.Err() != nil {
		m.Kill()
		return fault.New(fault.Goal, "the device did not power off within %v; its power was cut", patience)
	} else if err != nil {
		return err
	}
	return nil
}

func (m *Machine) askPowerOff(ctx context.Context) error {
	switch {
	case m.cfg.Emulator.PowerButton():
		return m.Powerdown(ctx)
	case m.API != nil:
		_ = m.API.Command(ctx, api.OpPowerOff, "") // it may be off before it has answered
		return nil
	}
	return fault.New(fault.Unsupported, "the machine %s has neither a power button nor a channel to its device", m.cfg.Emulator.Name)
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
	if m.ownDir {
		_ = os.RemoveAll(m.dir)
		m.lock.Unlock()
	}
}
