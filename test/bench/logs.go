package bench

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
)

// logServer measures the log server with its package's benchmarks: another process
// writes lines of 100 bytes into eight pipes.
func logServer(ctx context.Context, root string) ([]Row, error) {
	cmd := exec.CommandContext(ctx, "go", "test", "-run=^$", "-bench=^BenchmarkLines(50k|200k|Unbound)$", "-count="+strconv.Itoa(runs), "./runtime/logs")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("running the benchmarks of the log server: %w", err)
	}
	cores, err := metric(string(out), "BenchmarkLines200k", "cores")
	if err != nil {
		return nil, err
	}
	lost, err := metric(string(out), "BenchmarkLines50k", "lost")
	if err != nil {
		return nil, err
	}
	most, err := metric(string(out), "BenchmarkLinesUnbound", "lines/s")
	if err != nil {
		return nil, err
	}
	return []Row{
		row("log server at 200,000 lines/s from 8 containers", "cores", 1, cores, "100 bytes a line, each its own write; all inputs included"),
		exact(row("lines lost at 50,000 lines/s", "lines", 0, lost, "of about 50,000")),
		row("lines taken per second when writers do not wait", "lines/s", 0, most, "on both processors, together with the writers"),
	}, nil
}

// exact marks a row whose aim is 0.
func exact(r Row) Row {
	r.Exact = true
	return r
}

// metric reads a value of every run of a benchmark from what "go test" prints.
func metric(out, name, unit string) ([]float64, error) {
	var values []float64
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) == 0 || !strings.HasPrefix(f[0], name+"-") && f[0] != name {
			continue
		}
		for i := 1; i < len(f); i++ {
			if f[i] != unit {
				continue
			}
			v, err := strconv.ParseFloat(f[i-1], 64)
			if err != nil {
				return nil, fmt.Errorf("reading %s of %s: %w", unit, name, err)
			}
			values = append(values, v)
		}
	}
	if len(values) == 0 {
		return nil, fmt.Errorf("the benchmark %s says nothing about %s", name, unit)
	}
	return values, nil
}
