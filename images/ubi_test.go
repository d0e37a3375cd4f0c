package images

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// nand is the step for the storage of a flash of some MiB, and its layout.
func nand(t *testing.T, size int) *UBI {
	t.Helper()
	d := disk(boardTree(t), board())
	return &UBI{Target: d.Target, Epoch: d.Epoch, Storage: d.Storage, Layout: Layout{
		Size: size, Block: 128 << 10, Page: 2048, Table: flashTable, Partitions: []Partition{
			{Name: "u-boot", Role: "loader", Format: "raw", Size: mib}, {Name: "boot", Role: "root", Format: ubifsFormat},
		},
	}}
}

// TestUBI checks the parts of the image that do not need a kernel: package ubifs has one
// mount them.
func TestUBI(t *testing.T) {
	t.Parallel()
	var outputs [2][]byte
	for i := range outputs {
		dir := newRunner(t).must(nand(t, 128))
		volume, err := os.Stat(filepath.Join(dir, VolumeFile))
		if err != nil {
			t.Fatal(err)
		}
		if outputs[i], err = os.ReadFile(filepath.Join(dir, FlashFile)); err != nil {
			t.Fatal(err)
		}
		blocks := len(outputs[i]) / (128 << 10)
		if volume.Size()%126976 != 0 || len(outputs[i])%(128<<10) != 0 || int64(blocks) > volume.Size()/126976+2 || !bytes.HasPrefix(outputs[i], []byte("UBI#\x01")) {
			t.Errorf("a file system of %d bytes in %d blocks", volume.Size(), blocks)
		}
	}
	if !bytes.Equal(outputs[0], outputs[1]) {
		t.Error("the image differs between two runs")
	}
}

func TestFlashThatIsTooSmallForItsStorage(t *testing.T) {
	t.Parallel()
	for _, size := range []int{4} {
		_, err := newRunner(t).run(nand(t, size))
		if fault.Of(err) != fault.NoSpace || !strings.Contains(err.Error(), "making partition boot") || !strings.Contains(err.Error(), "erase blocks of 128 KiB, the partition has") {
			t.Errorf("%d MiB: kind %v: %v", size, fault.Of(err), err)
		}
	}
	odd := nand(t, 128)
	odd.Layout.Partitions[1].Start = mib + 4096
	if _, err := newRunner(t).run(odd); fault.Of(err) != fault.BadInput {
		t.Errorf("a partition in the middle of a block: %v", err)
	}
}

// TestPartsOfRawFlash: each part of such a medium is an artefact.
func TestPartsOfRawFlash(t *testing.T) {
	t.Parallel()
	in := board()
	u := nand(t, 128)
	u.Layout.Blobs = []Blob{blob("u-boot", 0, 0, "x")}
	in.Layouts, in.Outputs = []Layout{u.Layout}, []Output{OutputImage}
	c, err := Compose(in)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, a := range c.Artefacts {
		got = append(got, a.To)
	}
	if text := strings.Join(got, " "); !strings.Contains(text, in.Target+".ubi boot.ubifs u-boot.bin") {
		t.Errorf("artefacts %s", text)
	}
}
