package images

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"io"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// flash is the image of a flash of 1 MiB with a blob in its second partition.
func flash(t *testing.T, content string) *Disk {
	t.Helper()
	d := disk(boardTree(t), board())
	b := blob("u-boot", 0, 0, content)
	b.Partition, b.Swap = "u-boot", true
	d.Layout = Layout{File: "flash.img", Size: 1, Table: flashTable, Blobs: []Blob{b}, Partitions: []Partition{
		{Name: "u-boot", Role: "loader", Format: "raw", Size: 4096}, {Name: "pv-env", Role: "env", Format: "raw", Start: 128 << 10, Size: 128 << 10},
	}}
	return d
}

// TestFlash reads a flash image back: words are swapped, all else is as erased.
func TestFlash(t *testing.T) {
	t.Parallel()
	img := filepath.Join(newRunner(t).must(flash(t, "abcdefghi")), DiskFile)
	erased := strings.Repeat("\xff", 128<<10)
	checkBytes(t, img, map[int64]string{0: "dcbahgfe\xff\xff\xffi" + erased[:4084], 128 << 10: erased, mib - 16: erased[:16]})
	if info, err := os.Stat(img); err != nil || info.Size() != mib {
		t.Errorf("%v, %v", info, err)
	}
}

func TestFlashThatIsTooSmall(t *testing.T) {
	t.Parallel()
	if _, err := newRunner(t).run(flash(t, strings.Repeat("x", 4097))); fault.Of(err) != fault.NoSpace || !strings.Contains(err.Error(), "blob u-boot: its 4097 bytes are more than the 4096") {
		t.Errorf("a blob larger than its partition: %v", err)
	}
	d := flash(t, "x")
	d.Layout.Partitions[1].Size = 896<<10 + 512
	if _, err := newRunner(t).run(d); fault.Of(err) != fault.NoSpace || !strings.Contains(err.Error(), "partition pv-env") {
		t.Errorf("a partition beyond the end: %v", err)
	}
	d = flash(t, "x")
	d.Layout.Size = 2048
	if _, err := newRunner(t).run(d); fault.Of(err) != fault.Unsupported {
		t.Errorf("a flash of 2 GiB: %v", err)
	}
}

func TestSwappedReadsInAnySteps(t *testing.T) {
	t.Parallel()
	got, err := io.ReadAll(iotest.OneByteReader(&swapped{from: iotest.HalfReader(strings.NewReader("12345678ab"))}))
	if err != nil || string(got) != "43218765\xff\xffba" {
		t.Errorf("%q, %v", got, err)
	}
}
