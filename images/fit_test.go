package images

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/internal/oracle"
	"github.com/pantavisor/pantavisor/revision/fragment"
)

// exampleFIT joins a kernel, an initrd with an addon and two device trees.
func exampleFIT() *FIT {
	base := &made{"base", map[string]string{"base": "BASE"}}
	addon := &made{"addon", map[string]string{"addon": "ADDON---"}}
	dtbs := &made{"dtbs", map[string]string{"acme/one.dtb": "tree 1", "acme/two.dtb": "tree 2"}}
	device := func(name string) DeviceTree { return DeviceTree{name, Artefact{dtbs, name}} }
	return &FIT{
		FITForm: FITForm{Arch: "arm64", Kernel: 0x40400000}, Target: "board", Epoch: build.Epoch,
		Image:  Artefact{&made{"kernel", map[string]string{"kernel.img": "KERNEL"}}, "kernel.img"},
		Initrd: []Artefact{{base, "base"}, {addon, "addon"}},
		Trees:  []DeviceTree{device("acme/one.dtb"), device("acme/two.dtb")},
	}
}

func TestFIT(t *testing.T) {
	t.Parallel()
	oracle.Need(t, "dumpimage")
	out, err := newRunner(t).run(exampleFIT())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(out, fitName)
	list, err := exec.CommandContext(t.Context(), "dumpimage", "-l", file).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, list)
	}
	var got []string
	for _, m := range regexp.MustCompile(`(?m)^ (Configuration \d .*|Default Configuration: .*)$|^  (Kernel|Init Ramdisk|FDT): +(.*)$|(Load Address: .*)$`).FindAllStringSubmatch(string(list), -1) {
		got = append(got, strings.TrimSpace(strings.Join(m[1:], " ")))
	}
	want := []string{
		"Load Address: 0x40400000", "Load Address: unavailable",
		"Default Configuration: 'conf-acme_one.dtb'",
		"Configuration 0 (conf-acme_one.dtb)", "Kernel kernel-1", "Init Ramdisk ramdisk-1", "FDT fdt-acme_one.dtb",
		"Configuration 1 (conf-acme_two.dtb)", "Kernel kernel-1", "Init Ramdisk ramdisk-1", "FDT fdt-acme_two.dtb",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s\n%s", diff, list)
	}
	initrd := filepath.Join(t.TempDir(), "initrd")
	if msg, err := exec.CommandContext(t.Context(), "dumpimage", "-T", "flat_dt", "-p", "1", "-o", initrd, file).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, msg)
	}
	if data, err := os.ReadFile(initrd); err != nil || string(data) != "BASEADDON---" {
		t.Errorf("the initrd is %q, %v", data, err)
	}
}

func TestFITWithoutDeviceTree(t *testing.T) {
	t.Parallel()
	oracle.Need(t, "dumpimage")
	step := exampleFIT()
	step.Trees = nil
	out, err := newRunner(t).run(step)
	if err != nil {
		t.Fatal(err)
	}
	list, err := exec.CommandContext(t.Context(), "dumpimage", "-l", filepath.Join(out, fitName)).CombinedOutput()
	if err != nil || !strings.Contains(string(list), "Configuration 0 (conf-1)") || strings.Contains(string(list), "FDT") {
		t.Errorf("%v: %s", err, list)
	}
}

func TestFITNeedsWholeWords(t *testing.T) {
	t.Parallel()
	step := exampleFIT()
	step.Initrd[0] = Artefact{&made{"odd", map[string]string{"odd": "ODD"}}, "odd"}
	if _, err := newRunner(t).run(step); err == nil || !strings.Contains(err.Error(), "odd is not a multiple of 4 bytes") {
		t.Error(err)
	}
}

// TestBSPOfFIT checks that a BSP with a FIT has no other file for the boot loader.
func TestBSPOfFIT(t *testing.T) {
	t.Parallel()
	f := exampleFIT()
	bsp := &BSP{Target: "board", Kernel: f.Image, Initrd: f.Initrd[0], Addons: []Addon{{Name: "addon-a.cpio.xz4", From: f.Initrd[1]}}, DeviceTrees: f.Trees,
		FIT: &Artefact{f, fitName}}
	out, err := newRunner(t).run(bsp)
	if err != nil {
		t.Fatal(err)
	}
	state, err := fragment.Read(out)
	if err != nil {
		t.Fatal(err)
	}
	run, ok := state.Get("bsp/run.json")
	if !ok {
		t.Fatalf("no run.json in %v", state.Keys())
	}
	var got map[string]any
	if err := json.Unmarshal(run, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]any{"fit": fitName, "addons": []any{}, "initrd_config": ""}, got); diff != "" {
		t.Errorf("run.json (-want +got):\n%s", diff)
	}
	want := []string{"#spec", "bsp/build.json", "bsp/drivers.json", "bsp/pantavisor.fit", "bsp/run.json", "bsp/src.json"}
	if diff := cmp.Diff(want, state.Keys()); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
}
