package device

import (
	"runtime"
	"strings"
	"testing"
)

// TestArchitecture has the names that devices have always published.
func TestArchitecture(t *testing.T) {
	for goarch, want := range map[string]string{"amd64": "x86_64", "arm64": "aarch64", "arm": "arm", "mips": "mips", "mipsle": "mips", "riscv64": "riscv64"} {
		if got := architectureOf(goarch); got != want {
			t.Errorf("%s is %q, want %q", goarch, got, want)
		}
	}
	for goarch, want := range map[string]string{"amd64": "x86_64/64/EL", "arm64": "aarch64/64/EL", "arm": "arm/32/EL"} {
		if got := architecture(); goarch == runtime.GOARCH && got != want {
			t.Errorf("this machine is %q, want %q", got, want)
		}
	}
	if strings.Count(architecture(), "/") != 2 {
		t.Errorf("%q is not ARCH/BITS/ORDER", architecture())
	}
}
