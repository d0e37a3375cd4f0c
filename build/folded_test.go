package build

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// folds is a pipeline's log whose marks are words.
type folds struct{ bytes.Buffer }

func (f *folds) Open(title string)   { f.WriteString("<" + title + "\n") }
func (f *folds) Close()              { f.WriteString(">\n") }
func (f *folds) Error(text string)   { f.WriteString("!" + text + "\n") }
func (f *folds) Warning(text string) { f.WriteString("?" + text + "\n") }
func (f *folds) Summarize(markdown string) error {
	f.WriteString("=" + markdown + "\n")
	return errors.New("no summary")
}

func TestFolded(t *testing.T) {
	t.Parallel()
	f := &folds{}
	s := &Folded{W: f, Folds: f}
	for _, e := range sample {
		e.Target = "x"
		s.Event(e)
	}
	s.Event(Event{Type: Warning, Text: "late"})
	want := `<steps of x
running  b (never built)
         b: hello
done     b in 1.2 s, 2.0 KiB
failed   c: running step c: no
written  out/x.img, 3.0 MiB
>
!c: running step c: no
cached   1 step (nothing changed)
stopped (unreachable) x in 2.0 s, 1.0 s of CPU
?b: replaced
=- stopped (unreachable) x in 2.0 s, 1.0 s of CPU; 1 files, 3.0 MiB; 1 warnings
?no summary
?late
`
	if diff := cmp.Diff(want, f.String()); diff != "" {
		t.Error(diff)
	}
}
