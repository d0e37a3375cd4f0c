package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/pantavisor/pantavisor/flash"
	"github.com/pantavisor/pantavisor/formats/bmap"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// The measured image: how much it says it has, and how much of it has data, in as many pieces.
const (
	flashedSize   = 4 << 30
	flashedMapped = 125 << 20
	flashedPieces = 125
)

// flashing writes a sparse image to a loop device and verifies it, and for comparison copies it
// with bmaptool, which reads nothing back.
func flashing(ctx context.Context, _ string) (rows []Row, err error) {
	work, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(work)
	image := filepath.Join(work, "disk.img")
	if err := sparseImage(ctx, image); err != nil {
		return nil, err
	}
	device, detach, err := loopDevice(ctx, filepath.Join(work, "medium"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, detach()) }()
	var cpu, wall, peer []float64
	bmaptool, _ := exec.LookPath("bmaptool") // without it there is nothing to compare with
	for range runs {
		ours, err := measure(func() error { return flashOnce(ctx, image, device) })
		if err != nil {
			return nil, err
		}
		cpu, wall = append(cpu, ours.cpu), append(wall, ours.wall)
		if bmaptool == "" {
			continue
		}
		theirs, err := measure(func() error { return exec.CommandContext(ctx, bmaptool, "-q", "copy", image, device).Run() })
		if err != nil {
			return nil, fmt.Errorf("copying with bmaptool: %w", err)
		}
		peer = append(peer, theirs.cpu)
	}
	rows = []Row{
		row("mage flash: 4 GiB with 125 MB mapped, verified", "CPU s", 0.2, cpu, "to a loop device past the cache; SHA-256 of all that is read, and all of it read back from the medium and compared"),
		row("mage flash: 4 GiB with 125 MB mapped, verified", "s wall", 0, wall, ""),
	}
	if len(peer) > 0 {
		rows = append(rows, row("bmaptool copy of the same, not read back", "CPU s", 0, peer, "for comparison"))
	}
	return rows, nil
}

func flashOnce(ctx context.Context, image, device string) (err error) {
	im, err := flash.Open(ctx, image)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, im.Close()) }()
	r, err := flash.Write(ctx, im, device, flash.Options{})
	if err == nil && (r.Bytes != flashedMapped || !r.Direct) {
		err = fault.New(fault.Internal, "%d bytes were written, past the cache %v", r.Bytes, r.Direct)
	}
	return err
}

// sparseImage makes an image and its block map.
func sparseImage(ctx context.Context, name string) (err error) {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := f.Truncate(flashedSize); err != nil {
		return err
	}
	random := rand.NewChaCha8([32]byte{3})
	data := make([]byte, flashedMapped/flashedPieces)
	var extents []bmap.Extent
	for i := range int64(flashedPieces) {
		_, _ = random.Read(data)
		at := i * (flashedSize / flashedPieces) / bmap.BlockSize * bmap.BlockSize
		if _, err := f.WriteAt(data, at); err != nil {
			return err
		}
		extents = append(extents, bmap.Extent{Offset: at, Length: int64(len(data))})
	}
	m, err := bmap.Create(ctx, f, flashedSize, extents)
	if err != nil {
		return err
	}
	return os.WriteFile(name+".bmap", m.Encode(), 0o644)
}

// loopDevice makes a disk of a new sparse file.
func loopDevice(ctx context.Context, name string) (device string, detach func() error, err error) {
	err = os.WriteFile(name, nil, 0o644)
	if err = errors.Join(err, os.Truncate(name, flashedSize)); err != nil {
		return "", nil, err
	}
	out, err := exec.CommandContext(ctx, "losetup", "--show", "-f", name).Output()
	if err != nil {
		return "", nil, fault.Wrap(fault.Missing, err, "making a loop device, which needs losetup and the rights of root")
	}
	device = string(bytes.TrimSpace(out))
	return device, func() error {
		out, err := exec.CommandContext(context.WithoutCancel(ctx), "losetup", "-d", device).CombinedOutput()
		return fault.Wrap(fault.IO, err, "removing %s: %s", device, strings.TrimSpace(string(out)))
	}, nil
}
