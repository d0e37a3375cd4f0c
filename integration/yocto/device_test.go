package yocto

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/formats/squashfs"
	"github.com/pantavisor/pantavisor/images/inputs"
)

// TestPartial has what of a target's inputs is left for recipes to make.
func TestPartial(t *testing.T) {
	t.Parallel()
	l := &inputs.List{
		Spec: inputs.Spec, Target: "board", Epoch: 1, Outputs: []string{"image"}, Runtime: &inputs.File{Path: "runtime"},
		Kernel:  &inputs.Kernel{Image: inputs.File{Path: "image"}, Modules: &inputs.Tree{Form: "directory", Path: "modules"}, EarlyModules: []string{"ext4"}},
		Exports: []inputs.File{{Path: "network.pvr.tgz"}}, Bootloader: &inputs.Bootloader{State: &inputs.Directory{Path: "state"}},
		Config: inputs.Config{Runtime: inputs.File{Path: "runtime.config"}},
	}
	for machine, loader := range map[string]any{
		"qemux86-64": map[string]any{"state": map[string]any{"path": "/parts/state"}},
		"qemuarm64":  map[string]any{"type": "uboot", "addresses": map[string]any{"initrd": float64(0x48000000)}},
	} {
		text, err := partial(l, "/parts", madeLoader[machine])
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]any
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatal(err)
		}
		config := got["config"].(map[string]any)["runtime"]
		delete(got, "config")
		want := map[string]any{"kernel": map[string]any{"early_modules": []any{"ext4"}}, "bootloader": loader}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", machine, diff)
		}
		if diff := cmp.Diff(map[string]any{"path": "/parts/runtime.config"}, config); diff != "" {
			t.Errorf("%s: %s", machine, diff)
		}
	}
	if _, err := partial(&inputs.List{}, "/parts", nil); err == nil {
		t.Error("a list without a kernel")
	}
}

func TestMade(t *testing.T) {
	t.Parallel()
	o := &Options{Work: t.TempDir()}
	for i, tmp := range []string{"none", "tmp-glibc", "tmp"} {
		dir := filepath.Join(o.Work, "build", tmp, deployed("board", "device"))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "device.img"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if got, err := o.made(deployed("board", "device"), "*.img"); (err == nil) != (i == 1) {
			t.Errorf("with %s: %s, %v", tmp, got, err)
		}
	}
}

// TestReadsBack has that what reads back finds what is wrong.
func TestReadsBack(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	for _, c := range []struct {
		opts squashfs.Options
		want string
	}{
		{squashfs.Options{Compression: squashfs.Zstd, BlockSize: 128 << 10}, ""},
		{squashfs.Options{Compression: squashfs.XZ, BlockSize: 128 << 10}, "compression xz"},
		{squashfs.Options{Compression: squashfs.Zstd, BlockSize: 64 << 10}, "blocks of 65536 bytes"},
	} {
		if err := writeSquashfs(file, c.opts); err != nil {
			t.Fatal(err)
		}
		if err := squashed(file); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c.opts, err)
		}
	}
	if err := os.WriteFile(file, []byte("root=x former.word=1"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := imageHas(file, "root="); err != nil {
		t.Error(err)
	}
	if err := imageHas(file, "console="); err == nil {
		t.Error("finds what is not there")
	}
	if err := revisionHas(t.Context(), file, nil, nil); err == nil {
		t.Error("takes anything for a revision")
	}
}

func writeSquashfs(file string, opts squashfs.Options) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	w, err := squashfs.NewWriter(f, opts)
	if err == nil {
		err = w.Close()
	}
	return errors.Join(err, f.Close())
}
