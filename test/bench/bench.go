// Package bench measures what docs/benchmarks.md lists, and writes it there:
// CPU seconds, sizes and memory, each the median of five runs. A number that
// misses its aim is written down as it is.
package bench

import (
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
	"github.com/pantavisor/pantavisor/internal/spelling"
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

// measurement makes some of the rows.
type measurement struct {
	name string
	do   func(context.Context, string) ([]Row, error)
}

func measurements() []measurement {
	return []measurement{
		{"builds without a change", noChange},
		{"bills of materials", bills},
		{"builds that are verified", verified},
		{"the whole build command", wholeCommand},
		{"plans of all targets", plans},
		{"images with a changed runtime", changedRuntime},
		{"sizes", sizes},
		{"squashfs", squash},
		{"ext4", fileSystem},
		{"images of pvcompose", composed},
		{"differences of images", differences},
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
		{"flashing an image", flashing},
		{"personal settings", personalizing},
		{"vulnerabilities", rescanned},
		{"updates of pipelines", pipelineUpdate},
		{"catalogues", catalogueAdd},
		{"packages of containers", packages},
	}
}

// Run measures on this machine and puts the table into docs/benchmarks.md of the source tree at
// root: everything, or the measurements with the name only, whose rows then take the place of
// those of the same name in the table. Progress goes to progress.
func Run(ctx context.Context, root, only string, progress io.Writer) ([]Row, error) {
	var names []string
	var rows []Row
	for _, m := range measurements() {
		names = append(names, m.name)
		if only != "" && only != m.name {
			continue
		}
		fmt.Fprintf(progress, "measuring %s\n", m.name)
		r, err := m.do(ctx, root)
		if err != nil {
			return nil, fault.Wrap(fault.Internal, err, "measuring %s", m.name)
		}
		rows = append(rows, r...)
	}
	if only != "" && !slices.Contains(names, only) {
		return nil, spelling.Unknown("measurement", only, names)
	}
	return rows, record(filepath.Join(root, "docs", "benchmarks.md"), rows, only != "")
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

// heading are the first lines of the table.
const heading = "| what | median | range | unit | aim | | note |\n|---|---|---|---|---|---|---|\n"

// line is the row in the table.
func (r Row) line() string {
	return fmt.Sprintf("| %s | %.3g | %.3g–%.3g | %s | %s | %s | %s |\n", r.What, r.Value, r.Low, r.High, r.Unit, r.aim(), r.verdict(), r.Note)
}

// record replaces the part of the document between the markers; with some only the rows of the
// table that were measured again.
func record(path string, rows []Row, some bool) error {
	doc, err := os.ReadFile(path)
	if err != nil {
		return fault.Wrap(fault.IO, err, "reading the benchmarks")
	}
	before, rest, ok := strings.Cut(string(doc), begin)
	old, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return fault.New(fault.BadInput, "%s: the markers %q and %q are missing", path, strings.TrimSpace(begin), strings.TrimSpace(end))
	}
	var table string
	if some {
		table = merge(old, rows, time.Now())
	} else {
		table = fmt.Sprintf("\nMeasured on %s: %s\n\n%s", time.Now().UTC().Format(time.DateOnly), machine(), heading)
		for _, r := range rows {
			table += r.line()
		}
		table += "\n"
	}
	text := before + begin + table + end + after
	return fault.Wrap(fault.IO, atomicfile.Write(path, []byte(text), 0o644), "writing the benchmarks")
}

// merge puts rows into a table, in place of those that measure the same in the same unit. They say
// when they were measured.
func merge(table string, rows []Row, now time.Time) string {
	lines := strings.SplitAfter(strings.TrimRight(table, "\n")+"\n", "\n")
	lines = lines[:len(lines)-1]
	for _, r := range rows {
		date := "measured alone on " + now.UTC().Format(time.DateOnly)
		r.Note = strings.TrimPrefix(r.Note+"; "+date, "; ")
		i := slices.IndexFunc(lines, func(line string) bool {
			cells := strings.Split(line, " | ")
			return len(cells) > 3 && cells[0] == "| "+r.What && cells[3] == r.Unit
		})
		if i < 0 {
			lines = append(lines, r.line())
		} else {
			lines[i] = r.line()
		}
	}
	return strings.Join(lines, "") + "\n"
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
