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
	note, err := c.inputs(root)
	if err != nil {
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
		ours, high, err := c.ours(ctx, c.at(inputs.ListFile))
		if err != nil {
			return nil, err
		}
		theirs, err := measure(func() error { return c.theirs(ctx) })
		if err != nil {
			return nil, err
		}
		cpu, peak = append(cpu, ours.cpu/theirs.cpu), append(peak, high)
	}
	whole, modules, err := c.target(ctx, root)
	if err != nil {
		return nil, err
	}
	return []Row{
		row("GPT image by pvcompose: CPU time", "×", 1.5, cpu, "of mksquashfs (zstd) and mke2fs -d alone; ours with verity, digests, the block map; "+note),
		row("GPT image by pvcompose: peak memory", "MiB", 64, peak, "a kernel without modules"),
		row("image of "+target+" by pvcompose", "CPU s", 0, whole, "from its list of inputs; nothing is cached"),
		row("image of "+target+" by pvcompose: peak memory", "MiB", 64, modules, "kernel with modules and firmware, a device binary"),
		row("pvcompose", "MB", 12, []float64{float64(info.Size()) / 1e6}, "static and stripped"),
		row("start of pvcompose", "CPU ms", 15, start, "`pvcompose version`"),
	}, nil
}

// composer composes a directory.
type composer struct{ program, work string }

func (c composer) at(name string) string { return filepath.Join(c.work, name) }

// target composes the image of a target from its list and returns CPU seconds and peak memory.
func (c composer) target(ctx context.Context, root string) (cpu, peak []float64, err error) {
	dir := c.at(target)
	if err := silent(root).Inputs(ctx, target, dir); err != nil {
		return nil, nil, err
	}
	for range runs {
		u, high, err := c.ours(ctx, filepath.Join(dir, inputs.ListFile))
		if err != nil {
			return nil, nil, err
		}
		cpu, peak = append(cpu, u.cpu), append(peak, high)
	}
	return cpu, peak, nil
}

// composedBytes is the size of the files in the measured image.
const composedBytes = 315e6

// machineFiles copies files of this machine's /usr, programs, libraries and texts as a container
// has them, and returns how many there are, with their bytes.
func machineFiles(dir string) (files int, total int64, err error) {
	for _, from := range []string{"/usr/bin", "/usr/lib", "/usr/share"} {
		err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
			switch {
			case total >= composedBytes:
				return fs.SkipAll
			case err != nil || !d.Type().IsRegular():
				return nil //nolint:nilerr // what cannot be read is not measured
			}
			text, err := os.ReadFile(path)
			if err != nil || len(text) > composedBytes/8 {
				return nil //nolint:nilerr // likewise
			}
			files, total = files+1, total+int64(len(text))
			to := filepath.Join(dir, path)
			return errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, text, 0o755))
		})
		if err != nil {
			return 0, 0, err
		}
	}
	return files, total, nil
}

// inputs writes the files, and a list for a board with a kernel of a few bytes; it returns what the
// files are.
func (c composer) inputs(root string) (string, error) {
	files, total, err := machineFiles(c.at("files"))
	if err != nil {
		return "", err
	}
	small := inputs.File{Path: c.at("small")}
	if err := os.WriteFile(small.Path, []byte("a kernel"), 0o644); err != nil {
		return "", err
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
		return "", err
	}
	note := fmt.Sprintf("%d files, %.0f MB, of this machine's /usr", files, float64(total)/1e6)
	return note, os.WriteFile(c.at(inputs.ListFile), text, 0o644)
}

// ours composes the image and returns also the program's peak memory in MiB.
func (c composer) ours(ctx context.Context, list string) (u usage, high float64, err error) {
	defer func() { err = errors.Join(err, os.RemoveAll(c.at("out"))) }()
	u, err = measure(func() error {
		cmd := exec.CommandContext(ctx, c.program, "build", "-i", list, "-o", c.at("out"))
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
