package workspace

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/images"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/sbom"
	"github.com/pantavisor/pantavisor/sbom/cra"
	"github.com/pantavisor/pantavisor/targets"
)

// TestFallbacks compares the table with the boot loaders that targets may have.
func TestFallbacks(t *testing.T) {
	t.Parallel()
	ready := targets.Ready("bootloader.type")
	for _, name := range ready {
		if fallbacks[name].how == "" {
			t.Errorf("nothing says how %s falls back", name)
		}
	}
	for name := range fallbacks {
		if !slices.Contains(ready, name) {
			t.Errorf("%s is not a boot loader", name)
		}
	}
}

// TestTechnical asks what settings and keys of a target say.
func TestTechnical(t *testing.T) {
	w, out := empty(t)
	dir := t.TempDir()
	settings := filepath.Join(dir, "pantavisor.config")
	lay(t, settings, "PV_UPDATER_TRIALS=3\nPV_STORAGE_GC_KEEP_FACTORY=1\nPV_SECUREBOOT_MODE=strict\nPV_CONTROL_REMOTE=0\nPV_DEBUG_SHELL=1\n")
	in := &images.Inputs{
		Target: "board", Release: "1.0", Epoch: 1700000000, Support: sbom.Support{End: "2031-12-31", Manufacturer: "Acme"},
		Config: images.Config{
			Runtime: build.Source{Name: "config/board/pantavisor.config", Path: settings},
			Trust:   []build.Source{{Name: "ca-certificates.crt", Path: certificate(t, "Pantavisor Dev CA", 0)}},
		},
	}
	lay(t, filepath.Join(w.Out("board"), build.SumsName), "")
	j := &job{target: &targets.Target{Name: "board", Bootloader: &targets.Bootloader{Type: "rpi"}}, inputs: in}
	f := w.technical(j)
	if err := f.trusted(in.Config); err != nil {
		t.Fatal(err)
	}
	f.Complete()
	f.Gaps = append(f.Gaps, "the bill of materials \x1b[2J was not read")
	if err := w.writeCRA(f.File, w.Out("board")); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(w.Out("board"), craText))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| falls back by itself | no |", "| boots that an update gets | 3 |", "PV_SECUREBOOT_MODE=strict", "PV\\_DEBUG\\_SHELL is on", "CN=Pantavisor Dev CA", "whose private key is published",
		"The results are signed: SHA256SUMS.", "there is no contact", "| support until | 2031-12-31 |", "2023-11-14T22:13:20Z",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	for _, not := range []string{"PV\\_CONTROL\\_REMOTE", "revision 0 may be removed", "nobody is named"} {
		if strings.Contains(string(text), not) {
			t.Errorf("%q is in\n%s", not, text)
		}
	}
	data, err := os.ReadFile(filepath.Join(w.Out("board"), craJSON))
	var read cra.File
	if err != nil || json.Unmarshal(data, &read) != nil || read.Format != cra.Format || len(read.Keys) != 1 || read.Updates.Tried {
		t.Errorf("%v: %s", err, data)
	}
	if !strings.Contains(out.String(), "missing  there is no contact") || !strings.Contains(out.String(), `materials \x1b[2J was`) {
		t.Errorf("%s", out)
	}
}

func TestCRAOfNothing(t *testing.T) {
	w, _ := empty(t)
	define(t, w, "plain", plain)
	if err := w.CRA(t.Context(), "plain", VulnsOptions{}); fault.Of(err) != fault.Missing || !strings.Contains(err.Error(), "mage build plain") {
		t.Errorf("not built: %v", err)
	}
	if err := w.CRA(t.Context(), "plian", VulnsOptions{}); fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), "plain") {
		t.Errorf("misspelt: %v", err)
	}
}
