package targets

import (
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/internal/fault"
)

const oneMachine = "emulator: {system: x86_64, machine: q35, memory: 512, packages: [qemu-system-x86]}\n"

// board returns the good file for another architecture, with an emulator block.
func board(arch, emulator string) string {
	return strings.NewReplacer("arch: {go: amd64, debian: amd64}", "arch: "+arch, oneMachine, "emulator: "+emulator+"\n").Replace(good)
}

func TestDefaultsOfMachines(t *testing.T) {
	for _, c := range []struct{ arch, emulator, want string }{
		{"{go: amd64, debian: amd64}", "{system: x86_64, machine: q35, memory: 512, firmware: uefi, packages: [q1]}", "q35  disk virtio-blk-pci virtio-net-pci virtio-serial-pci"},
		{"{go: amd64, debian: amd64}", "{system: x86_64, machine: 'pc,usb=on', memory: 512, disk: ide-hd, network: e1000, packages: [q1]}", "pc  disk ide-hd e1000 virtio-serial-pci"},
		{"{go: arm64, debian: arm64}", "{system: aarch64, machine: 'virt,gic-version=3', memory: 512, firmware: uefi, packages: [q1]}", "virt cortex-a57 disk virtio-blk-pci virtio-net-pci virtio-serial-pci"},
		{"{go: arm64, debian: arm64}", "{system: aarch64, machine: virt, cpu: max, memory: 512, bios: /usr/lib/u-boot/qemu_arm64/u-boot.bin, disk: virtio-blk-device, packages: [q1]}", "virt max disk virtio-blk-device virtio-net-pci virtio-serial-pci"},
		{"{go: arm64, debian: arm64}", "{system: aarch64, machine: raspi3b, memory: 1024, dtb: broadcom/b.dtb, arguments: [a=b], packages: [q1]}", "raspi3b  kernel sd usb-net serial"},
		{"{go: arm, arm: 7, debian: armhf}", "{system: arm, machine: vexpress-a9, memory: 512, packages: [q1]}", "vexpress-a9  kernel sd onboard virtio-serial-device"},
		{"{go: mipsle, mips: softfloat, debian: mipsel}", "{system: mipsel, machine: malta, memory: 512, packages: [q1]}", "malta  kernel ide-hd onboard virtio-serial-pci"},
		{"{go: riscv64, debian: riscv64}", "{system: riscv64, machine: virt, memory: 512, packages: [q1]}", "virt  disk virtio-blk-pci virtio-net-pci virtio-serial-pci"},
		{"{go: arm64, debian: arm64}", "{system: aarch64, machine: sbsa-ref, memory: 512, boot: disk, disk: ide-hd, network: none, channel: none, packages: [q1]}", "sbsa-ref  disk ide-hd none none"},
	} {
		target, err := parse("f", "x", []byte(board(c.arch, c.emulator)), nil)
		if err != nil {
			t.Errorf("%s: %v", c.emulator, err)
			continue
		}
		e := target.Emulators[0]
		if d := cmp.Diff(c.want, strings.Join([]string{e.Name, e.CPU, e.Boot, e.Disk, e.Network, e.Channel}, " ")); d != "" {
			t.Errorf("%s:\n%s", c.emulator, d)
		}
	}
}

// TestArgumentsWithUBoot: one that boots from the disk has them from there, other loaders do not.
func TestArgumentsWithUBoot(t *testing.T) {
	t.Parallel()
	text := board("{go: arm, arm: 7, debian: armhf}", "{system: arm, machine: orangepi-pc, memory: 1024, arguments: [a=b], packages: [q1]}")
	for loader, want := range map[string]string{
		"{type: uboot, addresses: {initrd: 0x44000000}}":              "",
		"{type: grub, suite: bookworm, packages: [grub-efi-arm-bin]}": "emulator.boot: dtb and arguments are for boot: kernel",
	} {
		_, err := parse("f", "x", []byte(regexp.MustCompile(`(?m)^bootloader: .*$`).ReplaceAllString(text, "bootloader: "+loader)), nil)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", loader, err, want)
		}
	}
}

func TestMistakesInMachines(t *testing.T) {
	const arm64 = "{go: arm64, debian: arm64}"
	for _, c := range []struct{ arch, emulator, want string }{
		{arm64, "{system: x86_64, machine: q35, memory: 512, packages: [q1]}", "f:11:12: emulator.system: qemu-system-x86_64 does not run code for go: arm64; want aarch64"},
		{arm64, "{system: aarch64, machine: raspi3b, memory: 1024, packages: [q1]}", "emulator: field dtb is missing: channel: serial needs"},
		{arm64, "{system: aarch64, machine: raspi3b, memory: 1024, dtb: b.dtb, serial: 2, packages: [q1]}", "emulator.serial: the machine raspi3b has 2 serial ports"},
		{arm64, "{system: aarch64, machine: virt, memory: 512, firmware: uefi, channel: serial, packages: [q1]}", "emulator.channel: the machine virt is not known to have a serial port for it"},
		{arm64, "{system: aarch64, machine: raspi3b, memory: 512, packages: [q1]}", "emulator.memory: the machine raspi3b has 1024 MiB"},
		{arm64, "{system: aarch64, machine: raspi3b, memory: 1024, disk: nvme, packages: [q1]}", "emulator.disk: nvme needs pci; the machine raspi3b has sd, usb"},
		{arm64, "{system: aarch64, machine: raspi3b, memory: 1024, channel: virtio-serial-device, packages: [q1]}", "emulator.channel: virtio-serial-device needs virtio-mmio"},
		{arm64, "{system: aarch64, machine: virt, network: onboard, memory: 512, firmware: uefi, packages: [q1]}", "emulator.network: onboard needs onboard network"},
		{arm64, "{system: aarch64, machine: raspi3b, memory: 1024, firmware: uefi, packages: [q1]}", "emulator.firmware: there is no UEFI for the machine raspi3b"},
		{arm64, "{system: aarch64, machine: virt, memory: 512, packages: [q1]}", "emulator.boot: nothing loads the disk: the machine virt"},
		{arm64, "{system: aarch64, machine: virt, memory: 512, firmware: uefi, boot: kernel, packages: [q1]}", "emulator.boot: kernel needs no firmware"},
		{arm64, "{system: aarch64, machine: virt, memory: 512, firmware: uefi, bios: u-boot.bin, packages: [q1]}", "emulator.bios: is in place of firmware"},
		{arm64, "{system: aarch64, machine: virt, memory: 512, firmware: uefi, dtb: x.dtb, packages: [q1]}", "emulator.boot: dtb and arguments are for boot: kernel"},
		{arm64, "{system: aarch64, machine: virt, memory: 512, boot: kernel, loader: u-boot.bin, packages: [q1]}", "emulator.boot: kernel needs no firmware"},
		{arm64, "{system: aarch64, machine: virt, memory: 512, loader: '-x', packages: [q1]}", "emulator.loader"},
		{arm64, "{system: aarch64, machine: virt, memory: 512, boot: kernel, arguments: ['a b'], packages: [q1]}", "emulator.arguments[0]"},
		{arm64, "{system: aarch64, machine: virt, memory: 512, boot: kernel, dtb: '-x', packages: [q1]}", "emulator.dtb"},
		{arm64, "{system: aarch64, machine: sbsa-ref, memory: 512, packages: [q1]}", "emulator: field disk is missing: the machine sbsa-ref of qemu-system-aarch64 has no default"},
		{arm64, "[{system: aarch64, machine: virt, memory: 512, boot: kernel, packages: [q1]}, {system: aarch64, machine: virt, memory: 1, boot: kernel, packages: [q1]}]", "emulator[1].memory: 1 is out of range"},
		{arm64, "[{system: aarch64, machine: virt, memory: 512, boot: kernel, packages: [q1]}, {system: aarch64, machine: virt, memory: 64, boot: kernel, packages: [q1]}]", `emulator[1].name: "virt" is there twice`},
		{arm64, "[]", "emulator: is empty"},
		{arm64, "x", "emulator: want a list, not string"},
		{arm64, "{system: aarch64, machine: virt, memory: 512, firmware: uefi, disk: floppy, packages: [q1]}", `emulator.disk: "floppy" is not possible`},
	} {
		_, err := parse("f", "x", []byte(board(c.arch, c.emulator)), nil)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got\n%v\nwant %s", c.emulator, err, c.want)
		}
	}
}

func TestMachine(t *testing.T) {
	text := board("{go: amd64, debian: amd64}", "[{system: x86_64, machine: q35, memory: 512, packages: [q1]}, {name: small, system: x86_64, machine: q35, memory: 64, packages: [q1]}]")
	target, err := parse("f", "x", []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, memory := range map[string]int{"": 512, "q35": 512, "small": 64} {
		if e, err := target.Machine(name); err != nil || e.Memory != memory {
			t.Errorf("%q: %+v, %v", name, e, err)
		}
	}
	if _, err := target.Machine("smal"); fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), "did you mean small?") {
		t.Error(err)
	}
	for want, target := range map[string]*Target{
		"target x makes no image to boot": {Name: "x"},
		"but a BSP for devices that run already; the closest target that can be emulated is pc (mage run pc)": {Name: "x", Kernel: &Kernel{}, EmulatedBy: "pc"},
		"target x has no emulator: write its image to a medium":                                               {Name: "x", Images: Images{{}}},
		"mage appengine:run tests it there":                                                                   {Name: "x", AppEngine: &AppEngine{}},
	} {
		if _, err := target.Machine(""); fault.Of(err) != fault.Unsupported || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// TestTableOfMachines checks that the machine has the bus of every default.
func TestTableOfMachines(t *testing.T) {
	for _, id := range machineKinds() {
		system, word, _ := strings.Cut(id, "/")
		e := Emulator{System: system, Machine: word}.Complete()
		for what, value := range map[string]string{"boot": e.Boot, "disk": e.Disk, "network": e.Network, "channel": e.Channel} {
			ok := len(buses[value]) == 0
			for _, bus := range buses[value] {
				ok = ok || e.has(bus)
			}
			if value == "" || !ok {
				t.Errorf("%s: the default %s of %s does not fit", id, value, what)
			}
		}
	}
}

func TestEmulatedByAnother(t *testing.T) {
	t.Parallel()
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	without := strings.Replace(good, oneMachine, "", 1)
	all := fstest.MapFS{
		"pc/target.yaml":     file(good),
		"board/target.yaml":  file(without + "emulated_by: pc\nbuilds:\n  qemu: {description: x, " + strings.TrimSpace(oneMachine) + "}\n"),
		"owner/target.yaml":  file("description: x\nbase: board\n" + oneMachine),
		"heir/target.yaml":   file("description: x\nbase: pc\nemulated_by: pc\n"),
		"lost/target.yaml":   file(without + "emulated_by: pcc\n"),
		"two/target.yaml":    file(without + "emulated_by: board\n"),
		"double/target.yaml": file(good + "emulated_by: pc\n"),
	}
	for _, name := range []string{"board", "heir"} {
		target, err := Load(all, name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := target.Machine(""); fault.Of(err) != fault.Unsupported || !strings.Contains(err.Error(), "the closest target that can be emulated is pc (mage run pc)") {
			t.Errorf("%s: kind %v: %v", name, fault.Of(err), err)
		}
		if len(target.Emulators) != 0 {
			t.Errorf("%s has the machines %v", name, target.Emulators)
		}
	}
	for _, name := range []string{"owner", "board-qemu"} {
		target, err := Load(all, name)
		if err != nil {
			t.Fatal(err)
		}
		if e, err := target.Machine(""); err != nil || e.Machine != "q35" || target.EmulatedBy != "" {
			t.Errorf("%s: %+v, %v, emulated by %q", name, e, err, target.EmulatedBy)
		}
	}
	for name, want := range map[string]string{
		"lost": `emulated_by: target "pcc": unknown`, "two": "emulated_by: target board has no emulator either", "double": "emulated_by: is for a target without emulator",
	} {
		if _, err := Load(all, name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}

func TestMistakesInLoadersOfThePi(t *testing.T) {
	t.Parallel()
	pi := func(loader string) string {
		return strings.NewReplacer("table: gpt", "table: mbr").Replace(regexp.MustCompile(`(?m)^bootloader: .*$`).ReplaceAllString(board("{go: arm64, debian: arm64}",
			"{system: aarch64, machine: raspi3b, memory: 1024, dtb: b.dtb, packages: [q1]}"), "bootloader: "+loader))
	}
	const uboot = "files: [{to: u-boot.bin, package: u-boot-rpi, from: usr/lib/u-boot/rpi_arm64/u-boot.bin}]"
	for loader, want := range map[string]string{
		"{type: rpi-uboot, suite: bookworm, packages: [raspi-firmware, u-boot-rpi], addresses: {initrd: 0x4000000}, " + uboot + "}": "",
		"{type: rpi, suite: bookworm, packages: [raspi-firmware]}":                                                                  "",
		"{type: rpi-uboot, suite: bookworm, packages: [raspi-firmware, u-boot-rpi], " + uboot + "}":                                 "field addresses.initrd is missing",
		"{type: rpi-uboot, suite: bookworm, packages: [raspi-firmware], addresses: {initrd: 0x4000000}}":                            "bootloader.files: lack u-boot.bin",
		"{type: rpi, suite: bookworm, packages: [raspi-firmware, u-boot-rpi], " + uboot + "}":                                       "which nothing starts",
		"{type: rpi, suite: bookworm, packages: [u-boot-rpi]}":                                                                      "lack raspi-firmware",
		"{type: rpi, suite: bookworm, packages: [raspi-firmware], addresses: {initrd: 0x4000000}}":                                  "bootloader.addresses: are only for U-Boot",
	} {
		_, err := parse("f", "x", []byte(pi(loader)), nil)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", loader, err, want)
		}
	}
}
