package inspect

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/internal/cell"
)

// Result is a comparison in the form for people and pipelines.
type Result struct {
	A string `json:"a"`
	B string `json:"b"`
	// Equal reports that there is no difference.
	Equal bool `json:"equal"`
	// Bytes is by how much the files of b that differ are larger than those of a; negative
	// when they are smaller.
	Bytes       int64        `json:"bytes"`
	Differences []Difference `json:"differences"`
}

// NewResult describes the differences between two things by their names. What follows from
// other differences comes last.
func NewResult(a, b string, differences []Difference) *Result {
	r := &Result{A: a, B: b, Equal: len(differences) == 0, Differences: slices.Clone(differences)}
	if r.Differences == nil {
		r.Differences = []Difference{}
	}
	repeated(r.Differences)
	slices.SortStableFunc(r.Differences, func(x, y Difference) int { return cmp.Compare(flag(x.Derived), flag(y.Derived)) })
	for i := range r.Differences {
		if d := &r.Differences[i]; d.counted && !d.Repeated {
			r.Bytes += d.NewBytes - d.OldBytes
		}
	}
	return r
}

// repeated marks the differences of an export that the image of the same build has too.
func repeated(all []Difference) {
	key := func(d *Difference) string {
		names := slices.DeleteFunc(slices.Clone(d.Path[1:]), func(name string) bool {
			return name == unpacked || strings.HasPrefix(name, "partition ") || strings.HasPrefix(name, "volume ")
		})
		return strings.TrimPrefix(strings.Join(names, "\x00"), "trails/0/")
	}
	seen := map[string]bool{}
	for i := range all {
		if d := &all[i]; len(d.Path) > 1 && strings.HasPrefix(d.Path[0], "image.") {
			seen[key(d)] = true
		}
	}
	for i := range all {
		if d := &all[i]; len(d.Path) > 1 && strings.HasPrefix(d.Path[0], "export.") && seen[key(d)] {
			d.Derived, d.Repeated = true, true
		}
	}
}

func flag(b bool) int {
	if b {
		return 1
	}
	return 0
}

// group is a part of the text, in this order.
type group struct {
	title string
	lines [][]string // cells
}

// kinds is the order of the kinds: what has changed first.
var kinds = []Kind{Changed, Removed, Added}

// mostLines is how many lines of a group the text shows; JSON has all.
const mostLines = 200

// subjects are the groups of details, in their order.
var subjects = []struct {
	Subject
	title string
}{{Package, "packages"}, {Option, "kernel options"}, {Key, "configuration keys"}, {Line, "lines of texts"}}

// groups arranges the differences: containers and parts, packages, options, keys, then files.
func (r *Result) groups() []group {
	out := []group{r.parts()}
	for _, s := range subjects {
		g := group{title: s.title}
		for _, d := range r.sorted(false) {
			for _, detail := range d.Details {
				if detail.Subject == s.Subject {
					g.lines = append(g.lines, append(detail.cells(), d.Name()))
				}
			}
		}
		out = append(out, g)
	}
	files, derived := group{title: "files"}, group{title: "follows from the above"}
	for _, d := range condensed(r.sorted(false)) {
		files.lines = append(files.lines, d.cells())
	}
	repeats := 0
	for _, d := range condensed(r.sorted(true)) {
		if d.Repeated {
			repeats++
			continue
		}
		derived.lines = append(derived.lines, d.cells())
	}
	if repeats > 0 {
		derived.lines = append(derived.lines, []string{string(Changed), "the export, as the image", "", ""})
	}
	return append(out, files, derived)
}

// sorted returns the differences that are derived or not, what has changed first.
func (r *Result) sorted(derived bool) (out []*Difference) {
	for _, kind := range kinds {
		for i := range r.Differences {
			if d := &r.Differences[i]; d.Kind == kind && d.Derived == derived {
				out = append(out, d)
			}
		}
	}
	return out
}

// parts sums the differences of each part.
func (r *Result) parts() group {
	g := group{title: "parts"}
	type sum struct {
		old, now int64
		n        int
	}
	sums := map[string]*sum{}
	for _, d := range r.sorted(false) {
		s := sums[d.part()]
		if s == nil {
			s = &sum{}
			sums[d.part()] = s
		}
		s.n++
	}
	for i := range r.Differences {
		if d := &r.Differences[i]; d.counted && !d.Repeated && sums[d.part()] != nil {
			s := sums[d.part()]
			s.old, s.now = s.old+d.OldBytes, s.now+d.NewBytes
		}
	}
	if !slices.ContainsFunc(r.Differences, func(d Difference) bool { return d.counted }) {
		return g // there are no files
	}
	for _, name := range slices.Sorted(maps.Keys(sums)) {
		s := sums[name]
		g.lines = append(g.lines, []string{cell.Printable(name), fmt.Sprintf("%d differ", s.n), sizeText(s.old) + " → " + sizeText(s.now), signed(s.now - s.old)})
	}
	return g
}

// manyTimes is how many things of which only the time differs are one line.
const manyTimes = 10

// condensed joins what would fill the text: things below a directory that is added or removed,
// and those of which only the time differs.
func condensed(all []*Difference) (out []*Difference) {
	times := map[string]*Difference{}
	count := map[string]int{}
	for _, d := range all {
		if d.onlyTime() {
			count[d.times()]++
		}
	}
	var top *Difference
	for _, d := range all {
		if top != nil && d.Kind == top.Kind && d.within(top) {
			top.OldBytes, top.NewBytes, top.names = top.OldBytes+d.OldBytes, top.NewBytes+d.NewBytes, top.names+1
			continue
		}
		if d.onlyTime() && count[d.times()] > manyTimes {
			if times[d.times()] == nil {
				joined := &Difference{Kind: Changed, Path: []string{fmt.Sprintf("%d files and directories", count[d.times()])}, Attributes: d.Attributes}
				times[d.times()] = joined
				out = append(out, joined)
			}
			continue
		}
		one := *d
		out, top = append(out, &one), nil
		if d.Kind != Changed && d.Form != "" {
			top = &one
		}
	}
	return out
}

// within reports whether a difference is below a directory.
func (d *Difference) within(top *Difference) bool {
	last := len(top.Path) - 1
	return len(d.Path) == len(top.Path) && slices.Equal(d.Path[:last], top.Path[:last]) && strings.HasPrefix(d.Path[last], top.Path[last]+"/")
}

func (d *Difference) onlyTime() bool {
	return d.Kind == Changed && d.Offset == nil && d.Problem == "" && len(d.Attributes) == 1 && d.Attributes[0].Name == "time"
}

func (d *Difference) times() string { return d.Attributes[0].Old + d.Attributes[0].New }

// part returns the container or part that a difference is in, or else the uppermost thing.
func (d *Difference) part() string {
	switch {
	case d.Part != "":
		return d.Part
	case len(d.Path) == 0:
		return "the whole"
	case len(d.Path) > 1 && strings.HasPrefix(d.Path[0], "image."):
		return d.Path[1]
	}
	return d.Path[0]
}

// cells are a difference as a line of a table.
func (d *Difference) cells() []string {
	text := []string{}
	for _, a := range d.Attributes {
		text = append(text, cell.Printable(a.text()))
	}
	if d.Place != "" {
		text = append(text, fmt.Sprintf("first at byte %d, %s", *d.Offset, cell.Printable(d.Place)))
	} else if d.Offset != nil && len(d.Details) == 0 && d.Problem == "" {
		text = append(text, fmt.Sprintf("content from byte %d on", *d.Offset))
	}
	if d.Problem != "" {
		text = append(text, cell.Printable(d.Problem))
	}
	size := sizeText(max(d.OldBytes, d.NewBytes))
	if d.Kind == Changed && d.OldBytes != d.NewBytes {
		size = sizeText(d.OldBytes) + " → " + sizeText(d.NewBytes)
	}
	if d.names > 0 {
		text = append(text, fmt.Sprintf("with %d names", d.names))
	}
	return []string{string(d.Kind), d.Name(), size, strings.Join(text, "; ")}
}

func (c *Change) text() string {
	return c.Name + " " + cmp.Or(c.Old, "-") + " → " + cmp.Or(c.New, "-")
}

// cells are a detail as a line.
func (d *Detail) cells() []string {
	if d.Subject == Line { // the value is how often it is there
		switch {
		case d.Old == "":
			return []string{"+ " + cell.Printable(short(d.Name)), ""}
		case d.New == "":
			return []string{"- " + cell.Printable(short(d.Name)), ""}
		}
	}
	return []string{cell.Printable(d.Name), cell.Printable(cmp.Or(d.Old, "-") + " → " + cmp.Or(d.New, "-"))}
}

// Text writes the result for people.
func (r *Result) Text(w io.Writer) error {
	if r.Equal {
		_, err := fmt.Fprintf(w, "%s and %s are equal\n", cell.Printable(r.A), cell.Printable(r.B))
		return err
	}
	out := &printer{w: w}
	out.line("%s → %s: %s, %s", cell.Printable(r.A), cell.Printable(r.B), r.counts(), signed(r.Bytes))
	for _, g := range r.groups() {
		if len(g.lines) == 0 {
			continue
		}
		out.line("\n%s", g.title)
		widths := make([]int, len(g.lines[0]))
		for _, cells := range g.lines[:min(len(g.lines), mostLines)] {
			for i, c := range cells {
				widths[i] = min(max(widths[i], len([]rune(c))), 60)
			}
		}
		for n, cells := range g.lines {
			if n == mostLines {
				out.line("  and %d more (--json has all)", len(g.lines)-n)
				break
			}
			text := " "
			for i, c := range cells {
				text += " " + c + strings.Repeat(" ", max(widths[i]-len([]rune(c)), 0)+1)
			}
			out.line("%s", strings.TrimRight(text, " "))
		}
	}
	return out.err
}

// Markdown writes the result as a comment for a merge request.
func (r *Result) Markdown(w io.Writer) error {
	out := &printer{w: w}
	a, b := strings.ReplaceAll(cell.Printable(r.A), "`", "'"), strings.ReplaceAll(cell.Printable(r.B), "`", "'")
	if r.Equal {
		out.line("`%s` and `%s` are equal.", a, b)
		return out.err
	}
	out.line("**`%s` → `%s`**: %s, %s", a, b, r.counts(), signed(r.Bytes))
	for _, g := range r.groups() {
		if len(g.lines) == 0 {
			continue
		}
		out.line("\n<details><summary>%s (%d)</summary>\n", g.title, len(g.lines))
		out.line("|%s", strings.Repeat("  |", len(g.lines[0])))
		out.line("|%s", strings.Repeat("---|", len(g.lines[0])))
		for n, cells := range g.lines {
			if n == mostLines {
				out.line("| and %d more |", len(g.lines)-n)
				break
			}
			text := "|"
			for _, c := range cells {
				text += " " + cell.Markdown(c) + " |"
			}
			out.line("%s", text)
		}
		out.line("\n</details>")
	}
	return out.err
}

// counts says how many things differ, without those that follow from others.
func (r *Result) counts() string {
	var text []string
	for _, kind := range kinds {
		n := 0
		for i := range r.Differences {
			if r.Differences[i].Kind == kind && !r.Differences[i].Derived {
				n++
			}
		}
		if n > 0 {
			text = append(text, fmt.Sprintf("%d %s", n, kind))
		}
	}
	if len(text) == 0 {
		return "identifiers alone"
	}
	return strings.Join(text, ", ")
}

// First returns the first difference, nil when there is none: of those that do not follow from
// others the one that is deepest inside, where the cause is.
func (r *Result) First() *Difference {
	var first *Difference
	for i := range r.Differences {
		d := &r.Differences[i]
		if first == nil || first.Derived && !d.Derived || first.Derived == d.Derived && len(d.Path) > len(first.Path) {
			first = d
		}
	}
	return first
}

// String says what differs and where, in one line.
func (d *Difference) String() string {
	cells := d.cells()
	text := string(d.Kind) + " " + d.Name()
	if cells[3] != "" {
		text += ": " + cells[3]
	}
	for n, detail := range d.Details {
		if n == 3 {
			text += ", ..."
			break
		}
		text += fmt.Sprintf("; %s %s", detail.Subject, strings.TrimSpace(strings.Join(detail.cells(), " ")))
	}
	return text
}

// sizeText returns a size for people.
func sizeText(n int64) string {
	switch {
	case n >= 1<<20 || n <= -1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10 || n <= -1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d B", n)
}

func signed(n int64) string {
	if n < 0 {
		return "-" + sizeText(-n)
	}
	return "+" + sizeText(n)
}

// printer keeps the first error of writing.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
	}
}
