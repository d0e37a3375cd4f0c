package ubootab

import (
	_ "embed"
	"fmt"
	"strings"

	"github.com/pantavisor/pantavisor/bootloader"
	"github.com/pantavisor/pantavisor/bootloader/uboot"
	"github.com/pantavisor/pantavisor/formats/fit"
	"github.com/pantavisor/pantavisor/formats/fitslot"
	"github.com/pantavisor/pantavisor/formats/ubootenv"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/subst"
	"github.com/pantavisor/pantavisor/revision/trail"
)

// Settings are the parts of the environment that depend on the target.
type Settings struct {
	// Slots are the two slots.
	Slots [2]Slot
	// Flash is where the memory with the slots is mapped, for NOR flash. 0: U-Boot reads them
	// with its command mtd, by their names.
	Flash uint64
	// Memory is where a slot is read to; with Flash, a word.
	Memory uint64
	// Arguments are the kernel's.
	Arguments []string
	// Trees are the device trees of the target, by their paths.
	Trees []string
	// boot replaces U-Boot's command in tests.
	boot string
}

// Slot is a place for a FIT.
type Slot struct {
	// Name is that of its partition.
	Name string
	// Offset and Size are in bytes, the offset from the beginning of the flash memory.
	Offset, Size int64
}

//go:embed env.tmpl
var variablesText string

var variablesTemplate = subst.Must("env", variablesText)

// separator divides the variables of the template.
const separator = "\n---\n"

// slot is one of the slots in the template.
type slot struct{ Letter, Name, Header, Mark, FIT, Length string }

// Variables returns the environment: U-Boot's bootcmd and what it runs, and the first state of
// the handshake.
func (s Settings) Variables() ([]ubootenv.Entry, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	var slots []slot
	for i, p := range s.Slots {
		at := s.Flash + uint64(p.Offset)
		slots = append(slots, slot{string(rune('a' + i)), p.Name, hex(at), hex(at + fitslot.MarkAt), hex(at + fitslot.Size), hex(uint64(p.Size) - fitslot.Size)})
	}
	b, err := variablesTemplate.Fill(map[string]any{
		"Slots": slots, "Mapped": s.Flash != 0, "Memory": hex(s.Memory), "Size": hex(fitslot.Size), "Boot": s.boot,
		"Arguments": strings.Join(append(append([]string{}, s.Arguments...), "rdinit=/init"), " "),
		"Trees":     uboot.Trees(s.Trees), "Plain": fit.PlainConfiguration, "First": trail.First,
	})
	if err != nil {
		return nil, fmt.Errorf("writing U-Boot's environment: %w", err)
	}
	var out []ubootenv.Entry
	for text := range strings.SplitSeq(strings.TrimSuffix(b, "\n"), separator) {
		name, value, _ := strings.Cut(text, "=")
		out = append(out, ubootenv.Entry{Name: name, Value: value})
	}
	return append(out, ubootenv.Entry{Name: "pv_rev", Value: trail.First}), nil
}

// hex returns a number as U-Boot's commands take it.
func hex(n uint64) string { return fmt.Sprintf("%x", n) }

func (s Settings) check() error {
	if err := bootloader.CheckArguments(s.Arguments); err != nil {
		return fault.Wrap(fault.BadInput, err, "writing U-Boot's environment")
	}
	for _, p := range s.Slots {
		if p.Size <= fitslot.Size {
			return fault.New(fault.BadInput, "writing U-Boot's environment: slot %s has %d bytes; its header alone has %d", p.Name, p.Size, fitslot.Size)
		}
	}
	if s.Memory == 0 {
		return fault.New(fault.BadInput, "writing U-Boot's environment: bootloader.addresses.initrd is missing: slots are read to there")
	}
	return nil
}
