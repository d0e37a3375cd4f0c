package main

import (
	"strings"
	"testing"
	"time"

	"github.com/pantavisor/pantavisor/revision/remote"
)

func TestLogTemplates(t *testing.T) {
	t.Parallel()
	e := remote.LogEntry{
		Device: "prn:::devices:/0123456789abcdef", TimeCreated: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC),
		LogRev: "7", LogPlat: "web", LogSource: "/var/log/web.log", LogLevel: "INFO", LogText: "up <1>",
	}
	for text, want := range map[string]string{
		"short":                             "0123456789(  7) Mar  4 05:06:07          web(web.log        ): up <1>",
		"":                                  "0123456789(  7) Mar  4 05:06:07          web(web.log        ): up <1>",
		`{{ "test1234" | sprintf "%.4s" }}`: "test",
		`{{ "/path/one" | basename }}`:      "one",
		`{{ .TimeCreated | timeformat "ANSIC" }}`:   "Wed Mar  4 05:06:07 2026",
		`{{ .TimeCreated | date "15:04" }}`:         "05:06",
		`{{ .LogText | upper | trunc 2 }}`:          "UP",
		`{{ .LogText | trunc -3 }}`:                 "<1>",
		`{{ .Owner | default "nobody" }}`:           "nobody",
		`{{ .LogSource | trimPrefix "/var" }}`:      "/log/web.log",
		`{{ .LogText | replace "<1>" "2" | quote}}`: `"up 2"`,
	} {
		var out strings.Builder
		show, err := logPrinter(&out, text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if err := show(e); err != nil || out.String() != want+"\n" {
			t.Errorf("%s: %q, %v; want %q", text, out.String(), err, want)
		}
	}
	for _, text := range []string{"{{", "{{ .NoField }}", "{{ . | nofunc }}"} {
		if _, err := logPrinter(nil, text); err == nil {
			t.Errorf("%s: no error", text)
		}
	}
}
