package images

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/revision/state"
)

// treeStep is a kernel's tree with one release.
type treeStep struct{ build.Step }

func (treeStep) Name() string { return "kernel/tree" }

func TestBSPSaysWhatItProvides(t *testing.T) {
	t.Parallel()
	tree := t.TempDir()
	if err := os.MkdirAll(filepath.Join(tree, "lib/modules/6.1.0-28-amd64"), 0o755); err != nil {
		t.Fatal(err)
	}
	s := &BSP{
		Board:      Board{Name: "x64", Arch: "amd64", Provides: []string{"kernel:squashfs"}, Requires: []string{"container:web"}},
		KernelTree: treeStep{},
	}
	provided, err := s.providedBy(tree)
	if err != nil {
		t.Fatal(err)
	}
	run, _ := s.documents(provided...)["run.json"].(map[string]any)
	want := map[string]any{
		"provides": []string{"arch:amd64", "board:x64", "kernel=6.1.0-28-amd64", "kernel:squashfs"}, "requires": []string{"container:web"}, "conflicts": nil,
	}
	for member, list := range want {
		if diff := cmp.Diff(list, run[member]); diff != "" {
			t.Errorf("%s: %s", member, diff)
		}
	}
}

func TestTrailRejectsIncompatibleParts(t *testing.T) {
	t.Parallel()
	st := state.New(state.Spec)
	sum := `"` + strings.Repeat("1", 64) + `"`
	for key, text := range map[string]string{
		"bsp/run.json": `{"linux":"k","initrd":"i","provides":["arch:arm64"]}`, "bsp/k": sum, "bsp/i": sum,
		"app/run.json": `{"name":"app","type":"lxc","config":"c","root-volume":"r","storage":{},"requires":["arch:amd64"]}`, "app/c": sum, "app/r": sum,
	} {
		if err := st.Set(key, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := (&Trail{}).check(st); err == nil || err.Error() != "app requires arch:amd64, bsp provides arch:arm64" {
		t.Error(err)
	}
	if err := (&Trail{AppEngine: true}).check(st); err != nil {
		t.Errorf("without the BSP: %v", err)
	}
}
