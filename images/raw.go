package images

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/pantavisor/pantavisor/formats/bmap"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// place is a named range of the medium.
type place struct {
	name string
	extent
}

func (p place) String() string { return fmt.Sprintf("%s (bytes %d to %d)", p.name, p.from, p.to) }

// checkBlobs gives the blobs of partitions their offsets and checks that blobs do not overlap
// each other, the partition table or the partitions. Each blob occupies all of its reserved
// space.
func (c *composition) checkBlobs() error {
	c.blobs = slices.Clone(c.disk.Layout.Blobs)
	var errs []error
	for i := range c.blobs {
		errs = append(errs, c.locate(&c.blobs[i]))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	form, err := tableOf(c.disk.Layout)
	if err != nil {
		return err
	}
	size := int64(c.disk.Layout.Size) * mib
	var taken []place
	for _, e := range form.reserved(size) {
		taken = append(taken, place{"the partition table", e})
	}
	for _, s := range c.spans {
		taken = append(taken, place{"partition " + s.Name, extent{s.Start, s.Start + s.Length}})
	}
	for _, b := range c.blobs {
		p := place{"blob " + b.Name, extent{b.Offset, b.Offset + b.Max}}
		if b.Offset < 0 || b.Max <= 0 || b.Max > size || b.Offset > size-b.Max {
			errs = append(errs, fault.New(fault.BadInput, "placing blob %s: %d bytes at %d are not a place of a medium of %d bytes", b.Name, b.Max, b.Offset, size))
			continue
		}
		for _, t := range taken {
			if p.from < t.to && t.from < p.to && t.name != "partition "+b.Partition {
				errs = append(errs, fault.New(fault.BadInput, "placing %s: it overlaps %s", p, t))
			}
		}
		taken = append(taken, p)
	}
	return errors.Join(append(errs, c.checkBlobSizes()...)...)
}

// locate sets place and space of a blob that is in a partition.
func (c *composition) locate(b *Blob) error {
	if b.Partition == "" {
		return nil
	}
	for _, s := range c.spans {
		if s.Name != b.Partition {
			continue
		}
		b.Offset = s.Start
		if b.Max == 0 {
			b.Max = s.Length
		}
		if s.Format != "raw" || b.Max > s.Length {
			return fault.New(fault.BadInput, "placing blob %s: partition %s with the format %s and %d bytes is no place for %d bytes", b.Name, s.Name, s.Format, s.Length, b.Max)
		}
		return nil
	}
	return fault.New(fault.BadInput, "placing blob %s: there is no partition %s", b.Name, b.Partition)
}

// checkBlobSizes checks that the files fit into their reserved space.
func (c *composition) checkBlobSizes() []error {
	var errs []error
	for _, b := range c.blobs {
		info, err := os.Stat(b.File.in(c.work))
		switch {
		case err != nil:
			errs = append(errs, fault.Wrap(fault.Missing, err, "placing blob %s", b.Name))
		case !info.Mode().IsRegular():
			errs = append(errs, fault.New(fault.BadInput, "placing blob %s: %s is not a regular file", b.Name, b.File.File))
		case info.Size() < b.Skip+b.Length:
			errs = append(errs, fault.New(fault.BadInput, "placing blob %s: the file has %d bytes; want %d", b.Name, info.Size(), b.Skip+b.Length))
		case info.Size() == b.Skip:
			errs = append(errs, fault.New(fault.BadInput, "placing blob %s: nothing of %s is left to write: it has %d bytes, and %d are skipped", b.Name, b.File.File, info.Size(), b.Skip))
		case b.Length == 0 && info.Size()-b.Skip > b.Max || b.Length > b.Max:
			errs = append(errs, fault.New(fault.NoSpace, "placing blob %s: its %d bytes are more than the %d that it has at offset %d: raise its max, or take another file", b.Name, max(b.Length, info.Size()-b.Skip), b.Max, b.Offset))
		}
	}
	return errs
}

// raw writes the blobs to their places.
func (c *composition) raw(ctx context.Context) error {
	for _, b := range c.blobs {
		if err := ctx.Err(); err != nil {
			return fault.Wrap(fault.Cancelled, err, "writing blob %s", b.Name)
		}
		if err := c.writeBlob(b); err != nil {
			return fault.Wrap(fault.IO, err, "writing blob %s", b.Name)
		}
	}
	return nil
}

func (c *composition) writeBlob(b Blob) error {
	f, err := os.Open(b.File.in(c.work))
	if err != nil {
		return err
	}
	defer f.Close()
	length := b.Max
	if b.Length != 0 {
		length = b.Length
	}
	var content io.Reader = io.NewSectionReader(f, b.Skip, length)
	if b.Swap {
		content = &swapped{from: bufio.NewReader(content)}
	}
	n, err := io.Copy(io.NewOffsetWriter(c.file, b.Offset), content)
	c.used = append(c.used, bmap.Extent{Offset: b.Offset, Length: n})
	c.work.Contains(fmt.Sprintf("blob %s (from byte %d)", b.Name, b.Offset), n)
	return err
}
