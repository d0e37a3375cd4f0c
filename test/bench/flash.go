package bench

import (
	"context"

	"github.com/pantavisor/pantavisor/test/powercut"
)

// flashWrites counts what a device writes to its disk for an app.
func flashWrites(ctx context.Context, root string) ([]Row, error) {
	written, size, err := powercut.Flash(ctx, root, target)
	if err != nil {
		return nil, err
	}
	return []Row{
		row("bytes written to flash by an update of one 10 MB app", "×", 1.1, []float64{float64(written) / float64(size)}, "its size; from the first byte of its objects until the update is UPDATED, logs and file system included"),
	}, nil
}
