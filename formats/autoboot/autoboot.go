// Package autoboot reads and writes autoboot.txt, in which a loader with two boot partitions
// finds the one to boot from and the one to try (Raspberry Pi documentation: autoboot.txt).
//
// The handshake with the runtime, with A as the default partition and N as a new revision. When
// B does not come up, the next boot is one of A: there is nothing to undo.
//
//	step                                      | next boot | after a power cut
//	N's image is written to B                 | A         | A
//	pv_try=N is written to the storage        | A         | A; the test has failed
//	the loader is asked for B; restart        | B, once   | A; the test has failed
//	B is good: autoboot.txt has B as default  | B         | B; N is tested again
//	pv_rev=N, pv_try= are written             | B         | B
//
// A Raspberry Pi is asked by a flag that is lost with the power, so a cut before the restart is a test
// that has failed. With GRUB it is [OnceFile], and the test then comes with the power.
package autoboot

import (
	"fmt"
	"strconv"
	"strings"
)

// FileName is the file's name on the first partition. RevisionFile is on each boot partition: the
// revisions whose BSP it holds, with commas.
const (
	FileName     = "autoboot.txt"
	RevisionFile = "pv_rev.txt"
)

// Size is that of both files: one sector, which is written as a whole
// or not at all. The firmware reads no more.
const Size = 512

// Choice are numbers of partitions: Default is booted from, Try once when the system has asked
// for it before a restart.
type Choice struct{ Default, Try int }

// Text returns the file's content of [Size] bytes.
func (c Choice) Text() string {
	return Pad(fmt.Sprintf("[all]\ntryboot_a_b=1\nboot_partition=%d\n[tryboot]\nboot_partition=%d\n", c.Default, c.Try))
}

// signature is the first line of an environment block of GRUB, for others a comment.
const signature = "# GRUB Environment Block\n"

// BlockText returns the content for a loader that is GRUB: its load_env finds Default in the
// variable boot_partition. What follows a line without '=' belongs to the name of another variable.
func (c Choice) BlockText() string {
	text := signature + c.Text()
	return text[:Size]
}

// OnceFile is on the first partition of a device whose loader is GRUB: the number of the partition to
// try, an environment block of one sector. GRUB removes the number before it tries.
const OnceFile = "tryboot.txt"

// OnceVariable is the variable of [OnceFile].
const OnceVariable = "pv_once"

// OnceText returns the content of [OnceFile] for the number of a partition, 0 for none.
func OnceText(number int) string {
	text := signature + OnceVariable + "="
	if number > 0 {
		text += strconv.Itoa(number)
	}
	return text + "\n" + strings.Repeat("#", Size-len(text)-1)
}

// Pad fills a text up to [Size] with empty lines.
func Pad(text string) string { return text + strings.Repeat("\n", max(0, Size-len(text))) }

// Swapped returns the choice with default and try exchanged.
func (c Choice) Swapped() Choice { return Choice{c.Try, c.Default} }

// Parse reads the file: the last boot_partition of a section that applies counts, as for the
// firmware. Sections for single models are passed over.
func Parse(text string) (Choice, error) {
	var c Choice
	section := "[all]"
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			section = line
			continue
		}
		number, ok := strings.CutPrefix(line, "boot_partition=")
		if !ok {
			continue
		}
		n, err := strconv.Atoi(number)
		if err != nil || n < 1 || n > 63 {
			return c, fmt.Errorf("reading %s: %q is not the number of a partition", FileName, number)
		}
		switch section {
		case "[all]":
			c.Default = n
		case "[tryboot]":
			c.Try = n
		}
	}
	if c.Default == 0 || c.Try == 0 || c.Default == c.Try {
		return c, fmt.Errorf("reading %s: want two boot partitions, found %d and %d to try", FileName, c.Default, c.Try)
	}
	return c, nil
}
