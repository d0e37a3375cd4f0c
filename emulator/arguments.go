package emulator

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/filecopy"
	"github.com/pantavisor/pantavisor/targets"
)

// The file descriptors that QEMU inherits.
const (
	consoleFD = "3"
	monitorFD = "4"
)

func program(e targets.Emulator) string { return "qemu-system-" + e.System }

func hasChannel(e targets.Emulator) bool { return e.Channel != "" && e.Channel != "none" }

// onSerial reports whether the channel is a serial line, which carries frames.
func onSerial(e targets.Emulator) bool { return e.Channel == "serial" }

// serialWord is the kernel argument with the device's name of the channel's serial port.
const serialWord = "pv_hostport="

// channelPort is the number of the serial port for the channel: the first without the console.
func channelPort(e targets.Emulator) int {
	if e.Serial == 0 {
		return 1
	}
	return 0
}

// files are what lies in the machine's directory and on the host.
type files struct {
	disk       string // "": none
	socket     string // of the channel
	code, vars string // UEFI
	dtb        string // in place of the target's own; "": that one
}

// commandLine finds the files and makes QEMU's arguments.
func (m *Machine) commandLine() ([]string, error) {
	f := files{socket: filepath.Join(m.dir, portSock)}
	if exists(m.Disk()) {
		f.disk = m.Disk()
	}
	if onSerial(m.cfg.Emulator) && m.cfg.DTB != "" {
		f.dtb = filepath.Join(m.dir, treeName)
		if err := enablePorts(f.dtb, m.cfg.DTB, m.cfg.Emulator.Ports()); err != nil {
			return nil, err
		}
	}
	if m.cfg.Emulator.Firmware == "uefi" && m.cfg.Kernel == "" {
		var err error
		if f.code, f.vars, err = m.firmware(); err != nil {
			return nil, err
		}
	}
	return arguments(m.cfg, f), nil
}

// firmware finds UEFI. Its variables live as long as the disk.
func (m *Machine) firmware() (code, vars string, err error) {
	code, fresh, err := findUEFI(m.cfg.Emulator.System)
	if err != nil {
		return "", "", err
	}
	vars = filepath.Join(m.diskDir(), varsName)
	if !exists(vars) {
		if err := filecopy.File(context.Background(), vars, fresh, 0o600); err != nil {
			return "", "", fault.Wrap(fault.IO, err, "copying the firmware's variables")
		}
	}
	return code, vars, nil
}

// arguments makes QEMU's command line. All that differs between machines is in the
// target's emulator block, whose defaults package targets knows.
func arguments(cfg Config, f files) []string {
	e := cfg.Emulator
	accel := cfg.Accelerator
	if accel == "" {
		accel = "tcg"
	}
	args := []string{
		"-nodefaults", "-display", "none", "-no-user-config",
		"-machine", e.Machine, "-accel", accel, "-m", strconv.Itoa(e.Memory),
	}
	cpu := e.CPU
	if accel == "kvm" {
		cpu = "host"
	}
	if cpu != "" {
		args = append(args, "-cpu", cpu)
	}
	return slices.Concat(args, serial(e), channel(e, f.socket), disk(cfg, f.disk), network(cfg), boot(cfg, f), waiting(cfg), cfg.Args)
}

// serial joins console and channel to their ports, with nothing at others before them, and
// QEMU's monitor.
func serial(e targets.Emulator) []string {
	last := e.Serial
	if onSerial(e) {
		last = max(last, channelPort(e))
	}
	args := []string{"-chardev", "socket,id=console,fd=" + consoleFD}
	for port := range last + 1 {
		switch {
		case port == e.Serial:
			args = append(args, "-serial", "chardev:console")
		case onSerial(e) && port == channelPort(e):
			args = append(args, "-serial", "chardev:ctrl")
		default:
			args = append(args, "-serial", "null")
		}
	}
	return append(args, "-chardev", "socket,id=monitor,fd="+monitorFD, "-mon", "chardev=monitor,mode=control")
}

// channel is a port for the control API. Where there is virtio, there is a source of
// random numbers too.
func channel(e targets.Emulator, socket string) []string {
	if !hasChannel(e) {
		return nil
	}
	chardev := "socket,id=ctrl,server=on,wait=off,path=" + comma(socket)
	if onSerial(e) {
		return []string{"-chardev", chardev}
	}
	transport := strings.TrimPrefix(e.Channel, "virtio-serial-")
	return []string{
		"-device", e.Channel,
		"-chardev", chardev,
		"-device", "virtserialport,chardev=ctrl,name=" + portName,
		"-device", "virtio-rng-" + transport,
	}
}

// disk attaches the working copy. The host's page cache outlives QEMU, so a kill
// loses no more than a power cut of the guest would: flushes need no fsync.
func disk(cfg Config, file string) []string {
	if file == "" && cfg.Server == "" {
		return nil
	}
	drive := "format=raw,cache=unsafe,discard=unmap,file=" + comma(file)
	if cfg.Server != "" { // the guest's flushes are for the server
		drive = "format=raw,cache=writeback,file.driver=nbd,file.server.type=unix,file.server.path=" + comma(cfg.Server)
	}
	device := cfg.Emulator.Disk + ",drive=disk"
	switch cfg.Emulator.Disk {
	case "sd":
		return []string{"-drive", "if=sd," + drive}
	case "nvme": // which wants a serial number
		device += ",serial=disk"
	}
	if cfg.Kernel == "" { // else a kernel of our own has the first place
		device += ",bootindex=0"
	}
	return slices.Concat(usb(cfg.Emulator, "usb-storage"), []string{"-drive", "if=none,id=disk," + drive, "-device", device})
}

// usb adds a controller for the first USB device of a machine that has none.
func usb(e targets.Emulator, device string) []string {
	first := e.Disk == device || e.Disk != "usb-storage" && e.Network == device
	if !first || e.OwnUSB() {
		return nil
	}
	return []string{"-device", "qemu-xhci"}
}

func network(cfg Config) []string {
	model := cfg.Emulator.Network
	if cfg.NoNetwork || model == "none" {
		return nil
	}
	user := "user,id=net"
	for _, f := range slices.Concat(cfg.Emulator.Forwards(), cfg.Forward) {
		user += fmt.Sprintf(",hostfwd=%s:%v:%d-:%d", f.Protocol, f.Address, f.Host, f.Device)
	}
	switch model {
	case "onboard":
		return []string{"-nic", user}
	case "virtio-net-pci", "e1000": // without its ROM the card prints no banner on the console
		model += ",netdev=net,romfile="
	default:
		model += ",netdev=net"
	}
	return slices.Concat(usb(cfg.Emulator, "usb-net"), []string{"-netdev", user, "-device", model})
}

// boot says what loads the kernel.
func boot(cfg Config, f files) []string {
	if kernel := cmp.Or(cfg.Kernel, cfg.Emulator.Loader); kernel != "" {
		args := []string{"-kernel", kernel}
		for _, o := range [][2]string{{"-initrd", cfg.Initrd}, {"-dtb", cmp.Or(f.dtb, cfg.DTB)}, {"-append", kernelArguments(cfg)}} {
			if o[1] != "" {
				args = append(args, o[0], o[1])
			}
		}
		return args
	}
	if cfg.Emulator.BIOS != "" {
		return []string{"-bios", cfg.Emulator.BIOS}
	}
	if f.code == "" {
		return nil
	}
	return []string{
		"-drive", "if=pflash,format=raw,readonly=on,file=" + comma(f.code),
		"-drive", "if=pflash,format=raw,file=" + comma(f.vars),
	}
}

// kernelArguments are those of a kernel, or what a loader finds in the device tree's bootargs,
// with the name of the channel's port.
func kernelArguments(cfg Config) string {
	if onSerial(cfg.Emulator) {
		return strings.TrimSpace(cfg.Append + " " + serialWord + cfg.Emulator.Ports()[channelPort(cfg.Emulator)].TTY)
	}
	return cfg.Append
}

// comma doubles the commas of a path, as QEMU's options want it.
func comma(path string) string { return strings.ReplaceAll(path, ",", ",,") }
