package resolve

import (
	"slices"

	"github.com/pantavisor/pantavisor/bootloader"
	"github.com/pantavisor/pantavisor/bootloader/loaders"
	"github.com/pantavisor/pantavisor/bootloader/uboot"
	"github.com/pantavisor/pantavisor/debian"
	"github.com/pantavisor/pantavisor/images"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/targets"
)

// media returns the layouts of the media and the boot loader's inputs, which are made from
// all other inputs. An App Engine has no medium, only values of a boot loader.
func (p *providers) media(in *images.Inputs) ([]images.Layout, images.Loader, error) {
	if p.target.AppEngine != nil {
		return nil, images.Loader{State: &images.Artefact{Step: &uboot.State{}}}, nil
	}
	if p.lacksMedium() {
		return nil, images.Loader{}, nil
	}
	var layouts []images.Layout
	for _, im := range p.target.Images {
		layouts = append(layouts, layoutOf(im))
	}
	if p.target.Bootloader == nil || len(layouts) == 0 && !p.target.Rootfs {
		return layouts, images.Loader{}, nil
	}
	loader, err := loaders.For(p.target)
	if err != nil {
		return nil, images.Loader{}, err
	}
	out, err := loaderInputs(loader, layouts, p.kit(in))
	if err != nil {
		return nil, out, err
	}
	if err := p.targetBlobs(layouts); err != nil {
		return nil, out, err
	}
	files, err := p.targetFiles()
	out.Files = append(out.Files, files...)
	return layouts, out, err
}

// loaderInputs asks a boot loader for everything that it needs on the media; blobs that are
// not in a partition are on the first one.
func loaderInputs(loader bootloader.Loader, layouts []images.Layout, kit bootloader.Kit) (images.Loader, error) {
	var out images.Loader
	for _, l := range layouts {
		for _, part := range l.Partitions {
			tree, err := loader.Files(part.Role, kit)
			if err != nil {
				return out, err
			}
			if tree != nil {
				out.Files = append(out.Files, images.RoleFiles{Role: part.Role, Tree: images.Artefact{Step: tree}})
			}
		}
	}
	blobs, err := loaderBlobs(loader, kit)
	if err != nil {
		return out, err
	}
	for _, b := range blobs {
		if len(layouts) == 0 { // somebody else makes the medium
			break
		}
		l := layoutWith(layouts, b.Partition)
		l.Blobs = append(l.Blobs, b)
	}
	if s, ok := loader.(bootloader.Slotted); ok {
		if role, key, file := s.Slot(); role != "" {
			out.Slot = &images.Slot{Role: role, Key: key, File: file}
		}
	}
	if state := loader.State(); state != nil {
		out.State = &images.Artefact{Step: state}
	}
	return out, nil
}

// loaderBlobs returns what a boot loader writes outside of partitions.
func loaderBlobs(loader bootloader.Loader, kit bootloader.Kit) ([]images.Blob, error) {
	blobs, err := loader.Raw(kit)
	var out []images.Blob
	for _, b := range blobs {
		out = append(out, images.Blob{Name: b.Name, File: images.Artefact{Step: b.File.Step, File: b.File.Path}, Partition: b.Partition, Offset: b.Offset, Max: b.Max})
	}
	return out, err
}

// targetBlobs adds the blobs of the target to the layouts that they are on.
func (p *providers) targetBlobs(layouts []images.Layout) error {
	for _, b := range p.target.Bootloader.Blobs {
		if p.leftOut(b.Part) || len(layouts) == 0 {
			continue
		}
		file, err := p.content(b.File, b.Package, b.Part)
		if err != nil {
			return fault.Wrap(fault.BadInput, err, "adding blob %s", b.Name)
		}
		l := layoutWith(layouts, b.Partition)
		l.Blobs = append(l.Blobs, images.Blob{
			Name: b.Name, File: file, Skip: int64(b.Skip), Length: int64(b.Length), Swap: b.Swap, Partition: b.Partition,
			Offset: int64(b.Where()), Max: int64(p.target.BlobMax(b)),
		})
	}
	return nil
}

// layoutWith returns the medium with a partition, the first one for "" and unknown names.
func layoutWith(layouts []images.Layout, partition string) *images.Layout {
	for i := range layouts {
		for _, p := range layouts[i].Partitions {
			if p.Name == partition {
				return &layouts[i]
			}
		}
	}
	return &layouts[0]
}

// targetFiles returns the further files of the target for partitions that firmware reads.
func (p *providers) targetFiles() ([]images.RoleFiles, error) {
	var out []images.RoleFiles
	for _, f := range p.target.Bootloader.Files {
		if p.leftOut(f.Part) {
			continue
		}
		file, err := p.content(f.From, f.Package, f.Part)
		if err != nil {
			return nil, fault.Wrap(fault.BadInput, err, "adding %s", f.To)
		}
		step := bootloader.NewCopy(f.To, fileOf(file))
		out = append(out, images.RoleFiles{Role: f.PartitionRole(), Tree: images.Artefact{Step: step}})
	}
	return out, nil
}

// content returns a file of a Debian package of the boot loader, or a named part.
func (p *providers) content(file, pkg, part string) (images.Artefact, error) {
	if part != "" {
		return p.part(part)
	}
	b := p.target.Bootloader
	if pkg == "" {
		pkg = b.Packages[0]
	}
	fetch, err := p.Parts.Fetch(bootloader.Packages(p.target)[0], pkg)
	if err != nil {
		return images.Artefact{}, err
	}
	return images.Artefact{Step: &debian.Unpack{Keep: []string{file}, Package: fetch}, File: file}, nil
}

func layoutOf(im targets.Image) images.Layout {
	out := images.Layout{
		File: im.File, Size: im.Size, Table: im.Table, Block: int64(im.Block), Page: int64(im.Page), Compress: im.Compress, QCOW2: slices.Contains(im.Forms, "qcow2"),
	}
	for _, p := range im.Partitions {
		out.Partitions = append(out.Partitions, images.Partition{
			Name: p.Name, Role: p.Role, Format: p.Format, Type: p.Type, Flags: p.Flags, Start: int64(p.Start), Size: int64(p.Size),
		})
	}
	return out
}
