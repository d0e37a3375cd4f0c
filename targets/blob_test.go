package targets

import (
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// soc is a board whose loader is on its medium.
const soc = `description: a board
arch: {go: arm64, debian: arm64}
kernel: {source: debian, suite: bookworm, package: linux-image-arm64, device_trees: [rockchip/rk3328-rock64.dtb]}
bootloader:
  type: uboot
  suite: bookworm
  packages: [u-boot-rockchip, other]
  addresses: {initrd: 0x6000000}
  blobs:
    - {name: idbloader, file: usr/lib/u-boot/rock64-rk3328/idbloader.img, sector: 64, max: 4MiB}
    - {name: fip, part: fip, partition: fip}
  files:
    - {to: u-boot.bin, from: usr/lib/u-boot/x/u-boot.bin, package: other}
parts:
  fip: {what: signed firmware, from: "https://maker.example/"}
image:
  size: 1024
  table: gpt
  partitions:
    - {name: fip, role: loader, format: raw, start: 8MiB, size: 512KiB}
    - {name: pvboot, role: boot, format: fat32, start: 16, size: 64}
    - {name: pvroot, role: root, format: ext4}
`

func TestBlobsAndParts(t *testing.T) {
	t.Parallel()
	target, err := parse("f", "board", []byte(soc), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := target.Bootloader.Blobs[0]; got.Where() != 32*KiB || target.BlobMax(got) != 4*MiB {
		t.Errorf("%+v at %s with %s", got, got.Where(), target.BlobMax(got))
	}
	if got := target.BlobMax(target.Bootloader.Blobs[1]); got != 512*KiB {
		t.Errorf("the blob of the partition has %s", got)
	}
	if got := strings.Join(target.PartNames(), " "); got != "fip" {
		t.Errorf("parts %q", got)
	}
	text := target.LackText("fip")
	for _, want := range []string{"part fip", "signed firmware", "https://maker.example/", "PV_PART_FIP=FILE", "PV_PART_FIP_SHA256", "base: board"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
}

func TestMistakesOfBlobsAndParts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ old, new, want string }{
		{"sector: 64", "sector: 33", "f:10:7: bootloader.blobs[0]: its space, bytes 16896 to 4211200, reaches into the partition table, bytes 446"},
		{"max: 4MiB", "max: 9MiB", "reaches into partition fip, bytes 8388608 to 8912896"},
		{"max: 4MiB", "max: 17179869184GiB", "is out of range"},
		{"max: 4MiB", "max: 4MB", `"4MB" is not a size`},
		{", max: 4MiB", "", "field max is missing"},
		{"sector: 64, ", "", "want one of sector, offset and partition"},
		{"sector: 64", "sector: 64, offset: 1", "want one of sector, offset and partition"},
		{"partition: fip}", "partition: flip}", `no partition has the name "flip"`},
		{"partition: fip}", "partition: pvboot}", "pvboot has the format fat32; want raw"},
		{"partition: fip}", "partition: fip, max: 1MiB}", "1MiB is larger than the partition, 512KiB"},
		{"part: fip, ", "part: flip, ", `there is no part "flip"`},
		{"part: fip, ", "part: fip, file: x, ", "want one of a file of a package and part"},
		{"part: fip, ", "", "want one of a file of a package and part"},
		{"file: usr/lib", "file: /usr/lib", "is not a clean path"},
		{"to: u-boot.bin", "to: ../u-boot.bin", "is not a clean path"},
		{"to: u-boot.bin", "to: u-boot.bin, role: root", "takes no files of the boot loader"},
		{"to: u-boot.bin", "to: u-boot.bin, role: oem", "no partition has the role oem"},
		{"package: other", "package: another", "is not one of bootloader.packages"},
		{"what: signed firmware, ", "", "field what is missing"},
		{"what: signed", "file: x, what: signed", "field sha256 is missing"},
		{"what: signed", "sha256: 00, what: signed", "is not a legal name"},
		{"  fip: {what", "  fop: {what: x}\n  fip: {what", "parts.fop: nothing in the target uses it"},
		{"format: raw, start", "format: fat32, start", "stages of a boot loader are not files: want raw"},
		{"size: 512KiB", "size: 511B", "is not a multiple of a sector"},
		{"start: 16,", "start: 8193KiB,", "8193KiB is not a multiple of 1MiB; say align: 1KiB"},
		{"size: 64}", "size: 64, flags: [bootable]}", `"bootable" is not a flag of a table of type gpt`},
		{"size: 64}", "size: 64, type: 0x0c}", "want a GUID"},
		{"rk3328-rock64.dtb", "rk3328-rock64", "kernel.device_trees[0]"},
		{"device_trees: [rockchip/rk3328-rock64.dtb]", "overlays: [a.dtbo]", "have no device tree to be applied to"},
		{"  suite: bookworm\n", "", "field suite is missing"},
	} {
		if !strings.Contains(soc, c.old) {
			t.Fatalf("the good file does not hold %q", c.old)
		}
		_, err := parse("f", "x", []byte(strings.Replace(soc, c.old, c.new, 1)), nil)
		if fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q for %q: kind %v: %v\nwant %q", c.new, c.old, fault.Of(err), err, c.want)
		}
	}
}
