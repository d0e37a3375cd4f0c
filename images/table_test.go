package images

import (
	"encoding/json"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/debian/partstest"
	"github.com/pantavisor/pantavisor/targets"
)

// TestTablesMatchPackageTargets compares the tables with the values that package targets
// allows.
func TestTablesMatchPackageTargets(t *testing.T) {
	t.Parallel()
	for field, have := range map[string][]string{
		"image.table":             slices.Collect(maps.Keys(tables)),
		"image.partitions.format": slices.Collect(maps.Keys(formats)),
		"image.partitions.role":   slices.Collect(maps.Keys(roles)),
	} {
		slices.Sort(have)
		if diff := cmp.Diff(slices.Sorted(slices.Values(targets.Ready(field))), have); diff != "" {
			t.Errorf("%s (-package targets +package images):\n%s", field, diff)
		}
	}
}

// TestMBRPassesSfdisk reads the table with sfdisk.
func TestMBRPassesSfdisk(t *testing.T) {
	t.Parallel()
	sfdisk := partstest.Program(t, "fdisk", "sfdisk")
	b := board()
	b.Layout.Table = "mbr"
	img := filepath.Join(newRunner(t).must(disk(boardTree(t), b)), DiskFile)
	if out, err := sfdisk("--verify", img).CombinedOutput(); err != nil || !strings.Contains(string(out), "No errors detected") {
		t.Errorf("%v: %s", err, out)
	}
	out, err := sfdisk("--json", img).Output()
	if err != nil {
		t.Fatal(err)
	}
	type partition struct {
		Start, Size int64
		Type        string
		Bootable    bool
	}
	var got struct {
		Table struct {
			Label, ID  string
			Partitions []partition
		} `json:"partitiontable"`
	}
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	const perMiB = mib / sector
	want := []partition{{perMiB, 40 * perMiB, "c", true}, {41 * perMiB, (255 - 41) * perMiB, "83", false}}
	if diff := cmp.Diff(want, got.Table.Partitions); diff != "" || got.Table.Label != "dos" || len(got.Table.ID) != 10 {
		t.Errorf("%s (-want +got):\n%s", out, diff)
	}
	host(t, "fsck.vfat", "-n", cutOut(t, img, 1, 40))
	host(t, "e2fsck", "-fn", img+rootAt)
	host(t, "cmp", img, filepath.Join(newRunner(t).must(disk(boardTree(t), b)), DiskFile))
}
