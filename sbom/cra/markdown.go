package cra

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/internal/cell"
)

// Markdown writes the list for people.
func (f *File) Markdown(w io.Writer) error {
	p := &printer{w: w}
	p.line("# Technical file: %s", text(f.Product.Target))
	p.line("\nFacts about what was built, for the technical documentation of Regulation (EU) 2024/2847, Annexes II and VII.")
	if len(f.Gaps) > 0 {
		p.line("\n## What is missing\n")
		for _, g := range f.Gaps {
			p.line("- %s", text(g))
		}
	}
	f.product(p)
	f.vulnerabilities(p)
	f.means(p)
	f.keys(p)
	p.line("\n## Licences\n")
	p.head("", "licence", "packages")
	numbers := map[string]int{}
	for i, l := range f.Licences {
		numbers[l.Expression] = i + 1
		p.row(fmt.Sprint(i+1), cmp.Or(l.Expression, "not known"), fmt.Sprint(l.Packages))
	}
	p.line("\n## Components (Annex VII 2 b)\n")
	p.head("part", "package", "version", "licence", "supplier", "package URL")
	for _, c := range f.Packages {
		licence := cmp.Or(c.Licence, "not known")
		if len(licence) > longLicence {
			licence = fmt.Sprintf("number %d above", numbers[c.Licence])
		}
		p.row(c.Part, c.Name, c.Version, licence, c.Supplier, c.PURL)
	}
	return p.err
}

// longLicence is the length in bytes from which on a component has the number of its licence.
const longLicence = 60

func (f *File) product(p *printer) {
	s := f.Product.Support
	p.line("\n## Product (Annex II 1 to 3 and 7, Annex VII 1)\n")
	p.head("", "")
	for _, r := range [][2]string{
		{"target", f.Product.Target}, {"description", f.Product.Description}, {"version", f.Product.Release}, {"architecture", f.Product.Arch},
		{"time in what was built", f.Product.Built.Format(time.RFC3339)}, {"manufacturer", s.Manufacturer}, {"contact for vulnerabilities", s.Contact},
		{"support until", s.End},
	} {
		p.row(r[0], cmp.Or(r[1], "not stated"))
	}
	p.line("\n## Bills of materials (Annex VII 2 b)\n")
	p.head("part", "file", "SHA-256", "packages", "files")
	for _, b := range f.Bills {
		p.row(b.Part, b.File, b.SHA256, fmt.Sprint(b.Packages), fmt.Sprint(b.Files))
	}
	if len(f.Signatures) > 0 {
		p.line("\nThe results are signed: %s.", text(strings.Join(f.Signatures, ", ")))
	}
}

func (f *File) vulnerabilities(p *printer) {
	p.line("\n## Known vulnerabilities (Annex I, part I 2 a)\n")
	r := f.Vulnerabilities
	if r == nil {
		p.line("They were not looked for.")
		return
	}
	p.line("%s.\n", text(r.Summary()))
	p.head("data", "form", "records", "newest", "SHA-256")
	for _, d := range r.Data {
		newest := "not stated"
		if !d.Modified.IsZero() {
			newest = d.Modified.Format(time.RFC3339)
		}
		p.row(d.Path, d.Form, fmt.Sprint(d.Records), newest, d.SHA256)
	}
	if len(r.Findings) > 0 {
		p.line("")
		p.head("part", "vulnerability", "package", "version", "state", "severity", "fixed in", "why")
		for _, v := range r.Findings {
			p.row(v.Part, v.Vulnerability, v.Package, v.Version, strings.ReplaceAll(string(v.State), "_", " "), v.Severity, v.FixedIn, v.Why)
		}
	}
	without := map[string]int{}
	var reasons []string
	for _, u := range r.Uncovered {
		if without[u.Why]++; without[u.Why] == 1 {
			reasons = append(reasons, u.Why)
		}
	}
	if len(reasons) > 0 {
		p.line("\nPackages without data:\n")
		for _, why := range reasons {
			p.line("- %d: %s", without[why], text(why))
		}
	}
}

func (f *File) means(p *printer) {
	u := f.Updates
	p.line("\n## Updates (Annex I, part I 2 c; Annex II 8 c)\n")
	p.head("", "")
	p.row("boot loader", cmp.Or(u.Loader, "that of the host system"))
	p.row("falls back by itself", yes(u.Tried))
	p.row("how", u.How)
	p.row("boots that an update gets", fmt.Sprint(u.Trials))
	p.row("runs before it is committed", fmt.Sprintf("%d s", u.Delay))
	p.row("containers must be up within", fmt.Sprintf("%d s, where their group says nothing else", u.Goals))
	p.row("signatures of parts", u.Signatures)
	p.line("\nWhere updates come from:\n")
	for _, c := range u.Channels {
		p.line("- %s", text(c))
	}
	p.line("\n## Reset (Annex I, part I 2 b)\n")
	for _, h := range f.Reset.How {
		p.line("- %s", text(h))
	}
	if len(f.Access) > 0 {
		p.line("\n## Ways into the device\n")
		for _, a := range f.Access {
			p.line("- %s", text(a))
		}
	}
}

func (f *File) keys(p *printer) {
	p.line("\n## Keys that the device trusts\n")
	if len(f.Keys) == 0 {
		p.line("There are none.")
		return
	}
	p.head("file", "kind", "subject", "SHA-256", "expires", "problem")
	for _, k := range f.Keys {
		expires := ""
		if !k.Expires.IsZero() {
			expires = k.Expires.Format(time.DateOnly)
		}
		p.row(k.Name, k.Kind, k.Subject, k.SHA256, expires, k.Problem)
	}
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// text is a text outside of a table, in which Markdown has nothing to read.
func text(s string) string {
	return escaped.Replace(cell.Printable(s))
}

// escaped are the characters of Markdown and HTML.
var escaped = strings.NewReplacer(
	"\\", "\\\\", "`", "\\`", "*", "\\*", "_", "\\_", "[", "\\[", "]", "\\]", "<", "&lt;", ">", "&gt;", "&", "&amp;", "#", "\\#", "|", "\\|", "@", "&#64;", "~", "\\~",
	"://", ":&#47;/",
)

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

// head begins a table.
func (p *printer) head(titles ...string) {
	p.line("| %s |", strings.Join(titles, " | "))
	p.line("|%s", strings.Repeat("---|", len(titles)))
}

// row writes a line of a table.
func (p *printer) row(cells ...string) {
	line := "|"
	for _, c := range cells {
		line += " " + cell.Markdown(cell.Printable(c)) + " |"
	}
	p.line("%s", line)
}
