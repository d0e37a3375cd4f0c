package size

import (
	"bytes"
	_ "embed"
	"html/template"
	"io"
	"slices"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/images/inspect"
	"github.com/pantavisor/pantavisor/internal/cell"
	"github.com/pantavisor/pantavisor/internal/fault"
)

//go:embed page.html
var pageText string

// page is the form of the report for browsers: one file that needs no other one, and no scripts.
var page = template.Must(template.New("page").Funcs(template.FuncMap{"size": build.Size, "change": Change, "clean": cell.Printable}).Parse(pageText))

// section is a drawing of one thing.
type section struct {
	Name, Size string
	Map        template.HTML
}

// mostSections is how many things have a drawing of their own, besides that of all.
const mostSections = 16

// leastSection is the least part of the whole for a drawing of its own.
const leastSection = 0.005

// HTML writes the report as a page.
func (r *Report) HTML(w io.Writer) error {
	data := struct {
		*Report
		Headline string
		Whole    template.HTML
		Sections []section
		Views    []table
		Few      []Growth
	}{r, headline(r.Tree), drawn(r.Tree, r.Name), r.sections(), nil, few(r.Grown)}
	for _, v := range tables(r.Tree) {
		t := table{Title: v.title, More: v.more}
		for _, one := range v.rows {
			t.Rows = append(t.Rows, cells{one.name, build.Size(one.bytes), build.Size(one.unpacked)})
		}
		data.Views = append(data.Views, t)
	}
	return fault.Wrap(fault.IO, page.Execute(w, data), "writing the page of %s", r.Name)
}

// table is a view with texts.
type table struct {
	Title string
	Rows  []cells
	More  int
}

type cells struct{ Name, Bytes, Unpacked string }

// drawn is a drawing in a page. All texts in it are escaped by what draws it.
func drawn(s *inspect.Sized, name string) template.HTML {
	var out bytes.Buffer
	drawing(&out, s, name)
	return template.HTML(out.String())
}

// sections are drawings of archives, programs and partitions, the largest ones.
func (r *Report) sections() (out []section) {
	type thing struct {
		path string
		*inspect.Sized
	}
	var all []thing
	walkAll(r.Tree, "", func(path string, t *inspect.Sized) bool {
		own := slices.Contains([]inspect.Sort{inspect.SortPartition, inspect.SortArchive, inspect.SortProgram}, t.Sort)
		if own && t != r.Tree && len(t.Parts) > 1 && float64(t.Bytes) >= leastSection*float64(r.Tree.Bytes) {
			all = append(all, thing{path, t})
		}
		return true
	})
	slices.SortStableFunc(all, func(a, b thing) int { return int(min(max(b.Bytes-a.Bytes, -1), 1)) })
	for _, t := range all[:min(len(all), mostSections)] {
		out = append(out, section{t.path, build.Size(t.Bytes), drawn(t.Sized, t.path)})
	}
	return out
}
