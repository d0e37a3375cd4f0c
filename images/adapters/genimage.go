package adapters

import (
	"cmp"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/pantavisor/pantavisor/images/inputs"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/targets"
)

// genimage is the layout of a medium that is read from genimage.cfg: the sections hdimage and
// flash with their partitions, and vfat with its files.
type genimage struct {
	name   string
	images map[string]*genSection // by their titles
	types  map[string]*genSection // kinds of flash
	medium *genSection            // the image with partitions
	kind   *genSection            // hdimage or flash in it

	image targets.Image
	files []inputs.BootFile // Path is the name in the directory of images
	blobs []inputs.Blob
	roots int
	notes []string
}

func (g *genimage) skip(line int, format string, args ...any) {
	g.notes = append(g.notes, fmt.Sprintf("%s:%d: left out: %s", g.name, line, fmt.Sprintf(format, args...)))
}

func (g *genimage) wrong(line int, format string, args ...any) error {
	return fault.New(fault.BadInput, "%s:%d: %s", g.name, line, fmt.Sprintf(format, args...))
}

// importGenimage reads the layout in a file. size is that of the medium in MiB, 0 for what the
// file says.
func importGenimage(file string, size int) (*genimage, error) {
	root, err := readGenimage(file)
	if err != nil {
		return nil, err
	}
	g := &genimage{name: file, images: map[string]*genSection{}, types: map[string]*genSection{}}
	for _, s := range root.sections {
		switch s.kind {
		case "image":
			g.images[s.title] = s
		case "flash":
			g.types[s.title] = s
		default:
			g.skip(s.line, "section %s", s.kind)
		}
	}
	for _, v := range root.values {
		g.skip(v.line, "%s", v.key)
	}
	if err := g.choose(root); err != nil {
		return nil, err
	}
	if err := g.table(); err != nil {
		return nil, err
	}
	for _, p := range g.medium.sections {
		if p == g.kind {
			continue
		}
		if p.kind != "partition" {
			g.skip(p.line, "section %s", p.kind)
			continue
		}
		if err := g.partition(p); err != nil {
			return nil, err
		}
	}
	return g, g.finish(size)
}

// choose finds the one image that has partitions.
func (g *genimage) choose(root *genSection) error {
	var found []string
	for _, s := range root.sections {
		for _, kind := range []string{"hdimage", "flash"} {
			if inner := s.sub(kind); s.kind == "image" && inner != nil && s.sub("partition") != nil {
				g.medium, g.kind = s, inner
				found = append(found, s.title)
			}
		}
	}
	if len(found) != 1 {
		return fault.New(fault.BadInput, "%s: want one image with hdimage or flash and partitions, there are %d%s", g.name, len(found), listed(found))
	}
	return nil
}

func listed(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return ": " + strings.Join(names, ", ")
}

// genTables are the partition tables by their names in genimage.
var genTables = map[string]string{"": "mbr", "mbr": "mbr", "gpt": "gpt", "hybrid": "hybrid", "none": "none"}

// table reads the keys of the medium.
func (g *genimage) table() error {
	for _, v := range slices.Concat(g.kind.values, g.medium.values) {
		word := strings.Join(v.words, " ")
		var err error
		switch v.key {
		case "partition-table-type":
			table, known := genTables[word]
			if !known {
				return g.wrong(v.line, "partition table %s: want mbr, gpt, hybrid or none", word)
			}
			g.image.Table = table
		case "gpt":
			if genTrue(word) {
				g.image.Table = "gpt"
			}
		case "partition-table":
			if !genTrue(word) {
				g.image.Table = "none"
			}
		case "size":
			var size targets.Size
			size, err = g.size(v)
			g.image.Size = int(size / targets.MiB)
		case "flashtype", "temporary", "name":
		default:
			g.skip(v.line, "%s", v.key)
		}
		if err != nil {
			return err
		}
	}
	if g.kind.kind == "flash" {
		return g.flash()
	}
	g.image.Table = cmp.Or(g.image.Table, "mbr")
	return nil
}

// flash reads the kind of raw flash.
func (g *genimage) flash() error {
	name, line := g.kind.get("flashtype")
	if name == "" {
		name, line = g.medium.get("flashtype")
	}
	kind := g.types[name]
	if kind == nil {
		return g.wrong(max(line, g.kind.line), "flashtype %q: the file has no section flash %s", name, name)
	}
	g.image.Table = "mtd"
	blocks := int64(0)
	for _, v := range kind.values {
		var err error
		switch v.key {
		case "pebsize":
			g.image.Block, err = g.size(v)
		case "minimum-io-unit-size":
			g.image.Page, err = g.size(v)
		case "numpebs":
			blocks, err = strconv.ParseInt(v.words[0], 0, 32)
			if err != nil {
				err = g.wrong(v.line, "numpebs %s is not a number", v.words[0])
			}
		default:
			g.skip(v.line, "%s", v.key)
		}
		if err != nil {
			return err
		}
	}
	g.image.Size = int(int64(g.image.Block) * blocks / int64(targets.MiB))
	return nil
}

func genTrue(word string) bool { return slices.Contains([]string{"true", "yes", "on", "1"}, word) }

var genSize = regexp.MustCompile(`^(0[xX][0-9A-Fa-f]+|[0-9]+)([kKMGs]?)$`)

// size reads a size with genimage's units: k, M, G, and s for sectors.
func (g *genimage) size(v *genValue) (targets.Size, error) {
	m := genSize.FindStringSubmatch(strings.Join(v.words, " "))
	if m == nil {
		return 0, g.wrong(v.line, "%s = %s: want a size as 64M; percentages of other images are not known", v.key, strings.Join(v.words, " "))
	}
	n, err := strconv.ParseInt(m[1], 0, 64)
	unit := map[string]targets.Size{"": 1, "k": targets.KiB, "K": targets.KiB, "M": targets.MiB, "G": targets.GiB, "s": targets.Sector}[m[2]]
	if err != nil || n > int64(1<<40/unit) {
		return 0, g.wrong(v.line, "%s = %s is more than a medium has", v.key, v.words[0])
	}
	return targets.Size(n) * unit, nil
}

// genPartition is a partition as the file has it.
type genPartition struct {
	*genSection
	out     targets.Partition
	image   string
	outside bool // not in the table
	placed  bool // it has an offset
}

func (g *genimage) partition(s *genSection) error {
	p := &genPartition{genSection: s, out: targets.Partition{Name: strings.ToLower(s.title)}}
	for _, v := range s.values {
		if err := g.key(p, v); err != nil {
			return err
		}
	}
	for _, inner := range s.sections {
		g.skip(inner.line, "section %s", inner.kind)
	}
	source := g.images[p.image]
	switch {
	case source != nil && source.sub("vfat") != nil:
		return g.boot(p, source)
	case isStorage(s.title, p.image, source):
		return g.storage(p)
	case p.outside && p.image == "":
		g.skip(s.line, "partition %s is outside of the table and has no content", s.title)
	case p.outside:
		return g.blob(p, source)
	case p.image == "" && strings.Contains(p.out.Name, "env"):
		p.out.Role, p.out.Format = "env", "raw"
		g.image.Partitions = append(g.image.Partitions, p.out)
	case p.image != "" && (source == nil || source.sub("file") != nil):
		p.out.Role, p.out.Format = "loader", "raw"
		g.image.Partitions = append(g.image.Partitions, p.out)
		return g.blob(p, source)
	default:
		g.skip(s.line, "partition %s: no role fits it; the storage keeps the data of containers", s.title)
	}
	return nil
}

// isStorage reports whether a partition is where others keep the root file system: there is the
// storage.
func isStorage(title, image string, source *genSection) bool {
	name := strings.ToLower(title)
	if source != nil && (source.sub("ext4") != nil || source.sub("ubi") != nil) {
		return name == "rootfs" || name == "root" || name == "ubi"
	}
	return strings.HasPrefix(image, "rootfs.") || image == "" && (name == "rootfs" || name == "root")
}

// key reads a key of a partition.
func (g *genimage) key(p *genPartition, v *genValue) (err error) {
	word := strings.Join(v.words, " ")
	switch v.key {
	case "image":
		p.image = word
		if !fs.ValidPath(word) {
			return g.wrong(v.line, "image = %s: want the name of a file in the directory of images", word)
		}
	case "offset":
		p.out.Start, err = g.size(v)
		p.placed = true
	case "size":
		p.out.Size, err = g.size(v)
	case "align":
		p.out.Align, err = g.size(v)
	case "in-partition-table":
		p.outside = !genTrue(word)
	case "bootable":
		if genTrue(word) && g.image.Table != "gpt" {
			p.out.Flags = append(p.out.Flags, "bootable")
		}
	case "partition-type":
		n, failed := strconv.ParseUint(word, 0, 8)
		if failed != nil {
			return g.wrong(v.line, "partition-type = %s: want a number as 0x83", word)
		}
		if g.image.Table == "mbr" {
			p.out.Type = fmt.Sprintf("%02x", n)
		}
	case "partition-type-uuid":
		if g.image.Table == "gpt" || g.image.Table == "hybrid" {
			g.guid(p, v, word)
		}
	default:
		g.skip(v.line, "%s", v.key)
	}
	return err
}

var genGUID = regexp.MustCompile(`^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$`)

// guid takes the type of a partition in a GPT; short names are those of sfdisk, and follow from
// the role.
func (g *genimage) guid(p *genPartition, v *genValue, word string) {
	if genGUID.MatchString(word) {
		p.out.Type = strings.ToUpper(word)
		return
	}
	g.skip(v.line, "%s = %s: the type follows from the partition's role", v.key, word)
}

// boot adds the partition with the loader's files.
func (g *genimage) boot(p *genPartition, source *genSection) error {
	vfat := source.sub("vfat")
	for _, v := range source.values {
		switch v.key {
		case "size":
			size, err := g.size(v)
			if err != nil {
				return err
			}
			p.out.Size = cmp.Or(p.out.Size, size)
		default:
			g.skip(v.line, "%s", v.key)
		}
	}
	if p.out.Size == 0 {
		return g.wrong(source.line, "image %s has no size", source.title)
	}
	p.out.Role, p.out.Format = "boot", "fat32"
	if p.out.Size < 33*targets.MiB { // fewer clusters than a FAT32 has
		p.out.Format = "fat16"
	}
	for _, v := range vfat.values {
		switch v.key {
		case "label":
			p.out.Name = strings.Join(v.words, " ")
		case "files":
			for _, file := range v.words {
				if err := g.file(v.line, path.Base(file), file); err != nil {
					return err
				}
			}
		default:
			g.skip(v.line, "%s", v.key)
		}
	}
	g.image.Partitions = append(g.image.Partitions, p.out)
	for _, s := range vfat.sections {
		from, _ := s.get("image")
		if s.kind != "file" || from == "" {
			g.skip(s.line, "section %s", s.kind)
			continue
		}
		if err := g.file(s.line, s.title, from); err != nil {
			return err
		}
	}
	return nil
}

// file adds a file of the boot partition.
func (g *genimage) file(line int, to, from string) error {
	if !fs.ValidPath(to) || !fs.ValidPath(from) || strings.ContainsAny(from, "*?[") {
		return g.wrong(line, "file %s: want the name of a file in the directory of images", from)
	}
	g.files = append(g.files, inputs.BootFile{To: to, Path: from})
	return nil
}

// storageName is the label by which devices find their storage.
const storageName = "pvroot"

// storage adds the storage, which is the last partition.
func (g *genimage) storage(p *genPartition) error {
	if g.roots++; g.roots > 1 {
		g.skip(p.line, "partition %s: there is one storage, which has all revisions", p.title)
		return nil
	}
	p.out.Name, p.out.Role, p.out.Format = storageName, "root", "ext4"
	if g.kind.kind == "flash" {
		p.out.Format = "ubifs"
	}
	g.image.Partitions = append(g.image.Partitions, p.out)
	return nil
}

// blob adds what is written outside of file systems.
func (g *genimage) blob(p *genPartition, source *genSection) error {
	from := p.image
	if source != nil {
		file := source.sub("file")
		if file == nil {
			g.skip(p.line, "partition %s: image %s is made of others", p.title, p.image)
			return nil
		}
		if name, _ := file.get("name"); name != "" {
			from = name
		}
	}
	b := inputs.Blob{Name: p.out.Name, Path: from, Max: p.out.Size}
	if p.outside {
		if !p.placed {
			return g.wrong(p.line, "partition %s is outside of the table and has no offset", p.title)
		}
		offset := p.out.Start
		b.Offset = &offset
	} else {
		b.Partition, b.Max = p.out.Name, 0
	}
	g.blobs = append(g.blobs, b)
	return nil
}

// finish puts the storage last, bounds the blobs by what is behind them, and finds the size.
func (g *genimage) finish(size int) error {
	if g.roots == 0 {
		return fault.New(fault.BadInput, "%s has no partition for the storage: none is called rootfs, or has an image rootfs.*", g.name)
	}
	slices.SortStableFunc(g.image.Partitions, func(a, b targets.Partition) int {
		return cmp.Compare(storageLast(a), storageLast(b))
	})
	last := &g.image.Partitions[len(g.image.Partitions)-1]
	g.image.Size = cmp.Or(size, g.image.Size)
	if g.image.Size == 0 {
		if last.Size == 0 {
			return fault.New(fault.BadInput, "%s does not say how large the medium is: neither the image nor the storage has a size; name it in MiB: --size", g.name)
		}
		g.image.Size = g.sum()
	}
	if g.kind.kind == "hdimage" {
		last.Size = 0 // the rest of the medium
	}
	g.limits()
	return nil
}

func storageLast(p targets.Partition) int {
	if p.Role == "root" {
		return 1
	}
	return 0
}

// sum is the size of the medium that the partitions need, in MiB.
func (g *genimage) sum() int {
	end := targets.MiB
	for _, p := range g.image.Partitions {
		end = (max(end, p.Start)+p.Size+targets.MiB-1)/targets.MiB*targets.MiB + 0
	}
	return int(end/targets.MiB) + 1 // for the second table of a GPT
}

// limits gives blobs without a size the space up to what follows them.
func (g *genimage) limits() {
	for i := range g.blobs {
		b := &g.blobs[i]
		if b.Offset == nil || b.Max != 0 {
			continue
		}
		end := targets.Size(0)
		nearer := func(at targets.Size) {
			if at > *b.Offset && (end == 0 || at < end) {
				end = at
			}
		}
		for _, o := range g.blobs {
			if o.Offset != nil {
				nearer(*o.Offset)
			}
		}
		for j, p := range g.image.Partitions {
			start := p.Start
			if j == 0 && start == 0 {
				start = targets.MiB
			}
			nearer(start)
		}
		if end != 0 {
			b.Max = end - *b.Offset
		}
	}
}

// addTo adds the layout to a list, with files of a directory of images. Files of the boot
// partition that the loader's script does not need are left out: kernel and device trees are in
// the storage.
func (g *genimage) addTo(m *Made, images string, ours func(name string) string) error {
	l := m.List
	m.Notes = append(m.Notes, g.notes...)
	if len(l.Images) > 0 {
		return fault.New(fault.BadInput, "the partial list has a layout, image, and %s is another one: want one of them", g.name)
	}
	l.Images = targets.Images{g.image}
	if l.Bootloader == nil {
		return fault.New(fault.BadInput, "%s does not say which boot loader there is: say bootloader.type in the partial list, uboot for example", g.name)
	}
	for _, f := range g.files {
		if why := ours(f.Path); why != "" {
			m.note("%s: file %s is left out: %s", g.name, f.Path, why)
			continue
		}
		f.Path = filepath.Join(images, filepath.FromSlash(f.Path))
		l.Bootloader.Files = append(l.Bootloader.Files, f)
	}
	for _, b := range g.blobs {
		b.Path = filepath.Join(images, filepath.FromSlash(b.Path))
		l.Bootloader.Blobs = append(l.Bootloader.Blobs, b)
	}
	return nil
}
