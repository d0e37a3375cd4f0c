package ctrl

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pantavisor/pantavisor/revision/canon"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
	"github.com/pantavisor/pantavisor/runtime/ctrl/http1"
	"github.com/pantavisor/pantavisor/runtime/step"
)

// fakeEngine is an engine with the containers of the recordings: app1 of group
// app without role, mgmt and sys1 of group platform.
type fakeEngine struct {
	mu         sync.Mutex
	containers []api.Container
	groups     []api.Group
	daemons    []api.Daemon
	resolve    func(pid int) (Caller, error)
	commandErr map[string]error // by op
	signalErr  error
	log        []string // what was asked for
}

var _ Engine = (*fakeEngine)(nil)

func text(s string) *string { return &s }

func newFake() *fakeEngine {
	group := func(name, goal, restart string, r *api.GroupRecovery) api.Group {
		return api.Group{Name: name, StatusGoal: goal, RestartPolicy: restart, Status: "READY", AutoRecovery: r}
	}
	return &fakeEngine{
		containers: []api.Container{
			{Name: "app1", Group: text("app"), Status: "STARTED", StatusGoal: "STARTED", RestartPolicy: "container", UserStopped: "false",
				AutoRecovery: &api.AutoRecovery{Policy: "on-failure", MaxRetries: 5, StableTimeout: 30, IsStable: "false", BackoffPolicy: "reboot"}},
			{Name: "mgmt", Group: text("platform"), Status: "STARTED", StatusGoal: "STARTED", RestartPolicy: "system", Roles: []string{"mgmt"}},
			{Name: "sys1", Group: text("platform"), Status: "STARTED", StatusGoal: "STARTED", RestartPolicy: "system"},
		},
		groups: []api.Group{
			group("data", "MOUNTED", "system", nil), group("root", "STARTED", "system", nil), group("platform", "STARTED", "system", nil),
			group("app", "STARTED", "container", &api.GroupRecovery{MaxRetries: 5, StableTimeout: 30, BackoffPolicy: "reboot"}),
		},
		daemons:    []api.Daemon{{Name: "hwrngd", Respawn: true}, {Name: "pv-xconnect", PID: 1150, Respawn: true}},
		resolve:    func(int) (Caller, error) { return portCaller, nil },
		commandErr: map[string]error{},
		signalErr:  &api.Error{Status: 500, Text: textSignalUnexpected},
	}
}

func (e *fakeEngine) note(format string, args ...any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.log = append(e.log, fmt.Sprintf(format, args...))
}

func (e *fakeEngine) asked() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return strings.Join(e.log, "\n")
}

func (e *fakeEngine) resolver(pid int) (Caller, error) { return e.resolve(pid) }
func (e *fakeEngine) Containers() ([]api.Container, error) {
	return append([]api.Container{}, e.containers...), nil
}
func (e *fakeEngine) Groups() ([]api.Group, error)   { return e.groups, nil }
func (e *fakeEngine) Daemons() ([]api.Daemon, error) { return e.daemons, nil }

func (e *fakeEngine) ContainerAction(name, action string) error {
	e.note("container %s %s", name, action)
	return nil
}

func (e *fakeEngine) DaemonAction(name, action string) error {
	e.note("daemon %s %s", name, action)
	return nil
}

func (e *fakeEngine) Signal(from Caller, typ, payload string) error {
	e.note("signal %s %s %q", from.Name, typ, payload)
	return e.signalErr
}

func (e *fakeEngine) Command(op, payload string) error {
	e.note("command %s %q", op, payload)
	return e.commandErr[op]
}

// fakeMeta keeps pairs, newest first.
type fakeMeta struct {
	mu    sync.Mutex
	pairs [][2]string
}

func (m *fakeMeta) List(w io.Writer) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var parts []string
	for _, p := range m.pairs {
		value := string(canon.AppendLong(nil, p[1]))
		if v := strings.TrimSpace(p[1]); (strings.HasPrefix(v, "{") || strings.HasPrefix(v, "[")) && json.Valid([]byte(v)) {
			value = v
		}
		parts = append(parts, string(canon.AppendLong(nil, p[0]))+":"+value)
	}
	_, err := io.WriteString(w, "{"+strings.Join(parts, ",")+"}")
	return err
}

func (m *fakeMeta) Set(key, value string) error {
	if len(key) > 255 {
		return fs.ErrInvalid
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.pairs {
		if m.pairs[i][0] == key {
			m.pairs[i][1] = value
			return nil
		}
	}
	m.pairs = append([][2]string{{key, value}}, m.pairs...)
	return nil
}

func (m *fakeMeta) Delete(key string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.pairs {
		if m.pairs[i][0] == key {
			m.pairs = append(m.pairs[:i:i], m.pairs[i+1:]...)
			return nil
		}
	}
	return fs.ErrNotExist
}

func newTestServer(t *testing.T, e *fakeEngine) *Server {
	t.Helper()
	s := New(Options{Resolve: e.resolver, Engine: e, Daemons: e, UserMeta: &fakeMeta{}, DeviceMeta: &fakeMeta{}})
	s.storeIn(t.TempDir())
	return s
}

// dial returns the client's end of a connection that s answers as caller; a nil
// caller is one that could not be identified.
// storeIn moves objects and steps to a directory.
func (s *Server) storeIn(dir string) {
	s.o.Objects, s.o.Steps = filepath.Join(dir, "objects"), step.Open(dir)
}

func dial(t *testing.T, s *Server, caller *Caller) net.Conn {
	t.Helper()
	client, server := net.Pipe()
	c := &session{known: caller != nil}
	if caller != nil {
		c.caller = *caller
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer server.Close()
		s.talk(context.Background(), server, c)
	}()
	t.Cleanup(func() { _ = client.Close(); <-ended })
	_ = client.SetDeadline(time.Now().Add(time.Minute))
	return client
}

// response is an answer as it came over the wire.
type response struct {
	line    string
	headers []string
	chunks  int // -1 when not chunked
	body    string
}

func (r *response) header(name string) string {
	for _, h := range r.headers {
		if k, v, _ := strings.Cut(h, ": "); strings.EqualFold(k, name) {
			return v
		}
	}
	return ""
}

// roundTrip sends raw bytes and reads one answer; nil means that the connection
// ended without one. It reads while it writes, as the server may answer early.
func roundTrip(t *testing.T, conn net.Conn, raw, method string) *response {
	t.Helper()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_, _ = io.WriteString(conn, raw)
	}()
	r, err := readResponse(bufio.NewReader(conn), method)
	if err != nil {
		t.Fatalf("reading the answer to %.60q: %v", raw, err)
	}
	return r
}

func readResponse(r *bufio.Reader, method string) (*response, error) {
	head := http1.NewLines(r)
	line, err := head.Next()
	if err != nil {
		return nil, nil //nolint:nilerr // the connection ended without an answer, which some tests want
	}
	if line == "HTTP/1.1 100 Continue" {
		if _, err := head.Next(); err != nil {
			return nil, err
		}
		return readResponse(r, method)
	}
	res := &response{line: line, chunks: -1}
	req := &http1.Head{Minor: 1}
	for {
		line, err := head.Next()
		if err != nil {
			return nil, err
		}
		if line == "" {
			break
		}
		if err := req.Add(line); err != nil {
			return nil, err
		}
		res.headers = append(res.headers, line)
	}
	if method == "HEAD" {
		return res, nil
	}
	return res, res.read(r, req)
}

func (r *response) read(from *bufio.Reader, head *http1.Head) error {
	if strings.HasPrefix(r.line, "HTTP/1.0") && !head.Counted {
		body, err := io.ReadAll(from)
		r.body = string(body)
		return err
	}
	b := http1.NewBody(from, head, nil)
	body, err := io.ReadAll(b)
	r.body = string(body)
	if head.Length == -1 {
		r.chunks = 1
	}
	return err
}

// ask sends one well-formed request.
func ask(t *testing.T, s *Server, caller *Caller, method, path, body string) *response {
	t.Helper()
	raw := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: localhost\r\n", method, path)
	if body != "" || method == "PUT" || method == "POST" {
		raw += fmt.Sprintf("Content-Length: %d\r\n", len(body))
	}
	return roundTrip(t, dial(t, s, caller), raw+"\r\n"+body, method)
}

var (
	asRuntime = &Caller{Name: Runtime, Mgmt: true}
	asMgmt    = &Caller{Name: "mgmt", Mgmt: true}
	asApp     = &Caller{Name: "app1"}
)
