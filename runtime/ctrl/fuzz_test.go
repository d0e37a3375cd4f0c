package ctrl

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"
)

// memory is a transport over two buffers.
type memory struct {
	io.Reader
	bytes.Buffer
}

func (m *memory) Read(p []byte) (int, error) { return m.Reader.Read(p) }

func FuzzRequests(f *testing.F) {
	for _, s := range []string{
		"GET /groups HTTP/1.1\r\nHost: localhost\r\n\r\n", "hello\r\n\r\n", "GET /groups\r\n\r\n",
		"PUT /user-meta/k HTTP/1.1\r\nContent-Length: 5\r\n\r\nvalueGET /user-meta HTTP/1.0\r\n\r\n",
		"PUT /user-meta/\xff HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nT: r\r\n\r\n",
		"POST /commands HTTP/1.1\nContent-Length: 28\n\n{\"op\":\"RUN_GC\",\"payload\":\"\"}", "GET /g%72oups?x#y HTTP/1.1\r\n\r\n",
		"PUT /steps/locals/%2e%2e HTTP/1.1\r\nContent-Length: 39\r\n\r\n{\"#spec\":\"pantavisor-service-system@1\"}",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s := newTestServer(t, newFake())
		m := &memory{Reader: bytes.NewReader(data)}
		s.talk(context.Background(), m, &session{caller: *asMgmt, known: true})
		// Whatever came in, what goes out is a sequence of whole answers whose JSON is valid.
		out := bufio.NewReader(bytes.NewReader(m.Bytes()))
		for {
			if _, err := out.Peek(1); err != nil {
				return
			}
			head := bytes.HasPrefix(data, []byte("HEAD")) || bytes.Contains(data, []byte("\nHEAD"))
			if head {
				return // an answer to HEAD has a body's length and no body
			}
			r, err := readResponse(out, "GET")
			if err != nil || r == nil {
				t.Fatalf("answer cut off: %v\n%q", err, m.Bytes())
			}
			if strings.HasPrefix(r.header("Content-Type"), typeJSON) && r.body != "" && !json.Valid([]byte(r.body)) {
				t.Fatalf("answer is not JSON: %q", r.body)
			}
		}
	})
}
