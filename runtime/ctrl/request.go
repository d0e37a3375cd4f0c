package ctrl

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Bounds of what a client may send before its request is looked at.
const (
	maxLine   = 16 << 10 // one line of the head; the longest recorded client line is 9 KiB
	maxHead   = 32 << 10 // the whole head
	maxHeader = 100      // header lines
)

// errProtocol is anything that is not an HTTP/1.x request we can frame. The
// connection cannot be used after it.
var errProtocol = errors.New("unsupported protocol")

// errMethod is a well-formed request with a method that nobody knows.
var errMethod = errors.New("unknown method")

// errTooLarge says that a body exceeds the limit of its endpoint.
var errTooLarge = errors.New("body above the limit of the endpoint")

// request is the head of one HTTP request.
type request struct {
	method   string
	target   string // as sent
	minor    int    // HTTP/1.minor
	host     string
	length   int64 // of the body; 0 when none is announced, -1 when chunked
	expect   bool  // Expect: 100-continue
	close    bool  // the client asks for, or its version implies, one request only
	sawHost  bool
	sawCount bool
}

// readRequest reads one head. io.EOF means that the client closed between two
// requests, io.ErrUnexpectedEOF that it closed within one.
func readRequest(r *bufio.Reader) (*request, error) {
	head := &lineReader{r: r, left: maxHead}
	line, err := head.first()
	if err != nil {
		return nil, err
	}
	req, err := parseRequestLine(line)
	if err != nil {
		return nil, err
	}
	for range maxHeader {
		line, err := head.next()
		if err != nil {
			return nil, err
		}
		if len(line) == 0 {
			return req, req.check()
		}
		if err := req.header(line); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("reading more than %d header lines: %w", maxHeader, errProtocol)
}

// check looks at the head as a whole.
func (req *request) check() error {
	switch req.method {
	case "GET", "HEAD", "POST", "PUT", "DELETE":
		return nil
	}
	return errMethod
}

// lineReader reads lines that end in LF or CRLF, within a budget.
type lineReader struct {
	r    *bufio.Reader
	left int
}

// first skips empty lines before a request, as RFC 9112 §2.2 asks.
func (l *lineReader) first() (string, error) {
	if _, err := l.r.Peek(1); err != nil {
		return "", err
	}
	for {
		line, err := l.next()
		if err != nil || len(line) > 0 {
			return line, err
		}
	}
}

func (l *lineReader) next() (string, error) {
	var line []byte
	for {
		part, err := l.r.ReadSlice('\n')
		line = append(line, part...)
		l.left -= len(part)
		switch {
		case l.left < 0 || len(line) > maxLine:
			return "", fmt.Errorf("reading a head above its limit: %w", errProtocol)
		case err == nil:
			return string(bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))), nil
		case errors.Is(err, io.EOF):
			return "", io.ErrUnexpectedEOF
		case !errors.Is(err, bufio.ErrBufferFull):
			return "", err
		}
	}
}

func parseRequestLine(line string) (*request, error) {
	parts := strings.Split(line, " ")
	if len(parts) != 3 || !isToken(parts[0]) || !isTarget(parts[1]) {
		return nil, errProtocol
	}
	req := &request{method: parts[0], target: parts[1]}
	switch parts[2] {
	case "HTTP/1.1":
		req.minor = 1
	case "HTTP/1.0":
		req.close = true
	default:
		return nil, errProtocol
	}
	return req, nil
}

func isToken(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return s != ""
}

func isTarget(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c == 0x7f {
			return false
		}
	}
	return strings.HasPrefix(s, "/") || strings.HasPrefix(s, "http://")
}

func (req *request) header(line string) error {
	name, value, ok := strings.Cut(line, ":")
	if !ok || !isToken(name) || strings.IndexByte(value, 0) >= 0 {
		return errProtocol
	}
	value = strings.Trim(value, " \t")
	switch strings.ToLower(name) {
	case "host":
		return req.setHost(value)
	case "content-length":
		return req.setLength(value)
	case "transfer-encoding":
		return req.setEncoding(value)
	case "expect":
		req.expect = strings.EqualFold(value, "100-continue")
	case "connection":
		req.close = req.close || hasToken(value, "close")
	}
	return nil
}

func hasToken(list, token string) bool {
	for t := range strings.SplitSeq(list, ",") {
		if strings.EqualFold(strings.TrimSpace(t), token) {
			return true
		}
	}
	return false
}

func (req *request) setHost(value string) error {
	if req.sawHost {
		return errProtocol
	}
	req.host, req.sawHost = value, true
	return nil
}

func (req *request) setLength(value string) error {
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || n < 0 || value[0] == '+' || req.length == -1 || req.sawCount && n != req.length {
		return errProtocol
	}
	req.length, req.sawCount = n, true
	return nil
}

// setEncoding accepts chunked, and identity, which existing tools send to say
// that the body is not chunked. A request that is both chunked and counted is refused: two
// readers could see two different ends of it (RFC 9112 §6.3).
func (req *request) setEncoding(value string) error {
	switch {
	case strings.EqualFold(value, "identity"):
		return nil
	case strings.EqualFold(value, "chunked") && !req.sawCount && req.minor == 1:
		req.length = -1
		return nil
	}
	return errProtocol
}

// body reads the body of a request and no byte more.
type body struct {
	r         *bufio.Reader
	left      int64 // of the current chunk, or of the whole when counted
	chunked   bool
	started   bool // a chunk has been read
	done      bool
	onRead    func() error // sends 100 Continue before the first byte is read
	announced int64        // -1 when unknown
}

func newBody(r *bufio.Reader, req *request, onRead func() error) *body {
	b := &body{r: r, left: req.length, announced: req.length, onRead: onRead}
	if req.length == -1 {
		b.left, b.chunked = 0, true
	}
	b.done = !b.chunked && b.left == 0
	return b
}

// Read implements io.Reader; a body that ends early is io.ErrUnexpectedEOF.
func (b *body) Read(p []byte) (int, error) {
	if b.done {
		return 0, io.EOF
	}
	if b.onRead != nil {
		tell := b.onRead
		b.onRead = nil
		if err := tell(); err != nil {
			return 0, err
		}
	}
	if b.left == 0 {
		if err := b.nextChunk(); err != nil || b.done {
			return 0, orEOF(err)
		}
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	b.done = !b.chunked && b.left == 0
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func orEOF(err error) error {
	if err == nil {
		return io.EOF
	}
	return err
}

// nextChunk reads the line before a chunk, and after the last chunk the trailer.
func (b *body) nextChunk() error {
	lines := &lineReader{r: b.r, left: maxHead}
	if b.started {
		if line, err := lines.next(); err != nil || line != "" {
			return badChunk(err)
		}
	}
	b.started = true
	line, err := lines.next()
	if err != nil {
		return err
	}
	digits, _, _ := strings.Cut(line, ";")
	n, err := strconv.ParseInt(strings.TrimRight(digits, " \t"), 16, 64)
	if err != nil || n < 0 || line[0] == '+' || line[0] == '-' {
		return badChunk(nil)
	}
	b.left = n
	if n > 0 {
		return nil
	}
	return b.skipTrailer(lines)
}

func badChunk(err error) error {
	if err != nil {
		return err
	}
	return fmt.Errorf("reading a chunk: %w", errProtocol)
}

func (b *body) skipTrailer(lines *lineReader) error {
	for {
		line, err := lines.next()
		if err != nil {
			return err
		}
		if line == "" {
			b.done = true
			return nil
		}
	}
}

// all reads the body when it is at most limit bytes, else errTooLarge; an
// announced length above the limit is refused before anything is read.
func (b *body) all(limit int64) ([]byte, error) {
	if b.announced > limit {
		return nil, errTooLarge
	}
	var buf bytes.Buffer
	if _, err := io.Copy(&buf, io.LimitReader(b, limit+1)); err != nil {
		return nil, err
	}
	if int64(buf.Len()) > limit {
		return nil, errTooLarge
	}
	return buf.Bytes(), nil
}
