package targets

import (
	"strings"
	"testing"
)

// TestMistakesOfUBoot: the script needs a place for the initrd, and nothing may be set that
// nobody reads.
func TestMistakesOfUBoot(t *testing.T) {
	t.Parallel()
	const head = "description: d\narch: {go: arm64, debian: arm64}\nkernel: {source: debian, suite: bookworm, package: linux-image-arm64}\n" +
		"image: {size: 512, table: mbr, partitions: [{name: pvboot, role: boot, format: fat32, size: 64}, {name: pvroot, role: root, format: ext4}]}\nbootloader: "
	for loader, want := range map[string]string{
		"{type: uboot, addresses: {initrd: 0x48000000}}": "",
		"{type: uboot}": "addresses.initrd is missing",
		"{type: uboot, addresses: {kernel: 0x40000000}}":                                "addresses.initrd is missing",
		"{type: uboot, addresses: {initrd: 0x48000000}, packages: [u-boot-qemu]}":       "bootloader.packages: are for blobs and files",
		"{type: uboot, addresses: {initrd: 0x48000000}, suite: bookworm}":               "bootloader.suite: is that of packages",
		"{type: uboot, addresses: {initrd: 0x48000000}, timeout: 3}":                    "bootloader.timeout: is only for type: grub",
		"{type: grub, suite: bookworm, packages: [gg], addresses: {initrd: 0x4800000}}": "bootloader.addresses: is only for type: uboot",
	} {
		_, err := parse("f", "x", []byte(head+loader+"\n"), nil)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v; want %q", loader, err, want)
		}
	}
}
