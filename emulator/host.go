package emulator

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/host"
	"github.com/pantavisor/pantavisor/targets"
)

// uefi are the places of UEFI firmware by QEMU's architecture: code and a fresh store of
// variables, as Debian, Fedora and Arch install them.
var uefi = map[string][][2]string{
	"x86_64": {
		{"/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"},
		{"/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"},
		{"/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"},
		{"/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"},
	},
	"aarch64": {
		{"/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_VARS.fd"},
		{"/usr/share/edk2/aarch64/QEMU_EFI-pflash.raw", "/usr/share/edk2/aarch64/vars-template-pflash.raw"},
		{"/usr/share/edk2/aarch64/QEMU_CODE.fd", "/usr/share/edk2/aarch64/QEMU_VARS.fd"},
	},
	"arm": {
		{"/usr/share/AAVMF/AAVMF32_CODE.fd", "/usr/share/AAVMF/AAVMF32_VARS.fd"},
		{"/usr/share/edk2/arm/QEMU_EFI-pflash.raw", "/usr/share/edk2/arm/vars-template-pflash.raw"},
	},
	"riscv64": {
		{"/usr/share/qemu-efi-riscv64/RISCV_VIRT_CODE.fd", "/usr/share/qemu-efi-riscv64/RISCV_VIRT_VARS.fd"},
		{"/usr/share/edk2/riscv/RISCV_VIRT_CODE.fd", "/usr/share/edk2/riscv/RISCV_VIRT_VARS.fd"},
	},
}

// uefiPackages are Debian's packages with that firmware.
var uefiPackages = map[string]string{"x86_64": "ovmf", "aarch64": "qemu-efi-aarch64", "arm": "qemu-efi-arm", "riscv64": "qemu-efi-riscv64"}

func findUEFI(system string) (code, vars string, err error) {
	for _, pair := range uefi[system] {
		if exists(pair[0]) && exists(pair[1]) {
			return pair[0], pair[1], nil
		}
	}
	if len(uefi[system]) == 0 {
		return "", "", fault.New(fault.Unsupported, "there is no UEFI firmware for qemu-system-%s: change emulator.firmware", system)
	}
	return "", "", fault.New(fault.Missing, "no UEFI firmware for QEMU; type: %s", host.Command([]string{uefiPackages[system]}))
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// Missing names what the machine needs and this host does not have: programs and
// firmware files. Empty: all is there.
func Missing(e targets.Emulator) []string {
	var out []string
	if _, err := exec.LookPath(program(e)); err != nil {
		out = append(out, program(e))
	}
	if e.Firmware == "uefi" {
		if _, _, err := findUEFI(e.System); err != nil {
			out = append(out, "UEFI firmware for "+e.System)
		}
	}
	for _, file := range []string{e.BIOS, e.Loader} {
		if filepath.IsAbs(file) && !exists(file) {
			out = append(out, file)
		}
	}
	return out
}

// Ensure installs the emulator's packages when something is missing; see
// [host.Ensure].
func Ensure(ctx context.Context, e targets.Emulator, interactive bool, out io.Writer) error {
	missing := Missing(e)
	if len(missing) == 0 {
		return nil
	}
	if len(e.Packages) == 0 {
		return fault.New(fault.Missing, "missing for the emulator: %s", strings.Join(missing, ", "))
	}
	what := strings.Join(missing, ", ")
	var needs []host.Need
	for _, p := range e.Packages {
		needs = append(needs, host.Need{Name: what, Package: p, Has: func() bool { return len(Missing(e)) == 0 }})
		what = p
	}
	return host.Ensure(ctx, "the emulator", needs, interactive, out)
}

// cacheFile is where the verdict on acceleration is kept.
func cacheFile() string {
	dir, err := os.UserCacheDir()
	if err != nil {
		dir = os.TempDir()
	}
	return filepath.Join(dir, "pantavisor", "accelerator")
}
