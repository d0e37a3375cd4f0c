// Package replaytest sends recorded requests to a control socket and compares the answers
// with the recorded ones. The recordings are files endpoint-<name>.json, each a list of
// exchanges, in the directory that the environment variable PV_SPEC_DIR names.
package replaytest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/textproto"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/internal/oracle"
)

// Exchange is one recorded request and its answer. One without a method and without
// a raw request records the content of the disk between requests.
type Exchange struct {
	Case            string            `json:"case"`
	Caller          string            `json:"caller"`
	Method          string            `json:"method"`
	Path            string            `json:"path"`
	RequestHeaders  map[string]string `json:"request_headers"`
	RequestBody     *string           `json:"request_body"`
	RequestBodyLen  int               `json:"request_body_len"`
	CurlExit        int               `json:"curl_exit"`
	StatusLine      *string           `json:"status_line"` // nil: no answer
	ResponseHeaders []string          `json:"response_headers"`
	ResponseBody    *string           `json:"response_body"`
	RawRequest      *string           `json:"raw_request"`
	RawLength       int               `json:"raw_request_len"`
	RawResponse     string            `json:"raw_response"`
}

// IsRequest reports whether the exchange has a request.
func (x *Exchange) IsRequest() bool { return x.Method != "" || x.RawRequest != nil }

// Dir returns the directory of the recordings; without one it skips the test.
func Dir(t testing.TB) string {
	t.Helper()
	return oracle.Recordings(t, "golden/ctrl")
}

// Names lists the recordings.
func Names(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(Dir(t), "endpoint-*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no recordings: %v", err)
	}
	for i, f := range files {
		files[i] = strings.TrimSuffix(strings.TrimPrefix(filepath.Base(f), "endpoint-"), ".json")
	}
	return files
}

// Load reads the recording endpoint-<name>.json.
func Load(t testing.TB, name string) []Exchange {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(Dir(t), "endpoint-"+name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var list []Exchange
	if err := json.Unmarshal(data, &list); err != nil {
		t.Fatal(err)
	}
	return list
}

// Recorded returns the body of the answer to a case.
func Recorded(t testing.TB, list []Exchange, name string) string {
	t.Helper()
	for _, x := range list {
		if x.Case == name && x.ResponseBody != nil {
			return *x.ResponseBody
		}
	}
	t.Fatalf("no recorded answer %q", name)
	return ""
}

// Unsupported is the body of the answer to input that is not HTTP.
const Unsupported = `{"Error": "Unsupported protocol"}`

// Differ is an answer that differs from the recorded one on purpose, and why. An empty
// status means that the connection ends without an answer; an empty body matches any.
type Differ struct{ Status, Body, Why string }

// Conditions are how a recording is replayed.
type Conditions struct {
	// Dial connects as a caller of the recordings: _pv_, a container's name, or
	// unknown-cgroup.
	Dial func(t testing.TB, caller string) net.Conn
	// Differs are the cases in which the answer must differ.
	Differs map[string]Differ
	// Skip are the cases that cannot be replayed, and why.
	Skip map[string]string
	// Before is called before each exchange, nil for nothing to do.
	Before func(x *Exchange)
	// Exact compares bodies byte for byte, except for times in lists of steps;
	// otherwise bodies are compared as JSON, see [Conditions.Body].
	Exact bool
	// Kinds are the members of JSON objects of which only the type is compared.
	Kinds []string
	// Shapes are members of which the types of all values inside are compared.
	Shapes []string
	// Reduce is applied first and returns the part of a JSON body to compare; nil
	// compares all of it.
	Reduce func(body any) any
	// Extra are members that the recordings lack.
	Extra []string
}

// Run replays a recording.
func Run(t *testing.T, list []Exchange, c Conditions) {
	t.Helper()
	met := map[string]bool{}
	for i := range list {
		x := &list[i]
		if !x.IsRequest() || c.Skip[x.Case] != "" {
			met[x.Case] = true
			continue
		}
		if c.Before != nil {
			c.Before(x)
		}
		met[x.Case] = true
		c.one(t, x)
	}
	for name := range c.Differs {
		if !met[name] {
			t.Errorf("a difference is stated for %q, which no recording has", name)
		}
	}
	for name := range c.Skip {
		if !met[name] {
			t.Errorf("%q is left out, but no recording has it", name)
		}
	}
}

func (c *Conditions) one(t *testing.T, x *Exchange) {
	t.Helper()
	caller, method, raw := x.Caller, x.Method, ""
	if x.RawRequest != nil {
		caller, method, raw = "_pv_", "GET", bytesOf(*x.RawRequest)
	} else {
		raw = x.raw()
	}
	got := RoundTrip(t, c.Dial(t, caller), raw, method)
	want := x.answer(t)
	d, different := c.Differs[x.Case]
	switch {
	case different:
		sameDiffer(t, x.Case, got, d)
	case want == nil:
		if got != nil {
			t.Errorf("%s: got %s, want no answer", x.Case, got.Line)
		}
	case got == nil:
		t.Errorf("%s: got no answer, want %s", x.Case, want.Line)
	default:
		c.same(t, x.Case, want, got)
	}
}

func sameDiffer(t *testing.T, name string, got *Answer, d Differ) {
	t.Helper()
	if got == nil && d.Status == "" {
		return
	}
	if got == nil || got.Line != d.Status || d.Body != "" && got.Body != d.Body {
		t.Errorf("%s: got %+v, want %s %s (%s)", name, got, d.Status, d.Body, d.Why)
	}
}

// answer is the recorded answer, nil for none.
func (x *Exchange) answer(t *testing.T) *Answer {
	t.Helper()
	if x.RawRequest != nil {
		got, err := readRecording(bufio.NewReader(strings.NewReader(x.RawResponse)), "GET")
		if err != nil {
			t.Fatalf("%s: reading the recorded answer: %v", x.Case, err)
		}
		return got
	}
	if x.StatusLine == nil {
		return nil
	}
	a := &Answer{Line: *x.StatusLine, Headers: x.ResponseHeaders, Unknown: x.ResponseBody == nil}
	if x.ResponseBody != nil {
		a.Body = *x.ResponseBody
	}
	return a
}

// stamp is a time in a list of steps.
var stamp = regexp.MustCompile(`"date":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"`)

func (c *Conditions) same(t *testing.T, name string, want, got *Answer) {
	t.Helper()
	if got.Line != want.Line {
		t.Errorf("%s: status %q, want %q (body %s)", name, got.Line, want.Line, got.Body)
		return
	}
	if !want.Unknown {
		a, b := stamp.ReplaceAllString(want.Body, "<date>"), stamp.ReplaceAllString(got.Body, "<date>")
		diff := ""
		if c.Exact {
			diff = cmp.Diff(a, b)
		} else {
			diff = cmp.Diff(c.Body(want.Body), c.Body(got.Body))
		}
		if diff != "" {
			t.Errorf("%s: body (-want +got):\n%s", name, diff)
		}
	}
	if strings.HasPrefix(got.Line, "HTTP/1.0") {
		// The recorded answer has no length. Ours has, so that a client notices a truncated one.
		return
	}
	if diff := cmp.Diff(c.headers(want), c.headers(got)); diff != "" {
		t.Errorf("%s: headers (-want +got):\n%s", name, diff)
	}
}

// Body makes a body comparable: JSON is decoded, with c.Kinds replaced by their types and
// c.Extra left out; other text stays as it is.
func (c *Conditions) Body(text string) any {
	var v any
	if json.Unmarshal([]byte(text), &v) != nil {
		return text
	}
	if c.Reduce != nil {
		v = c.Reduce(v)
	}
	return c.mask(v)
}

// shape replaces the values inside v by their types; of a list it keeps the first element.
func shape(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for name, value := range v {
			out[name] = shape(value)
		}
		return out
	case []any:
		if len(v) == 0 {
			return v
		}
		return []any{shape(v[0])}
	}
	return fmt.Sprintf("<%T>", v)
}

func (c *Conditions) mask(v any) any {
	switch v := v.(type) {
	case []any:
		for i := range v {
			v[i] = c.mask(v[i])
		}
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			switch {
			case slices.Contains(c.Extra, name):
				delete(v, name)
			case name == "date" || slices.Contains(c.Kinds, name):
				v[name] = fmt.Sprintf("<%T>", v[name])
			case slices.Contains(c.Shapes, name):
				v[name] = shape(v[name])
			default:
				v[name] = c.mask(v[name])
			}
		}
	}
	return v
}

// headers makes header lines comparable: names are in lower case, times are masked,
// and so is the length of a body of which parts are compared by type only.
func (c *Conditions) headers(a *Answer) []string {
	var set []string
	for _, line := range a.Headers {
		name, value, _ := strings.Cut(line, ": ")
		name = strings.ToLower(name)
		switch {
		case name == "date":
			if _, err := time.Parse("Mon, 02 Jan 2006 15:04:05 GMT", value); err == nil || value == "<date>" {
				value = "<date>"
			}
		case name == "content-length" && !c.Exact && value != "0":
			value = "<length>"
		}
		set = append(set, name+": "+value)
	}
	slices.Sort(set)
	return set
}

// raw builds the request as the recording client sent it.
func (x *Exchange) raw() string {
	version, host := "HTTP/1.1", "Host: localhost\r\n"
	if x.StatusLine != nil && strings.HasPrefix(*x.StatusLine, "HTTP/1.0") {
		version = "HTTP/1.0"
	}
	chunked := x.RequestHeaders["Transfer-Encoding"] == "chunked"
	head, body := "", ""
	for k, v := range x.RequestHeaders {
		if k == "Host" {
			host = ""
		}
		head += k + ": " + v + "\r\n"
	}
	if x.RequestBody != nil {
		body = bytesOf(*x.RequestBody)
	}
	switch {
	case chunked:
		body = fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body)
	case x.RequestBody != nil:
		head += fmt.Sprintf("Content-Length: %d\r\n", len(body))
	}
	path, _, _ := strings.Cut(x.Path, "#") // the client keeps the fragment for itself
	return fmt.Sprintf("%s %s %s\r\n%s%sAccept: */*\r\n\r\n%s", x.Method, path, version, host, head, body)
}

// bytesOf decodes the recordings' encoding of bytes, in which each is one character.
func bytesOf(text string) string {
	var b strings.Builder
	for _, c := range text {
		if c > 0xff {
			b.WriteRune(c)
		} else {
			b.WriteByte(byte(c))
		}
	}
	return b.String()
}

// Answer is an answer as received.
type Answer struct {
	Line    string
	Headers []string
	Body    string
	Chunked bool
	Unknown bool // the recording does not have the body
}

// Header returns a header's value, "" without one.
func (a *Answer) Header(name string) string {
	for _, h := range a.Headers {
		if k, v, _ := strings.Cut(h, ": "); strings.EqualFold(k, name) {
			return v
		}
	}
	return ""
}

// RoundTrip sends raw bytes and reads one answer; nil means that the connection ended
// without one. It reads while it writes, because the server may answer early.
func RoundTrip(t testing.TB, conn net.Conn, raw, method string) *Answer {
	t.Helper()
	go func() { _, _ = io.WriteString(conn, raw) }()
	a, err := readRecording(bufio.NewReader(conn), method)
	if err != nil {
		t.Fatalf("reading the answer to %.60q: %v", raw, err)
	}
	return a
}

// readRecording reads one answer to a request with the method; nil means that the connection
// ended without one.
func readRecording(r *bufio.Reader, method string) (*Answer, error) {
	lines := textproto.NewReader(r)
	line, err := lines.ReadLine()
	if err != nil {
		return nil, nil //nolint:nilerr // the connection ended without an answer, which some tests want
	}
	a := &Answer{Line: line}
	for {
		line, err := lines.ReadLine()
		if err != nil {
			return nil, err
		}
		if line == "" {
			break
		}
		a.Headers = append(a.Headers, line)
	}
	if a.Line == "HTTP/1.1 100 Continue" {
		return readRecording(r, method)
	}
	if method == "HEAD" || strings.Contains(a.Line, " 204 ") {
		return a, nil
	}
	return a, a.readBody(r, lines)
}

func (a *Answer) readBody(r *bufio.Reader, lines *textproto.Reader) error {
	length := a.Header("Content-Length")
	a.Chunked = a.Header("Transfer-Encoding") == "chunked"
	switch {
	case a.Chunked:
		return a.readChunks(r, lines)
	case length == "":
		body, err := io.ReadAll(r)
		a.Body = string(body)
		return err
	}
	n, err := strconv.Atoi(length)
	if err != nil {
		return fmt.Errorf("reading an answer's length: %w", err)
	}
	body := make([]byte, n)
	_, err = io.ReadFull(r, body)
	a.Body = string(body)
	return err
}

func (a *Answer) readChunks(r *bufio.Reader, lines *textproto.Reader) error {
	for {
		line, err := lines.ReadLine()
		if err != nil {
			return err
		}
		n, err := strconv.ParseUint(line, 16, 31)
		if err != nil {
			return fmt.Errorf("reading a chunk: %w", err)
		}
		chunk := make([]byte, n)
		if _, err := io.ReadFull(r, chunk); err != nil {
			return err
		}
		a.Body += string(chunk)
		if end, err := lines.ReadLine(); err != nil || end != "" {
			return fmt.Errorf("a chunk ends with %q: %w", end, err)
		}
		if n == 0 {
			return nil
		}
	}
}
