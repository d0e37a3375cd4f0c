package emulator

import (
	"context"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/oracle"
	"github.com/pantavisor/pantavisor/targets"
)

// pc is the machine of these tests.
func pc(t *testing.T, firmware string) targets.Emulator {
	t.Helper()
	e := targets.Emulator{System: "x86_64", Machine: "q35", Memory: 128, Firmware: firmware}
	oracle.Emulator(t, Missing(e))
	return e
}

func deadline(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// bootSector is a boot sector that counts its starts in the disk's second sector,
// prints "boot N" on the first serial port and then repeats what it reads there;
// r resets the machine and p powers it off:
//
//	      xor ax,ax; mov ds,ax; mov es,ax; mov ss,ax; mov sp,7c00
//	      int 13 ax=0201 bx=7e00 cx=0002 dh=0     read the second sector
//	      inc byte [7e00]
//	      int 13 ax=0301 bx=7e00 cx=0002 dh=0     write it
//	      print msg, '0'+[7e00], '\n'
//	loop: in al,3fd; test al,1; jz loop; in al,3f8
//	      'r': out 64,fe     'p': out 604,2000 (q35: PM1a control, S5)
//	      put al; jmp loop
const bootSector = "31c08ed88ec08ed0bc007cb80102bb007eb90200b600cd13fe06007eb80103bb007eb90200b600cd13" +
	"be707cac84c07405e83700ebf6a0007e0430e82d00b00ae82800bafd03eca80174f8baf803ec3c7274093c70740be81100ebe7" +
	"b0fee664ebfeba0406b80020efebfebaf803eec3626f6f742000"

// countingDisk makes a disk of the boot sector and a hole behind it.
func countingDisk(t *testing.T) string {
	t.Helper()
	code, err := hex.DecodeString(bootSector)
	if err != nil {
		t.Fatal(err)
	}
	disk := make([]byte, 1024)
	copy(disk, code)
	disk[510], disk[511] = 0x55, 0xaa
	file := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(file, disk, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, 4<<20); err != nil {
		t.Fatal(err)
	}
	return file
}

func start(ctx context.Context, t *testing.T, cfg Config) *Machine {
	t.Helper()
	m, err := Start(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

func expect(ctx context.Context, t *testing.T, m *Machine, text string) {
	t.Helper()
	if out, err := m.Console.Expect(ctx, text); err != nil {
		t.Fatalf("%v in %q", err, out)
	}
}

func TestFirmwareBoots(t *testing.T) {
	ctx := deadline(t, 2*time.Minute)
	m := start(ctx, t, Config{Emulator: pc(t, "uefi"), NoNetwork: true})
	expect(ctx, t, m, probeMarker)
	m.Kill()
	if err := m.Wait(ctx); err == nil {
		t.Error("a killed QEMU counts as a power-off")
	}
	if _, err := m.Console.Expect(ctx, "never printed"); err == nil {
		t.Error("Expect finds what was not printed")
	}
}

func TestDiskLivesAsLongAsItsDirectory(t *testing.T) {
	ctx := deadline(t, 2*time.Minute)
	image, dir := countingDisk(t), t.TempDir()
	before, _ := os.ReadFile(image)
	m := start(ctx, t, Config{Emulator: pc(t, ""), Image: image, Dir: dir})
	expect(ctx, t, m, "boot 1\n")
	_, _ = m.Console.Write([]byte("echo"))
	expect(ctx, t, m, "echo")
	_, _ = m.Console.Write([]byte("r"))
	expect(ctx, t, m, "boot 2\n")
	if err := m.Reset(ctx); err != nil {
		t.Fatal(err)
	}
	expect(ctx, t, m, "boot 3\n")
	m.Close()
	m = start(ctx, t, Config{Emulator: pc(t, ""), Dir: dir})
	expect(ctx, t, m, "boot 4\n")
	_, _ = m.Console.Write([]byte("p"))
	if err := m.Wait(ctx); err != nil {
		t.Errorf("a power-off by the device: %v", err)
	}
	if after, _ := os.ReadFile(image); string(after) != string(before) {
		t.Error("the image was changed")
	}
	m = start(ctx, t, Config{Emulator: pc(t, ""), Image: image})
	expect(ctx, t, m, "boot 1\n")
	own := m.Disk()
	m.Close()
	if _, err := os.Stat(own); err == nil {
		t.Error("the working copy is left behind")
	}
}

func TestShutdownOfADeviceThatDoesNotListen(t *testing.T) {
	ctx := deadline(t, time.Minute)
	m := start(ctx, t, Config{Emulator: pc(t, ""), Image: countingDisk(t)})
	expect(ctx, t, m, "boot 1\n")
	if err := m.Shutdown(ctx, 2*time.Second); fault.Of(err) != fault.Goal {
		t.Errorf("kind %v: %v", fault.Of(err), err)
	}
	select {
	case <-m.Done():
	default:
		t.Error("the machine still runs")
	}
}

func TestStartSaysWhatIsWrong(t *testing.T) {
	ctx := deadline(t, time.Minute)
	e := pc(t, "")
	_, err := Start(ctx, Config{Emulator: targets.Emulator{System: "pdp11", Packages: []string{"simh"}}})
	if fault.Of(err) != fault.Missing || !strings.Contains(err.Error(), "apt-get install -y --no-install-recommends simh") {
		t.Errorf("no program: kind %v: %v", fault.Of(err), err)
	}
	e.Machine = "no-such-machine"
	if _, err := Start(ctx, Config{Emulator: e}); err == nil || !strings.Contains(err.Error(), "unsupported machine type") {
		t.Errorf("wrong machine: %v", err)
	}
	if _, err := Start(ctx, Config{Emulator: e, Image: "/nonexistent/image"}); fault.Of(err) != fault.IO {
		t.Errorf("no image: kind %v: %v", fault.Of(err), err)
	}
	if _, err := Start(ctx, Config{Emulator: e, Dir: "/tmp/" + strings.Repeat("x", 110)}); fault.Of(err) != fault.BadInput {
		t.Errorf("long directory: kind %v: %v", fault.Of(err), err)
	}
}

// TestRunReportsMissedGoals runs a device that never answers.
func TestRunReportsMissedGoals(t *testing.T) {
	var out, messages strings.Builder
	err := Run(t.Context(), Options{
		Target: "counter", Emulator: pc(t, ""), Image: countingDisk(t), Accelerator: "tcg", JSON: true,
		Stdout: &out, Stderr: &messages, Stall: 4 * time.Second, PowerOff: time.Second,
	})
	if fault.Of(err) != fault.Goal || !strings.Contains(err.Error(), "nothing changed for 4s") || !strings.Contains(err.Error(), "boot 1") {
		t.Errorf("kind %v: %v", fault.Of(err), err)
	}
	for _, want := range []string{`"reached": false`, `"clean_off": false`, `"boot 1"`} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %s in the summary:\n%s", want, out.String())
		}
	}
}

// TestKeptDisk runs a machine whose disk stays, twice, and once more at the same time.
func TestKeptDisk(t *testing.T) {
	ctx := deadline(t, 2*time.Minute)
	cfg := Config{Emulator: pc(t, ""), Image: countingDisk(t), Keep: filepath.Join(t.TempDir(), "a path that is too long for a socket "+strings.Repeat("x", 100)), ImageSum: "first"}
	m := start(ctx, t, cfg)
	expect(ctx, t, m, "boot 1\n")
	if _, err := Start(ctx, cfg); fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), "--keep") {
		t.Errorf("two machines with one disk: %v", err)
	}
	m.Close()
	cfg.ImageSum = "second"
	m = start(ctx, t, cfg)
	expect(ctx, t, m, "boot 2\n")
	m.Close()
	if got := KeptFrom(cfg.Keep); got != "first" {
		t.Errorf("the disk is said to be made from the image %q, want the first", got)
	}
	entries, err := os.ReadDir(cfg.Keep)
	if err != nil || len(entries) != 3 || entries[0].Name() != diskName {
		t.Errorf("kept: %v, %v", entries, err)
	}
	if err := os.Remove(m.Disk()); err != nil || KeptFrom(cfg.Keep) != "" {
		t.Errorf("without a disk: %q, %v", KeptFrom(cfg.Keep), err)
	}
}

func TestRunIsCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := Run(ctx, Options{Emulator: pc(t, ""), Image: countingDisk(t), Accelerator: "tcg", PowerOff: time.Second})
	if fault.Of(err) != fault.Cancelled && fault.Of(err) != fault.IO {
		t.Errorf("kind %v: %v", fault.Of(err), err)
	}
}

// TestCirclesAreNoNews: a container that crashes again and again does not hold up the
// end; one that goes on does.
func TestCirclesAreNoNews(t *testing.T) {
	s := &sightings{last: map[string]string{}, ever: map[string]bool{}}
	for _, step := range []struct {
		name, status, text    string
		changed, fresh, again bool
	}{
		{"a", "STARTED", "up", true, true, false}, {"a", "STARTED", "up", false, false, false}, {"b", "STARTED", "up", true, true, false},
		{"a", "RECOVERING", "1", true, true, false}, {"a", "STARTED", "up", true, false, true},
		{"a", "RECOVERING", "2", true, false, true}, {"a", "READY", "ready", true, true, true},
	} {
		changed, fresh := s.add(step.name, step.status, step.text)
		if changed != step.changed || fresh != step.fresh || s.again != step.again {
			t.Errorf("%+v: changed %v, fresh %v, again %v", step, changed, fresh, s.again)
		}
	}
}
