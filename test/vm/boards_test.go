package vm

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pantavisor/pantavisor/emulator"
	"github.com/pantavisor/pantavisor/internal/oracle"
	"github.com/pantavisor/pantavisor/internal/workspace"
	"github.com/pantavisor/pantavisor/targets"
)

// usual are the targets that each test run boots besides x64-uefi, which has tests of its
// own: one for each boot loader. PV_TEST_TARGETS names others, or all.
var usual = []string{"qemu-aarch64"}

// TestBoards builds the targets' images and boots each until its containers have reached
// their goals and the control API has said so, and switches it off.
func TestBoards(t *testing.T) {
	if testing.Short() {
		t.Skip("boots virtual machines")
	}
	names, err := targets.Names(targets.Builtin())
	if err != nil {
		t.Fatal(err)
	}
	wanted := usual
	if text := os.Getenv("PV_TEST_TARGETS"); text != "" {
		wanted = strings.Split(text, ",")
	}
	if wanted[0] == "all" {
		wanted = names
	}
	for _, name := range wanted {
		board, err := targets.Load(targets.Builtin(), name)
		if err != nil {
			t.Error(err)
			continue
		}
		for _, machine := range board.Emulators {
			t.Run(name+"/"+machine.Complete().Name, func(t *testing.T) {
				if board.Installer != nil {
					bootInstaller(t, board, machine)
					return
				}
				bootBoard(t, name, machine)
			})
		}
	}
}

func bootBoard(t *testing.T, name string, machine targets.Emulator) {
	oracle.Emulator(t, emulator.Missing(machine.Complete()))
	root, err := Root()
	if err != nil {
		t.Fatal(err)
	}
	w, err := workspace.OpenMaker(t.Context(), root, name, nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := w.Machine(t.Context(), machine, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	bootConfig(t, w, cfg)
}

// settled waits for the device's word on the console of a machine whose device cannot be
// asked, nor switched off.
func settled(t *testing.T, d *Device, containers int) {
	t.Helper()
	want := fmt.Sprintf("]: ready: all %d containers reached their goals", containers)
	if _, err := d.Console.Expect(within(t), want); err != nil {
		t.Fatalf("%v; last lines of the console:\n%s", err, strings.Join(d.Console.Tail(60), "\n"))
	}
}

// bootConfig boots a machine until the target's containers have reached their goals, and
// switches it off.
func bootConfig(t *testing.T, w *workspace.Maker, cfg emulator.Config) {
	t.Helper()
	cfg.Dir = t.TempDir()
	m, err := emulator.Start(within(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	d := &Device{Machine: m}
	defer d.Close()
	t.Cleanup(func() { t.Logf("%s: containers and shutdown in %.0f s", w.Target.Name, m.Uptime().Seconds()) })
	if m.API == nil {
		settled(t, d, len(w.Target.Containers))
		return
	}
	cs, err := d.WaitContainers(within(t), emulator.AllReached(len(w.Target.Containers)))
	if err != nil {
		t.Fatalf("%v; last answer %+v; last lines of the console:\n%s", err, cs, strings.Join(d.Console.Tail(60), "\n"))
	}
	if err := d.Shutdown(t.Context(), 2*time.Minute); err != nil {
		t.Error(err)
	}
}
