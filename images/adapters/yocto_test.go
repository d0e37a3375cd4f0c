package adapters

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/pantavisor/pantavisor/images/inputs"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/targets"
)

// TestPartial: a partial list lacks what other lists must have, and has nothing of what was built.
func TestPartial(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "partial.yaml")
	read := func(text string) (*inputs.List, map[string]inputs.Container, error) {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return readPartial(file)
	}
	l, more, err := read("kernel: {arguments: [quiet]}\n" +
		"containers: [{name: a, args: {PV_GROUP: x}, config: {path: a.json}}, {name: b, root: {form: tar, path: b.tar}}, {name: c, verity: true}]\n")
	if err != nil {
		t.Fatal(err)
	}
	want := &inputs.List{
		Spec: inputs.Spec, Kernel: &inputs.Kernel{Arguments: []string{"quiet"}},
		Containers: []inputs.Container{{Name: "b", Root: inputs.Tree{Form: "tar", Path: filepath.Join(dir, "b.tar")}}},
	}
	if diff := cmp.Diff(want, l, cmpopts.IgnoreUnexported(inputs.List{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if c := more["a"]; len(more) != 2 || c.Config.Path != filepath.Join(dir, "a.json") || c.Args["PV_GROUP"] != "x" || !more["c"].Verity {
		t.Errorf("more of containers: %+v", more)
	}
	for text, want := range map[string]string{
		"kernel: {image: {path: Image}}":                                    "partial.yaml:1:10: kernel.image: a partial list does not have it",
		"kernel: {modules: {form: tar, path: x}}":                           "kernel.modules: a partial list does not have it",
		"\"#spec\": pantavisor-inputs@1":                                    "#spec: a partial list does not have it",
		"kernels: {}":                                                       "did you mean kernel?",
		"containers: [{verity: true}]":                                      "containers[0]: field name is missing",
		"containers: [{name: a, root: {form: tar}}]":                        "field path is missing",
		"bootloader: {type: uboot, blobs: [{name: x, path: y, sector: z}]}": "want a whole number",
		"config: {hub: {path: x}}":                                          "config: field",
	} {
		if _, _, err := read(text); fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: want %q, got %v", text, want, err)
		}
	}
}

func TestYoctoArch(t *testing.T) {
	for in, want := range map[string]targets.Arch{
		"x86_64 m64 core2":                             {Go: "amd64"},
		"aarch64 aarch64 crc cortexa53":                {Go: "arm64"},
		"arm arm armv7a vfp thumb callconvention-hard": {Go: "arm", ARM: "7"},
		"arm arm armv7ve vfp neon cortexa7":            {Go: "arm", ARM: "7"},
		"arm arm vfp arm1176jzfs callconvention-hard":  {Go: "arm", ARM: "6"},
		"arm arm armv5 thumb dsp":                      {Go: "arm", ARM: "5"},
		"mips o32 bigendian fpu-hard mips32r2":         {Go: "mips", MIPS: "hardfloat"},
		"mipsel o32 mips32r2":                          {Go: "mipsle", MIPS: "softfloat"},
		"riscv64 riscv64":                              {Go: "riscv64"},
	} {
		arch, tune, _ := strings.Cut(in, " ")
		got, err := yoctoArch(arch, tune)
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v", in, got, err)
		}
	}
	if _, err := yoctoArch("powerpc", ""); err == nil {
		t.Error("a runtime for powerpc")
	}
}

// bundle writes what a list of the layer names and returns the list for changes.
func bundle(t *testing.T) (string, map[string]any) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"Image-b.bin": "kernel", "modules-b.tgz": "modules", "board.dtb": "tree", "other.dtb": "tree", "app-b.rootfs.tar.xz": "root",
		"net.pvrexport.tgz": "export", "pantavisor-b": "runtime", "u-boot.bin": "loader", "hub": "", "runtime": "",
		"app.args.json": `{"PV_GROUP": "data", "PV_RUNLEVEL": "x"}`, "app.services.json": "{}", "app.mdev.json": "{}", "app.network.json": "{}", "app.config.json": "{}",
		"partial.yaml": "image: {size: 64, table: mbr, partitions: [{name: boot, role: boot, format: fat16, size: 32MiB}, {name: root, role: root, format: ext4}]}\n" +
			"bootloader: {type: uboot, addresses: {initrd: 1}, files: [{to: u-boot.bin, path: 'deploy:u-boot.bin'}]}\n" +
			"containers: [{name: app, entrypoint: [/init]}]\n",
	} {
		put(t, filepath.Join(dir, name), text)
	}
	for _, d := range []string{"defaults", "overlay"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir, map[string]any{
		"#spec": yoctoSpec, "target": "gateway", "epoch": 1, "arch": "aarch64", "machine": "b", "deploy": dir, "outputs": []any{"image", "revision"},
		"runtime": "pantavisor-b", "with": filepath.Join(dir, "partial.yaml"), "exports": []any{"net.pvrexport.tgz"},
		"config": map[string]any{
			"runtime": map[string]any{"path": dir + "/runtime"}, "hub": map[string]any{"path": dir + "/hub"}, "defaults": map[string]any{"path": dir + "/defaults"},
		},
		"kernel": map[string]any{
			"image": "Image-b.bin", "modules": "modules-b.tgz", "device_trees": "vendor/board.dtb vendor/other.dtb x.dtbo", "auto": "1",
			"arguments": "console=ttyS0 quiet", "early": "ext4",
		},
		"containers": []any{map[string]any{
			"name": "app", "root": "app-b.rootfs.tar.xz", "type": "tar.xz", "group": "app", "roles": "mgmt nobody", "format": "-comp xz -b 256K -e usr/share/doc",
			"add": "--volume ovl:/var:permanent --restart-policy=system --arg PV_DEBUG_MODE=yes", "args": dir + "/app.args.json", "config": dir + "/app.config.json",
			"services": dir + "/app.services.json", "mdev": dir + "/app.mdev.json", "network": dir + "/app.network.json", "overlay": dir + "/overlay",
		}},
	}
}

func madeOf(t *testing.T, dir string, list map[string]any) (*Made, error) {
	t.Helper()
	text, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "pv-list.json")
	put(t, file, string(text))
	return ReadYocto(file)
}

// TestYoctoList has what each variable of the layer becomes.
func TestYoctoList(t *testing.T) {
	dir, list := bundle(t)
	m, err := madeOf(t, dir, list)
	if err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	want := inputs.Container{
		Name: "app", Root: inputs.Tree{Form: "tar", Path: at("app-b.rootfs.tar.xz")}, Compression: "xz", Block: 256 * targets.KiB,
		Exclude: []string{"lib/modules", "lib/firmware", "usr/share/doc"}, Entrypoint: []string{"/init"},
		Args:        map[string]any{"PV_GROUP": "app", "PV_ROLES": []string{"mgmt", "nobody"}, "PV_RUNLEVEL": "x", "PV_RESTART_POLICY": "system", "PV_DEBUG_MODE": "yes"},
		Persistence: map[string]string{"ovl:/var": "permanent"},
		Config:      &inputs.File{Path: at("app.config.json")}, Services: &inputs.File{Path: at("app.services.json")}, MDEV: &inputs.File{Path: at("app.mdev.json")},
		Network: &inputs.File{Path: at("app.network.json")}, Overlay: &inputs.Directory{Path: at("overlay")},
	}
	if diff := cmp.Diff([]inputs.Container{want}, m.List.Containers); diff != "" {
		t.Error(diff)
	}
	kernel := &inputs.Kernel{
		Image: inputs.File{Path: at("Image-b.bin")}, Modules: &inputs.Tree{Form: "tar", Path: at("modules-b.tgz")},
		DeviceTrees: []inputs.Named{{Name: "vendor/board.dtb", Path: at("board.dtb")}, {Name: "vendor/other.dtb", Path: at("other.dtb")}},
		Arguments:   []string{"console=ttyS0", "quiet"}, EarlyModules: []string{"ext4"},
	}
	if diff := cmp.Diff(kernel, m.List.Kernel); diff != "" {
		t.Error(diff)
	}
	if got := m.List.Bootloader.Files[0].Path; got != at("u-boot.bin") {
		t.Errorf("the loader is at %s", got)
	}
	if len(m.Notes) != 1 || !strings.Contains(m.Notes[0], "overlay x.dtbo is left out") {
		t.Errorf("%q", m.Notes)
	}
	list["kernel"].(map[string]any)["initial"], list["kernel"].(map[string]any)["auto"] = "other.dtb", ""
	if m, err = madeOf(t, dir, list); err != nil || len(m.List.Kernel.DeviceTrees) != 1 || m.List.Kernel.DeviceTrees[0].Name != "other.dtb" {
		t.Errorf("PV_INITIAL_DTB: %+v, %v", m, err)
	}
}

func TestYoctoMistakes(t *testing.T) {
	for name, c := range map[string]struct {
		change func(list, kernel, container map[string]any)
		want   string
	}{
		"two ways of a tree": {func(_, k, _ map[string]any) { k["initial"] = "board.dtb" }, "exclude each other"},
		"many trees":         {func(_, k, _ map[string]any) { k["auto"] = "" }, "KERNEL_DEVICETREE has 2 device trees"},
		"lz4":                {func(l, _, _ map[string]any) { l["features"] = "squash-lz4" }, "squash-lz4"},
		"lz4 option":         {func(_, _, c map[string]any) { c["format"] = "-comp lz4 -Xhc" }, "-comp lz4"},
		"option":             {func(_, _, c map[string]any) { c["add"] = "--base x" }, "--base is not known"},
		"image type":         {func(_, _, c map[string]any) { c["type"] = "ext4" }, `image type "ext4"`},
		"token":              {func(l, _, _ map[string]any) { l["key"] = "pkcs11:token=x" }, "it names no key"},
		"outside":            {func(l, _, _ map[string]any) { l["exports"] = []any{"../x.tgz"} }, "neither an absolute path"},
		"missing":            {func(l, _, _ map[string]any) { l["exports"] = []any{"none.pvrexport.tgz"} }, "none.pvrexport.tgz: no such file"},
		"another container":  {func(_, _, c map[string]any) { c["name"] = "web" }, "container app has no root"},
		"tryboot":            {func(l, _, _ map[string]any) { l["features"] = "rpi-tryboot" }, "bootloader.type: rpiab"},
		"unknown field":      {func(l, _, _ map[string]any) { l["kernels"] = 1 }, `unknown field "kernels"`},
	} {
		t.Run(name, func(t *testing.T) {
			dir, list := bundle(t)
			c.change(list, list["kernel"].(map[string]any), list["containers"].([]any)[0].(map[string]any))
			if _, err := madeOf(t, dir, list); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}
