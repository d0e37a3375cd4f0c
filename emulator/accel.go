package emulator

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/targets"
)

// probeTime is how long the firmware may take to its prompt when acceleration
// works; it takes about one second then.
const probeTime = 5 * time.Second

// probeMarker is what UEFI firmware prints when it has found nothing to boot.
const probeMarker = "BdsDxe"

// Accelerator returns "kvm" if a machine that uses it really boots something, else
// "tcg". A device file that opens proves nothing: under some hypervisors KVM
// exists but interprets every instruction of a kernel, or lacks some. The verdict
// is kept until the host is started again.
func Accelerator(ctx context.Context, e targets.Emulator) string {
	if e.Firmware != "uefi" || !sameArch(e) || !canOpen("/dev/kvm") {
		return "tcg"
	}
	id := bootID()
	if kept, ok := keptVerdict(id); ok {
		return kept
	}
	verdict := "tcg"
	if probe(ctx, e) {
		verdict = "kvm"
	}
	if ctx.Err() == nil {
		keepVerdict(id, verdict)
	}
	return verdict
}

func canOpen(path string) bool {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return false
	}
	_ = f.Close()
	return true
}

// probe boots the firmware, which switches to 64 bits, sets up paging and drives
// devices, with nothing to boot.
func probe(ctx context.Context, e targets.Emulator) bool {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	m, err := Start(ctx, Config{Emulator: e, Accelerator: "kvm", NoNetwork: true})
	if err != nil {
		return false
	}
	defer m.Close()
	_, err = m.Console.Expect(ctx, probeMarker)
	return err == nil
}

func bootID() string {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

func keptVerdict(id string) (string, bool) {
	data, err := os.ReadFile(cacheFile())
	if err != nil || id == "" {
		return "", false
	}
	kept, verdict, ok := strings.Cut(strings.TrimSpace(string(data)), " ")
	return verdict, ok && kept == id && (verdict == "kvm" || verdict == "tcg")
}

// keepVerdict is a convenience: where it cannot be kept the probe runs again.
func keepVerdict(id, verdict string) {
	if id == "" || os.MkdirAll(filepath.Dir(cacheFile()), 0o755) != nil {
		return
	}
	_ = atomicfile.Write(cacheFile(), []byte(id+" "+verdict+"\n"), 0o644)
}

// hosts are QEMU's names of this program's own architectures, by Go's.
var hosts = map[string]string{"amd64": "x86_64", "arm64": "aarch64", "riscv64": "riscv64"}

// sameArch reports whether the machine has this host's CPU.
func sameArch(e targets.Emulator) bool { return hosts[runtime.GOARCH] == e.System }
