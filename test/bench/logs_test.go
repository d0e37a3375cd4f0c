package bench

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMetric(t *testing.T) {
	const out = "cpu: X\n" +
		"BenchmarkLines50k-2  \t 58222\t 20036 ns/op\t 0.11 cores\t 0 lost\n" +
		"BenchmarkLines50k-2  \t 58222\t 20036 ns/op\t 0.12 cores\t 3 lost\n" +
		"BenchmarkLines50kElse-2 \t 1\t 9 cores\nPASS\n"
	got, err := metric(out, "BenchmarkLines50k", "cores")
	if d := cmp.Diff([]float64{0.11, 0.12}, got); err != nil || d != "" {
		t.Errorf("%v: %s", err, d)
	}
	if _, err := metric(out, "BenchmarkLines50k", "B/op"); err == nil {
		t.Error("a missing number is not an error")
	}
	if _, err := metric("BenchmarkX-2 1 many cores\n", "BenchmarkX", "cores"); err == nil {
		t.Error("a word is taken for a number")
	}
}

func TestVerdict(t *testing.T) {
	for _, tt := range []struct {
		row  Row
		want string
	}{
		{Row{Aim: 1, Value: 0.5}, "reached"}, {Row{Aim: 1, Value: 2}, "missed"}, {Row{Value: 2}, ""},
		{exact(Row{Value: 0}), "reached"}, {exact(Row{Value: 1}), "missed"},
	} {
		if got := tt.row.verdict(); got != tt.want {
			t.Errorf("%+v: %q, want %q", tt.row, got, tt.want)
		}
	}
}
