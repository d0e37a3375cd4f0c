package ext4

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/pantavisor/pantavisor/internal/oracle"
)

// TestStress: a mounted file system stands stress-ng's file system class, each of its programs
// for so many seconds as PV_TEST_STRESS says, and fio's random writes with verification. With
// 1 it takes two minutes.
func TestStress(t *testing.T) {
	seconds := os.Getenv("PV_TEST_STRESS")
	if seconds == "" {
		t.Skip("takes two minutes: PV_TEST_STRESS is the number of seconds for each program of stress-ng")
	}
	stress, fio := oracle.Program(t, "stress-ng"), oracle.Program(t, "fio")
	for _, block := range []int{1024, 4096} {
		o := options(600 << 20)
		o.BlockSize = block
		img, dir, unmount := used(t, o)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, stress, "--class", "filesystem", "--sequential", "1", "--timeout", seconds, "--temp-path", dir, "--metrics")
		cmd.WaitDelay = 10 * time.Second // its programs may outlive it
		out, err := cmd.CombinedOutput()
		// It ends with an error where the kernel lacks an interface, too.
		if text := string(out); !strings.Contains(text, "run completed") || strings.Contains(text, "stress-ng: fail") {
			t.Errorf("stress-ng: %v\n%s", err, text)
		}
		for _, kind := range []string{"randwrite", "write", "randrw"} {
			command(t, fio, "--name="+kind, "--directory="+dir, "--rw="+kind, "--size=40M", "--bs=4k-64k", "--verify=crc32c", "--do_verify=1", "--verify_state_save=0", "--numjobs=2", "--fallocate=none", "--group_reporting")
		}
		unmount()
		check(t, img)
	}
}
