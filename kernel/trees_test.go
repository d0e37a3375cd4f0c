package kernel

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/oracle"
)

// trees is a kernel's tree with device trees and an overlay.
func trees(t *testing.T) string {
	t.Helper()
	oracle.Need(t, "dtc")
	dir := t.TempDir()
	for name, source := range map[string]string{
		"v/a.dtb": "/dts-v1/; / { led: led { label = \"a\"; }; };", "v/b.dtb": "/dts-v1/; / { led: led { label = \"b\"; }; };",
		"v/c.dtb": "/dts-v1/; / { compatible = \"c\"; };", "o/on.dtbo": "/dts-v1/; /plugin/; &led { on; };",
	} {
		cmd := exec.CommandContext(t.Context(), "dtc", "-@", "-q", "-I", "dts", "-O", "dtb")
		cmd.Stdin = strings.NewReader(source)
		data, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, "dtbs", name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestDeviceTrees(t *testing.T) {
	t.Parallel()
	tree := &given{"tree", trees(t)}
	out, _, err := run(t, &DeviceTrees{Files: []string{"v/a.dtb", "v/b.dtb"}, Overlays: []string{"o/on.dtbo"}, Tree: tree})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"v/a.dtb", "v/b.dtb"} {
		if data, err := os.ReadFile(filepath.Join(out, name)); err != nil || !bytes.Contains(data, []byte("on\x00")) {
			t.Errorf("%s lacks the overlay: %v", name, err)
		}
	}
	for want, step := range map[string]*DeviceTrees{
		"v/aa.dtb: the kernel has none of that name; did you mean v/a.dtb":     {Files: []string{"v/aa.dtb"}},
		"w/b.dtb: the kernel has none of that name; did you mean v/b.dtb?":     {Files: []string{"w/b.dtb"}},
		"o/off.dtbo: the kernel has none of that name; did you mean o/on.dtbo": {Files: []string{"v/a.dtb"}, Overlays: []string{"o/off.dtbo"}},
		"the device tree has no label led":                                     {Files: []string{"v/c.dtb"}, Overlays: []string{"o/on.dtbo"}},
	} {
		step.Tree = tree
		if _, _, err := run(t, step); fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), want) {
			t.Errorf("kind %v: %v; want %q", fault.Of(err), err, want)
		}
	}
}
