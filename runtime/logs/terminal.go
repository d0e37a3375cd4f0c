package logs

import (
	"bytes"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// forTerminal returns a writer that ends lines with carriage return and line feed when out
// is a terminal: while a program on it, such as a shell with a line editor, has turned off
// output processing (termios(3), OPOST), the terminal does not add the carriage return. Each
// Write must end with a complete line.
func forTerminal(out io.Writer) io.Writer {
	f, ok := out.(*os.File)
	if !ok {
		return out
	}
	if _, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS); err != nil {
		return out
	}
	return terminalWriter{f}
}

type terminalWriter struct{ out io.Writer }

// Write implements io.Writer.
func (t terminalWriter) Write(p []byte) (int, error) {
	if _, err := t.out.Write(bytes.ReplaceAll(p, []byte("\n"), []byte("\r\n"))); err != nil {
		return 0, err
	}
	return len(p), nil
}
