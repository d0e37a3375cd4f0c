package replaytest

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// written is an answer as the standard library writes it.
func written(t *testing.T, r *http.Response) *Answer {
	t.Helper()
	var b bytes.Buffer
	r.ProtoMajor, r.ProtoMinor = 1, 1
	if err := r.Write(&b); err != nil {
		t.Fatal(err)
	}
	a, err := readRecording(bufio.NewReader(&b), http.MethodGet)
	if err != nil || a == nil {
		t.Fatalf("reading %q: %v", b.String(), err)
	}
	return a
}

func TestRead(t *testing.T) {
	body := strings.Repeat("body", 3000)
	counted := written(t, &http.Response{StatusCode: 200, ContentLength: int64(len(body)), Body: io.NopCloser(strings.NewReader(body)), Header: http.Header{"X-A": {"b"}}})
	chunked := written(t, &http.Response{StatusCode: 404, ContentLength: -1, TransferEncoding: []string{"chunked"}, Body: io.NopCloser(strings.NewReader(body))})
	if counted.Body != body || counted.Chunked || counted.Line != "HTTP/1.1 200 OK" || counted.Header("x-a") != "b" {
		t.Errorf("counted: %s, %d bytes, chunked %v", counted.Line, len(counted.Body), counted.Chunked)
	}
	if chunked.Body != body || !chunked.Chunked || chunked.Line != "HTTP/1.1 404 Not Found" {
		t.Errorf("chunked: %s, %d bytes, chunked %v", chunked.Line, len(chunked.Body), chunked.Chunked)
	}
	for name, raw := range map[string]string{
		"a cut head": "HTTP/1.1 200 OK\r\nA: b\r\n", "a cut body": "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab",
		"a bad length": "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "a bad chunk": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
	} {
		if a, err := readRecording(bufio.NewReader(strings.NewReader(raw)), http.MethodGet); err == nil {
			t.Errorf("%s is read as %+v", name, a)
		}
	}
	if a, err := readRecording(bufio.NewReader(strings.NewReader("")), http.MethodGet); a != nil || err != nil {
		t.Errorf("no answer is %+v, %v", a, err)
	}
}

func TestBodiesAreComparedByMeaning(t *testing.T) {
	c := Conditions{Kinds: []string{"pid"}, Shapes: []string{"sys"}, Extra: []string{"ours"}}
	const want = `{"a":1,"pid":7,"sys":{"up":1,"l":[1,2]},"date":"x"}`
	for got, same := range map[string]bool{
		`{"sys":{"l":[5],"up":9},"pid":8,"a":1,"ours":1,"date":"y"}`: true,
		`{"a":2,"pid":7,"sys":{"up":1,"l":[1]},"date":"x"}`:          false,
		`{"a":1,"pid":"7","sys":{"up":1,"l":[1]},"date":"x"}`:        false,
		`{"a":1,"pid":7,"sys":{"up":1},"date":"x"}`:                  false,
		`{"a":1,"pid":7,"sys":{"up":"1","l":[1]},"date":"x"}`:        false,
		`{"a":1,"pid":7,"date":"x"}`:                                 false,
		`no JSON`:                                                    false,
	} {
		if cmp.Equal(c.Body(want), c.Body(got)) != same {
			t.Errorf("%s counts as the same: %v", got, !same)
		}
	}
}

// TestRun replays exchanges with a peer that answers all of them alike.
func TestRun(t *testing.T) {
	line, body := "HTTP/1.1 200 OK", `{"x":1}`
	x := Exchange{Case: "one", Caller: "mgmt", Method: "GET", Path: "/x", StatusLine: &line, ResponseBody: &body,
		ResponseHeaders: []string{"Content-Type: application/json", "Date: <date>", "Content-Length: 7"}}
	other := x
	other.Case, other.ResponseBody = "other", new(string)
	var asked []string
	c := Conditions{Differs: map[string]Differ{"other": {Status: line, Body: body, Why: "it always answers so"}}}
	c.Dial = func(t testing.TB, caller string) net.Conn {
		here, there := net.Pipe()
		go func() {
			defer there.Close()
			r, err := http.ReadRequest(bufio.NewReader(there))
			if err != nil {
				return
			}
			asked = append(asked, caller+" "+r.Method+" "+r.URL.Path)
			_, _ = io.WriteString(there, line+"\r\nContent-Type: application/json\r\nDate: Mon, 02 Jan 2006 15:04:05 GMT\r\nContent-Length: 7\r\n\r\n"+body)
		}()
		t.Cleanup(func() { _ = here.Close() })
		return here
	}
	Run(t, []Exchange{x, {Case: "a look at the disk"}, other}, c)
	if diff := cmp.Diff([]string{"mgmt GET /x", "mgmt GET /x"}, asked); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
}
