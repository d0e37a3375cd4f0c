package targets

import (
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"
)

// blobs checks the blobs of the boot loader. Those without a partition are on the main image.
func (r checker) blobs(t *Target) {
	for i, b := range t.Bootloader.Blobs {
		at := fmt.Sprintf("bootloader.blobs[%d]", i)
		r.Form(at+".name", b.Name, labelForm)
		r.content(at, t, b.File, b.Package, b.Part)
		r.blobPlace(at, t, b)
		r.blobOverlap(at, t, i)
	}
}

// content checks that something has just one source.
func (r checker) content(at string, t *Target, file, pkg, part string) {
	switch {
	case (file == "") == (part == ""):
		r.Wrong(at, "want one of a file of a package and part")
	case part != "" && pkg != "":
		r.Wrong(at+".package", "is only for a file of a package")
	case part == "" && (!fs.ValidPath(file) || file == "."):
		r.Wrong(at, "%q is not a clean path without a leading '/'", file)
	case part == "" && pkg == "" && len(t.Bootloader.Packages) == 0:
		r.Wrong(at, "%s is in no package: bootloader.packages is empty", file)
	case pkg != "" && !slices.Contains(t.Bootloader.Packages, pkg):
		r.Wrong(at+".package", "%q is not one of bootloader.packages", pkg)
	}
	if _, known := t.Parts[part]; part != "" && !known {
		r.Wrong(at+".part", "there is no part %q: parts must name it", part)
	}
}

// blobPlace checks that a blob has one place, and a limit.
func (r checker) blobPlace(at string, t *Target, b Blob) {
	places := 0
	for _, given := range []bool{b.Sector != nil, b.Offset != nil, b.Partition != ""} {
		if given {
			places++
		}
	}
	switch {
	case places != 1:
		r.Wrong(at, "want one of sector, offset and partition")
	case b.Partition != "":
		r.blobPartition(at, t, b)
	case t.BlobMax(b) == 0:
		r.Wrong(at, "field max is missing: say how much space the blob has")
	}
}

func (r checker) blobPartition(at string, t *Target, b Blob) {
	for _, im := range t.Images {
		for _, p := range im.Partitions {
			switch {
			case p.Name != b.Partition:
				continue
			case p.Format != "raw":
				r.Wrong(at+".partition", "%s has the format %s; want raw", p.Name, p.Format)
			case p.Size != 0 && t.BlobMax(b) > p.Size:
				r.Wrong(at+".max", "%s is larger than the partition, %s", b.Max, p.Size)
			}
			return
		}
	}
	r.Wrong(at+".partition", "no partition has the name %q", b.Partition)
}

// region is a range of the main image.
type region struct {
	name     string
	from, to Size
}

func (p region) overlaps(o region) bool { return p.from < o.to && o.from < p.to }

// blobOverlap checks that a blob is not where the partition table, a partition or an
// earlier blob is.
func (r checker) blobOverlap(at string, t *Target, i int) {
	blobs := t.Bootloader.Blobs
	if blobs[i].Partition != "" || t.Image() == nil {
		return
	}
	im := *t.Image()
	im.Partitions = slices.Clone(im.Partitions)
	im.place()
	taken := tableRegions(im)
	for _, p := range im.Partitions {
		size := p.Size
		if size == 0 {
			size = Size(im.Size)*MiB - p.Start
		}
		taken = append(taken, region{"partition " + p.Name, p.Start, p.Start + size})
	}
	for _, b := range blobs[:i] {
		if b.Partition == "" {
			taken = append(taken, region{"blob " + b.Name, b.Where(), b.Where() + t.BlobMax(b)})
		}
	}
	mine := region{from: blobs[i].Where(), to: blobs[i].Where() + t.BlobMax(blobs[i])}
	for _, o := range taken {
		if mine.overlaps(o) {
			r.Wrong(at, "its space, bytes %d to %d, reaches into %s, bytes %d to %d", mine.from, mine.to, o.name, o.from, o.to)
		}
	}
}

// tableRegions are where an image's partition table is (UEFI specification 2.10, chapter 5). The
// first 446 bytes are for code; a disk identifier in the last six of them gives way to it.
func tableRegions(im Image) []region {
	end := Size(im.Size) * MiB
	switch im.Table {
	case "mbr":
		return []region{{"the partition table", 446, Sector}}
	case "gpt", "hybrid":
		return []region{{"the partition table", 446, 34 * Sector}, {"the partition table's copy", end - 33*Sector, end}}
	}
	return nil
}

// files checks the files for partitions that firmware reads.
func (r checker) files(t *Target) {
	for i, f := range t.Bootloader.Files {
		at := fmt.Sprintf("bootloader.files[%d]", i)
		r.content(at, t, f.From, f.Package, f.Part)
		if !fs.ValidPath(f.To) || f.To == "." {
			r.Wrong(at+".to", "%q is not a clean path without a leading '/'", f.To)
		} else if !placeForm.MatchString(f.To) {
			r.Wrong(at+".to", "%q: want names of up to 255 letters, digits and ._+-, the first one a letter or digit", f.To)
		}
		role := f.PartitionRole()
		if p := t.Partition(role); p == nil {
			r.Wrong(at, "no partition has the role %s", role)
		} else if p.Format == "raw" || role == "root" {
			r.Wrong(at+".role", "a partition with role %s and format %s takes no files of the boot loader", role, p.Format)
		}
		for _, o := range t.Bootloader.Files[:i] {
			if o.PartitionRole() == role && collide(o.To, f.To) {
				r.Wrong(at+".to", "%q is there twice: %q takes its place", f.To, o.To)
			}
		}
	}
}

// placeForm is the form of the path of a file on a partition, which any firmware finds.
var placeForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+-]{0,254}(/[A-Za-z0-9][A-Za-z0-9._+-]{0,254})*$`)

// collide reports whether two files cannot be on the same partition: FAT does not distinguish
// capital letters, and a file is no directory.
func collide(a, b string) bool {
	a, b = strings.ToLower(a), strings.ToLower(b)
	return a == b || strings.HasPrefix(a, b+"/") || strings.HasPrefix(b, a+"/")
}

// PartitionRole returns the role of the partition that the file is for.
func (f File) PartitionRole() string {
	if f.Role == "" {
		return "boot"
	}
	return f.Role
}
