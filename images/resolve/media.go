package resolve

import (
	"github.com/pantavisor/pantavisor/bootloader"
	"github.com/pantavisor/pantavisor/bootloader/loaders"
	"github.com/pantavisor/pantavisor/bootloader/uboot"
	"github.com/pantavisor/pantavisor/debian"
	"github.com/pantavisor/pantavisor/images"
	"github.com/pantavisor/pantavisor/images/layouts"
	"github.com/pantavisor/pantavisor/internal/fault"
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
	var media []images.Layout
	for _, im := range p.target.Images {
		media = append(media, layouts.Of(im))
	}
	if p.target.Bootloader == nil || len(media) == 0 && !p.target.Rootfs {
		return media, images.Loader{}, nil
	}
	loader, err := loaders.For(p.target)
	if err != nil {
		return nil, images.Loader{}, err
	}
	out, err := layouts.Loader(loader, media, p.kit(in))
	if err != nil {
		return nil, out, err
	}
	if err := p.targetBlobs(media); err != nil {
		return nil, out, err
	}
	files, err := p.targetFiles()
	out.Files = append(out.Files, files...)
	return media, out, err
}

// targetBlobs adds the blobs of the target to the layouts that they are on.
func (p *providers) targetBlobs(media []images.Layout) error {
	for _, b := range p.target.Bootloader.Blobs {
		if p.leftOut(b.Part) || len(media) == 0 {
			continue
		}
		file, err := p.content(b.File, b.Package, b.Part)
		if err != nil {
			return fault.Wrap(fault.BadInput, err, "adding blob %s", b.Name)
		}
		l := layouts.With(media, b.Partition)
		l.Blobs = append(l.Blobs, images.Blob{
			Name: b.Name, File: file, Skip: int64(b.Skip), Length: int64(b.Length), Swap: b.Swap, Partition: b.Partition,
			Offset: int64(b.Where()), Max: int64(p.target.BlobMax(b)),
		})
	}
	return nil
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
