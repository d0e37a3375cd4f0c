package vulns

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/internal/cell"
)

// old is the age of data from which on it is told.
const old = 7 * 24 * time.Hour

// mostLines is how many lines of a table the texts show; JSON has all.
const mostLines = 200

// table is a list of rows for people.
type table struct {
	title string
	rows  [][]string
}

// tables are the findings by part, then what could not be joined.
func (r *Report) tables() []table {
	var out []table
	for _, f := range r.Findings {
		if len(out) == 0 || out[len(out)-1].title != f.Part {
			out = append(out, table{title: f.Part, rows: [][]string{{"STATE", "SEVERITY", "VULNERABILITY", "PACKAGE", "VERSION", "FIXED IN", "WHY"}}})
		}
		t := &out[len(out)-1]
		t.rows = append(t.rows, []string{string(f.State), dash(f.Severity), f.Vulnerability, f.Package, dash(f.Version), dash(f.FixedIn), f.Why})
	}
	if len(r.Uncovered) > 0 {
		t := table{title: "packages without data", rows: [][]string{{"PART", "PACKAGE", "VERSION", "WHY"}}}
		for _, u := range r.Uncovered {
			t.rows = append(t.rows, []string{u.Part, u.Package, dash(u.Version), u.Why})
		}
		out = append(out, t)
	}
	if len(r.Unapplied) > 0 {
		t := table{title: "statements that concern nothing here", rows: [][]string{{"STATEMENT"}}}
		for _, u := range r.Unapplied {
			t.rows = append(t.rows, []string{u})
		}
		out = append(out, t)
	}
	return out
}

func dash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// Summary counts the findings in one line.
func (r *Report) Summary() string {
	var words []string
	for _, s := range states {
		if n := r.Counts[s]; n > 0 {
			words = append(words, fmt.Sprintf("%d %s", n, strings.ReplaceAll(string(s), "_", " ")))
		}
	}
	if len(words) == 0 {
		words = []string{"no vulnerability is known"}
	}
	if r.RuledOut > 0 {
		words = append(words, fmt.Sprintf("%d of other versions", r.RuledOut))
	}
	if r.OfTools > 0 {
		words = append(words, fmt.Sprintf("%d of tools of the build", r.OfTools))
	}
	return strings.Join(words, ", ")
}

// describe says what a source has and how old it is.
func (s *Source) describe(now time.Time) string {
	text := fmt.Sprintf("%s, %d records", s.Form, s.Records)
	if s.Modified.IsZero() && s.FileTime.IsZero() {
		return text
	}
	age := s.Age(now)
	text += fmt.Sprintf(", %d days old", int(age.Hours()/24))
	// Statements of a maker do not become wrong when nothing is added to them.
	if age > old && s.Form != formOpenVEX && s.Form != formCycloneDX {
		text += ": get newer ones"
	}
	return text
}

// Text writes the report for people.
func (r *Report) Text(w io.Writer, now time.Time) error {
	p := &printer{w: w}
	p.line("%s: %s", cell.Printable(r.Name), r.Summary())
	for _, d := range r.Data {
		p.line("  %s: %s", cell.Printable(d.Path), d.describe(now))
	}
	for _, t := range r.tables() {
		p.line("\n%s", cell.Printable(t.title))
		shown := t.rows[:min(len(t.rows), mostLines+1)]
		widths := make([]int, len(t.rows[0]))
		for _, row := range shown {
			for i, c := range row {
				widths[i] = min(max(widths[i], len([]rune(cell.Printable(c)))), 60)
			}
		}
		for _, row := range shown {
			text := " "
			for i, c := range row {
				c = cell.Printable(c)
				text += " " + c + strings.Repeat(" ", max(widths[i]-len([]rune(c)), 0)+1)
			}
			p.line("%s", strings.TrimRight(text, " "))
		}
		if more := len(t.rows) - len(shown); more > 0 {
			p.line("  and %d more (--json has all)", more)
		}
	}
	return p.err
}

// Markdown writes the report as a comment for a merge request.
func (r *Report) Markdown(w io.Writer, now time.Time) error {
	p := &printer{w: w}
	p.line("**%s**: %s\n", cell.Markdown(cell.Printable(r.Name)), r.Summary())
	for _, d := range r.Data {
		p.line("- %s: %s", cell.Markdown(cell.Printable(d.Path)), d.describe(now))
	}
	for _, t := range r.tables() {
		p.line("\n<details><summary>%s (%d)</summary>\n", html.Replace(cell.Printable(t.title)), len(t.rows)-1)
		p.table(t.rows)
		p.line("\n</details>")
	}
	return p.err
}

// html writes a text into HTML.
var html = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;", "@", "&#64;")

// table writes a table of Markdown, of which the first row is the head.
func (p *printer) table(rows [][]string) {
	for n, row := range rows {
		if n > mostLines {
			p.line("| and %d more |", len(rows)-n)
			return
		}
		text := "|"
		for _, c := range row {
			text += " " + cell.Markdown(cell.Printable(c)) + " |"
		}
		p.line("%s", text)
		if n == 0 {
			p.line("|%s", strings.Repeat("---|", len(row)))
		}
	}
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
