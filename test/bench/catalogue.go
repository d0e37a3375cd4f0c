package bench

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
)

// catalogueAdd measures an addition to a large catalogue with the benchmark of its package.
func catalogueAdd(ctx context.Context, root string) ([]Row, error) {
	cmd := exec.CommandContext(ctx, "go", "test", "-run=^$", "-bench=^BenchmarkAdd$", "-benchtime=20x", "-count="+strconv.Itoa(runs), "./ci/catalogue")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("running the benchmark of the catalogue: %w", err)
	}
	cpu, err := metric(string(out), "BenchmarkAdd", "cpu-ms/op")
	if err != nil {
		return nil, err
	}
	return []Row{row("adding to a catalogue of 5,000 releases", "CPU ms", 100, cpu, "250 versions of 20 boards in a directory; with its files, lists and pages")}, nil
}
