package bench

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/pantavisor/pantavisor/images/inspect"
	"github.com/pantavisor/pantavisor/internal/workspace"
)

// differences compares the target's image with one in which each file has another time, so that
// everything is looked into, and with itself.
func differences(ctx context.Context, root string) ([]Row, error) {
	m, err := workspace.OpenMaker(ctx, root, target, nil)
	if err != nil {
		return nil, err
	}
	first, err := m.Image(ctx, "")
	if err != nil {
		return nil, err
	}
	work, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(work)
	w := silent(root)
	w.OutDir, w.Options.Epoch = work, 1600000000
	if _, err := w.Build(ctx, target); err != nil {
		return nil, err
	}
	images, err := filepath.Glob(filepath.Join(work, target, "*.img"))
	if err != nil || len(images) != 1 {
		return nil, fmt.Errorf("the build made the images %q", images)
	}
	info, err := os.Stat(first)
	if err != nil {
		return nil, err
	}
	count := 0
	other, wall, _, err := repeat(runs, func(int) (err error) {
		count, err = compareImages(ctx, first, images[0])
		return err
	})
	if err != nil {
		return nil, err
	}
	same, _, _, err := repeat(runs, func(int) error {
		_, err := compareImages(ctx, first, first)
		return err
	})
	if err != nil {
		return nil, err
	}
	note := fmt.Sprintf("two sparse images of %d MiB of %s; %d differences, each file has another time", info.Size()>>20, target, count)
	return []Row{
		row("`mage diff` of images in which everything differs", "CPU s", 1.5, other, note),
		row("`mage diff` of images in which everything differs", "s wall", 2, wall, ""),
		row("`mage diff` of images that are equal", "CPU s", 0.5, same, "read, and not looked into"),
	}, nil
}

// compareImages compares two images, writes the text for people, and returns the number of
// differences.
func compareImages(ctx context.Context, a, b string) (int, error) {
	var r inspect.Reader
	defer r.Close()
	na, err := r.Open(ctx, a)
	if err != nil {
		return 0, err
	}
	nb, err := r.Open(ctx, b)
	if err != nil {
		return 0, err
	}
	all, err := r.Compare(ctx, na, nb)
	if err != nil {
		return 0, err
	}
	return len(all), inspect.NewResult(a, b, all).Text(io.Discard)
}
