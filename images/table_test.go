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

// TestHybridTable: sgdisk finds the GPT whole and the boot partition in the MBR, and sfdisk the
// types and flags that a target gives.
func TestHybridTable(t *testing.T) {
	t.Parallel()
	sgdisk, sfdisk := partstest.Program(t, "gdisk", "sgdisk"), partstest.Program(t, "fdisk", "sfdisk")
	b := board()
	b.Layouts[0].Table = "hybrid"
	b.Layouts[0].Partitions[0].Flags = []string{"legacy-boot", "bootable", "mbr"}
	b.Layouts[0].Partitions[1].Type = "5b193300-fc78-40cd-8002-e86c45580b47"
	img := filepath.Join(newRunner(t).must(disk(boardTree(t), b)), DiskFile)
	for _, c := range []struct {
		name string
		out  func() ([]byte, error)
		want []string
	}{
		{"sgdisk -v", sgdisk("-v", img).CombinedOutput, []string{"No problems found"}},
		{"sgdisk -p", sgdisk("-p", img).CombinedOutput, []string{"pvboot", "pvroot"}},
		{"sgdisk -i 1", sgdisk("-i", "1", img).CombinedOutput, []string{"Attribute flags: 0000000000000004"}},
		{"sgdisk -i 2", sgdisk("-i", "2", img).CombinedOutput, []string{"5B193300-FC78-40CD-8002-E86C45580B47"}},
		{"sfdisk -Y dos", sfdisk("-Y", "dos", "--dump", img).Output, []string{"size=        2047, type=ee", "start=        2048, size=       81920, type=c, bootable"}},
	} {
		out, err := c.out()
		for _, want := range c.want {
			if err != nil || !strings.Contains(string(out), want) {
				t.Errorf("%s: %v; want %q in\n%s", c.name, err, want, out)
			}
		}
	}
}

// TestMBRPassesSfdisk reads the table with sfdisk.
func TestMBRPassesSfdisk(t *testing.T) {
	t.Parallel()
	sfdisk := partstest.Program(t, "fdisk", "sfdisk")
	b := board()
	b.Layouts[0].Table = "mbr"
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
