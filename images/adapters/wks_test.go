package adapters

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/targets"
)

// layoutOf reads a layout in a file with the given lines; other files by their names.
func layoutOf(t *testing.T, lines string, others map[string]string, size int) (*targets.Image, []string, []string, error) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range others {
		put(t, filepath.Join(dir, name), text)
	}
	file := filepath.Join(dir, "board.wks")
	put(t, file, lines)
	w, err := readWKS(file)
	if err != nil {
		return nil, nil, nil, err
	}
	image, blobs, notes, err := w.layout(size)
	var placed []string
	for _, b := range blobs {
		at := "partition " + b.Partition
		if b.Offset != nil {
			at = b.Offset.String()
		}
		placed = append(placed, b.Path+" at "+at+" max "+b.Max.String())
	}
	for i := range notes {
		notes[i] = strings.ReplaceAll(notes[i], dir+"/", "")
	}
	return image, placed, notes, err
}

func put(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestWKS(t *testing.T) {
	image, blobs, notes, err := layoutOf(t, `# short-description: a board
part u-boot --source rawcopy --sourceparams="file=u-boot-sunxi-with-spl.bin" --no-table --align 8
part /boot --source bootimg-partition --ondisk mmcblk0 --fstype=vfat --label boot --active --align 4096 --size 64
include common.inc
part swap --ondisk sda --size 44 --label swap1 --fstype=swap
bootloader --ptable gpt --timeout=5 --append="rootwait rootfstype=ext4 console=ttyS0,115200 quiet"
part / --source rootfs --ondisk mmcblk0 --fstype=ext4 --label platform --align 4096 --size 1G --fsuuid 2c71ef06
part /data --fstype=ext4 --size 100
`, map[string]string{"common.inc": "part env --source empty --part-name env --fixed-size 512K\n"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	want := &targets.Image{Size: 1094, Table: "gpt", Partitions: []targets.Partition{
		{Name: "boot", Role: "boot", Format: "fat32", Flags: []string{"bootable"}, Align: 4 * targets.MiB, Size: 64 * targets.MiB},
		{Name: "env", Role: "loader", Format: "raw", Size: 512 * targets.KiB},
		{Name: "platform", Role: "root", Format: "ext4", Align: 4 * targets.MiB},
	}}
	if diff := cmp.Diff(want, image); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"u-boot-sunxi-with-spl.bin at 8KiB max 1016KiB"}, blobs); diff != "" {
		t.Error(diff)
	}
	for _, want := range []string{
		"board.wks:5: left out: devices have no swap partition", "board.wks:6: left out of --append: rootwait", "board.wks:6: left out of --append: rootfstype=ext4",
		"board.wks:7: option --fsuuid is left out", "board.wks:8: left out: the storage is the only partition",
	} {
		if !strings.Contains(strings.Join(notes, "\n"), want) {
			t.Errorf("no note %q in %q", want, notes)
		}
	}
	if len(notes) != 5 {
		t.Errorf("%q", notes)
	}
}

func TestWKSMistakes(t *testing.T) {
	const root = "part / --source rootfs --size 100\n"
	for lines, want := range map[string]string{
		"":                                        "has no partitions",
		"part /boot --size 16\n":                  "no partition for the storage",
		"part / --source rootfs\n":                "say the size of the medium",
		root + "bootloader --ptable apm\n":        "partition table apm",
		"part / --fstype=${X}\n":                  "board.wks:1: ${X} is a variable of the build",
		"part / --sizes 3\n":                      "board.wks:1: option --sizes is not known",
		"part / --size\n":                         "board.wks:1: option --size has no value",
		"part / --size 3X\n":                      `board.wks:1: size "3X"`,
		"part / --size 99999999999G\n":            "too large",
		"part / --label \"x\n":                    "board.wks:1: a quote is not closed",
		root + "part --source rawcopy --size 1\n": `board.wks:2: --source rawcopy needs --sourceparams="file=NAME"`,
		root + "part --source empty\n":            "board.wks:2: --source empty needs --size",
		root + "part --source rawcopy --sourceparams=file=x --no-table\n":                "needs --offset or --align",
		root + "part --source rawcopy --sourceparams=file=x --no-table --offset 2048K\n": "needs --size or --fixed-size",
		root + "bootloader\nbootloader\n":                                                "board.wks:3: bootloader is there twice",
		"include board.wks\n":                                                            "more than 8 deep",
		"include none.inc\n":                                                             "none.inc",
	} {
		_, _, _, err := layoutOf(t, lines, nil, 0)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", lines, err, want)
		}
	}
}

func FuzzWKS(f *testing.F) {
	f.Add("part / --source rootfs --size 100\nbootloader --ptable gpt --append=\"a b\"\n")
	f.Add("part --source rawcopy --sourceparams=\"file=x\" --no-table --offset 1s\n")
	f.Fuzz(func(t *testing.T, lines string) {
		image, _, _, err := layoutOf(t, lines, nil, 64)
		if err == nil && (len(image.Partitions) == 0 || image.Partitions[len(image.Partitions)-1].Role != "root") {
			t.Errorf("%+v", image)
		}
	})
}
