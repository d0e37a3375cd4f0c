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
	"github.com/pantavisor/pantavisor/internal/octal"
)

const sysBlock = "/sys/class/block"

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
	d.number, d.sequence = text(sys, "dev"), text(sys, "diskseq")
	d.ReadOnly = text(sys, "ro") == "1"
	d.Permanent = text(sys, "removable") == "0" && !strings.Contains(sys, "/usb") && text(sys, "device/type") != "SD" && !noHardware.MatchString(name)
	return d, d.findUses(sys)
}

// noHardware are devices whose content is a file or memory: nothing is built in there.
var noHardware = regexp.MustCompile(`^(loop|nbd|ram|zram)[0-9]`)

// text returns the content of a file of sysfs, empty when there is none.
func text(dir, name string) string {
	b, _ := os.ReadFile(filepath.Join(dir, name)) // what a device lacks has no file
	return strings.TrimSpace(string(b))
}

// systemPoints are where a machine's own system is mounted.
var systemPoints = []string{"/", "/usr", "/var", "/home", "/boot", "/boot/efi", "/efi", "/nix", "/ostree"}

// findUses finds what uses a disk or its partitions, also by way of other drivers.
func (d *Disk) findUses(sys string) error {
	numbers := map[string]bool{}
	if err := d.numbersOf(sys, numbers, 0); err != nil {
		return err
	}
	var err error
	if d.points, err = mounts(numbers); err != nil {
		return err
	}
	for _, point := range d.points {
		d.Uses = append(d.Uses, "mounted on "+point)
		d.System = d.System || slices.Contains(systemPoints, point)
	}
	swap, err := swaps(numbers)
	d.Uses, d.System = append(d.Uses, swap...), d.System || len(swap) > 0
	return err
}

// deepest bounds how many drivers are above each other.
const deepest = 8

// numbersOf collects MAJOR:MINOR of a device, of its partitions and of all devices that are
// made of them.
func (d *Disk) numbersOf(sys string, numbers map[string]bool, depth int) error {
	parts, err := filepath.Glob(filepath.Join(sys, "*", "partition"))
	if err != nil {
		return err
	}
	dirs := []string{sys}
	for _, p := range parts {
		dirs = append(dirs, filepath.Dir(p))
	}
	for _, dir := range dirs {
		numbers[text(dir, "dev")] = true
		for _, holder := range holders(dir) {
			d.held = true
			d.Uses = append(d.Uses, "part of "+cmp.Or(text(filepath.Join(sysBlock, holder), "dm/name"), holder))
			above, err := filepath.EvalSymlinks(filepath.Join(sysBlock, holder))
			if err != nil || depth == deepest { // it went away in the meantime
				continue
			}
			if err := d.numbersOf(above, numbers, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

// holders returns the names of the devices that are made of a device. The kernel lists those of
// its drivers; loop devices know what they are of.
func holders(sys string) (out []string) {
	entries, _ := os.ReadDir(filepath.Join(sys, "holders")) // old kernels have none
	for _, e := range entries {
		out = append(out, e.Name())
	}
	loops, _ := filepath.Glob("/sys/block/loop*/loop/backing_file") // the pattern is right
	for _, l := range loops {
		if n := number(text(filepath.Dir(l), filepath.Base(l))); n != "" && n == text(sys, "dev") {
			out = append(out, filepath.Base(filepath.Dir(filepath.Dir(l))))
		}
	}
	return out
}

// Unmount unmounts the file systems of a disk. The error has the kind [fault.BadInput] for the
// disk of the system, for one that another driver has, and for one that is in use.
func (d Disk) Unmount() error {
	switch {
	case d.System:
		return fault.New(fault.BadInput, "unmounting %s: this machine runs from it: %s", d.Path, strings.Join(d.Uses, ", "))
	case d.held:
		return fault.New(fault.BadInput, "unmounting %s: another driver has it: %s; end that first", d.Path, strings.Join(d.Uses, ", "))
	}
	// What is mounted below another point comes first.
	for _, point := range slices.Backward(d.points) {
		err := unix.Unmount(point, unix.UMOUNT_NOFOLLOW)
		switch {
		case errors.Is(err, unix.EBUSY):
			return fault.New(fault.BadInput, "unmounting %s: a program uses a file below %s: end it", d.Path, point)
		case err != nil:
			return fault.Wrap(fault.IO, err, "unmounting %s from %s", d.Path, point)
		}
	}
	return nil
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
			out = append(out, octal.Unescape(fields[4]))
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
