package size

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/images/inspect"
	"github.com/pantavisor/pantavisor/internal/cell"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// Report is what mage size says of a target, an image or an export.
type Report struct {
	// Name is what was measured.
	Name string `json:"name"`
	// Files are what a build has left.
	Files []File `json:"files,omitempty"`
	// Budgets are those that the build checked.
	Budgets []build.Use `json:"budgets,omitempty"`
	// Against is what it is compared with, Change by how much it is larger, Grown are the files that
	// differ.
	Against string   `json:"against,omitempty"`
	Change  int64    `json:"change,omitempty"`
	Grown   []Growth `json:"grown,omitempty"`
	// Tree is all that is in it.
	Tree *inspect.Sized `json:"tree"`
}

// File is a file that a build has left.
type File struct {
	Path  string `json:"path"`
	Bytes int64  `json:"bytes"`
}

// Compare adds what has changed since an earlier report or since sizes that were kept.
func (r *Report) Compare(name string, text []byte) error {
	var earlier Report
	if err := json.Unmarshal(text, &earlier); err != nil {
		return fault.New(fault.BadInput, "%s has neither sizes nor is it an image: %w", name, err)
	}
	if earlier.Tree != nil {
		r.since(name, whole("image", earlier.Tree))
		return nil
	}
	saved, err := Decode(text)
	if err != nil {
		return fault.Wrap(fault.BadInput, err, "reading %s", name)
	}
	old := saved.Thing("image")
	if old == nil {
		return fault.New(fault.BadInput, "%s has no sizes of an image to compare %s with", name, r.Name)
	}
	r.since(name, *old)
	return nil
}

// CompareTree adds what has changed since another thing that was measured.
func (r *Report) CompareTree(name string, tree *inspect.Sized) { r.since(name, whole("image", tree)) }

func (r *Report) since(name string, old Thing) {
	now := whole("image", r.Tree)
	r.Against, r.Change, r.Grown = name, now.Bytes-old.Bytes, now.Since(&old)
}

// view is a table about a thing.
type view struct {
	title string
	rows  []row
	more  int // rows that are left out
}

type row struct {
	name            string
	bytes, unpacked int64
}

// most is how many rows a view has.
const most = 10

// views are the tables of a report: what each is called, and what is in it.
var views = []struct {
	title string
	rows  func(*inspect.Sized) []row
}{
	{"partitions", partitions},
	{"parts of the revision", revisionParts},
	{"files of the BSP", bspFiles},
	{"packages", packages},
	{"kernel modules", leaves(inspect.SortModule)},
	{"firmware", leaves(inspect.SortFirmware)},
	{"programs", programs},
	{"packages of Go programs", codes},
	{"files", leaves()},
}

// tables returns the views of a thing that have something to show. Paths in revision 0 begin there.
func tables(s *inspect.Sized) (out []view) {
	_, top := revisionOf(s, "")
	for _, v := range views {
		rows := v.rows(s)
		if len(rows) == 0 {
			continue
		}
		for i := range rows {
			rows[i].name = strings.TrimPrefix(rows[i].name, top)
		}
		slices.SortStableFunc(rows, func(a, b row) int { return cmp.Or(cmp.Compare(b.bytes, a.bytes), strings.Compare(a.name, b.name)) })
		shown := min(len(rows), most)
		out = append(out, view{v.title, rows[:shown], len(rows) - shown})
	}
	return out
}

func partitions(s *inspect.Sized) (out []row) {
	for _, p := range s.Parts {
		if s.Sort == inspect.SortDisk {
			out = append(out, row{p.Name, p.Bytes, p.Unpacked})
		}
	}
	return out
}

// revisionOf returns the directory with the parts of revision 0 and the path of what is in it, nil
// when there is none.
func revisionOf(s *inspect.Sized, path string) (revision *inspect.Sized, below string) {
	if s.Sort == inspect.SortDirectory && s.Name == "trails/0" {
		return s, path + "/"
	}
	for _, p := range s.Parts {
		if p.Sort == inspect.SortDirectory && p.Name == "bsp" && s.Sort == inspect.SortArchive {
			return s, strings.TrimPrefix(path+"/", "/")
		}
	}
	for _, p := range s.Parts {
		if p.Sort != inspect.SortPartition && p.Sort != inspect.SortDirectory {
			continue
		}
		if found, below := revisionOf(p, joined(path, p.Name)); found != nil {
			return found, below
		}
	}
	return nil, ""
}

func revisionParts(s *inspect.Sized) (out []row) {
	revision, _ := revisionOf(s, "")
	if revision == nil {
		return nil
	}
	for _, p := range revision.Parts {
		if p.Sort == inspect.SortDirectory && !strings.HasPrefix(p.Name, ".") {
			out = append(out, row{p.Name, p.Bytes, p.Unpacked})
		}
	}
	return out
}

func bspFiles(s *inspect.Sized) (out []row) {
	revision, _ := revisionOf(s, "")
	if revision == nil {
		return nil
	}
	for _, p := range revision.Parts {
		if p.Name != "bsp" {
			continue
		}
		for _, f := range p.Parts {
			out = append(out, row{f.Name, f.Bytes, f.Unpacked})
		}
	}
	return out
}

// packages sums the files of each package.
func packages(s *inspect.Sized) (out []row) {
	sums := map[string]*row{}
	walkAll(s, "", func(_ string, t *inspect.Sized) bool {
		if t.Package == "" {
			return true
		}
		sum := sums[t.Package]
		if sum == nil {
			sum = &row{name: t.Package}
			sums[t.Package] = sum
		}
		sum.bytes += t.Bytes
		sum.unpacked += t.Unpacked
		return false
	})
	for _, sum := range sums {
		out = append(out, *sum)
	}
	return out
}

// leaves returns the view of what has no parts, of some sorts or, for none, all.
func leaves(sorts ...inspect.Sort) func(*inspect.Sized) []row {
	return func(s *inspect.Sized) (out []row) {
		walkAll(s, "", func(path string, t *inspect.Sized) bool {
			leaf := len(t.Parts) == 0 || t.Sort == inspect.SortProgram
			if leaf && t.Sort != inspect.SortRest && (len(sorts) == 0 || slices.Contains(sorts, t.Sort)) {
				out = append(out, row{path, t.Bytes, t.Unpacked})
			}
			return !leaf
		})
		return out
	}
}

func programs(s *inspect.Sized) []row { return leaves(inspect.SortProgram)(s) }

// codes lists the packages of programs.
func codes(s *inspect.Sized) (out []row) {
	walkAll(s, "", func(path string, t *inspect.Sized) bool {
		if t.Sort == inspect.SortCode {
			program := strings.TrimSuffix(strings.TrimSuffix(path, t.Name), "/")
			out = append(out, row{base(program) + ": " + t.Name, t.Bytes, t.Unpacked})
		}
		return true
	})
	return out
}

// base is the last name of a path.
func base(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

// walkAll calls do with each thing and its path; false leaves out what is in it.
func walkAll(s *inspect.Sized, path string, do func(path string, t *inspect.Sized) bool) {
	if !do(path, s) {
		return
	}
	for _, p := range s.Parts {
		walkAll(p, joined(path, p.Name), do)
	}
}

// Text writes the report for people.
func (r *Report) Text(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintf(t, "%s: %s\n", cell.Printable(r.Name), headline(r.Tree))
	r.budgets(t)
	r.grown(t)
	for _, v := range tables(r.Tree) {
		fmt.Fprintf(t, "\n%s\tON THE MEDIUM\tUNPACKED\n", strings.ToUpper(v.title))
		for _, one := range v.rows {
			fmt.Fprintf(t, "%s\t%s\t%s\n", cell.Printable(one.name), build.Size(one.bytes), build.Size(one.unpacked))
		}
		if v.more > 0 {
			fmt.Fprintf(t, "%d more\t\t\n", v.more)
		}
	}
	if len(r.Files) > 0 {
		fmt.Fprintln(t, "\nRESULTS\tBYTES\t")
	}
	for _, f := range r.Files {
		fmt.Fprintf(t, "%s\t%s\t\n", cell.Printable(f.Path), build.Size(f.Bytes))
	}
	return t.Flush()
}

// headline is the size of the whole in words.
func headline(s *inspect.Sized) string {
	if s.Sort == inspect.SortDisk {
		return fmt.Sprintf("%s used of %s", build.Size(s.Bytes), build.Size(s.Unpacked))
	}
	return build.Size(s.Bytes)
}

// barWidth is the number of characters of a bar.
const barWidth = 20

// bar draws a part of a whole.
func bar(percent float64) string {
	full := int(min(max(percent, 0), 100) * barWidth / 100)
	return strings.Repeat("#", full) + strings.Repeat(".", barWidth-full)
}

func (r *Report) budgets(w io.Writer) {
	if len(r.Budgets) > 0 {
		fmt.Fprintln(w, "\nBUDGET\tUSED\tLIMIT\t\t")
	}
	for _, u := range r.Budgets {
		over := ""
		if u.Over() {
			over = "OVER"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%.0f %% %s\n", cell.Printable(u.String()), build.Size(u.Bytes), build.Size(u.Limit), bar(u.Percent()), u.Percent(), over)
	}
}

func (r *Report) grown(w io.Writer) {
	if r.Against == "" {
		return
	}
	fmt.Fprintf(w, "\nSINCE %s\t%s\t\n", cell.Printable(r.Against), Change(r.Change))
	for _, g := range few(r.Grown) {
		fmt.Fprintf(w, "%s\t%s\t%s\n", cell.Printable(g.Name), Change(g.Bytes()), fmt.Sprintf("%s -> %s", build.Size(g.Old), build.Size(g.New)))
	}
}

// few are what has grown most and, at the end, what has shrunk most.
func few(all []Growth) []Growth {
	if len(all) <= 2*most {
		return all
	}
	return append(slices.Clone(all[:most]), all[len(all)-most:]...)
}
