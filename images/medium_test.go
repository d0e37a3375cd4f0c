package images

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/formats/bmap"
	"github.com/pantavisor/pantavisor/formats/ext4"
	"github.com/pantavisor/pantavisor/targets"
)

// storageSize is the size of the storage in tests, in MiB: the layout is that of the target,
// but nobody waits for gigabytes of 0xFF.
const storageSize = 160

// withHoles is content that some file systems store as holes in part: zeros.
func withHoles() string { return "before" + strings.Repeat("\x00", 300_000) + "behind" }

// diskOf returns the disk of a target with stand-ins for its files, each with zeros in it.
func diskOf(t *testing.T, target *targets.Target) *Disk {
	t.Helper()
	root := boardTree(t)
	if err := os.WriteFile(filepath.Join(root, "vendors/board/stepskel/device/zeros.bin"), []byte(withHoles()), 0o644); err != nil {
		t.Fatal(err)
	}
	d := &Disk{
		Target: target.Name, Storage: storage(root), Config: perhaps(root, "config/board/image.config"),
		Layout: Layout{Table: target.Images[0].Table, Size: 2, Blobs: []Blob{{
			Name: "loader", File: Artefact{&made{"loader", map[string]string{"blob": withHoles()}}, "blob"}, Offset: 64 << 10, Max: 384 << 10,
		}}},
	}
	for _, p := range target.Images[0].Partitions {
		if roles[p.Role].storage {
			p.Size = storageSize * targets.MiB
		} else {
			d.Files = append(d.Files, RoleFiles{p.Role, Artefact{Step: &made{"files/" + p.Role, map[string]string{"DIR/ZEROS.BIN": withHoles()}}}})
		}
		d.Layout.Partitions = append(d.Layout.Partitions, Partition{
			Name: p.Name, Role: p.Role, Format: p.Format, Type: p.Type, Flags: p.Flags, Start: int64(p.Start), Size: int64(p.Size),
		})
		d.Layout.Size += int((max(p.Size, 1) + p.Start + targets.MiB) / targets.MiB)
	}
	return d
}

// composed composes an image; change changes the file before its blocks are mapped.
func composed(t *testing.T, d *Disk, change func(file string)) *composition {
	t.Helper()
	run := newRunner(t)
	for _, s := range d.Deps() {
		run.must(s)
	}
	c := &composition{disk: d, work: build.NewWork(t.TempDir(), t.TempDir(), func(s build.Step) string { return run.outs[s.Name()] }, nil)}
	file, err := os.Create(filepath.Join(c.work.Out, DiskFile))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	c.file = file
	if err := c.plan(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := file.Truncate(int64(d.Layout.Size) * mib); err != nil {
		t.Fatal(err)
	}
	if err := c.write(t.Context()); err != nil {
		t.Fatal(err)
	}
	change(file.Name())
	if err := c.bmap(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestEveryTargetOnAUsedMedium lays the image of each kind of medium that targets have on one of
// ones, by its block map: as it is, and from a file system that stores zeros as holes. Each
// file system is clean, and no block that is in use has what was there before.
func TestEveryTargetOnAUsedMedium(t *testing.T) {
	t.Parallel()
	all, err := targets.LoadAll(targets.Builtin())
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, target := range all {
		if target.Images == nil || seen[kindOfMedium(target)] {
			continue
		}
		seen[kindOfMedium(target)] = true
		for name, change := range map[string]func(string){
			"as it is":       func(string) {},
			"zeros as holes": func(file string) { host(t, "fallocate", "--dig-holes", file) },
		} {
			t.Run(target.Name+" "+name, func(t *testing.T) {
				c := composed(t, diskOf(t, target), change)
				medium := filepath.Join(t.TempDir(), "medium")
				if err := os.WriteFile(medium, bytes.Repeat([]byte{0xFF}, c.disk.Layout.Size*mib), 0o644); err != nil {
					t.Fatal(err)
				}
				lay(t, c.file.Name(), medium)
				if got := host(t, "sgdisk", "-v", medium); c.disk.Layout.Table == "gpt" && !strings.Contains(got, "No problems found") {
					t.Error(got)
				}
				for _, s := range c.spans {
					checkPartition(t, c.file, medium, s)
				}
			})
		}
	}
	if len(seen) == 0 {
		t.Error("no target has an image")
	}
}

// kindOfMedium is the same for targets whose media differ in places and names alone.
func kindOfMedium(target *targets.Target) string {
	kind := target.Images[0].Table
	for _, p := range target.Images[0].Partitions {
		kind += " " + p.Role + " " + p.Format
	}
	return kind
}

// sameBytes compares a range of two files.
func sameBytes(t *testing.T, a, b string, e bmap.Extent) {
	t.Helper()
	host(t, "cmp", fmt.Sprintf("--ignore-initial=%d", e.Offset), fmt.Sprintf("--bytes=%d", e.Length), a, b)
}

// checkPartition checks a file system on a medium, the blocks that it uses and the content
// of a file in it.
func checkPartition(t *testing.T, img *os.File, medium string, s span) {
	t.Helper()
	if s.Format == "raw" {
		sameBytes(t, img.Name(), medium, bmap.Extent{Offset: s.Start, Length: s.Length})
		return
	}
	copied := filepath.Join(t.TempDir(), "zeros")
	switch at := fmt.Sprintf("%s?offset=%d", medium, s.Start); s.Format {
	case "ext4":
		host(t, "e2fsck", "-fn", at)
		used, err := ext4.Used(img, s.Start)
		if err != nil || len(used) == 0 {
			t.Fatalf("%v, %v", used, err)
		}
		for _, e := range used {
			sameBytes(t, img.Name(), medium, bmap.Extent(e))
		}
		host(t, "debugfs", "-R", "dump /trails/0/device/zeros.bin "+copied, at)
	case "fat16", "fat32":
		host(t, "fsck.vfat", "-n", cutOut(t, medium, s.Start/mib, s.Length/mib))
		host(t, "mcopy", "-i", fmt.Sprintf("%s@@%d", medium, s.Start), "::/DIR/ZEROS.BIN", copied)
	default:
		t.Errorf("nothing checks the format %s of partition %s", s.Format, s.Name)
	}
	if got, err := os.ReadFile(copied); err != nil || string(got) != withHoles() {
		t.Errorf("%s: a file of %d bytes differs: %v", s.Name, len(got), err)
	}
}

// TestTablesAtTheLimit: the most partitions, the longest names and the largest medium.
func TestTablesAtTheLimit(t *testing.T) {
	t.Parallel()
	for table, c := range map[string]struct {
		parts, size int
		name        string
	}{"gpt": {128, 140, strings.Repeat("ü", 33)}, "mbr": {4, 2097151, "p"}} {
		l := Layout{Table: table, Size: c.size}
		for i := range c.parts {
			l.Partitions = append(l.Partitions, Partition{Name: fmt.Sprintf("%s%03d", c.name, i), Role: "boot", Format: "fat32", Size: mib})
		}
		l.Partitions[c.parts-1].Size = 0
		spans, err := layout(l)
		if err != nil {
			t.Fatal(err)
		}
		file, err := os.Create(filepath.Join(t.TempDir(), "img"))
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if err := file.Truncate(int64(l.Size) * mib); err != nil {
			t.Fatal(err)
		}
		d := &composition{disk: &Disk{Layout: l}, spans: spans, file: file}
		if err := d.table(t.Context()); err != nil {
			t.Errorf("%s: %v", table, err)
		}
		if got := host(t, "sgdisk", "-v", file.Name()); table == "gpt" && !strings.Contains(got, "No problems found") {
			t.Error(got)
		}
		if table == "gpt" && !strings.Contains(host(t, "sgdisk", "-i", "128", file.Name()), c.name+"127") {
			t.Error("the last partition is not there, or not with its name")
		}
		more, larger := l, l
		more.Partitions = append(more.Partitions, Partition{})
		larger.Size++
		if _, err := tableOf(more); err == nil {
			t.Errorf("%s: a partition too many was taken", table)
		}
		if _, err := tableOf(larger); (err == nil) != (table == "gpt") {
			t.Errorf("%s of %d MiB: %v", table, larger.Size, err)
		}
	}
}
