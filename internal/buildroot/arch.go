package buildroot

import (
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/targets"
)

// Arch returns the CPU (Buildroot: arch/Config.in and package/go/go.mk).
func (o *Output) Arch() (targets.Arch, error) {
	switch {
	case o.Enabled("BR2_x86_64"):
		return targets.Arch{Go: "amd64"}, nil
	case o.Enabled("BR2_aarch64"):
		return targets.Arch{Go: "arm64"}, nil
	case o.Enabled("BR2_riscv") && o.Enabled("BR2_RISCV_64"):
		return targets.Arch{Go: "riscv64"}, nil
	case o.Enabled("BR2_arm"):
		return targets.Arch{Go: "arm", ARM: o.goARM()}, nil
	case o.Enabled("BR2_mips"):
		return targets.Arch{Go: "mips", MIPS: o.goMIPS()}, nil
	case o.Enabled("BR2_mipsel"):
		return targets.Arch{Go: "mipsle", MIPS: o.goMIPS()}, nil
	}
	return targets.Arch{}, fault.New(fault.Unsupported, "%s: the runtime does not support the architecture %s; want BR2_x86_64, BR2_aarch64, BR2_arm, BR2_mips, BR2_mipsel or BR2_riscv with 64 bits",
		o.ConfigFile, o.Raw("BR2_ARCH"))
}

// goARM returns GOARM. Versions 6 and 7 of Go's programs need a floating-point unit.
func (o *Output) goARM() string {
	switch {
	case o.Enabled("BR2_ARM_SOFT_FLOAT"), o.Enabled("BR2_ARM_CPU_ARMV5"), o.Enabled("BR2_ARM_CPU_ARMV4"):
		return "5"
	case o.Enabled("BR2_ARM_CPU_ARMV6"):
		return "6"
	}
	return "7"
}

// goMIPS returns GOMIPS.
func (o *Output) goMIPS() string {
	if o.Enabled("BR2_MIPS_SOFT_FLOAT") {
		return "softfloat"
	}
	return "hardfloat"
}
