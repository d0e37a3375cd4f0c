package vm

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// TestBoardsBootedPartition has the runtime find out which of two partitions the firmware has
// booted.
func TestBoardsBootedPartition(t *testing.T) {
	const name = "x64-efiab"
	wanted := strings.Split(os.Getenv("PV_TEST_TARGETS"), ",")
	if testing.Short() || !slices.Contains(wanted, name) && wanted[0] != "all" {
		t.Skip("boots a virtual machine: mage boards")
	}
	w := openTarget(t, name)
	d := boot(t, w, image(t, w), t.TempDir())
	goals(t, d)
	said := run(t, d, "grep -rh '\\[boot\\]:' /storage/logs/0/pantavisor/")
	if !strings.Contains(said, "revision 0 runs (steady)") || strings.Contains(said, "WARN") {
		t.Errorf("the runtime says:\n%s", said)
	}
}
