package catalogue

import (
	"bytes"
	"cmp"
	_ "embed" // the page and its style
	"fmt"
	"html/template"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/ci/releases"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// styleName is the style of all pages, which have no script.
const styleName = "style.css"

//go:embed style.css
var style string

//go:embed page.html
var pageText string

var pages = template.Must(template.New("page").Funcs(template.FuncMap{
	"size":  build.Size,
	"path":  func(parts ...string) string { return (&url.URL{Path: strings.Join(parts, "")}).EscapedPath() },
	"shell": quote,
}).Parse(pageText))

// quote quotes a word for a shell.
func quote(s string) string {
	if s != "" && !strings.ContainsFunc(s, func(c rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:%+=@,", c)
	}) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// choice is a value of a filter. Its class is what the style filters by: names come from releases,
// and may be anything.
type choice struct {
	Name, Class string
}

// letters number the values of a filter; more are not offered.
const letters = "abcdefghijklmnopqrstuvwxyz"

// choices numbers the values of a filter.
func choices(prefix string, names []string) []choice {
	slices.SortFunc(names, func(a, b string) int { // what most people want is first
		return cmp.Or(-cmp.Compare(stableFirst(a), stableFirst(b)), strings.Compare(a, b))
	})
	names = slices.Compact(names)
	var out []choice
	for i, name := range names[:min(len(names), len(letters))] {
		out = append(out, choice{name, prefix + letters[i:i+1]})
	}
	return out
}

func stableFirst(name string) int {
	if name == releases.Stable {
		return 1
	}
	return 0
}

// styles is the file of the style, with the rules of the filters: a board or a release without the
// class of the button that is pressed is not shown.
func styles() []byte {
	var out strings.Builder
	out.WriteString(style)
	for _, c := range letters {
		fmt.Fprintf(&out, "body:has(#a-%[1]c:checked) :is(.board, .boards li):not(.a-%[1]c) { display: none; }\n", c)
		fmt.Fprintf(&out, "body:has(#c-%[1]c:checked) :is(.board, .boards li, .release):not(.c-%[1]c) { display: none; }\n", c)
	}
	return []byte(out.String())
}

// classOf returns the class of a name.
func classOf(all []choice, name string) string {
	for _, c := range all {
		if c.Name == name {
			return c.Class
		}
	}
	return ""
}

// row is a board on the first page.
type row struct {
	Name, Classes string
	*summary
	Channels []channelRow
}

// channelRow is the newest release of a channel.
type channelRow struct {
	Channel, Class string
	*newest
}

// indexPage renders the first page.
func indexPage(all *boards, public string) ([]byte, error) {
	var archs, channels []string
	for _, b := range all.Boards {
		archs = append(archs, b.Arch)
		channels = slices.AppendSeq(channels, maps.Keys(b.Newest))
	}
	archs = slices.DeleteFunc(archs, func(a string) bool { return a == "" })
	view := struct {
		Public, Title   string
		Archs, Channels []choice
		Rows            []row
		Board           any
	}{Public: public, Title: "Releases", Archs: choices("a-", archs), Channels: choices("c-", channels)}
	for _, name := range slices.Sorted(maps.Keys(all.Boards)) {
		b := all.Boards[name]
		r := row{Name: name, Classes: classOf(view.Archs, b.Arch), summary: b}
		for _, c := range view.Channels {
			if n := b.Newest[c.Name]; n != nil {
				r.Classes += " " + c.Class
				r.Channels = append(r.Channels, channelRow{c.Name, c.Class, n})
			}
		}
		view.Rows = append(view.Rows, r)
	}
	return render(view)
}

// boardView is the page of a board.
type boardView struct {
	Public, Title string
	Name          string
	Board         releases.Board
	Releases      []releaseView
	Rows          []row
	Channels      []choice
}

// releaseView is a release on the page of a board.
type releaseView struct {
	Entry
	Class   string
	Dir     string         // of its files, from the page
	Image   *releases.File // the smallest form
	Plain   *releases.File // what the block map is of
	Map     *releases.File
	SBOMs   []releases.File
	Newest  bool // of its channel: it is shown with all its files
	Further []releases.File
}

// boardPage renders the page of a board.
func boardPage(b *board, public string) ([]byte, error) {
	view := boardView{Public: public, Title: b.Name, Name: b.Name}
	if len(b.Releases) > 0 {
		view.Board = b.Releases[0].Index.Board
	}
	var channels []string
	for _, r := range b.Releases {
		channels = append(channels, r.Channel)
	}
	view.Channels = choices("c-", channels)
	seen := map[string]bool{}
	for _, e := range b.Releases {
		r := releaseView{Entry: e, Class: classOf(view.Channels, e.Channel), Dir: "../" + directoryOf(e.Version, b.Name), Newest: !seen[e.Channel]}
		seen[e.Channel] = true
		r.Plain, r.Image = e.Index.Image()
		r.Map = e.Index.Map()
		for _, f := range e.Index.Files {
			if f.Kind == "sbom" {
				r.SBOMs = append(r.SBOMs, f)
			}
		}
		for _, f := range []*releases.File{e.FullImage, e.Exports} {
			if f != nil {
				r.Further = append(r.Further, *f)
			}
		}
		view.Releases = append(view.Releases, r)
	}
	return render(view)
}

func render(view any) ([]byte, error) {
	name := "index"
	if _, ok := view.(boardView); ok {
		name = "board"
	}
	var out bytes.Buffer
	err := pages.ExecuteTemplate(&out, name, view)
	return out.Bytes(), fault.Wrap(fault.Internal, err, "rendering a page")
}
