package inputs

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// installed adds the outputs that install the image to a list.
func installed(t *testing.T, dir string, list object) {
	t.Helper()
	put(t, dir, map[string]string{
		"pv-installer": "process 1", "medium/EFI/boot/bootaa64.efi": "a loader", "u-boot.imx": "another", "SPL": "a first stage", "nand/u-boot.imx": "of flash", "second/SPL": "another first stage",
		"modules/lib/modules/6.1.0/modules.order": "", "modules/lib/modules/6.1.0/modules.builtin": "kernel/fs/fat/vfat.ko\n" +
			"kernel/fs/nls/nls_cp437.ko\nkernel/drivers/hid/usbhid/usbhid.ko\nkernel/drivers/hid/hid-generic.ko\n",
	})
	k := list["kernel"].(object)
	delete(k, "release")
	k["modules"] = object{"form": "directory", "path": "modules"}
	list["outputs"] = []any{"installer", "tezi"}
	list["installer"] = object{"size": 256, "program": object{"path": "pv-installer"}, "tree": object{"path": "medium"}}
	list["tezi"] = object{"modules": []any{
		object{"name": "emmc", "products": []any{"0014"}, "environment": []any{"a=b"}, "blobs": []any{
			object{"name": "spl", "path": "SPL", "sector": 2}, object{"name": "u-boot", "path": "u-boot.imx", "offset": "69KiB"},
		}},
		object{"name": "raw", "products": []any{"0036"}, "flash": "nand", "blobs": []any{
			object{"name": "u-boot", "path": "nand/u-boot.imx", "partition": "u-boot1"}, object{"name": "u-boot2", "path": "nand/u-boot.imx", "partition": "u-boot2"},
		}},
	}}
}

// TestInstalled makes what installs the image, and the image with it.
func TestInstalled(t *testing.T) {
	t.Parallel()
	dir, list := product(t)
	installed(t, dir, list)
	list["outputs"] = []any{"image", "installer", "tezi"}
	out, first := compose(t, write(t, dir, list))
	want := []string{
		"board-installer-pv-256MiB.img", "board-installer-pv-256MiB.img.bmap", "board-pv-128MiB.img", "board-pv-128MiB.img.bmap", "board-tezi.tar",
		"inputs.json", "sbom", "sbom.json", "vex/vendor.json",
	}
	if diff := cmp.Diff(want, sorted(first)); diff != "" {
		t.Error(diff)
	}
	if _, again := compose(t, filepath.Join(out, ListFile)); !cmp.Equal(first, again) {
		t.Error(cmp.Diff(first, again))
	}
	members := bundle(t, filepath.Join(out, "board-tezi.tar"))
	for name, text := range map[string]string{
		"emmc.SPL": "a first stage", "emmc.u-boot.imx": "another", "raw.u-boot.imx": "of flash", "uEnv.emmc.txt": "a=b\n",
	} {
		if members[name] != text {
			t.Errorf("%s: %q", name, members[name])
		}
	}
	for name, texts := range map[string][]string{
		"image-emmc.json": {`"seek=2"`, `"seek=138"`, `"0014"`, `"mmcblk0boot0"`}, "image-raw.json": {`"u-boot1"`, `"u-boot2"`, `"name": "boot"`, `"ubi"`},
	} {
		for _, text := range texts {
			if !strings.Contains(members[name], text) || !json.Valid([]byte(members[name])) {
				t.Errorf("%s: %s is not in %s", name, text, members[name])
			}
		}
	}
}

// bundle reads the members of a bundle below its directory.
func bundle(t *testing.T, file string) map[string]string {
	t.Helper()
	f, err := os.Open(file)
	must(t, err)
	defer f.Close()
	out := map[string]string{}
	for in := tar.NewReader(f); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		must(t, err)
		text, err := io.ReadAll(in)
		must(t, err)
		out[path.Base(h.Name)] = string(text)
	}
}

// TestInstalledMistakes walks what can be wrong with the fields of what installs the image.
func TestInstalledMistakes(t *testing.T) {
	t.Parallel()
	module := func(l object, i int) object { return l["tezi"].(object)["modules"].([]any)[i].(object) }
	blob := func(l object, i, j int) object { return module(l, i)["blobs"].([]any)[j].(object) }
	for want, change := range map[string]func(l object){
		"outputs: installer: field installer is missing":                       func(l object) { delete(l, "installer") },
		"outputs: tezi: field tezi is missing":                                 func(l object) { delete(l, "tezi") },
		"installer: nothing takes it":                                          func(l object) { l["outputs"] = []any{"tezi"} },
		"tezi: nothing takes it":                                               func(l object) { l["outputs"] = []any{"installer"} },
		`installer.file: "../x"`:                                               func(l object) { l["installer"].(object)["file"] = "../x" },
		"tezi.modules[0].blobs[1].path: \"SPL\" is there twice":                func(l object) { blob(l, 0, 1)["path"] = "second/SPL" },
		"tezi.modules[1].blobs[0]: want partition":                             func(l object) { delete(blob(l, 1, 0), "partition") },
		"tezi.modules[0].blobs[0]: want one of sector and offset":              func(l object) { delete(blob(l, 0, 0), "sector") },
		"tezi.modules[1].name: \"emmc\" is there twice":                        func(l object) { module(l, 1)["name"] = "emmc" },
		"tezi.modules[0].products: is empty":                                   func(l object) { module(l, 0)["products"] = []any{} },
		"tezi.modules[0].environment[0]":                                       func(l object) { module(l, 0)["environment"] = []any{"a b"} },
		"installer.tree.path: medium/EFI/boot/bootaa64.efi is not a directory": func(l object) { l["installer"].(object)["tree"] = object{"path": "medium/EFI/boot/bootaa64.efi"} },
		"tezi.modules[0].blobs[0].path: medium is not a regular file":          func(l object) { blob(l, 0, 0)["path"] = "medium" },
		"tezi.modules[0].blobs[0].path: \"..\": want a clean path without ..":  func(l object) { blob(l, 0, 0)["path"] = ".." },
		"tezi.modules[0].blobs[0].path: stat ":                                 func(l object) { blob(l, 0, 0)["path"] = "missing" },
	} {
		dir, list := product(t)
		installed(t, dir, list)
		change(list)
		if _, err := Read(write(t, dir, list)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %s", err, want)
		}
	}
}
