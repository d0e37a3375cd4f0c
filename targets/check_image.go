package targets

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/internal/yamlfile"
)

// images checks all media of a target.
func (r checker) images(t *Target) {
	if len(t.Images) == 0 {
		r.Wrong("image", "is empty: leave it out instead")
	}
	for i := range t.Images {
		at := r.imagePath(i)
		r.image(at, t, &t.Images[i])
		r.imageFile(at, i, t.Images)
	}
	r.partitionNames(t)
	r.roles(t)
}

// imagePath is where the file has an image: as one block or in a list.
func (r checker) imagePath(i int) string {
	if r.Given("image[0]") {
		return fmt.Sprintf("image[%d]", i)
	}
	return "image"
}

func (r checker) imageFile(at string, i int, all Images) {
	im := all[i]
	switch {
	case im.File == "" && i > 0:
		r.Wrong(at, "field file is missing: name the image's file; only the first has a name of its own")
	case im.File != "":
		r.Form(at+".file", im.File, fileForm)
		if slices.IndexFunc(all, func(o Image) bool { return o.File == im.File }) < i {
			r.Wrong(at+".file", "%q is there twice", im.File)
		}
	}
}

func (r checker) image(at string, t *Target, im *Image) {
	if t.Bootloader == nil {
		r.Wrong(at, "cannot boot: the target has no bootloader")
	} else {
		r.bootable(at, t.Bootloader, im)
	}
	if len(im.Partitions) == 0 {
		r.Wrong(at+".partitions", "is empty: want at least boot and root")
		return
	}
	v, _ := lookup(values["image.table"], im.Table)
	if most := v.table.most; most != 0 && len(im.Partitions) > most {
		r.Wrong(at+".partitions", "has %d; a table of type %s holds %d", len(im.Partitions), im.Table, most)
	}
	r.flash(at, im)
	next := im.first()
	for i, p := range im.Partitions {
		place := partPath(at, i)
		r.partition(place, p, i == len(im.Partitions)-1)
		r.typed(place, p, v)
		next = r.extent(place, p, im, next)
	}
}

// flash checks that a storage on raw flash has the format for it, and its geometry.
func (r checker) flash(at string, im *Image) {
	for i, p := range im.Partitions {
		raw := im.Table == flashTable
		if p.Role == "root" && p.Format != "" && raw != (p.Format == flashFormat) {
			r.Wrong(partPath(at, i)+".format", "a storage on raw flash, with table: mtd, is a ubifs; others are not")
		}
		if p.Format != flashFormat {
			continue
		}
		switch {
		case im.Block == 0 || im.Page == 0:
			r.Wrong(at, "fields block and page are missing: ubifs needs the sizes of the flash's erase blocks and pages")
		case im.Page&(im.Page-1) != 0 || im.Block%im.Page != 0 || im.Block < 8*im.Page:
			r.Wrong(at+".block", "%s is not possible with pages of %s", im.Block, im.Page)
		case p.Start%im.Block != 0 || p.Size%im.Block != 0:
			r.Wrong(partPath(at, i), "start and size must be multiples of an erase block, %s", im.Block)
		}
	}
}

// flashTable and flashFormat are the table and the format of the storage of raw flash.
const (
	flashTable  = "mtd"
	flashFormat = "ubifs"
)

// typed checks a partition's type and flags.
func (r checker) typed(at string, p Partition, table value) {
	if kind := table.table.kind; kind.form != nil && p.Type != "" && !kind.form.MatchString(p.Type) {
		r.Wrong(at+".type", "%q is not a type of a table of type %s; want %s", p.Type, table.name, kind.want)
	}
	for i, flag := range p.Flags {
		if table.name != "" && !slices.Contains(table.table.flags, flag) {
			r.Wrong(fmt.Sprintf("%s.flags[%d]", at, i), "%q is not a flag of a table of type %s", flag, table.name)
		}
	}
}

// partitionNames checks that no two partitions of all media have the same name: the runtime
// finds its storage by the label.
func (r checker) partitionNames(t *Target) {
	seen := map[string]bool{}
	for i, im := range t.Images {
		for j, p := range im.Partitions {
			if seen[p.Name] {
				r.Wrong(partPath(r.imagePath(i), j)+".name", "%q is there twice", p.Name)
			}
			seen[p.Name] = true
		}
	}
}

// roles checks how many partitions have each role, and which is last.
func (r checker) roles(t *Target) {
	var needed []string
	if t.Bootloader != nil {
		v, _ := lookup(values["bootloader.type"], t.Bootloader.Type)
		needed = v.loader.roles
	}
	for _, v := range values["image.partitions.role"] {
		least := v.role.least
		if slices.Contains(needed, v.name) {
			least = max(least, 1)
		}
		n := 0
		for _, im := range t.Images {
			n += count(im.Partitions, v.name)
		}
		for i, im := range t.Images {
			if v.role.last && (count(im.Partitions, v.name) > 0 || n == 0) {
				r.last(r.imagePath(i), im, v)
			}
		}
		if tooMany := v.role.most > 0 && n > v.role.most; n < least || tooMany {
			r.Wrong(r.imagePath(0)+".partitions", "%d partitions with role %s; want %s", n, v.name, amount(least, v.role.most))
		}
	}
}

// last checks that a partition that must be the last one of its image is.
func (r checker) last(at string, im Image, role value) {
	last := len(im.Partitions) - 1
	if last >= 0 && im.Partitions[last].Role != role.name {
		r.Wrong(partPath(at, last)+".role", "the last partition must be %s: it grows to the end of the medium", role.name)
	}
}

// amount returns a range in words; most 0 is any number.
func amount(least, most int) string {
	switch {
	case least == 1 && most == 1:
		return "one"
	case most == 0:
		return fmt.Sprintf("at least %d", least)
	case least == 0:
		return fmt.Sprintf("at most %d", most)
	}
	return fmt.Sprintf("%d to %d", least, most)
}

// bootable checks that the boot loader reads the image's partition table.
func (r checker) bootable(at string, b *Bootloader, im *Image) {
	v, known := lookup(values["bootloader.type"], b.Type)
	if table := im.Table; known && table != "" && len(v.loader.tables) > 0 && !slices.Contains(v.loader.tables, table) {
		r.Unsupported(at+".table", "%q is not supported with bootloader.type %s; supported: %s", table, v.name, strings.Join(v.loader.tables, ", "))
	}
}

func partPath(image string, i int) string { return fmt.Sprintf("%s.partitions[%d]", image, i) }

func count(parts []Partition, role string) int {
	n := 0
	for _, p := range parts {
		if p.Role == role {
			n++
		}
	}
	return n
}

func (r checker) partition(at string, p Partition, last bool) {
	r.Form(at+".name", p.Name, labelForm)
	v, known := lookup(values["image.partitions.format"], p.Format)
	format := v.format
	if known && format.label > 0 && len(p.Name) > format.label {
		r.Wrong(at+".name", "%q has %d characters; a label of %s holds %d", p.Name, len(p.Name), p.Format, format.label)
	}
	if p.Size == 0 && !last {
		r.Wrong(at, "field size is missing: only the last partition may take what is left")
	}
	if p.Size > 0 && p.Size < format.minimum {
		r.Wrong(at+".size", "%s is too small for %s; want at least %s", p.Size, p.Format, format.minimum)
	}
	if format.maximum > 0 && p.Size > format.maximum {
		r.Wrong(at+".size", "%s is too large for %s; want at most %s", p.Size, p.Format, format.maximum)
	}
	r.sectors(at, p)
	r.formatOfRole(at+".format", p)
}

// sectors checks that a partition consists of whole sectors and begins where it wants to.
func (r checker) sectors(at string, p Partition) {
	for field, size := range map[string]Size{".align": p.Align, ".start": p.Start, ".size": p.Size} {
		if size%Sector != 0 {
			r.Wrong(at+field, "%s is not a multiple of a sector, %s", size, Sector)
		}
	}
	if align := p.aligned(1); p.Start%align != 0 {
		r.Wrong(at+".start", "%s is not a multiple of %s; say align: %s if the partition may begin there", p.Start, align, largestFactor(p.Start))
	}
}

// largestFactor returns the largest power of two that divides a size.
func largestFactor(s Size) Size { return s & -s }

// formatOfRole checks that a partition's role may have its format.
func (r checker) formatOfRole(at string, p Partition) {
	v, known := lookup(values["image.partitions.role"], p.Role)
	switch formats := v.role.formats; {
	case !known || p.Format == "" || len(formats) == 0 || slices.Contains(formats, p.Format):
	case v.role.reason != "":
		r.Wrong(at, "%s", v.role.reason)
	default:
		r.Unsupported(at, "%q is not supported for the role %s; supported: %s", p.Format, p.Role, strings.Join(formats, ", "))
	}
}

// extent checks the position of a partition and returns the first position for the next
// one.
func (r checker) extent(at string, p Partition, im *Image, next Size) Size {
	start := p.Start
	if start == 0 {
		start = p.aligned(next)
	}
	if start < next {
		r.Wrong(at+".start", "%s is within what comes before; the first free is %s", start, next)
	}
	v, _ := lookup(values["image.table"], im.Table)
	end, last := start+max(p.Size, Sector), v.table.last
	if whole := Size(im.Size) * MiB; end > whole-last {
		r.Wrong(at, "%s ends at %s and the image at %s, the last %s of it for the partition table; make image.size larger", p.Name, end, whole, last)
	}
	return end
}

// CheckMedia checks the media of a target, and the blobs and files of its boot loader, for a
// file that has them at the same paths, and fills in where the partitions begin.
func CheckMedia(f *yamlfile.File, t *Target) {
	r := checker{f}
	if len(t.Images) > 0 {
		r.images(t)
	}
	r.blobs(t)
	r.files(t)
	r.tezi(t)
	if f.Err() != nil {
		return
	}
	for i := range t.Images {
		t.Images[i].place()
	}
}
