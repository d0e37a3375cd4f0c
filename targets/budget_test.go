package targets

import (
	"encoding/json"
	"strings"
	"testing"
)

const budgeted = `description: x
arch: {go: amd64, debian: amd64}
kernel: {source: debian, suite: bookworm, package: linux-image-amd64, firmware: {packages: [firmware-realtek], budget: 8}}
bootloader: {type: grub, suite: bookworm, packages: [grub-efi-amd64-bin], files: [{to: README.board, part: bl1}]}
image:
  size: 1024
  table: gpt
  partitions:
    - {name: pvboot, role: boot, format: fat32, size: 64}
    - {name: pvroot, role: root, format: ext4}
containers: [network]
addons: [{name: fonts, directory: addons/fonts}]
parts: {bl1: {what: first stage, from: "https://example.com"}}
emulator: {system: x86_64, machine: q35, memory: 512, firmware: uefi, packages: [qemu-system-x86]}
`

func TestBudgets(t *testing.T) {
	target, err := parse("f", "x", []byte(budgeted+`budgets:
  image: 120
  partitions: {pvboot: 20MiB, pvroot: 100MiB}
  initrd: 4MiB
  binary: 7900KiB
  bsp: 110MiB
  parts: {kernel: 9MiB, modules: 90MiB, firmware: 14MiB, fonts: 1MiB, bl1: 32KiB}
  containers: {network: 2MiB}
  boot_time: 60
  memory: 200MiB
  growth: 5%
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	b := target.Budgets
	if b.Image != 120*MiB || b.Partitions["pvroot"] != 100*MiB || b.Binary != 7900*KiB || b.BootTime != 60 || *b.Growth != 5 {
		t.Errorf("%+v", b)
	}
	text, err := json.Marshal(b)
	if err != nil || !strings.Contains(string(text), `"growth":"5%"`) {
		t.Errorf("%v: %s", err, text)
	}
}

func TestBudgetsThatAreWrong(t *testing.T) {
	for field, want := range map[string]string{
		"partitions: {pvrot: 5MiB}":      `f:16:16: budgets.partitions.pvrot: partition "pvrot": unknown; did you mean pvroot?`,
		"parts: {kernal: 5MiB}":          `part "kernal": unknown; did you mean kernel?`,
		"parts: {font: 5MiB}":            "did you mean fonts?",
		"containers: {netwrk: 5MiB}":     "did you mean network?",
		"compressed: 50MiB":              "image.compress adds one",
		"initrd: 0":                      "0 leaves room for nothing",
		"parts: {kernel: 0}":             "0 leaves room for nothing",
		"image: many":                    `"many" is not a size`,
		"growth: 5":                      `"5" is not a percentage`,
		"growth: -1%":                    "is not a percentage",
		"boot_time: 0":                   "boot_time",
		"imgae: 5MiB":                    "did you mean image?",
		"partitions: {pvroot: 5 apples}": "is not a size",
	} {
		_, err := parse("f", "x", []byte(budgeted+"budgets:\n  "+field+"\n"), nil)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "f:16:") {
			t.Errorf("%s: %v", field, err)
		}
	}
	for field, want := range map[string]string{
		"image: 5MiB": "the target makes no image", "initrd: 5MiB": "has no kernel", "bsp: 5MiB": "has no kernel",
		"boot_time: 5": "measured in the emulator", "memory: 5MiB": "measured in the emulator", "parts: {kernel: 5MiB}": "unknown",
	} {
		_, err := parse("f", "x", []byte("description: x\narch: {go: amd64}\nbudgets: {"+field+"}\n"), nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", field, err)
		}
	}
}

// TestInheritedBudgets: what a base or the target of a build has, and this one has not, is no mistake.
func TestInheritedBudgets(t *testing.T) {
	base := budgeted + `budgets: {initrd: 4MiB, partitions: {pvboot: 20MiB}, parts: {firmware: 9MiB, fonts: 1MiB}, containers: {network: 1MiB}}
builds:
  bare: {description: b, kernel: {source: debian, suite: bookworm, package: linux-image-amd64}, containers: [sdk]}
  wrong: {description: w, containers: [sdk], budgets: {containers: {network: 1MiB}}}
`
	load := func(string) (*Target, error) { return parse("targets/x/target.yaml", "x", []byte(base), nil) }
	own := "description: y\nbase: x\ncontainers: [sdk]\naddons: []\n"
	if target, err := parse("targets/y/target.yaml", "y", []byte(own), load); err != nil || target.Budgets.Initrd != 4*MiB {
		t.Errorf("%v", err)
	}
	if target, err := parseBuild("targets/x/target.yaml", "x", "bare", []byte(base), nil); err != nil || target.Budgets.Initrd != 4*MiB {
		t.Errorf("%v", err)
	}
	for name, do := range map[string]func() (*Target, error){
		"a base": func() (*Target, error) {
			return parse("targets/y/target.yaml", "y", []byte(own+"budgets: {containers: {network: 1MiB}}\n"), load)
		},
		"a build": func() (*Target, error) {
			return parseBuild("targets/x/target.yaml", "x", "wrong", []byte(base), nil)
		},
	} {
		if _, err := do(); err == nil || !strings.Contains(err.Error(), `container "network": unknown`) {
			t.Errorf("own budgets over those of %s: %v", name, err)
		}
	}
}

// TestBudgetsOfBuilds: a build has those of its target, or its own; a medium that installs the image
// has another content.
func TestBudgetsOfBuilds(t *testing.T) {
	text := budgeted + `budgets: {image: 120MiB}
builds:
  debug: {description: d, debug: true}
  large: {description: l, budgets: {image: 200MiB}}
  installer: {description: i, installer: {size: 512}}
`
	for build, want := range map[string]Size{"debug": 120 * MiB, "large": 200 * MiB, "installer": 0} {
		target, err := parseBuild("targets/x/target.yaml", "x", build, []byte(text), nil)
		if err != nil {
			t.Fatal(err)
		}
		got := Size(0)
		if target.Budgets != nil {
			got = target.Budgets.Image
		}
		if got != want {
			t.Errorf("%s: the image has a budget of %v", build, got)
		}
		if want := "sizes-" + build + ".json"; target.SizesName() != want {
			t.Errorf("%s is not %s", target.SizesName(), want)
		}
	}
}
