// Package bench measures what docs/benchmarks.md lists, and writes it there:
// CPU seconds, sizes and memory, each the median of five runs. A number that
// misses its aim is written down as it is.
package bench

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// runs is how often everything is measured.
const runs = 5

// Row is one line of the table.
type Row struct {
	What  string  `json:"what"`  // what was measured
	Unit  string  `json:"unit"`  // "CPU s", "s", "MiB", "MB"
	Aim   float64 `json:"aim"`   // at most; 0: no aim, for comparison, unless Exact
	Value float64 `json:"value"` // the median
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
	Exact bool    `json:"exact"` // an aim of 0 is one
	Note  string  `json:"note,omitempty"`
}

func (r Row) aim() string {
	if r.Aim == 0 && !r.Exact {
		return "-"
	}
	return fmt.Sprintf("≤ %g", r.Aim)
}

func (r Row) verdict() string {
	switch {
	case r.Aim == 0 && !r.Exact:
		return ""
	case r.Value <= r.Aim:
		return "reached"
	}
	return "missed"
}

// row makes a line from the runs' values.
func row(what, unit string, aim float64, values []float64, note string) Row {
	values = slices.Sorted(slices.Values(values))
	return Row{What: what, Unit: unit, Aim: aim, Value: values[len(values)/2], Low: values[0], High: values[len(values)-1], Note: note}
}

// Markers around what Run writes into docs/benchmarks.md.
const (
	begin = "<!-- measured: begin -->\n"
	end   = "<!-- measured: end -->\n"
)

// Run measures everything on this machine and puts the table into docs/benchmarks.md of
// the source tree at root. Progress goes to progress.
func Run(ctx context.Context, root string, progress io.Writer) ([]Row, error) {
	var rows []Row
	for _, m := range []struct {
		name string
		do   func(context.Context, string) ([]Row, error)
	}{
		{"builds without a change", noChange},
		{"the whole build command", wholeCommand},
		{"plans of all targets", plans},
		{"images with a changed runtime", changedRuntime},
		{"sizes", sizes},
		{"squashfs", squash},
		{"ext4", fileSystem},
		{"images of pvcompose", composed},
		{"the log server", logServer},
		{"the control socket", controlSocket},
		{"the object store", objectStore},
		{"the launcher", launcher},
		{"App Engine instances", appEngine},
		{"updates", updates},
		{"large uploads", uploads},
		{"the host tool", pvr},
		{"booted devices", devices},
		{"kernels", kernels},
		{"writes to flash", flashWrites},
	} {
		fmt.Fprintf(progress, "measuring %s\n", m.name)
		r, err := m.do(ctx, root)
		if err != nil {
			return nil, fault.Wrap(fault.Internal, err, "measuring %s", m.name)
		}
		rows = append(rows, r...)
	}
	return rows, record(filepath.Join(root, "docs", "benchmarks.md"), rows)
}

// Print writes the rows as a table.
func Print(out io.Writer, rows []Row) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "WHAT\tMEDIAN\tRANGE\tUNIT\tAIM\t")
	for _, r := range rows {
		fmt.Fprintf(w, "%s\t%.3g\t%.3g–%.3g\t%s\t%s\t%s\n", r.What, r.Value, r.Low, r.High, r.Unit, r.aim(), r.verdict())
	}
	return w.Flush()
}

// record replaces the part of the document between the markers.
func record(path string, rows []Row) error {
	doc, err := os.ReadFile(path)
	if err != nil {
		return fault.Wrap(fault.IO, err, "reading the benchmarks")
	}
	before, rest, ok := bytes.Cut(doc, []byte(begin))
	_, after, ok2 := bytes.Cut(rest, []byte(end))
	if !ok || !ok2 {
		return fault.New(fault.BadInput, "%s: the markers %q and %q are missing", path, strings.TrimSpace(begin), strings.TrimSpace(end))
	}
	var b bytes.Buffer
	b.Write(before)
	b.WriteString(begin)
	fmt.Fprintf(&b, "\nMeasured on %s: %s\n\n", time.Now().UTC().Format(time.DateOnly), machine())
	fmt.Fprintln(&b, "| what | median | range | unit | aim | | note |\n|---|---|---|---|---|---|---|")
	for _, r := range rows {
		fmt.Fprintf(&b, "| %s | %.3g | %.3g–%.3g | %s | %s | %s | %s |\n", r.What, r.Value, r.Low, r.High, r.Unit, r.aim(), r.verdict(), r.Note)
	}
	b.WriteString("\n" + end)
	b.Write(after)
	return fault.Wrap(fault.IO, atomicfile.Write(path, b.Bytes(), 0o644), "writing the benchmarks")
}

// machine describes this one in a line.
func machine() string {
	model := "unknown CPU"
	cpus := 0
	info, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(info)) {
		if name, ok := strings.CutPrefix(line, "model name"); ok {
			model = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(name), ":"))
			cpus++
		}
	}
	release, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return fmt.Sprintf("%d × %s, Linux %s; virtual machines by software emulation", cpus, model, strings.TrimSpace(string(release)))
}
