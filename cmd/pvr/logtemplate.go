package main

import (
	"encoding/json"
	"fmt"
	"io"
	"path"
	"strings"
	"text/template"
	"time"

	"github.com/pantavisor/pantavisor/revision/remote"
)

// shortLog is the template "short".
const shortLog = `{{.Device | prn2id | sprintf "%10.10s"}}({{.LogRev | sprintf "%3s"}}) {{.TimeCreated | timeformat "Stamp"}} ` +
	`{{.LogPlat | sprintf "%12s"}}({{.LogSource | basename | sprintf "%-15s"}}): {{.LogText}}`

// logPrinter returns the function that writes an entry by a template: "short", "json", or
// a text/template over [remote.LogEntry] with the functions of logFuncs.
func logPrinter(w io.Writer, text string) (func(remote.LogEntry) error, error) {
	switch text {
	case "json":
		text = "{{. | toJson}}"
	case "short", "":
		text = shortLog
	}
	tmpl, err := template.New("--template").Funcs(logFuncs).Parse(text)
	if err == nil { // a field that does not exist is found only by use
		err = tmpl.Execute(io.Discard, remote.LogEntry{})
	}
	if err != nil {
		return nil, fmt.Errorf("reading the template: short, json or a Go template is expected: %w", err)
	}
	return func(e remote.LogEntry) error {
		var line strings.Builder
		if err := tmpl.Execute(&line, e); err != nil {
			return err
		}
		_, err := fmt.Fprintln(w, line.String())
		return err
	}, nil
}

// logFuncs are the manual's own functions, and those of the sprig library that lines of
// text need, with its names and orders of arguments.
var logFuncs = template.FuncMap{
	"sprintf":    func(format string, v any) string { return fmt.Sprintf(format, v) },
	"basename":   path.Base,
	"prn2id":     path.Base,
	"timeformat": func(layout string, t time.Time) string { return t.Format(timeLayout(layout)) },

	"date":       func(layout string, t time.Time) string { return t.Format(timeLayout(layout)) },
	"unixEpoch":  func(t time.Time) string { return fmt.Sprint(t.Unix()) },
	"upper":      strings.ToUpper,
	"lower":      strings.ToLower,
	"trim":       strings.TrimSpace,
	"trimAll":    func(cut, s string) string { return strings.Trim(s, cut) },
	"trimPrefix": func(prefix, s string) string { return strings.TrimPrefix(s, prefix) },
	"trimSuffix": func(suffix, s string) string { return strings.TrimSuffix(s, suffix) },
	"replace":    func(from, to, s string) string { return strings.ReplaceAll(s, from, to) },
	"contains":   func(part, s string) bool { return strings.Contains(s, part) },
	"hasPrefix":  func(prefix, s string) bool { return strings.HasPrefix(s, prefix) },
	"hasSuffix":  func(suffix, s string) bool { return strings.HasSuffix(s, suffix) },
	"quote":      func(v any) string { return fmt.Sprintf("%q", fmt.Sprint(v)) },
	"trunc":      truncated,
	"base":       path.Base,
	"dir":        path.Dir,
	"splitList":  func(sep, s string) []string { return strings.Split(s, sep) },
	"join":       func(sep string, list []string) string { return strings.Join(list, sep) },
	"default":    orElse,
	"ternary":    ternary,
	"toString":   func(v any) string { return fmt.Sprint(v) },
	"toJson":     toJSON,
}

// truncated returns the first n characters, or with a negative n the last ones.
func truncated(n int, s string) string {
	r := []rune(s)
	switch {
	case n >= 0:
		return string(r[:min(n, len(r))])
	case -n < len(r):
		return string(r[len(r)+n:])
	}
	return s
}

func orElse(def, v any) any {
	if truth, ok := template.IsTrue(v); ok && truth {
		return v
	}
	return def
}

func ternary(yes, no any, condition bool) any {
	if condition {
		return yes
	}
	return no
}

func toJSON(v any) (string, error) {
	var out strings.Builder
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return strings.TrimSuffix(out.String(), "\n"), err
}

// timeLayouts are the constants of package time.
var timeLayouts = map[string]string{
	"ANSIC": time.ANSIC, "UnixDate": time.UnixDate, "RubyDate": time.RubyDate, "RFC822": time.RFC822, "RFC822Z": time.RFC822Z,
	"RFC850": time.RFC850, "RFC1123": time.RFC1123, "RFC1123Z": time.RFC1123Z, "RFC3339": time.RFC3339,
	"RFC3339Nano": time.RFC3339Nano, "Kitchen": time.Kitchen, "Stamp": time.Stamp, "StampMilli": time.StampMilli,
	"StampMicro": time.StampMicro, "StampNano": time.StampNano, "DateTime": time.DateTime, "DateOnly": time.DateOnly, "TimeOnly": time.TimeOnly,
}

// timeLayout returns a layout by the name of its constant; any other text is a layout.
func timeLayout(name string) string {
	if layout, ok := timeLayouts[name]; ok {
		return layout
	}
	return name
}
