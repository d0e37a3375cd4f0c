package remote

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pantavisor/pantavisor/revision/canon"
	"github.com/pantavisor/pantavisor/revision/state"
)

// fake is a remote in memory that checks what it gets and can be told to misbehave.
type fake struct {
	*httptest.Server
	t testing.TB

	mu      sync.Mutex
	state   []byte
	objects map[string][]byte
	log     []string // "METHOD path range"
	active  int
	peak    int // of requests for content at the same time

	// fault is asked first; true means that it answered.
	fault func(w http.ResponseWriter, r *http.Request) bool
}

func newFake(t testing.TB) *fake {
	f := &fake{t: t, state: []byte(`{"#spec":"` + state.Spec + `"}`), objects: map[string][]byte{}}
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	return f
}

func sumOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// hold gives the remote a state with one object a path.
func (f *fake) hold(files map[string][]byte) *state.State {
	st := state.New(state.Spec)
	for path, data := range files {
		if err := st.SetObject(path, sumOf(data)); err != nil {
			f.t.Fatal(err)
		}
		f.objects[sumOf(data)] = data
	}
	f.state = st.Encode()
	return st
}

func (f *fake) ref() Reference { return Reference{URL: mustRef(f.t, f.URL+"/trails/t").URL} }

// requests counts the requests that begin with a text.
func (f *fake) requests(prefix string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, line := range f.log {
		if strings.HasPrefix(line, prefix) {
			n++
		}
	}
	return n
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.log = append(f.log, strings.TrimSpace(r.Method+" "+r.URL.RequestURI()+" "+r.Header.Get("Range")))
	fault := f.fault
	f.mu.Unlock()
	if fault != nil && fault(w, r) {
		return
	}
	switch path := r.URL.Path; {
	case path == "/trails/t/.pvrremote":
		fmt.Fprintf(w, `{"pvr-spec":"pvr-pantahub-1","json-get-url":"%[1]s/trails/t/steps/0/state","json-key":"state","objects-endpoint":"%[1]s/trails/t/steps/0/objects","post-url":"%[1]s/trails/t/steps"}`, f.URL)
	case path == "/trails/t/steps/0/state":
		_, _ = w.Write(f.state)
	case path == "/trails/t/steps" && r.Method == http.MethodPost:
		f.newStep(w, r)
	case strings.HasPrefix(path, "/trails/t/steps/0/objects/"):
		f.record(w, r, strings.TrimPrefix(path, "/trails/t/steps/0/objects/"))
	case strings.HasPrefix(path, "/local-s3/"):
		f.content(w, r, strings.TrimPrefix(path, "/local-s3/"))
	default:
		http.NotFound(w, r)
	}
}

func (f *fake) record(w http.ResponseWriter, r *http.Request, sum string) {
	size := -1
	if r.Method == http.MethodPost {
		var a announcement
		if err := json.NewDecoder(r.Body).Decode(&a); err != nil {
			http.Error(w, "bad body", http.StatusBadRequest)
			return
		}
		sum = a.Sha256
		size, _ = strconv.Atoi(a.Size)
	}
	f.mu.Lock()
	data, ok := f.objects[sum]
	f.mu.Unlock()
	switch {
	case ok:
		size = len(data)
	case r.Method == http.MethodGet:
		http.NotFound(w, r)
		return
	}
	if ok && r.Method == http.MethodPost {
		w.Header().Set(objectType, "object")
		w.WriteHeader(http.StatusConflict)
	}
	url := f.URL + "/local-s3/" + sum + "?sig=a%2Fb+c&x=1"
	fmt.Fprintf(w, `{"id":%q,"sha256sum":%[1]q,"size":"%d","signed-geturl":%q,"signed-puturl":%[3]q}`, sum, size, url)
}

func (f *fake) content(w http.ResponseWriter, r *http.Request, sum string) {
	f.enter(1)
	defer f.enter(-1)
	if r.URL.RawQuery != "sig=a%2Fb+c&x=1" || r.Header.Get("Authorization") != "" {
		f.t.Errorf("signed URL used with query %q and a token %q", r.URL.RawQuery, r.Header.Get("Authorization"))
	}
	if r.Method == http.MethodPut {
		data, err := io.ReadAll(r.Body)
		if err != nil || sumOf(data) != sum || r.ContentLength != int64(len(data)) {
			http.Error(w, "wrong content", http.StatusBadRequest)
			return
		}
		f.mu.Lock()
		f.objects[sum] = data
		f.mu.Unlock()
		return
	}
	f.mu.Lock()
	data := f.objects[sum]
	f.mu.Unlock()
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
}

func (f *fake) enter(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.active += n
	f.peak = max(f.peak, f.active)
}

// newStep accepts a state as a Hub does: only if all of its objects are there.
func (f *fake) newStep(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	doc, err := canon.Parse(body)
	st, _ := doc.Get("state")
	parsed, errState := state.Parse(st.Encode())
	if err != nil || errState != nil {
		http.Error(w, `{"error":"REST-ERR-ID-1","code":500}`, http.StatusInternalServerError)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, sum := range parsed.Sums() {
		if _, ok := f.objects[sum]; !ok {
			f.t.Errorf("state posted before object %s", sum)
		}
	}
	f.state = parsed.Encode()
	fmt.Fprintf(w, `{"rev":1,"state-sha":%q,"trail-id":"t"}`, sumOf(f.state))
}

// only makes a fault for the first n requests that match.
func (f *fake) only(n int, method, prefix string, answer func(w http.ResponseWriter, r *http.Request)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	left, next := n, f.fault
	f.fault = func(w http.ResponseWriter, r *http.Request) bool {
		f.mu.Lock()
		hit := left > 0 && r.Method == method && strings.HasPrefix(r.URL.Path, prefix)
		if hit {
			left--
		}
		f.mu.Unlock()
		if hit {
			answer(w, r)
			return true
		}
		return next != nil && next(w, r)
	}
}

// status answers with a status and nothing else.
func status(code int) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// cut announces the whole object, sends a part and drops the connection.
func cut(data []byte, n int) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, r *http.Request) {
		rest := data
		var from int
		if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from); err == nil {
			rest = data[from:]
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(data)-1, len(data)))
		}
		w.Header().Set("Accept-Ranges", "bytes")
		w.Header().Set("Content-Length", strconv.Itoa(len(rest)))
		if from > 0 {
			w.WriteHeader(http.StatusPartialContent)
		}
		_, _ = w.Write(rest[:min(n, len(rest))])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
}

// hang sends a part and then nothing until the client leaves.
func hang(data []byte, n int) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		_, _ = w.Write(data[:n])
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
}

// trickle sends a byte at a time, each well within the time-out, until the client
// leaves.
func trickle(data []byte) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for i := range data {
			_, _ = w.Write(data[i : i+1])
			_ = http.NewResponseController(w).Flush()
			select {
			case <-r.Context().Done():
				return
			case <-tick.C:
			}
		}
	}
}

// pattern returns n bytes that repeat late.
func pattern(n int, seed byte) []byte {
	out := make([]byte, n)
	x := uint32(seed) + 1
	for i := range out {
		x = x*1664525 + 1013904223
		out[i] = byte(x >> 24)
	}
	return out
}
