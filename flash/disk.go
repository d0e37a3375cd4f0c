package flash

import (
	"strings"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// Disk is a whole disk of this machine.
type Disk struct {
	// Name is the kernel's, sda; Path is /dev/sda.
	Name, Path string
	// Model is what the disk calls itself; may be empty.
	Model string
	// Size is in bytes.
	Size int64
	// Permanent is set for a disk that is built in: neither removable nor on USB, and not
	// an SD card.
	Permanent bool
	// ReadOnly is set for a disk that cannot be written.
	ReadOnly bool
	// Uses are what uses the disk or its partitions, for people: "mounted on /boot".
	Uses []string
	// System is set for a disk that holds what this machine runs from: its root, /usr, /var, a
	// boot partition or swap, also by way of other drivers.
	System bool

	points   []string // where it is mounted
	held     bool     // by another driver
	number   string   // MAJOR:MINOR
	sequence string   // the kernel's number of this disk and medium, "" of old kernels
}

// Usable returns nil for a disk that can be overwritten, or why it cannot.
func (d Disk) Usable() error {
	switch {
	case len(d.Uses) > 0:
		return fault.New(fault.BadInput, "the disk is in use: %s", strings.Join(d.Uses, ", "))
	case d.ReadOnly:
		return fault.New(fault.BadInput, "the disk is read-only: is there a switch on it?")
	}
	return nil
}
