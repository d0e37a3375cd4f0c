package checks

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/junit"
)

// event is a line of go test -json ("go doc test2json").
type event struct {
	Action     string
	Package    string
	ImportPath string // of what a build says
	Test       string
	Elapsed    float64
	Output     string
}

// tests collects what go test -json says.
type tests struct {
	to    io.Writer // gets what go test prints without -json
	said  map[[2]string]*strings.Builder
	cases map[[2]string]junit.Case
}

// goTest runs go test, and writes its report in JUnit's form to a file.
func goTest(ctx context.Context, file string, args ...string) error {
	args = append([]string{"test", "-json"}, args...)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fault.Wrap(fault.Internal, err, "running go test")
	}
	if err := cmd.Start(); err != nil {
		return fault.Wrap(fault.Missing, err, "running go test")
	}
	t := newTests(os.Stdout)
	read := t.read(out)
	failed := fault.Wrap(fault.Internal, cmd.Wait(), "running go %s", strings.Join(args, " "))
	return errors.Join(failed, read, t.suite().Save(file))
}

func newTests(to io.Writer) *tests {
	return &tests{to: to, said: map[[2]string]*strings.Builder{}, cases: map[[2]string]junit.Case{}}
}

// read takes all lines. One that is not an event, as of a program that is not go test, is printed.
func (t *tests) read(r io.Reader) error {
	lines := bufio.NewReaderSize(r, 64<<10)
	for {
		line, err := lines.ReadString('\n')
		var e event
		if strings.HasPrefix(line, "{") && json.Unmarshal([]byte(line), &e) == nil {
			t.take(e)
		} else if _, werr := io.WriteString(t.to, line); werr != nil {
			return fault.Wrap(fault.IO, werr, "printing what go test says")
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fault.Wrap(fault.IO, err, "reading what go test says")
		}
	}
}

func (t *tests) take(e event) {
	key := [2]string{e.Package, e.Test}
	switch e.Action {
	case "output", "build-output":
		if e.Test == "" || e.Action == "build-output" {
			_, _ = io.WriteString(t.to, e.Output) // the report has it all the same
		}
		if t.said[key] == nil {
			t.said[key] = &strings.Builder{}
		}
		t.said[key].WriteString(e.Output)
	case "pass", "fail", "skip":
		t.end(key, e)
	}
}

// end takes the verdict on a test, or on a package, which is a case only when it fails without a test that does.
func (t *tests) end(key [2]string, e event) {
	said := ""
	if b := t.said[key]; b != nil {
		said = b.String()
		delete(t.said, key)
	}
	c := junit.Case{Class: e.Package, Name: e.Test, Seconds: e.Elapsed}
	switch e.Action {
	case "fail":
		c.Failure = said
		if strings.TrimSpace(said) == "" {
			c.Failure = "it failed"
		}
		if e.Test != "" {
			_, _ = io.WriteString(t.to, said)
		}
	case "skip":
		c.Skip = said
	}
	if e.Test == "" {
		if e.Action != "fail" || t.failed(e.Package) {
			return
		}
		c.Name = "package"
	}
	t.cases[[2]string{c.Class, c.Name}] = c
}

// failed reports whether a test of a package has failed.
func (t *tests) failed(pack string) bool {
	for key, c := range t.cases {
		if key[0] == pack && c.Failure != "" {
			return true
		}
	}
	return false
}

// suite returns the report, sorted by package and test.
func (t *tests) suite() junit.Suite {
	s := junit.Suite{Name: "go test"}
	keys := slices.SortedFunc(maps.Keys(t.cases), func(a, b [2]string) int { return strings.Compare(a[0]+"\x00"+a[1], b[0]+"\x00"+b[1]) })
	for _, key := range keys {
		c := t.cases[key]
		if !strings.Contains(c.Name, "/") { // a test's time has that of its subtests in it
			s.Seconds += c.Seconds
		}
		s.Cases = append(s.Cases, c)
	}
	return s
}
