package powercut

import (
	"os"
	"testing"

	"github.com/pantavisor/pantavisor/internal/oracle"
)

// TestPowerCutsOfBootPartitions records devices with two boot partitions whose firmware is played, and
// cuts their power at each moment.
func TestPowerCutsOfBootPartitions(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
	for _, file := range []string{"/dev/fuse", "/dev/loop-control"} {
		if _, err := os.Stat(file); err != nil {
			t.Skipf("needs block devices of its own: %v", err)
		}
	}
	oracle.Need(t, "mke2fs", "e2fsck")
	for _, kind := range []string{"rpiab", "efiab"} {
		t.Run(kind, func(t *testing.T) {
			rec, err := recordTablet(t.Context(), kind, t.TempDir(), func(s string) { t.Log(s) })
			must(t, err)
			out, err := replayLog(t.Context(), rec, replayOptions{Losses: 2, Seed: 1, Fsck: 40})
			must(t, err)
			t.Logf("%d moments, %d disks, %d of them also by e2fsck", out.moments, out.disks, out.checked)
			if len(out.turns) < 8 {
				t.Errorf("the loader changes what it does %d times: the recording is too short", len(out.turns))
			}
			for _, f := range out.findings[:min(10, len(out.findings))] {
				t.Errorf("entry %d, %s: %s", f.At, f.How, f.Error)
			}
			if kind != "rpiab" { // the judge is the same
				return
			}
			lying, err := replayLog(t.Context(), rec, replayOptions{Losses: 1, Seed: 1, Lying: true})
			must(t, err)
			if len(lying.findings) == 0 {
				t.Error("a disk that does not flush is as good as one that does")
			}
		})
	}
}
