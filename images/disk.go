package images

import (
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/formats/bmap"
	"github.com/pantavisor/pantavisor/formats/ext4"
	"github.com/pantavisor/pantavisor/formats/fat"
	"github.com/pantavisor/pantavisor/formats/squashfs"
	"github.com/pantavisor/pantavisor/formats/tree"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// Files in the output of a [Disk].
const (
	DiskFile = "disk.img"
	BmapFile = "disk.img.bmap"
)

// Disk is the step that composes the disk image, sparse, and its block map.
type Disk struct {
	// Target is the name of the target.
	Target string
	// Layout is that of the medium.
	Layout Layout
	// Epoch is the time of all files and file systems.
	Epoch build.Stamp
	// Files are the trees of the partitions other than the storage, by role. A partition
	// without a tree is empty.
	Files []RoleFiles `json:"-"`
	// Storage is the step whose output has the storage tree in the directory [StorageDir].
	Storage build.Step `json:"-"`
	// Config is image.config, nil when there is none.
	Config *build.Source `json:"-"`
}

var (
	_ build.Step      = (*Disk)(nil)
	_ build.Versioned = (*Disk)(nil)
	_ build.Sourced   = (*Disk)(nil)
)

// Name is "image/disk", followed by the name of its file if it has one.
func (d *Disk) Name() string { return path.Join("image/disk", d.Layout.File) }

// Version of the step's logic.
func (d *Disk) Version() int { return 5 }

// Deps are the loader's files and blobs, and the storage.
func (d *Disk) Deps() []build.Step {
	var out []build.Step
	for _, f := range d.Files {
		out = append(out, f.Tree.Step)
	}
	for _, b := range d.Layout.Blobs {
		out = append(out, b.File.Step)
	}
	return append(out, d.Storage)
}

// Sources is image.config, where there is one.
func (d *Disk) Sources() ([]build.Source, error) {
	if d.Config == nil {
		return nil, nil
	}
	return []build.Source{*d.Config}, nil
}

// composition is an image under construction.
type composition struct {
	disk    *Disk
	work    *build.Work
	id      identity
	options storageOptions
	spans   []span
	file    *os.File
	blobs   []Blob        // with their places
	used    []bmap.Extent // of the file systems and blobs
	further []tree.Entry  // files of an installation medium's one partition besides the loader's
}

// Run checks that everything fits, then writes.
func (d *Disk) Run(ctx context.Context, w *build.Work) error {
	c := &composition{disk: d, work: w}
	if err := c.plan(ctx); err != nil {
		return err
	}
	return c.create(ctx)
}

// create makes the image and its block map.
func (c *composition) create(ctx context.Context) error {
	f, err := os.Create(filepath.Join(c.work.Out, DiskFile))
	if err != nil {
		return fault.Wrap(fault.IO, err, "creating the image")
	}
	defer f.Close()
	c.file = f
	if err := f.Truncate(int64(c.disk.Layout.Size) * mib); err != nil {
		return fault.Wrap(fault.IO, err, "sizing the image")
	}
	if err := c.write(ctx); err != nil {
		return err
	}
	if err := c.bmap(ctx); err != nil {
		return err
	}
	return fault.Wrap(fault.IO, f.Close(), "closing the image")
}

// write writes the table, the blobs and the file systems.
func (c *composition) write(ctx context.Context) error {
	for _, step := range []func(context.Context) error{c.table, c.raw, c.fill} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// fits checks what the layout and image.config alone show.
func (d *Disk) fits() error {
	_, err := d.storageOptions()
	if err != nil {
		return err
	}
	_, err = layout(d.Layout)
	return err
}

// plan determines identifiers and sizes and checks that everything fits, before anything
// is written.
func (c *composition) plan(ctx context.Context) (err error) {
	storage := filepath.Join(c.work.In(c.disk.Storage), StorageDir)
	state, err := os.ReadFile(filepath.Join(storage, "trails/0/.pvr/json"))
	if err != nil {
		return fault.Wrap(fault.Internal, err, "reading the state of revision 0")
	}
	c.id = identify(c.disk.Target, state)
	if c.options, err = c.disk.storageOptions(); err != nil {
		return err
	}
	if err := c.arrange(); err != nil {
		return err
	}
	tally, err := count(ctx, storage)
	if err != nil {
		return err
	}
	need, err := tally.need(c.options)
	if err != nil {
		return err
	}
	for _, s := range c.spans {
		if lack := need - s.Length/mib; roles[s.Role].storage && lack > 0 {
			return c.tooSmall(lack)
		}
	}
	c.reportPartitions()
	return c.reportStorage(state, storage)
}

// arrange places partitions and blobs and checks that they do not overlap.
func (c *composition) arrange() (err error) {
	if c.spans, err = layout(c.disk.Layout); err != nil {
		return err
	}
	if err := c.checkRoles(); err != nil {
		return err
	}
	return c.checkBlobs()
}

func (c *composition) tooSmall(lack int64) error {
	return fault.New(fault.NoSpace, "composing the image of %s: its content needs %d MiB, image.size in target.yaml gives %d MiB",
		c.disk.Target, int64(c.disk.Layout.Size)+lack, c.disk.Layout.Size)
}

// formats are the file systems by name. A new one is an entry here and in package
// targets.
var formats = map[string]func(c *composition, ctx context.Context, s span) error{
	"fat16":    (*composition).fat,
	"fat32":    (*composition).fat,
	"ext4":     (*composition).storage,
	"squashfs": (*composition).squashfs,
	"raw":      (*composition).rawPartition,
	ubifsFormat: func(_ *composition, _ context.Context, s span) error {
		return fault.New(fault.Internal, "making partition %s: raw flash has no image of the whole medium", s.Name)
	},
}

// fatBits are the kinds of FAT by their format.
var fatBits = map[string]int{"fat16": 16, "fat32": 32}

// fill writes the file systems.
func (c *composition) fill(ctx context.Context) error {
	for _, s := range c.spans {
		format, ok := formats[s.Format]
		if !ok {
			return fault.New(fault.Unsupported, "making partition %s: format %q is not supported; supported: %s", s.Name, s.Format, keyList(formats))
		}
		if err := format(c, ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// roleEntries returns the files of the partition with a role from all its trees.
func roleEntries(ctx context.Context, w *build.Work, files []RoleFiles, role string) ([]tree.Entry, error) {
	var out []tree.Entry
	from := map[string]string{}
	for _, f := range files {
		if f.Role != role {
			continue
		}
		entries, err := collect(ctx, f.Tree.in(w), "")
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			other, twice := from[e.Name]
			if twice && !e.Mode.IsDir() {
				return nil, fault.New(fault.BadInput, "%s is in %s and in %s", e.Name, other, f.Tree.Step.Name())
			}
			if !twice {
				from[e.Name] = f.Tree.Step.Name()
				out = append(out, e)
			}
		}
	}
	return out, nil
}

func (c *composition) fat(ctx context.Context, s span) error {
	entries, err := roleEntries(ctx, c.work, c.disk.Files, s.Role)
	if err != nil {
		return fault.Wrap(fault.IO, err, "collecting the files of partition %s", s.Name)
	}
	entries = append(entries, c.further...)
	normal := tree.Normal{Time: c.disk.Epoch.Time()}
	used, err := fat.Write(c.file, s.Start, normal.All(entries), fat.Options{
		Bits: fatBits[s.Format], Size: s.Length, Label: s.Name, ID: c.id.number(s.Role), Time: normal.Time, Hidden: uint32(s.Start / 512),
	})
	c.used = append(c.used, bmap.Extent{Offset: s.Start, Length: used})
	if err != nil {
		return fatError(s.Name, s.Length, err)
	}
	c.warnFull(s, used)
	return nil
}

// nearlyFull is the part of a boot partition in percent above which a build warns: updates of
// firmware files need space too.
const nearlyFull = 80

func (c *composition) warnFull(s span, used int64) {
	if percent := used * 100 / s.Length; percent > nearlyFull && c.further == nil {
		c.work.Warn(fmt.Sprintf("partition %s: %d %% of it are in use; make it larger in target.yaml", s.Name, percent))
	}
}

// section is a range of the image as a file of its own.
type section struct {
	*io.OffsetWriter
	size int64
}

// Truncate implements squashfs.File for a file that has its size.
func (s section) Truncate(size int64) error {
	if size > s.size {
		return fault.New(fault.NoSpace, "its content needs %d bytes, it has %d", size, s.size)
	}
	return nil
}

func (c *composition) squashfs(ctx context.Context, s span) error {
	entries, err := roleEntries(ctx, c.work, c.disk.Files, s.Role)
	if err != nil {
		return fault.Wrap(fault.IO, err, "collecting the files of partition %s", s.Name)
	}
	normal := tree.Normal{AllRoot: true, Time: c.disk.Epoch.Time()}
	file := section{io.NewOffsetWriter(c.file, s.Start), s.Length}
	err = squashfs.Write(ctx, file, squashfs.Options{Compression: squashfs.Zstd}, func(add func(tree.Entry) error) error {
		for _, e := range normal.All(entries) {
			if err := add(e); err != nil {
				return err
			}
		}
		return nil
	})
	c.used = append(c.used, bmap.Extent{Offset: s.Start, Length: s.Length})
	return fault.Wrap(fault.IO, err, "making partition %s", s.Name)
}

// rawPartition has what a blob wrote there already, or zeros.
func (c *composition) rawPartition(_ context.Context, s span) error {
	c.used = append(c.used, bmap.Extent{Offset: s.Start, Length: s.Length})
	return nil
}

func (c *composition) storage(ctx context.Context, s span) error {
	if !roles[s.Role].storage {
		return fault.New(fault.Unsupported, "making partition %s: %s is for the role root alone", s.Name, s.Format)
	}
	if err := c.makeExt4(ctx, s); err != nil {
		return err
	}
	used, err := ext4.Used(c.file, s.Start)
	for _, e := range used {
		c.used = append(c.used, bmap.Extent(e))
	}
	return fault.Wrap(fault.IO, err, "reading partition %s", s.Name)
}

// bmap writes the block map: the ranges that the file system reports as data, and those
// that readers rely on, which some file systems store as holes when they are zeros.
func (c *composition) bmap(ctx context.Context) error {
	data, err := bmap.Extents(c.file)
	if err != nil {
		return fault.Wrap(fault.IO, err, "mapping the image")
	}
	data = append(data, c.relied()...)
	size, err := c.file.Seek(0, io.SeekEnd)
	if err != nil {
		return fault.Wrap(fault.IO, err, "mapping the image")
	}
	m, err := bmap.Create(ctx, c.file, size, data)
	if err != nil {
		return fault.Wrap(fault.IO, err, "mapping the image")
	}
	err = os.WriteFile(filepath.Join(c.work.Out, BmapFile), m.Encode(), 0o644)
	return fault.Wrap(fault.IO, err, "writing the block map")
}

// relied returns the partition table with its copies, and what blobs and file systems use.
func (c *composition) relied() []bmap.Extent {
	out := slices.Clone(c.used)
	for _, e := range tables[c.disk.Layout.Table].reserved(int64(c.disk.Layout.Size) * mib) {
		out = append(out, bmap.Extent{Offset: e.from, Length: e.to - e.from})
	}
	return out
}
