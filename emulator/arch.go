package emulator

import (
	"runtime"

	"github.com/pantavisor/pantavisor/targets"
)

// systems are QEMU's names of the architectures that Go names.
var systems = map[string]string{
	"amd64": "x86_64", "arm64": "aarch64", "arm": "arm", "riscv64": "riscv64", "mips": "mips", "mipsle": "mipsel",
}

// sameArch reports whether the machine has this host's CPU.
func sameArch(e targets.Emulator) bool { return systems[runtime.GOARCH] == e.System }
