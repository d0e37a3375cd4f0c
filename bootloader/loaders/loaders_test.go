package loaders

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/targets"
)

func TestTableMatchesPackageTargets(t *testing.T) {
	t.Parallel()
	if diff := cmp.Diff(slices.Sorted(slices.Values(targets.Ready("bootloader.type"))), slices.Sorted(maps.Keys(loaders))); diff != "" {
		t.Errorf("package targets and the table differ (-targets +table):\n%s", diff)
	}
}

func TestOtherLoadersAreRefused(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]fault.Kind{"uboot-pvk": fault.Unsupported, "grubb": fault.BadInput} {
		_, err := For(&targets.Target{Bootloader: &targets.Bootloader{Type: name}})
		if fault.Of(err) != want || !strings.Contains(err.Error(), `"`+name+`"`) {
			t.Errorf("%s: kind %v: %v", name, fault.Of(err), err)
		}
	}
}
