package remote

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/state"
)

// scripted answers by "METHOD uri" and remembers what it was sent.
type scripted struct {
	*httptest.Server
	answers map[string]string // "status body"; a missing one is 404
	log     []string
}

func newScripted(t *testing.T, answers map[string]string) *scripted {
	s := &scripted{answers: answers}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		key := r.Method + " " + r.URL.RequestURI()
		s.log = append(s.log, strings.TrimSpace(key+" "+string(body)))
		var code int
		text, ok := s.answers[key]
		if !ok {
			text = "404"
		}
		_, _ = fmt.Sscan(text, &code)
		w.WriteHeader(code)
		_, _ = io.WriteString(w, strings.TrimSpace(text[3:]))
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *scripted) client(t *testing.T) *Client {
	return newClient(t, Options{BaseURL: s.URL, AccessToken: "T"})
}

func TestDevices(t *testing.T) {
	t.Parallel()
	s := newScripted(t, map[string]string{
		"GET /trails/summary":                `200 [{"deviceid":"5a21cefc","device-nick":"tops_urchin","revision":20,"status":"NEW","status-msg":"m","state-sha":"ab","real-ip":"1.2.3.4","timestamp":"2026-01-02T03:04:05Z","new-member":{}}]`,
		"GET /devices/dev?owner-nick=bob":    `200 {"id":"1"}`,
		"GET /auth/auth_status":              `200 {"type":"DEVICE"}`,
		"PATCH /devices/dev/device-meta":     `200 {"a":null,"b":"1=2"}`,
		"PUT /devices/dev?challenge=a+b%26c": `200 {"id":"1"}`,
		"PUT /devices/dev?challenge=wrong":   `403 {"error":"REST-ERR-ID-3","code":403}`,
	})
	c := s.client(t)
	list, err := c.Devices(t.Context())
	want := []Summary{{ID: "5a21cefc", Nick: "tops_urchin", Revision: 20, Status: "NEW", Message: "m", StateSum: "ab", Address: "1.2.3.4",
		Seen: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}}
	if diff := cmp.Diff(want, list); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	if doc, err := c.Device(t.Context(), "bob/dev"); err != nil || textMember(doc, "id") != "1" {
		t.Errorf("%s, %v", doc.Encode(), err)
	}
	kind, _, err := c.SetDevice(t.Context(), "dev", []string{"a", "b=1=2"})
	if last := s.log[len(s.log)-1]; err != nil || kind != "device-meta" || last != `PATCH /devices/dev/device-meta {"a":null,"b":"1=2"}` {
		t.Errorf("%s, %v: %s", kind, err, last)
	}
	if doc, err := c.Claim(t.Context(), "dev", "a b&c"); err != nil || textMember(doc, "id") != "1" {
		t.Errorf("%v", err)
	}
	if _, err := c.Claim(t.Context(), "dev", "wrong"); err == nil || !strings.Contains(err.Error(), "the challenge is wrong") || !strings.Contains(err.Error(), "REST-ERR-ID-3") {
		t.Errorf("%v", err)
	}
	for _, name := range []string{"", "..", "a/b/c", "a b", "a?x"} {
		if _, err := c.Device(t.Context(), name); fault.Of(err) != fault.BadInput {
			t.Errorf("device %q: %v", name, err)
		}
	}
	if _, _, err := c.SetDevice(t.Context(), "dev", []string{"=x"}); fault.Of(err) != fault.BadInput {
		t.Errorf("%v", err)
	}
	if _, err := c.Device(t.Context(), "unknown"); fault.Of(err) != fault.Missing {
		t.Errorf("%v", err)
	}
}

// A device whose first state is refused exists all the same; its record, which has
// the only copy of its secret, is not lost.
func TestCreateDeviceHalfWay(t *testing.T) {
	t.Parallel()
	s := newScripted(t, map[string]string{
		"POST /devices/":   `200 {"id":"7","prn":"prn:::devices:/7","secret":"s3"}`,
		"POST /auth/login": `200 {"token":""}`,
	})
	record, err := s.client(t).CreateDevice(t.Context(), "d", state.New(state.Spec), newStore(t))
	if !errors.Is(err, errNoToken) || !strings.Contains(err.Error(), "id 7") || textMember(record, "secret") != "s3" || strings.Contains(err.Error(), "s3") {
		t.Errorf("%s, %v", record.Encode(), err)
	}
	want := []string{`POST /devices/ {"nick":"d"}`, `POST /auth/login {"password":"s3","username":"prn:::devices:/7"}`}
	if diff := cmp.Diff(want, s.log); diff != "" {
		t.Error(diff)
	}
}

func TestParseLogSelector(t *testing.T) {
	t.Parallel()
	tests := map[string]LogFilter{
		"":                          {},
		"d1,d2":                     {Devices: "d1,d2"},
		"d1/pantavisor.log":         {Devices: "d1", Sources: "pantavisor.log"},
		"d1/a.log,b.log@INFO,DEBUG": {Devices: "d1", Sources: "a.log,b.log", Levels: "INFO,DEBUG"},
		"d1/a.log@INFO#linux":       {Devices: "d1", Sources: "a.log", Levels: "INFO", Platforms: "linux"},
		"d1@ERROR":                  {Devices: "d1", Levels: "ERROR"},
		"d1#linux":                  {Devices: "d1", Platforms: "linux"},
		"d1/lxc/console.log":        {Devices: "d1", Sources: "lxc/console.log"},
	}
	for text, want := range tests {
		if diff := cmp.Diff(want, ParseLogSelector(text)); diff != "" {
			t.Errorf("%q: %s", text, diff)
		}
	}
}

func TestParseLogTime(t *testing.T) {
	t.Parallel()
	zone := time.FixedZone("", 2*3600)
	now := time.Date(2020, 3, 10, 12, 0, 0, 0, zone)
	tests := map[string]string{
		"2020-01-06":                "2020-01-06T00:00:00+02:00",
		"2020-01-06T12:54:10":       "2020-01-06T12:54:10+02:00",
		"2020-01-06T12:54:10Z":      "2020-01-06T12:54:10Z",
		"2020-01-06T12:54:10+05:30": "2020-01-06T12:54:10+05:30",
		"P10D":                      "2020-02-29T12:00:00+02:00",
		"P1W":                       "2020-03-03T12:00:00+02:00",
		"P1Y2M":                     "2019-01-10T12:00:00+02:00",
		"PT1H30M10S":                "2020-03-10T10:29:50+02:00",
		"P1DT12H":                   "2020-03-09T00:00:00+02:00",
	}
	for text, want := range tests {
		got, err := ParseLogTime(text, now)
		if err != nil || got.Format(time.RFC3339) != want {
			t.Errorf("%s: %s, %v; want %s", text, got.Format(time.RFC3339), err, want)
		}
	}
	for _, text := range []string{"", "P", "PT", "10D", "P-1D", "yesterday", "P1H", "P99999999999D"} {
		if at, err := ParseLogTime(text, now); fault.Of(err) != fault.BadInput {
			t.Errorf("%q: %s, %v", text, at, err)
		}
	}
}

func TestLogQuery(t *testing.T) {
	t.Parallel()
	f := LogFilter{Devices: "5d555d5e80123b31faa3cff2,kitchen", Revisions: "3", Levels: "INFO", From: time.Unix(0, 5e8), To: time.Unix(60, 0)}
	want := "after=1970-01-01T00%3A00%3A00Z&before=1970-01-01T00%3A01%3A00Z&cursor=true&dev=prn%3A%3A%3Adevices%3A%2F5d555d5e80123b31faa3cff2%2Ckitchen&lvl=INFO&page=3000&rev=3&sort=time-created"
	if got := f.query().Encode(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// Following a log shows each entry once, though the Hub sends those of the last
// second again, and goes through all pages.
func TestFollowLogs(t *testing.T) {
	t.Parallel()
	rounds := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		entry := func(id int, ms int) LogEntry {
			return LogEntry{ID: fmt.Sprint(id), TimeCreated: time.UnixMilli(int64(ms)), LogText: fmt.Sprint("line ", id)}
		}
		var page logPage
		switch {
		case r.Method == http.MethodPost:
			page.Entries = []LogEntry{entry(2, 1900)}
		case rounds == 0:
			page = logPage{"next", []LogEntry{entry(1, 1100)}}
		default:
			after, err := time.Parse(time.RFC3339, r.URL.Query().Get("after"))
			if err != nil {
				t.Error(err)
			}
			for _, e := range []LogEntry{entry(1, 1100), entry(2, 1900), entry(2+rounds, 1900+1000*rounds)} {
				if !e.TimeCreated.Before(after) {
					page.Entries = append(page.Entries, e)
				}
			}
		}
		if r.Method == http.MethodGet {
			rounds++
		}
		_ = json.NewEncoder(w).Encode(page)
	}))
	defer srv.Close()
	enough := errors.New("enough")
	var got []string
	c := newClient(t, Options{BaseURL: srv.URL, AccessToken: "T"})
	err := c.Logs(t.Context(), LogFilter{}, time.Nanosecond, func(e LogEntry) error {
		got = append(got, e.LogText)
		if len(got) == 4 {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) || strings.Join(got, ",") != "line 1,line 2,line 3,line 4" {
		t.Errorf("%q, %v", got, err)
	}
	got = nil
	rounds = 0
	if err := c.Logs(t.Context(), LogFilter{}, 0, func(e LogEntry) error { got = append(got, e.LogText); return nil }); err != nil || len(got) != 2 {
		t.Errorf("%q, %v", got, err)
	}
}

func TestBadOptions(t *testing.T) {
	t.Parallel()
	for _, bad := range []Options{{BaseURL: "host"}, {RepoBaseURL: "ftp://x"}, {Proxy: "maybe"}, {Attempts: -1}} {
		if _, err := New(bad); fault.Of(err) != fault.BadInput {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

// Certificates are verified; Insecure is for API calls only.
func TestTLS(t *testing.T) {
	t.Parallel()
	var srv *httptest.Server
	srv = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"json-get-url":"%[1]s/s","objects-endpoint":"%[1]s/o","signed-geturl":"%[1]s/content","size":"1"}`, srv.URL)
	}))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0) // of the handshakes that are meant to fail
	srv.StartTLS()
	defer srv.Close()
	ref := Reference{URL: mustRef(t, srv.URL+"/x").URL}
	_, err := newClient(t, Options{}).RemoteInfo(t.Context(), ref)
	if fault.Of(err) != fault.Unreachable || !strings.Contains(err.Error(), "certificate") || strings.Contains(err.Error(), "attempt") {
		t.Errorf("unknown certificate: %v", err)
	}
	c := newClient(t, Options{Insecure: true})
	info, err := c.RemoteInfo(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Fetch(t.Context(), info, []state.Object{{Path: "k", Sum: sumOf([]byte("k"))}}, newStore(t), false)
	if err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("signed URL: %v", err)
	}
}

// A POST that is redirected would turn into a GET, and a token must not follow a
// redirect to another host or lose its TLS.
func TestRedirects(t *testing.T) {
	t.Parallel()
	var got string
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.Method + " " + r.Header.Get("Authorization")
		_, _ = io.WriteString(w, `{}`)
	}))
	defer other.Close()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL, http.StatusMovedPermanently)
	}))
	defer srv.Close()
	c := newClient(t, Options{BaseURL: srv.URL, AccessToken: "T"})
	u := mustRef(t, srv.URL+"/x").URL
	if _, err := c.do(t.Context(), &call{method: http.MethodGet, url: u}, 200); err != nil || got != "GET " {
		t.Errorf("GET: %q, %v", got, err)
	}
	got = ""
	if _, err := c.do(t.Context(), &call{method: http.MethodPost, url: u, body: []byte("{}")}, 200); !errors.Is(err, errRedirect) || got != "" {
		t.Errorf("POST: %q, %v", got, err)
	}
}

// A description that comes from a foreign host by a redirect gets no access token
// for the URLs that it names; one of a host of the same name does.
func TestAccessTokenStaysWhereItIsMeantFor(t *testing.T) {
	t.Parallel()
	foreign := newFake(t)
	foreign.hold(map[string][]byte{"a": pattern(100, 1)})
	var got []string
	foreign.fault = func(_ http.ResponseWriter, r *http.Request) bool {
		got = append(got, r.Header.Get("Authorization"))
		return false
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, foreign.URL+r.URL.Path, http.StatusFound)
	}))
	defer srv.Close()
	named := strings.Replace(srv.URL, "127.0.0.1", "localhost", 1)
	c := newClient(t, Options{AccessToken: "T"})
	_, err := c.Get(t.Context(), mustRef(t, named+"/trails/t"), newStore(t), GetOptions{})
	if !errors.Is(err, errRedirect) || strings.Join(got, "") != "" {
		t.Errorf("%v, tokens %q", err, got)
	}
	if _, err := c.Get(t.Context(), mustRef(t, srv.URL+"/trails/t"), newStore(t), GetOptions{}); err != nil {
		t.Errorf("within one host: %v", err)
	}
	if _, err := newClient(t, Options{}).Get(t.Context(), mustRef(t, named+"/trails/t"), newStore(t), GetOptions{}); err != nil {
		t.Errorf("without a token: %v", err)
	}
}

// Debugging shows what happens and no secret.
func TestDebug(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	f := newFake(t)
	data := pattern(100, 1)
	f.hold(map[string][]byte{"k": data})
	c := newClient(t, Options{Debug: &out, AccessToken: "SECRET"})
	if _, err := c.Get(t.Context(), f.ref(), newStore(t), GetOptions{}); err != nil {
		t.Fatal(err)
	}
	text := out.String()
	if n := strings.Count(text, "\n"); n != 4 || !strings.Contains(text, "GET "+f.URL+"/trails/t/.pvrremote token=true length=0 -> 200") {
		t.Errorf("%d lines:\n%s", n, text)
	}
	if strings.Contains(text, "SECRET") || strings.Contains(text, "sig=") {
		t.Errorf("secrets are shown:\n%s", text)
	}
}
