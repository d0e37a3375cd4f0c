package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"unicode/utf8"

	"golang.org/x/term"
)

// isTerminal reports whether a stream is a terminal, where progress may be shown.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// visible shows control characters on a terminal as escapes: names come from other
// people's states, and must not move the cursor or colour the screen.
type visible struct{ w io.Writer }

// forTerminal guards a stream that is a terminal; others stay as they are.
func forTerminal(w io.Writer) io.Writer {
	if isTerminal(w) {
		return visible{w}
	}
	return w
}

// Write implements io.Writer.
func (v visible) Write(p []byte) (int, error) {
	if !bytes.ContainsFunc(p, isControl) {
		return v.w.Write(p)
	}
	out := make([]byte, 0, len(p)+16)
	for rest := p; len(rest) > 0; {
		r, n := utf8.DecodeRune(rest)
		if isControl(r) {
			out = fmt.Appendf(out, `\x%02x`, r)
		} else {
			out = append(out, rest[:n]...)
		}
		rest = rest[n:]
	}
	if _, err := v.w.Write(out); err != nil {
		return 0, err
	}
	return len(p), nil
}

// isControl reports whether a terminal may obey a character: C0 but for the line
// feed, the tab and the carriage return, DEL and C1 (ECMA-48).
func isControl(r rune) bool {
	return r < 0x20 && r != '\n' && r != '\t' && r != '\r' || r >= 0x7f && r < 0xa0
}

// noAnswers reports whether r is a device that is not a terminal, such as /dev/null: nobody
// answers a question there.
func noAnswers(r io.Reader) bool {
	f, ok := r.(*os.File)
	if !ok || term.IsTerminal(int(f.Fd())) {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
