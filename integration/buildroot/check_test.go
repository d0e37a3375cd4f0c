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
