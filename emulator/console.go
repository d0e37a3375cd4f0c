package emulator

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
)

// Console is a serial console: what the device prints is kept (the last MiB), may
// be copied elsewhere, and can be waited for; what is written goes to the device.
type Console struct {
	conn net.Conn

	mu     sync.Mutex
	buf    []byte // the end of the output
	start  int64  // position of buf[0] in the whole output
	seen   int64  // up to where Expect has looked
	copyTo io.Writer
	news   chan struct{} // closed and replaced when something arrives
	eof    bool
}

const maxConsole = 1 << 20

func newConsole(conn net.Conn) *Console {
	c := &Console{conn: conn, news: make(chan struct{})}
	go c.read()
	return c
}

func (c *Console) read() {
	b := make([]byte, 4096)
	for {
		n, err := c.conn.Read(b)
		c.mu.Lock()
		c.add(b[:n])
		c.eof = err != nil
		close(c.news)
		c.news = make(chan struct{})
		c.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (c *Console) add(p []byte) {
	c.buf = append(c.buf, p...)
	if over := len(c.buf) - maxConsole; over > 0 {
		c.buf = append(c.buf[:0], c.buf[over:]...)
		c.start += int64(over)
	}
	if c.copyTo != nil && len(p) > 0 {
		_, _ = c.copyTo.Write(p)
	}
}

// CopyTo gives a copy of all further output, and of what was kept so far, to w.
// nil ends it.
func (c *Console) CopyTo(w io.Writer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.copyTo = w
	if w != nil {
		_, _ = w.Write(c.buf)
	}
}

// Write types on the console.
func (c *Console) Write(p []byte) (int, error) { return c.conn.Write(p) }

// Expect waits until text appears behind what the last Expect found, and returns
// the output up to its end. On an error it returns what came instead.
func (c *Console) Expect(ctx context.Context, text string) (string, error) {
	for {
		c.mu.Lock()
		from := int(max(c.seen-c.start, 0))
		at := bytes.Index(c.buf[from:], []byte(text))
		if at >= 0 {
			out := string(c.buf[from : from+at+len(text)])
			c.seen = c.start + int64(from+at+len(text))
			c.mu.Unlock()
			return out, nil
		}
		news, rest, eof := c.news, string(c.buf[from:]), c.eof
		c.mu.Unlock()
		if eof {
			return rest, fmt.Errorf("waiting for %q on the console: it was closed", text)
		}
		select {
		case <-news:
		case <-ctx.Done():
			return rest, fmt.Errorf("waiting for %q on the console: %w", text, ctx.Err())
		}
	}
}

// found is where what the last Expect found ends.
func (c *Console) found() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen
}

// end is where the next output comes.
func (c *Console) end() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.start + int64(len(c.buf))
}

// waitFor reports whether one of the texts appears behind from before ctx ends.
func (c *Console) waitFor(ctx context.Context, from int64, texts []string) bool {
	for {
		c.mu.Lock()
		rest, news, eof := c.buf[max(from-c.start, 0):], c.news, c.eof
		found := slices.ContainsFunc(texts, func(s string) bool { return bytes.Contains(rest, []byte(s)) })
		c.mu.Unlock()
		if found || eof {
			return found
		}
		select {
		case <-news:
		case <-ctx.Done():
			return false
		}
	}
}

// News is closed when something arrives on the console after the call.
func (c *Console) News() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.news
}

// Tail returns the last n lines, without colours and other control sequences.
func (c *Console) Tail(n int) []string {
	c.mu.Lock()
	text := plain(string(c.buf))
	c.mu.Unlock()
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return lines[max(0, len(lines)-n):]
}

// plain removes ANSI control sequences (ECMA-48) and carriage returns.
func plain(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == 0x1b && i+1 < len(s) && s[i+1] == '[':
			for i += 2; i < len(s) && (s[i] < 0x40 || s[i] > 0x7e); i++ {
			}
		case c == 0x1b:
			i++
		case c == '\n' || c == '\t' || c >= 0x20 && c != 0x7f:
			b.WriteByte(c)
		}
	}
	return b.String()
}

func (c *Console) close() { _ = c.conn.Close() }
