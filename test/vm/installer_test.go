package vm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/emulator"
	"github.com/pantavisor/pantavisor/internal/oracle"
	"github.com/pantavisor/pantavisor/internal/workspace"
	"github.com/pantavisor/pantavisor/targets"
)

// installDisk is the size of the disk that is installed on: larger than the image.
const installDisk = 6 << 30

// bootInstaller boots an installation medium on USB in a machine with an empty disk, installs
// the image on that, a silent one by itself and any other one by the menu, and boots the
// disk alone.
func bootInstaller(t *testing.T, board *targets.Target, machine targets.Emulator) {
	oracle.Emulator(t, emulator.Missing(machine.Complete()))
	root, err := Root()
	if err != nil {
		t.Fatal(err)
	}
	w, err := workspace.OpenMaker(t.Context(), root, board.Name, nil)
	if err != nil {
		t.Fatal(err)
	}
	medium, err := w.Installer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	disk := filepath.Join(dir, "disk.img")
	if err := os.WriteFile(disk, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(disk, installDisk); err != nil {
		t.Fatal(err)
	}
	install(t, machine, medium, disk, board.Installer.Silent)

	d, err := Boot(within(t), machine, "", dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if cs, err := d.WaitContainers(within(t), emulator.AllReached(len(w.Target.Containers))); err != nil {
		t.Fatalf("the installed disk: %v; last answer %+v; last lines of the console:\n%s", err, cs, strings.Join(d.Console.Tail(60), "\n"))
	}
}

// install boots the medium until the machine has restarted or switched itself off.
func install(t *testing.T, machine targets.Emulator, medium, disk string, silent bool) {
	t.Helper()
	stick := machine
	stick.Disk, stick.Channel = "usb-storage", "none"
	m, err := emulator.Start(within(t), emulator.Config{
		Emulator: stick, Image: medium, Dir: t.TempDir(), NoNetwork: true,
		Args: []string{"-no-reboot", "-drive", "if=none,id=inner,format=raw,cache=unsafe,file=" + disk, "-device", "virtio-blk-pci,drive=inner"},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	steps := []struct{ expect, write string }{
		{"Press a key to stop", "2\r"}, {"/dev/vda (6144 MiB)", ""}, {"Number of the disk", "2\r"}, {"Type yes", "yes\r"},
		{"complete and verified", ""}, {"press ENTER to restart", "\r"},
	}
	if silent {
		steps = steps[4:5]
	}
	for _, s := range steps {
		if _, err := m.Console.Expect(within(t), s.expect); err != nil {
			t.Fatalf("%v; last lines of the console:\n%s", err, strings.Join(m.Console.Tail(60), "\n"))
		}
		if _, err := m.Console.Write([]byte(s.write)); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Wait(within(t)); err != nil {
		t.Fatalf("%v; last lines of the console:\n%s", err, strings.Join(m.Console.Tail(60), "\n"))
	}
}
