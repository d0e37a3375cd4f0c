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
		"config/board/skel/etc/motd", "vendors/family/image.config", "config/defaults/group.json", "config/defaults/policies/prod.confg",
		"config/defaults/policies/prod2.config", "config/defaults/policies/README.md", "vendors/board/stepskel/device/run.json", "vendors/board/skel/etc/pantavisor.conf", "vendors/board/skel/etc/modprob.d/a.conf", "vendors/board/skel/etc/hosts",
		"vendors/board/skel/etc/pantavisor/pvs/trusted/a.crt", "vendors/board/stepskel/devce.json", "vendors/board/stepskel/web/run.json",
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
		"nothing reads config/board/skel; did you mean vendors/board/skel?",
		"nothing reads config/bord; did you mean board?",
		"nothing reads config/familly; did you mean family?",
		"nothing reads vendors/board/skle; did you mean skel?",
		"nothing reads vendors/family/stepskl; did you mean stepskel?",
		"nothing reads vendors/family/image.config; did you mean config/family/image.config?",
		"nothing reads config/defaults/group.json; did you mean groups.json?",
		"nothing reads config/defaults/policies/prod.confg; did you mean prod.config?",
		"nothing reads vendors/board/skel/etc/modprob.d; did you mean modprobe.d?",
		"nothing reads vendors/board/skel/etc/pantavisor.conf; did you mean pantavisor.config?",
		"nothing reads vendors/board/skel/etc/pantavisor/pvs/trusted; did you mean trust?",
		"nothing reads vendors/board/stepskel/devce.json; did you mean device.json?",
	}
	if diff := cmp.Diff(want, misspelt(l, &targets.Target{Name: "board", Platform: "family"})); diff != "" {
		t.Error(diff)
	}
}
