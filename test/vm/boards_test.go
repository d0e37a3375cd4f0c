package vm

import (
	"context"
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

// usual are the targets that each test run boots: one for each boot loader. PV_TEST_TARGETS
// names others, or all. x64-uefi has tests of its own, and TestGuide runs qemu-aarch64.
var usual = []string{target, "qemu-aarch64"}

// TestBoards builds the targets' images and boots each until its containers have reached
// their goals and the control API has said so, and switches it off.
func TestBoards(t *testing.T) {
	if testing.Short() || os.Getenv("PV_TEST_TARGETS") == "" {
		t.Skip("boots virtual machines: mage boards")
	}
	for _, name := range chosen(t) {
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

// chosen returns the targets that PV_TEST_TARGETS names, by default these.
func chosen(t *testing.T, usual ...string) []string {
	t.Helper()
	text := os.Getenv("PV_TEST_TARGETS")
	switch text {
	case "":
		return usual
	case "all":
		names, err := targets.Names(targets.Builtin())
		must(t, err)
		return names
	}
	return strings.Split(text, ",")
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

// ready waits until a number of containers have reached their goals. The control API says
// so, or the console of a machine whose device cannot be asked.
func ready(ctx context.Context, d *Device, containers int) error {
	if d.API == nil {
		n, err := d.Console.Ready(ctx)
		if err == nil && n != containers {
			err = fmt.Errorf("%d containers have reached their goals, want %d", n, containers)
		}
		return err
	}
	cs, err := d.WaitContainers(ctx, emulator.AllReached(containers))
	if err != nil {
		return fmt.Errorf("%w; last answer %+v", err, cs)
	}
	return nil
}

// bootPatience is how long a boot may take: that of a board whose SD card is emulated is slow
// already on a machine that does nothing else.
const bootPatience = 10 * time.Minute

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
	ctx, cancel := context.WithTimeout(t.Context(), bootPatience)
	defer cancel()
	if err := ready(ctx, d, len(w.Target.Containers)); err != nil {
		t.Fatalf("%v; last lines of the console:\n%s", err, strings.Join(d.Console.Tail(60), "\n"))
	}
	if m.API == nil {
		if err := typePowerOff(within(t), d); err != nil {
			t.Fatalf("%v; last lines of the console:\n%s", err, strings.Join(d.Console.Tail(30), "\n"))
		}
		return
	}
	if err := d.Shutdown(t.Context(), 2*time.Minute); err != nil {
		t.Error(err)
	}
}

// typePowerOff switches a device off that can only be asked on its console, and waits until the
// kernel says that it is.
func typePowerOff(ctx context.Context, d *Device) error {
	if _, err := d.Run(ctx, "pvcontrol cmd poweroff"); err != nil {
		return err
	}
	if _, err := d.Console.Write([]byte("exit\r")); err != nil {
		return err
	}
	_, err := d.Console.Expect(ctx, "] reboot: ") // Power down, or System halted where nothing switches off
	return err
}
