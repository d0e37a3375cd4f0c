package vm

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/emulator"
	"github.com/pantavisor/pantavisor/internal/oracle"
	"github.com/pantavisor/pantavisor/internal/workspace"
	"github.com/pantavisor/pantavisor/targets"
)

// twins are machines that cannot start: one for each way in which a kernel is started, with
// what it is started from damaged.
var twins = []struct {
	target, machine string
	damage          func(*testing.T, *workspace.Maker, *emulator.Config)
	reason, end     string // on the console: why, and the end of the boot
}{
	{"x64-uefi", "q35", spoilKernel, "invalid magic number", noRevision},
	{"aarch64-uefi", "virt", spoilKernel, "plain image kernel not supported", noRevision},
	{"x64-bios", "bios", spoilKernel, "invalid magic number", noRevision},
	{"qemu-aarch64", "virt", spoilKernel, "Bad Linux ARM64 Image magic!", noRevision},
	{"sunxi-h3", "orangepi-pc", spoilKernel, "zimage: Bad magic!", noRevision},
	{"rpi64-5.10.y", "raspi3b", removeKernel, "Failed to load '/trails/0/.pv/pv-kernel.img'", noRevision},
	{"x64-efiab", "q35", spoilSlot, "Partition 2 cannot be started.", "No partition can be started."},
	{"qemu-malta", "malta", spoilInitrd, "Initramfs unpacking failed", "Kernel panic"},
}

const noRevision = "No revision can be booted."

// TestBoardsNegative is the twin of TestBoards: its expectation does not hold on machines whose
// boot is damaged, and their console says why. Of each boot loader one target is enough.
func TestBoardsNegative(t *testing.T) {
	if testing.Short() {
		t.Skip("boots virtual machines")
	}
	names := chosen(t, usual...)
	for _, twin := range twins {
		if !slices.Contains(names, twin.target) {
			continue
		}
		t.Run(twin.target+"/"+twin.machine, func(t *testing.T) {
			w := openTarget(t, twin.target)
			at := slices.IndexFunc(w.Target.Emulators, func(e targets.Emulator) bool { return e.Name == twin.machine })
			machine := w.Target.Emulators[at]
			oracle.Emulator(t, emulator.Missing(machine))
			cfg, err := w.Machine(t.Context(), machine, t.TempDir())
			must(t, err)
			twin.damage(t, w, &cfg)
			cannotStart(t, cfg, len(w.Target.Containers), twin.reason, twin.end)
		})
	}
}

// TestEachLoaderHasATwin finds boot loaders of emulated targets, with the firmware that starts
// them, that no row of twins is for.
func TestEachLoaderHasATwin(t *testing.T) {
	all, err := targets.LoadAll(targets.Builtin())
	must(t, err)
	without := map[string]string{}
	for _, board := range all {
		for _, e := range board.Emulators {
			without[starter(board, e)] = board.Name
		}
	}
	for _, twin := range twins {
		board, err := targets.Load(targets.Builtin(), twin.target)
		must(t, err)
		at := slices.IndexFunc(board.Emulators, func(e targets.Emulator) bool { return e.Name == twin.machine })
		if at < 0 {
			t.Fatalf("%s has no machine %s", twin.target, twin.machine)
		}
		delete(without, starter(board, board.Emulators[at]))
	}
	for loader, board := range without {
		t.Errorf("%s of %s has no twin", loader, board)
	}
}

// starter names what starts the kernel on a machine.
func starter(board *targets.Target, e targets.Emulator) string {
	if e.Boot == "kernel" {
		return "QEMU"
	}
	return board.Bootloader.Type + ", firmware " + e.Firmware
}

// cannotStart boots a machine until its console has said that this has ended, and why.
func cannotStart(t *testing.T, cfg emulator.Config, containers int, reason, end string) {
	t.Helper()
	cfg.Dir = t.TempDir()
	ctx := within(t)
	m, err := emulator.Start(ctx, cfg)
	must(t, err)
	d := &Device{Machine: m}
	defer d.Close()
	said := make(chan string, 1)
	go func() {
		defer d.Kill() // which ends the wait for the containers
		text, err := d.Console.Expect(ctx, end)
		if err != nil {
			text += "\n" + err.Error()
		}
		said <- text
	}()
	if ready(ctx, d, containers) == nil {
		t.Fatal("the containers have reached their goals")
	}
	if text := <-said; !strings.Contains(text, reason) || !strings.HasSuffix(text, end) {
		t.Errorf("want %q and then %q on the console; it has:\n%s", reason, end, text)
	}
	t.Logf("ended in %.0f s", m.Uptime().Seconds())
}

// spoilKernel overwrites the beginning of the kernel that the loader reads from the storage.
func spoilKernel(t *testing.T, w *workspace.Maker, cfg *emulator.Config) {
	t.Helper()
	s := damaged(t, w)
	s.spoil("/trails/0/.pv/pv-kernel.img")
	cfg.Image = s.image
}

// removeKernel leaves the revision without a kernel, where reading one takes a minute.
func removeKernel(t *testing.T, w *workspace.Maker, cfg *emulator.Config) {
	t.Helper()
	s := damaged(t, w)
	s.do("rm /trails/0/.pv/pv-kernel.img")
	cfg.Image = s.image
}

// spoilSlot replaces the program on the first of two boot partitions.
func spoilSlot(t *testing.T, w *workspace.Maker, cfg *emulator.Config) {
	t.Helper()
	oracle.Need(t, "mcopy")
	s := damaged(t, w)
	parts := w.Target.Images[0].Partitions
	at := slices.IndexFunc(parts, func(p targets.Partition) bool { return p.Role == "boota" })
	file := filepath.Join(t.TempDir(), "pv-linux.efi")
	must(t, os.WriteFile(file, []byte("MZ half written"), 0o644))
	mcopy := exec.CommandContext(t.Context(), "mcopy", "-o", "-i", s.image+"@@"+strconv.FormatInt(int64(parts[at].Start), 10), file, "::/")
	if out, err := mcopy.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cfg.Image = s.image
}

// spoilInitrd overwrites the beginning of the initrd that QEMU itself loads.
func spoilInitrd(t *testing.T, _ *workspace.Maker, cfg *emulator.Config) {
	t.Helper()
	overwrite(t, cfg.Initrd, 0, 4096)
}
