package ubootab

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/bootloader/bootloadertest"
	"github.com/pantavisor/pantavisor/formats/fitslot"
	"github.com/pantavisor/pantavisor/formats/ubootenv"
	"github.com/pantavisor/pantavisor/runtime/boot/spec"
)

const limit = 2 * time.Minute // of one run of the emulator, on a busy machine

// The second flash memory of QEMU's machine virt. U-Boot has its environment at the beginning.
const (
	flashAt   = 0x04000000
	flashSize = 64 << 20
	envSize   = 256 << 10
	slotSize  = 256 << 10
)

var block = ubootenv.Block{Size: envSize}

// settings start no kernel: the console shows what would be started.
func settings() Settings {
	return Settings{
		Flash: flashAt, Memory: 0x48000000, Slots: [2]Slot{{"fitA", envSize, slotSize}, {"fitB", envSize + slotSize, slotSize}},
		boot: `echo "STARTED ${pv_this} try=${pv_try} at=${pv_fit} |"`,
	}
}

// scenario is a state of the handshake and what is special with two slots.
type scenario struct {
	spec.State
	swapped bool // the revisions are in the other slots
}

// scenarios are those of every loader, and more.
func scenarios() []scenario {
	type S = spec.State
	start := func(rev, try string) []spec.Start { return []spec.Start{{Rev: rev, Try: try}} }
	out := []scenario{
		{State: S{Name: "slots the other way round", Rev: "3", Try: "4", Revisions: []string{"3", "4"},
			Want: []spec.Start{{Rev: "4", Try: "4"}, {Rev: "3", Try: "4"}}, Again: start("3", "4")}, swapped: true},
		{State: S{Name: "good one is lost", Rev: "3", Revisions: []string{"2"}, Want: start("2", ""), Again: start("2", "")}},
		{State: S{Name: "good one is lost and the test has failed", Rev: "3", Try: "4", Trying: "4", Revisions: []string{"4"}}},
		{State: S{Name: "quotes and variables", Rev: "3", Try: `'${pv_rev}"; reset`, Revisions: []string{"3"}, Want: start("3", ""), Again: start("3", "")}},
		{State: S{Name: "more than one command", Rev: "3", Try: "4; reset", Revisions: []string{"3"}, Want: start("3", "4; reset"), Again: start("3", "4; reset")}},
	}
	seen := map[string]bool{}
	for _, s := range spec.States() {
		marked := s.Try != "" && s.Trying == spec.Mark(s.Try, s.Trial)
		if key := fmt.Sprint(s.Rev, s.Try, marked, s.Revisions); seen[key] {
			continue // it differs in what this loader does not have
		} else {
			seen[key] = true
		}
		if marked { // the mark stays
			s.Again = s.Want
		}
		out = append(out, scenario{State: s})
	}
	return out
}

// slot is the slot of the i-th revision.
func (s scenario) slot(i int) int {
	if s.swapped {
		return 1 - i
	}
	return i
}

// flash makes the flash memory of a scenario.
func (s scenario) flash(t *testing.T) string {
	t.Helper()
	variables, err := settings().Variables()
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range variables {
		switch v.Name {
		case "pv_rev":
			variables[i].Value = s.Rev
		case "pv_ab":
			var ok bool
			if variables[i].Value, ok = strings.CutSuffix(v.Value, "  sleep 10\n  reset"); !ok {
				t.Fatal("bootcmd does not end with a restart")
			}
			variables[i].Value += "  poweroff"
		case "bootdelay":
			variables[i].Value = "-2" // no time to wait for a key
		}
	}
	variables = append(variables, ubootenv.Entry{Name: "pv_try", Value: s.Try})
	data, err := block.Encode(variables, 0)
	if err != nil {
		t.Fatal(err)
	}
	slots := [2][]byte{bytes.Repeat([]byte{0xff}, slotSize), make([]byte, slotSize)} // erased, and of a new device
	for i, r := range s.Revisions {
		header, err := fitslot.Encode(r)
		if err != nil {
			t.Fatal(err)
		}
		if s.Trying == spec.Mark(r, s.Trial) {
			clear(header[fitslot.MarkAt:])
		}
		slots[s.slot(i)] = append(header, make([]byte, slotSize-len(header))...)
	}
	data = append(append(data, slots[0]...), slots[1]...)
	file := filepath.Join(t.TempDir(), "flash.img")
	bootloadertest.Write(t, file, data)
	if err := os.Truncate(file, flashSize); err != nil {
		t.Fatal(err)
	}
	return file
}

// run starts U-Boot with the flash memory and returns its console.
func run(t *testing.T, flash string) string {
	t.Helper()
	args := append(bootloadertest.UBoot(), "-m", "512", "-drive", "if=pflash,unit=1,format=raw,file="+flash)
	return bootloadertest.Emulate(t, limit, "qemu-system-aarch64", args...)
}

var started = regexp.MustCompile(`(?m)^STARTED (.*) \|$`)

// starts are the lines that [settings] print for the starts of a scenario.
func (s scenario) starts(want []spec.Start) []string {
	var out []string
	for _, w := range want {
		slot := s.slot(slices.Index(s.Revisions, w.Rev))
		out = append(out, fmt.Sprintf("%s try=%s at=%x", w.Rev, w.Try, flashAt+envSize+slot*slotSize+fitslot.Size))
	}
	return out
}

// TestStateTable runs the environment in a real U-Boot on a real flash memory. For each
// scenario it checks the revisions that U-Boot boots and their slots, in fallback order, and
// what it boots next time, which depends on the mark that it has written.
func TestStateTable(t *testing.T) {
	bootloadertest.NeedUBoot(t)
	for _, s := range scenarios() {
		t.Run(s.Name, func(t *testing.T) {
			flash := s.flash(t)
			before, err := os.ReadFile(flash)
			if err != nil {
				t.Fatal(err)
			}
			for round, want := range [][]spec.Start{s.Want, s.Again} {
				console := run(t, flash)
				var got []string
				for _, m := range started.FindAllStringSubmatch(console, -1) {
					got = append(got, m[1])
				}
				if diff := cmp.Diff(s.starts(want), got); diff != "" {
					t.Errorf("boot %d (-want +got):\n%s\nconsole:\n%s", round, diff, console)
				}
			}
			s.unchanged(t, before, flash)
		})
	}
}

// unchanged checks that U-Boot has written nothing but marks.
func (s scenario) unchanged(t *testing.T, before []byte, flash string) {
	t.Helper()
	after, err := os.ReadFile(flash)
	if err != nil {
		t.Fatal(err)
	}
	for i := range before {
		slot := i - envSize
		if before[i] != after[i] && (slot < 0 || slot%slotSize < fitslot.MarkAt || slot%slotSize >= fitslot.Size) {
			t.Fatalf("U-Boot has changed byte %d", i)
		}
	}
}
