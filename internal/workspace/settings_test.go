package workspace

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/containers"
	"github.com/pantavisor/pantavisor/images"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/targets"
)

// configuration writes the files of a platform and returns them as a build sees them.
func configuration(t *testing.T, files map[string]string) images.Config {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	source := func(name string) build.Source { return build.Source{Name: name, Path: filepath.Join(root, name)} }
	skel := source("skel")
	return images.Config{
		Runtime: source("pantavisor.config"), Hub: source("pantahub.config"), Defaults: source("defaults"), Skel: &skel,
	}
}

func TestSettingsThatTheDeviceWouldPassOverAreWarnings(t *testing.T) {
	t.Parallel()
	c := configuration(t, map[string]string{
		"pantavisor.config":             "# a comment\n\nPV_LOG_LEVELL=4\nPV_STORAGE_WAIT=soon\npv_log_push=no\nwdt.enabled=1\n",
		"pantahub.config":               "PV_LOG_LEVEL=4\nPH_CREDS_HOST=hub.example\n",
		"defaults/policies/mine.config": "PV_NOTHING_LIKE_IT=1\n",
	})
	target := &targets.Target{Name: "board", Kernel: &targets.Kernel{Arguments: []string{"quiet", "pv_log.levle=1", "pv_log.level=2"}}}
	parts := []images.Artefact{{Step: &containers.Part{Definition: &containers.Definition{Name: "app",
		Env: []string{"PATH=/bin", "PV_LOG_LEVEL=5", "pv_log_dri=/x", "PV_OF_THE_APP=1", "PVTXDIR=/x"}}}}}
	got, err := checkSettings(target, c, parts, []string{"PV_LOG_LEVEL=5", "PV_JOBS=2", "HOME=/root"})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"environment variable PV_LOG_LEVEL: has no effect on a build; write it into config/PLATFORM/pantavisor.config",
		`pantavisor.config:3: unknown key "PV_LOG_LEVELL"; did you mean PV_LOG_LEVEL?`,
		`pantavisor.config:4: PV_STORAGE_WAIT: "soon" is not a whole number from 0 to 2147483647; it stays 5`,
		"pantavisor.config:6: wdt.enabled should be written PV_WDT_MODE",
		"pantahub.config:1: PV_LOG_LEVEL may not be set here",
		`defaults/policies/mine.config:1: unknown key "PV_NOTHING_LIKE_IT"`,
		`target board: kernel.arguments[1]: unknown key "log.levle"; did you mean PV_LOG_LEVEL?`,
		"container app: env[1]: PV_LOG_LEVEL is given to the programs of the container, the device does not read it there; write it into config/PLATFORM/pantavisor.config",
		`container app: env[2]: unknown key "pv_log_dri"; did you mean PV_LOG_DIR?`,
		`container app: env[3]: unknown key "PV_OF_THE_APP"`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestWrongSecuritySettingsAreErrors(t *testing.T) {
	t.Parallel()
	c := configuration(t, map[string]string{
		"pantavisor.config":                     "PV_SECUREBOOT_MODE=strikt\nPV_SECUREBOT_MODE=strict\nPV_DEBUG_SSH=0\nPV_DEBUG_SSH=1\nno equals\nPV_POLICY=prd\n",
		"pantahub.config":                       "PV_SECUREBOOT_CHECKSUM=1\n",
		"skel/etc/pantavisor/policies/a.config": "PV_SECURITY_DEFAULT_ROLE=root\n",
		"defaults/policies/prod.config":         "PV_DEBUG_SHELL=0\n",
	})
	parts := []images.Artefact{{Step: &containers.Part{Definition: &containers.Definition{Name: "app", Env: []string{"PV_SECUREBOOT_MODE=strict"}}}}}
	_, err := checkSettings(&targets.Target{Name: "board"}, c, parts, nil)
	if fault.Of(err) != fault.BadInput {
		t.Fatalf("got %v", err)
	}
	want := []string{
		`configuration of target "board":`,
		`pantavisor.config:1: PV_SECUREBOOT_MODE: "strikt" is none of disabled, audit, lenient, strict; it stays lenient`,
		`pantavisor.config:2: unknown key "PV_SECUREBOT_MODE"; did you mean PV_SECUREBOOT_MODE?`,
		`pantavisor.config:4: PV_DEBUG_SSH is set in line 3 already`,
		`pantavisor.config:5: want NAME=VALUE`,
		`pantahub.config:1: PV_SECUREBOOT_CHECKSUM may not be set here`,
		`skel/etc/pantavisor/policies/a.config:1: PV_SECURITY_DEFAULT_ROLE: "root" is none of nobody, mgmt; it stays nobody`,
		`pantavisor.config:6: policy "prd": unknown; did you mean prod?`,
		"container app: env[0]: PV_SECUREBOOT_MODE is given to the programs of the container, the device does not read it there; write it into config/PLATFORM/pantavisor.config",
	}
	if diff := cmp.Diff(want, strings.Split(err.Error(), "\n")); diff != "" {
		t.Error(diff)
	}
}

// TestShippedSettingsAreRight keeps the repository's own configuration free of warnings.
func TestShippedSettingsAreRight(t *testing.T) {
	t.Parallel()
	for _, platform := range []string{"x64-uefi", "appengine"} {
		source := func(name string) build.Source { return build.Source{Name: name, Path: filepath.Join("../..", name)} }
		c := images.Config{
			Runtime: source("config/" + platform + "/pantavisor.config"), Hub: source("config/" + platform + "/pantahub.config"), Defaults: source("config/defaults"),
		}
		if got, err := checkSettings(&targets.Target{Name: platform}, c, nil, nil); err != nil || len(got) > 0 {
			t.Errorf("%s: %q, %v", platform, got, err)
		}
	}
}
