package images

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/gzip"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/formats/fat"
	"github.com/pantavisor/pantavisor/formats/tree"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// Slot says that the BSP has the boot partition of the loader as an image, which the device
// writes to one of several such partitions, in place of kernel and initrd.
type Slot struct {
	// Role is that of the partition.
	Role string `json:"role"`
	// Key is the member of run.json that names the image, File its name in the BSP.
	Key  string `json:"key"`
	File string `json:"file"`
}

// SlotImage is the step that makes the file system of a boot partition, compressed with gzip.
// The image ends behind the last cluster in use: it fits any partition of that size or more.
type SlotImage struct {
	// Slot has the names of the image.
	Slot Slot
	// Partition is the one that it is for.
	Partition Partition
	// Epoch is the time of all files.
	Epoch build.Stamp
	// Files are the trees of all partitions; those of the partition's role count.
	Files []RoleFiles `json:"-"`
}

var (
	_ build.Step      = (*SlotImage)(nil)
	_ build.Versioned = (*SlotImage)(nil)
)

// Name is "bsp/" and the role of the partition.
func (s *SlotImage) Name() string { return "bsp/" + s.Partition.Role }

// Version of the step's logic.
func (s *SlotImage) Version() int { return 1 }

// Deps are the trees of the partition.
func (s *SlotImage) Deps() []build.Step {
	var out []build.Step
	for _, f := range s.Files {
		if f.Role == s.Partition.Role {
			out = append(out, f.Tree.Step)
		}
	}
	return out
}

// Run writes the image.
func (s *SlotImage) Run(ctx context.Context, w *build.Work) (err error) {
	if s.Partition.Format != "fat32" {
		return fault.New(fault.Unsupported, "making the image of partition %s: want format fat32, not %s", s.Partition.Name, s.Partition.Format)
	}
	entries, err := roleEntries(ctx, w, s.Files, s.Partition.Role)
	if err != nil {
		return fault.Wrap(fault.IO, err, "collecting the files of partition %s", s.Partition.Name)
	}
	plain, err := os.Create(filepath.Join(w.Tmp, "fat"))
	if err != nil {
		return fault.Wrap(fault.IO, err, "making the image of partition %s", s.Partition.Name)
	}
	defer func() {
		err = errors.Join(err, fault.Wrap(fault.IO, plain.Close(), "making the image of partition %s", s.Partition.Name))
	}()
	normal := tree.Normal{Time: s.Epoch.Time()}
	used, err := fat.Write(plain, 0, normal.All(entries), fat.Options{
		Bits: fatBits[s.Partition.Format], Size: s.Partition.Size, Label: s.Partition.Name, ID: slotID, Time: normal.Time,
	})
	if err != nil {
		return fatError(s.Partition.Name, s.Partition.Size, err)
	}
	return fault.Wrap(fault.IO, s.compress(filepath.Join(w.Out, s.Slot.File), io.NewSectionReader(plain, 0, used)), "compressing the image of partition %s", s.Partition.Name)
}

// slotID is the volume number of all such images: which of the partitions is meant is told by
// its number.
const slotID = 0x50560001

func (s *SlotImage) compress(file string, image io.Reader) (err error) {
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	z := gzip.NewWriter(out)
	if _, err := io.Copy(z, image); err != nil {
		return err
	}
	return z.Close()
}

// fatError explains what went wrong with a FAT file system.
func fatError(name string, size int64, err error) error {
	var small *fat.TooSmall
	if errors.As(err, &small) {
		return fault.New(fault.NoSpace, "making partition %s: its content needs %d MiB, its size in target.yaml is %d MiB", name, (small.Need+mib-1)/mib, size/mib)
	}
	return fault.Wrap(fault.BadInput, err, "making partition %s", name)
}

// slotImage returns the image of the loader's boot partition for the BSP, nil for a loader that
// reads kernels from the storage.
func slotImage(in *Inputs) *SlotImage {
	s := in.Loader.Slot
	if s == nil {
		return nil
	}
	for _, l := range in.Layouts {
		for _, p := range l.Partitions {
			if p.Role == s.Role {
				return &SlotImage{Slot: *s, Partition: p, Epoch: in.Epoch, Files: in.Loader.Files}
			}
		}
	}
	return nil
}
