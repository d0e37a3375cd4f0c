package web

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/pantavisor/pantavisor/revision/archive"
	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/revision/state"
	"github.com/pantavisor/pantavisor/runtime/ctrl"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
	"github.com/pantavisor/pantavisor/runtime/ctrl/client"
	"github.com/pantavisor/pantavisor/runtime/meta"
	"github.com/pantavisor/pantavisor/runtime/pvtx"
	"github.com/pantavisor/pantavisor/runtime/step"
)

// engine is that of a device which does what it is told.
type engine struct {
	mu    sync.Mutex
	busy  int      // how many commands are answered with 503
	asked []string // what was accepted
	steps *step.Store
}

func (e *engine) Resolve(int) (ctrl.Caller, error)         { return ctrl.Caller{Name: "sdk", Mgmt: true}, nil }
func (e *engine) Groups() ([]api.Group, error)             { return nil, nil }
func (e *engine) Daemons() ([]api.Daemon, error)           { return nil, nil }
func (e *engine) DaemonAction(string, string) error        { return nil }
func (e *engine) Signal(ctrl.Caller, string, string) error { return nil }

func (e *engine) Containers() ([]api.Container, error) {
	app, platform := "app", "platform"
	return []api.Container{
		{Name: "sdk", Group: &platform, Status: "STARTED", StatusGoal: "STARTED", RestartPolicy: "system"},
		{Name: "web", Group: &app, Status: "STARTED", StatusGoal: "STARTED", RestartPolicy: "container"},
	}, nil
}

func (e *engine) ContainerAction(name, action string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.asked = append(e.asked, name+" "+action)
	return nil
}

func (e *engine) Command(op, payload string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.busy > 0 {
		e.busy--
		return &api.Error{Status: 503, Text: "Cannot do this operation while update is ongoing", RetryAfter: 1}
	}
	e.asked = append(e.asked, op+" "+payload)
	return e.steps.SetProgress(payload, step.Progress{Status: "DONE", Message: "Update finished, revision set as rollback point", Percent: 100})
}

func (e *engine) heard() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return strings.Join(e.asked, "\n")
}

// updates are those of a device that begins them and does no more.
type updates struct {
	mu   sync.Mutex
	list []api.Update
	busy int // how many requests are answered with 503
	told api.UpdateCheck
}

func (u *updates) List() []api.Update {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Clone(u.list)
}

func (u *updates) Start(_ context.Context, r api.UpdateRequest) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.busy > 0 || u.going() {
		u.busy = max(0, u.busy-1)
		return &api.Error{Status: 503, Text: "Cannot do this operation while update is ongoing", RetryAfter: 1}
	}
	left, told := 21, "Awaiting to see if update is stable"
	next := api.Update{Number: int64(len(u.list) + 1), Revision: r.Revision, Status: "TESTING", Message: told, Mode: r.Mode, From: "0", When: r.When,
		Path:   []api.UpdateStep{{Time: "2026-01-02T03:04:05Z", Status: "TESTING", Message: told}},
		Groups: []api.Group{{Name: "app", Status: "STARTED", StatusGoal: "READY", Timeout: 30, TimeoutRemaining: &left}, {Name: "platform", Status: "READY", StatusGoal: "READY"}}}
	if r.When != "" {
		next.Status, next.Message, next.Groups = "QUEUED", "Retried 0 of 10", nil
	}
	u.list = append(u.list, next)
	return nil
}

func (u *updates) Cancel(_ context.Context, rev string) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	for i := range u.list {
		if last := &u.list[i]; last.Revision == rev {
			last.Status, last.Message, last.When = "CANCELED", "Update canceled", ""
			return nil
		}
	}
	return &api.Error{Status: 404, Text: "there is no such update"}
}

func (u *updates) Progress(string) []byte { return nil }

// going reports whether the last update has not ended, as a device that tests one.
func (u *updates) going() bool {
	return len(u.list) > 0 && u.list[len(u.list)-1].Status == "TESTING"
}

// end ends the last update well.
func (u *updates) end() {
	u.mu.Lock()
	defer u.mu.Unlock()
	last := &u.list[len(u.list)-1]
	last.Status, last.Message, last.Groups = "DONE", "Update finished, revision set as rollback point", nil
}

// say sets the answer to the next dry runs.
func (u *updates) say(c api.UpdateCheck) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.told = c
}

// fail ends the last update with a reason.
func (u *updates) fail() {
	u.mu.Lock()
	defer u.mu.Unlock()
	last := &u.list[len(u.list)-1]
	last.Status, last.Message, last.Groups = "ERROR", "Stable revision not reached", nil
	last.Path = append(slices.Clone(last.Path), api.UpdateStep{Time: "2026-01-02T03:05:05Z", Status: "ERROR", Message: last.Message})
	last.Failure = &api.UpdateFailure{
		Check: "goal", Text: "the container nginx did not reach READY", Container: "nginx", Group: "app", Goal: "READY", Status: "STOPPED",
		Timeout: 30, Exit: "exited with code 3", Retries: 5, Log: []string{"nginx: [emerg] bind() to 0.0.0.0:80", "nginx: still could not bind()"},
	}
}

// world is a device with its control socket and its web server.
type world struct {
	*testing.T
	dir, socket string
	engine      *engine
	updates     *updates
	steps       *step.Store
	host        *objects.Store // objects of packages that a host makes
	web         *httptest.Server
	log         bytes.Buffer
}

// device starts a device that runs a state, "{}" for one with a container, and its server.
// change may alter the options of the server.
func device(t *testing.T, running string, change func(*Options)) *world {
	t.Helper()
	dir := t.TempDir()
	w := &world{T: t, dir: dir, socket: filepath.Join(dir, "pv-ctrl"), steps: step.Open(filepath.Join(dir, "storage"))}
	w.engine, w.updates = &engine{steps: w.steps}, &updates{}
	var err error
	if w.host, err = objects.Create(filepath.Join(dir, "host")); err != nil {
		t.Fatal(err)
	}
	st := w.state("web/run.json", `{"name":"web"}`, "web/src.json", `{}`, "web/root.squashfs", "root of web 1")
	if running != "{}" {
		st = w.state("app/run.json", running)
	}
	if err := errors.Join(w.steps.Put("0", st.Raw()), w.steps.SetCurrent("0"),
		w.steps.SetProgress("0", step.Progress{Status: "DONE", Message: "Factory revision", Percent: 100})); err != nil {
		t.Fatal(err)
	}
	w.control()
	for _, sum := range st.Sums() {
		w.upload(sum)
	}
	device := &client.Client{Socket: w.socket}
	o := Options{
		Device: device, Transaction: pvtx.New(pvtx.Options{Dir: filepath.Join(dir, "tx"), Device: device}),
		Logs: filepath.Join(dir, "logs"), Log: log.New(&w.log, "", 0),
	}
	if change != nil {
		change(&o)
	}
	w.web = httptest.NewServer(New(o).Handler())
	t.Cleanup(w.web.Close)
	return w
}

// control serves the control socket.
func (w *world) control() {
	w.Helper()
	userMeta, err := meta.Open(meta.Options{Kind: meta.User})
	if err != nil {
		w.Fatal(err)
	}
	deviceMeta, err := meta.Open(meta.Options{Kind: meta.Device})
	if err != nil {
		w.Fatal(err)
	}
	if err := errors.Join(userMeta.Set("fleet.channel", "stable"), deviceMeta.Set("pantavisor.revision", "0"),
		deviceMeta.Set("interfaces", `{"eth0.ipv4":["192.0.2.1"]}`)); err != nil {
		w.Fatal(err)
	}
	s := ctrl.New(ctrl.Options{
		Resolve: w.engine.Resolve, Engine: w.engine, Daemons: w.engine, UserMeta: userMeta, DeviceMeta: deviceMeta,
		Objects: filepath.Join(w.dir, "storage", "objects"), Steps: w.steps, Updates: w.updates,
	})
	ctx, cancel := context.WithCancel(context.Background())
	listen, err := s.Listen(w.socket)
	if err != nil {
		cancel()
		w.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- listen(ctx) }()
	w.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			w.Error(err)
		}
	})
}

// upload puts an object of the host on the device.
func (w *world) upload(sum string) {
	w.Helper()
	f, err := w.host.Open(sum)
	if err != nil {
		w.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err == nil {
		err = (&client.Client{Socket: w.socket}).PutObject(w.Context(), f, sum, st.Size())
	}
	if err != nil {
		w.Fatal(err)
	}
}

// state makes a state of files: JSON as it is, other content as an object of the host.
func (w *world) state(files ...string) *state.State {
	w.Helper()
	st := state.New(state.Spec)
	for i := 0; i < len(files); i += 2 {
		var err error
		if state.IsInline(files[i]) {
			err = st.Set(files[i], []byte(files[i+1]))
		} else {
			var sum string
			if sum, err = w.host.Put(w.Context(), strings.NewReader(files[i+1]), ""); err == nil {
				err = st.SetObject(files[i], sum)
			}
		}
		if err != nil {
			w.Fatal(err)
		}
	}
	return st
}

// export returns an export with its objects, as pvr makes it.
func (w *world) export(st *state.State) []byte {
	w.Helper()
	var b bytes.Buffer
	if err := archive.Export(w.Context(), &b, st, w.host, archive.ExportOptions{Gzip: true}); err != nil {
		w.Fatal(err)
	}
	return b.Bytes()
}

// do sends a request; head are "Name: value".
func (w *world) do(method, path string, body io.Reader, head ...string) (int, http.Header, string) {
	w.Helper()
	req, err := http.NewRequestWithContext(w.Context(), method, w.web.URL+path, body)
	if err != nil {
		w.Fatal(err)
	}
	for _, line := range head {
		name, value, _ := strings.Cut(line, ": ")
		if name == "Host" {
			req.Host = value
		}
		req.Header.Set(name, value)
	}
	resp, err := w.web.Client().Transport.RoundTrip(req)
	if err != nil {
		w.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		w.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(text)
}

// ok sends a request that must be answered with 200 and returns the body.
func (w *world) ok(method, path, body string) string {
	w.Helper()
	code, _, text := w.do(method, path, strings.NewReader(body))
	if code != 200 {
		w.Fatalf("%s %s: %d %s", method, path, code, text)
	}
	return text
}

// fails sends a request that must be answered with a status and a JSON error that has a text.
func (w *world) fails(status int, says, method, path, body string) string {
	w.Helper()
	code, _, text := w.do(method, path, strings.NewReader(body))
	var told refusal
	if err := json.Unmarshal([]byte(text), &told); err != nil || code != status || !strings.Contains(told.Error, says) {
		w.Errorf("%s %s: %d %s; want %d, …%s…", method, path, code, text, status, says)
	}
	return text
}

// member returns a member of a JSON object.
func (w *world) member(text, name string) string {
	w.Helper()
	var doc map[string]any
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		w.Fatalf("%q: %v", text, err)
	}
	return fmt.Sprint(doc[name])
}

// logFile writes a log file of revision 0.
func (w *world) logFile(name, text string) {
	w.Helper()
	path := filepath.Join(w.dir, "logs/0", name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		w.Fatal(err)
	}
	if err := os.Symlink("0", filepath.Join(w.dir, "logs/current")); err != nil && !errors.Is(err, os.ErrExist) {
		w.Fatal(err)
	}
}

// CheckState implements ctrl.Updates.
func (u *updates) CheckState([]byte) (api.UpdateCheck, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	c := u.told
	c.Possible = len(c.Blockers) == 0
	return c, nil
}

// CheckStored implements ctrl.Updates.
func (u *updates) CheckStored(string) (api.UpdateCheck, error) { return u.CheckState(nil) }
