package flash

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/internal/fault"
)

const sysBlock = "/sys/class/block"

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

// virtual are the devices of the kernel that are no disks of their own, and the partitions
// of an eMMC that hold no data of users.
var virtual = regexp.MustCompile(`^(loop|ram|zram|dm-|md|sr|fd|nbd|mtdblock|ubiblock)[0-9]|^mmcblk[0-9]+(boot[0-9]|rpmb)`)

// Disks lists the disks of this machine that have a medium, by their names, with numbers in
// names as numbers.
func Disks() ([]Disk, error) {
	entries, err := os.ReadDir("/sys/block")
	if err != nil {
		return nil, fault.Wrap(fault.IO, err, "listing disks")
	}
	var out []Disk
	for _, e := range entries {
		if virtual.MatchString(e.Name()) {
			continue
		}
		d, err := inspect(e.Name())
		if errors.Is(err, os.ErrNotExist) { // it was removed in the meantime
			continue
		}
		if err != nil {
			return nil, fault.Wrap(fault.IO, err, "listing disks")
		}
		if d.Size > 0 {
			out = append(out, d)
		}
	}
	slices.SortFunc(out, func(a, b Disk) int { return cmp.Compare(padded(a.Name), padded(b.Name)) })
	return out, nil
}

var digits = regexp.MustCompile(`[0-9]+`)

// padded gives numbers in a name a fixed width.
func padded(name string) string {
	return digits.ReplaceAllStringFunc(name, func(s string) string { return fmt.Sprintf("%010s", s) })
}

// inspect reads what the kernel says about a disk.
func inspect(name string) (Disk, error) {
	sys, err := filepath.EvalSymlinks(filepath.Join(sysBlock, name))
	if err != nil {
		return Disk{}, err
	}
	sectors, err := strconv.ParseInt(text(sys, "size"), 10, 54)
	if err != nil {
		return Disk{}, fmt.Errorf("reading the size of %s: %w", name, err)
	}
	// Names have '!' where paths have '/', as cciss!c0d0.
	d := Disk{Name: name, Path: "/dev/" + strings.ReplaceAll(name, "!", "/"), Size: sectors * 512}
	d.Model = strings.TrimSpace(text(sys, "device/vendor") + " " + cmp.Or(text(sys, "device/model"), text(sys, "device/name")))
	if strings.HasPrefix(d.Model, "0x") { // a number of virtio's
		d.Model = ""
	}
	d.ReadOnly = text(sys, "ro") == "1"
	d.Permanent = text(sys, "removable") == "0" && !strings.Contains(sys, "/usb") && text(sys, "device/type") != "SD"
	d.Uses, err = uses(sys)
	return d, err
}

// text returns the content of a file of sysfs, empty when there is none.
func text(dir, name string) string {
	b, _ := os.ReadFile(filepath.Join(dir, name)) // what a device lacks has no file
	return strings.TrimSpace(string(b))
}

// uses lists what uses a disk or its partitions.
func uses(sys string) ([]string, error) {
	parts, err := filepath.Glob(filepath.Join(sys, "*", "partition"))
	if err != nil {
		return nil, err
	}
	dirs := []string{sys}
	for _, p := range parts {
		dirs = append(dirs, filepath.Dir(p))
	}
	numbers := map[string]bool{}
	var out []string
	for _, dir := range dirs {
		numbers[text(dir, "dev")] = true
		holders, _ := os.ReadDir(filepath.Join(dir, "holders")) // old kernels have none
		for _, h := range holders {
			out = append(out, "part of "+cmp.Or(text(filepath.Join(sysBlock, h.Name()), "dm/name"), h.Name()))
		}
	}
	for _, list := range []func(map[string]bool) ([]string, error){mounts, swaps} {
		found, err := list(numbers)
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
	return out, nil
}

// mounts lists the mount points of devices, by MAJOR:MINOR (proc(5), mountinfo). File
// systems of several devices, as Btrfs, have a number of their own there: their source
// counts.
func mounts(numbers map[string]bool) ([]string, error) {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var out []string
	for line := range strings.Lines(string(table)) {
		head, tail, _ := strings.Cut(line, " - ")
		fields, more := strings.Fields(head), strings.Fields(tail)
		if len(fields) < 5 || len(more) < 2 {
			continue
		}
		if numbers[fields[2]] || numbers[number(more[1])] {
			out = append(out, "mounted on "+fields[4])
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// swaps lists the swap spaces on devices.
func swaps(numbers map[string]bool) ([]string, error) {
	table, err := os.ReadFile("/proc/swaps")
	if errors.Is(err, os.ErrNotExist) { // a kernel without swap
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []string
	for line := range strings.Lines(string(table)) {
		if path, _, _ := strings.Cut(line, " "); numbers[number(path)] {
			out = append(out, "swap on "+path)
		}
	}
	return out, nil
}

// number returns MAJOR:MINOR of a block device, "" of anything else.
func number(path string) string {
	var st unix.Stat_t
	if !strings.HasPrefix(path, "/") || unix.Stat(path, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return ""
	}
	rdev := uint64(st.Rdev) //nolint:unconvert // 32 bits wide on some architectures
	return fmt.Sprintf("%d:%d", unix.Major(rdev), unix.Minor(rdev))
}
