package updater

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/revision/manifest"
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
		"bsp/overlay/etc/src.json": true, "_config/bsp/build.json": true, "_config/src.json": true,
		"bsp/a/sbom.spdx.zst": true, "_config/bsp/sbom.spdx.zst": true, "sbom.spdx.zst": true, "bsp/xsbom.spdx.zst": true,
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

// TestWhatRunsIsNoBookkeeping has files that run under the names of those that say what others are.
func TestWhatRunsIsNoBookkeeping(t *testing.T) {
	t.Parallel()
	const run = `{"#spec":"service-manifest-run@1","name":"app","type":"lxc","config":"%s","root-volume":"root.squashfs"}`
	parse := func(config, bill string) (*state.State, *manifest.System) {
		t.Helper()
		st, err := state.Parse(fmt.Appendf(nil, `{"#spec":"pantavisor-service-system@1","app/root.squashfs":"%064d","app/lxc.container.conf":"%064d","%s":"%s","app/run.json":`+run+`}`,
			1, 2, part.Key("app"), bill, config))
		if err != nil {
			t.Fatal(err)
		}
		sys, err := manifest.Parse(st, manifest.Options{AppEngine: true})
		if err != nil {
			t.Fatal(err)
		}
		return st, sys
	}
	for config, want := range map[string]bool{state.SBOM: true, "lxc.container.conf": false} {
		from, was := parse(config, strings.Repeat("3", 64))
		to, will := parse(config, strings.Repeat("4", 64))
		if got := slices.Contains(Compare(from, to, was, will).Containers, "app"); got != want {
			t.Errorf("the configuration is %s: app restarts: %v, want %v", config, got, want)
		}
	}
}
