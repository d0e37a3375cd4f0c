package ubi

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/pantavisor/pantavisor/formats/region"
)

// errFormat is wrapped by every error about bytes that are not an image of UBI.
var errFormat = errors.New("not an image of UBI")

// Magic is how each erase block begins.
const Magic = "UBI#"

// Volume is a volume of an image that is read. Blocks that are not there read as zeros.
type Volume struct {
	Number  uint32
	Name    string
	Content *region.Mapped
}

// Image is an image that is read.
type Image struct {
	Volumes []Volume
	// Block is the size of erase blocks in bytes.
	Block int64

	size, data int64
	owner      []string // by erase block
}

// maxBlocks bounds the memory for an image.
const maxBlocks = 1 << 20

// Read reads the headers of an image of size bytes.
func Read(r io.ReaderAt, size int64) (*Image, error) {
	head := make([]byte, headerSize)
	be := binary.BigEndian
	if _, err := r.ReadAt(head, 0); err != nil || be.Uint32(head) != blockMagic {
		return nil, fmt.Errorf("reading the first block: %w", errFormat)
	}
	i := &Image{size: size, data: int64(be.Uint32(head[20:]))}
	volumeAt := int64(be.Uint32(head[16:]))
	for i.Block = i.data * 2; i.Block < size && i.Block > 0; i.Block *= 2 { // the second block tells the size
		if _, err := r.ReadAt(head, i.Block); err == nil && be.Uint32(head) == blockMagic {
			break
		}
	}
	if i.Block > size || volumeAt < headerSize || i.data < volumeAt+headerSize || i.Block <= i.data || size/i.Block > maxBlocks {
		return nil, fmt.Errorf("headers at %d and data at %d of blocks of %d bytes: %w", volumeAt, i.data, i.Block, errFormat)
	}
	runs := map[uint32][]region.Run{}
	payload := i.Block - i.data
	for at := int64(0); at+i.Block <= size; at += i.Block {
		owner := "an erase block that no volume uses"
		if _, err := r.ReadAt(head, at+volumeAt); err != nil {
			return nil, fmt.Errorf("reading the headers of the block at %d: %w", at, err)
		}
		if be.Uint32(head) == volumeMagic {
			volume, number := be.Uint32(head[8:]), be.Uint32(head[12:])
			owner = fmt.Sprintf("block %d of volume %d", number, volume)
			if volume == layoutVolume {
				owner = fmt.Sprintf("copy %d of the table of volumes", number+1)
			}
			runs[volume] = append(runs[volume], region.Run{Offset: int64(number) * payload, Length: payload, From: at + i.data})
		}
		i.owner = append(i.owner, owner)
	}
	return i, i.volumes(r, runs)
}

// volumes reads the table of volumes.
func (i *Image) volumes(r io.ReaderAt, runs map[uint32][]region.Run) error {
	layout := runs[layoutVolume]
	if len(layout) == 0 {
		return fmt.Errorf("there is no table of volumes: %w", errFormat)
	}
	payload := i.Block - i.data
	table := make([]byte, min(maxVolumes, payload/recordSize)*recordSize)
	if _, err := r.ReadAt(table, layout[0].From); err != nil {
		return fmt.Errorf("reading the table of volumes: %w", err)
	}
	be := binary.BigEndian
	for n := range uint32(len(table) / recordSize) {
		b := table[n*recordSize:]
		if be.Uint32(b) == 0 {
			continue
		}
		length := be.Uint16(b[14:])
		if length > maxName {
			return fmt.Errorf("the name of volume %d has %d bytes: %w", n, length, errFormat)
		}
		list := runs[n]
		slices.SortStableFunc(list, func(a, b region.Run) int { return int((a.Offset - b.Offset) / payload) })
		list = slices.CompactFunc(list, func(a, b region.Run) bool { return a.Offset == b.Offset })
		size := int64(0)
		if last := len(list) - 1; last >= 0 {
			size = list[last].Offset + payload
		}
		i.Volumes = append(i.Volumes, Volume{n, string(b[16 : 16+length]), region.NewMapped(r, size, list)})
	}
	return nil
}

// Regions describes the image. The content of volumes is that of files with their names.
func (i *Image) Regions(add region.Add) {
	for n, owner := range i.owner {
		at := int64(n) * i.Block
		add.Own(at, i.data, "headers of %s", owner)
		add.Own(at+i.data, i.Block-i.data, "%s", owner)
	}
	for _, v := range i.Volumes {
		for _, r := range v.Content.Runs() {
			add(r.From, r.Length, func() region.Place {
				return region.Place{Name: fmt.Sprintf("volume %d", v.Number), File: v.Name, Offset: r.Offset}
			})
		}
	}
}
