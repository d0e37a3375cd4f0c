package buildroot

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/internal/fault"
)

func TestCheckWithoutBuildroot(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	tell := func(r Result) { out.WriteString(r.String()) }
	if err := Check(t.Context(), Options{Tell: tell}); err != nil || !strings.HasPrefix(out.String(), "not run  all, 0.0 s: name a directory with Buildroot") {
		t.Errorf("%q, %v", out.String(), err)
	}
	if err := Check(t.Context(), Options{Tree: t.TempDir(), Tell: tell}); fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), "it has no Makefile") {
		t.Errorf("got %v", err)
	}
}

// TestCheckFinds runs the first step with a makefile that drops an option, as Kconfig does.
func TestCheckFinds(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"br/Makefile":             "%_defconfig:\n\t@mkdir -p $(O) && grep -v LOST $(BR2_EXTERNAL)/configs/$@ > $(O)/.config\n",
		"ext/configs/x_defconfig": "BR2_KEPT=y\nBR2_LOST=y\n# BR2_ABSENT is not set\n",
	} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c := &check{Options: Options{Tree: filepath.Join(dir, "br"), External: filepath.Join(dir, "ext"), Work: filepath.Join(dir, "work")}, configs: []string{"x_defconfig"}}
	err := c.defconfigs(t.Context())
	if err == nil || !strings.HasSuffix(err.Error(), "not kept:\nx_defconfig: BR2_LOST=y") {
		t.Errorf("got %v", err)
	}
	var out strings.Builder
	c.Tell = func(r Result) { out.WriteString(r.String() + "\n") }
	if c.tell("a", 0, err) || !c.tell("b", 0, notRun("it needs x")) || !c.tell("c", 0, nil) {
		t.Errorf("told %q", out.String())
	}
	if want := "not run  b, 0.0 s: it needs x\nok       c, 0.0 s\n"; !strings.HasSuffix(out.String(), want) {
		t.Errorf("told %q", out.String())
	}
}

// legalTree stands for a Buildroot that knows three packages and collects their licences.
const legalTree = `
info = "version": "1", "licenses": "MIT", "license_files": ["LICENSE", "vendor/LICENSE"]
show-info:
	@echo '{"pantavisor": {$(info)}, "host-pvcompose": {$(info)}, "host-pvr": {$(info)}}'
%-legal-info:
	@for f in LICENSE $(COLLECTED); do for d in licenses/pantavisor-1 host-licenses/pvcompose-1 host-licenses/pvr-1; do \
		mkdir -p $$(dirname $(O)/legal-info/$$d/$$f) && touch $(O)/legal-info/$$d/$$f; done; done
olddefconfig %-dirclean: ;
%_defconfig: ; @mkdir -p $(O) && touch $(O)/.config
`

func TestLegalInfo(t *testing.T) {
	t.Parallel()
	for collected, want := range map[string]string{
		"vendor/LICENSE": "", "": "not collected:\nhost-licenses/pvcompose-1/vendor/LICENSE\nhost-licenses/pvr-1/vendor/LICENSE\nlicenses/pantavisor-1/vendor/LICENSE",
	} {
		dir := written(t, map[string]string{"Makefile": "COLLECTED = " + collected + legalTree})
		c := &check{Options: Options{Tree: dir, Work: filepath.Join(dir, "work"), Version: "1"}}
		err := c.legalInfo(t.Context())
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v", collected, err)
		}
	}
}

func TestNoSuchStep(t *testing.T) {
	t.Parallel()
	dir := written(t, map[string]string{"br/Makefile": "", "br/package/pkg-golang.mk": "", "br/utils/check-package": "", "ext/configs/x_defconfig": ""})
	err := Check(t.Context(), Options{Tree: filepath.Join(dir, "br"), External: filepath.Join(dir, "ext"), Work: filepath.Join(dir, "work"), Only: "nothing"})
	if fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), `no step of the check has "nothing" in its name`) {
		t.Errorf("got %v", err)
	}
}
