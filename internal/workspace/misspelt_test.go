package workspace

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/internal/layers"
	"github.com/pantavisor/pantavisor/targets"
)

// TestMisspeltNamesAreWarnings: names that nothing reads are told, those of other targets and
// of other files are not.
func TestMisspeltNamesAreWarnings(t *testing.T) {
	t.Parallel()
	root, shipped := t.TempDir(), t.TempDir()
	for _, name := range []string{
		"config/board/pantavisr.config", "config/board/image.config", "config/board/README.md", "config/bord/image.config",
		"config/boards/image.config", "targets/boards/target.yaml", "config/other/image.confg", "config/familly/image.config",
		"vendors/board/skle/etc/motd", "vendors/board/skel/etc/motd", "vendors/family/stepskl/a.json", "vendors/board2/skel/x",
	} {
		file := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(shipped, "config/board2"), 0o755); err != nil {
		t.Fatal(err)
	}
	l := layers.New(layers.Layer{Label: layers.Workspace, Dir: root}, layers.Layer{Label: "module", Dir: shipped})
	want := []string{
		"nothing reads config/board/pantavisr.config; did you mean pantavisor.config?",
		"nothing reads config/bord; did you mean board?",
		"nothing reads config/familly; did you mean family?",
		"nothing reads vendors/board/skle; did you mean skel?",
		"nothing reads vendors/family/stepskl; did you mean stepskel?",
	}
	if diff := cmp.Diff(want, misspelt(l, &targets.Target{Name: "board", Platform: "family"})); diff != "" {
		t.Error(diff)
	}
}
