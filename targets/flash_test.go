package targets

import (
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// nand is a board with its storage on raw NAND flash.
const nand = `description: Board with NAND
arch: {go: arm, arm: "7", debian: armhf}
kernel: {source: debian, suite: bookworm, package: linux-image-armmp, format: uImage}
bootloader: {type: uboot-flash, addresses: {initrd: 0x84000000, flash: 0xbe000000}}
image:
  size: 512
  block: 128KiB
  page: 2KiB
  table: mtd
  partitions:
    - {name: u-boot-env, role: env, format: raw, size: 512KiB}
    - {name: boot, role: root, format: ubifs}
`

func TestStorageOnRawFlash(t *testing.T) {
	t.Parallel()
	if _, err := parse("f", "x", []byte(nand), nil); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ old, new, want string }{
		{"  block: 128KiB\n", "", "fields block and page are missing"},
		{"page: 2KiB", "page: 3KiB", "f:7:3: image.block: 128KiB is not possible with pages of 3KiB"},
		{"size: 512KiB", "size: 1536KiB, start: 64KiB, align: 64KiB", ""},
		{"name: boot, role: root, format: ubifs", "name: boot, role: root, format: ubifs, start: 576KiB, align: 64KiB", "must be multiples of an erase block, 128KiB"},
		{"table: mtd", "table: mbr", "a storage on raw flash, with table: mtd, is a ubifs"},
		{"format: ubifs", "format: ext4", "a storage on raw flash, with table: mtd, is a ubifs"},
		{"size: 512KiB", "size: 513MiB", "the image at 512MiB"},
	} {
		_, err := parse("f", "x", []byte(strings.Replace(nand, c.old, c.new, 1)), nil)
		if c.want != "" && (fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%q for %q: %v; want %s", c.new, c.old, err, c.want)
		}
		if c.want == "" && err != nil {
			t.Errorf("%q for %q: %v", c.new, c.old, err)
		}
	}
}
