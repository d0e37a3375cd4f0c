package ctrl

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
	"github.com/pantavisor/pantavisor/runtime/ctrl/client"
	"github.com/pantavisor/pantavisor/runtime/ctrl/http1"
	"github.com/pantavisor/pantavisor/runtime/peer"
)

// listening serves a fake engine on a real socket.
func listening(t *testing.T, e *fakeEngine) (*Server, string) {
	t.Helper()
	s := newTestServer(t, e)
	path := filepath.Join(t.TempDir(), "pv-ctrl")
	l, err := peer.Listen(path, 0o666, socketBacklog)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return s, path
}

func fetch(t *testing.T, socket, path string) *client.Response {
	t.Helper()
	c := client.Client{Socket: socket, Timeout: 20 * time.Second}
	r, err := c.Do(context.Background(), &client.Request{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func TestIdentityComesFromTheProcess(t *testing.T) {
	e := newFake()
	e.resolve = func(pid int) (Caller, error) {
		if pid != os.Getpid() {
			return Caller{}, fmt.Errorf("process %d is not the test", pid)
		}
		return Caller{Name: "app1"}, nil
	}
	_, socket := listening(t, e)
	if r := fetch(t, socket, "/groups"); r.Status != 403 {
		t.Errorf("a container without role gets %d", r.Status)
	}
	e2 := newFake()
	e2.resolve = func(int) (Caller, error) { return Caller{}, errors.New("unknown") }
	_, socket = listening(t, e2)
	if r := fetch(t, socket, "/groups"); r.Status != 500 {
		t.Errorf("an unknown process gets %d", r.Status)
	}
}

// TestTenThousandConnections opens as many connections as a greedy container
// may, and asks as another meanwhile.
func TestTenThousandConnections(t *testing.T) {
	var greedy atomic.Bool
	e := newFake()
	e.resolve = func(int) (Caller, error) {
		if greedy.Load() {
			return Caller{Name: "app1"}, nil
		}
		return portCaller, nil
	}
	s, socket := listening(t, e)
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	want := min(10000, int(limit.Cur)-500)
	goroutines := runtime.NumGoroutine()
	var open []*peer.Conn
	defer func() {
		for _, c := range open {
			_ = c.Close()
		}
	}()
	for i := range want {
		greedy.Store(true)
		c, err := peer.Dial(socket, 0)
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		open = append(open, c)
		_, _ = io.WriteString(c, "GET /gro")
		if i%1000 == 999 {
			// Every earlier connection was accepted as the greedy one before ours.
			for end := time.Now().Add(20 * time.Second); s.guard.Len() < 32 && time.Now().Before(end); time.Sleep(time.Millisecond) {
			}
			_ = open[i].SetReadDeadline(time.Now().Add(20 * time.Second))
			greedy.Store(false)
			if r := fetch(t, socket, "/groups"); r.Status != 200 && r.Status != 403 {
				t.Errorf("after %d connections another client gets %d", i+1, r.Status)
			}
		}
	}
	if n := s.guard.Len(); n > 64 {
		t.Errorf("%d connections are kept, bound is 32 for each caller", n)
	}
	// Those of connections that lost their place end a little later.
	more := runtime.NumGoroutine() - goroutines
	for end := time.Now().Add(20 * time.Second); more > 200 && time.Now().Before(end); time.Sleep(time.Millisecond) {
		more = runtime.NumGoroutine() - goroutines
	}
	if more > 200 {
		t.Errorf("%d goroutines more for %d connections", more, want)
	}
}

func TestHugeBodies(t *testing.T) {
	e := newFake()
	_, socket := listening(t, e)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for _, tt := range []struct {
		method, path string
		status       int
	}{
		{"PUT", "/containers/app1", 507}, {"POST", "/commands", 507}, {"POST", "/signal", 507}, {"PUT", "/user-meta/k", 507},
		{"PUT", "/steps/locals/x", 413}, {"PUT", "/objects/short", 400}, {"GET", "/groups", 200}, {"PUT", "/nope", 400},
	} {
		c := client.Client{Socket: socket, Timeout: 60 * time.Second}
		r, err := c.Do(context.Background(), &client.Request{Method: tt.method, Path: tt.path, Body: zeroes{}, Size: 1 << 30})
		if err != nil {
			t.Errorf("%s %s with 1 GiB: %v", tt.method, tt.path, err)
			continue
		}
		if r.Status != tt.status {
			t.Errorf("%s %s with 1 GiB: %d, want %d", tt.method, tt.path, r.Status, tt.status)
		}
		_ = r.Close()
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 16<<20 {
		t.Errorf("%d bytes were allocated for bodies that are refused", grown)
	}
}

// zeroes is a body without end.
type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) { return len(p), nil }

func TestChunkedBodyWithoutEnd(t *testing.T) {
	s := newTestServer(t, newFake())
	conn := dial(t, s, asMgmt)
	go func() {
		_, _ = io.WriteString(conn, "PUT /user-meta/k HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
		for {
			if _, err := io.WriteString(conn, "400\r\n"+strings.Repeat("x", 0x400)+"\r\n"); err != nil {
				return
			}
		}
	}()
	r, err := readResponse(bufio.NewReader(conn), "PUT")
	if err != nil || r == nil || !strings.Contains(r.line, "507") || r.header("Connection") != "close" {
		t.Errorf("got %+v, %v, want 507 and the end", r, err)
	}
}

func TestObjectRoundTrip(t *testing.T) {
	s := newTestServer(t, newFake())
	var stored []string
	s.o.ObjectStored = func(sha string) { stored = append(stored, sha) }
	content := strings.Repeat("0123456789abcdef", 100_000)
	sum := sha256.Sum256([]byte(content))
	name := hex.EncodeToString(sum[:])
	if r := ask(t, s, asMgmt, "PUT", "/objects/"+name, content); !strings.Contains(r.line, "200") {
		t.Fatalf("put: %+v", r)
	}
	if r := ask(t, s, asMgmt, "GET", "/objects/"+name, ""); r.body != content || r.chunks < 0 {
		t.Errorf("get: %d bytes, want %d in chunks", len(r.body), len(content))
	}
	old := roundTrip(t, dial(t, s, asMgmt), "GET /objects/"+name+" HTTP/1.0\r\n\r\n", "GET")
	if old.body != content || !strings.HasPrefix(old.line, "HTTP/1.0 200") || old.header("Transfer-Encoding") != "" {
		t.Errorf("get with HTTP/1.0: %q, %d bytes", old.line, len(old.body))
	}
	if r := ask(t, s, asMgmt, "PUT", "/objects/"+strings.Repeat("0", 64), content); !strings.Contains(r.line, "422") {
		t.Errorf("wrong digest: %s", r.line)
	}
	cut := dial(t, s, asMgmt)
	_, _ = fmt.Fprintf(cut, "PUT /objects/%s HTTP/1.1\r\nContent-Length: 100\r\n\r\nhalf", strings.Repeat("1", 64))
	_ = cut.Close()
	ask(t, s, asMgmt, "GET", "/groups", "")
	files, err := os.ReadDir(s.o.Objects)
	for end := time.Now().Add(20 * time.Second); len(files) != 1 && time.Now().Before(end); files, err = os.ReadDir(s.o.Objects) {
		time.Sleep(time.Millisecond)
	}
	if err != nil || len(files) != 1 || files[0].Name() != name {
		t.Errorf("the store holds %v, %v, want the one object", files, err)
	}
	if len(stored) != 1 || stored[0] != name {
		t.Errorf("told of %q", stored)
	}
	if err := os.WriteFile(filepath.Join(s.o.Objects, name), []byte("damaged"), 0o644); err != nil {
		t.Fatal(err)
	}
	if r := ask(t, s, asMgmt, "PUT", "/objects/"+name, content); !strings.Contains(r.line, "200") {
		t.Fatalf("put over a damaged object: %+v", r)
	}
	if got, _ := os.ReadFile(filepath.Join(s.o.Objects, name)); string(got) != content {
		t.Error("a damaged object was not replaced")
	}
}

func TestStepList(t *testing.T) {
	s := newTestServer(t, newFake())
	at := time.Date(2026, 1, 31, 10, 20, 30, 0, time.UTC)
	for _, rev := range []string{"10", "9", "locals/b", "locals/a", ".hidden"} {
		write(t, filepath.Join(s.o.Steps.Dir(""), rev, ".pvr/json"), "{}")
	}
	write(t, filepath.Join(s.o.Steps.Dir(""), "9/.pv/commitmsg"), "say \"hi\"\n\xff")
	write(t, filepath.Join(s.o.Steps.Dir(""), "9/.pv/progress"), `{"status":"DONE"}`)
	write(t, filepath.Join(s.o.Steps.Dir(""), "10/.pv/progress"), `{"status":"DO`)
	write(t, filepath.Join(s.o.Steps.Dir(""), "locals/a/.pv/progress"), `{"logs":"`+strings.Repeat("x", 600)+`"}`)
	write(t, filepath.Join(s.o.Steps.Dir(""), "locals/b/.pv/progress"), `{"status":"ERROR","status-msg":"Status goal not reached","progress":100,"retries":0,"logs":"`+strings.Repeat("x", 600)+`"}`)
	if err := os.Symlink("9", filepath.Join(s.o.Steps.Dir(""), "current")); err != nil {
		t.Fatal(err)
	}
	for _, rev := range []string{"10", "9", "locals/a", "locals/b"} {
		if err := os.Chtimes(filepath.Join(s.o.Steps.Dir(""), rev), at, at); err != nil {
			t.Fatal(err)
		}
	}
	entry := func(name, msg, progress string) string {
		return `{"name":"` + name + `", "date":"2026-01-31T10:20:30Z", "commitmsg":"` + msg + `", "progress":` + progress + `}`
	}
	want := "[" + entry("10", "", "{}") + "," + entry("9", `say \u0022hi\u0022\u000A`+"\ufffd", `{"status":"DONE"}`) + "," +
		entry("locals/a", "", "{}") + "," + entry("locals/b", "", `{"status":"ERROR","status-msg":"Status goal not reached","progress":100,"retries":0}`) + "]"
	r := ask(t, s, asMgmt, "GET", "/steps", "")
	if r.body != want || !json.Valid([]byte(r.body)) {
		t.Errorf("got\n%s\nwant\n%s", r.body, want)
	}
	if r := ask(t, s, asMgmt, "GET", "/steps/current/progress", ""); r.body != `{"status":"DONE"}` {
		t.Errorf("the running step's progress is %q", r.body)
	}
}

func TestStepNamesStayInTheirDirectory(t *testing.T) {
	s := newTestServer(t, newFake())
	const state = `{"#spec":"pantavisor-service-system@1"}`
	for _, name := range []string{"..", ".", ".pv", "a%2f..%2f..%2fx", "%2e%2e"} {
		ask(t, s, asMgmt, "PUT", "/steps/locals/"+name, state)
	}
	for _, path := range []string{"/steps/..", "/steps/locals/../../x", "/steps/.pvr/progress", "/steps/../progress"} {
		if r := ask(t, s, asMgmt, "GET", path, ""); !strings.Contains(r.line, "40") {
			t.Errorf("GET %s: %s", path, r.line)
		}
	}
	var names []string
	entries, _ := os.ReadDir(filepath.Join(s.o.Steps.Dir(""), "locals"))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if got := strings.Join(names, " "); got != "%2e%2e a%2f..%2f..%2fx" {
		t.Errorf("steps %q, want the two harmless names as they were sent", got)
	}
	if outside, _ := os.ReadDir(s.o.Steps.Dir("")); len(outside) != 1 {
		t.Errorf("trails has %v, want locals only", outside)
	}
}

func TestRunningStepIsNotReplaced(t *testing.T) {
	s := newTestServer(t, newFake())
	const state = `{"#spec":"pantavisor-service-system@1"}`
	if r := ask(t, s, asMgmt, "PUT", "/steps/locals/run", state); !strings.Contains(r.line, "200") {
		t.Fatal(r)
	}
	if err := os.Symlink("locals/run", filepath.Join(s.o.Steps.Dir(""), "current")); err != nil {
		t.Fatal(err)
	}
	if r := ask(t, s, asMgmt, "PUT", "/steps/locals/run", state); !strings.Contains(r.line, "409") {
		t.Errorf("the running step was replaced: %s", r.line)
	}
	s.o.CheckStep = func(string, []byte) error { return &api.Error{Status: 422, Text: "Secureboot: no"} }
	if r := ask(t, s, asMgmt, "PUT", "/steps/locals/other", state); r.body != `{"Error":"Secureboot: no"}` {
		t.Errorf("the judge's answer is lost: %+v", r)
	}
}

func TestSecretsAreMasked(t *testing.T) {
	s := newTestServer(t, newFake())
	s.o.Config = func() []Setting {
		return []Setting{
			{Key: "PH_CREDS_SECRET", Alias: "creds.secret", Value: "hunter2", Text: "hunter2", Level: "env"},
			{Key: "PH_OTHER", Alias: "other", Value: "hunter3", Text: "hunter3", Secret: true},
			{Key: "PH_EMPTY", Alias: "empty", Secret: true},
		}
	}
	for _, path := range []string{"/config", "/config2"} {
		r := ask(t, s, asMgmt, "GET", path, "")
		if strings.Contains(r.body, "hunter") || !strings.Contains(r.body, mask) || !json.Valid([]byte(r.body)) {
			t.Errorf("%s: %s", path, r.body)
		}
	}
}

func TestHosts(t *testing.T) {
	s := newTestServer(t, newFake())
	const get = "GET /groups HTTP/1.1\r\n"
	want := map[string]string{get + "\r\n": "200", "GET http://evil/groups HTTP/1.1\r\n\r\n": "", "GET //evil/groups HTTP/1.1\r\n\r\n": ""}
	for status, hosts := range map[string][]string{
		"200": {"", "localhost", "localhost:8080", "LOCALHOST", "127.0.0.1", "127.0.0.1:80", "[::1]", "[::1]:80", "::1", "d", "unix", "docker:80", "%2Fpantavisor%2Fpv-ctrl"},
		"421": {"evil", "example", "localhost.evil", "evil:80", "10.0.0.1", "[fe80::1]:80", "unix.evil", "d.evil", "evil%2F", "1"},
	} {
		for _, h := range hosts {
			want[get+"Host: "+h+"\r\n\r\n"] = status
		}
	}
	for head, status := range want {
		r := roundTrip(t, dial(t, s, asRuntime), head, "GET")
		if (r == nil) != (status == "") || r != nil && !strings.Contains(r.line, status) {
			t.Errorf("%q: %+v, want %q", head, r, status)
		}
	}
}

func TestHeadLimits(t *testing.T) {
	s := newTestServer(t, newFake())
	get := "GET /groups HTTP/1.1\r\n"
	for name, tt := range map[string]struct{ raw, status string }{
		"a line of 9000 bytes":      {get + "X: " + strings.Repeat("a", 9000) + "\r\n\r\n", "200"},
		"a line above the limit":    {get + "X: " + strings.Repeat("a", http1.MaxLine) + "\r\n\r\n", "400"},
		"a line without end":        {get + strings.Repeat("a", 10*http1.MaxHead), "400"},
		"a head above the limit":    {get + strings.Repeat("X: "+strings.Repeat("a", 8000)+"\r\n", 5) + "\r\n", "400"},
		"too many lines":            {get + strings.Repeat("X: y\r\n", http1.MaxHeaders+1) + "\r\n", "400"},
		"two lengths":               {"PUT /user-meta/k HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "400"},
		"length and chunks":         {"PUT /user-meta/k HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\na", "400"},
		"unknown coding":            {"PUT /user-meta/k HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\na", "400"},
		"identity":                  {"PUT /user-meta/k HTTP/1.1\r\nTransfer-Encoding: identity\r\nContent-Length: 1\r\n\r\na", "200"},
		"bad chunk size":            {"PUT /user-meta/k HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "400"},
		"negative chunk size":       {"PUT /user-meta/k HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", "400"},
		"chunk without end":         {"PUT /user-meta/k HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\naX\r\n", "400"},
		"wrong UTF-8 in the path":   {"GET /\xff\xfe HTTP/1.1\r\n\r\n", "400"},
		"wrong percent in the path": {"GET /groups%zz HTTP/1.1\r\n\r\n", "400"},
		"a space in the path":       {"GET /a b HTTP/1.1\r\n\r\n", "400"},
		"a zero byte in a header":   {get + "X: a\x00b\r\n\r\n", "400"},
		"a folded header":           {get + "X: a\r\n b\r\n\r\n", "400"},
	} {
		r := roundTrip(t, dial(t, s, asRuntime), tt.raw, "GET")
		if r == nil || !strings.HasPrefix(r.line, "HTTP/1.1 "+tt.status) {
			t.Errorf("%s: got %+v, want %s", name, r, tt.status)
			continue
		}
		if !json.Valid([]byte(r.body)) && r.body != "" {
			t.Errorf("%s: the answer is not JSON: %q", name, r.body)
		}
	}
}

func TestPipelining(t *testing.T) {
	s := newTestServer(t, newFake())
	conn := dial(t, s, asRuntime)
	go func() {
		_, _ = io.WriteString(conn, "PUT /user-meta/k HTTP/1.1\r\nContent-Length: 1\r\n\r\nv"+
			"PUT /user-meta/j HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nw\r\n0\r\nTrailer: x\r\n\r\n\r\n"+
			"PUT /nope HTTP/1.1\r\nContent-Length: 5\r\n\r\nwaste"+
			"GET /user-meta HTTP/1.1\r\n\r\nGET /user-meta HTTP/1.1\r\nConnection: close\r\n\r\nGET /groups HTTP/1.1\r\n\r\n")
	}()
	r := bufio.NewReader(conn)
	for i, want := range []string{"", "", `{"Error":"unknown endpoint: /nope"}`, `{"j":"w","k":"v"}`, `{"j":"w","k":"v"}`} {
		got, err := readResponse(r, "GET")
		if err != nil || got == nil || got.body != want {
			t.Fatalf("answer %d: %+v, %v, want %q", i, got, err, want)
		}
	}
	if got, _ := readResponse(r, "GET"); got != nil {
		t.Errorf("an answer after Connection: close: %+v", got)
	}
}

func TestExpectContinue(t *testing.T) {
	s := newTestServer(t, newFake())
	conn := dial(t, s, asRuntime)
	r := bufio.NewReader(conn)
	go func() {
		_, _ = io.WriteString(conn, "PUT /user-meta/k HTTP/1.1\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n")
	}()
	if line, err := r.ReadString('\n'); err != nil || line != "HTTP/1.1 100 Continue\r\n" {
		t.Fatalf("%q, %v", line, err)
	}
	_, _ = r.ReadString('\n')
	go func() { _, _ = io.WriteString(conn, "v") }()
	if got, err := readResponse(r, "PUT"); err != nil || got == nil || !strings.Contains(got.line, "200") {
		t.Errorf("%+v, %v", got, err)
	}
	refused := roundTrip(t, dial(t, s, asApp), "PUT /user-meta/k HTTP/1.1\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n", "PUT")
	if refused == nil || !strings.Contains(refused.line, "403") || refused.header("Connection") != "close" {
		t.Errorf("a refused body was asked for: %+v", refused)
	}
}

// shutDown ends the sending side of a connection.
func shutDown(t *testing.T, c *peer.Conn) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) { err = unix.Shutdown(int(fd), unix.SHUT_WR) }); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestHalfRequests(t *testing.T) {
	s := newTestServer(t, newFake())
	for _, raw := range []string{"", "GET /gro", "GET /groups HTTP/1.1\r\nHost:", "PUT /user-meta/x HTTP/1.1\r\nContent-Length: 50\r\n\r\nvalue",
		"PUT /user-meta/x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nval"} {
		client, server := newPipe(t)
		ended := make(chan struct{})
		go func() {
			s.talk(context.Background(), server, &session{caller: *asRuntime, known: true})
			_ = server.Close()
			close(ended)
		}()
		_, _ = io.WriteString(client, raw)
		shutDown(t, client)
		if rest, err := io.ReadAll(client); err != nil || len(rest) > 0 {
			t.Errorf("%q: got %q, %v, want no answer", raw, rest, err)
		}
		<-ended
	}
	if _, err := os.Stat(s.o.Steps.Dir("")); err == nil {
		t.Error("half a request left something on disk")
	}
}

// newPipe is two connected sockets; the server's end closes with the test.
func newPipe(t *testing.T) (client, server *peer.Conn) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := peer.Listen(path, 0o600, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if client, err = peer.Dial(path, 0); err != nil {
		t.Fatal(err)
	}
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close(); _ = server.Close() })
	return client, server
}

func TestPayloadIsUnescaped(t *testing.T) {
	e := newFake()
	s := newTestServer(t, e)
	ask(t, s, asMgmt, "POST", "/commands", `{"op":"REBOOT_DEVICE","payload":"say \"hi\" \u00e9"}`)
	ask(t, s, asMgmt, "POST", "/commands", `{"op":"UPDATE_METADATA","payload":{"k": [1]}}`)
	want := "command REBOOT_DEVICE \"say \\\"hi\\\" é\"\ncommand UPDATE_METADATA \"{\\\"k\\\": [1]}\""
	if e.asked() != want {
		t.Errorf("asked for\n%s\nwant\n%s", e.asked(), want)
	}
}

func TestSlowClientHoldsUpNobody(t *testing.T) {
	s, socket := listening(t, newFake())
	content := strings.Repeat("x", 8<<20)
	sum := sha256.Sum256([]byte(content))
	name := hex.EncodeToString(sum[:])
	write(t, filepath.Join(s.o.Objects, name), content)
	for range 8 {
		c, err := peer.Dial(socket, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, _ = io.WriteString(c, "GET /objects/"+name+" HTTP/1.1\r\n\r\n") // and never reads
	}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			c := client.Client{Socket: socket, Timeout: 20 * time.Second}
			r, err := c.Do(context.Background(), &client.Request{Path: "/groups"})
			if err != nil || r.Status != 200 {
				t.Errorf("while others do not read: %v", err)
				return
			}
			_ = r.Close()
		})
	}
	wg.Wait()
}

func TestStepsAtTheSameTimeAreFew(t *testing.T) {
	s := newTestServer(t, newFake())
	const state = `{"#spec":"pantavisor-service-system@1"}`
	type sender struct {
		conn io.Writer
		r    *bufio.Reader
	}
	var under []sender
	for i := range maxSteps {
		conn := dial(t, s, asMgmt)
		_, _ = fmt.Fprintf(conn, "PUT /steps/locals/s%d HTTP/1.1\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n", i, len(state))
		u := sender{conn, bufio.NewReader(conn)}
		if line, err := u.r.ReadString('\n'); err != nil || line != "HTTP/1.1 100 Continue\r\n" {
			t.Fatalf("%q, %v", line, err)
		}
		_, _ = u.r.ReadString('\n')
		under = append(under, u)
	}
	if r := ask(t, s, asMgmt, "PUT", "/steps/locals/more", state); !strings.Contains(r.line, "503") || r.header("Retry-After") == "" {
		t.Errorf("one step too many: %+v", r)
	}
	for _, u := range under {
		_, _ = io.WriteString(u.conn, state)
		if r, err := readResponse(u.r, "PUT"); err != nil || !strings.Contains(r.line, "200") {
			t.Errorf("a step that was under way: %+v, %v", r, err)
		}
	}
	if r := ask(t, s, asMgmt, "PUT", "/steps/locals/more", state); !strings.Contains(r.line, "200") {
		t.Errorf("afterwards: %+v", r)
	}
}

func TestFullDisk(t *testing.T) {
	s := newTestServer(t, newFake())
	dir := t.TempDir()
	s.storeIn(dir)
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("mounting a small disk: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	name := strings.Repeat("0", 64)
	announced := roundTrip(t, dial(t, s, asMgmt), "PUT /objects/"+name+" HTTP/1.1\r\nContent-Length: 1099511627776\r\nExpect: 100-continue\r\n\r\n", "PUT")
	if announced == nil || !strings.Contains(announced.line, "507") {
		t.Errorf("an object of 1 TiB: %+v, want 507 before it is sent", announced)
	}
	conn := dial(t, s, asMgmt)
	go func() {
		_, _ = io.WriteString(conn, "PUT /objects/"+name+" HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
		for {
			if _, err := io.WriteString(conn, "10000\r\n"+strings.Repeat("x", 0x10000)+"\r\n"); err != nil {
				return
			}
		}
	}()
	if r, err := readResponse(bufio.NewReader(conn), "PUT"); err != nil || r == nil || !strings.Contains(r.line, "507") {
		t.Errorf("an object without end: %+v, %v, want 507", r, err)
	}
	if left, _ := os.ReadDir(s.o.Objects); len(left) > 0 {
		t.Errorf("of objects that did not fit is left %v", left)
	}
	const state = `{"#spec":"pantavisor-service-system@1","a/x.json":"`
	big := state + strings.Repeat("y", 2<<20) + `"}`
	if r := ask(t, s, asMgmt, "PUT", "/steps/locals/big", big); !strings.Contains(r.line, "507") {
		t.Errorf("a step that does not fit: %+v, want 507", r)
	}
	if left, _ := os.ReadDir(filepath.Join(s.o.Steps.Dir(""), "locals")); len(left) > 0 {
		t.Errorf("of a step that did not fit is left %v", left)
	}
	if r := ask(t, s, asMgmt, "PUT", "/steps/locals/small", state+`"}`); !strings.Contains(r.line, "200") {
		t.Errorf("a step that fits: %+v", r)
	}
}

// TestPlacesOfWhoDoNotReadAreTaken fills every place of the server with the requests of
// four containers that do not take their answers.
func TestPlacesOfWhoDoNotReadAreTaken(t *testing.T) {
	var who atomic.Int32
	e := newFake()
	e.resolve = func(int) (Caller, error) {
		if n := who.Load(); n > 0 {
			return Caller{Name: fmt.Sprintf("mgmt%d", n), Mgmt: true}, nil
		}
		return portCaller, nil
	}
	s, socket := listening(t, e)
	content := strings.Repeat("x", 8<<20) // more than sockets hold
	sum := sha256.Sum256([]byte(content))
	name := hex.EncodeToString(sum[:])
	write(t, filepath.Join(s.o.Objects, name), content)
	for n := range 4 {
		who.Store(int32(n + 1))
		for range 32 {
			c, err := peer.Dial(socket, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_, _ = io.WriteString(c, "GET /objects/"+name+" HTTP/1.1\r\n\r\n")
			if _, err := c.Read(make([]byte, 1)); err != nil { // it was accepted as who it is, and the answer has begun
				t.Fatal(err)
			}
		}
	}
	who.Store(0)
	for range 8 {
		if r := fetch(t, socket, "/groups"); r.Status != 200 {
			t.Errorf("another client gets %d", r.Status)
		}
	}
}

func BenchmarkContainersNewConnection(b *testing.B) {
	e := newFake()
	s := New(Options{Resolve: e.resolver, Engine: e, Daemons: e, UserMeta: &fakeMeta{}, DeviceMeta: &fakeMeta{}})
	socket := filepath.Join(b.TempDir(), "s")
	l, err := peer.Listen(socket, 0o666, socketBacklog)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { _ = s.serve(ctx, l) }()
	c := client.Client{Socket: socket}
	for b.Loop() {
		r, err := c.Do(ctx, &client.Request{Path: "/containers"})
		if err != nil {
			b.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, r)
		_ = r.Close()
	}
}
