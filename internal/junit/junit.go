// Package junit writes test reports in the XML form of JUnit that GitLab (docs.gitlab.com, "Unit test
// reports") and the usual actions of GitHub read: one suite with its cases.
package junit

import (
	"encoding/xml"
	"strings"
	"unicode/utf8"

	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// Suite is a run of tests.
type Suite struct {
	Name    string
	Seconds float64 // of all cases
	Cases   []Case
}

// Case is one test. It has passed when Failure, Skip and Error are empty.
type Case struct {
	Class, Name string
	Seconds     float64
	Failure     string // why it failed
	Skip        string // why it was not run
	Error       string // why it could not be judged
	Output      string // what it printed
}

type document struct {
	XMLName  xml.Name `xml:"testsuites"`
	Tests    int      `xml:"tests,attr"`
	Failures int      `xml:"failures,attr"`
	Errors   int      `xml:"errors,attr"`
	Skipped  int      `xml:"skipped,attr"`
	Time     float64  `xml:"time,attr"`
	Suite    suite    `xml:"testsuite"`
}

type suite struct {
	Name     string     `xml:"name,attr"`
	Tests    int        `xml:"tests,attr"`
	Failures int        `xml:"failures,attr"`
	Errors   int        `xml:"errors,attr"`
	Skipped  int        `xml:"skipped,attr"`
	Time     float64    `xml:"time,attr"`
	Cases    []testcase `xml:"testcase"`
}

type testcase struct {
	Class   string   `xml:"classname,attr"`
	Name    string   `xml:"name,attr"`
	Time    float64  `xml:"time,attr"`
	Failure *message `xml:"failure,omitempty"`
	Error   *message `xml:"error,omitempty"`
	Skipped *message `xml:"skipped,omitempty"`
	Output  string   `xml:"system-out,omitempty"`
}

type message struct {
	Message string `xml:"message,attr"` // its first line
	Text    string `xml:",chardata"`
}

// Encode returns the report.
func (s Suite) Encode() ([]byte, error) {
	out := suite{Name: clean(s.Name), Tests: len(s.Cases), Time: s.Seconds}
	for _, c := range s.Cases {
		t := testcase{Class: clean(c.Class), Name: clean(c.Name), Time: c.Seconds, Output: clean(c.Output)}
		t.Failure, t.Error, t.Skipped = said(c.Failure, &out.Failures), said(c.Error, &out.Errors), said(c.Skip, &out.Skipped)
		out.Cases = append(out.Cases, t)
	}
	doc := document{Tests: out.Tests, Failures: out.Failures, Errors: out.Errors, Skipped: out.Skipped, Time: out.Time, Suite: out}
	text, err := xml.MarshalIndent(doc, "", "  ")
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "writing a report of tests")
	}
	return append([]byte(xml.Header), append(text, '\n')...), nil
}

// Save writes the report to a file.
func (s Suite) Save(file string) error {
	text, err := s.Encode()
	if err != nil {
		return err
	}
	return fault.Wrap(fault.IO, atomicfile.Write(file, text, 0o644), "writing the report of tests (--junit)")
}

// said returns the element of a text and counts it; nil for none.
func said(text string, count *int) *message {
	if text == "" {
		return nil
	}
	*count++
	text = clean(text)
	first, _, _ := strings.Cut(text, "\n")
	return &message{Message: first, Text: text}
}

// clean removes what a document of XML 1.0 cannot have: control characters of consoles, invalid UTF-8.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n', r == '\t':
			return r
		case r < ' ', r == utf8.RuneError, r == 0xfffe, r == 0xffff:
			return -1
		}
		return r
	}, text)
}
