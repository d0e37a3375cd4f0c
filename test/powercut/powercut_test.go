package powercut

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pantavisor/pantavisor/emulator"
	"github.com/pantavisor/pantavisor/internal/oracle"
	"github.com/pantavisor/pantavisor/targets"
)

// TestPowerCuts records the updates of devices with GRUB and with U-Boot, cuts their power at each
// moment, and boots a hundred disks of each.
func TestPowerCuts(t *testing.T) {
	if testing.Short() {
		t.Skip("boots virtual machines")
	}
	oracle.Need(t, "e2fsck")
	for _, name := range []string{"x64-uefi", "qemu-aarch64"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cutPower(t, name)
		})
	}
}

func cutPower(t *testing.T, name string) {
	root, err := filepath.Abs("../..")
	must(t, err)
	target, err := targets.Load(targets.Builtin(), name)
	must(t, err)
	oracle.Emulator(t, emulator.Missing(target.Emulators[0].Complete()))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Minute)
	defer cancel()
	o := Options{Root: root, Target: name, Losses: 3, Boots: 100, Seed: 1, Progress: func(s string) { t.Log(s) }}
	r, err := prepare(ctx, o, t.TempDir())
	must(t, err)
	rec, _, err := record(ctx, *r, recordOptions{Root: root, Story: r.story(), Progress: o.Progress})
	must(t, err)
	report, out, err := replayed(ctx, rec, o)
	must(t, err)
	must(t, report.boot(ctx, rec, sample(out, o), o))
	var text strings.Builder
	if err := Print(&text, []*Report{report}, false); err != nil {
		t.Error(err)
	}
	t.Logf("\n%s", text.String())
	if report.Boots != o.Boots {
		t.Errorf("%d disks were booted, want %d", report.Boots, o.Boots)
	}
	if most := report.AppBytes * 110 / 100; report.Written > most {
		t.Errorf("an app of %d bytes was added with %d bytes written, want at most %d", report.AppBytes, report.Written, most)
	}
	t.Run("lying disk", func(t *testing.T) {
		out, err := replayLog(ctx, rec, replayOptions{Losses: 2, Seed: 1, Lying: true})
		must(t, err)
		if len(out.findings) == 0 {
			t.Error("a disk that does not flush is as good as one that does")
		}
		for _, f := range out.findings[:min(5, len(out.findings))] {
			t.Logf("as it must be: %+v", f)
		}
	})
}
