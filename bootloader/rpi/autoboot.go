package rpi

import (
	"fmt"
	"strings"
)

// Files of the handshake with the firmware. Each is one sector long, so that the device
// changes it with a single write that is either done or not.
const (
	// AutoBootFile is on the partition with the role bootsel.
	AutoBootFile = "autoboot.txt"
	// RevisionFile is on each boot partition: the revisions whose BSP it holds, with commas.
	RevisionFile = "pv_rev.txt"
)

const sectorSize = 512

// AutoBoot is the content of autoboot.txt: the numbers of the partitions that the firmware
// boots from, and those from which it boots once when the system has set the tryboot flag
// before a restart.
//
// The handshake with the runtime, with A as the default partition and N as a new revision:
//
//	step                                     | flag | next boot     | after a power cut
//	N's image is written to B, pv_rev.txt    | -    | A             | A
//	pv_try=N in boot/rpiab.txt on the storage | -   | A             | A; N has failed
//	the flag is set; restart                 | set  | B, once       | A; N has failed
//	B runs and is good: autoboot.txt says B  | -    | B             | B; N is tried again and committed
//	pv_rev=N, pv_try= in boot/rpiab.txt      | -    | B             | B
//
// When B does not come up, the next boot is one of A: there is nothing to undo.
type AutoBoot struct{ Default, Try int }

// Text returns the file's content, one sector.
func (a AutoBoot) Text() string {
	return sector(fmt.Sprintf("[all]\ntryboot_a_b=1\nboot_partition=%d\n[tryboot]\nboot_partition=%d\n", a.Default, a.Try))
}

// sector fills a text up to the size of a sector with empty lines.
func sector(text string) string {
	return text + strings.Repeat("\n", max(0, sectorSize-len(text)))
}
