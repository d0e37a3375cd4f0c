// Package layouts turns the images and the boot loader of a target into inputs of package
// images: layouts of media, what the loader has on them, and the settings of the runtime that
// follow. It does not know where the parts come from.
package layouts

import (
	"slices"

	"github.com/pantavisor/pantavisor/bootloader"
	"github.com/pantavisor/pantavisor/images"
	"github.com/pantavisor/pantavisor/targets"
)

// Of returns the layout of a medium of a target.
func Of(im targets.Image) images.Layout {
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

// Loader asks a boot loader for everything that it needs on the media; blobs that are
// not in a partition are on the first one.
func Loader(loader bootloader.Loader, media []images.Layout, kit bootloader.Kit) (images.Loader, error) {
	var out images.Loader
	for _, l := range media {
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
	blobs, err := Blobs(loader, kit)
	if err != nil {
		return out, err
	}
	for _, b := range blobs {
		if len(media) == 0 { // somebody else makes the medium
			break
		}
		l := With(media, b.Partition)
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

// Blobs returns what a boot loader writes outside of partitions.
func Blobs(loader bootloader.Loader, kit bootloader.Kit) ([]images.Blob, error) {
	blobs, err := loader.Raw(kit)
	var out []images.Blob
	for _, b := range blobs {
		out = append(out, images.Blob{Name: b.Name, File: images.Artefact{Step: b.File.Step, File: b.File.Path}, Partition: b.Partition, Offset: b.Offset, Max: b.Max})
	}
	return out, err
}

// With returns the medium with a partition, the first one for "" and unknown names.
func With(media []images.Layout, partition string) *images.Layout {
	for i := range media {
		for _, p := range media[i].Partitions {
			if p.Name == partition {
				return &media[i]
			}
		}
	}
	return &media[0]
}

// Settings returns the keys that follow from the target: the file may omit them but not
// contradict them.
func Settings(t *targets.Target, debug bool) []images.Setting {
	out := []images.Setting{{Key: "PV_DEBUG_SHELL", Value: flag(debug)}}
	if !debug {
		out = append(out, images.Setting{Key: "PV_DEBUG_SSH", Value: "0"})
	}
	if t.Bootloader != nil {
		out = append(out, images.Setting{Key: "PV_BOOTLOADER_TYPE", Value: t.Bootloader.Runtime()})
		out = append(out, flashNames(t)...)
	}
	if p := t.Partition("root"); p != nil {
		out = append(out,
			images.Setting{Key: "PV_STORAGE_DEVICE", Value: "LABEL=" + p.Name},
			images.Setting{Key: "PV_STORAGE_FSTYPE", Value: p.Format},
			images.Setting{Key: "PV_STORAGE_MNTPOINT", Value: "/storage"})
	}
	return out
}

// flashNames returns the names of the partitions that uboot-ab has in flash memory.
func flashNames(t *targets.Target) []images.Setting {
	if t.Bootloader.Type != "uboot-ab" {
		return nil
	}
	env := []string{"PV_BOOTLOADER_UBOOTAB_ENV_NAME", "PV_BOOTLOADER_UBOOTAB_ENV_BAK_NAME"}
	var out []images.Setting
	for _, im := range t.Images {
		for _, p := range im.Partitions {
			switch {
			case p.Role == "boota":
				out = append(out, images.Setting{Key: "PV_BOOTLOADER_UBOOTAB_A_NAME", Value: p.Name})
			case p.Role == "bootb":
				out = append(out, images.Setting{Key: "PV_BOOTLOADER_UBOOTAB_B_NAME", Value: p.Name})
			case p.Role == "env" && len(env) > 0:
				out = append(out, images.Setting{Key: env[0], Value: p.Name})
				env = env[1:]
			}
		}
	}
	return out
}

func flag(on bool) string {
	if on {
		return "1"
	}
	return "0"
}
