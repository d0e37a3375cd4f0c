package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/pantavisor/pantavisor/images/inputs"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// imageSize is that of the measured images, in MiB.
const imageSize = 512

// composed makes an image with the same files in a container with pvcompose, and their two file
// systems alone with mksquashfs and mke2fs, in turn.
func composed(ctx context.Context, root string) ([]Row, error) {
	work, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(work)
	c := composer{program: filepath.Join(work, "pvcompose"), work: work}
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", c.program, "./cmd/pvcompose")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building pvcompose: %w\n%s", err, out)
	}
	info, err := os.Stat(c.program)
	if err != nil {
		return nil, err
	}
	if err := c.inputs(root); err != nil {
		return nil, err
	}
	start, _, _, err := repeat(runs, func(int) error { return exec.CommandContext(ctx, c.program, "version").Run() })
	if err != nil {
		return nil, err
	}
	for i := range start {
		start[i] *= 1000
	}
	var cpu, peak []float64
	for range runs {
		ours, high, err := c.ours(ctx)
		if err != nil {
			return nil, err
		}
		theirs, err := measure(func() error { return c.theirs(ctx) })
		if err != nil {
			return nil, err
		}
		cpu, peak = append(cpu, ours.cpu/theirs.cpu), append(peak, high)
	}
	return []Row{
		row("GPT image by pvcompose: CPU time", "×", 1.5, cpu, "of mksquashfs (zstd) and mke2fs -d alone; ours with verity, digests, the block map; 6,400 files, 315 MB, that do not compress"),
		row("GPT image by pvcompose: peak memory", "MiB", 64, peak, ""),
		row("pvcompose", "MB", 12, []float64{float64(info.Size()) / 1e6}, "static and stripped"),
		row("start of pvcompose", "CPU ms", 15, start, "`pvcompose version`"),
	}, nil
}

// composer composes a directory.
type composer struct{ program, work string }

func (c composer) at(name string) string { return filepath.Join(c.work, name) }

// inputs writes the files, and a list for a board with a kernel of a few bytes.
func (c composer) inputs(root string) error {
	if err := manyFiles(c.at("files")); err != nil {
		return err
	}
	small := inputs.File{Path: c.at("small")}
	if err := os.WriteFile(small.Path, []byte("a kernel"), 0o644); err != nil {
		return err
	}
	type object = map[string]any
	config := func(name string) object { return object{"path": filepath.Join(root, "config", name)} }
	text, err := json.Marshal(object{
		"#spec": "pantavisor-inputs@1", "target": "board", "epoch": 1600000000, "arch": object{"go": "arm64"}, "outputs": []string{"image"},
		"runtime": small, "kernel": object{"image": small, "release": "6.1.0"},
		"containers": []object{{
			"name": "app", "root": object{"form": "directory", "path": c.at("files")}, "entrypoint": []string{"/app"}, "verity": true,
		}},
		"config": object{
			"runtime": config("generic/pantavisor.config"), "hub": config("generic/pantahub.config"), "defaults": config("defaults"),
		},
		"image": object{"size": imageSize, "table": "gpt", "partitions": []object{
			{"name": "boot", "role": "boot", "format": "fat32", "start": "1MiB", "size": "40MiB"}, {"name": "root", "role": "root", "format": "ext4"},
		}},
		"bootloader": object{"type": "uboot", "addresses": object{"initrd": 0x48000000}},
	})
	if err != nil {
		return err
	}
	return os.WriteFile(c.at(inputs.ListFile), text, 0o644)
}

// ours composes the image and returns also the program's peak memory in MiB.
func (c composer) ours(ctx context.Context) (u usage, high float64, err error) {
	defer func() { err = errors.Join(err, os.RemoveAll(c.at("out"))) }()
	u, err = measure(func() error {
		cmd := exec.CommandContext(ctx, c.program, "build", "-i", c.at(inputs.ListFile), "-o", c.at("out"))
		if err := cmd.Start(); err != nil {
			return err
		}
		peak := watch(cmd.Process.Pid)
		err := cmd.Wait()
		high = peak()
		return err
	})
	return u, high, err
}

// theirs makes a squashfs of the files and an ext4 with it.
func (c composer) theirs(ctx context.Context) (err error) {
	dir, img := c.at("storage"), c.at("image")
	defer func() { err = errors.Join(err, os.RemoveAll(dir), os.RemoveAll(img)) }()
	if err := os.Mkdir(dir, fs.FileMode(0o755)); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"mksquashfs", c.at("files"), filepath.Join(dir, "root.squashfs"), "-comp", "zstd", "-noappend", "-no-progress", "-quiet"},
		{"mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-d", dir, img, fmt.Sprintf("%dM", imageSize)},
	} {
		if _, err := exec.LookPath(args[0]); err != nil {
			return fault.New(fault.Missing, "%s, a program to compare with, is missing: install squashfs-tools and e2fsprogs", args[0])
		}
		if err := exec.CommandContext(ctx, args[0], args[1:]...).Run(); err != nil {
			return fmt.Errorf("running %s: %w", args[0], err)
		}
	}
	return nil
}
