package targets

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/spelling"
	"github.com/pantavisor/pantavisor/internal/yamlfile"
)

// Emulators are the machines that an image can be started on: in the file one block, or
// a list of them. The first is the default.
type Emulators []Emulator

var _ yamlfile.OneOrMore = Emulators(nil)

// OneOrMore implements yamlfile.OneOrMore.
func (Emulators) OneOrMore() {}

// Emulator is a QEMU machine. What is left out is filled in for the machines that the
// build system knows; for others it is named as missing.
type Emulator struct {
	// Name is what `mage run TARGET --machine=NAME` picks. Default: the machine's word.
	Name string `yaml:"name,omitempty" json:"name,omitempty"`
	// System is the QEMU program's architecture, for example x86_64 for qemu-system-x86_64.
	System string `yaml:"system" json:"system" jsonschema:"enum=x86_64,enum=aarch64,enum=arm,enum=riscv64,enum=mips,enum=mipsel"`
	// Machine is QEMU's -machine: its word, and properties behind commas.
	Machine string `yaml:"machine" json:"machine"`
	// CPU is QEMU's -cpu. Default: the machine's own.
	CPU string `yaml:"cpu,omitempty" json:"cpu,omitempty"`
	// Memory is in MiB.
	Memory int `yaml:"memory" json:"memory" jsonschema:"minimum=64,maximum=1048576"`
	// Firmware is uefi or none. Default: none.
	Firmware string `yaml:"firmware,omitempty" json:"firmware,omitempty" jsonschema:"enum=uefi,enum=none"`
	// BIOS is a file for QEMU's -bios in place of firmware, for example a U-Boot: absolute
	// when a package of this host provides it, else relative to the workspace.
	BIOS string `yaml:"bios,omitempty" json:"bios,omitempty"`
	// Loader is a file for QEMU's -kernel that loads the disk, as a U-Boot in place of stages
	// that QEMU does not run: a path as bios.
	Loader string `yaml:"loader,omitempty" json:"loader,omitempty"`
	// BootFile is in place of loader a file of the image's boot partition that the board's own
	// firmware would start, for example u-boot.bin.
	BootFile string `yaml:"boot_file,omitempty" json:"boot_file,omitempty"`
	// Boot is disk, when firmware loads what is on the disk, or kernel, when QEMU itself
	// loads the target's kernel and initrd.
	Boot string `yaml:"boot,omitempty" json:"boot,omitempty" jsonschema:"enum=disk,enum=kernel"`
	// DTB is the device tree for boot: kernel, below the kernel's directory dtbs/. Default:
	// the one that QEMU makes.
	DTB string `yaml:"dtb,omitempty" json:"dtb,omitempty"`
	// Arguments are appended to the kernel's command line: with boot: kernel, and where a U-Boot
	// has them from bootargs of dtb, or from oemEnv.txt of its boot partition.
	Arguments []string `yaml:"arguments,omitempty" json:"arguments,omitempty"`
	// Disk is the device that the image is on: sd is the board's card slot, the others are
	// QEMU's words.
	Disk string `yaml:"disk,omitempty" json:"disk,omitempty" jsonschema:"enum=virtio-blk-pci,enum=virtio-blk-device,enum=nvme,enum=usb-storage,enum=ide-hd,enum=sd"`
	// Network is the network device: onboard is the board's own, none leaves it out, the
	// others are QEMU's words.
	Network string `yaml:"network,omitempty" json:"network,omitempty" jsonschema:"enum=virtio-net-pci,enum=virtio-net-device,enum=e1000,enum=usb-net,enum=onboard,enum=none"`
	// Forward are ports of the host that lead to the device, [ADDRESS:]PORT:DEVICEPORT[/udp].
	// Without an address the port is for this machine only.
	Forward []string `yaml:"forward,omitempty" json:"forward,omitempty"`
	// Channel is how the host asks the device's control API. serial is for machines without
	// virtio: the serial port that has not the console, which a kernel argument names. Without a
	// channel (none) the console says how far the device is.
	Channel string `yaml:"channel,omitempty" json:"channel,omitempty" jsonschema:"enum=virtio-serial-pci,enum=virtio-serial-device,enum=serial,enum=none"`
	// Serial is the number of the serial port with the device's console. Default: 0.
	Serial int `yaml:"serial,omitempty" json:"serial,omitempty" jsonschema:"minimum=0,maximum=3"`
	// Packages are the host's Debian packages that the emulator needs.
	Packages []string `yaml:"packages" json:"packages"`
}

// What a machine may have. The bus of a device is one of them.
const (
	hasPCI    = "pci"
	hasMMIO   = "virtio-mmio"
	hasUSB    = "usb" // a controller of its own
	hasIDE    = "ide"
	hasSD     = "sd"
	hasNIC    = "onboard network"
	hasBIOS   = "built-in firmware"
	hasUEFI   = "uefi"
	hasButton = "power button"
)

// machine is what is known of a QEMU machine.
type machine struct {
	has      []string
	defaults Emulator
	memory   int // MiB when it has just one size
	// ports are its serial ports for the console and the channel serial.
	ports []SerialPort
	// load is where a loader of 32 bits runs; 0: QEMU knows.
	load uint32
	// stays is set when it stays on after the device has powered off.
	stays bool
}

// machines are the QEMU machines that need no more than their name, by "SYSTEM/MACHINE".
// This is the only place that knows them.
var machines = map[string]machine{
	"x86_64/q35": {has: []string{hasPCI, hasIDE, hasBIOS, hasUEFI, hasButton}, defaults: pci("")},
	"x86_64/pc":  {has: []string{hasPCI, hasIDE, hasBIOS, hasUEFI, hasButton}, defaults: pci("")},
	// The CPUs that these two have by themselves are of 32 bits.
	"aarch64/virt": {has: []string{hasPCI, hasMMIO, hasUEFI, hasButton}, defaults: pci("cortex-a57")},
	"arm/virt":     {has: []string{hasPCI, hasMMIO, hasUEFI, hasButton}, defaults: pci("cortex-a15")},
	"riscv64/virt": {has: []string{hasPCI, hasMMIO, hasBIOS, hasUEFI}, defaults: pci("")},

	// What the driver of the Pi's watchdog is not loaded for halts and stays on.
	"aarch64/raspi3b": {has: []string{hasSD, hasUSB}, defaults: raspi, memory: 1024, ports: piPorts, stays: true},
	"arm/raspi2b":     {has: []string{hasSD, hasUSB}, defaults: raspi, memory: 1024, ports: piPorts, load: 0x8000, stays: true},
	"arm/raspi0":      {has: []string{hasSD, hasUSB}, defaults: raspi, memory: 512, ports: piPorts, load: 0x8000, stays: true},
	// Its boot ROM reads the SPL from the card.
	"arm/orangepi-pc": {has: []string{hasSD, hasUSB, hasNIC, hasBIOS}, defaults: Emulator{Boot: "disk", Disk: "sd", Network: "onboard", Channel: "none"}, memory: 1024, stays: true},

	"arm/vexpress-a9":  {has: []string{hasSD, hasMMIO, hasNIC}, defaults: vexpress},
	"arm/vexpress-a15": {has: []string{hasSD, hasMMIO, hasNIC}, defaults: vexpress},

	"mips/malta":   {has: []string{hasPCI, hasIDE, hasNIC}, defaults: malta},
	"mipsel/malta": {has: []string{hasPCI, hasIDE, hasNIC}, defaults: malta},
}

// SerialPort is a serial port of a machine.
type SerialPort struct {
	// TTY is Linux' name of it.
	TTY string
	// Node is its path in device trees. Boards without a connector for it have it disabled, or
	// joined to another device.
	Node string
}

// piPorts are those of the Raspberry Pi in QEMU's order: PL011 and mini UART.
var piPorts = []SerialPort{{"ttyAMA0", "/soc/serial@7e201000"}, {"ttyS1", "/soc/serial@7e215040"}}

var (
	raspi    = Emulator{Boot: "kernel", Disk: "sd", Network: "usb-net", Channel: "serial"}
	vexpress = Emulator{Boot: "kernel", Disk: "sd", Network: "onboard", Channel: "virtio-serial-device"}
	malta    = Emulator{Boot: "kernel", Disk: "ide-hd", Network: "onboard", Channel: "virtio-serial-pci"}
)

// pci is a machine whose devices are virtio's on PCI.
func pci(cpu string) Emulator {
	return Emulator{CPU: cpu, Boot: "disk", Disk: "virtio-blk-pci", Network: "virtio-net-pci", Channel: "virtio-serial-pci"}
}

// buses are what a machine needs one of for a device.
var buses = map[string][]string{
	"virtio-blk-pci": {hasPCI}, "virtio-net-pci": {hasPCI}, "virtio-serial-pci": {hasPCI}, "nvme": {hasPCI}, "e1000": {hasPCI},
	"virtio-blk-device": {hasMMIO}, "virtio-net-device": {hasMMIO}, "virtio-serial-device": {hasMMIO},
	"usb-storage": {hasUSB, hasPCI}, "usb-net": {hasUSB, hasPCI}, // a controller is added on PCI
	"ide-hd": {hasIDE}, "sd": {hasSD}, "onboard": {hasNIC},
}

// runs are the QEMU programs that can run code for each GOARCH.
var runs = map[string][]string{
	"amd64": {"x86_64"}, "arm64": {"aarch64"}, "arm": {"arm", "aarch64"}, "riscv64": {"riscv64"}, "mips": {"mips"}, "mipsle": {"mipsel"},
}

// machineKinds returns the known machines as "SYSTEM/MACHINE", sorted.
func machineKinds() []string { return slices.Sorted(maps.Keys(machines)) }

// word is the machine's name without properties.
func (e *Emulator) word() string {
	word, _, _ := strings.Cut(e.Machine, ",")
	return word
}

func (e *Emulator) known() (machine, bool) {
	m, ok := machines[e.System+"/"+e.word()]
	return m, ok
}

// PowerButton reports whether the machine has a button that a device can obey.
func (e *Emulator) PowerButton() bool { return e.has(hasButton) }

// StaysOn reports whether the machine stays on when the device has powered off.
func (e *Emulator) StaysOn() bool {
	m, _ := e.known()
	return m.stays
}

// LoadAddress is where a loader of 32 bits runs, 0 when QEMU knows.
func (e *Emulator) LoadAddress() uint32 {
	m, _ := e.known()
	return m.load
}

// OwnUSB reports whether the machine has a USB controller without one being added.
func (e *Emulator) OwnUSB() bool { return e.has(hasUSB) || !e.has(hasPCI) }

func (e *Emulator) has(what string) bool {
	m, _ := e.known()
	return slices.Contains(m.has, what)
}

// Complete returns the machine with the defaults of what is left out.
func (e Emulator) Complete() Emulator {
	m, _ := e.known()
	for _, f := range []struct {
		field *string
		or    string
	}{
		{&e.Name, e.word()}, {&e.CPU, m.defaults.CPU}, {&e.Boot, m.defaults.Boot}, {&e.Disk, m.defaults.Disk},
		{&e.Network, m.defaults.Network}, {&e.Channel, m.defaults.Channel}, {&e.Firmware, "none"},
	} {
		if *f.field == "" {
			*f.field = f.or
		}
	}
	return e
}

// Machine returns the machine with a name, the first for "".
func (t *Target) Machine(name string) (*Emulator, error) {
	if len(t.Emulators) == 0 {
		return nil, fault.New(fault.Unsupported, "%s", t.noMachine())
	}
	if name == "" {
		return &t.Emulators[0], nil
	}
	var names []string
	for i := range t.Emulators {
		if t.Emulators[i].Name == name {
			return &t.Emulators[i], nil
		}
		names = append(names, t.Emulators[i].Name)
	}
	return nil, spelling.Unknown("machine", name, names)
}

// noMachine says why the target has no machine, and what to do instead.
func (t *Target) noMachine() string {
	var why string
	switch {
	case t.AppEngine != nil:
		return fmt.Sprintf("target %s makes no machine: its package runs on an existing Linux system; mage appengine:run tests it there", t.Name)
	case t.Images == nil && t.Kernel != nil:
		why = fmt.Sprintf("target %s makes no image to boot, but a BSP for devices that run already", t.Name)
	case t.Images == nil:
		why = fmt.Sprintf("target %s makes no image to boot", t.Name)
	case t.EmulatedBy != "":
		why = fmt.Sprintf("QEMU has no machine for target %s: write its image to a medium", t.Name)
	default:
		why = fmt.Sprintf("target %s has no emulator: write its image to a medium", t.Name)
	}
	if t.EmulatedBy == "" {
		return why
	}
	return fmt.Sprintf("%s; the closest target that can be emulated is %s (mage run %s)", why, t.EmulatedBy, t.EmulatedBy)
}

var pathForm = regexp.MustCompile(`^[A-Za-z0-9/][A-Za-z0-9/._+-]*$`)

// emulatedBy checks that the target that is emulated in place of this one is there and can be.
func (r checker) emulatedBy(t *Target, load func(name string) (*Target, error)) {
	if t.EmulatedBy == "" {
		return
	}
	if r.Given("emulator") {
		r.Wrong("emulated_by", "is for a target without emulator: leave one of them out")
	}
	other, err := load(t.EmulatedBy)
	switch {
	case err != nil:
		r.Wrong("emulated_by", "%v", err)
	case len(other.Emulators) == 0:
		r.Wrong("emulated_by", "target %s has no emulator either", t.EmulatedBy)
	}
}

// emulators checks all machines of a target.
func (r checker) emulators(t *Target) {
	if t.Images == nil {
		r.Wrong("emulator", "has nothing to start: the target has no image")
	}
	if len(t.Emulators) == 0 {
		r.Wrong("emulator", "is empty: leave it out instead")
	}
	for i := range t.Emulators {
		at := "emulator"
		if r.Given("emulator[0]") {
			at = fmt.Sprintf("emulator[%d]", i)
		}
		r.emulator(at, t.Emulators[i].Complete(), t)
		same := func(o Emulator) bool { return o.Complete().Name == t.Emulators[i].Complete().Name }
		if slices.IndexFunc(t.Emulators, same) < i {
			r.Wrong(at+".name", "%q is there twice: give each machine a name", t.Emulators[i].Complete().Name)
		}
	}
}

// emulator checks one machine, defaults filled in.
func (r checker) emulator(at string, e Emulator, t *Target) {
	a := t.Arch
	r.Form(at+".machine", e.Machine, machineForm)
	r.Form(at+".name", e.Name, labelForm)
	if e.CPU != "" {
		r.Form(at+".cpu", e.CPU, machineForm)
	}
	if len(e.Packages) == 0 {
		r.Wrong(at+".packages", "is empty: name the packages that hold the emulator")
	}
	r.List(at+".packages", e.Packages, packageForm)
	if e.System != "" && a.Go != "" && !slices.Contains(runs[a.Go], e.System) {
		r.Wrong(at+".system", "qemu-system-%s does not run code for go: %s; want %s", e.System, a.Go, strings.Join(runs[a.Go], " or "))
	}
	r.devices(at, e)
	r.forwards(at, e)
	r.start(at, e, t.readsOEM())
}

// readsOEM reports whether the boot loader adds what oemEnv.txt on the boot partition says to
// the kernel's command line.
func (t *Target) readsOEM() bool {
	return t.Bootloader != nil && t.Bootloader.Type == "uboot" && t.Partition("boot") != nil
}

// devices checks that the machine has the buses of its devices, as far as it is known.
func (r checker) devices(at string, e Emulator) {
	m, known := e.known()
	for _, d := range []struct{ key, value string }{{"boot", e.Boot}, {"disk", e.Disk}, {"network", e.Network}, {"channel", e.Channel}} {
		where := at + "." + d.key
		need := buses[d.value]
		switch {
		case d.value == "":
			r.Wrong(at, "field %s is missing: the machine %s of qemu-system-%s has no default (known are %s)",
				d.key, e.word(), e.System, strings.Join(machineKinds(), ", "))
		case known && len(need) > 0 && !slices.ContainsFunc(need, func(bus string) bool { return slices.Contains(m.has, bus) }):
			r.Wrong(where, "%s needs %s; the machine %s has %s", d.value, strings.Join(need, " or "), e.word(), strings.Join(m.has, ", "))
		}
	}
	if known && m.memory != 0 && e.Memory != 0 && e.Memory != m.memory {
		r.Wrong(at+".memory", "the machine %s has %d MiB and no other size", e.word(), m.memory)
	}
}

// start checks that something loads the kernel; oem is set for a loader that has arguments
// from the disk.
func (r checker) start(at string, e Emulator, oem bool) {
	for _, file := range []struct{ key, path string }{{".bios", e.BIOS}, {".loader", e.Loader}, {".boot_file", e.BootFile}, {".dtb", e.DTB}} {
		if file.path != "" {
			r.Form(at+file.key, file.path, pathForm)
		}
	}
	for i, arg := range e.Arguments {
		if arg == "" || strings.ContainsAny(arg, " \t\"") {
			r.Wrong(fmt.Sprintf("%s.arguments[%d]", at, i), "%q: want one argument without blanks and quotes", arg)
		}
	}
	r.loads(at, e)
	r.kernelBoot(at, e, oem)
	if e.Loader != "" && e.BootFile != "" {
		r.Wrong(at+".boot_file", "is in place of loader: leave one of them out")
	}
	if e.Channel == "serial" {
		r.serialChannel(at, e)
	}
}

// kernelBoot checks that what loads the kernel and what is for loading it fit together.
func (r checker) kernelBoot(at string, e Emulator, oem bool) {
	if loaded := e.Firmware == "uefi" || e.BIOS != "" || e.loader() != ""; e.Boot == "kernel" && loaded {
		r.Wrong(at+".boot", "kernel needs no firmware: leave firmware, bios, loader and boot_file out, or say boot: disk")
	}
	if e.Boot == "disk" && (e.DTB != "" && e.loader() == "" || len(e.Arguments) > 0 && e.DTB == "" && !oem) {
		r.Wrong(at+".boot", "dtb and arguments are for boot: kernel, or for a loader that gets them in the device tree; arguments also for bootloader.type: uboot")
	}
}

func (e *Emulator) loader() string { return cmp.Or(e.Loader, e.BootFile) }

// serialChannel checks that there is a port for the channel and a way to name it to the kernel.
func (r checker) serialChannel(at string, e Emulator) {
	switch ports := e.Ports(); {
	case ports == nil:
		r.Wrong(at+".channel", "the machine %s is not known to have a serial port for it", e.word())
	case e.Serial >= len(ports):
		r.Wrong(at+".serial", "the machine %s has %d serial ports for console and channel", e.word(), len(ports))
	case e.DTB == "":
		r.Wrong(at, "field dtb is missing: channel: serial needs the device tree, in which the port is enabled; or say channel: none")
	}
}

// Ports are the serial ports of a machine for console and channel; nil when it has virtio.
func (e *Emulator) Ports() []SerialPort {
	m, _ := e.known()
	return m.ports
}

// loads checks that a machine has the firmware that is asked for, and one to load a disk.
func (r checker) loads(at string, e Emulator) {
	_, known := e.known()
	switch uefi := e.Firmware == "uefi"; {
	case uefi && e.BIOS != "":
		r.Wrong(at+".bios", "is in place of firmware: leave bios or firmware: uefi out")
	case uefi && known && !e.has(hasUEFI):
		r.Wrong(at+".firmware", "there is no UEFI for the machine %s", e.word())
	case e.Boot == "disk" && !uefi && e.BIOS == "" && e.loader() == "" && known && !e.has(hasBIOS):
		r.Wrong(at+".boot", "nothing loads the disk: the machine %s has no firmware of its own; want firmware, bios, loader, boot_file or boot: kernel", e.word())
	}
}
