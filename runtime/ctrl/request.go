package ctrl

import (
	"bufio"
	"errors"
	"fmt"
	"strings"

	"github.com/pantavisor/pantavisor/runtime/ctrl/http1"
)

// errMethod is the error of a well-formed request with an unknown method.
var errMethod = errors.New("unknown method")

// request is the head of one HTTP request.
type request struct {
	http1.Head
	method string
	target string // as sent
}

// readRequest reads one head. It returns io.EOF when the client closed between two
// requests, io.ErrUnexpectedEOF when it closed within one.
func readRequest(r *bufio.Reader) (*request, error) {
	head := http1.NewLines(r)
	line, err := head.First()
	if err != nil {
		return nil, err
	}
	req, err := parseRequestLine(line)
	if err != nil {
		return nil, err
	}
	for range http1.MaxHeaders {
		line, err := head.Next()
		if err != nil {
			return nil, err
		}
		if len(line) == 0 {
			return req, req.check()
		}
		if err := req.Add(line); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("reading more than %d header lines: %w", http1.MaxHeaders, http1.ErrProtocol)
}

// check checks the head as a whole.
func (req *request) check() error {
	switch req.method {
	case "GET", "HEAD", "POST", "PUT", "DELETE":
		return nil
	}
	return errMethod
}

func parseRequestLine(line string) (*request, error) {
	parts := strings.Split(line, " ")
	if len(parts) != 3 || !http1.IsToken(parts[0]) || !isTarget(parts[1]) {
		return nil, http1.ErrProtocol
	}
	req := &request{method: parts[0], target: parts[1]}
	switch parts[2] {
	case "HTTP/1.1":
		req.Minor = 1
	case "HTTP/1.0":
		req.Close = true
	default:
		return nil, http1.ErrProtocol
	}
	return req, nil
}

func isTarget(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c == 0x7f {
			return false
		}
	}
	return strings.HasPrefix(s, "/") || strings.HasPrefix(s, "http://")
}
