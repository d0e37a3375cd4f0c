package images

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// blobDisk is a small disk whose first partition begins at 8 MiB, with blobs before it.
// Each blob has an offset, a size limit and content.
func blobDisk(t *testing.T, table string, blobs ...Blob) *Disk {
	t.Helper()
	b := board()
	b.Layouts[0].Table = table
	b.Layouts[0].Partitions[0].Start = 8 * mib
	d := disk(boardTree(t), b)
	d.Layout.Blobs = blobs
	return d
}

func blob(name string, offset, room int64, content string) Blob {
	return Blob{Name: name, File: Artefact{&made{"blob/" + strings.ToLower(name), map[string]string{name: content}}, name}, Offset: offset, Max: room}
}

// TestBlobsAreAtTheirOffsets reads the blobs back and checks that table and partitions
// are intact.
func TestBlobsAreAtTheirOffsets(t *testing.T) {
	t.Parallel()
	spl, uboot := strings.Repeat("spl", 7000), strings.Repeat("u-boot", 100_000)
	for table, at := range map[string]int64{"gpt": 34 * sector, "mbr": sector, "hybrid": 34 * sector, "none": sector} {
		t.Run(table, func(t *testing.T) {
			t.Parallel()
			d := blobDisk(t, table, blob("code", 0, 440, "code"), blob("SPL", at, 32<<10, spl), blob("u-boot", mib, 7*mib, uboot))
			img := filepath.Join(newRunner(t).must(d), DiskFile)
			checkBytes(t, img, map[int64]string{
				0: "code\x00", 510: map[bool]string{false: "\x55\xaa", true: "\x00\x00"}[table == "none"], at: spl + "\x00", mib: uboot + "\x00",
			})
			host(t, "fsck.vfat", "-n", cutOut(t, img, 8, 40))
			if table == "mbr" || table == "none" {
				return
			}
			if got := host(t, "sgdisk", "-v", img); !strings.Contains(got, "No problems found") {
				t.Error(got)
			}
		})
	}
}

// TestBlobsOfRawPartitions: a range of a file fills a partition from its start, and the
// signature of the disk gives way to code that needs its place.
func TestBlobsOfRawPartitions(t *testing.T) {
	t.Parallel()
	fip, first := blob("fip", 0, 0, "head-body-tail"), blob("bl1", 0, 442, strings.Repeat("1", 442)+"rest of it")
	fip.Partition, fip.Skip, fip.Length = "fip", 5, 4
	first.Length = 442
	second := first
	second.Name, second.Skip, second.Length, second.Offset, second.Max = "bl1-2", 442, 0, sector, 32<<10
	d := blobDisk(t, "mbr", first, second, fip)
	d.Layout.Partitions = append([]Partition{{Name: "fip", Role: "loader", Format: "raw", Start: mib, Size: 512 << 10}, {Name: "old", Role: "env", Format: "raw", Start: 2 * mib, Size: 4096}}, d.Layout.Partitions...)
	img := filepath.Join(newRunner(t).must(d), DiskFile)
	checkBytes(t, img, map[int64]string{0: strings.Repeat("1", 442), sector: "rest of it\x00", mib: "body\x00", 2 * mib: strings.Repeat("\x00", 4096), 510: "\x55\xaa"})
	for name, change := range map[string]func(*Layout){
		"too large":         func(l *Layout) { l.Blobs[2].Max = mib },
		"no such partition": func(l *Layout) { l.Blobs[2].Partition = "flip" },
		"not raw":           func(l *Layout) { l.Blobs[2].Partition = "pvboot" },
		"too short a file":  func(l *Layout) { l.Blobs[2].Length = 40 },
	} {
		bad := *d
		bad.Layout.Blobs = []Blob{first, second, fip}
		change(&bad.Layout)
		if _, err := newRunner(t).run(&bad); fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), "blob fip") {
			t.Errorf("%s: kind %v: %v", name, fault.Of(err), err)
		}
	}
}

// checkBytes compares what a file holds at some places.
func checkBytes(t *testing.T, file string, want map[int64]string) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for offset, text := range want {
		got := make([]byte, len(text))
		if _, err := f.ReadAt(got, offset); err != nil || string(got) != text {
			t.Errorf("at %d there is %.20q, want %.20q: %v", offset, got, text, err)
		}
	}
}

func TestBlobsThatDoNotFitAreNamed(t *testing.T) {
	t.Parallel()
	whole := int64(256 * mib)
	for name, c := range map[string]struct {
		table string
		blobs []Blob
		kind  fault.Kind
		want  []string
	}{
		"on the table":         {"gpt", []Blob{blob("spl", 8<<10, 32<<10, "x")}, fault.BadInput, []string{"blob spl (bytes 8192 to 40960)", "the partition table (bytes 446 to 17408)"}},
		"on the copy":          {"gpt", []Blob{blob("end", whole-34*sector, 2*sector, "x")}, fault.BadInput, []string{"blob end", "the partition table"}},
		"on the entries":       {"mbr", []Blob{blob("code", 0, 447, "x")}, fault.BadInput, []string{"blob code", "the partition table (bytes 446 to 512)"}},
		"on a partition":       {"mbr", []Blob{blob("u-boot", 7*mib, 2*mib, "x")}, fault.BadInput, []string{"blob u-boot", "partition pvboot (bytes 8388608 to"}},
		"on another":           {"mbr", []Blob{blob("one", 4096, 4096, "x"), blob("two", 8191, 10, "x")}, fault.BadInput, []string{"blob two", "blob one (bytes 4096 to 8192)"}},
		"larger than its room": {"mbr", []Blob{blob("spl", 8<<10, 3, "four")}, fault.NoSpace, []string{"blob spl", "its 4 bytes", "3 that it has at offset 8192: raise its max"}},
		"without room":         {"mbr", []Blob{blob("spl", 8<<10, 0, "")}, fault.BadInput, []string{"blob spl", "0 bytes at 8192"}},
		"empty":                {"mbr", []Blob{blob("spl", 8<<10, 3, "")}, fault.BadInput, []string{"blob spl: nothing of", "it has 0 bytes, and 0 are skipped"}},
		"all skipped":          {"mbr", []Blob{skipping(blob("spl", 8<<10, 3, "four"), 4)}, fault.BadInput, []string{"it has 4 bytes, and 4 are skipped"}},
		"before the medium":    {"mbr", []Blob{blob("spl", -1, 3, "x")}, fault.BadInput, []string{"blob spl", "at -1"}},
		"behind the medium":    {"mbr", []Blob{blob("spl", whole-1, 2, "x")}, fault.BadInput, []string{"blob spl", "medium of 268435456 bytes"}},
		"so far that it wraps": {"mbr", []Blob{blob("spl", 1<<62, 1<<62, "x")}, fault.BadInput, []string{"blob spl"}},
		"missing":              {"mbr", []Blob{{Name: "spl", File: Artefact{&made{"blob/none", nil}, "spl"}, Offset: 8 << 10, Max: 9}}, fault.IO, []string{"blob spl"}},
		"a directory":          {"mbr", []Blob{{Name: "spl", File: Artefact{&made{"blob/none", nil}, ""}, Offset: 8 << 10, Max: 1 << 20}}, fault.BadInput, []string{"blob spl", "not a regular file"}},
		"all at once":          {"mbr", []Blob{blob("a", 0, 512, "x"), blob("b", 4096, 1, "xx")}, fault.BadInput, []string{"blob a", "blob b: its 2 bytes"}},
	} {
		d := blobDisk(t, c.table, c.blobs...)
		r := newRunner(t)
		_, err := r.run(d)
		if fault.Of(err) != c.kind {
			t.Errorf("%s: kind %v, want %v: %v", name, fault.Of(err), c.kind, err)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v; want %s", name, err, want)
			}
		}
		if exists(filepath.Join(r.dir, d.Name(), "out", DiskFile)) {
			t.Errorf("%s: a part of the image was written before", name)
		}
	}
}

func skipping(b Blob, bytes int64) Blob {
	b.Skip = bytes
	return b
}

// TestNeighboursAreNotOverlaps places blobs edge to edge.
func TestNeighboursAreNotOverlaps(t *testing.T) {
	t.Parallel()
	d := blobDisk(t, "mbr", blob("one", sector, sector, "1"), blob("two", 2*sector, 8*mib-2*sector, "2"))
	if _, err := newRunner(t).run(d); err != nil {
		t.Error(err)
	}
	var step build.Step = d
	if n := len(step.Deps()); n != 4 {
		t.Errorf("the disk depends on %d steps, want boot files, two blobs and storage", n)
	}
}
