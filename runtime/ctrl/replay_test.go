package ctrl

import (
	"encoding/json"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
	"github.com/pantavisor/pantavisor/runtime/ctrl/replaytest"
)

func differ(status, body, why string) replaytest.Differ {
	return replaytest.Differ{Status: status, Body: body, Why: why}
}

const bad = "HTTP/1.1 400 Bad Request"

// replays is every recorded endpoint whose answers do not depend on an update.
// A recording that is left out is named in notReplayed.
var replays = []struct {
	file    string
	skip    map[string]string // cases that cannot be replayed against a fake engine, and why
	differs map[string]replaytest.Differ
	prepare func(t *testing.T, s *Server, e *fakeEngine, list []replaytest.Exchange)
	before  func(s *Server, e *fakeEngine, name string)
}{
	{file: "containers"},
	{file: "containers-actions", differs: map[string]replaytest.Differ{
		"no body (no Content-Length)":    differ(bad, `{"Error":"No data"}`, "every request gets an answer"),
		"empty body (Content-Length: 0)": differ(bad, `{"Error":"No data"}`, "every request gets an answer"),
	}},
	{file: "groups"},
	{file: "daemons"},
	{file: "daemons-actions", differs: map[string]replaytest.Differ{
		"unknown action": differ(bad, `{"Error":"Invalid action. Use 'start', 'stop', or 'restart'"}`, "what is not done is not answered with 200"),
		"missing action": differ(bad, `{"Error":"Missing 'action' field"}`, "what is not done is not answered with 200"),
		"bad JSON":       differ(bad, `{"Error":"Invalid JSON"}`, "half a request is not obeyed"),
		"no body":        differ(bad, `{"Error":"No data"}`, "every request gets an answer"),
	}, before: func(_ *Server, e *fakeEngine, name string) {
		switch name {
		case "list after stop":
			e.daemons[1] = api.Daemon{Name: "pv-xconnect", PID: -1}
		case "list after start":
			e.daemons[1] = api.Daemon{Name: "pv-xconnect", PID: 2389, Respawn: true}
		}
	}},
	{file: "signal"},
	{file: "commands", differs: map[string]replaytest.Differ{
		"broken JSON": differ(bad, `{"Error":"Command has bad format"}`, "half a command is not obeyed"),
	}, before: commandsBefore, prepare: func(_ *testing.T, s *Server, _ *fakeEngine, _ []replaytest.Exchange) {
		s.o.CollectGarbage = collectNothing
	}},
	{file: "objects", prepare: objectsOf("list as privileged (_pv_ = no container)")},
	{file: "objects-actions", differs: map[string]replaytest.Differ{
		"path traversal": differ(bad, `{"Error":"unknown endpoint: /objects/../objects/120cebcdb0bd8c49afa8786a52049351e19b799de11990e29b718a63aeb48ff8"}`, "every request gets an answer"),
	}, skip: map[string]string{
		"put 300000 bytes": "the recording has only the digest of the content; TestObjectRoundTrip stores a large one",
		"get 300000 bytes": "as above", "list after": "lists the object above",
	}},
	{file: "steps", prepare: prepareSteps},
	{file: "steps-actions", prepare: prepareSteps, differs: map[string]replaytest.Differ{
		"commitmsg on unknown step": differ("HTTP/1.1 404 Not Found", `{"Error":"Resource does not exist"}`, "a message makes no step"),
		"commitmsg empty":           differ(bad, `{"Error":"No commit message"}`, "every request gets an answer"),
		"put name with dot-dot":     differ(bad, `{"Error":"Request has bas step name"}`, "no step outside of trails/locals"),
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
	{file: "wakelocks", prepare: func(t *testing.T, s *Server, _ *fakeEngine, list []replaytest.Exchange) {
		var held api.Wakelocks
		if err := json.Unmarshal([]byte(*list[0].ResponseBody), &held); err != nil {
			t.Fatal(err)
		}
		s.o.Wakelocks = func() api.Wakelocks { return held }
	}},
	{file: "http-level", skip: map[string]string{
		"connection opened, nothing sent":  "TestHalfRequests waits for the end of such connections",
		"partial request line":             "as above",
		"body shorter than Content-Length": "as above",
		"two pipelined requests":           "TestPipelining; the recorded metadata is that of another case",
		"no Host header, HTTP/1.1":         "the recorded metadata is that of another case; TestHosts has the same request",
		"header line of 9000 bytes":        "as above; TestHeadLimits has the same request",
	}, differs: map[string]replaytest.Differ{
		"Content-Length not a number": differ(bad, replaytest.Unsupported, "one request, one answer"),
		"Host: other":                 differ("HTTP/1.1 421 Misdirected Request", `{"Error":"`+textForeign+`"}`, "every request gets an answer"),
		"negative Content-Length":     differ(bad, replaytest.Unsupported, "one request, one answer"),
	}},
	{file: "long-names", differs: longNames()},
}

// notReplayed are the recordings that only the engine itself can answer; package engine
// replays all of them.
var notReplayed = map[string]string{
	"commands-remote-enabled": "a claimed device", "commands-while-updating": "an update", "drivers-managed": "managed drivers",
	"device-meta": "values of the machine", "readiness": "a container's goals", "recovery": "a container's life",
	"services": "service mesh", "steps-signatures-audit": "signatures", "steps-signatures-lenient": "signatures",
}

func longNames() map[string]replaytest.Differ {
	m := map[string]replaytest.Differ{}
	for _, n := range []int{256, 300, 1000, 4000} {
		m[fmt.Sprintf("user-meta key of %d", n)] = differ(bad, `{"Error":"Cannot add or update user meta"}`, "a key that cannot be stored is not accepted")
	}
	m["container name of 4000"] = differ("HTTP/1.1 404 Not Found", `{"Error":"Container not found"}`, "long names do no harm")
	m["daemon name of 4000"] = differ("HTTP/1.1 404 Not Found", `{"Error":"Daemon not found"}`, "long names do no harm")
	m["step name of 4000"] = differ("HTTP/1.1 404 Not Found", `{"Error":"Resource does not exist"}`, "long names do no harm")
	m["unknown endpoint of 4000"] = differ(bad, `{"Error":"unknown endpoint: /`+strings.Repeat("x", 4000)+`"}`, "every request gets an answer")
	return m
}

func commandsBefore(_ *Server, e *fakeEngine, name string) {
	clear(e.commandErr)
	fail := func(op string, status int, text string, retry int) {
		e.commandErr[op] = &api.Error{Status: status, Text: text, RetryAfter: retry}
	}
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

func TestEveryRecordingIsAccountedFor(t *testing.T) {
	var replayed []string
	for _, r := range replays {
		replayed = append(replayed, r.file)
	}
	for _, name := range replaytest.Names(t) {
		if slices.Contains(replayed, name) == (notReplayed[name] != "") {
			t.Errorf("recording %s must be in exactly one of replays and notReplayed", name)
		}
	}
}

func TestReplay(t *testing.T) {
	was := buildFile
	buildFile = filepath.Join(t.TempDir(), "none")
	t.Cleanup(func() { buildFile = was })
	for _, r := range replays {
		t.Run(r.file, func(t *testing.T) {
			list := replaytest.Load(t, r.file)
			e := newFake()
			s := newTestServer(t, e)
			if r.prepare != nil {
				r.prepare(t, s, e, list)
			}
			c := replaytest.Conditions{Differs: r.differs, Skip: r.skip, Exact: true}
			c.Dial = func(_ testing.TB, caller string) net.Conn { return dial(t, s, callers[caller]) }
			if r.before != nil {
				c.Before = func(x *replaytest.Exchange) { r.before(s, e, x.Case) }
			}
			replaytest.Run(t, list, c)
		})
	}
}

var callers = map[string]*Caller{"_pv_": asRuntime, "mgmt": asMgmt, "app1": asApp, "unknown-cgroup": nil}
