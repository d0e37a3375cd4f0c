package layers

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// layer makes a layer with empty files.
func layer(t *testing.T, label string, names ...string) Layer {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return Layer{label, dir}
}

func TestWorkspaceWins(t *testing.T) {
	t.Parallel()
	own := layer(t, Workspace, "config/b/one", "vendors/b/skel/x", "targets/mine/target.yaml", "targets/locked/parts.lock")
	shipped := layer(t, "module", "go.mod", "config/b/one", "config/b/two", "vendors/b/skel/y", "vendor/b/stepskel/z", "targets/ours/target.yaml")
	l := New(own, shipped)
	over := map[string]string{"config/b/one": filepath.Join(shipped.Dir, "config/b/one")}
	for name, want := range map[string]Layer{"config/b/one": own, "config/b/two": shipped, "targets/ours": shipped} {
		p, ok := l.Find(name)
		if diff := cmp.Diff(Place{name, filepath.Join(want.Dir, name), want, over[name]}, p); !ok || diff != "" {
			t.Errorf("%v %s", ok, diff)
		}
	}
	for _, name := range []string{"config/b/three", "vendors/b/stepskel"} { // Go's vendor/ beside go.mod
		if p, ok := l.Find(name); ok || p.Path != filepath.Join(own.Dir, name) {
			t.Errorf("found %v", p)
		}
	}
	every := l.Every("vendors/b/skel")
	if len(every) != 2 || every[0].Layer != shipped || every[1].Layer != own {
		t.Errorf("skel comes from %v", every)
	}
	if names, err := l.Names("targets", "target.yaml"); err != nil || !cmp.Equal(names, []string{"mine", "ours"}) {
		t.Errorf("names %v, %v", names, err)
	}
	var found []string
	for _, p := range l.Found() {
		found = append(found, p.Layer.Label+" "+p.Name)
	}
	want := []string{"workspace config/b/one", "module config/b/two", "module targets/ours", "workspace vendors/b/skel", "module vendors/b/skel"}
	if diff := cmp.Diff(want, found); diff != "" {
		t.Error(diff)
	}
}

func TestVendorWithoutGoMod(t *testing.T) {
	t.Parallel()
	own := layer(t, Workspace, "vendor/b/skel/x")
	p, ok := New(own).Find("vendors/b/skel")
	if !ok || p.Name != "vendors/b/skel" || p.Path != filepath.Join(own.Dir, "vendor/b/skel") {
		t.Errorf("%v %v", p, ok)
	}
}

func TestOneDirectoryIsOneLayer(t *testing.T) {
	t.Parallel()
	own := layer(t, Workspace, "config/defaults/groups.json")
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(own.Dir, link); err != nil {
		t.Fatal(err)
	}
	if every := New(own, Layer{"module", link}).Every("config/defaults"); len(every) != 1 || every[0].Layer != own {
		t.Errorf("got %v", every)
	}
}
