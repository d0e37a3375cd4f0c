package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/internal/oracle"
	"github.com/pantavisor/pantavisor/revision/canon"
	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/revision/state"
)

// exchange is a recorded request with its answer.
type exchange struct {
	Method   string            `json:"method"`
	Path     string            `json:"path"`
	Headers  map[string]string `json:"headers"`
	Raw      *string           `json:"body_raw"`
	Body     json.RawMessage   `json:"body"`
	Text     *string           `json:"body_text"`
	Response struct {
		Status  int               `json:"status"`
		Headers map[string]string `json:"headers"`
		Body    json.RawMessage   `json:"body"`
		Text    string            `json:"body_text"`
	} `json:"response"`
}

// sent is what is compared of a request.
type sent struct{ Method, Path, Auth, Type, Body string }

func (s sent) String() string {
	return fmt.Sprintf("%s %s %s %s %s", s.Method, s.Path, s.Auth, s.Type, s.Body)
}

// replay is a server that gives recorded answers.
type replay struct {
	*httptest.Server
	t    *testing.T
	base string // as recorded
	mu   sync.Mutex
	todo []exchange
	got  []sent
}

func newReplay(t *testing.T, base string, list []exchange) *replay {
	r := &replay{t: t, base: base, todo: append([]exchange(nil), list...)}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

func (r *replay) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		r.t.Error(err)
	}
	path := req.URL.Path
	if req.URL.RawQuery != "" {
		path += "?" + req.URL.RawQuery
	}
	s := sent{req.Method, path, req.Header.Get("Authorization"), req.Header.Get("Content-Type"), r.recorded(string(body))}
	if req.Header.Get("User-Agent") == "" {
		r.t.Errorf("%s without User-Agent", s)
	}
	e, ok := r.take(s, req)
	if !ok {
		r.t.Errorf("not recorded: %s", s)
		http.Error(w, "not recorded", http.StatusTeapot)
		return
	}
	for name, value := range e.Response.Headers {
		if name != "Content-Length" {
			w.Header().Set(name, r.local(value))
		}
	}
	w.WriteHeader(e.Response.Status)
	_, _ = io.WriteString(w, r.local(answer(e)))
}

// answer returns the recorded body; a JSON string stands for its text.
func answer(e exchange) string {
	var text string
	if json.Unmarshal(e.Response.Body, &text) == nil {
		return text
	}
	return string(e.Response.Body) + e.Response.Text
}

// local and recorded exchange the two servers' addresses.
func (r *replay) local(s string) string    { return strings.ReplaceAll(s, r.base, r.URL) }
func (r *replay) recorded(s string) string { return strings.ReplaceAll(s, r.URL, r.base) }

// take finds the next recorded answer to a request: the object's announcements
// come in any order.
func (r *replay) take(s sent, req *http.Request) (exchange, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = append(r.got, s)
	for i, e := range r.todo {
		if e.Method == req.Method && e.Path == s.Path && e.Headers["Authorization"] == s.Auth && sameName(e, s.Body) {
			r.todo = append(r.todo[:i:i], r.todo[i+1:]...)
			return e, true
		}
	}
	return exchange{}, false
}

func sameName(e exchange, body string) bool {
	return !strings.HasSuffix(e.Path, "/objects/") || objectName(e.want()) == objectName(body)
}

func objectName(body string) string {
	doc, err := canon.First([]byte(body))
	if err != nil {
		return ""
	}
	return textMember(doc, "objectname")
}

// want returns the body as it was sent; where only its value is known, canonical.
func (e exchange) want() string {
	switch {
	case e.Raw != nil:
		return *e.Raw
	case e.Text != nil:
		return *e.Text
	case e.Body != nil:
		return string(e.Body)
	}
	return ""
}

// compare checks that exactly the recorded requests were made. Requests that may
// run in parallel have no order; those are the ones on objects.
func (r *replay) compare(list []exchange, exact bool) {
	r.t.Helper()
	var want []sent
	for _, e := range list {
		s := sent{e.Method, e.Path, e.Headers["Authorization"], e.Headers["Content-Type"], e.want()}
		want = append(want, s)
	}
	if !exact {
		canonical(want)
		canonical(r.got)
	}
	if diff := cmp.Diff(texts(want), texts(r.got)); diff != "" {
		r.t.Errorf("requests (-recorded +ours):\n%s", diff)
	}
}

func canonical(list []sent) {
	for i, s := range list {
		if doc, err := canon.Parse([]byte(s.Body)); err == nil {
			list[i].Body = string(doc.Encode())
		}
		if strings.HasPrefix(s.Path, "/local-s3/") {
			list[i].Body = "" // recorded in part only
		}
	}
}

// texts sorts each run of requests that go to objects.
func texts(list []sent) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = s.String()
	}
	for i := 0; i < len(list); {
		j := i
		for j < len(list) && class(list[j]) == class(list[i]) && class(list[i]) != "" {
			j++
		}
		sort.Strings(out[i:max(i, j)])
		i = max(i+1, j)
	}
	return out
}

func class(s sent) string {
	switch {
	case strings.HasPrefix(s.Path, "/s3/") || strings.HasPrefix(s.Path, "/local-s3/"):
		return s.Method + " content"
	case strings.Contains(s.Path, "/objects/") && s.Auth == "" || strings.Contains(s.Path, "/objects/"):
		return s.Method + " object " + s.Auth
	}
	return ""
}

func specFile(t *testing.T, name string, into any) {
	t.Helper()
	err := json.Unmarshal(oracle.Read(t, name), into)
	if err != nil {
		t.Fatal(err)
	}
}

// contents are the objects of the recordings.
var contents = []string{"K", "R", "M", "same", "", "changed", strings.Repeat("z", 3000), "kernel image bytes, golden\n",
	strings.Repeat("rootfs squashfs bytes, golden\n", 50)}

func newStore(t *testing.T, contents ...string) *objects.Store {
	t.Helper()
	store, err := objects.Create(filepath.Join(t.TempDir(), "objects"))
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range contents {
		if _, err := store.Put(t.Context(), strings.NewReader(text), ""); err != nil {
			t.Fatal(err)
		}
	}
	return store
}

func newClient(t *testing.T, opt Options) *Client {
	t.Helper()
	if opt.Backoff == 0 {
		opt.Backoff = time.Millisecond
	}
	opt.Proxy = "no"
	c, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func mustState(t *testing.T, doc []byte) *state.State {
	t.Helper()
	st, err := state.Parse(doc)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func mustRef(t testing.TB, text string) Reference {
	t.Helper()
	ref, err := parseReference(text, "")
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// postedState finds the state that a recording sends, as post or as put.
func postedState(t *testing.T, list []exchange) *state.State {
	t.Helper()
	for _, e := range list {
		doc, err := canon.First([]byte(e.want()))
		if err != nil {
			continue
		}
		if v, ok := doc.Get("state"); ok {
			return mustState(t, v.Encode())
		}
		if _, ok := doc.Get(state.SpecKey); ok {
			return mustState(t, doc.Encode())
		}
	}
	t.Fatal("the recording sends no state")
	return nil
}

func announcedObjects(list []exchange) []state.Object {
	var out []state.Object
	for _, e := range list {
		if doc, err := canon.First([]byte(e.want())); err == nil && e.Method == http.MethodPost {
			out = append(out, state.Object{Path: textMember(doc, "objectname"), Sum: textMember(doc, "sha256sum")})
		}
	}
	return out
}

const (
	trail  = "/trails/0a1b2c3d4e5f60718293a4b5"
	device = "/cgi-bin/pvr"
)

// replayCase does with our client what a recorded command did.
type replayCase struct {
	opt Options
	run func(t *testing.T, c *Client, url string, list []exchange) error
}

func post(path string, opt PostOptions) func(*testing.T, *Client, string, []exchange) error {
	return func(t *testing.T, c *Client, url string, list []exchange) error {
		_, err := c.Post(t.Context(), mustRef(t, url+path), postedState(t, list), newStore(t, contents...), opt)
		return err
	}
}

func get(path string, held ...string) func(*testing.T, *Client, string, []exchange) error {
	return func(t *testing.T, c *Client, url string, _ []exchange) error {
		store := newStore(t, held...)
		_, err := c.Get(t.Context(), mustRef(t, url+path), store, GetOptions{})
		return err
	}
}

func putObjects(force bool) func(*testing.T, *Client, string, []exchange) error {
	return func(t *testing.T, c *Client, url string, list []exchange) error {
		_, err := c.PutObjects(t.Context(), mustRef(t, url+"/objects").URL, announcedObjects(list), newStore(t, contents...), force)
		return err
	}
}

var replayCases = map[string]replayCase{
	"post-first":               {run: post(trail, PostOptions{Message: "first message", Revision: NextRevision})},
	"post-unchanged":           {run: post(trail, PostOptions{Revision: NextRevision})},
	"post-change-envelope-rev": {run: post(trail, PostOptions{Message: "second", Revision: 7, Envelope: `{"labels":["x"]}`})},
	"post-force":               {run: post(trail, PostOptions{Revision: NextRevision, Force: true})},
	"put": {run: func(t *testing.T, c *Client, url string, list []exchange) error {
		return c.Put(t.Context(), mustRef(t, url+trail), postedState(t, list), newStore(t, contents...), false)
	}},
	"putobjects":       {run: putObjects(false)},
	"putobjects-force": {run: putObjects(true)},
	"clone":            {run: get(trail)},
	"get-nothing-new":  {run: get(trail, contents...)},
	"inspect": {run: func(t *testing.T, c *Client, url string, _ []exchange) error {
		info, err := c.RemoteInfo(t.Context(), mustRef(t, url+trail))
		if err == nil {
			_, err = c.State(t.Context(), info)
		}
		return err
	}},
	"remoteinfo": {run: func(t *testing.T, c *Client, url string, _ []exchange) error {
		_, err := c.RemoteInfo(t.Context(), mustRef(t, url+trail))
		return err
	}},
	"stepinfo": {run: func(t *testing.T, c *Client, url string, _ []exchange) error {
		_, err := c.StepInfo(t.Context(), mustRef(t, url+trail))
		return err
	}},
	"get-part":             {run: get(trail + "#app")},
	"merge-all":            {run: get(trail, "changed")},
	"clone-missing-object": {run: get("/trails/none")},
	"device-post":          {run: post(device, PostOptions{Revision: NextRevision})},
	"device-clone":         {run: get(device)},
	"anonymous-clone":      {run: get(trail, contents...)},
	"token-flag":           {opt: Options{AccessToken: "TOKEN-FROM-FLAG"}, run: post(trail, PostOptions{Revision: NextRevision})},
	"whoami": {run: func(t *testing.T, c *Client, url string, _ []exchange) error {
		ch := Challenge{"pantahub services", url + "/auth"}
		if err := c.tokens.Put(t.Context(), ch.Key(), "TOK-:/anon"); err != nil {
			return err
		}
		who, err := c.WhoAmI(t.Context())
		if err == nil && (len(who) != 1 || who[0].String() != "nick(prn:::accounts:/1) at "+url+"/auth") {
			t.Errorf("who am I: %v", who)
		}
		return err
	}},
}

// The requests of every recorded command are made byte for byte: method, path,
// token, content type and body. What differs is the User-Agent of API calls, which
// says which program it is, and that records are asked for in order of the paths.
func TestRecordedExchanges(t *testing.T) {
	t.Parallel()
	var doc struct {
		Cases []struct {
			Name      string     `json:"name"`
			Exchanges []exchange `json:"exchanges"`
			Auth      string     `json:"auth_json"`
		} `json:"cases"`
	}
	specFile(t, "golden/pvr/http/exchanges.json", &doc)
	for _, rec := range doc.Cases {
		t.Run(rec.Name, func(t *testing.T) {
			tc, ok := replayCases[rec.Name]
			if !ok {
				t.Fatalf("no case for recording %s", rec.Name)
			}
			base := "http://127.0.0.1:8095"
			if strings.HasPrefix(rec.Name, "device-") {
				base = "http://127.0.0.1:12369"
			}
			srv := newReplay(t, base, rec.Exchanges)
			tc.opt.ConfigDir = t.TempDir()
			if err := tc.run(t, newClient(t, tc.opt), srv.URL, rec.Exchanges); err != nil {
				t.Error(err)
			}
			srv.compare(rec.Exchanges, true)
			if rec.Auth != "" {
				auth, err := os.ReadFile(filepath.Join(tc.opt.ConfigDir, "auth.json"))
				if diff := cmp.Diff(rec.Auth, srv.recorded(string(auth))); err != nil || diff != "" {
					t.Errorf("auth.json: %v\n%s", err, diff)
				}
			}
		})
	}
}

const hubTrail = "/trails/6b01574c686c824ffd1d3ba4"

func getTrusted(t *testing.T, c *Client, url string, list []exchange) error {
	store := newStore(t)
	for _, e := range list {
		doc, err := canon.First(e.Response.Body)
		if _, ok := doc.Get(state.SpecKey); err != nil || !ok {
			continue
		}
		for _, sum := range mustState(t, e.Response.Body).Sums() {
			if err := os.WriteFile(filepath.Join(store.Dir(), sum), nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	_, err := c.Get(t.Context(), mustRef(t, url+hubTrail), store, GetOptions{Trust: true})
	return err
}

// hubCases are the commands of the recording of a running Hub by their prefix.
var hubCases = map[string]replayCase{
	"pvr whoami": {run: func(t *testing.T, c *Client, _ string, _ []exchange) error {
		_, err := c.WhoAmI(t.Context())
		return err
	}},
	"pvr remoteinfo": {run: func(t *testing.T, c *Client, url string, _ []exchange) error {
		_, err := c.RemoteInfo(t.Context(), mustRef(t, url+hubTrail))
		return err
	}},
	"pvr clone":                 {run: getTrusted},
	"pvr get":                   {run: getTrusted},
	"pvr post -m golden-post h": {run: post(hubTrail, PostOptions{Message: "golden-post", Revision: NextRevision})},
	"pvr post -m golden-post-2": {run: post(hubTrail, PostOptions{Message: "golden-post-2", Revision: NextRevision})},
	"pvr stepinfo": {run: func(t *testing.T, c *Client, url string, _ []exchange) error {
		_, err := c.StepInfo(t.Context(), mustRef(t, url+hubTrail+"/steps/1"))
		return err
	}},
	"pvr device get": {run: func(t *testing.T, c *Client, _ string, _ []exchange) error {
		doc, err := c.Device(t.Context(), "kitchen-4833")
		if textMember(doc, "owner-nick") != "alice4833" {
			t.Errorf("device: %s", doc.Encode())
		}
		return err
	}},
	"pvr device set": {run: func(t *testing.T, c *Client, _ string, _ []exchange) error {
		kind, doc, err := c.SetDevice(t.Context(), "kitchen-4833", []string{"color=blue"})
		if kind != "user-meta" || string(doc.Encode()) != `{"color":"blue"}` {
			t.Errorf("set %s: %s", kind, doc.Encode())
		}
		return err
	}},
	"pvr device ps": {run: func(t *testing.T, c *Client, _ string, _ []exchange) error {
		_, err := c.Devices(t.Context())
		return err
	}},
	"pvr logs": {run: func(t *testing.T, c *Client, _ string, _ []exchange) error {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		f := LogFilter{Devices: "kitchen-4833", From: time.Date(2026, 11, 21, 8, 32, 22, 0, time.UTC)}
		seen, shown := map[string]time.Time{}, 0
		for range 2 {
			if err := c.logRound(ctx, &f, seen, func(LogEntry) error { shown++; return nil }); err != nil {
				return err
			}
		}
		if shown != 3 {
			t.Errorf("%d entries", shown)
		}
		return nil
	}},
	"pvr device create": {run: func(t *testing.T, c *Client, _ string, list []exchange) error {
		_, err := c.CreateDevice(t.Context(), "pvr-made-4833", postedState(t, list), newStore(t, contents...))
		return err
	}},
	"pvr claim": {run: func(t *testing.T, c *Client, url string, _ []exchange) error {
		_, err := c.Claim(t.Context(), url+"/devices/6b01575b686c824ffd1d3bbd", "truly-verified-collie")
		return err
	}},
}

// The same against the recording of a Hub that wants a login. One difference: a
// device's objects are announced in order of the paths, so that README.md, not
// app/root.squashfs, is the one that is announced without a token first and whose
// signed URL of the two for the same content is used.
func TestRecordedHub(t *testing.T) {
	t.Parallel()
	var doc struct {
		Exchanges []struct {
			Note     string `json:"note"`
			Request  exchange
			Response json.RawMessage `json:"response"`
		} `json:"exchanges"`
	}
	specFile(t, "golden/hub/11-pvr-cli.json", &doc)
	groups := map[string][]exchange{}
	for _, e := range doc.Exchanges {
		x := e.Request
		if err := json.Unmarshal(e.Response, &x.Response); err != nil {
			t.Fatal(err)
		}
		name := hubCase(e.Note)
		if name == "pvr device create" && x.Headers["Authorization"] == "" && strings.HasSuffix(x.Path, "/objects/") {
			x.Body = bytes.ReplaceAll(x.Body, []byte("app/root.squashfs"), []byte("README.md"))
		}
		if name == "pvr device create" {
			x.Response.Body = bytes.ReplaceAll(x.Response.Body, []byte("OBJ_PUT_TOKEN_9"), []byte("OBJ_PUT_TOKEN_6"))
		}
		groups[name] = append(groups[name], x)
	}
	delete(groups, "") // a device speaks
	if len(groups) != len(hubCases) {
		t.Errorf("%d commands recorded, %d cases", len(groups), len(hubCases))
	}
	for name, list := range groups {
		t.Run(name, func(t *testing.T) {
			srv := newReplay(t, "http://localhost:12365", list)
			c := newClient(t, Options{BaseURL: srv.URL, ConfigDir: t.TempDir()})
			if err := c.tokens.Put(t.Context(), Challenge{"pantahub services", srv.URL + "/auth"}.Key(), "${USER_TOKEN}"); err != nil {
				t.Fatal(err)
			}
			if err := hubCases[name].run(t, c, srv.URL, list); err != nil {
				t.Error(err)
			}
			srv.compare(list, false)
		})
	}
}

func hubCase(note string) string {
	for name := range hubCases {
		if strings.HasPrefix(note, name) {
			return name
		}
	}
	return ""
}
