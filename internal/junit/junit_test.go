package junit

import (
	"encoding/xml"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestReport(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "report.xml")
	s := Suite{Name: "board", Seconds: 2.5, Cases: []Case{
		{Class: "board", Name: "boot", Seconds: 2.5, Output: "a\x1b[31mb\xff"},
		{Class: "board", Name: "web", Failure: "it is <STOPPED>\nlast lines"},
		{Class: "board", Name: "late", Skip: "no network"},
		{Class: "board", Name: "odd", Error: "QEMU is missing"},
	}}
	if err := s.Save(file); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want := `<?xml version="1.0" encoding="UTF-8"?>
<testsuites tests="4" failures="1" errors="1" skipped="1" time="2.5">
  <testsuite name="board" tests="4" failures="1" errors="1" skipped="1" time="2.5">
    <testcase classname="board" name="boot" time="2.5">
      <system-out>a[31mb</system-out>
    </testcase>
    <testcase classname="board" name="web" time="0">
      <failure message="it is &lt;STOPPED&gt;">it is &lt;STOPPED&gt;&#xA;last lines</failure>
    </testcase>
    <testcase classname="board" name="late" time="0">
      <skipped message="no network">no network</skipped>
    </testcase>
    <testcase classname="board" name="odd" time="0">
      <error message="QEMU is missing">QEMU is missing</error>
    </testcase>
  </testsuite>
</testsuites>
`
	if diff := cmp.Diff(want, string(text)); diff != "" {
		t.Error(diff)
	}
	if err := s.Save(filepath.Join(file, "x")); err == nil {
		t.Error("a report that cannot be written is no error")
	}
}

// FuzzEncode expects that every text gives a document that can be read.
func FuzzEncode(f *testing.F) {
	f.Add("\x00\x1b]0;\ufffe")
	f.Fuzz(func(t *testing.T, text string) {
		data, err := Suite{Name: text, Cases: []Case{{Class: text, Name: text, Failure: text, Output: text}}}.Encode()
		if err != nil {
			t.Fatal(err)
		}
		var doc document
		if err := xml.Unmarshal(data, &doc); err != nil {
			t.Errorf("%v\n%s", err, data)
		}
	})
}
