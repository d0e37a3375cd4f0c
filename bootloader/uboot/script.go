package uboot

import (
	_ "embed"
	"fmt"
	"regexp"
	"strings"
	"text/template"

	"github.com/pantavisor/pantavisor/internal/fault"
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

var scriptTemplate = template.Must(template.New("boot.cmd").Parse(scriptText))

var (
	argumentForm = regexp.MustCompile(`^[A-Za-z0-9_.,:/=@%+-]+$`)
	reserved     = regexp.MustCompile(`^(pv_boot_partuuid|pv_rev|pv_try|rdinit)=`)
)

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
	var b strings.Builder
	err := scriptTemplate.Execute(&b, map[string]any{
		"Root": fmt.Sprintf("%x", s.Root), "Addresses": s.addresses(), "Boot": s.Boot, "Addons": s.addons(), "Firmware": s.Firmware, "Slots": slots,
		"StateSize": hex(stateSize), "StoreSize": hex(storeSize), "BaseSize": hex(baseSize), "AllWords": hex((baseSize + slots*addonSize) / 4),
		"Arguments": strings.Join(append(append([]string{}, s.Arguments...), "rdinit=/init"), " "), "First": trail.First,
	})
	if err != nil {
		return "", fmt.Errorf("writing the boot script: %w", err)
	}
	return b.String(), nil
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
	for _, a := range s.Arguments {
		if !argumentForm.MatchString(a) || reserved.MatchString(a) {
			return fault.New(fault.BadInput, "writing the boot script: kernel argument %q: want letters, digits and _.,:/=@%%+- "+
				"and none of pv_boot_partuuid=, pv_rev=, pv_try=, rdinit=", a)
		}
	}
	return nil
}
