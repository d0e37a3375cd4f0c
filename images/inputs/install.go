package inputs

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/pantavisor/pantavisor/images"
	"github.com/pantavisor/pantavisor/targets"
)

// Defaults of media that install.
const (
	installerSize = 1024 // MiB
	teziVolume    = "boot"
)

// installing checks what installs the image.
func (l *List) installing(r checker) {
	for output, given := range map[images.Output]bool{images.OutputInstaller: l.Installer != nil, images.OutputTezi: l.Tezi != nil} {
		if !given && slices.Contains(l.Outputs, string(output)) {
			r.Wrong("outputs", "%s: field %s is missing", output, output)
		}
	}
	if i := l.Installer; i != nil && i.File != "" {
		r.Form("installer.file", i.File, fileForm)
	}
	if l.Tezi == nil {
		return
	}
	for i, m := range l.Tezi.Modules {
		names := map[string]string{} // paths by the names in the bundle
		for j, b := range m.Blobs {
			at, name := fmt.Sprintf("tezi.modules[%d].blobs[%d].path", i, j), filepath.Base(b.Path)
			r.Form(at, name, fileForm)
			if other, there := names[name]; there && other != b.Path { // one file may fill several partitions
				r.Wrong(at, "%q is there twice: the bundle has one file of a name for each of the modules", name)
			}
			names[name] = b.Path
		}
	}
}

// install adds what installs the image.
func (l *List) install(in *images.Inputs) {
	if i := l.Installer; i != nil {
		size := cmp.Or(i.Size, installerSize)
		in.Installer = &images.Installer{
			File: cmp.Or(i.File, fmt.Sprintf("%s-installer-pv-%dMiB.img", l.Target, size)), Size: size,
			Program: l.program("installer.program", i.Program),
			Files:   images.Artefact{Step: l.directory("installer.tree", i.Tree.Path, i.Tree.SHA256)},
		}
	}
	if l.Tezi == nil {
		return
	}
	in.Tezi = &images.Tezi{Name: cmp.Or(l.Tezi.Name, l.Target)}
	for i, m := range l.Tezi.Modules {
		in.Tezi.Modules = append(in.Tezi.Modules, l.module(indexed("tezi.modules", i), m))
	}
}

// module describes a kind of modules for the Easy Installer.
func (l *List) module(at string, m TeziModule) images.TeziModule {
	as := m.target()
	out := images.TeziModule{
		Name: m.Name, Products: m.Products, NAND: as.NAND(), Volume: cmp.Or(m.Volume, teziVolume), Environment: m.Environment,
	}
	for i, b := range m.Blobs {
		step := &fileStep{Input: indexed(at+".blobs", i), SHA256: b.SHA256, To: filepath.Base(b.Path), path: l.place(b.Path)}
		out.Blobs = append(out.Blobs, images.TeziBlob{
			Name: b.Name, File: images.Artefact{Step: step, File: step.To}, Partition: b.Partition,
			Sector: int64(as.Blobs[i].Where() / targets.Sector),
		})
	}
	return out
}

// given is the part that files of a list come from when they are checked as those of a target.
const given = "given"

// target describes the modules as a target's file does.
func (m TeziModule) target() targets.TeziModule {
	out := targets.TeziModule{Name: m.Name, Products: m.Products, Flash: m.Flash, Volume: m.Volume, Environment: m.Environment}
	for _, b := range m.Blobs {
		out.Blobs = append(out.Blobs, targets.Blob{Name: b.Name, Part: given, Sector: b.Sector, Offset: b.Offset, Partition: b.Partition})
	}
	return out
}
