package images

import (
	"bufio"
	"context"
	"errors"
	"os"
	"path"
	"path/filepath"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/formats/tree"
	"github.com/pantavisor/pantavisor/formats/ubi"
	"github.com/pantavisor/pantavisor/formats/ubifs"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// Files in the output of a [UBI].
const (
	VolumeFile = "volume.ubifs"
	FlashFile  = "flash.ubi"
)

// ubifsFormat is the format of a storage on raw NAND flash.
const ubifsFormat = "ubifs"

// UBI is the step that composes the storage of raw NAND flash: a UBIFS, and the UBI image of
// its partition with the file system as the only volume.
type UBI struct {
	// Target is the name of the target.
	Target string
	// Layout is that of the flash.
	Layout Layout
	// Epoch is the time of all files.
	Epoch build.Stamp
	// Storage is the step whose output has the storage tree in the directory [StorageDir].
	Storage build.Step `json:"-"`
}

var (
	_ build.Step      = (*UBI)(nil)
	_ build.Versioned = (*UBI)(nil)
)

// Name is "image/ubi", followed by the name of its file if it has one.
func (u *UBI) Name() string { return path.Join("image/ubi", u.Layout.File) }

// Version of the step's logic.
func (u *UBI) Version() int { return 1 }

// Deps is the storage.
func (u *UBI) Deps() []build.Step { return []build.Step{u.Storage} }

// ubiPartition returns the partition of a layout that UBI is on, nil if there is none.
func ubiPartition(l Layout) *Partition {
	for i := range l.Partitions {
		if l.Partitions[i].Format == ubifsFormat {
			return &l.Partitions[i]
		}
	}
	return nil
}

// ubiSpare is how many of the blocks of a flash are not for the volume: the table of volumes
// twice, one each for wear levelling and for changes of a whole block, and those in place of
// blocks that go bad, 20 of 1024 (kernel: CONFIG_MTD_UBI_BEB_LIMIT).
func ubiSpare(blocks int) int { return 4 + (blocks*20+1023)/1024 }

// Run writes the file system and the image.
func (u *UBI) Run(ctx context.Context, w *build.Work) error {
	spans, err := layout(u.Layout)
	if err != nil {
		return err
	}
	span := spans[len(spans)-1]
	if span.Format != ubifsFormat || u.Layout.Block == 0 || span.Start%u.Layout.Block != 0 {
		return fault.New(fault.BadInput, "making partition %s: want the format ubifs from the start of an erase block on", span.Name)
	}
	dir := filepath.Join(w.In(u.Storage), StorageDir)
	state, err := os.ReadFile(filepath.Join(dir, "trails/0/.pvr/json"))
	if err != nil {
		return fault.Wrap(fault.Internal, err, "reading the state of revision 0")
	}
	id, flash := identify(u.Target, state), int(span.Length/u.Layout.Block)
	o := ubi.Options{Block: int(u.Layout.Block), Page: int(u.Layout.Page), Volume: span.Name, Sequence: id.number("flash")}
	if o.Reserved, err = u.volume(ctx, w, dir, id, o, flash); err != nil {
		return err
	}
	if spare := ubiSpare(flash); o.Reserved > flash-spare {
		return u.tooSmall(span, o.Reserved+spare, flash)
	}
	return fault.Wrap(fault.IO, u.flash(w, o), "making partition %s", span.Name)
}

func (u *UBI) tooSmall(s span, need, have int) error {
	return fault.New(fault.NoSpace, "making partition %s of %s: its content needs %d erase blocks of %d KiB, the partition has %d", s.Name, u.Target, need, u.Layout.Block/1024, have)
}

// volume writes the file system and returns how many blocks it has.
func (u *UBI) volume(ctx context.Context, w *build.Work, dir string, id identity, o ubi.Options, flash int) (int, error) {
	entries, err := collect(ctx, dir, "")
	if err != nil {
		return 0, fault.Wrap(fault.IO, err, "collecting the storage")
	}
	f, err := os.Create(filepath.Join(w.Out, VolumeFile))
	if err != nil {
		return 0, fault.Wrap(fault.IO, err, "making the storage")
	}
	defer f.Close()
	blocks, err := ubifs.Write(f, tree.Normal{AllRoot: true}.All(entries), ubifs.Options{
		Block: o.Payload(), Page: o.Page, MaxBlocks: flash, UUID: id.bytes("storage"), Time: u.Epoch.Time(),
	})
	if small := (*ubifs.TooSmall)(nil); errors.As(err, &small) {
		return 0, u.tooSmall(span{Partition: *ubiPartition(u.Layout)}, small.Need+ubiSpare(flash), flash)
	}
	if err != nil {
		return 0, fault.Wrap(fault.BadInput, err, "making the storage")
	}
	return blocks, fault.Wrap(fault.IO, f.Close(), "making the storage")
}

// flash writes the UBI image.
func (u *UBI) flash(w *build.Work, o ubi.Options) error {
	in, err := os.Open(filepath.Join(w.Out, VolumeFile))
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(filepath.Join(w.Out, FlashFile))
	if err != nil {
		return err
	}
	defer out.Close()
	if err := ubi.Write(out, bufio.NewReaderSize(in, 1<<20), o); err != nil {
		return err
	}
	return out.Close()
}
