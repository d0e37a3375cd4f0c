package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/pantavisor/pantavisor/formats/ext4"
	"github.com/pantavisor/pantavisor/formats/tree"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// ext4Size is that of the measured file systems.
const ext4Size = 512 << 20

// fileSystem makes an ext4 of the same files with our writer and with mke2fs, in turn.
func fileSystem(ctx context.Context, _ string) ([]Row, error) {
	peer, err := exec.LookPath("mke2fs")
	if err != nil {
		return nil, fault.New(fault.Missing, "mke2fs, the program to compare with, is missing: install e2fsprogs")
	}
	work, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(work)
	dir, img := filepath.Join(work, "files"), filepath.Join(work, "image")
	if err := manyFiles(dir); err != nil {
		return nil, err
	}
	var cpu, wall, peak []float64
	for range runs {
		debug.FreeOSMemory() // what was measured before
		ours, err := measure(func() error { return makeExt4(ctx, img, dir) })
		if err != nil {
			return nil, err
		}
		if err := os.Remove(img); err != nil {
			return nil, err
		}
		theirs, err := measure(func() error {
			return exec.CommandContext(ctx, peer, "-q", "-F", "-t", "ext4", "-b", "4096", "-d", dir, img, fmt.Sprintf("%dk", ext4Size>>10)).Run()
		})
		if err != nil {
			return nil, err
		}
		if err := os.Remove(img); err != nil {
			return nil, err
		}
		cpu, wall, peak = append(cpu, ours.cpu/theirs.cpu), append(wall, ours.wall/theirs.wall), append(peak, ours.peak)
	}
	return []Row{
		row("ext4: CPU time", "×", 1.2, cpu, "of mke2fs -d in the same run; 6,400 files, 315 MB"),
		row("ext4: wall time", "×", 1.1, wall, ""),
		row("ext4: peak memory", "MiB", 48, peak, "the whole process of the benchmarks"),
	}, nil
}

// makeExt4 makes a file system of a directory with our writer.
func makeExt4(ctx context.Context, img, dir string) (err error) {
	f, err := os.Create(img)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := f.Truncate(ext4Size); err != nil {
		return err
	}
	var entries []tree.Entry
	err = tree.Walk(ctx, dir, tree.Options{}, func(e tree.Entry) error {
		entries = append(entries, e)
		return nil
	})
	if err != nil {
		return err
	}
	return ext4.Write(ctx, f, entries, ext4.Options{Size: ext4Size, Journal: 16 << 20, Reserved: 5, Time: time.Unix(1, 0)})
}

// manyFiles writes 6,400 files with 315 MB, one in 80 of them of 3 MB.
func manyFiles(dir string) error {
	source := rand.NewChaCha8([32]byte{7})
	for i := range 6400 {
		data := make([]byte, 11_860)
		if i%80 == 0 {
			data = make([]byte, 3_000_000)
			if err := os.MkdirAll(filepath.Join(dir, fmt.Sprint(i/80)), 0o755); err != nil {
				return err
			}
		}
		_, _ = source.Read(data)
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i/80), fmt.Sprint(i)), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}
