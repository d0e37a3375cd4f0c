// Package emulator starts a composed image in QEMU: for `mage run`, which shows
// the console and powers the device down cleanly, and for the VM tests, which
// type on the console, ask the control API and cut the power.
//
// A [Machine] works on its own copy of the image, so the image under out/ is
// never changed. The copy, the firmware's variables and the sockets are in one
// folder, which a second machine can take over: that is a device that is switched
// on again.
package emulator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/filecopy"
	"github.com/pantavisor/pantavisor/internal/filelock"
	"github.com/pantavisor/pantavisor/internal/host"
	"github.com/pantavisor/pantavisor/targets"
)

// PortName is the virtio-serial port over which the host asks the control API.
const PortName = "org.pantavisor.ctrl.0"

// Config describes a machine.
type Config struct {
	// Emulator is the target's machine: program, type, memory, firmware.
	Emulator targets.Emulator
	// Image is the disk image to start from. It is copied, holes stay holes.
	// Empty: a disk that is already in Dir, or none.
	Image string
	// Kernel, Initrd and Append boot without a boot loader. Default: the firmware
	// boots the disk.
	Kernel, Initrd, Append string
	// Dir holds the working copy and the sockets. Default: a temporary folder that
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
	// API asks the device's control API.
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
		return fault.New(fault.BadInput, "folder %s: %d bytes too long for a socket in it", m.dir, n-maxSocket)
	}
	if err := os.Remove(filepath.Join(m.dir, portSock)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fault.Wrap(fault.IO, err, "removing an old socket")
	}
	if m.cfg.Image == "" {
		return nil
	}
	_ = os.Remove(m.Disk()) // of an earlier run in this directory
	return fault.Wrap(fault.IO, filecopy.File(ctx, m.Disk(), m.cfg.Image, 0o600), "copying %s for the machine", m.cfg.Image)
}

// launch starts the process with its ends of console and QMP as inherited
// sockets: nothing to wait for, nothing left behind.
func (m *Machine) launch(ctx context.Context) error {
	args, err := m.arguments()
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
	m.API = newAPI(filepath.Join(m.dir, portSock), m.done)
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

func program(e targets.Emulator) string { return "qemu-system-" + e.System }

// arguments makes QEMU's command line.
func (m *Machine) arguments() ([]string, error) {
	e, accel := m.cfg.Emulator, m.cfg.Accelerator
	if accel == "" {
		accel = "tcg"
	}
	args := []string{
		"-nodefaults", "-display", "none", "-no-user-config",
		"-machine", e.Machine, "-accel", accel, "-m", strconv.Itoa(e.Memory),
		"-chardev", "socket,id=console,fd=3", "-serial", "chardev:console",
		"-chardev", "socket,id=monitor,fd=4", "-mon", "chardev=monitor,mode=control",
		"-device", "virtio-serial-pci",
		"-chardev", "socket,id=ctrl,server=on,wait=off,path=" + comma(filepath.Join(m.dir, portSock)),
		"-device", "virtserialport,chardev=ctrl,name=" + PortName,
		"-device", "virtio-rng-pci",
	}
	switch {
	case accel == "kvm":
		args = append(args, "-cpu", "host")
	case e.CPU != "":
		args = append(args, "-cpu", e.CPU)
	}
	args = append(args, m.disk()...)
	args = append(args, m.network()...)
	if m.cfg.Kernel != "" {
		return append(append(args, m.directBoot()...), m.cfg.Args...), nil
	}
	fw, err := m.firmware()
	if err != nil {
		return nil, err
	}
	return append(append(args, fw...), m.cfg.Args...), nil
}

// disk attaches the working copy. The host's page cache outlives QEMU, so a kill
// loses no more than a power cut of the guest would: flushes need no fsync.
func (m *Machine) disk() []string {
	if _, err := os.Stat(m.Disk()); err != nil {
		return nil
	}
	device := "virtio-blk-pci,drive=disk"
	if m.cfg.Kernel == "" { // else a kernel of our own has the first place
		device += ",bootindex=0"
	}
	return []string{
		"-drive", "if=none,id=disk,format=raw,cache=unsafe,discard=unmap,file=" + comma(m.Disk()),
		"-device", device,
	}
}

func (m *Machine) network() []string {
	if m.cfg.NoNetwork {
		return nil
	}
	user := "user,id=net"
	for _, f := range m.cfg.Forward {
		user += ",hostfwd=" + f
	}
	// Without its ROM the card prints no banner on the console.
	return []string{"-netdev", user, "-device", "virtio-net-pci,netdev=net,romfile="}
}

func (m *Machine) directBoot() []string {
	args := []string{"-kernel", m.cfg.Kernel}
	if m.cfg.Initrd != "" {
		args = append(args, "-initrd", m.cfg.Initrd)
	}
	if m.cfg.Append != "" {
		args = append(args, "-append", m.cfg.Append)
	}
	return args
}

// firmware attaches UEFI with its variables, which live as long as the disk.
func (m *Machine) firmware() ([]string, error) {
	if m.cfg.Emulator.Firmware != "uefi" {
		return nil, nil
	}
	code, vars, err := findOVMF()
	if err != nil {
		return nil, err
	}
	own := filepath.Join(m.dir, varsName)
	if _, err := os.Stat(own); err != nil {
		if err := filecopy.File(context.Background(), own, vars, 0o600); err != nil {
			return nil, fault.Wrap(fault.IO, err, "copying the firmware's variables")
		}
	}
	return []string{
		"-drive", "if=pflash,format=raw,readonly=on,file=" + comma(code),
		"-drive", "if=pflash,format=raw,file=" + comma(own),
	}, nil
}

// comma doubles the commas of a path, as QEMU's options want it.
func comma(path string) string {
	return string(bytes.ReplaceAll([]byte(path), []byte(","), []byte(",,")))
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

// Wait waits until the machine is off. A power-off by the device is no error; QEMU
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

// Shutdown powers the device down cleanly: it presses the power button and waits
// for at most patience; then it cuts the power and says so in the error.
func (m *Machine) Shutdown(ctx context.Context, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := m.Powerdown(ctx); err != nil {
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

// Close cuts the power if it is still on and removes the folder if Start made it.
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
