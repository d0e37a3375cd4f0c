package targets

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/yamlfile"
	"github.com/pantavisor/pantavisor/runtime/boot"
	"github.com/pantavisor/pantavisor/runtime/config"
)

// TestTable checks every shipped target.
func TestTable(t *testing.T) {
	all, err := LoadAll(Builtin())
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 2 {
		t.Fatalf("%d targets; want at least x64-uefi and x64-generic", len(all))
	}
	for _, target := range all {
		t.Run(target.Name, func(t *testing.T) { invariants(t, target) })
	}
}

func invariants(t *testing.T, target *Target) {
	if target.Platform == "" || target.Arch.Go == "" {
		t.Error("platform or arch is empty after loading")
	}
	if target.AppEngine != nil && (target.Kernel != nil || target.Images != nil || target.Bootloader != nil || target.AppEngine.Suite == "") {
		t.Errorf("an App Engine with a machine of its own, or without a suite: %+v", target)
	}
	if target.Images == nil {
		return
	}
	end := target.Images[0].first()
	labels := map[string]bool{}
	for i, p := range target.Images[0].Partitions {
		last := i == len(target.Images[0].Partitions)-1
		if p.Start < end {
			t.Errorf("%s begins at %s, before %s", p.Name, p.Start, end)
		}
		if labels[p.Name] {
			t.Errorf("label %s is there twice", p.Name)
		}
		labels[p.Name] = true
		if most, limited := map[string]int{"fat32": 11, "fat16": 11, "ext4": 16}[p.Format]; limited && len(p.Name) > most {
			t.Errorf("label %s is longer than %d", p.Name, most)
		}
		if last != (p.Role == "root") {
			t.Errorf("%s: only the last partition is root", p.Name)
		}
		if p.Size == 0 && !last {
			t.Errorf("%s has no size", p.Name)
		}
		end = p.Start + p.Size
	}
	if end >= Size(target.Images[0].Size)*MiB {
		t.Errorf("partitions end at %s of %d MiB", end, target.Images[0].Size)
	}
}

const good = `description: a board
arch: {go: amd64, debian: amd64}
kernel: {source: debian, suite: bookworm, package: linux-image-amd64}
bootloader: {type: grub, suite: bookworm, packages: [grub-efi-amd64-bin]}
image:
  size: 1024
  table: gpt
  partitions:
    - {name: pvboot, role: boot, format: fat32, size: 64}
    - {name: pvroot, role: root, format: ext4}
emulator: {system: x86_64, machine: q35, memory: 512, packages: [qemu-system-x86]}
`

func TestParseGood(t *testing.T) {
	target, err := parse("f", "board", []byte(good), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []Partition{
		{Name: "pvboot", Role: "boot", Format: "fat32", Align: MiB, Start: MiB, Size: 64 * MiB},
		{Name: "pvroot", Role: "root", Format: "ext4", Align: MiB, Start: 65 * MiB},
	}
	if diff := cmp.Diff(want, target.Images[0].Partitions); diff != "" {
		t.Error(diff)
	}
	if target.Platform != "board" || target.Name != "board" {
		t.Errorf("name %q, platform %q", target.Name, target.Platform)
	}
}

// TestParseMistakes changes one thing in a good file and checks the error.
func TestParseMistakes(t *testing.T) {
	for _, c := range []struct{ old, new, want string }{
		{"description: a board", "description: ''", "f:1:1: description: is empty"},
		{"description: a board", "description: a board\nsupport: {end: 2031-13-01}", "f:2:11: support.end: is not a day"},
		{"description: a board", "description: a board\nsupport: {contact: nobody}", "support.contact: is neither a mail address nor"},
		{"description: a board", "description: a board\nsupport: {ends: 2031-12-01}", `unknown field "ends" in support; did you mean end?`},
		{"description: a board", "descripton: a board", `f:1:1: unknown field "descripton"; did you mean description?`},
		{"description: a board\n", "", "field description is missing"},
		{"go: amd64", "go: amd46", `f:2:12: arch.go: "amd46" is not possible; did you mean amd64?`},
		{"go: amd64", "go: arm", "field arm is missing"},
		{"go: amd64", "go: arm64", "arch.debian: amd64 does not run on go: arm64"},
		{"go: amd64", "go: mipsle", "field mips is missing"},
		{"go: amd64", "go: amd64, arm: 7", "arch.arm: is only for go: arm"},
		{"go: amd64", "go: amd64, mips: softfloat", "arch.mips: is only for"},
		{"go: amd64, debian: amd64", "go: arm, arm: 6, debian: armhf", "armhf needs arm: 7"},
		{", debian: amd64", "", "field debian is missing"},
		{"suite: bookworm, package: linux", "package: linux", "kernel: field suite is missing"},
		{"package: linux-image-amd64", "package: Linux", `kernel.package: "Linux" is not a legal name`},
		{"package: linux-image-amd64", "package: l2, early_modules: [a, b, a]", `kernel.early_modules[2]: "a" is listed twice`},
		{"package: linux-image-amd64", "package: l2, arguments: ['a b']", "want one argument without blanks"},
		{"package: linux-image-amd64", "package: l2, firmware: {packages: [], budget: 1}", "kernel.firmware.packages: is empty"},
		{"package: linux-image-amd64", "package: l2, firmware: {packages: [fw], budget: 0}", "kernel.firmware.budget: 0 is out of range"},
		{"package: linux-image-amd64", "package: l2, firmware: {packages: [fw], budget: 1, exclude: ['[']}", "is not a path pattern"},
		{"type: grub", "type: grubb", `bootloader.type: "grubb" is not possible; did you mean grub?`},
		{"type: grub", "type: lilo", `bootloader.type: "lilo" is not possible; want grub`},
		{"source: debian", "source: debain", "did you mean debian"},
		{"table: gpt", "table: gtp", "did you mean gpt?"},
		{"role: boot", "role: bot", "did you mean boot"},
		{"format: fat32", "format: fat", "did you mean fat16 or fat32?"},
		{"packages: [grub-efi-amd64-bin]", "timeout: 1", "field packages is missing"},
		{"kernel: {source: debian, suite: bookworm, package: linux-image-amd64}\n", "", "bootloader: has nothing to load"},
		{"bootloader: {type: grub, suite: bookworm, packages: [grub-efi-amd64-bin]}\n", "", "image: cannot boot"},
		{"size: 1024", "size: 65", "make image.size larger"},
		{"size: 1024", "size: 99999999999999999999", "f:6:9: image.size: "},
		{"size: 1024", "size: many", "f:6:9: image.size: want a whole number, not string"},
		{"name: pvboot", "name: pvbootpvboot", "a label of fat32 holds 11"},
		{"name: pvroot", "name: pvrootpvrootpvroot", "a label of ext4 holds 16"},
		{"name: pvroot", "name: pvboot", `"pvboot" is there twice`},
		{"name: pvroot", "name: 'a/b'", "is not a legal name"},
		{"size: 64}", "size: 8}", "8MiB is too small for fat32"},
		{", size: 64}", "}", "only the last partition may take what is left"},
		{"role: root, format: ext4", "role: root, format: ext4, start: 3", "f:10:"},
		{"role: root, format: ext4", "role: boot, format: ext4", "2 partitions with role boot; want one"},
		{"role: root, format: ext4", "role: root, format: fat32", "the storage needs ext4"},
		{"partitions:\n", "partitions: []\n", ""},
		{"memory: 512", "memory: 1", "emulator.memory: 1 is out of range"},
		{"machine: q35", "machine: 'q35 -x'", "emulator.machine"},
		{"packages: [qemu-system-x86]", "packages: []", "emulator.packages: is empty"},
		{"description: a board", "description: \"a\\tboard\"", "a control character"},
		{"description: a board", "description: a board\ndescription: b", "f:2:1: "},
		{"description: a board", "description: [", "f:"},
		{"description: a board", "description: &a x\nplatform: *a", "want text, not a"},
		{"emulator:", "containers: [network, network]\nemulator:", `containers[1]: "network" is listed twice`},
		{"emulator:", "platform: ../x\nemulator:", `platform: "../x" is not a legal name`},
		{"emulator:", "---\ndescription: x\nemulator:", "a second document"},
	} {
		if !strings.Contains(good, c.old) {
			t.Fatalf("the good file does not hold %q", c.old)
		}
		_, err := parse("f", "x", []byte(strings.Replace(good, c.old, c.new, 1)), nil)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q for %q: got\n%v\nwant %q", c.new, c.old, err, c.want)
			continue
		}
		if fault.Of(err) != fault.BadInput {
			t.Errorf("%q: kind %v", c.new, fault.Of(err))
		}
	}
}

// TestKnownValuesAreRefusedByName expects another kind of error for what is right, but
// not supported yet, and the same words from NotReady.
func TestKnownValuesAreRefusedByName(t *testing.T) {
	t.Parallel()
	for field, c := range map[string]struct{ old, form string }{
		"kernel.source":           {"source: debian", "source: %s"},
		"bootloader.type":         {"type: grub", "type: %s"},
		"image.partitions.role":   {"role: boot", "role: %s"},
		"image.partitions.format": {"format: fat32", "format: %s"},
	} {
		for _, v := range values[field] {
			_, err := parse("f", "x", []byte(strings.Replace(good, c.old, fmt.Sprintf(c.form, v.name), 1)), nil)
			refusal := NotReady(field, v.name)
			switch {
			case v.ready && err != nil && strings.Contains(err.Error(), "not supported yet"):
				t.Errorf("%s: %s: %v", field, v.name, err)
			case !v.ready && (fault.Of(err) != fault.Unsupported || !strings.Contains(err.Error(), `"`+v.name+`" is not supported yet`)):
				t.Errorf("%s: %s: kind %v: %v", field, v.name, fault.Of(err), err)
			case !v.ready && (fault.Of(refusal) != fault.Unsupported || !strings.Contains(refusal.Error(), field)):
				t.Errorf("%s: %s: kind %v: %v", field, v.name, fault.Of(refusal), refusal)
			}
		}
	}
	if err := NotReady("image.table", "gtp"); fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), "did you mean gpt?") {
		t.Errorf("kind %v: %v", fault.Of(err), err)
	}
}

func TestAnMBRHoldsFourPartitions(t *testing.T) {
	t.Parallel()
	const what = "image.partitions: has 5; a table of type mbr holds 4"
	for n, want := range map[int]bool{4: false, 5: true} {
		text := strings.Replace(good, "table: gpt", "table: mbr", 1)
		for i := range n - 2 {
			text = strings.Replace(text, "    - {name: pvroot", fmt.Sprintf("    - {name: p%d, role: boot, format: ext4, size: 8}\n    - {name: pvroot", i), 1)
		}
		if _, err := parse("f", "x", []byte(text), nil); err == nil || strings.Contains(err.Error(), what) != want {
			t.Errorf("%d partitions: got %v", n, err)
		}
	}
}

func TestRulesOfRoles(t *testing.T) {
	t.Parallel()
	const boot = "    - {name: pvboot, role: boot, format: fat32, size: 64}\n"
	const none = "0 partitions with role boot; want one"
	for _, c := range []struct {
		old, new, want string
		kind           fault.Kind
	}{
		{boot, "", none, fault.BadInput},
		{boot, boot + strings.Replace(boot, "pvboot", "second", 1), "2 partitions with role boot; want one", fault.BadInput},
		{"role: root", "role: boot", "0 partitions with role root; want one", fault.BadInput},
		{"role: root", "role: boot", "f:10:22: image.partitions[1].role: the last partition must be root", fault.BadInput},
		{"format: fat32", "format: ext4", `f:9:34: image.partitions[0].format: "ext4" is not supported for the role boot; supported: fat32`, fault.Unsupported},
	} {
		_, err := parse("f", "x", []byte(strings.Replace(good, c.old, c.new, 1)), nil)
		if fault.Of(err) != c.kind || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q for %q: kind %v: %v; want %s", c.new, c.old, fault.Of(err), err, c.want)
		}
	}
	// Whether there is a boot partition is up to the loader.
	other := strings.NewReplacer(boot, "", "type: grub", "type: extlinux").Replace(good)
	if _, err := parse("f", "x", []byte(other), nil); err != nil {
		t.Errorf("another loader: %v", err)
	}
}

func TestAmount(t *testing.T) {
	t.Parallel()
	for want, c := range map[string][2]int{"one": {1, 1}, "at least 2": {2, 0}, "at most 2": {0, 2}, "1 to 4": {1, 4}} {
		if got := amount(c[0], c[1]); got != want {
			t.Errorf("%v: %s, want %s", c, got, want)
		}
	}
}

// TestLoaderNeedsATableThatItReads expects the position of the table, and the kind of what
// is right but not supported.
func TestLoaderNeedsATableThatItReads(t *testing.T) {
	t.Parallel()
	_, err := parse("f", "x", []byte(strings.Replace(good, "table: gpt", "table: none", 1)), nil)
	const want = `f:7:3: image.table: "none" is not supported with bootloader.type grub; supported: gpt`
	if fault.Of(err) != fault.Unsupported || !strings.Contains(err.Error(), want) {
		t.Errorf("kind %v: %v", fault.Of(err), err)
	}
	bad := strings.NewReplacer("table: gpt", "table: none", "name: pvroot", "name: pvboot").Replace(good)
	if _, err := parse("f", "x", []byte(bad), nil); fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), want) {
		t.Errorf("with a mistake: kind %v: %v", fault.Of(err), err)
	}
}

// TestDeviceKnowsEveryLoader compares the loaders with the runtime: it must take the name
// of each that it has, and have a store for each that targets may use.
func TestDeviceKnowsEveryLoader(t *testing.T) {
	t.Parallel()
	for _, v := range values["bootloader.type"] {
		name := (&Bootloader{Type: v.name}).Runtime()
		c := config.New()
		if c.Set(config.PVConf, "PV_BOOTLOADER_TYPE", name); name != "" && (c.Enum(config.BootloaderType) != name || len(c.Notes()) > 0) {
			t.Errorf("%s: the runtime does not take PV_BOOTLOADER_TYPE=%s: %v", v.name, name, c.Notes())
		}
		if !v.ready {
			continue
		}
		if _, err := boot.Open(name, t.TempDir()); err != nil {
			t.Errorf("%s: %v", v.name, err)
		}
		for _, table := range v.loader.tables {
			if !slices.Contains(Ready("image.table"), table) {
				t.Errorf("%s boots from the table %s, which no image has", v.name, table)
			}
		}
		if len(v.loader.tables) == 0 {
			t.Errorf("%s boots from no table", v.name)
		}
	}
}

func TestAppEngineExcludesAMachine(t *testing.T) {
	text := "description: x\narch: {go: amd64}\nappengine: {suite: bookworm}\ncontainers: [sdk]\nkernel: {source: debian, suite: bookworm, package: linux-image-amd64}\n"
	_, err := parse("x", "x", []byte(text), nil)
	for _, want := range []string{"leave kernel or appengine out", "arch.debian"} {
		if err == nil || !strings.Contains(strings.ReplaceAll(err.Error(), "field debian is missing", "arch.debian"), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if _, err := parse("x", "x", []byte("description: x\narch: {go: arm64}\nappengine: {suite: bookworm}\n"), nil); err != nil {
		t.Error(err)
	}
	if _, err := parse("x", "x", []byte("description: x\narch: {go: arm64}\nappengine: {}\n"), nil); err == nil {
		t.Error("a package without a suite is taken")
	}
}

func TestParseCollectsAllInOrder(t *testing.T) {
	_, err := parse("f", "x", []byte("arch: {go: amd65}\nimage: {size: 0, table: mbx, partitions: [1]}\ncontainers: x\nzz: 1\n"), nil)
	var got yamlfile.Problems
	if !errors.As(err, &got) {
		t.Fatalf("got %v, want Problems", err)
	}
	var lines []int
	for _, p := range got {
		lines = append(lines, p.Line)
	}
	if diff := cmp.Diff([]int{1, 1, 2, 2, 2, 3, 4}, lines); diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
}

func TestAllKindsOfMistakesTogether(t *testing.T) {
	bad := good
	for _, c := range [][2]string{
		{"package: linux-image-amd64", "package: l2, early_modules: [../x], firmware: {packages: [a], budget: -4}"},
		{"type: grub", "type: grubb"},
		{"name: pvroot", "name: pvboot"},
		{"emulator:", "containers: [network, network]\nemulator:"},
	} {
		bad = strings.Replace(bad, c[0], c[1], 1)
	}
	_, err := parse("f", "x", []byte(bad), nil)
	if err == nil {
		t.Fatal("no mistake was found")
	}
	for _, want := range []string{"early_modules[0]", "firmware.budget", "bootloader.type", `"pvboot" is there twice`, "containers[1]"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%s is not among\n%v", want, err)
		}
	}
}

func TestMistakeAtTheTopHidesNoOther(t *testing.T) {
	for _, top := range []string{"descripton: a board", "description: [a]", "description: a board\nplatform: [x]"} {
		bad := strings.NewReplacer("description: a board", top, "name: pvroot", "name: pvboot", "q35", "'q 35'",
			"arch: {go: amd64, debian: amd64}", "arch: x", "emulator:", "containers: [sdk, sdk]\nemulator:").Replace(good)
		_, err := parse("f", "x", []byte(bad), nil)
		if err == nil {
			t.Fatal("no mistake was found")
		}
		for _, want := range []string{"arch: want fields", `"pvboot" is there twice`, "emulator.machine", "containers[1]"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q: %s is not among\n%v", top, want, err)
			}
		}
		if strings.Contains(err.Error(), "arch.") {
			t.Errorf("%q: a mistake that only follows:\n%v", top, err)
		}
	}
}

func TestMistakesThatOnlyFollowAreLeftOut(t *testing.T) {
	_, err := parse("f", "x", []byte(strings.Replace(good, "go: amd64", "go: amd46", 1)), nil)
	if err == nil || strings.Contains(err.Error(), "\n") {
		t.Errorf("want the one mistake, got\n%v", err)
	}
}

func TestParseTooLarge(t *testing.T) {
	_, err := parse("f", "x", []byte(good+strings.Repeat("#\n", yamlfile.Limit)), nil)
	if err == nil || !strings.Contains(err.Error(), "larger than 64 KiB") {
		t.Errorf("got %v", err)
	}
	if _, err := parse("f", "x", nil, nil); err == nil || !strings.Contains(err.Error(), "file is empty") {
		t.Errorf("got %v", err)
	}
}

func TestLoadUnknown(t *testing.T) {
	for name, want := range map[string]string{
		"x64-uef": "did you mean x64-uefi?", "x64-uefi-instaler": "x64-uefi-installer", "uefi": "x64-uefi", "../x64-uefi": "x64-uefi", "": "mage targets",
		"rpi65": "did you mean rpi64?", "rpi64-debugg": "rpi64-debug", "odroid": "odroid-c2",
		"zzzzzzzzzz": `"mage targets" lists`,
	} {
		_, err := Load(nil, name)
		if err == nil || !strings.Contains(err.Error(), want) || fault.Of(err) != fault.BadInput {
			t.Errorf("%q: got %v, want %q", name, err, want)
		}
	}
}

func TestImpossibleNameOfADirectory(t *testing.T) {
	t.Parallel()
	fsys := fstest.MapFS{"MyBoard/target.yaml": {Data: []byte("description: my board\n")}}
	if _, err := Load(fsys, "MyBoard"); fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), `target "MyBoard": its directory's name is not possible; want lower-case`) {
		t.Error(err)
	}
}

func TestWorkspaceAddsAndReplaces(t *testing.T) {
	dir := t.TempDir()
	for name, description := range map[string]string{"mine": "my board", "x64-generic": "my own x64-generic"} {
		directory := filepath.Join(dir, "targets", name)
		if err := os.MkdirAll(directory, 0o755); err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprintf("description: %s\narch: {go: amd64}\n", description)
		if err := os.WriteFile(filepath.Join(directory, FileName), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	all, err := LoadAll(In(filepath.Join(dir, "targets")))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, target := range all {
		got[target.Name] = target.Description
	}
	if got["mine"] != "my board" || got["x64-generic"] != "my own x64-generic" || got["x64-uefi"] == "" {
		t.Errorf("got %v", got)
	}
}

func TestLoadAllReportsEveryBrokenTarget(t *testing.T) {
	_, err := LoadAll(fstest.MapFS{
		"a/target.yaml": {Data: []byte("x: 1\n")},
		"b/target.yaml": {Data: []byte("[")},
		"c/target.yaml": {Data: []byte("description: c\narch: {go: amd64}\n")},
	})
	if err == nil || !strings.Contains(err.Error(), "targets/a/target.yaml:1:1") || !strings.Contains(err.Error(), "targets/b/target.yaml:1:") {
		t.Errorf("got %v", err)
	}
}

func TestArchString(t *testing.T) {
	for want, a := range map[string]Arch{
		"amd64": {Go: "amd64"}, "armv6": {Go: "arm", ARM: "6"}, "mipsle-softfloat": {Go: "mipsle", MIPS: "softfloat"},
	} {
		if a.String() != want {
			t.Errorf("got %s, want %s", a, want)
		}
	}
}

// FuzzParse expects a valid target or a list of problems with positions for every input.
func FuzzParse(f *testing.F) {
	f.Add([]byte(good))
	names, _ := definitions(Builtin())
	for _, name := range names {
		data, err := fs.ReadFile(Builtin(), name+"/"+FileName)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	for _, text := range []string{"", "[", "{", "a: *b", "a: &a [*a]", "? a\n: b", "<<: {a: 1}", "description: !!binary x", "- - -", "%YAML 1.2\n---\n...", "a: |\n  x\n", "arch: {go: 0x1F}"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		target, err := parse("f", "x", data, func(base string) (*Target, error) { return nil, fmt.Errorf("no target %s", base) })
		if err == nil {
			invariants(t, target)
			return
		}
		var problems yamlfile.Problems
		if !errors.As(err, &problems) || len(problems) == 0 {
			t.Fatalf("no problems in %v", err)
		}
	})
}

// TestLoaderWithOneInitrd rejects what would be further ones where it is said.
func TestLoaderWithOneInitrd(t *testing.T) {
	t.Parallel()
	text := strings.Replace(good, "{type: grub, suite: bookworm, packages: [grub-efi-amd64-bin]}", "{type: extlinux}", 1)
	text = strings.Replace(text, "    - {name: pvboot, role: boot, format: fat32, size: 64}\n", "", 1)
	for more, want := range map[string]string{
		"addons: [{name: a, directory: addons/a}]\n": ":11:1: addons: bootloader.type: extlinux loads one initrd and no addons: put their files into vendors/x/skel",
		"debug: true\n": ":11:1: debug: bootloader.type: extlinux loads one initrd",
		"":              "",
	} {
		file := strings.Replace(text, oneMachine, "emulator: {system: x86_64, machine: q35, memory: 512, packages: [q1]}\n", 1) + more
		_, err := parse("f", "x", []byte(file), nil)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", more, err, want)
		}
	}
}

// TestSmallestTargetOfTheDocument loads the first example in docs/targets.md.
func TestSmallestTargetOfTheDocument(t *testing.T) {
	data, err := os.ReadFile("../docs/targets.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(data), "```yaml\n")
	text, _, ok2 := strings.Cut(rest, "```")
	if !ok || !ok2 || strings.Count(text, "\n") >= 10 {
		t.Fatalf("no target of under ten lines in docs/targets.md: %q", text)
	}
	if _, err := parse("docs/targets.md", "mine", []byte(text), nil); err != nil {
		t.Error(err)
	}
}

// TestBase completes targets with the fields of others.
func TestBase(t *testing.T) {
	t.Parallel()
	board := "description: board\narch: {go: amd64, debian: amd64}\nkernel: {source: debian, suite: bookworm, package: linux-image-amd64, arguments: [quiet]}\ncontainers: [sdk]\n"
	fsys := fstest.MapFS{}
	for name, text := range map[string]string{
		"board": board, "same": "description: same\nbase: board\n", "own": "description: own\nbase: same\narch: {go: arm64}\nkernel:\n" +
			"  {source: debian, suite: trixie, package: linux-image-arm64}\ncontainers: [network]\n",
		"typed": "description: x\nbase: full\ncontainers: 5\nbootloader:\n" +
			"  {type: grub, suite: bookworm, packages: [grub-efi-amd64-bin], files: [{to: a, package: grub-efi-amd64-bin, from: usr/a}]}\n", "full": good, "circle": "description: x\nbase: round\n", "round": "description: x\nbase: circle\n", "nowhere": "description: x\nbase: bord\n",
		"wrong": "description: x\nbase: board\naddons:\n  - {name: a, directory: x, program: y}\n  - {name: a, directory: ../x}\n  - {name: debug, program: y, path: /z}\n",
	} {
		fsys[name+"/target.yaml"] = &fstest.MapFile{Data: []byte(text)}
	}
	same, err := Load(fsys, "same")
	if err != nil {
		t.Fatal(err)
	}
	want, err := Load(fsys, "board")
	if err != nil {
		t.Fatal(err)
	}
	want.Name, want.Definition, want.Description, want.Base = "same", "same", "same", "board"
	if diff := cmp.Diff(want, same); diff != "" || same.Platform != "board" {
		t.Errorf("platform %s\n%s", same.Platform, diff)
	}
	own, err := Load(fsys, "own")
	if err == nil {
		t.Errorf("a kernel without Debian's name of the architecture, which the base had: %v", own)
	}
	for name, texts := range map[string][]string{
		"circle": {"targets/circle/target.yaml:2:1: base: ", "as its base itself"}, "nowhere": {"targets/nowhere/target.yaml:2:", "did you mean board?"},
		"own":   {"field debian is missing"},
		"wrong": {":4:", "one of directory and program", "is there twice", `"../x" is not a clean path`, "debug images", `"/z" is not a clean path`},
	} {
		_, err := Load(fsys, name)
		for _, text := range texts {
			if fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), text) {
				t.Errorf("%s: %v, want %q", name, err, text)
			}
		}
	}
	if _, err := Load(fsys, "typed"); err == nil || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), "containers: want ") {
		t.Errorf("a field with another type, of a target with a base: %v; want this mistake alone", err)
	}
}
