package deploydir

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// build writes a deploy directory: files by name, with "->NAME" for a link, and the variables of
// an image.
func build(t *testing.T, files map[string]string, variables ...map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for _, v := range variables {
		text, err := json.Marshal(v)
		must(t, err)
		must(t, os.WriteFile(filepath.Join(dir, v["IMAGE_NAME"]+testdata), text, 0o644))
		if link := v["IMAGE_LINK_NAME"]; link != "" {
			must(t, os.Symlink(v["IMAGE_NAME"]+testdata, filepath.Join(dir, link+testdata)))
		}
	}
	for name, content := range files {
		at := filepath.Join(dir, name)
		must(t, os.MkdirAll(filepath.Dir(at), 0o755))
		if to, ok := strings.CutPrefix(content, "->"); ok {
			must(t, os.Symlink(to, at))
			continue
		}
		must(t, os.WriteFile(at, []byte(content), 0o644))
	}
	return dir
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// image returns the variables of an image of scarthgap or later, with changes NAME=VALUE.
func image(changes ...string) map[string]string {
	out := map[string]string{
		"PN": "core", "IMAGE_BASENAME": "core", "MACHINE": "board", "IMAGE_LINK_NAME": "core-board.rootfs", "IMAGE_NAME": "core-board.rootfs-2026",
		"IMAGE_FSTYPES": "tar.xz wic", "KERNEL_IMAGETYPE": "Image", "REPRODUCIBLE_TIMESTAMP_ROOTFS": "1520598896",
	}
	for _, c := range changes {
		name, value, _ := strings.Cut(c, "=")
		out[name] = value
	}
	return out
}

// TestNames has the names of both series, and of builds that have changed them.
func TestNames(t *testing.T) {
	for name, c := range map[string]struct {
		vars  map[string]string
		files map[string]string
		want  map[string]string
	}{
		"with .rootfs": {
			image("KERNEL_DEVICETREE=vendor/board.dtb overlays/x.dtbo"),
			map[string]string{"core-board.rootfs.tar.xz": "", "Image-board.bin": "->Image-1.bin", "Image": "->Image-1.bin", "Image-1.bin": "", "modules-board.tgz": "", "board.dtb": ""},
			map[string]string{"root": "core-board.rootfs.tar.xz", "kernel": "Image-board.bin", "modules": "modules-board.tgz", "vendor/board.dtb": "board.dtb", "passed": "overlays/x.dtbo"},
		},
		"without": {
			image("IMAGE_LINK_NAME=core-board", "IMAGE_NAME=core-board-2024"), map[string]string{"core-board.tar.xz": "", "Image": ""},
			map[string]string{"root": "core-board.tar.xz", "kernel": "Image"},
		},
		"no suffix of the machine": {
			image("IMAGE_LINK_NAME=core.rootfs", "IMAGE_NAME=core.rootfs-1"), map[string]string{"core.rootfs.tar.xz": "", "Image-board.bin": ""},
			map[string]string{"root": "core.rootfs.tar.xz", "kernel": "Image-board.bin"},
		},
		"no links": {
			image("IMAGE_LINK_NAME="), map[string]string{"core-board.rootfs-2026.tar.xz": "", "Image": ""},
			map[string]string{"root": "core-board.rootfs-2026.tar.xz", "kernel": "Image"},
		},
		"names of the kernel's own": {
			image("KERNEL_IMAGE_LINK_NAME=gateway", "KERNEL_IMAGE_BIN_EXT=", "MODULE_TARBALL_LINK_NAME=gw", "KERNEL_DEPLOYSUBDIR=kernel", "KERNEL_DEVICETREE=b.dtb"),
			map[string]string{"core-board.rootfs.tar.xz": "", "kernel/Image-gateway": "", "kernel/modules-gw.tgz": "", "kernel/b.dtb": ""},
			map[string]string{"root": "core-board.rootfs.tar.xz", "kernel": "kernel/Image-gateway", "modules": "kernel/modules-gw.tgz", "b.dtb": "kernel/b.dtb"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := build(t, c.files, c.vars)
			i, err := Find(dir, "core", "board")
			must(t, err)
			got := map[string]string{}
			put := func(name, file string) {
				if rel, err := filepath.Rel(dir, file); err == nil && file != "" {
					got[name] = rel
				}
			}
			root, _, err := i.Root("")
			must(t, err)
			k, err := i.Kernel()
			must(t, err)
			put("root", root)
			put("kernel", k.Image)
			put("modules", k.Modules)
			for _, tree := range k.Trees {
				put(tree.Name, tree.File)
			}
			if len(k.Passed) > 0 {
				got["passed"] = strings.Join(k.Passed, " ")
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestNeverGuesses has directories in which more than one file, or none, could be meant.
func TestNeverGuesses(t *testing.T) {
	old := image("IMAGE_LINK_NAME=core-board", "IMAGE_NAME=core-board-2024")
	for name, c := range map[string]struct {
		vars  []map[string]string
		files map[string]string
		want  []string
	}{
		"two series":      {[]map[string]string{image(), old}, nil, []string{"more than one image core", "core-board.rootfs.testdata.json", "core-board.testdata.json"}},
		"another machine": {[]map[string]string{image("MACHINE=other")}, nil, []string{"no image core for the machine board", "core for other"}},
		"no build":        {nil, nil, []string{"no image core"}},
		"two kernels":     {[]map[string]string{image()}, map[string]string{"core-board.rootfs.tar.xz": "", "Image": "a", "Image-board.bin": "b"}, []string{"kernel could be any of", "Image-board.bin", "/Image"}},
		"no kernel":       {[]map[string]string{image()}, map[string]string{"core-board.rootfs.tar.xz": ""}, []string{"no kernel", "Image-board.bin or Image"}},
		"a FIT":           {[]map[string]string{image("KERNEL_IMAGETYPE=fitImage")}, map[string]string{"core-board.rootfs.tar.xz": ""}, []string{"KERNEL_IMAGETYPE is fitImage"}},
		"two forms":       {[]map[string]string{image("IMAGE_FSTYPES=tar.xz squashfs")}, map[string]string{"core-board.rootfs.tar.xz": "", "core-board.rootfs.squashfs": ""}, []string{"as squashfs and as tar.xz"}},
		"no form":         {[]map[string]string{image("IMAGE_FSTYPES=wic ext4")}, map[string]string{"core-board.rootfs.ext4": ""}, []string{"no root file system core-board.rootfs.TYPE"}},
		"a device tree above": {[]map[string]string{image("KERNEL_DEVICETREE=../../y.dtb")}, map[string]string{"core-board.rootfs.tar.xz": "", "Image": "", "y.dtb": ""},
			[]string{`"../../y.dtb" is not the name of a device tree`}},
		"no device tree":    {[]map[string]string{image("KERNEL_DEVICETREE=x/y.dtb")}, map[string]string{"core-board.rootfs.tar.xz": "", "Image": ""}, []string{"no device tree x/y.dtb: want y.dtb"}},
		"hostile names":     {[]map[string]string{image("KERNEL_IMAGE_LINK_NAME=/../../../etc/passwd")}, map[string]string{"core-board.rootfs.tar.xz": ""}, []string{"is not the name of a file in the deploy directory"}},
		"hostile directory": {[]map[string]string{image("KERNEL_DEPLOYSUBDIR=..")}, map[string]string{"core-board.rootfs.tar.xz": ""}, []string{"is not the name of a file in the deploy directory"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := build(t, c.files, c.vars...)
			i, err := Find(dir, "core", "board")
			if err == nil {
				_, _, err = i.Root("")
			}
			if err == nil {
				_, err = i.Kernel()
			}
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v: want %q", err, want)
				}
			}
		})
	}
}

func TestEpochAndRelease(t *testing.T) {
	manifest := func(text string) map[string]string { return map[string]string{"core-board.rootfs.manifest": text} }
	const one = "busybox core2_64 1.36\nkernel-6.6.23-yocto board 6.6.23\nkernel-module-x-6.6.23-yocto board 6.6.23\n"
	for text, want := range map[string]string{one: "6.6.23-yocto", "busybox core2_64 1.36\n": "", one + "kernel-5.1 board 5.1\n": "several kernels"} {
		i, err := Find(build(t, manifest(text), image()), "core", "board")
		must(t, err)
		if n, err := i.Epoch(); err != nil || n != 1520598896 {
			t.Errorf("%d, %v", n, err)
		}
		got, err := i.Release()
		if err != nil {
			got = err.Error()
		}
		if got != want && !(err != nil && strings.Contains(got, want)) {
			t.Errorf("%q, want %q", got, want)
		}
	}
	without := maps.Clone(image())
	delete(without, "REPRODUCIBLE_TIMESTAMP_ROOTFS")
	i, err := Find(build(t, nil, without), "core", "board")
	must(t, err)
	if _, err := i.Epoch(); err == nil {
		t.Error("a time from nowhere")
	}
}
