package images

import (
	"fmt"
	"math"
)

// The content of image.json (Toradex, "Toradex Easy Installer Configuration Files", version
// 5). Sizes are in MiB.
type (
	teziImage struct {
		Format      int         `json:"config_format"`
		Automatic   bool        `json:"autoinstall"`
		Name        string      `json:"name"`
		Description string      `json:"description"`
		Version     string      `json:"version"`
		Date        string      `json:"release_date"`
		Environment string      `json:"u_boot_env"`
		Products    []string    `json:"supported_product_ids"`
		Blocks      []teziBlock `json:"blockdevs,omitempty"`
		MTD         []teziMTD   `json:"mtddevs,omitempty"`
	}
	teziBlock struct {
		Name       string          `json:"name"`
		Erase      bool            `json:"erase,omitempty"`
		Partitions []teziPartition `json:"partitions,omitempty"`
		Content    *teziContent    `json:"content,omitempty"`
	}
	teziPartition struct {
		Size     int         `json:"partition_size_nominal"`
		Maximise bool        `json:"want_maximised"`
		Content  teziContent `json:"content"`
	}
	teziContent struct {
		Label   string        `json:"label,omitempty"`
		Type    string        `json:"filesystem_type,omitempty"`
		Options *string       `json:"mkfs_options,omitempty"`
		File    string        `json:"filename,omitempty"`
		Size    float64       `json:"uncompressed_size,omitempty"`
		Raw     *teziRawFile  `json:"rawfile,omitempty"`
		Raws    []teziRawFile `json:"rawfiles,omitempty"`
	}
	teziRawFile struct {
		File    string  `json:"filename"`
		Options string  `json:"dd_options,omitempty"`
		Size    float64 `json:"size,omitempty"`
	}
	teziMTD struct {
		Name    string       `json:"name"`
		Erase   bool         `json:"erase,omitempty"`
		Content *teziContent `json:"content,omitempty"`
		Volumes []teziVolume `json:"ubivolumes,omitempty"`
	}
	teziVolume struct {
		Name    string      `json:"name"`
		Content teziContent `json:"content"`
	}
)

const (
	// teziFormat 2, of installers from 1.4 on, is the first with u_boot_env.
	teziFormat = 2
	// Names of the devices.
	teziDisk, teziBootArea, teziUBI, teziEnv = "mmcblk0", "mmcblk0boot0", "ubi", "u-boot-env"
)

// describe returns the image.json of a module. sizes are those of the files in MiB, of
// archives what is in them.
func (s *TeziBundle) describe(m TeziModule, sizes map[string]float64) teziImage {
	image := teziImage{
		Format: teziFormat, Automatic: true, Name: s.Tezi.Name, Description: fmt.Sprintf("%s for %s", s.Target, m.Name),
		Version: s.Release, Date: s.Epoch.Time().UTC().Format("2006-01-02"), Environment: m.environment(), Products: m.Products,
	}
	if m.NAND {
		image.MTD = mtdOf(m, sizes)
		return image
	}
	disk := teziBlock{Name: teziDisk}
	for _, p := range s.Partitions {
		if part, ok := partitionOf(p, sizes); ok {
			disk.Partitions = append(disk.Partitions, part)
		}
	}
	image.Blocks = []teziBlock{disk}
	if len(m.Blobs) > 0 {
		area := teziBlock{Name: teziBootArea, Erase: true, Content: &teziContent{Type: "raw"}}
		for _, b := range m.Blobs {
			area.Content.Raws = append(area.Content.Raws, teziRawFile{File: b.file(m), Options: fmt.Sprintf("seek=%d", b.Sector)})
		}
		image.Blocks = append(image.Blocks, area)
	}
	return image
}

// partitionOf returns a partition with files; others are not the installer's.
func partitionOf(p Partition, sizes map[string]float64) (teziPartition, bool) {
	c := teziContent{Label: p.Name, Options: new(string)}
	out := teziPartition{Size: int(p.Size / mib)}
	switch p.Role {
	case "boot":
		c.Type, c.File = "FAT", teziBoot
	case "root":
		c.Type, c.File, *c.Options = "ext4", teziRoot, "-E nodiscard"
		// The least that it may have: the rest of the flash is added.
		out.Size, out.Maximise = int(math.Ceil(sizes[teziRoot]*1.25))+64, true
	default:
		return out, false
	}
	c.Size = sizes[c.File]
	out.Content = c
	return out, true
}

// mtdOf returns the devices of raw flash: the boot loader's partitions, its environment,
// which is erased, and the storage in a UBI volume.
func mtdOf(m TeziModule, sizes map[string]float64) []teziMTD {
	var out []teziMTD
	for _, b := range m.Blobs {
		raw := &teziRawFile{File: b.file(m), Size: sizes[b.file(m)]}
		out = append(out, teziMTD{Name: b.Partition, Content: &teziContent{Raw: raw}})
	}
	root := teziVolume{Name: m.Volume, Content: teziContent{Type: "ubifs", File: teziRoot, Size: sizes[teziRoot]}}
	return append(out,
		teziMTD{Name: teziEnv, Erase: true, Content: &teziContent{}},
		teziMTD{Name: teziUBI, Volumes: []teziVolume{root}})
}
