// Package client is the client of a device's control socket. Programs that only use the
// socket import this and the wire types of runtime/ctrl/api, never the server.
package client

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/runtime/ctrl/http1"
	"github.com/pantavisor/pantavisor/runtime/peer"
)

// errNoReply means that the server ended the connection without an answer.
var errNoReply = errors.New("no reply")

// Sockets are the usual paths of the control socket, in the order in which tools look.
var Sockets = []string{"/run/pantavisor/pv/pv-ctrl", "/pv/pv-ctrl", "/pantavisor/pv-ctrl"}

// HostedSocket is the path of the control socket in an installation on another system
// (App Engine), relative to the directory that also has the tools.
const HostedSocket = "run/pv/pv-ctrl"

// FindSocket returns the socket of the installation that this program belongs to,
// otherwise the first of [Sockets] that exists, "" when none does. A path that this user
// is not permitted to look up counts as existing.
func FindSocket() string {
	exe, err := os.Executable()
	if err != nil {
		return FindSocketBeside("")
	}
	return FindSocketBeside(exe)
}

// FindSocketBeside is [FindSocket] for a program at another path; "" means none.
func FindSocketBeside(exe string) string {
	places := Sockets
	if exe != "" {
		places = append([]string{filepath.Join(filepath.Dir(exe), HostedSocket)}, places...)
	}
	for _, path := range places {
		st, err := os.Stat(path)
		if errors.Is(err, fs.ErrPermission) || err == nil && st.Mode()&os.ModeSocket != 0 {
			return path
		}
	}
	return ""
}

// Client sends requests to a control socket, each over its own connection. The zero
// value with a Socket is ready to use.
type Client struct {
	Socket  string        // path; not used with Dial
	Timeout time.Duration // for the exchange once connected; 0 means none
	Connect time.Duration // for the connection; 0 means none
	HTTP10  bool          // speak HTTP/1.0
	Buffer  int           // bytes of a body that are sent at once; 0 for 32 KiB
	// Dial connects in another way, for example to the host's end of a virtual
	// machine's port. May be nil.
	Dial func(ctx context.Context) (io.ReadWriteCloser, error)
	// Trace is called with each line of the heads of request and answer. May be nil.
	Trace func(line string)
}

// Request is a request to the socket.
type Request struct {
	Method string // "" means GET
	Path   string // with the leading slash, as it goes over the wire
	Header []string
	Body   io.Reader // nil means no body and, except for GET, HEAD and DELETE, a length of 0
	Size   int64     // of Body
}

// Response is the answer. The caller must close it.
type Response struct {
	Status int
	Reason string
	Header []string // "Name: value", in their order
	Head   string   // status line and header lines as received
	io.Reader
	conn io.Closer
	stop func() bool
}

// Close ends the connection.
func (r *Response) Close() error {
	r.stop()
	return r.conn.Close()
}

// Get returns the value of a header, "" when it is missing.
func (r *Response) Get(name string) string {
	for _, line := range r.Header {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.EqualFold(k, name) {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// Do sends a request and returns the answer as soon as its head is read.
func (c *Client) Do(ctx context.Context, req *Request) (*Response, error) {
	conn, err := c.connect(ctx)
	if err != nil {
		return nil, err
	}
	if d, ok := conn.(http1.Deadliner); ok && c.Timeout > 0 {
		end := time.Now().Add(c.Timeout)
		_ = d.SetReadDeadline(end)
		_ = d.SetWriteDeadline(end)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	resp, err := c.exchange(conn, req)
	if err != nil {
		stop()
		_ = conn.Close()
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, fmt.Errorf("asking %s %s: %w", req.method(), http1.Clip(req.Path), err)
	}
	resp.conn, resp.stop = conn, stop
	return resp, nil
}

func (c *Client) connect(ctx context.Context) (io.ReadWriteCloser, error) {
	if c.Dial != nil {
		return c.Dial(ctx)
	}
	return peer.Dial(c.Socket, c.Connect)
}

func (r *Request) method() string {
	if r.Method == "" {
		return "GET"
	}
	return r.Method
}

// exchange sends the request while it waits for the answer, which may arrive before the
// whole body is sent. A body that ends early ends the exchange: the server would wait for
// the rest of it.
func (c *Client) exchange(conn io.ReadWriteCloser, req *Request) (*Response, error) {
	head := req.head(c.HTTP10)
	c.trace("> ", head)
	sent := make(chan error, 1)
	go func() {
		err := req.send(conn, head, c.Buffer)
		sent <- err
		var broken *bodyError
		if errors.As(err, &broken) {
			_ = conn.Close()
		}
	}()
	resp, err := readAnswer(bufio.NewReader(conn), req.method() == "HEAD")
	if errors.Is(err, errNoReply) {
		select {
		case sendErr := <-sent:
			var broken *bodyError
			if errors.As(sendErr, &broken) {
				return nil, broken
			}
			if sendErr != nil {
				err = fmt.Errorf("%w: %w", errNoReply, sendErr)
			}
		default:
		}
	}
	if err != nil {
		return nil, err
	}
	c.trace("< ", resp.Head)
	return resp, nil
}

// send writes head and body.
func (r *Request) send(conn io.Writer, head string, buffer int) error {
	if _, err := io.WriteString(conn, head); err != nil || r.Body == nil {
		return err
	}
	body := &source{r: io.LimitReader(r.Body, r.Size)}
	n, err := transfer(conn, body, buffer)
	if err == nil && n < r.Size {
		body.err = io.ErrUnexpectedEOF
	}
	if body.err != nil {
		return &bodyError{body.err}
	}
	return err
}

func transfer(w io.Writer, r io.Reader, buffer int) (int64, error) {
	if buffer == 0 {
		return http1.Copy(w, r)
	}
	// The wrapper hides ReadFrom, with which io.CopyBuffer would not use the buffer.
	return io.CopyBuffer(struct{ io.Writer }{w}, r, make([]byte, buffer))
}

// bodyError is an error of reading the body of a request.
type bodyError struct{ err error }

func (e *bodyError) Error() string { return "reading what is to be sent: " + e.err.Error() }

func (e *bodyError) Unwrap() error { return e.err }

// source records the error that ended reading.
type source struct {
	r   io.Reader
	err error
}

// Read implements io.Reader.
func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

func (c *Client) trace(mark, head string) {
	if c.Trace == nil {
		return
	}
	for line := range strings.Lines(head) {
		c.Trace(mark + strings.TrimRight(line, "\r\n"))
	}
}

func (r *Request) head(old bool) string {
	version := "HTTP/1.1"
	if old {
		version = "HTTP/1.0"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %s\r\n", r.method(), r.Path, version)
	lines := []string{"Host: localhost"}
	if r.Body != nil || !slices.Contains([]string{"GET", "HEAD", "DELETE"}, r.method()) {
		lines = append(lines, "Content-Length: "+strconv.FormatInt(r.Size, 10))
	}
	if !old {
		lines = append(lines, "Connection: close")
	}
	for _, line := range lines {
		name, _, _ := strings.Cut(line, ":")
		if !slices.ContainsFunc(r.Header, func(h string) bool { return len(h) > len(name) && strings.EqualFold(h[:len(name)+1], name+":") }) {
			b.WriteString(line + "\r\n")
		}
	}
	for _, line := range r.Header {
		b.WriteString(line + "\r\n")
	}
	b.WriteString("\r\n")
	return b.String()
}

// readAnswer reads the head of an answer; interim answers (1xx) are skipped.
func readAnswer(r *bufio.Reader, headOnly bool) (*Response, error) {
	for {
		resp, framing, err := readHead(r)
		switch {
		case err != nil:
			return nil, err
		case resp.Status < 200:
			continue
		case headOnly || resp.Status == 204:
			resp.Reader = strings.NewReader("")
		case framing.Counted || framing.Length == -1:
			resp.Reader = http1.NewBody(r, framing, nil)
		default:
			resp.Reader = r // until the connection ends
		}
		return resp, nil
	}
}

func readHead(r *bufio.Reader) (*Response, *http1.Head, error) {
	lines := http1.NewLines(r)
	line, err := lines.First()
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", errNoReply, err)
	}
	resp := &Response{Head: line + "\n"}
	version, rest, _ := strings.Cut(line, " ")
	code, reason, _ := strings.Cut(rest, " ")
	resp.Status, err = strconv.Atoi(code)
	if err != nil || !strings.HasPrefix(version, "HTTP/1.") || resp.Status < 100 || resp.Status > 999 {
		return nil, nil, fmt.Errorf("reading the answer %q: %w", http1.Clip(line), http1.ErrProtocol)
	}
	resp.Reason = reason
	framing := &http1.Head{Minor: 1}
	for {
		line, err := lines.Next()
		if err != nil {
			return nil, nil, fmt.Errorf("reading the head of the answer: %w", err)
		}
		if line == "" {
			return resp, framing, nil
		}
		if err := framing.Add(line); err != nil {
			return nil, nil, fmt.Errorf("reading the header line %q: %w", http1.Clip(line), err)
		}
		resp.Header = append(resp.Header, line)
		resp.Head += line + "\n"
	}
}
