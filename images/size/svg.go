package size

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/images/inspect"
)

// colours are those of the sorts, in the order of the legend. Black text can be read on each of
// them.
var colours = []struct {
	sort   inspect.Sort
	colour string
}{
	{inspect.SortKernel, "#f2b48a"}, {inspect.SortModule, "#f7d794"}, {inspect.SortFirmware, "#c9b6e4"}, {inspect.SortProgram, "#9ecae8"},
	{inspect.SortCode, "#bfe0f2"}, {inspect.SortLibrary, "#9fd8cb"}, {inspect.SortFile, "#c4e0a8"}, {inspect.SortRest, "#d4d4d4"},
}

// frameColour is that of what has others in it.
const frameColour = "#f5f5f2"

// colourOf returns the colour of a box: one that is too small for what is in it has that of the
// largest thing in it.
func colourOf(b box) string {
	if b.frame {
		return frameColour
	}
	for of := b.of; ; of = of.Parts[0] {
		for _, c := range colours {
			if c.sort == of.Sort {
				return c.colour
			}
		}
		if len(of.Parts) == 0 {
			return frameColour
		}
	}
}

// Width and height of drawings.
const (
	width  = 1200.0
	height = 720.0
	legend = 26.0
)

// SVG writes a treemap of all, as a picture of its own.
func (r *Report) SVG(w io.Writer) error {
	var out bytes.Buffer
	out.WriteString(`<?xml version="1.0" encoding="UTF-8"?>` + "\n")
	drawing(&out, r.Tree, r.Name)
	_, err := w.Write(out.Bytes())
	return err
}

// escaped returns a text that is safe between tags and in attributes of XML and HTML.
func escaped(text string) string {
	var out bytes.Buffer
	_ = xml.EscapeText(&out, []byte(text)) // a buffer takes everything
	return out.String()
}

// drawing writes the treemap of a thing.
func drawing(out *bytes.Buffer, s *inspect.Sized, name string) {
	fmt.Fprintf(out, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" role="img" font-family="sans-serif" font-size="11">`+"\n", width, height+legend)
	fmt.Fprintf(out, "<title>%s: %s</title>\n", escaped(name), build.Size(s.Bytes))
	fmt.Fprintf(out, "<desc>%s</desc>\n", escaped(described(s)))
	for _, b := range boxes(s, "", rect{0, 0, width, height}, 0) {
		b.draw(out, name)
	}
	at := 0.0
	for _, c := range colours {
		fmt.Fprintf(out, `<rect x="%.1f" y="%.1f" width="12" height="12" fill="%s" stroke="#666"/><text x="%.1f" y="%.1f">%s</text>`+"\n",
			at+2, height+9, c.colour, at+19, height+19, c.sort)
		at += 34 + 7*float64(len(c.sort))
	}
	out.WriteString("</svg>\n")
}

// described says in words what a drawing shows.
func described(s *inspect.Sized) string {
	var words []string
	for _, p := range s.Parts[:min(len(s.Parts), 8)] {
		words = append(words, fmt.Sprintf("%s %s", p.Name, build.Size(p.Bytes)))
	}
	return "Areas are sizes on the medium. Largest: " + strings.Join(words, ", ")
}

// draw writes a box, with its size where the pointer is, and its name if there is room.
func (b box) draw(out *bytes.Buffer, name string) {
	path := b.path
	if path == "" {
		path = name
	}
	fmt.Fprintf(out, `<g><title>%s</title><rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s" stroke="#777" stroke-width="%.1f"/>`,
		escaped(path+"\n"+sizes(b.of)), b.x, b.y, b.w, b.h, colourOf(b), max(1.2-0.2*float64(b.deep), 0.3))
	own := b.of.Name
	if b.deep == 0 {
		own = name
	}
	if text := fitting(own+" "+build.Size(b.of.Bytes), b.w-6); text != "" && b.h >= headHeight {
		fmt.Fprintf(out, `<text x="%.1f" y="%.1f">%s</text>`, b.x+3, b.y+11.5, escaped(text))
	}
	out.WriteString("</g>\n")
}

// sizes are the sizes of a thing in words.
func sizes(s *inspect.Sized) string {
	text := build.Size(s.Bytes) + " on the medium"
	if s.Unpacked > 0 && s.Unpacked != s.Bytes {
		text += ", " + build.Size(s.Unpacked) + " unpacked"
	}
	if s.Package != "" {
		text += ", package " + s.Package
	}
	return text
}

// letter is how wide a letter may be, in units of the drawing.
const letter = 6.4

// fitting is as much of a text as fits; nothing for less than three letters.
func fitting(text string, room float64) string {
	most := int(room / letter)
	if utf8.RuneCountInString(text) <= most {
		return text
	}
	if most < 4 {
		return ""
	}
	return string([]rune(text)[:most-1]) + "…"
}
