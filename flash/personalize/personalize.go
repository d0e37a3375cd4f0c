// Package personalize changes the personal settings of a finished image or of a card: the file
// that package personal describes, which is found in the file systems of the image and
// overwritten in place. Nothing is mounted, and no other byte is changed.
package personalize

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/flash"
	"github.com/pantavisor/pantavisor/formats/bmap"
	"github.com/pantavisor/pantavisor/formats/ext4"
	"github.com/pantavisor/pantavisor/formats/partition"
	"github.com/pantavisor/pantavisor/formats/personal"
	"github.com/pantavisor/pantavisor/formats/region"
	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/filecopy"
)

// Result says what was changed.
type Result struct {
	// Path is the image or card.
	Path string
	// Partition is the number of the one with the settings.
	Partition int
	// Map is the block map that was brought up to date, "" when there is none.
	Map string
}

// Show reads the settings of an image or a card. The error has the kind [fault.Unsupported] for
// one that has no place for them, and [fault.BadInput] for one that is incomplete.
func Show(ctx context.Context, path string) (personal.Settings, error) {
	s, err := show(ctx, path)
	return s, fault.Wrap(fault.IO, err, "reading the personal settings of %s", path)
}

func show(ctx context.Context, path string) (personal.Settings, error) {
	packed, err := compression(path)
	if err != nil {
		return personal.Settings{}, err
	}
	if packed != nil {
		return showPacked(ctx, packed, path)
	}
	m, err := open(path, os.O_RDONLY)
	if err != nil {
		return personal.Settings{}, err
	}
	defer m.Close()
	p, err := locate(ctx, m, m.size)
	if err != nil {
		return personal.Settings{}, err
	}
	s, err := personal.Read(p)
	return s, fault.Wrap(fault.BadInput, err, "partition %d", p.partition)
}

// Change changes the settings of an image or a card: change returns the new ones. With a path to,
// it makes a changed copy of an image and leaves the image as it is; there must be nothing at to.
func Change(ctx context.Context, path, to string, change func(personal.Settings) (personal.Settings, error)) (*Result, error) {
	r, err := changeAt(ctx, path, to, change)
	return r, fault.Wrap(fault.IO, err, "personalising %s", path)
}

func changeAt(ctx context.Context, path, to string, change func(personal.Settings) (personal.Settings, error)) (*Result, error) {
	if err := free(to); err != nil {
		return nil, err
	}
	packed, err := compression(path)
	if err != nil {
		return nil, err
	}
	if packed != nil {
		return changePacked(ctx, packed, path, to, change)
	}
	if to == "" {
		return changeIn(ctx, path, change)
	}
	return changeCopy(ctx, path, to, change)
}

// changeCopy makes a changed copy of an image, which has its name when all of it is there.
func changeCopy(ctx context.Context, path, to string, change func(personal.Settings) (personal.Settings, error)) (*Result, error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, fault.New(fault.BadInput, "a copy is made of an image, not of a disk")
	}
	from, err := open(path, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer from.Close()
	table, err := readMap(path, to)
	if err != nil {
		return nil, err
	}
	out, err := atomicfile.Create(to, copyMode)
	if err != nil {
		return nil, err
	}
	defer out.Abort()
	if err := filecopy.Content(ctx, out.File, from.File); err != nil {
		return nil, err
	}
	p, err := changeMedium(ctx, &medium{out.File, from.size, false}, from.size, table, change)
	if err != nil {
		return nil, err
	}
	return finish(out, table, &Result{Path: to, Partition: p.partition}, true)
}

// finish gives a changed image its name, and writes its map. Of a copy, nothing is left on an
// error.
func finish(out *atomicfile.File, table blockMap, r *Result, isCopy bool) (*Result, error) {
	if err := out.Commit(); err != nil {
		return nil, err
	}
	var err error
	if r.Map, err = table.save(); err != nil && isCopy {
		err = errors.Join(err, os.Remove(r.Path))
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

// copyMode is the mode of copies: they have passwords and tokens.
const copyMode = 0o600

// free checks that a copy would not take the place of other files, and that no block map of another
// image would be taken for its own.
func free(to string) error {
	if to == "" {
		return nil
	}
	for _, name := range []string{to, to + ".bmap", flash.MapName(to)} {
		if _, err := os.Lstat(name); err == nil {
			return fault.New(fault.BadInput, "there is a file %s already", name)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// changeIn changes the image or card at path itself.
func changeIn(ctx context.Context, path string, change func(personal.Settings) (personal.Settings, error)) (*Result, error) {
	m, err := open(path, os.O_RDWR)
	if err != nil {
		return nil, err
	}
	var table blockMap
	if !m.device {
		table, err = readMap(path, path)
	}
	var p *place
	if err == nil {
		p, err = changeMedium(ctx, m, m.size, table, change)
	}
	if err = errors.Join(err, m.Close()); err != nil {
		return nil, err
	}
	r := &Result{Path: path, Partition: p.partition}
	r.Map, err = table.save()
	return r, err
}

// changeMedium changes a medium of size bytes, and the block map of it in memory.
func changeMedium(ctx context.Context, m io.ReaderAt, size int64, table blockMap, change func(personal.Settings) (personal.Settings, error)) (*place, error) {
	p, err := locate(ctx, m, size)
	if err != nil {
		return nil, err
	}
	if err := table.covers(p); err != nil {
		return nil, err
	}
	if err := write(p, change); err != nil {
		return nil, err
	}
	return p, table.update(ctx, m, p)
}

// write writes the settings that change returns.
func write(p *place, change func(personal.Settings) (personal.Settings, error)) error {
	old, err := personal.Read(p)
	if err != nil && !errors.Is(err, personal.ErrFormat) { // what is damaged is written anew
		return err
	}
	s, err := change(old)
	if err != nil {
		return err
	}
	err = personal.Write(p, s)
	if errors.Is(err, personal.ErrTooLarge) {
		return fault.Wrap(fault.BadInput, err, "too many settings")
	}
	return err
}

// blockMap is a block map that is to be brought up to date, nil for none, and its file.
type blockMap struct {
	*bmap.Map
	name string
}

// readMap reads the block map of the image from for a changed image at path, before anything is
// changed: one that is damaged is told then.
func readMap(from, path string) (blockMap, error) {
	table, name, err := flash.MapOf(from)
	if path != from {
		name = flash.MapName(path)
	}
	return blockMap{table, name}, err
}

// covers checks that the map has the blocks of the file, before they are changed: a flasher would
// not write others.
func (b blockMap) covers(p *place) error {
	if b.Map == nil {
		return nil
	}
	return b.failed(b.Covers(p.extents()))
}

// update gives the map new sums.
func (b blockMap) update(ctx context.Context, image io.ReaderAt, p *place) error {
	if b.Map == nil {
		return nil
	}
	return b.failed(b.Update(ctx, image, p.extents()))
}

func (b blockMap) failed(err error) error {
	return fault.Wrap(fault.BadInput, err, "bringing the block map %s up to date", b.name)
}

// save writes the map and returns the name of its file. An interruption before leaves one whose
// sums tell that the image is another.
func (b blockMap) save() (string, error) {
	if b.Map == nil {
		return "", nil
	}
	return b.name, atomicfile.Write(b.name, b.Encode(), 0o644)
}

// medium is an image or a card that is open.
type medium struct {
	*os.File
	size   int64
	device bool
}

// open opens an image, or claims a disk.
func open(path string, mode int) (*medium, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fault.New(fault.Missing, "it is not there")
	case err != nil:
		return nil, err
	case info.Mode().Type() == fs.ModeDevice:
		return openDisk(path, mode)
	case !info.Mode().IsRegular():
		return nil, fault.New(fault.BadInput, "it is neither an image nor a disk")
	}
	f, err := os.OpenFile(path, mode, 0)
	if err != nil {
		return nil, err
	}
	return &medium{f, info.Size(), false}, nil
}

func openDisk(path string, mode int) (*medium, error) {
	var f *os.File
	var err error
	if mode == os.O_RDONLY {
		f, err = os.Open(path)
	} else {
		f, err = flash.Claim(path)
	}
	if err != nil {
		return nil, err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &medium{f, size, true}, nil
}

// Sync waits until what was written is on the medium, and makes later reads come from there and not
// from the cache of the system.
func (m *medium) Sync() error {
	if err := m.File.Sync(); err != nil {
		return err
	}
	return unix.Fadvise(int(m.Fd()), 0, 0, unix.FADV_DONTNEED)
}

// place is where the file of settings is.
type place struct {
	*region.Mapped // the content, in runs of the partition
	partition      int
	medium         io.ReaderAt
	start          int64 // of the partition in bytes
}

var _ personal.File = (*place)(nil)

// locate finds the file in the partitions of a medium.
func locate(ctx context.Context, m io.ReaderAt, size int64) (*place, error) {
	if mark, ok := flash.ReadMark(m); ok {
		return nil, fault.New(fault.BadInput, "it is %v; flash it again first", mark)
	}
	table, err := partition.Read(m, size)
	if errors.Is(err, partition.ErrFormat) {
		return nil, fault.Wrap(fault.Unsupported, err, "it is not an image of a disk")
	}
	if err != nil {
		return nil, err
	}
	var found *place
	for _, p := range table.Partitions {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		at, err := locateIn(io.NewSectionReader(m, p.Start, p.Size), p.Size, p.Number)
		switch {
		case err != nil:
			return nil, fault.Wrap(fault.BadInput, err, "partition %d", p.Number)
		case at == nil:
			continue
		case found != nil:
			return nil, fault.New(fault.BadInput, "partitions %d and %d both have the file %s", found.partition, p.Number, personal.Name)
		}
		at.medium, at.start = m, p.Start
		found = at
	}
	if found == nil {
		return nil, fault.New(fault.Unsupported, "no partition has the file %s: it is not an image for devices, or of a version that cannot be personalised", personal.Name)
	}
	return found, nil
}

// locateIn finds the file in one partition of size bytes, nil when it has none.
func locateIn(r io.ReaderAt, size int64, number int) (*place, error) {
	fsys, err := ext4.Open(r)
	if err != nil {
		return nil, nil //nolint:nilerr // it is another file system, or none
	}
	f, err := fsys.Lookup(personal.Name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !fsys.Clean() {
		return nil, fault.New(fault.BadInput, "its file system was in use when the power went: start the device once and power it off, or let e2fsck -p mend the partition")
	}
	if f.Content == nil || f.Size != personal.Size {
		return nil, fault.New(fault.BadInput, "the file %s is not one of %d bytes", personal.Name, personal.Size)
	}
	p := &place{Mapped: f.Content, partition: number}
	at := int64(0)
	for _, run := range p.Runs() {
		if run.Offset != at {
			break
		}
		if run.From < 0 || run.Length > size-run.From {
			return nil, fault.New(fault.BadInput, "the file %s is in blocks behind the end of the partition: the file system is damaged", personal.Name)
		}
		at += run.Length
	}
	if at < personal.Size {
		return nil, fault.New(fault.BadInput, "the file %s has holes: on the device, write it anew or remove it", personal.Name)
	}
	return p, nil
}

// WriteAt overwrites a part of the file.
func (p *place) WriteAt(b []byte, off int64) (int, error) {
	w, ok := p.medium.(io.WriterAt)
	if !ok {
		return 0, errors.ErrUnsupported
	}
	if off < 0 || off+int64(len(b)) > personal.Size {
		return 0, fmt.Errorf("bytes %d to %d of %s: %w", off, off+int64(len(b)), personal.Name, io.ErrUnexpectedEOF)
	}
	done := 0
	for _, run := range p.Runs() {
		at := off + int64(done)
		if at < run.Offset || at >= run.Offset+run.Length || done == len(b) {
			continue
		}
		n := int(min(run.Offset+run.Length-at, int64(len(b)-done)))
		if _, err := w.WriteAt(b[done:done+n], p.start+run.From+at-run.Offset); err != nil {
			return done, err
		}
		done += n
	}
	return done, nil
}

// Sync waits until what was written is on the medium.
func (p *place) Sync() error {
	if s, ok := p.medium.(interface{ Sync() error }); ok {
		return s.Sync()
	}
	return nil
}

// extents are where the file is on the medium.
func (p *place) extents() []bmap.Extent {
	var out []bmap.Extent
	for _, run := range p.Runs() {
		out = append(out, bmap.Extent{Offset: p.start + run.From, Length: min(run.Length, personal.Size-run.Offset)})
	}
	return out
}
