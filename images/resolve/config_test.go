package resolve

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/internal/layers"
	"github.com/pantavisor/pantavisor/targets"
)

// TestPlatforms: what is named after the target wins over that of its platform, file by
// file, and the generic configuration is for what neither has.
func TestPlatforms(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{
		"config/generic/pantavisor.config", "config/generic/pantahub.config", "config/generic/image.config",
		"config/board/pantavisor.config", "config/board/image.config", "config/product/image.config",
		"vendors/board/skel/etc/motd", "vendors/product/skel/etc/issue", "vendors/board/stepskel/a",
	} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	p := providers{
		Options: Options{Layers: layers.New(layers.Layer{Label: layers.Workspace, Dir: dir})},
		target:  &targets.Target{Name: "product", Platform: "board"},
	}
	c, err := p.config()
	if err != nil {
		t.Fatal(err)
	}
	got := []string{c.Runtime.Name, c.Hub.Name, c.Image.Name}
	for _, skel := range append(c.Skel.Dirs(), c.Stepskel.Dirs()...) {
		rel, err := filepath.Rel(dir, skel)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, rel)
	}
	want := []string{"config/board/pantavisor.config", "config/generic/pantahub.config", "config/product/image.config",
		"vendors/board/skel", "vendors/product/skel", "vendors/board/stepskel"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("want(-), got(+):\n%s", d)
	}
	p.target = &targets.Target{Name: "other"}
	if c, err = p.config(); err != nil || c.Runtime.Name != "config/generic/pantavisor.config" || c.Skel != nil {
		t.Errorf("a board without files of its own: %+v, %v", c, err)
	}
}
