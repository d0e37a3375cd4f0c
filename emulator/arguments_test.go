package emulator

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/targets"
)

var update = flag.Bool("update", false, "write the golden arguments anew; the run that writes them also fails")

const golden = "testdata/arguments.txt"

// machineCases are one machine of each kind, and what differs from its defaults.
func machineCases() map[string]Config {
	e := func(system, machine string) targets.Emulator {
		return targets.Emulator{System: system, Machine: machine, Memory: 512}
	}
	with := func(e targets.Emulator, change func(*targets.Emulator)) targets.Emulator {
		change(&e)
		return e
	}
	direct := func(e targets.Emulator) Config {
		return Config{Emulator: e, Kernel: "/k/kernel.img", Initrd: "/k/initrd", DTB: "/k/board.dtb", Append: "console=ttyAMA0 panic=5"}
	}
	ssh := targets.Forward{Protocol: "tcp", Address: netip.MustParseAddr("127.0.0.1"), Host: 8222, Device: 22}
	return map[string]Config{
		"x86_64 q35, UEFI":        {Emulator: with(e("x86_64", "q35"), func(e *targets.Emulator) { e.Firmware = "uefi" })},
		"x86_64 q35, KVM":         {Emulator: with(e("x86_64", "q35"), func(e *targets.Emulator) { e.CPU = "qemu64" }), Accelerator: "kvm"},
		"x86_64 pc, IDE, e1000":   {Emulator: with(e("x86_64", "pc"), func(e *targets.Emulator) { e.Disk, e.Network = "ide-hd", "e1000" })},
		"x86_64 q35, USB":         {Emulator: with(e("x86_64", "q35"), func(e *targets.Emulator) { e.Disk, e.Network = "usb-storage", "usb-net" })},
		"x86_64 q35, USB network": {Emulator: with(e("x86_64", "q35"), func(e *targets.Emulator) { e.Network = "usb-net" })},
		"x86_64 q35, NVMe, ports": {Emulator: with(e("x86_64", "q35"), func(e *targets.Emulator) { e.Disk, e.Forward = "nvme", []string{"0.0.0.0:5353:53/udp"} }), Forward: []targets.Forward{ssh}, Args: []string{"-snapshot"}},
		"x86_64 q35, no network":  {Emulator: e("x86_64", "q35"), NoNetwork: true},
		"aarch64 virt, UEFI":      {Emulator: with(e("aarch64", "virt,gic-version=3"), func(e *targets.Emulator) { e.Firmware = "uefi" })},
		"aarch64 virt, U-Boot, MMIO": {Emulator: with(e("aarch64", "virt"), func(e *targets.Emulator) {
			e.BIOS, e.Disk, e.Network, e.Channel = "/usr/lib/u-boot/u-boot.bin", "virtio-blk-device", "virtio-net-device", "virtio-serial-device"
		})},
		"aarch64 raspi3b":          direct(with(e("aarch64", "raspi3b"), func(e *targets.Emulator) { e.Memory = 1024 })),
		"aarch64 raspi3b, serial1": direct(with(e("aarch64", "raspi3b"), func(e *targets.Emulator) { e.Memory, e.Serial = 1024, 1 })),
		"arm vexpress-a9":          direct(e("arm", "vexpress-a9")),
		"mipsel malta":             direct(e("mipsel", "malta")),
		"riscv64 virt, loader":     {Emulator: with(e("riscv64", "virt"), func(e *targets.Emulator) { e.Loader = "/usr/lib/u-boot/uboot.elf" })},
		"aarch64 raspi3b, loader":  {Emulator: with(e("aarch64", "raspi3b"), func(e *targets.Emulator) { e.Memory, e.Loader = 1024, "/usr/lib/u-boot/u-boot.bin" }), DTB: "/k/board.dtb"},
		"riscv64 virt, UEFI":       {Emulator: with(e("riscv64", "virt"), func(e *targets.Emulator) { e.Firmware = "uefi" })},
	}
}

func TestArgumentsOfMachines(t *testing.T) {
	var text strings.Builder
	cases := machineCases()
	var names []string
	for name := range cases {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		cfg := cases[name]
		cfg.Emulator = cfg.Emulator.Complete()
		f := files{disk: "/m/disk,1.img", socket: "/m/ctrl.sock"}
		if cfg.Emulator.Firmware == "uefi" {
			f.code, f.vars = "/fw/code.fd", "/m/vars.fd"
		}
		text.WriteString("# " + name + "\n")
		for _, a := range arguments(cfg, f) {
			if strings.HasPrefix(a, "-") {
				text.WriteString("\n" + a)
			} else {
				text.WriteString(" " + a)
			}
		}
		text.WriteString("\n\n")
	}
	if *update {
		if err := os.WriteFile(golden, []byte(text.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		t.Fatal(golden + " was written; run the test again without -update")
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), text.String()); d != "" {
		t.Errorf("(go test ./emulator -update)\n%s", d)
	}
}

func TestNoDiskNoArguments(t *testing.T) {
	cfg := Config{Emulator: targets.Emulator{System: "aarch64", Machine: "raspi3b", Memory: 1024}.Complete()}
	for _, a := range arguments(cfg, files{}) {
		if strings.Contains(a, "if=sd") || strings.Contains(a, "virtio") || strings.Contains(a, "pflash") {
			t.Errorf("%s", a)
		}
	}
}

// idleELF is a kernel for a little-endian MIPS32 that does nothing: "b ." and its delay slot.
func idleELF(t *testing.T) string {
	t.Helper()
	const at, headers = 0x80100000, 52 + 32
	code := []uint32{0x1000ffff, 0}
	var b bytes.Buffer
	for _, part := range []any{
		elf.Header32{
			Ident: [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS32), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
			Type:  uint16(elf.ET_EXEC), Machine: uint16(elf.EM_MIPS), Version: uint32(elf.EV_CURRENT), Entry: at, Phoff: 52, Ehsize: 52, Phentsize: 32, Phnum: 1,
		},
		elf.Prog32{Type: uint32(elf.PT_LOAD), Off: headers, Vaddr: at, Paddr: at, Filesz: 8, Memsz: 8, Flags: uint32(elf.PF_R | elf.PF_X), Align: 4},
		code,
	} {
		if err := binary.Write(&b, binary.LittleEndian, part); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(t.TempDir(), "kernel")
	if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestOtherMachinesStart has QEMU take the arguments of machines that are not PCs: their
// devices exist and fit together. UEFI shows itself on the console.
func TestOtherMachinesStart(t *testing.T) {
	for name, c := range map[string]struct {
		e      targets.Emulator
		marker string
	}{
		"aarch64 virt": {targets.Emulator{System: "aarch64", Machine: "virt", Memory: 256, Firmware: "uefi"}, probeMarker},
		"aarch64 virt, MMIO": {targets.Emulator{
			System: "aarch64", Machine: "virt", Memory: 128, Disk: "virtio-blk-device", Network: "virtio-net-device", Channel: "virtio-serial-device"}, ""},
		"aarch64 raspi3b": {targets.Emulator{System: "aarch64", Machine: "raspi3b", Memory: 1024}, ""},
		"arm vexpress-a9": {targets.Emulator{System: "arm", Machine: "vexpress-a9", Memory: 128}, ""},
		"mipsel malta":    {targets.Emulator{System: "mipsel", Machine: "malta", Memory: 128}, ""},
		"riscv64 virt":    {targets.Emulator{System: "riscv64", Machine: "virt", Memory: 128}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if missing := Missing(c.e); len(missing) > 0 {
				t.Skipf("missing on this host: %v", missing)
			}
			ctx := deadline(t, 4*time.Minute)
			cfg := Config{Emulator: c.e, Image: countingDisk(t)}
			switch {
			case c.e.Machine == "malta": // which takes ELF alone
				cfg.Kernel = idleELF(t)
			case c.marker == "": // something to load that does nothing
				cfg.Kernel = countingDisk(t)
			}
			m := start(ctx, t, cfg)
			if c.marker != "" {
				expect(ctx, t, m, c.marker)
			}
			if err := m.Reset(ctx); err != nil {
				t.Error(err)
			}
			if (m.API == nil) != (m.cfg.Emulator.Channel == "none") {
				t.Errorf("channel %s, API %v", m.cfg.Emulator.Channel, m.API)
			}
		})
	}
}
