package trail

import (
	"fmt"
	"strings"

	"github.com/pantavisor/pantavisor/revision/canon"
	"github.com/pantavisor/pantavisor/revision/state"
)

// BootLink is a fixed name under which the boot loader finds a file of the BSP.
type BootLink struct {
	Name   string // in the directory .pv
	Target string // state key
}

// BootLinks returns the boot links of a state, from bsp/run.json: fit wins over
// rpiab and efiab, and those over kernel, initrd and device tree; addons are numbered from
// 0 in their order. A state without bsp/run.json has none. Files that are named
// but not in the state are left out after a call of missing, or are an error when that is nil.
func BootLinks(st *state.State, missing func(error)) ([]BootLink, error) {
	run, ok := st.Value("bsp/run.json")
	if !ok {
		return nil, nil
	}
	var links []BootLink
	for _, l := range append(bootForm(run, st), addonLinks(run)...) {
		if _, ok := st.Object(l.Target); ok {
			links = append(links, l)
			continue
		}
		err := fmt.Errorf("reading bsp/run.json: %s for the boot loader: no object %q in the state", l.Name, l.Target)
		if missing == nil {
			return nil, err
		}
		missing(err)
	}
	return links, nil
}

func bootForm(run canon.Value, st *state.State) []BootLink {
	if fit := text(run, "fit"); fit != "" {
		return []BootLink{{"pantavisor.fit", "bsp/" + fit}}
	}
	for _, slot := range []struct{ member, name string }{{"rpiab", "rpiboot.img"}, {"efiab", "efiboot.img"}} {
		image := text(run, slot.member)
		if image == "" {
			continue
		}
		if strings.HasSuffix(image, ".gz") {
			slot.name += ".gz"
		}
		return []BootLink{{slot.name, "bsp/" + image}}
	}
	var links []BootLink
	if f := first(st, text(run, "linux"), text(run, "kernel"), "kernel.img"); f != "" {
		links = append(links, BootLink{"pv-kernel.img", "bsp/" + f})
	}
	if f := first(st, text(run, "initrd"), text(run, "pantavisor"), "pantavisor"); f != "" {
		links = append(links, BootLink{"pv-initrd.img", "bsp/" + f})
	}
	if f := text(run, "fdt"); f != "" {
		links = append(links, BootLink{"pv-fdt.dtb", "bsp/" + f})
	}
	return links
}

// first returns the first name that is set; the last one is a default that counts
// only when the state has it.
func first(st *state.State, names ...string) string {
	for _, n := range names[:len(names)-1] {
		if n != "" {
			return n
		}
	}
	last := names[len(names)-1]
	if _, ok := st.Object("bsp/" + last); ok {
		return last
	}
	return ""
}

func addonLinks(run canon.Value) []BootLink {
	addons, _ := run.Get("addons")
	var links []BootLink
	for i, a := range addons.Elems() {
		if name, ok := a.Text(); ok {
			links = append(links, BootLink{fmt.Sprintf("pv-initrd.img.%d", i), "bsp/" + name})
		}
	}
	return links
}

func text(v canon.Value, member string) string {
	m, _ := v.Get(member)
	t, _ := m.Text()
	return t
}
