package bench

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/pantavisor/pantavisor/formats/squashfs"
	"github.com/pantavisor/pantavisor/formats/tree"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// squash writes the same files with our squashfs writer and with mksquashfs, in turn.
func squash(ctx context.Context, _ string) ([]Row, error) {
	peer, err := exec.LookPath("mksquashfs")
	if err != nil {
		return nil, fault.New(fault.Missing, "mksquashfs, the program to compare with, is missing: install squashfs-tools")
	}
	work, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(work)
	files, noise := filepath.Join(work, "files"), filepath.Join(work, "noise")
	size, err := systemFiles(files, 300e6)
	if err != nil {
		return nil, err
	}
	if err := noiseFiles(noise); err != nil {
		return nil, err
	}
	s := squasher{ctx: ctx, peer: peer, out: filepath.Join(work, "image")}
	rows, err := s.compare(files, fmt.Sprintf("of mksquashfs in the same run; %.0f MB of this machine's /usr", float64(size)/1e6))
	if err != nil {
		return nil, err
	}
	for _, c := range []squashfs.Compression{squashfs.Zstd, squashfs.XZ} {
		cpu, _, _, err := repeat(runs, func(int) error { return s.ours(noise, c) })
		if err != nil {
			return nil, err
		}
		rows = append(rows, row(fmt.Sprintf("squashfs, %v, of 100 MB that do not compress", c), "CPU s", 1, cpu, ""))
	}
	return rows, nil
}

// squasher writes images of a directory.
type squasher struct {
	ctx  context.Context
	peer string // mksquashfs
	out  string
}

// compare returns rows of ratios between our writer and the peer.
func (s *squasher) compare(dir, note string) ([]Row, error) {
	var cpu, wall, size []float64
	for range runs {
		ours, ourSize, err := s.measure(func() error { return s.ours(dir, squashfs.Zstd) })
		if err != nil {
			return nil, err
		}
		theirs, theirSize, err := s.measure(func() error {
			return exec.CommandContext(s.ctx, s.peer, dir, s.out, "-comp", "zstd", "-noappend", "-no-progress", "-quiet").Run()
		})
		if err != nil {
			return nil, err
		}
		cpu, wall, size = append(cpu, ours.cpu/theirs.cpu), append(wall, ours.wall/theirs.wall), append(size, ourSize/theirSize)
	}
	return []Row{
		row("squashfs, zstd: CPU time", "×", 1.3, cpu, note),
		row("squashfs, zstd: wall time", "×", 1.1, wall, ""),
		row("squashfs, zstd: size", "×", 1.01, size, ""),
	}, nil
}

// measure runs do, which writes the image, and returns also the image's size in bytes.
func (s *squasher) measure(do func() error) (usage, float64, error) {
	u, err := measure(do)
	if err != nil {
		return u, 0, err
	}
	st, err := os.Stat(s.out)
	if err != nil {
		return u, 0, err
	}
	return u, float64(st.Size()), nil
}

func (s *squasher) ours(dir string, c squashfs.Compression) (err error) {
	f, err := os.Create(s.out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w, err := squashfs.NewWriter(f, squashfs.Options{Compression: c})
	if err != nil {
		return err
	}
	err = tree.Walk(s.ctx, dir, tree.Options{}, func(e tree.Entry) error { return w.Add(s.ctx, e) })
	return errors.Join(err, w.Close())
}

// noiseFiles writes 25 files of 4 MB each.
func noiseFiles(dir string) error {
	source := rand.NewChaCha8([32]byte{7})
	noise := make([]byte, 4e6)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for i := range 25 {
		_, _ = source.Read(noise)
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), noise, fs.FileMode(0o644)); err != nil {
			return err
		}
	}
	return nil
}
