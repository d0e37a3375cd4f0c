// Package cell writes texts of others into tables for people: on a terminal they must not move its
// cursor, and in a comment of a merge request they must not be links, pictures or mentions.
package cell

import (
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Printable returns a text without what a terminal would obey, or what would break a line: such
// characters are written as in Go.
func Printable(text string) string {
	if utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool { return !strconv.IsPrint(r) }) {
		return text
	}
	quoted := strconv.Quote(text)
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
}

// harmless are texts that mean themselves in Markdown.
var harmless = regexp.MustCompile(`^[A-Za-z0-9 ,;+→-]*(\.[0-9A-Za-z ,;+→-]+)?$`)

// beforeBar are bars in a cell, with what would make them an end of it.
var beforeBar = regexp.MustCompile(`\\*\|`)

// Markdown returns a printable text as a cell of a table: as code, unless it means itself.
func Markdown(text string) string {
	if harmless.MatchString(text) && !strings.Contains(text, "www.") {
		return text
	}
	text = strings.ReplaceAll(text, "`", "'")
	text = beforeBar.ReplaceAllStringFunc(text, func(s string) string {
		return strings.Repeat("\\", 2*len(s)-1) + "|"
	})
	return "` " + text + " `" // code without its blanks
}
