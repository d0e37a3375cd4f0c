package emulator

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/fault"
	"github.com/pantavisor/pantavisor/targets"
)

// ovmf are the places of UEFI firmware: code and a fresh store of variables, as
// Debian, Fedora and Arch install them.
var ovmf = [][2]string{
	{"/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"},
	{"/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"},
	{"/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"},
	{"/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"},
}

func findOVMF() (code, vars string, err error) {
	for _, pair := range ovmf {
		if exists(pair[0]) && exists(pair[1]) {
			return pair[0], pair[1], nil
		}
	}
	return "", "", fault.New(fault.Missing, "no UEFI firmware for QEMU; %s", installHint([]string{"ovmf"}))
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func installHint(packages []string) string {
	return "install it: apt-get install -y --no-install-recommends " + strings.Join(packages, " ")
}

// Missing names what the machine needs and this host does not have: programs and
// firmware files. Empty: all is there.
func Missing(e targets.Emulator) []string {
	var out []string
	if _, err := exec.LookPath(program(e)); err != nil {
		out = append(out, program(e))
	}
	if e.Firmware == "uefi" {
		if _, _, err := findOVMF(); err != nil {
			out = append(out, "UEFI firmware (OVMF)")
		}
	}
	return out
}

// Ensure installs the emulator's packages when something is missing: as root
// through apt, saying what and why; as anybody else it prints the one command to
// type. interactive false (PV_BUILD_INTERACTIVE=false) never installs.
func Ensure(ctx context.Context, e targets.Emulator, interactive bool, out io.Writer) error {
	missing := Missing(e)
	if len(missing) == 0 {
		return nil
	}
	packages := slices.Sorted(slices.Values(e.Packages))
	if len(packages) == 0 {
		return fault.New(fault.Missing, "missing for the emulator: %s", strings.Join(missing, ", "))
	}
	command := "apt-get install -y --no-install-recommends " + strings.Join(packages, " ")
	if os.Geteuid() != 0 || !interactive {
		return fault.New(fault.Missing, "missing for the emulator: %s; type: %s", strings.Join(missing, ", "), sudo()+command)
	}
	fmt.Fprintf(out, "installing %s, because the emulator needs %s\n", strings.Join(packages, " "), strings.Join(missing, ", "))
	return install(ctx, packages, missing, out)
}

func sudo() string {
	if os.Geteuid() == 0 {
		return ""
	}
	return "sudo "
}

func install(ctx context.Context, packages, missing []string, out io.Writer) error {
	steps := [][]string{{"update", "-q"}, append([]string{"install", "-y", "-q", "--no-install-recommends"}, packages...)}
	for _, args := range steps {
		cmd := exec.CommandContext(ctx, "apt-get", args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		cmd.Stdout, cmd.Stderr = out, out
		if err := cmd.Run(); err != nil && args[0] == "install" {
			return fault.New(fault.Missing, "installing %s for the emulator: apt-get %s: %w", strings.Join(missing, ", "), args[0], err)
		}
	}
	return nil
}

// cacheFile is where the verdict on acceleration is kept.
func cacheFile() string {
	dir, err := os.UserCacheDir()
	if err != nil {
		dir = os.TempDir()
	}
	return filepath.Join(dir, "pantavisor", "accelerator")
}
