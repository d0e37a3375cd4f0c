package sources

import (
	"strings"

	"github.com/pantavisor/pantavisor/debian"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/kernel/compile"
	"github.com/pantavisor/pantavisor/targets"
)

// machine is an architecture for which kernels are compiled.
type machine struct {
	compile.Machine
	// fragments are those for every board of the architecture.
	fragments []string
	// debian is Debian's name of a build architecture with the same tools.
	debian string
}

// machineOf returns what the kernel calls a target's architecture.
func machineOf(a targets.Arch) (machine, error) {
	key := a.Go
	if a.Go == "arm" {
		key += a.ARM
	}
	m, ok := machines[key]
	if !ok {
		return machine{}, fault.New(fault.Unsupported, "compiling a kernel: not for go: %s", key)
	}
	return m, nil
}

// machines is the table of the architectures, by GOARCH and, for arm, GOARM.
var machines = map[string]machine{
	"amd64": {
		compile.Machine{Arch: "x86_64", Directory: "x86", Triplet: "x86_64-linux-gnu", Goal: "bzImage", Image: "arch/x86/boot/bzImage"},
		[]string{"x86_64", "virtio"}, "amd64",
	},
	"arm64": {
		compile.Machine{Arch: "arm64", Directory: "arm64", Triplet: "aarch64-linux-gnu", Goal: "Image", Image: "arch/arm64/boot/Image", Trees: true},
		[]string{"aarch64"}, "arm64",
	},
	"riscv64": {
		compile.Machine{Arch: "riscv", Directory: "riscv", Triplet: "riscv64-linux-gnu", Goal: "Image", Image: "arch/riscv/boot/Image", Trees: true},
		[]string{"riscv64"}, "riscv64",
	},
	"arm5":   {arm("arm-linux-gnueabi"), []string{"armv5"}, "armel"},
	"arm6":   {arm("arm-linux-gnueabi"), []string{"armv6"}, "armel"},
	"arm7":   {arm("arm-linux-gnueabihf"), []string{"armv7"}, "armhf"},
	"mips":   {mips("mips-linux-gnu"), []string{"mips"}, "mips"},
	"mipsle": {mips("mipsel-linux-gnu"), []string{"mipsle"}, "mipsel"},
}

func arm(triplet string) compile.Machine {
	return compile.Machine{Arch: "arm", Directory: "arm", Triplet: triplet, Goal: "zImage", Image: "arch/arm/boot/zImage", Trees: true}
}

// mips is started with the ELF file.
func mips(triplet string) compile.Machine {
	return compile.Machine{Arch: "mips", Directory: "mips", Triplet: triplet, Goal: "vmlinux", Image: "vmlinux", ELF: true}
}

// ToolchainRequest is the name of the closure request for compilers and what else a kernel's
// build runs.
const ToolchainRequest = "toolchain"

// toolchain asks for the compilers of a machine for a build architecture.
func (m machine) toolchain(host string) debian.Request {
	packages := []string{
		"bc", "bison", "busybox-static", "bzip2", "coreutils", "dash", "diffutils", "findutils", "flex", "gcc", "grep", "gzip",
		"libc6-dev", "libelf-dev", "libssl-dev", "lz4", "make", "mawk", "patch", "perl-base", "sed", "tar", "xz-utils", "zstd",
	}
	if m.debian != host {
		packages = append(packages, "gcc-"+strings.ReplaceAll(m.Triplet, "_", "-"))
	}
	return debian.Request{Name: ToolchainRequest, Suite: debian.ToolSuite, Arch: host, Packages: packages, Closure: true}
}
