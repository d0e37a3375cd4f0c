package uboot

import (
	_ "embed"
	"fmt"
	"path"
	"strings"

	"github.com/pantavisor/pantavisor/bootloader"
	"github.com/pantavisor/pantavisor/formats/fit"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/subst"
	"github.com/pantavisor/pantavisor/revision/trail"
)

// Settings are the parts of the boot script that depend on the target.
type Settings struct {
	// Root is the number of the storage's partition.
	Root int
	// Arguments are the kernel's, as for [grub.Settings].
	Arguments []string
	// Firmware adds the arguments that the firmware's device tree has.
	Firmware bool
	// Boot is U-Boot's command for the kernel's form: booti, bootz or bootm.
	Boot string
	// Kernel, Initrd and DTB are where U-Boot loads to. Zero: its own variables
	// kernel_addr_r, ramdisk_addr_r and fdt_addr_r say it; the places of addons need Initrd.
	Kernel, Initrd, DTB uint64
	// Trees are the device trees of the target, by their paths.
	Trees []string
}

// Sizes in bytes of the places of the initrd's archives in memory.
const (
	baseSize  = 16 << 20
	addonSize = 4 << 20
	slots     = 8
)

// stateSize is the size of pv.env, storeSize how much of boot/uboot.txt is read.
const (
	stateSize = 512
	storeSize = 1024
)

//go:embed boot.cmd.tmpl
var scriptText string

var scriptTemplate = subst.Must("boot.cmd", scriptText)

// address is a variable of the script.
type address struct{ Name, Value string }

// place is where an addon goes.
type place struct {
	Number             int
	Address, End, Size string
}

// Script returns the text of the boot script.
func (s Settings) Script() (string, error) {
	if err := s.check(); err != nil {
		return "", err
	}
	b, err := scriptTemplate.Fill(map[string]any{
		"Root": fmt.Sprintf("%x", s.Root), "Addresses": s.addresses(), "Boot": s.Boot, "Trees": Trees(s.Trees), "Plain": fit.PlainConfiguration,
		"Addons": s.addons(), "Firmware": s.Firmware, "Slots": slots,
		"StateSize": hex(stateSize), "StoreSize": hex(storeSize), "BaseSize": hex(baseSize), "AllWords": hex((baseSize + slots*addonSize) / 4),
		"Arguments": strings.Join(append(append([]string{}, s.Arguments...), "rdinit=/init"), " "), "First": trail.First,
	})
	if err != nil {
		return "", fmt.Errorf("writing the boot script: %w", err)
	}
	return b, nil
}

// hex returns a number as U-Boot's commands take it.
func hex(n uint64) string { return fmt.Sprintf("%x", n) }

func (s Settings) addresses() []address {
	var out []address
	for _, a := range []struct {
		name, or string
		value    uint64
	}{{"pv_kernel", "${kernel_addr_r}", s.Kernel}, {"pv_initrd", "${ramdisk_addr_r}", s.Initrd}, {"pv_dtb", "${fdt_addr_r}", s.DTB}} {
		value := a.or
		if a.value != 0 {
			value = hex(a.value)
		}
		out = append(out, address{a.name, value})
	}
	return out
}

// Tree is a device tree and the name of its configuration in a FIT.
type Tree struct {
	// Name is its path below the kernel's directory of device trees. U-Boot's variable fdtfile
	// has it or, on some boards, its last part: Base.
	Name, Base    string
	Configuration string
}

// Trees returns device trees by their paths.
func Trees(names []string) []Tree {
	var out []Tree
	for _, name := range names {
		out = append(out, Tree{name, path.Base(name), fit.ConfigurationName(name)})
	}
	return out
}

func (s Settings) addons() []place {
	var out []place
	for n := range uint64(slots) {
		at := baseSize + n*addonSize
		out = append(out, place{int(n), hex(s.Initrd + at), hex(at + addonSize), hex(addonSize)})
	}
	return out
}

func (s Settings) check() error {
	if s.Root < 1 {
		return fault.New(fault.BadInput, "writing the boot script: the storage is not a partition")
	}
	if s.Initrd == 0 {
		return fault.New(fault.BadInput, "writing the boot script: bootloader.addresses.initrd is missing: archives of the initrd are placed behind it")
	}
	if err := bootloader.CheckArguments(s.Arguments); err != nil {
		return fault.Wrap(fault.BadInput, err, "writing the boot script")
	}
	return nil
}
