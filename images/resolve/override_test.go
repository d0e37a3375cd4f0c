package resolve

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/images"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/layers"
)

// withConfig adds a workspace with files of config/ on top of the repository.
func withConfig(t *testing.T, o Options, files map[string]string) Options {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		file := filepath.Join(dir, "config", name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	o.Layers = layers.New(layers.Layer{Label: layers.Workspace, Dir: dir}, layers.Layer{Label: "shipped", Dir: "../.."})
	return o
}

func TestImageConfigOverridesTheTarget(t *testing.T) {
	t.Parallel()
	target, o := shipped(t, "qemu-aarch64")
	o = withConfig(t, o, map[string]string{"qemu-aarch64/image.config": "IMAGE_SIZE=2000\nIMAGE_EXTRA_SPACE=48\nIMAGE_LABEL_ROOT=data\nIMAGE_LABEL_BOOT=start\nIMAGE_COMPRESS=zst\nIMAGE_JOURNAL_SIZE=8\n"})
	in, err := Target(target, o)
	if err != nil {
		t.Fatal(err)
	}
	l := in.Layouts[0]
	if l.Size != 2048 || l.Partitions[0].Name != "start" || l.Partitions[1].Name != "data" || l.Compress != "zst" {
		t.Errorf("%+v", l)
	}
	if target.Images[0].Size == 2048 || target.Images[0].Partitions[1].Name == "data" {
		t.Error("the target itself was changed")
	}
	want := images.Setting{Key: "PV_STORAGE_DEVICE", Value: "LABEL=data"}
	found := false
	for _, s := range in.Config.Derived {
		found = found || s == want
	}
	if !found {
		t.Errorf("the runtime looks for %v", in.Config.Derived)
	}
	c, err := images.Compose(in)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, a := range c.Artefacts {
		names = append(names, a.To)
	}
	if got := strings.Join(names, " "); !strings.Contains(got, "qemu-aarch64-pv-2048MiB.img.zst") {
		t.Errorf("artefacts %s", got)
	}
}

func TestMistakesOfImageConfig(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"IMAGE_LABEL_ROOT=a b\n":                `image.config:1: IMAGE_LABEL_ROOT: "a b" is not a label`,
		"#\nIMAGE_LABEL_BOOT=longer-than-11\n":  `image.config:2: IMAGE_LABEL_BOOT: "longer-than-11" has 14 characters; a label of fat32 holds 11`,
		"IMAGE_LABEL_BOOT=pvroot\n":             `"pvroot" is the name of another partition`,
		"IMAGE_LABEL_BOOTSEL=x\n":               "no partition with the role bootsel",
		"IMAGE_LABEL_BOT=x\n":                   "did you mean IMAGE_LABEL_BOOT",
		"IMAGE_COMPRESS=gz\n":                   `IMAGE_COMPRESS is "gz"; want`,
		"IMAGE_SIZE=0\n":                        "want a number from 1 to",
		"IMAGE_SIZE=60\n":                       "partition pvboot would have",
		"IMAGE_SIZE=60\nIMAGE_EXTRA_SPACE=-1\n": "want a number from 0 to",
	} {
		target, o := shipped(t, "qemu-aarch64")
		in, err := Target(target, withConfig(t, o, map[string]string{"qemu-aarch64/image.config": text}))
		if err == nil {
			_, err = images.Compose(in)
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v; want %q", text, err, want)
		}
	}
}

// TestLabelThatTheRuntimeDoesNotLookFor: the configuration of the runtime must not name
// another label, and that is told before any step runs.
func TestLabelThatTheRuntimeDoesNotLookFor(t *testing.T) {
	t.Parallel()
	target, o := shipped(t, "qemu-aarch64")
	in, err := Target(target, withConfig(t, o, map[string]string{"qemu-aarch64/pantavisor.config": "PV_LOG_LEVEL=4\nPV_STORAGE_DEVICE=LABEL=root\n"}))
	if err != nil {
		t.Fatal(err)
	}
	_, err = images.Compose(in)
	if want := `config/qemu-aarch64/pantavisor.config:2: PV_STORAGE_DEVICE is "LABEL=root", but the target has "LABEL=pvroot"`; fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), want) {
		t.Errorf("kind %v: %v; want %s", fault.Of(err), err, want)
	}
}
