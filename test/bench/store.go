package bench

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
)

// objectStore measures the object store with the benchmarks of its packages.
func objectStore(ctx context.Context, root string) ([]Row, error) {
	var rows []Row
	for _, b := range []struct {
		pkg, name, part, what string
		aim                   float64
		note                  string
	}{
		{"./runtime/ctrl", "BenchmarkObjectPut", "", "object PUT of 1 GB", 2.5, "over the control socket into the page cache, hashed; with the client that sends it. 400 MB/s of a processor are 2.5 s"},
		{"./runtime/step", "BenchmarkCheck", "/first", "check of 1 GB of objects at boot", 1, "200 objects in the page cache"},
		{"./runtime/step", "BenchmarkCheck", "/strict", "the same with `PV_SECUREBOOT_MODE=strict`", 1, "marks on the medium do not count"},
		{"./runtime/step", "BenchmarkCheck", "/again", "the same when nothing has changed", 0.05, "each object has a mark"},
	} {
		cmd := exec.CommandContext(ctx, "go", "test", "-run=^$", "-bench=^"+b.name+"$"+b.part, "-benchtime=3x", "-count="+strconv.Itoa(runs), b.pkg)
		cmd.Dir = root
		out, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("running %s of %s: %w", b.name, b.pkg, err)
		}
		values, err := metric(string(out), b.name+b.part, "cpu-s/GB")
		if err != nil {
			return nil, err
		}
		rows = append(rows, row(b.what, "CPU s", b.aim, values, b.note))
	}
	return rows, nil
}
