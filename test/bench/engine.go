package bench

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
)

// attacks are the sub-benchmarks of BenchmarkUnderAttack of package device.
var attacks = []string{"half-requests", "no-end", "1GiB-body", "1GiB-object", "long-names", "garbage", "dots"}

// controlSocket measures the control socket of an engine that runs containers with its
// package's benchmarks: each request comes over a new connection.
func controlSocket(ctx context.Context, root string) ([]Row, error) {
	cmd := exec.CommandContext(ctx, "go", "test", "-run=^$", "-bench=^Benchmark(Containers|UnderAttack)$", "-benchtime=3000x", "-count="+strconv.Itoa(runs), "./runtime/device")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("running the benchmarks of the engine: %w", err)
	}
	median, err := metric(string(out), "BenchmarkContainers", "p50-ms")
	if err != nil {
		return nil, err
	}
	late, err := metric(string(out), "BenchmarkContainers", "p99-ms")
	if err != nil {
		return nil, err
	}
	var worst []float64
	for _, a := range attacks {
		late, err := metric(string(out), "BenchmarkUnderAttack/"+a, "p99-ms")
		if err != nil {
			return nil, err
		}
		worst = append(worst, late...)
	}
	return []Row{
		row("`GET /containers`, median", "ms wall", 0.12, median, "four containers, a new connection each time"),
		row("`GET /containers`, 99th percentile", "ms wall", 0.3, late, "as above; on a machine with other work this is that work's"),
		row("`GET /containers` under attack, 99th percentile", "ms wall", 50, worst, fmt.Sprintf("%d kinds of hostile clients, eight of a kind at a time", len(attacks))),
	}, nil
}

// launcher measures starts with the benchmark of its package.
func launcher(ctx context.Context, root string) ([]Row, error) {
	cmd := exec.CommandContext(ctx, "go", "test", "-run=^$", "-bench=^BenchmarkStart$", "-benchtime=300x", "-count="+strconv.Itoa(runs), "./runtime/container")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("running the benchmark of the launcher: %w", err)
	}
	cpu, err := metric(string(out), "BenchmarkStart", "cpu-ms/op")
	if err != nil {
		return nil, err
	}
	return []Row{row("start and end of a container", "CPU ms", 5, cpu, "launcher, first stage and an init that ends at once")}, nil
}
