package updater

import (
	"slices"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/revision/state"
	"github.com/pantavisor/pantavisor/sbom/part"
)

// TestWhatTakesARestart changes one key of a BSP.
func TestWhatTakesARestart(t *testing.T) {
	t.Parallel()
	with := func(key, value string) *state.State {
		t.Helper()
		st, err := state.Parse([]byte(`{"#spec":"pantavisor-service-system@1"}`))
		if err == nil {
			err = st.Set(key, []byte(value))
		}
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	one, two := `"`+strings.Repeat("1", 64)+`"`, `"`+strings.Repeat("2", 64)+`"`
	for key, restart := range map[string]bool{
		"bsp/kernel.img": true, "bsp/run.json": true, "device.json": true,
		"bsp/src.json": false, "bsp/build.json": false, "_sigs/bsp.json": false, part.Key("bsp"): false,
	} {
		from, to := with(key, one), with(key, two)
		for what, c := range map[string]Transition{
			"changes": Compare(from, to, nil, nil), "comes": Compare(with("#spec", `"pantavisor-service-system@1"`), to, nil, nil),
		} {
			if got := slices.Contains(c.Reboot, key); got != restart {
				t.Errorf("%s %s: restart %v, want %v", key, what, got, restart)
			}
		}
	}
}
