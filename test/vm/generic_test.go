package vm

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/internal/workspace"
	"github.com/pantavisor/pantavisor/revision/archive"
	"github.com/pantavisor/pantavisor/revision/fragment"
	"github.com/pantavisor/pantavisor/revision/objects"
)

// replacements are the targets whose BSP replaces that of a device.
var replacements = map[string]string{
	"x64-uefi": "x64-generic", "qemu-aarch64": "aarch64-generic", "qemu-arm": "arm-generic", "qemu-riscv64": "riscv64-generic",
	"qemu-malta": "mips-generic",
}

// TestBoardsReplacedBSP boots the devices that PV_TEST_TARGETS names with the BSP of a
// -generic target in their revision: it knows neither the storage nor the boot loader.
func TestBoardsReplacedBSP(t *testing.T) {
	text := os.Getenv("PV_TEST_TARGETS")
	if testing.Short() || text == "" {
		t.Skip("boots virtual machines: mage boards")
	}
	wanted := strings.Split(text, ",")
	for name, bsp := range replacements {
		if !slices.Contains(wanted, name) && wanted[0] != "all" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			w := openTarget(t, name)
			cfg, err := w.Machine(t.Context(), w.Target.Emulators[0], t.TempDir())
			must(t, err)
			reference := replaced(t, w, openTarget(t, bsp), nil)
			cfg.Image, err = w.ImageOf(t.Context(), reference)
			must(t, err)
			if cfg.Kernel != "" { // QEMU itself loads both
				cfg.Kernel, cfg.Initrd = started(t, reference)
			}
			bootConfig(t, w, cfg)
		})
	}
}

func openTarget(t *testing.T, name string) *workspace.Maker {
	t.Helper()
	root, err := Root()
	must(t, err)
	w, err := workspace.OpenMaker(t.Context(), root, name, nil)
	must(t, err)
	return w
}

// replaced returns a .pvr directory with the containers of a device, the BSP of another
// target, or its own with a debug shell, and further members.
func replaced(t *testing.T, device, bsp *workspace.Maker, more map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	containers, part, both := filepath.Join(dir, "containers"), filepath.Join(dir, "bsp"), filepath.Join(dir, ".pvr")
	must(t, device.Reference(t.Context(), filepath.Join(device.Root, "containers"), device.Target.Containers, containers))
	must(t, os.MkdirAll(both, 0o755))
	export, err := bsp.BSP(t.Context(), bsp == device)
	must(t, err)
	unpack(t, export, part)
	all, err := fragment.Create(both)
	must(t, err)
	must(t, all.Join(t.Context(), containers))
	must(t, all.Join(t.Context(), part))
	for key, value := range more {
		must(t, all.AddValue(key, []byte(value)))
	}
	must(t, all.Close())
	return both
}

// started returns the kernel and the initrd of a .pvr directory.
func started(t *testing.T, dir string) (kernel, initrd string) {
	t.Helper()
	st, err := fragment.Read(dir)
	must(t, err)
	text, _ := st.Get("bsp/run.json")
	var run struct{ Linux, Initrd string }
	must(t, json.Unmarshal(text, &run))
	object := func(name string) string {
		sum, ok := st.Object("bsp/" + name)
		if !ok {
			t.Fatalf("%s has no object bsp/%s", dir, name)
		}
		return filepath.Join(dir, fragment.Objects, sum)
	}
	return object(run.Linux), object(run.Initrd)
}

// unpack writes an export as a fragment of a state.
func unpack(t *testing.T, export, dir string) {
	t.Helper()
	f, err := os.Open(export)
	must(t, err)
	defer f.Close()
	must(t, os.MkdirAll(dir, 0o755))
	store, err := objects.Create(filepath.Join(dir, fragment.Objects))
	must(t, err)
	st, err := archive.Import(t.Context(), f, store, archive.ImportOptions{})
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, fragment.File), st.Encode(), 0o644))
}
