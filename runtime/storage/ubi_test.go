package storage

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestUBIVolumes finds volumes by their names as mount takes them, and by label.
func TestUBIVolumes(t *testing.T) {
	dir := t.TempDir()
	for entry, label := range map[string]string{"ubi0": "", "ubi0_0": "boot", "ubi0_1": "pvroot", "ubi1_0": "boot"} {
		if err := os.Mkdir(filepath.Join(dir, entry), 0o755); err != nil {
			t.Fatal(err)
		}
		if label == "" {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, entry, "name"), []byte(label+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	old := ubiClass
	ubiClass = dir
	t.Cleanup(func() { ubiClass = old })
	for spec, want := range map[string][]string{
		"ubi0:boot": {"ubi0:boot"}, "ubi1:boot": {"ubi1:boot"}, "ubi0_1": {"ubi0:pvroot"}, "LABEL=boot": {"ubi0:boot", "ubi1:boot"},
		"": {"ubi0:pvroot"}, "ubi0:other": nil, "ubi0_9": nil, "ubi0": nil, "LABEL=other": nil,
	} {
		match, err := Want{Spec: spec}.matcher()
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, d := range ubiVolumes() {
			if match(d) {
				got = append(got, d.Path)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", spec, diff)
		}
	}
	volume := Device{Path: "ubi0:boot", Disk: "ubi0", Super: Super{Type: ubifs}}
	for what, grow := range map[string]func() (bool, error){
		"partition":   func() (bool, error) { return GrowPartition(volume) },
		"file system": func() (bool, error) { return GrowFilesystem(volume, dir) },
	} {
		if grown, err := grow(); grown || err != nil {
			t.Errorf("growing the %s: %v, %v; a UBI volume grows by itself", what, grown, err)
		}
	}
}

func TestNamesOfVolumes(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"ubi0:boot": true, "ubi0_0": true, "ubi12:a:b": true, "ubi12_345": true, "ubi0:_1": true,
		"": false, "ubi": false, "ubi0": false, "ubi0:": false, "ubi0_": false, "ubi:boot": false, "ubi_0": false, "ubi0_x": false,
		"ubi0_0x": false, "ubi0 0": false, "xubi0_0": false, "0_0": false, "/dev/ubi0_0": false,
	} {
		if got := isUBI(name); got != want {
			t.Errorf("%q: %t", name, got)
		}
	}
}
