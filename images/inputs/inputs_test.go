package inputs

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/formats/cpio"
	"github.com/pantavisor/pantavisor/formats/squashfs"
	"github.com/pantavisor/pantavisor/formats/tarball"
	"github.com/pantavisor/pantavisor/formats/tree"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/archive"
	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/revision/state"
)

// object is a JSON object of a test.
type object = map[string]any

// put writes files of a test.
func put(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		file := filepath.Join(dir, name)
		must(t, os.MkdirAll(filepath.Dir(file), 0o755))
		must(t, os.WriteFile(file, []byte(text), 0o644))
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// product makes the inputs of a small product and returns its list for changes.
func product(t *testing.T) (dir string, list object) {
	t.Helper()
	dir = t.TempDir()
	must(t, os.CopyFS(filepath.Join(dir, "defaults"), os.DirFS("../../config/defaults")))
	must(t, os.CopyFS(filepath.Join(dir, "config"), os.DirFS("../../config/generic")))
	put(t, dir, map[string]string{
		"runtime": "the runtime", "kernel": "a kernel", "board.dtb": "a device tree", "u-boot.bin": "the loader", "core.img": "a blob",
		"app/bin/app": "#!/bin/sh\n", "app/etc/passwd": "daemon:x:7:8::/:/bin/sh\n", "state/boot/uboot.txt": strings.Repeat("\x00", 16),
		"bom.json": "{}", "vex.json": `{"bomFormat":"CycloneDX","vulnerabilities":[]}`,
	})
	return dir, object{
		"#spec": Spec, "target": "board", "epoch": 1600000000, "arch": object{"go": "arm64"},
		"outputs": []any{"image", "export", "revision"}, "runtime": object{"path": "runtime"},
		"kernel": object{
			"image": object{"path": "kernel"}, "release": "6.1.0", "arguments": []any{"console=ttyS0"},
			"device_trees": []any{object{"name": "vendor/board.dtb", "path": "board.dtb"}},
		},
		"containers": []any{object{
			"name": "app", "root": object{"form": "directory", "path": "app"}, "entrypoint": []any{"/bin/app"}, "user": "daemon",
			"args": object{"PV_GROUP": "app", "PV_RESTART_POLICY": "container"},
		}},
		"config": object{
			"runtime": object{"path": "config/pantavisor.config"}, "hub": object{"path": "config/pantahub.config"}, "defaults": object{"path": "defaults"},
		},
		"image": object{"size": 128, "table": "mbr", "partitions": []any{
			object{"name": "boot", "role": "boot", "format": "fat16", "start": 4, "size": 32}, object{"name": "root", "role": "root", "format": "ext4"},
		}},
		"bootloader": object{
			"type": "uboot", "addresses": object{"initrd": 0x48000000},
			"files": []any{object{"to": "u-boot.bin", "path": "u-boot.bin"}},
			"blobs": []any{object{"name": "core", "path": "core.img", "sector": 16, "max": "64KiB"}},
		},
		"vex":     []any{object{"name": "vendor.json", "path": "vex.json"}},
		"sbom":    []any{object{"name": "vendor.json", "path": "bom.json"}},
		"support": object{"end": "2031-12-31", "contact": "security@example.com"},
	}
}

// write writes a list beside its inputs.
func write(t *testing.T, dir string, list object) string {
	t.Helper()
	text, err := json.MarshalIndent(list, "", " ")
	must(t, err)
	file := filepath.Join(dir, "inputs.json")
	must(t, os.WriteFile(file, text, 0o644))
	return file
}

// compose builds a list into a new directory and returns it with the digests of the results.
func compose(t *testing.T, file string) (string, map[string]string) {
	t.Helper()
	l, err := Read(file)
	must(t, err)
	out := filepath.Join(t.TempDir(), "out")
	report, err := l.Build(t.Context(), out, Options{})
	must(t, err)
	sums := map[string]string{}
	for _, a := range report.Artefacts {
		sums[a.Path] = a.SHA256
	}
	return out, sums
}

func TestSameBitsTwice(t *testing.T) {
	t.Parallel()
	dir, list := product(t)
	out, first := compose(t, write(t, dir, list))
	want := []string{"board-pv-128MiB.img", "board-pv-128MiB.img.bmap", "board-revision.pvr.tgz", "board.pvr.tgz", "inputs.json", "sbom", "sbom.json", "vex/vendor.json"}
	if diff := cmp.Diff(want, sorted(first)); diff != "" {
		t.Error(diff)
	}
	if _, again := compose(t, write(t, dir, list)); !cmp.Equal(first, again) {
		t.Error(cmp.Diff(first, again))
	}
	// The list beside the results has all digests, and makes the same.
	pinned, err := Read(filepath.Join(out, ListFile))
	must(t, err)
	for _, e := range pinned.Entries() {
		if !digestForm.MatchString(e.SHA256) || !filepath.IsAbs(e.Path) {
			t.Errorf("%s: %s %s", e.Input, e.SHA256, e.Path)
		}
	}
	if _, again := compose(t, filepath.Join(out, ListFile)); !cmp.Equal(first, again) {
		t.Error(cmp.Diff(first, again))
	}
	if _, err := os.Lstat(filepath.Join(out, workDir)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the work directory is left: %v", err)
	}
}

func sorted(m map[string]string) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// revisionOf reads the state of the export of the whole revision.
func revisionOf(t *testing.T, out string) *state.State {
	t.Helper()
	st, _ := storeOf(t, out)
	return st
}

// storeOf reads the export of the whole revision with its objects.
func storeOf(t *testing.T, out string) (*state.State, *objects.Store) {
	t.Helper()
	f, err := os.Open(filepath.Join(out, "board-revision.pvr.tgz"))
	must(t, err)
	defer f.Close()
	store, err := objects.Create(filepath.Join(t.TempDir(), "objects"))
	must(t, err)
	st, err := archive.Import(t.Context(), f, store, archive.ImportOptions{})
	must(t, err)
	return st, store
}

func TestRevisionHasWhatTheListSays(t *testing.T) {
	t.Parallel()
	dir, list := product(t)
	out, _ := compose(t, write(t, dir, list))
	st := revisionOf(t, out)
	if diff := cmp.Diff([]string{"app", "bsp", "device.json"}, st.Parts()); diff != "" {
		t.Error(diff)
	}
	run, _ := st.Get("app/run.json")
	src, _ := st.Get("app/src.json")
	conf, _ := st.Object("app/lxc.container.conf")
	for text, in := range map[string][]byte{
		`"restart_policy":"container"`: run, `"PV_GROUP":"app"`: src, `"Entrypoint":["/bin/app"]`: src, `"rootfs_digest":"sha256:`: src,
	} {
		if !bytes.Contains(in, []byte(text)) {
			t.Errorf("%s is not in %s", text, in)
		}
	}
	if conf == "" {
		t.Error("there is no lxc.container.conf")
	}
	made, _ := st.Get("bsp/build.json")
	for _, text := range []string{`"support_end":"2031-12-31"`, `"security_contact":"security@example.com"`} {
		if !bytes.Contains(made, []byte(text)) {
			t.Errorf("%s is not in %s", text, made)
		}
	}
	bsp, _ := st.Get("bsp/run.json")
	for _, text := range []string{`"fdt":"board.dtb"`, `"linux":"kernel.img"`, "board:board", "kernel=6.1.0"} {
		if !bytes.Contains(bsp, []byte(text)) {
			t.Errorf("%s is not in %s", text, bsp)
		}
	}
}

// TestFormsOfARoot checks that the same files make the same container, whatever form they come
// in; only a directory says nothing of owners.
func TestFormsOfARoot(t *testing.T) {
	t.Parallel()
	dir, list := product(t)
	writeForms(t, dir, appFiles())
	var want string
	for form, file := range map[string]string{"directory": "app", "tar": "app.tar", "cpio": "app.cpio", "squashfs": "app.squashfs"} {
		root := list["containers"].([]any)[0].(object)
		root["root"], root["user"] = object{"form": form, "path": file}, "7:8"
		out, _ := compose(t, write(t, dir, list))
		sum, _ := revisionOf(t, out).Object("app/root.squashfs")
		if want == "" {
			want = sum
		}
		if sum != want || sum == "" {
			t.Errorf("%s: %s, not %s", form, sum, want)
		}
	}
}

// appFiles are the files of the product's container.
func appFiles() []tree.Entry {
	return []tree.Entry{
		tree.Dir("bin", 0o755), tree.Bytes("bin/app", 0o644, []byte("#!/bin/sh\n")),
		tree.Dir("etc", 0o755), tree.Bytes("etc/passwd", 0o644, []byte("daemon:x:7:8::/:/bin/sh\n")),
	}
}

// writeForms writes entries in several forms, with root as the owner and the epoch as the time.
func writeForms(t *testing.T, dir string, entries []tree.Entry) {
	t.Helper()
	normal := tree.Normal{AllRoot: true, Time: build.Stamp(1600000000).Time()}
	var tarred, archived bytes.Buffer
	w := tarball.NewWriter(&tarred)
	all := normal.All(entries)
	for _, e := range all {
		must(t, w.Add(e))
	}
	must(t, w.Close())
	must(t, cpio.Write(&archived, all, cpio.Options{}))
	must(t, cpio.WriteTrailer(&archived))
	must(t, os.WriteFile(filepath.Join(dir, "app.tar"), tarred.Bytes(), 0o644))
	must(t, os.WriteFile(filepath.Join(dir, "app.cpio"), archived.Bytes(), 0o644))
	f, err := os.Create(filepath.Join(dir, "app.squashfs"))
	must(t, err)
	defer f.Close()
	root := normal.Apply(tree.Dir(".", 0o755))
	must(t, squashfs.Write(t.Context(), f, squashfs.Options{Compression: squashfs.Zstd}, func(add func(tree.Entry) error) error {
		for _, e := range append([]tree.Entry{root}, all...) {
			if err := add(e); err != nil {
				return err
			}
		}
		return nil
	}))
}

// TestOCILayout checks that a container has the layers and the configuration of the image for
// the architecture.
func TestOCILayout(t *testing.T) {
	t.Parallel()
	dir, list := product(t)
	writeOCI(t, filepath.Join(dir, "oci"))
	c := list["containers"].([]any)[0].(object)
	c["root"] = object{"form": "oci", "path": "oci"}
	delete(c, "user")
	delete(c, "entrypoint")
	out, _ := compose(t, write(t, dir, list))
	src, _ := revisionOf(t, out).Get("app/src.json")
	for _, text := range []string{`"ARCH=arm64"`, `"User":"daemon"`, `"Entrypoint":["/bin/app"]`} {
		if !bytes.Contains(src, []byte(text)) {
			t.Errorf("%s is not in %s", text, src)
		}
	}
	list["arch"] = object{"go": "riscv64"}
	l, err := Read(write(t, dir, list))
	must(t, err)
	_, err = l.Build(t.Context(), filepath.Join(t.TempDir(), "out"), Options{})
	if fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), "has 0 images for linux/riscv64; want one") {
		t.Errorf("kind %v: %v", fault.Of(err), err)
	}
}

// writeOCI writes a layout with an image for each of two architectures.
func writeOCI(t *testing.T, dir string) {
	t.Helper()
	layer := static.NewLayer(layerOf(t), types.OCIUncompressedLayer)
	img, err := mutate.AppendLayers(empty.Image, layer)
	must(t, err)
	index := v1.ImageIndex(empty.Index)
	for _, arch := range []string{"amd64", "arm64"} {
		one, err := mutate.ConfigFile(img, &v1.ConfigFile{
			OS: "linux", Architecture: arch, Config: v1.Config{Entrypoint: []string{"/bin/app"}, Env: []string{"ARCH=" + arch}, User: "daemon"},
			RootFS: v1.RootFS{Type: "layers", DiffIDs: diffIDs(t, layer)},
		})
		must(t, err)
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: one})
	}
	_, err = layout.Write(dir, index)
	must(t, err)
}

func diffIDs(t *testing.T, layer v1.Layer) []v1.Hash {
	t.Helper()
	h, err := layer.DiffID()
	must(t, err)
	return []v1.Hash{h}
}

// layerOf is a layer with the files of the product's container.
func layerOf(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tarball.NewWriter(&b)
	for _, e := range []tree.Entry{
		tree.Dir("bin", 0o755), tree.Bytes("bin/app", 0o755, []byte("#!/bin/sh\n")),
		tree.Dir("etc", 0o755), tree.Bytes("etc/passwd", 0o644, []byte("daemon:x:7:8::/:/bin/sh\n")),
	} {
		must(t, w.Add(e))
	}
	must(t, w.Close())
	return b.Bytes()
}

// TestTwoOfAPart checks that what two inputs have is an error: it would be a mixture of both.
func TestTwoOfAPart(t *testing.T) {
	t.Parallel()
	dir, list := product(t)
	out, _ := compose(t, write(t, dir, list))
	export, err := os.ReadFile(filepath.Join(out, "board-revision.pvr.tgz"))
	must(t, err)
	put(t, dir, map[string]string{"old.pvr.tgz": string(export)})
	list["exports"] = []any{object{"path": "old.pvr.tgz"}}
	l, err := Read(write(t, dir, list))
	must(t, err)
	_, err = l.Build(t.Context(), filepath.Join(t.TempDir(), "out"), Options{})
	if want := "bsp/part and input/exports/0 both have the part bsp"; fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), want) {
		t.Errorf("kind %v: %v", fault.Of(err), err)
	}
	// Alone it is a whole revision.
	for _, field := range []string{"kernel", "containers", "runtime"} {
		delete(list, field)
	}
	delete(list["bootloader"].(object), "type")
	delete(list["bootloader"].(object), "addresses")
	list["bootloader"].(object)["state"] = object{"path": "state"}
	list["outputs"] = []any{"image", "revision"}
	again, _ := compose(t, write(t, dir, list))
	if want, got := revisionOf(t, out), revisionOf(t, again); !bytes.Equal(want.Encode(), got.Encode()) {
		t.Errorf("%s is not %s", got.Encode(), want.Encode())
	}
}

// TestModulesOfThisMachine checks that a link to the modules of the machine that builds is not
// followed: as root, they would be taken away.
func TestModulesOfThisMachine(t *testing.T) {
	t.Parallel()
	host, dir := t.TempDir(), t.TempDir()
	put(t, host, map[string]string{"6.1.0/modules.order": ""})
	must(t, os.Mkdir(filepath.Join(dir, "lib"), 0o755))
	must(t, os.Symlink(host, filepath.Join(dir, "lib/modules")))
	if at, _, err := releaseOf(dir); fault.Of(err) != fault.BadInput {
		t.Errorf("%s is taken: %v", at, err)
	}
	// On a system with a merged /usr lib is a link in the tree.
	merged := t.TempDir()
	put(t, merged, map[string]string{"usr/lib/modules/6.1.0/modules.order": ""})
	must(t, os.Symlink("usr/lib", filepath.Join(merged, "lib")))
	if _, release, err := releaseOf(merged); release != "6.1.0" || err != nil {
		t.Errorf("%s, %v", release, err)
	}
}

func TestModulesInEachForm(t *testing.T) {
	t.Parallel()
	dir, list := product(t)
	entries := []tree.Entry{
		tree.Dir("lib", 0o755), tree.Dir("lib/modules", 0o755), tree.Dir("lib/modules/6.1.0", 0o755),
		tree.Bytes("lib/modules/6.1.0/modules.order", 0o644, nil), tree.Bytes("lib/modules/6.1.0/modules.builtin", 0o644, []byte("kernel/fs/ext4/ext4.ko\n")),
		tree.Symlink("lib/modules/6.1.0/build", "/usr/src/linux"),
	}
	writeForms(t, dir, entries)
	put(t, dir, map[string]string{"modules/lib/modules/6.1.0/modules.order": "", "modules/lib/modules/6.1.0/modules.builtin": "kernel/fs/ext4/ext4.ko\n"})
	k := list["kernel"].(object)
	delete(k, "release")
	var want string
	for form, file := range map[string]string{"directory": "modules", "tar": "app.tar", "squashfs": "app.squashfs"} {
		k["modules"] = object{"form": form, "path": file}
		out, _ := compose(t, write(t, dir, list))
		sum, _ := revisionOf(t, out).Object("bsp/modules.squashfs")
		if want == "" {
			want = sum
		}
		if sum != want || sum == "" {
			t.Errorf("%s: %s, not %s", form, sum, want)
		}
	}
}

// TestBadRoots has root file systems that no device could mount.
func TestBadRoots(t *testing.T) {
	t.Parallel()
	dir, list := product(t)
	writeForms(t, dir, appFiles())
	whole, err := os.ReadFile(filepath.Join(dir, "app.squashfs"))
	must(t, err)
	put(t, dir, map[string]string{"short.squashfs": string(whole[:200]), "tar.squashfs": strings.Repeat("tar", 100)})
	must(t, os.Mkdir(filepath.Join(dir, "empty"), 0o755))
	c := list["containers"].([]any)[0].(object)
	c["user"] = "7:8"
	for want, root := range map[string]object{
		"is cut short":                           {"form": "squashfs", "path": "short.squashfs"},
		"is not a squashfs of version 4":         {"form": "squashfs", "path": "tar.squashfs"},
		"empty cannot be taken: it has no files": {"form": "directory", "path": "empty"},
	} {
		c["root"] = root
		l, err := Read(write(t, dir, list))
		if err == nil {
			_, err = l.Build(t.Context(), filepath.Join(t.TempDir(), "out"), Options{})
		}
		if fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), want) {
			t.Errorf("kind %v: %v; want %s", fault.Of(err), err, want)
		}
	}
}

// TestLoaderWithTheInitrd has a loader that puts the initrd into its partition: it must be that of
// the BSP, with the settings that follow from the loader.
func TestLoaderWithTheInitrd(t *testing.T) {
	t.Parallel()
	dir, list := product(t)
	firmware := map[string]string{}
	for _, name := range []string{"bootcode.bin", "start.elf", "fixup.dat", "start4.elf", "fixup4.dat"} {
		firmware["firmware/usr/lib/raspi-firmware/"+name] = name
	}
	put(t, dir, firmware)
	list["kernel"].(object)["device_trees"] = []any{object{"name": "broadcom/bcm2711-rpi-4-b.dtb", "path": "board.dtb"}}
	list["bootloader"] = object{"type": "rpi", "packages": []any{object{"name": "raspi-firmware", "path": "firmware"}}}
	_, sums := compose(t, write(t, dir, list))
	if sums["board-pv-128MiB.img"] == "" {
		t.Error(sums)
	}
}

// TestResultsHaveNames has an image with the name of another result.
func TestResultsHaveNames(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"inputs.json", "report.json"} {
		dir, list := product(t)
		list["image"].(object)["file"] = name
		l, err := Read(write(t, dir, list))
		must(t, err)
		out := filepath.Join(t.TempDir(), "out")
		_, err = l.Build(t.Context(), out, Options{})
		if want := "two results of the build are named " + name; fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), want) {
			t.Errorf("kind %v: %v", fault.Of(err), err)
		}
	}
}

// TestMistakes walks what can be wrong with a list: the error names the thing, and nothing is
// written.
func TestMistakes(t *testing.T) {
	t.Parallel()
	at := func(o object, path ...any) any {
		var v any = o
		for _, p := range path {
			switch key := p.(type) {
			case string:
				v = v.(object)[key]
			case int:
				v = v.([]any)[key]
			}
		}
		return v
	}
	for want, change := range map[string]func(dir string, l object){
		"bootloader.files[1].to: \"U-Boot.BIN\" is there twice: \"u-boot.bin\" takes its place": func(_ string, l object) {
			files := at(l, "bootloader", "files").([]any)
			at(l, "bootloader").(object)["files"] = append(files, object{"to": "U-Boot.BIN", "path": "runtime"})
		},
		"bootloader.files[1].to: \"u-boot.bin/x\" is there twice": func(_ string, l object) {
			files := at(l, "bootloader", "files").([]any)
			at(l, "bootloader").(object)["files"] = append(files, object{"to": "u-boot.bin/x", "path": "runtime"})
		},
		"bootloader.files[0].to: \"con:x\": want names of up to 255 letters": func(_ string, l object) { at(l, "bootloader", "files", 0).(object)["to"] = "con:x" },
		`containers[0].args.PV_GRUOP: argument "PV_GRUOP": unknown; did you mean PV_GROUP?`: func(_ string, l object) {
			at(l, "containers", 0).(object)["args"] = object{"PV_GRUOP": "app"}
		},
		`support.end: is not a day`:                                       func(_ string, l object) { at(l, "support").(object)["end"] = "soon" },
		"field epoch is missing":                                          func(_ string, l object) { delete(l, "epoch") },
		`unknown field "epochs"; did you mean epoch?`:                     func(_ string, l object) { l["epochs"] = 1 },
		"runtime.path: stat":                                              func(dir string, _ object) { _ = os.Remove(filepath.Join(dir, "runtime")) },
		"runtime.path: runtime is not a regular file":                     func(dir string, _ object) { fifo(dir, "runtime") },
		`runtime.path: "../runtime": want a clean path without ..`:        func(_ string, l object) { at(l, "runtime").(object)["path"] = "../runtime" },
		`kernel.image.path: "/etc/../kernel": want a clean path`:          func(_ string, l object) { at(l, "kernel", "image").(object)["path"] = "/etc/../kernel" },
		`kernel.device_trees[0].name: "../board.dtb" is not a legal name`: func(_ string, l object) { at(l, "kernel", "device_trees", 0).(object)["name"] = "../board.dtb" },
		`bootloader.files[0].to: "../u-boot.bin" is not a clean path`:     func(_ string, l object) { at(l, "bootloader", "files", 0).(object)["to"] = "../u-boot.bin" },
		`containers[0].name: "../app" is not a legal name`:                func(_ string, l object) { at(l, "containers", 0).(object)["name"] = "../app" },
		`sbom[0].name: "../x" is not a legal name`:                        func(_ string, l object) { at(l, "sbom", 0).(object)["name"] = "../x" },
		"config.defaults.path: runtime is not a directory":                func(_ string, l object) { at(l, "config", "defaults").(object)["path"] = "runtime" },
		"runtime.sha256: \"abc\" is not a SHA-256":                        func(_ string, l object) { at(l, "runtime").(object)["sha256"] = "abc" },
		"runtime: runtime has the SHA-256":                                func(_ string, l object) { at(l, "runtime").(object)["sha256"] = strings.Repeat("0", 64) },
		"config.defaults: defaults has the SHA-256":                       func(_ string, l object) { at(l, "config", "defaults").(object)["sha256"] = strings.Repeat("0", 64) },
		"containers: nothing takes it: outputs are export":                func(_ string, l object) { l["outputs"] = []any{"export"} },
		`outputs[0]: "flash"`:                                             func(_ string, l object) { l["outputs"] = []any{"flash"} },
		"runtime: nothing takes it: outputs are revision, and kernel is missing": func(_ string, l object) {
			for _, field := range []string{"kernel", "image", "bootloader"} {
				delete(l, field)
			}
			l["outputs"] = []any{"revision"}
		},
		"field runtime is missing": func(_ string, l object) { delete(l, "runtime") },
		"kernel.arguments: nothing takes them": func(_ string, l object) {
			delete(at(l, "bootloader").(object), "type")
			delete(at(l, "bootloader").(object), "addresses")
		},
		"kernel.format: a FIT says where in memory its kernel": func(_ string, l object) {
			at(l, "kernel").(object)["format"] = "FIT"
			delete(l, "bootloader")
			delete(l, "image")
			l["outputs"] = []any{"export"}
		},
		"field release is missing": func(_ string, l object) { delete(at(l, "kernel").(object), "release") },
		`image.table: "gtp"`:       func(_ string, l object) { at(l, "image").(object)["table"] = "gtp" },
		"bootloader.blobs[0]: its space, bytes 8192 to 8395776, reaches into": func(_ string, l object) { at(l, "bootloader", "blobs", 0).(object)["max"] = "8191KiB" },
		"signing: want one of key and command":                                func(_ string, l object) { l["signing"] = object{} },
		"kernel.early_modules: there are no modules":                          func(_ string, l object) { at(l, "kernel").(object)["early_modules"] = []any{"ext4"} },
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			dir, list := product(t)
			change(dir, list)
			file, out := write(t, dir, list), filepath.Join(t.TempDir(), "out")
			l, err := Read(file)
			if err == nil {
				_, err = l.Build(t.Context(), out, Options{})
			}
			if err == nil || !strings.Contains(err.Error(), want) || fault.Of(err) == fault.Internal {
				t.Errorf("kind %v: %v", fault.Of(err), err)
			}
			if _, err := os.Lstat(out); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("something was written: %v", err)
			}
		})
	}
}

func fifo(dir, name string) {
	_ = os.Remove(filepath.Join(dir, name))
	_ = unix.Mkfifo(filepath.Join(dir, name), 0o600)
}

func TestUnreadableInput(t *testing.T) {
	t.Parallel()
	if os.Getuid() == 0 {
		unreadableAsRoot(t)
		return
	}
	dir, list := product(t)
	must(t, os.Chmod(filepath.Join(dir, "kernel"), 0))
	l, err := Read(write(t, dir, list))
	must(t, err)
	if _, err := l.Build(t.Context(), filepath.Join(dir, "out"), Options{}); fault.Of(err) != fault.IO || !strings.Contains(err.Error(), "kernel.image") {
		t.Errorf("%v", err)
	}
}

// unreadableAsRoot reads a directory in place of a file that cannot be opened: root may read
// all.
func unreadableAsRoot(t *testing.T) {
	t.Helper()
	l := &List{dir: t.TempDir()}
	l.Runtime = &File{Path: "."}
	if err := l.digest(t.Context(), l.all()[0]); fault.Of(err) != fault.IO || !strings.Contains(err.Error(), "reading runtime") {
		t.Errorf("%v", err)
	}
}

// TestChangedWhileRead checks that a file that changes behind its digest is an error.
func TestChangedWhileRead(t *testing.T) {
	t.Parallel()
	dir, list := product(t)
	l, err := Read(write(t, dir, list))
	must(t, err)
	must(t, l.Digest(t.Context()))
	put(t, dir, map[string]string{"kernel": "another", "app/bin/app": "another", "board.dtb": "another"})
	c, err := l.Compose(t.Context())
	must(t, err)
	cache, err := build.OpenCache(t.TempDir())
	must(t, err)
	b := &build.Builder{Cache: cache, Target: "board"}
	_, err = b.Build(t.Context(), c.Wanted()...)
	if fault.Of(err) != fault.Digest || !strings.Contains(err.Error(), "was changed while it was read") {
		t.Errorf("kind %v: %v", fault.Of(err), err)
	}
}

func TestHostileArchives(t *testing.T) {
	t.Parallel()
	for name, h := range map[string]*tar.Header{
		"leads out":  {Name: "../x", Typeflag: tar.TypeReg},
		"hard link":  {Name: "x", Linkname: "../../etc/passwd", Typeflag: tar.TypeLink},
		"below link": {Name: "l/x", Typeflag: tar.TypeReg},
	} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		if name == "below link" {
			must(t, w.WriteHeader(&tar.Header{Name: "l", Linkname: "/tmp", Typeflag: tar.TypeSymlink}))
		}
		must(t, w.WriteHeader(h))
		must(t, w.Close())
		file := filepath.Join(t.TempDir(), "x.tar")
		must(t, os.WriteFile(file, b.Bytes(), 0o644))
		sum, err := (input{}).digest(context.Background(), file)
		must(t, err)
		if err := unpackTar(t.Context(), t.TempDir(), file, sum); err == nil {
			t.Errorf("%s: it was unpacked", name)
		}
	}
}
