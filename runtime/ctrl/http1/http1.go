// Package http1 is the part of HTTP/1 (RFC 9112) that both ends of the control socket
// need: the lines of a head, the header fields that frame a body, and the body. The
// standard library's net/http would double the size of the device's program.
package http1

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pantavisor/pantavisor/internal/bounded"
)

// Bounds of a head.
const (
	MaxLine    = 16 << 10 // one line of the head; the longest recorded client line is 9 KiB
	MaxHead    = 32 << 10 // the whole head
	MaxHeaders = 100      // header lines
)

// ErrProtocol is the error of input that is not an HTTP/1.x message with clear framing.
// The connection cannot be used after it.
var ErrProtocol = errors.New("unsupported protocol")

// ErrTooLarge means that a body exceeds the limit of its endpoint.
var ErrTooLarge = errors.New("body above the limit of the endpoint")

// Head is the part of the header lines of a request or an answer that concerns framing.
type Head struct {
	Minor   int    // HTTP/1.Minor
	Host    string // of a request
	Length  int64  // of the body; 0 when none is announced, -1 when chunked
	Counted bool   // Length was announced
	Expect  bool   // Expect: 100-continue
	Close   bool   // the connection ends after this exchange
	sawHost bool
}

// Lines reads lines that end in LF or CRLF.
type Lines struct {
	r    *bufio.Reader
	left int
}

// NewLines returns a reader of the lines of one head, [MaxHead] bytes at most.
func NewLines(r *bufio.Reader) *Lines { return &Lines{r: r, left: MaxHead} }

// First returns the next line that is not empty: RFC 9112 §2.2 asks to skip empty
// lines before a request. Its error is io.EOF when nothing came.
func (l *Lines) First() (string, error) {
	if _, err := l.r.Peek(1); err != nil {
		return "", err
	}
	for {
		line, err := l.Next()
		if err != nil || len(line) > 0 {
			return line, err
		}
	}
}

// Next returns the next line without its line ending. The error is [ErrProtocol] for a
// head above its bounds, io.ErrUnexpectedEOF for one that ends early.
func (l *Lines) Next() (string, error) {
	var line []byte
	for {
		part, err := l.r.ReadSlice('\n')
		line = append(line, part...)
		l.left -= len(part)
		switch {
		case l.left < 0 || len(line) > MaxLine:
			return "", fmt.Errorf("reading a head above its limit: %w", ErrProtocol)
		case err == nil:
			return string(bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))), nil
		case errors.Is(err, io.EOF):
			return "", io.ErrUnexpectedEOF
		case !errors.Is(err, bufio.ErrBufferFull):
			return "", err
		}
	}
}

// IsToken reports whether s is a token of RFC 9110 §5.6.2, as names of fields and
// methods are.
func IsToken(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return s != ""
}

// Add evaluates one header line. It returns [ErrProtocol] when the line makes the framing
// of the body ambiguous.
func (h *Head) Add(line string) error {
	name, value, ok := strings.Cut(line, ":")
	if !ok || !IsToken(name) || strings.IndexByte(value, 0) >= 0 {
		return ErrProtocol
	}
	value = strings.Trim(value, " \t")
	switch strings.ToLower(name) {
	case "host":
		return h.setHost(value)
	case "content-length":
		return h.setLength(value)
	case "transfer-encoding":
		return h.setEncoding(value)
	case "expect":
		h.Expect = strings.EqualFold(value, "100-continue")
	case "connection":
		h.Close = h.Close || hasToken(value, "close")
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

func (h *Head) setHost(value string) error {
	if h.sawHost {
		return ErrProtocol
	}
	h.Host, h.sawHost = value, true
	return nil
}

func (h *Head) setLength(value string) error {
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || n < 0 || value[0] == '+' || h.Length == -1 || h.Counted && n != h.Length {
		return ErrProtocol
	}
	h.Length, h.Counted = n, true
	return nil
}

// setEncoding accepts chunked, and identity, which existing tools send to say
// that the body is not chunked. A request that is both chunked and counted is refused: two
// readers could see two different ends of it (RFC 9112 §6.3).
func (h *Head) setEncoding(value string) error {
	switch {
	case strings.EqualFold(value, "identity"):
		return nil
	case strings.EqualFold(value, "chunked") && !h.Counted && h.Minor == 1:
		h.Length = -1
		return nil
	}
	return ErrProtocol
}

// Body reads a body and not a byte beyond it.
type Body struct {
	r         *bufio.Reader
	left      int64 // of the current chunk, or of the whole when counted
	chunked   bool
	started   bool // a chunk has been read
	done      bool
	onRead    func() error // called before the first byte is read
	announced int64        // -1 when unknown
}

// NewBody returns the body that follows head h on r. onRead is called before the
// first byte is read, for example to send 100 Continue; nil does nothing.
func NewBody(r *bufio.Reader, h *Head, onRead func() error) *Body {
	b := &Body{r: r, left: h.Length, announced: h.Length, onRead: onRead}
	if h.Length == -1 {
		b.left, b.chunked = 0, true
	}
	b.done = !b.chunked && b.left == 0
	return b
}

// Read implements io.Reader; it returns io.ErrUnexpectedEOF when the body ends early.
func (b *Body) Read(p []byte) (int, error) {
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

// Done reports whether the body has been read to its end.
func (b *Body) Done() bool { return b.done }

// Untouched reports whether onRead has not been called yet.
func (b *Body) Untouched() bool { return b.onRead != nil }

// Left returns the number of bytes still to be read, -1 when the body is chunked.
func (b *Body) Left() int64 {
	if b.chunked {
		return -1
	}
	return b.left
}

// Announced returns the length that the head announced, in bytes, -1 when the body is
// chunked.
func (b *Body) Announced() int64 { return b.announced }

func orEOF(err error) error {
	if err == nil {
		return io.EOF
	}
	return err
}

// nextChunk reads the line before a chunk, and after the last chunk the trailer.
func (b *Body) nextChunk() error {
	lines := NewLines(b.r)
	if b.started {
		if line, err := lines.Next(); err != nil || line != "" {
			return badChunk(err)
		}
	}
	b.started = true
	line, err := lines.Next()
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
	return fmt.Errorf("reading a chunk: %w", ErrProtocol)
}

func (b *Body) skipTrailer(lines *Lines) error {
	for {
		line, err := lines.Next()
		if err != nil {
			return err
		}
		if line == "" {
			b.done = true
			return nil
		}
	}
}

// All reads the whole body. It returns [ErrTooLarge] when the body has more than limit
// bytes, before reading anything if the announced length is above the limit. It takes memory
// for an announced length at once, so the caller must be ready to give that.
func (b *Body) All(limit int64) ([]byte, error) {
	if b.announced > limit {
		return nil, ErrTooLarge
	}
	text, err := bounded.ReadSized(b, b.announced, limit)
	if errors.Is(err, bounded.LimitError(limit)) {
		return nil, ErrTooLarge
	}
	return text, err
}

// pieces are the buffers of [Copy].
var pieces = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// Copy copies r to w with one pooled buffer of 32 KiB, so that transfers of objects need
// little memory.
func Copy(w io.Writer, r io.Reader) (int64, error) {
	piece := pieces.Get().(*[32 << 10]byte)
	defer pieces.Put(piece)
	// The wrappers hide ReadFrom and WriteTo, with which io.CopyBuffer would bypass the buffer.
	return io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, piece[:])
}

// Clip shortens text from a peer for a message.
func Clip(s string) string {
	const longest = 80
	if len(s) > longest {
		return s[:longest] + "..."
	}
	return s
}

// Deadliner is a transport with deadlines.
type Deadliner interface {
	SetReadDeadline(t time.Time) error
	SetWriteDeadline(t time.Time) error
}
