package vm

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestBoardsGadget gives a PC a USB device controller whose other end is the PC itself
// (dummy_hcd): the container network sets up Ethernet at one end and gets an address for
// the other end from its own server.
func TestBoardsGadget(t *testing.T) {
	wanted := strings.Split(os.Getenv("PV_TEST_TARGETS"), ",")
	if testing.Short() || !slices.Contains(wanted, target) && wanted[0] != "all" {
		t.Skip("boots a virtual machine: mage boards")
	}
	w := openTarget(t, target)
	w.Target.Kernel.Arguments = append(slices.Clone(w.Target.Kernel.Arguments), "pvnet_type=gadget")
	d := boot(t, w, image(t, w), t.TempDir())
	goals(t, d)
	if got := addresses(t, d, "10.0.2.15/24"); strings.Contains(got, "192.168.7.") {
		t.Errorf("a gadget without a controller: %s", got)
	}
	run(t, d, "modprobe dummy_hcd")
	addresses(t, d, `"usb0.ipv4":["192.168.7.1/24"]`, "192.168.7.2/24")
}

// addresses waits until the device metadata of its interfaces have the texts.
func addresses(t *testing.T, d *Device, texts ...string) string {
	t.Helper()
	ctx := within(t)
	for last := ""; ; {
		var meta map[string]json.RawMessage
		if err := d.API.Get(ctx, "/device-meta", &meta); err != nil {
			t.Fatalf("%v; last answer %s, want %q\n%s", err, last, texts, run(t, d, "cat /storage/logs/0/network/lxc/console.log"))
		}
		last = string(meta["network.interfaces"])
		if !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(last, text) }) {
			return last
		}
		time.Sleep(500 * time.Millisecond) // the API has no event for metadata
	}
}
