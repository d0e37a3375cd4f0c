package bench

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"

	"github.com/pantavisor/pantavisor/flash/personalize"
	"github.com/pantavisor/pantavisor/formats/bmap"
	"github.com/pantavisor/pantavisor/formats/ext4"
	"github.com/pantavisor/pantavisor/formats/personal"
	"github.com/pantavisor/pantavisor/formats/tree"
	"github.com/pantavisor/pantavisor/formats/xz4"
	"github.com/pantavisor/pantavisor/formats/xzenc"
)

// The measured image: a storage behind 64 MiB.
const (
	personalStart = 64 << 20
	personalPiece = 16 << 20 // compressed by itself, as by the build
)

// personalizing sets a host name in an image, and in one that is compressed as the build does.
func personalizing(ctx context.Context, _ string) ([]Row, error) {
	work, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(work)
	raw := filepath.Join(work, "disk.img")
	if err := deviceImage(ctx, raw); err != nil {
		return nil, err
	}
	packed := filepath.Join(work, "packed.img.xz")
	if err := packPieces(ctx, raw, packed); err != nil {
		return nil, err
	}
	table, err := os.ReadFile(raw + ".bmap")
	if err = errors.Join(err, os.WriteFile(filepath.Join(work, "packed.img.bmap"), table, 0o644)); err != nil {
		return nil, err
	}
	var rows []Row
	for _, m := range []struct{ what, image, to, note string }{
		{"mage personalize: 4 GiB with 125 MB mapped", raw, "", "in place, with its block map"},
		{"mage personalize: a copy of the same as xz in pieces", packed, filepath.Join(work, "card.img.xz"), "a piece of 16 MiB that does not compress is compressed again"},
	} {
		var wall, cpu []float64
		for n := range runs {
			if err := os.RemoveAll(m.to); err != nil {
				return nil, err
			}
			s, err := measure(func() error {
				_, err := personalize.Change(ctx, m.image, m.to, func(personal.Settings) (personal.Settings, error) {
					return personal.Settings{Hostname: fmt.Sprintf("sensor-%d", n)}, nil
				})
				return err
			})
			if err != nil {
				return nil, err
			}
			wall, cpu = append(wall, s.wall), append(cpu, s.cpu)
		}
		rows = append(rows, row(m.what, "s wall", 2, wall, m.note), row(m.what, "CPU s", 0, cpu, ""))
	}
	return rows, nil
}

// deviceImage makes an image with an MBR and a storage, and its block map.
func deviceImage(ctx context.Context, name string) (err error) {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	noise := make([]byte, 1<<20)
	random := rand.NewChaCha8([32]byte{5})
	entries := []tree.Entry{{Name: "config", Mode: fs.ModeDir | 0o755}, fileEntry(personal.Name, personal.Blank()), {Name: "objects", Mode: fs.ModeDir | 0o755}}
	for i := range 120 {
		_, _ = random.Read(noise)
		entries = append(entries, fileEntry(fmt.Sprintf("objects/%d", i), bytes.Clone(noise)))
	}
	if err := f.Truncate(flashedSize); err != nil {
		return err
	}
	const size = flashedSize - personalStart
	if err := ext4.Write(ctx, offsetWriter{f}, entries, ext4.Options{Size: size, Journal: 16 << 20, InodeRatio: 32768}); err != nil {
		return err
	}
	const linux, sector, entryAt = 0x83, 512, 446
	record := make([]byte, sector)
	record[entryAt+4] = linux
	binary.LittleEndian.PutUint32(record[entryAt+8:], personalStart/sector)
	binary.LittleEndian.PutUint32(record[entryAt+12:], size/sector)
	record[510], record[511] = 0x55, 0xAA
	if _, err := f.WriteAt(record, 0); err != nil {
		return err
	}
	used, err := ext4.Used(f, personalStart)
	if err != nil {
		return err
	}
	extents := []bmap.Extent{{Offset: 0, Length: sector}}
	for _, e := range used {
		extents = append(extents, bmap.Extent(e))
	}
	m, err := bmap.Create(ctx, f, flashedSize, extents)
	if err != nil {
		return err
	}
	return os.WriteFile(name+".bmap", m.Encode(), 0o644)
}

func fileEntry(name string, data []byte) tree.Entry {
	return tree.Entry{Name: name, Mode: 0o600, Size: int64(len(data)), Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }}
}

// offsetWriter writes the storage.
type offsetWriter struct{ *os.File }

// WriteAt writes behind the start of the storage.
func (w offsetWriter) WriteAt(p []byte, at int64) (int, error) {
	return w.File.WriteAt(p, personalStart+at)
}

// packPieces compresses an image in pieces.
func packPieces(ctx context.Context, from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	var all []xz4.Input
	known := map[string]xz4.Input{} // what is empty is compressed once
	data := make([]byte, personalPiece)
	for at := int64(0); at < flashedSize; at += personalPiece {
		if _, err := in.ReadAt(data, at); err != nil {
			return err
		}
		key := ""
		if bytes.Count(data, []byte{0}) == len(data) {
			key = "empty"
		}
		piece, ok := known[key]
		if key == "" || !ok {
			var b bytes.Buffer
			z, err := xzenc.NewWriter(ctx, &b, xzenc.Options{Check: xzenc.CRC32, Block: personalPiece, Workers: 1})
			if err != nil {
				return err
			}
			if _, err := z.Write(data); err != nil {
				return err
			}
			if err := z.Close(); err != nil {
				return err
			}
			piece = xz4.Input{ReaderAt: bytes.NewReader(b.Bytes()), Size: int64(b.Len())}
			known[key] = piece
		}
		all = append(all, piece)
	}
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	return xz4.Join(out, all...)
}
