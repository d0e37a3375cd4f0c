package spelling

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/internal/fault"
)

func TestNearest(t *testing.T) {
	known := []string{"init", "initrd", "kernel", "bsp", "trail", "image", "x64-uefi", "rpi64"}
	for name, want := range map[string][]string{
		"initr": {"init", "initrd"}, "kernal": {"kernel"}, "X64-UEFI": {"x64-uefi"}, "bps": {"bsp"}, "quite-other": nil,
		"": nil, "64": nil, "trial": {"trail"},
	} {
		if diff := cmp.Diff(want, Nearest(name, known)); diff != "" {
			t.Errorf("%q: %s", name, diff)
		}
	}
}

func TestUnknown(t *testing.T) {
	for name, want := range map[string]string{
		"initrb": `step "initrb": unknown; did you mean initrd?`, "zzz": `step "zzz": unknown; there are initrd, kernel`,
	} {
		if err := Unknown("step", name, []string{"initrd", "kernel"}); err.Error() != want || fault.Of(err) != fault.BadInput {
			t.Errorf("%v (%v), want %s", err, fault.Of(err), want)
		}
	}
}
