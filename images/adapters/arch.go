package adapters

import (
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/targets"
)

// yoctoArch translates TARGET_ARCH and TUNE_FEATURES of OpenEmbedded (meta/conf/machine/include)
// into Go's terms.
func yoctoArch(arch, tune string) (targets.Arch, error) {
	features := strings.Fields(tune)
	has := func(names ...string) bool {
		return slices.ContainsFunc(features, func(f string) bool { return slices.Contains(names, f) })
	}
	switch arch {
	case "x86_64":
		return targets.Arch{Go: "amd64"}, nil
	case "aarch64":
		return targets.Arch{Go: "arm64"}, nil
	case "riscv64":
		return targets.Arch{Go: "riscv64"}, nil
	case "arm":
		return targets.Arch{Go: "arm", ARM: armVersion(features)}, nil
	case "mips", "mipsel":
		out := targets.Arch{Go: strings.Replace(arch, "mipsel", "mipsle", 1), MIPS: "softfloat"}
		if has("fpu-hard") {
			out.MIPS = "hardfloat"
		}
		return out, nil
	}
	return targets.Arch{}, fault.New(fault.Unsupported, "TARGET_ARCH %q: the runtime does not support it; want x86_64, aarch64, arm, mips, mipsel or riscv64", arch)
}

// armVersion returns GOARM: 7 with the floating-point unit of ARMv7 or in 32 bits of a later one,
// 6 with that of ARMv6, else 5, which has none.
func armVersion(features []string) string {
	version := "5"
	float := false
	for _, f := range features {
		switch {
		case strings.HasPrefix(f, "armv7") || strings.HasPrefix(f, "armv8") || strings.HasPrefix(f, "armv9") || strings.HasPrefix(f, "cortexa") || f == "aarch64":
			version = "7"
		case strings.HasPrefix(f, "armv6") || strings.HasPrefix(f, "arm11"):
			if version == "5" {
				version = "6"
			}
		case strings.HasPrefix(f, "vfp") || f == "neon" || f == "callconvention-hard":
			float = true
		}
	}
	if !float && version != "7" {
		return "5"
	}
	return version
}
