package resolve

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/bootloader"
	"github.com/pantavisor/pantavisor/bootloader/loaders"
	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/debian"
	"github.com/pantavisor/pantavisor/images"
	"github.com/pantavisor/pantavisor/images/layouts"
	"github.com/pantavisor/pantavisor/revision/trail"
	"github.com/pantavisor/pantavisor/runtime/boot"
	"github.com/pantavisor/pantavisor/targets"
)

// named is a step with a name and nothing else.
type named string

func (n named) Name() string                         { return string(n) }
func (named) Deps() []build.Step                     { return nil }
func (named) Run(context.Context, *build.Work) error { return nil }

// fakeLoader has files on two partitions, a blob and no state. The method named by wrong
// returns an error.
type fakeLoader struct{ wrong string }

var _ bootloader.Loader = fakeLoader{}

func (fakeLoader) Requests() []debian.Request { return nil }
func (fakeLoader) State() build.Step          { return nil }

func (l fakeLoader) Files(role string, _ bootloader.Kit) (build.Step, error) {
	if l.wrong == "files" {
		return nil, errors.New("no files")
	}
	if role == "root" {
		return nil, nil
	}
	return named("fake/" + role), nil
}

func (l fakeLoader) Raw(bootloader.Kit) ([]bootloader.Blob, error) {
	if l.wrong == "raw" {
		return nil, errors.New("no blob")
	}
	return []bootloader.Blob{{Name: "spl", File: bootloader.File{Step: named("fake/spl"), Path: "spl.bin"}, Offset: 8 << 10, Max: 32 << 10}}, nil
}

func TestLoaderBecomesInputs(t *testing.T) {
	t.Parallel()
	media := []images.Layout{{Size: 64, Table: "mbr", Partitions: []images.Partition{{Role: "boota", Size: 1 << 20}, {Role: "bootb", Size: 1 << 20}, {Role: "root"}}}}
	got, err := layouts.Loader(fakeLoader{}, media, bootloader.Kit{})
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal([]any{got, media[0].Blobs})
	if err != nil {
		t.Fatal(err)
	}
	want := `[{"files":[{"role":"boota","tree":{"step":"fake/boota"}},{"role":"bootb","tree":{"step":"fake/bootb"}}]},` +
		`[{"name":"spl","file":{"step":"fake/spl","path":"spl.bin"},"offset":8192,"max":32768}]]`
	if diff := cmp.Diff(want, string(text)); diff != "" {
		t.Error(diff)
	}
	in := &images.Inputs{Target: "x", Outputs: []images.Output{images.OutputImage}, Layouts: media, Loader: got}
	c, err := images.Compose(in)
	if err != nil {
		t.Fatal(err)
	}
	var deps []string
	for _, d := range c.Components["image"][0].Deps() {
		deps = append(deps, d.Name())
	}
	if got := strings.Join(deps, " "); got != "fake/boota fake/bootb fake/spl trail/storage" {
		t.Errorf("the disk needs %s", got)
	}
}

// slot is a step that copies what its loader starts to a partition.
type slot struct{ bsp *bootloader.BSP }

func (slot) Name() string                           { return "fake/slot" }
func (slot) Run(context.Context, *build.Work) error { return nil }
func (s slot) Deps() []build.Step {
	out := []build.Step{s.bsp.Kernel.Step, s.bsp.Tree}
	for _, f := range s.bsp.Initrd {
		out = append(out, f.Step)
	}
	return out
}

// TestLoaderCanStartTheBSPItself puts the BSP's files on a boot partition and checks that
// the graph has each of their steps once.
func TestLoaderCanStartTheBSPItself(t *testing.T) {
	t.Parallel()
	target, o := shipped(t, "x64-uefi")
	o.Debug, o.Epoch = true, build.Epoch
	in, err := Target(target, o)
	if err != nil {
		t.Fatal(err)
	}
	kit := (&providers{Options: o, target: target}).kit(in)
	var files []string
	for _, f := range append([]bootloader.File{kit.BSP.Kernel}, kit.BSP.Initrd...) {
		files = append(files, f.Step.Name()+" "+f.Path)
	}
	want := []string{"kernel/image kernel.img", "initrd/base 0base.cpio.xz4", "initrd/addon-debug " + images.DebugAddonFile}
	if diff := cmp.Diff(want, files); diff != "" || kit.Epoch != o.Epoch {
		t.Errorf("epoch %d (-want +got):\n%s", kit.Epoch, diff)
	}
	in.Loader.Files = []images.RoleFiles{{Role: "boot", Tree: images.Artefact{Step: slot{kit.BSP}}}}
	c, err := images.Compose(in)
	if err != nil {
		t.Fatal(err)
	}
	cache, err := build.OpenCache(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (&build.Builder{Cache: cache}).Plan(t.Context(), c.Wanted()...); err != nil {
		t.Error(err)
	}
}

func TestReferenceBSPIsNotInTheKit(t *testing.T) {
	t.Parallel()
	if kit := (&providers{target: &targets.Target{Bootloader: &targets.Bootloader{}}}).kit(&images.Inputs{}); kit.BSP != nil {
		t.Errorf("got %+v", kit.BSP)
	}
}

// TestDeviceReadsTheFirstState makes the state of each loader and reads it as the runtime
// does.
func TestDeviceReadsTheFirstState(t *testing.T) {
	t.Parallel()
	states := map[string]build.Step{}
	for _, name := range targets.Ready("bootloader.type") {
		b := &targets.Bootloader{Type: name}
		loader, err := loaders.For(&targets.Target{Bootloader: b})
		if err != nil {
			t.Fatal(err)
		}
		if state := loader.State(); state != nil { // others keep it elsewhere, with tests of their own
			states[b.Runtime()] = state
		}
	}
	for name, state := range states {
		dir := t.TempDir()
		if err := state.Run(t.Context(), &build.Work{Out: dir}); err != nil {
			t.Fatal(err)
		}
		store, err := boot.Open(name, dir)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := store.Load(); err != nil || got != (boot.Values{Rev: trail.First}) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestLoaderErrors(t *testing.T) {
	t.Parallel()
	media := []images.Layout{{Partitions: []images.Partition{{Role: "boot"}}}}
	for _, wrong := range []string{"files", "raw"} {
		if _, err := layouts.Loader(fakeLoader{wrong}, media, bootloader.Kit{}); err == nil {
			t.Errorf("%s: no error", wrong)
		}
	}
}
