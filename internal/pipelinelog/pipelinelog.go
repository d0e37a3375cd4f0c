// Package pipelinelog writes what the logs of pipelines show in a form of their own: groups of lines that
// are folded, warnings and errors beside the changed files, and the summary of a job. GitHub takes workflow
// commands on the job's output (docs.github.com, "Workflow commands for GitHub Actions"), GitLab markers
// of sections in escape sequences (docs.gitlab.com, "Custom collapsible sections").
package pipelinelog

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// system is what runs the job.
type system int

const (
	none system = iota
	github
	gitlab
)

// Log is the log of a job. A nil Log, and one outside of pipelines, writes nothing.
type Log struct {
	w       io.Writer
	system  system
	summary string // file for the job's summary; "": there is none
	open    string // name of the open group
	now     func() time.Time
}

// New returns the log of the pipeline that the environment is of.
func New(w io.Writer, getenv func(string) string) *Log {
	l := &Log{w: w, summary: getenv("GITHUB_STEP_SUMMARY"), now: time.Now}
	switch "true" {
	case getenv("GITHUB_ACTIONS"):
		l.system = github
	case getenv("GITLAB_CI"):
		l.system = gitlab
	}
	return l
}

// Here reports whether the process runs in a pipeline whose log has a form of its own.
func (l *Log) Here() bool { return l != nil && l.system != none }

// Open begins a group with a title, and ends one that is open: groups of GitHub have no groups.
func (l *Log) Open(title string) {
	if !l.Here() {
		return
	}
	l.Close()
	switch l.system {
	case github:
		l.print("::group::%s\n", line(title))
	case gitlab:
		l.open = name(title)
		l.print("\x1b[0Ksection_start:%d:%s[collapsed=true]\r\x1b[0K%s\n", l.now().Unix(), l.open, line(title))
		return
	case none:
	}
	l.open = title
}

// Close ends the open group, if there is one.
func (l *Log) Close() {
	if l == nil || l.open == "" {
		return
	}
	switch l.system {
	case github:
		l.print("::endgroup::\n")
	case gitlab:
		l.print("\x1b[0Ksection_end:%d:%s\r\x1b[0K\n", l.now().Unix(), l.open)
	case none:
	}
	l.open = ""
}

// Error shows an error, Warning a warning, with the system's own mark where it has one.
func (l *Log) Error(text string) { l.note("error", "\x1b[31;1m", text) }

// Warning shows a warning; see Error.
func (l *Log) Warning(text string) { l.note("warning", "\x1b[33;1m", text) }

func (l *Log) note(level, colour, text string) {
	if !l.Here() {
		return
	}
	switch l.system {
	case github:
		l.print("::%s::%s\n", level, data(text))
	case gitlab:
		l.print("%s%s: %s\x1b[0m\n", colour, level, text)
	case none:
	}
}

// Summarize adds a line of Markdown to the job's summary where the pipeline has one.
func (l *Log) Summarize(markdown string) error {
	if l == nil || l.summary == "" {
		return nil
	}
	f, err := os.OpenFile(l.summary, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644) //nolint:gosec // the pipeline reads it
	if err != nil {
		return fault.Wrap(fault.IO, err, "writing the summary of the job (GITHUB_STEP_SUMMARY)")
	}
	_, err = f.WriteString(markdown + "\n")
	if closed := f.Close(); err == nil {
		err = closed
	}
	return fault.Wrap(fault.IO, err, "writing the summary of the job (GITHUB_STEP_SUMMARY)")
}

// print writes to the log; a log that cannot be written does not stop the work.
func (l *Log) print(format string, args ...any) { _, _ = fmt.Fprintf(l.w, format, args...) }

// line returns a text as one line, without characters that end a marker.
func line(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, text)
}

// data returns a text as the data of a workflow command: its lines in one.
func data(text string) string {
	return strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A").Replace(text)
}

// name makes the name of a section, of letters, digits, dots, underscores and dashes, from its title.
func name(title string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '-':
			return r
		}
		return '_'
	}, title)
}
