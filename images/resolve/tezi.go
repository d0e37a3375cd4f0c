package resolve

import (
	"cmp"
	"slices"

	"github.com/pantavisor/pantavisor/images"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/targets"
)

// teziVolume is the UBI volume of the storage, as devices of the field have it.
const teziVolume = "boot"

// tezi returns the bundle for the Toradex Easy Installer. A module whose blobs are optional
// and not given is left out.
func (p *providers) tezi() (*images.Tezi, error) {
	t := p.target
	if t.Tezi == nil || p.lacksMedium() {
		return nil, nil
	}
	out := &images.Tezi{Name: t.Description}
	for _, m := range t.Tezi.Modules {
		if slices.ContainsFunc(m.Blobs, func(b targets.Blob) bool { return p.leftOut(b.Part) }) {
			continue
		}
		module := images.TeziModule{Name: m.Name, Products: m.Products, NAND: m.NAND(), Volume: cmp.Or(m.Volume, teziVolume), Environment: m.Environment}
		for _, b := range m.Blobs {
			file, err := p.content(b.File, b.Package, b.Part)
			if err != nil {
				return nil, fault.Wrap(fault.BadInput, err, "adding blob %s for %s", b.Name, m.Name)
			}
			module.Blobs = append(module.Blobs, images.TeziBlob{Name: b.Name, File: file, Partition: b.Partition, Sector: int64(b.Where() / targets.Sector)})
		}
		out.Modules = append(out.Modules, module)
	}
	return out, nil
}
