package manifest

import (
	"sort"
	"strings"
)

// bsp reads bsp/run.json. One boot form is needed: fit wins over the image of a boot
// partition (rpiab, efiab), and that over kernel and initrd.
func (p *parser) bsp() {
	n, ok := p.value("bsp/run.json")
	if !ok {
		p.at("bsp/run.json").fail("missing; every device needs a BSP")
		return
	}
	o, ok := n.object()
	if !ok {
		return
	}
	b := &BSP{Modules: map[string]Artifact{}}
	p.sys.BSP = b
	slots := []string{"rpiab", "efiab"}
	if p.opt.Slot != "" {
		slots = []string{p.opt.Slot}
	}
	b.FIT, b.Slot = p.bspFile(o, "fit"), p.bspFile(o, slots...)
	b.Linux = p.bspFile(o, "linux", "kernel")
	b.Initrd = p.bspFile(o, "initrd", "pantavisor")
	b.FDT = p.bspFile(o, "fdt")
	if m, ok := o.member("firmware"); ok {
		b.Firmware = p.artifact(m, "bsp")
	}
	p.modules(o, b)
	b.Addons = p.addons(o)
	b.Compat = declared(o, "bsp")
	p.bootForm(o, b)
	if c, ok := o.member("initrd_config"); ok && c.str() != "" {
		c.note("has no effect")
	}
	o.known("initrd_config", "#spec", "name", "type")
	o.done()
}

// bspFile reads the first of the names that is there: the others are older
// spellings of the same thing.
func (p *parser) bspFile(o *object, names ...string) string {
	o.known(names...)
	for _, name := range names {
		n, ok := o.member(name)
		if !ok {
			continue
		}
		if text := n.str(); text != "" {
			p.hasFile(n, "bsp", text)
			return text
		}
	}
	return ""
}

func (p *parser) modules(o *object, b *BSP) {
	for _, m := range o.v.Members() {
		release, ok := strings.CutPrefix(m.Name, "modules_")
		if m.Name != "modules" && !ok {
			continue
		}
		if m.Name == "modules" {
			release = ""
		}
		if n, ok := o.member(m.Name); ok {
			b.Modules[release] = p.artifact(n, "bsp")
		}
	}
}

func (p *parser) addons(o *object) []string {
	n, ok := o.member("addons")
	if !ok {
		return nil
	}
	var out []string
	for _, e := range n.elems() {
		if text := e.str(); text != "" {
			p.hasFile(e, "bsp", text)
			out = append(out, text)
		}
	}
	return out
}

func (p *parser) bootForm(o *object, b *BSP) {
	switch {
	case p.opt.Slot != "" && b.Slot == "":
		o.fail("%s is missing; the boot loader %s needs it", p.opt.Slot, p.opt.Slot)
	case b.FIT != "" || b.Slot != "":
	case b.Linux == "" || b.Initrd == "":
		o.fail("nothing to boot: fit, rpiab, efiab, or linux and initrd are expected")
	}
}

// drivers reads bsp/drivers.json.
func (p *parser) drivers() {
	n, ok := p.value("bsp/drivers.json")
	if !ok {
		return
	}
	o, ok := n.object()
	if !ok {
		return
	}
	if spec := o.str("#spec"); spec != "driver-aliases@1" {
		o.fail("#spec is %.80q; driver-aliases@1 is expected", spec)
	}
	d := &Drivers{All: map[string][]string{}, Special: map[string]map[string][]string{}}
	p.sys.Drivers = d
	for _, m := range o.v.Members() {
		if !hardware(m.Name) {
			continue
		}
		if section, ok := o.member(m.Name); ok {
			d.Special[m.Name] = aliases(section)
		}
	}
	if all, ok := o.member("all"); ok {
		d.All = aliases(all)
	}
	o.done()
}

func hardware(section string) bool {
	for _, prefix := range []string{"dtb:", "ovl:", "fitconfig:"} {
		if strings.HasPrefix(section, prefix) {
			return true
		}
	}
	return false
}

func aliases(n node) map[string][]string {
	out := map[string][]string{}
	names, nodes := n.members()
	for i, name := range names {
		out[name] = nodes[i].strings()
	}
	return out
}

// defines reports whether any hardware has a driver of this name.
func (d *Drivers) defines(driver string) bool {
	if d == nil {
		return false
	}
	if _, ok := d.All[driver]; ok {
		return true
	}
	for _, section := range d.Special {
		if _, ok := section[driver]; ok {
			return true
		}
	}
	return false
}

// checkDrivers: a required driver that the BSP does not define fails the revision.
func (p *parser) checkDrivers() {
	if p.opt.AppEngine {
		return
	}
	for _, c := range p.sys.Containers {
		var missing []string
		for _, name := range c.Drivers.Required {
			if !p.sys.Drivers.defines(name) {
				missing = append(missing, name)
			}
		}
		if len(missing) > 0 {
			sort.Strings(missing)
			n := p.at(c.Name + "/run.json")
			n.path = "drivers.required"
			n.fail("bsp/drivers.json does not define %s", strings.Join(missing, ", "))
		}
	}
}
