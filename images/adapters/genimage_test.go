package adapters

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/images/inputs"
	"github.com/pantavisor/pantavisor/targets"
)

// genimageFile writes a genimage.cfg.
func genimageFile(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "genimage.cfg")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

func sized(n targets.Size) *targets.Size { return &n }

// sdcard is a card as boards of Buildroot have it, with each kind of comment.
const sdcard = `/* a card */
image boot.vfat {
	vfat {
		label = "BOOT"
		files = {
			"zImage",
			"vendor/board.dtb" // the board's
		}
		file EFI/BOOT/bootaa64.efi {
			image = "efi.bin"
		}
		extraargs = "-F 16"
	}
	size = 16M
}

image u-boot.img { file { name = "u-boot-dtb.img" } }

image sdcard.img {
	hdimage {
		align = 1M
		disk-signature = 0x12345678
	}
	partition spl {
		in-partition-table = "no"
		image = "SPL"
		offset = 1K
	}
	partition u-boot {
		in-partition-table = false
		image = "u-boot.img"
		offset = 0x11400 # behind SPL
	}
	partition Env {
		size = 64K
		offset = 4M
	}
	partition boot {
		partition-type = 0xC
		bootable = "true"
		image = "boot.vfat"
	}
	partition data {
		image = "data.ext4"
	}
	partition rootfs {
		partition-type = 0x83
		image = "rootfs.ext4"
		size = 512M
		partition-uuid = 0f
	}
}
`

func TestGenimage(t *testing.T) {
	t.Parallel()
	g, err := importGenimage(genimageFile(t, sdcard+"image data.ext4 { ext4 { } size = 8M }\n"), 0)
	if err != nil {
		t.Fatal(err)
	}
	want := targets.Image{Table: "mbr", Size: 534, Partitions: []targets.Partition{
		{Name: "env", Role: "env", Format: "raw", Start: 4 * targets.MiB, Size: 64 * targets.KiB},
		{Name: "BOOT", Role: "boot", Format: "fat16", Type: "0c", Flags: []string{"bootable"}, Size: 16 * targets.MiB},
		{Name: "pvroot", Role: "root", Format: "ext4", Type: "83"},
	}}
	if diff := cmp.Diff(want, g.image); diff != "" {
		t.Errorf("layout (-want +got):\n%s", diff)
	}
	blobs := []inputs.Blob{
		{Name: "spl", Path: "SPL", Offset: sized(targets.KiB), Max: 0x11400 - targets.KiB},
		{Name: "u-boot", Path: "u-boot-dtb.img", Offset: sized(0x11400), Max: 4*targets.MiB - 0x11400},
	}
	if diff := cmp.Diff(blobs, g.blobs); diff != "" {
		t.Errorf("blobs (-want +got):\n%s", diff)
	}
	files := []inputs.BootFile{{To: "zImage", Path: "zImage"}, {To: "board.dtb", Path: "vendor/board.dtb"}, {To: "EFI/BOOT/bootaa64.efi", Path: "efi.bin"}}
	if diff := cmp.Diff(files, g.files); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	var notes []string
	for _, n := range g.notes {
		_, n, _ := strings.Cut(n, "genimage.cfg:")
		notes = append(notes, n)
	}
	if diff := cmp.Diff([]string{
		"21: left out: align", "22: left out: disk-signature", "12: left out: extraargs",
		"43: left out: partition data: no role fits it; the storage keeps the data of containers", "50: left out: partition-uuid",
	}, notes); diff != "" {
		t.Errorf("notes (-want +got):\n%s", diff)
	}
}

func TestGenimageOfFlash(t *testing.T) {
	t.Parallel()
	g, err := importGenimage(genimageFile(t, `
flash nand-64M {
	pebsize = 128K
	numpebs = 0x200
	minimum-io-unit-size = 2048
	vid-header-offset = 2048
}
image data.ubi { ubi { } }
image nand.img {
	flash { }
	flashtype = "nand-64M"
	partition u-boot { image = "u-boot.bin" size = 1M }
	partition env { size = 128K }
	partition rootfs { image = "data.ubi" size = 60M }
}
`), 0)
	if err != nil {
		t.Fatal(err)
	}
	want := targets.Image{Table: "mtd", Size: 64, Block: 128 * targets.KiB, Page: 2048, Partitions: []targets.Partition{
		{Name: "u-boot", Role: "loader", Format: "raw", Size: targets.MiB},
		{Name: "env", Role: "env", Format: "raw", Size: 128 * targets.KiB},
		{Name: "pvroot", Role: "root", Format: "ubifs", Size: 60 * targets.MiB},
	}}
	if diff := cmp.Diff(want, g.image); diff != "" {
		t.Errorf("layout (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]inputs.Blob{{Name: "u-boot", Path: "u-boot.bin", Partition: "u-boot"}}, g.blobs); diff != "" {
		t.Errorf("blobs (-want +got):\n%s", diff)
	}
}

// TestGenimageMistakes: each error has its line.
func TestGenimageMistakes(t *testing.T) {
	t.Parallel()
	change := func(old, other string) string { return strings.Replace(sdcard, old, other, 1) }
	for text, want := range map[string]string{
		change(`"zImage",`, "#BOOT_FILES#"): ":6: #BOOT_FILES# is a placeholder: this is a template",
		change("512M", "@SIZE@"):            ":49: @SIZE@ is a placeholder",
		change("0x11400", "%OFFSET%"):       ":32: %OFFSET% is a placeholder",
		change("512M", "90%"):               ":49: size = 90%: want a size",
		change("512M", "99999999999G"):      ":49: size = 99999999999G is more than a medium has",
		change("size = 512M", ""):           "does not say how large the medium is: neither the image nor the storage has a size; name it in MiB: --size",
		change("partition rootfs", "partition app") + "image rootfs.ext4 { ext4 { } }": "has no partition for the storage",
		change("hdimage {", "file {"):                              "want one image with hdimage or flash and partitions, there are 0",
		sdcard + sdcard:                                            "want one image with hdimage or flash and partitions, there are 2: sdcard.img, sdcard.img",
		change(`"SPL"`, `"../SPL"`):                                ":26: image = ../SPL: want the name of a file",
		change(`"efi.bin"`, `"*.efi"`):                             ":9: file *.efi: want the name of a file",
		change("0xC\n", "0x1C0\n"):                                 ":39: partition-type = 0x1C0: want a number",
		change("offset = 1K", ""):                                  ":24: partition spl is outside of the table and has no offset",
		change("size = 16M", ""):                                   ":2: image boot.vfat has no size",
		change("disk-signature", `partition-table-type = "apm" #`): ":22: partition table apm: want",
		sdcard + "}":                                               ":53: a closing brace without a section",
		sdcard + "image x {":                                       ":53: the file ends in section image of line 53",
		sdcard + "image x y":                                       ":53: \"image\": want KEY = VALUE, or SECTION {",
		sdcard + "a = {b":                                          ":53: the file ends in a list",
		sdcard + "a =":                                             ":53: a value is missing",
		sdcard + "/* a":                                            ":53: a comment does not end",
		sdcard + "a = \"b":                                         ":53: a string does not end",
		sdcard + "include(\"x.cfg\")":                              ":53: include is not read",
		sdcard + strings.Repeat("a {", 20):                         ":53: sections are in each other more than 8 deep",
		"":                                                         "there are 0",
	} {
		if _, err := importGenimage(genimageFile(t, text), 0); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

// FuzzGenimage: a file is read, or has an error; and what is read fits the medium.
func FuzzGenimage(f *testing.F) {
	f.Add(sdcard)
	f.Add("image x { hdimage {} partition rootfs { image = rootfs.ext4 size = 1s } }")
	f.Fuzz(func(t *testing.T, text string) {
		file := filepath.Join(t.TempDir(), "genimage.cfg")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		g, err := importGenimage(file, 0)
		if err == nil && (len(g.image.Partitions) == 0 || g.image.Size <= 0) {
			t.Errorf("%q: %+v", text, g.image)
		}
	})
}
