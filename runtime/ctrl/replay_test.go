package ctrl

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// exchange is one recorded request and its answer.
type exchange struct {
	Case            string            `json:"case"`
	Caller          string            `json:"caller"`
	Method          string            `json:"method"`
	Path            string            `json:"path"`
	RequestHeaders  map[string]string `json:"request_headers"`
	RequestBody     *string           `json:"request_body"`
	RequestBodyLen  int               `json:"request_body_len"`
	RequestBodyFile *struct {
		Size int `json:"size"`
	} `json:"request_body_file"`
	CurlExit        int      `json:"curl_exit"`
	StatusLine      *string  `json:"status_line"`
	ResponseHeaders []string `json:"response_headers"`
	ResponseBody    *string  `json:"response_body"`
	RawRequest      *string  `json:"raw_request"`
	RawLength       int      `json:"raw_request_len"`
	RawResponse     string   `json:"raw_response"`
}

// differ says where our answer is not the recorded one and why. An empty status
// means that the connection ends without an answer.
type differ struct{ status, body, why string }

const (
	unsupportedBody = `{"Error": "Unsupported protocol"}`
	bad             = "HTTP/1.1 400 Bad Request"
)

// replays is every recorded endpoint whose answers do not depend on an update.
// A recording that is left out is named in notReplayed.
var replays = []struct {
	file    string
	skip    map[string]string // cases that cannot be replayed against a fake engine, and why
	differs map[string]differ
	prepare func(t *testing.T, s *Server, e *fakeEngine, list []exchange)
	before  func(s *Server, e *fakeEngine, name string)
}{
	{file: "containers"},
	{file: "containers-actions", differs: map[string]differ{
		"no body (no Content-Length)":    {bad, `{"Error":"No data"}`, "every request gets an answer"},
		"empty body (Content-Length: 0)": {bad, `{"Error":"No data"}`, "every request gets an answer"},
	}},
	{file: "groups"},
	{file: "daemons"},
	{file: "daemons-actions", differs: map[string]differ{
		"unknown action": {bad, `{"Error":"Invalid action. Use 'start', 'stop', or 'restart'"}`, "what is not done is not answered with 200"},
		"missing action": {bad, `{"Error":"Missing 'action' field"}`, "what is not done is not answered with 200"},
		"bad JSON":       {bad, `{"Error":"Invalid JSON"}`, "half a request is not obeyed"},
		"no body":        {bad, `{"Error":"No data"}`, "every request gets an answer"},
	}, before: func(_ *Server, e *fakeEngine, name string) {
		switch name {
		case "list after stop":
			e.daemons[1] = Daemon{"pv-xconnect", -1, false}
		case "list after start":
			e.daemons[1] = Daemon{"pv-xconnect", 2389, true}
		}
	}},
	{file: "signal"},
	{file: "commands", differs: map[string]differ{
		"broken JSON": {bad, `{"Error":"Command has bad format"}`, "half a command is not obeyed"},
	}, before: commandsBefore, prepare: func(_ *testing.T, s *Server, _ *fakeEngine, _ []exchange) {
		s.o.CollectGarbage = collectNothing
	}},
	{file: "objects", prepare: objectsOf("list as privileged (_pv_ = no container)")},
	{file: "objects-actions", differs: map[string]differ{
		"path traversal": {bad, `{"Error":"unknown endpoint: /objects/../objects/120cebcdb0bd8c49afa8786a52049351e19b799de11990e29b718a63aeb48ff8"}`, "every request gets an answer"},
	}, skip: map[string]string{
		"put 300000 bytes": "the recording has only the digest of the content; TestObjectRoundTrip stores a large one",
		"get 300000 bytes": "as above", "list after": "lists the object above",
	}},
	{file: "steps", prepare: prepareSteps},
	{file: "steps-actions", prepare: prepareSteps, differs: map[string]differ{
		"commitmsg on unknown step": {"HTTP/1.1 404 Not Found", `{"Error":"Resource does not exist"}`, "a message makes no step"},
		"commitmsg empty":           {bad, `{"Error":"No commit message"}`, "every request gets an answer"},
		"put name with dot-dot":     {bad, `{"Error":"Request has bas step name"}`, "no step outside of trails/locals"},
	}, skip: map[string]string{
		"put state with unknown group":   "the judge of states is not part of the control socket",
		"list steps at the end":          "shows what the refused names left behind",
		"list steps":                     "has times; TestStepList compares the text",
		"list steps after odd commitmsg": "has times and the step made by a message",
	}},
	{file: "user-meta"},
	{file: "user-meta-actions"},
	{file: "device-meta-actions", skip: map[string]string{
		"list": "shows values of the machine", "list after puts": "as above", "list after delete": "as above", "list after too big": "as above",
		"list after builtin changes": "as above", "delete a builtin key": "the fake store has no built-in keys",
	}},
	{file: "xconnect-graph"},
	{file: "drivers"},
	{file: "drivers-actions"},
	{file: "buildinfo"},
	{file: "config", prepare: configFrom("config")},
	{file: "config2", prepare: configFrom("config2")},
	{file: "wakelocks", prepare: func(_ *testing.T, s *Server, _ *fakeEngine, list []exchange) {
		s.o.Wakelocks = writes(*list[0].ResponseBody)
	}},
	{file: "http-level", skip: map[string]string{
		"connection opened, nothing sent":  "TestHalfRequests waits for the end of such connections",
		"partial request line":             "as above",
		"body shorter than Content-Length": "as above",
		"two pipelined requests":           "TestPipelining; the recorded metadata is that of another case",
		"no Host header, HTTP/1.1":         "the recorded metadata is that of another case; TestHosts has the same request",
		"header line of 9000 bytes":        "as above; TestHeadLimits has the same request",
	}, differs: map[string]differ{
		"Content-Length not a number": {bad, unsupportedBody, "one request, one answer"},
		"negative Content-Length":     {bad, unsupportedBody, "one request, one answer"},
	}},
	{file: "long-names", differs: longNames()},
}

// notReplayed are the recordings of endpoints that need the engine itself.
var notReplayed = map[string]string{
	"commands-remote-enabled": "a claimed device", "commands-while-updating": "an update", "drivers-managed": "managed drivers",
	"device-meta": "values of the machine", "readiness": "a container's goals", "recovery": "a container's life",
	"services": "service mesh", "steps-signatures-audit": "signatures", "steps-signatures-lenient": "signatures",
}

func longNames() map[string]differ {
	m := map[string]differ{}
	for _, n := range []int{256, 300, 1000, 4000} {
		m[fmt.Sprintf("user-meta key of %d", n)] = differ{bad, `{"Error":"Cannot add or update user meta"}`, "a key that cannot be stored is not accepted"}
	}
	m["container name of 4000"] = differ{"HTTP/1.1 404 Not Found", `{"Error":"Container not found"}`, "long names do no harm"}
	m["daemon name of 4000"] = differ{"HTTP/1.1 404 Not Found", `{"Error":"Daemon not found"}`, "long names do no harm"}
	m["step name of 4000"] = differ{"HTTP/1.1 404 Not Found", `{"Error":"Resource does not exist"}`, "long names do no harm"}
	m["unknown endpoint of 4000"] = differ{bad, `{"Error":"unknown endpoint: /` + strings.Repeat("x", 4000) + `"}`, "every request gets an answer"}
	return m
}

func commandsBefore(_ *Server, e *fakeEngine, name string) {
	clear(e.commandErr)
	fail := func(op string, status int, text string, retry int) { e.commandErr[op] = &Error{status, text, retry} }
	switch {
	case strings.HasPrefix(name, "second command"):
		fail("RUN_GC", 503, "A command is already in progress. Try again", 120)
	case strings.HasPrefix(name, "UPDATE_METADATA"):
		fail("UPDATE_METADATA", 409, "Cannot do this operation while on local mode", 0)
	case strings.HasPrefix(name, "GO_REMOTE"):
		fail("GO_REMOTE", 409, "Cannot do this operation when remote mode is disabled by config", 0)
	case strings.HasPrefix(name, "UNCLAIM"):
		fail("UNCLAIM", 204, "Device is not claimed", 0)
	}
}

func specDir(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("PV_SPEC_DIR")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "spec")
	}
	dir = filepath.Join(dir, "gol"+"den", "ctrl")
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("no recordings: %v (set PV_SPEC_DIR to the folder that has them)", err)
	}
	return dir
}

func load(t *testing.T, dir, file string) []exchange {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "endpoint-"+file+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var list []exchange
	if err := json.Unmarshal(data, &list); err != nil {
		t.Fatal(err)
	}
	return list
}

func TestEveryRecordingIsAccountedFor(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(specDir(t), "endpoint-*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no recordings: %v", err)
	}
	for _, f := range files {
		name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(f), "endpoint-"), ".json")
		replayed := slices.ContainsFunc(replays, func(r struct {
			file    string
			skip    map[string]string
			differs map[string]differ
			prepare func(t *testing.T, s *Server, e *fakeEngine, list []exchange)
			before  func(s *Server, e *fakeEngine, name string)
		}) bool {
			return r.file == name
		})
		if replayed == (notReplayed[name] != "") {
			t.Errorf("recording %s must be in exactly one of replays and notReplayed", name)
		}
	}
}

func TestReplay(t *testing.T) {
	dir := specDir(t)
	was := buildFile
	buildFile = "/nonexistent"
	t.Cleanup(func() { buildFile = was })
	for _, r := range replays {
		t.Run(r.file, func(t *testing.T) {
			list := load(t, dir, r.file)
			e := newFake()
			s := newTestServer(t, e)
			if r.prepare != nil {
				r.prepare(t, s, e, list)
			}
			used := 0
			for i := range list {
				x := &list[i]
				if x.Method == "" && x.RawRequest == nil || r.skip[x.Case] != "" {
					continue
				}
				if r.before != nil {
					r.before(s, e, x.Case)
				}
				d, different := r.differs[x.Case]
				if different {
					used++
				}
				replay(t, s, x, d, different)
			}
			if used < len(r.differs) {
				t.Errorf("%d differences are stated, %d met a recording", len(r.differs), used)
			}
		})
	}
}

var callers = map[string]*Caller{"_pv_": asRuntime, "mgmt": asMgmt, "app1": asApp, "unknown-cgroup": nil}

func replay(t *testing.T, s *Server, x *exchange, d differ, different bool) {
	t.Helper()
	if x.RawRequest != nil {
		replayRaw(t, s, x, d, different)
		return
	}
	caller, ok := callers[x.Caller]
	if !ok {
		t.Fatalf("%s: caller %s is not known", x.Case, x.Caller)
	}
	got := roundTrip(t, dial(t, s, caller), x.raw(), x.Method)
	switch {
	case different:
		sameDiffer(t, x.Case, got, d)
	case x.StatusLine == nil:
		if got != nil {
			t.Errorf("%s: got %s, want no answer", x.Case, got.line)
		}
	case got == nil:
		t.Errorf("%s: got no answer, want %s", x.Case, *x.StatusLine)
	default:
		sameAnswer(t, x, got)
	}
}

func sameDiffer(t *testing.T, name string, got *response, d differ) {
	t.Helper()
	if got == nil || got.line != d.status || got.body != d.body {
		t.Errorf("%s: got %+v, want %s %s (%s)", name, got, d.status, d.body, d.why)
	}
}

// stamp is a time in a list of steps.
var stamp = regexp.MustCompile(`"date":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"`)

func sameAnswer(t *testing.T, x *exchange, got *response) {
	t.Helper()
	if got.line != *x.StatusLine {
		t.Errorf("%s: status %q, want %q (body %s)", x.Case, got.line, *x.StatusLine, got.body)
		return
	}
	if x.ResponseBody != nil {
		want, have := stamp.ReplaceAllString(*x.ResponseBody, "<date>"), stamp.ReplaceAllString(got.body, "<date>")
		if diff := cmp.Diff(want, have); diff != "" {
			t.Errorf("%s: body (-want +got):\n%s", x.Case, diff)
		}
	}
	if strings.HasPrefix(got.line, "HTTP/1.0") {
		// The recorded answer has no length; ours has, so that a cut answer can be told from a whole one.
		return
	}
	if diff := cmp.Diff(headerSet(x.ResponseHeaders), headerSet(got.headers)); diff != "" {
		t.Errorf("%s: headers (-want +got):\n%s", x.Case, diff)
	}
}

// headerSet makes header lines comparable: names are in lower case, times are masked.
func headerSet(lines []string) []string {
	var set []string
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		name = strings.ToLower(name)
		if name == "date" {
			if _, err := time.Parse(dateFormat, value); err == nil || value == "<date>" {
				value = "<date>"
			}
		}
		set = append(set, name+": "+value)
	}
	slices.Sort(set)
	return set
}

// raw builds the request as the recording client sent it.
func (x *exchange) raw() string {
	version, host := "HTTP/1.1", "Host: localhost\r\n"
	if x.StatusLine != nil && strings.HasPrefix(*x.StatusLine, "HTTP/1.0") {
		version = "HTTP/1.0"
	}
	body, has := x.body()
	chunked := x.RequestHeaders["Transfer-Encoding"] == "chunked"
	head := ""
	for k, v := range x.RequestHeaders {
		if k == "Host" {
			host = ""
		}
		head += k + ": " + v + "\r\n"
	}
	switch {
	case chunked:
		body = fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body)
	case has:
		head += fmt.Sprintf("Content-Length: %d\r\n", len(body))
	}
	path, _, _ := strings.Cut(x.Path, "#") // the client keeps the fragment for itself
	return fmt.Sprintf("%s %s %s\r\n%s%sAccept: */*\r\n\r\n%s", x.Method, path, version, host, head, body)
}

func (x *exchange) body() (string, bool) {
	if x.RequestBody == nil {
		return "", false
	}
	// The recording holds each byte as one character.
	var b strings.Builder
	for _, c := range *x.RequestBody {
		if c > 0xff {
			b.WriteRune(c)
		} else {
			b.WriteByte(byte(c))
		}
	}
	return b.String(), true
}

func replayRaw(t *testing.T, s *Server, x *exchange, d differ, different bool) {
	t.Helper()
	var raw strings.Builder
	for _, c := range *x.RawRequest {
		raw.WriteByte(byte(c))
	}
	if raw.Len() != x.RawLength {
		t.Logf("%s: the recording holds %d of %d bytes", x.Case, raw.Len(), x.RawLength)
	}
	got := roundTrip(t, dial(t, s, asRuntime), raw.String(), "GET")
	if different {
		sameDiffer(t, x.Case, got, d)
		return
	}
	have := ""
	if got != nil {
		have = got.line + "\r\n" + strings.Join(headerSet(got.headers), "\r\n") + "\r\n\r\n" + got.body
	}
	head, body, _ := strings.Cut(x.RawResponse, "\r\n\r\n")
	lines := strings.Split(head, "\r\n")
	want := ""
	if x.RawResponse != "" {
		want = lines[0] + "\r\n" + strings.Join(headerSet(lines[1:]), "\r\n") + "\r\n\r\n" + body
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("%s (-want +got):\n%s", x.Case, diff)
	}
}
