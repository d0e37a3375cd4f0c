package remote

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/revision/state"
)

// leftovers returns the files of a store that are not objects.
func leftovers(t *testing.T, store *objects.Store) []string {
	t.Helper()
	entries, err := os.ReadDir(store.Dir())
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		if !state.IsSum(e.Name()) {
			out = append(out, e.Name())
		}
	}
	return out
}

// holdsAll fails unless the store holds every object of a state undamaged.
func holdsAll(t *testing.T, store *objects.Store, st *state.State) {
	t.Helper()
	for _, sum := range st.Sums() {
		if err := store.Verify(t.Context(), sum); err != nil {
			t.Error(err)
		}
	}
	if extra := leftovers(t, store); len(extra) > 0 {
		t.Errorf("left over: %q", extra)
	}
}

func TestThousandObjects(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	st, store := state.New(state.Spec), newStore(t)
	for i := range 1000 {
		sum, err := store.Put(t.Context(), strings.NewReader(fmt.Sprintf("object %d", i)), "")
		if err == nil {
			err = st.SetObject(fmt.Sprintf("app/%d", i), sum)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	posted, err := newClient(t, Options{}).Post(t.Context(), f.ref(), st, store, PostOptions{Revision: NextRevision})
	if err != nil {
		t.Fatal(err)
	}
	if want := "Successfully posted Revision 1 (" + sumOf(st.Encode())[:8] + ") to device id t"; posted.String() != want {
		t.Errorf("got %q, want %q", posted, want)
	}
	if f.peak > 5 {
		t.Errorf("%d uploads at the same time", f.peak)
	}
	f.peak = 0
	fresh := newStore(t)
	got, err := newClient(t, Options{}).Get(t.Context(), f.ref(), fresh, GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got.Objects != 1000 || !state.Equal(got.State, st) || f.peak > 4 {
		t.Errorf("%d objects, at most %d at the same time", got.Objects, f.peak)
	}
	holdsAll(t, fresh, st)
}

// A remote that misbehaves for a while is not a reason to fail.
func TestDownloadSurvives(t *testing.T) {
	t.Parallel()
	data := pattern(300_000, 1)
	url := "/local-s3/" + sumOf(data)
	record := "/trails/t/steps/0/objects/"
	other := pattern(300_000, 2)
	slow := func(w http.ResponseWriter, r *http.Request) {
		for i := 0; i < len(data); i += 30_000 {
			_, _ = w.Write(data[i : i+30_000])
			_ = http.NewResponseController(w).Flush()
		}
	}
	tests := []struct {
		name     string
		times    int
		prefix   string
		answer   func(http.ResponseWriter, *http.Request)
		requests int // for content
	}{
		{"500 thrice", 3, url, status(500), 4},
		{"500 thrice at the record", 3, record, status(500), 1},
		{"500 thrice at the description", 3, "/trails/t/.pvrremote", status(500), 1},
		{"signature ran out", 1, url, status(403), 2},
		{"truncated once", 1, url, cut(data, 1000), 2},
		{"truncated before the first byte", 3, url, cut(data, 0), 4},
		{"truncated again and again", 20, url, cut(data, 10_000), 21},
		{"hang", 1, url, hang(data, 200_000), 2},
		{"wrong bytes once", 1, url, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(other) }, 2},
		{"slow", 1, url, slow, 1},
		{"redirect", 1, url, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.String(), http.StatusFound)
		}, 2},
		{"too many requests", 1, url, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(http.StatusTooManyRequests)
		}, 2},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			f := newFake(t)
			st := f.hold(map[string][]byte{"bsp/kernel.img": data})
			f.only(tc.times, http.MethodGet, tc.prefix, tc.answer)
			store := newStore(t)
			got, err := newClient(t, Options{Timeout: 300 * time.Millisecond}).Get(t.Context(), f.ref(), store, GetOptions{})
			if err != nil || got.Objects != 1 {
				t.Fatalf("%+v, %v", got, err)
			}
			holdsAll(t, store, st)
			if n := f.requests("GET " + url); n != tc.requests {
				t.Errorf("%d requests for the content, want %d:\n%s", n, tc.requests, strings.Join(f.log, "\n"))
			}
		})
	}
}

// What will not become better ends with a plain error of the right kind, and with
// nothing that looks like an object.
func TestDownloadFails(t *testing.T) {
	t.Parallel()
	data := pattern(100_000, 1)
	url := "/local-s3/" + sumOf(data)
	longer := append(append([]byte(nil), data...), "and more"...)
	tests := []struct {
		name     string
		prefix   string
		answer   func(http.ResponseWriter, *http.Request)
		kind     fault.Kind
		text     string
		requests int
		timeout  time.Duration // 0: longer than the answer takes
	}{
		{"wrong bytes", url, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(pattern(100_000, 9)) }, fault.Digest, "content differs", 2, 0},
		{"too many bytes", url, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(longer) }, fault.Digest, "more than 100000 bytes", 1, 0},
		{"too few bytes", url, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(data[:10]) }, fault.Unreachable, "after 10 of 100000 bytes", 4, 0},
		{"always 500", url, status(500), fault.Unreachable, "giving up after attempt 4", 4, 0},
		{"hang", url, hang(data, 0), fault.Unreachable, "sends nothing more", 4, 100 * time.Millisecond},
		{"one byte now and then", url, trickle(data), fault.Unreachable, "sends nothing more", 4, 100 * time.Millisecond},
		{"gone", url, status(404), fault.Missing, "404 Not Found", 1, 0},
		{"endless redirect", url, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.String(), http.StatusFound)
		}, fault.Unreachable, "unusable redirect", 10, 0},
		{"no record", "/trails/t/steps/0/objects/", status(404), fault.Missing, "bsp/kernel.img", 0, 0},
		{"record of another object", "/trails/t/steps/0/objects/", func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"sha256sum":%q,"signed-geturl":"http://x/"}`, sumOf(nil))
		}, fault.Unreachable, "its sha256sum is", 0, 0},
		{"error as a state", "/trails/t/steps/0/state", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"error":"REST-ERR-ID-1","code":500}`)
		}, fault.Unreachable, "error report", 0, 0},
		{"no description", "/trails/t/.pvrremote", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `[]`) }, fault.Unreachable, "is this the URL of a repository?", 0, 0},
		{"a web page", "/trails/t/.pvrremote", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `<html>`) }, fault.Unreachable, ".pvrremote", 0, 0},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			f := newFake(t)
			f.hold(map[string][]byte{"bsp/kernel.img": data})
			f.only(1000, http.MethodGet, tc.prefix, tc.answer)
			store := newStore(t)
			_, err := newClient(t, Options{Timeout: cmp.Or(tc.timeout, time.Minute)}).Get(t.Context(), f.ref(), store, GetOptions{})
			if err == nil || !strings.Contains(err.Error(), tc.text) || fault.Of(err) != tc.kind {
				t.Errorf("%v (%v), want %v and %q", err, fault.Of(err), tc.kind, tc.text)
			}
			if n := f.requests("GET " + url); n != tc.requests {
				t.Errorf("%d requests for the content, want %d", n, tc.requests)
			}
			if list, err := store.List(); err != nil || len(list) > 0 {
				t.Errorf("objects %q, %v", list, err)
			}
			if strings.Contains(fmt.Sprint(err), "sig=") {
				t.Errorf("the message shows a signature: %v", err)
			}
		})
	}
}

// No remote fills the disk: what it says of an object's size is bounded, and what it
// sends without saying so.
func TestDownloadIsBounded(t *testing.T) {
	t.Parallel()
	data := pattern(100_000, 1)
	for name, size := range map[string]string{"told": `"9000000000000000000"`, "untold": `""`} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			f.hold(map[string][]byte{"a": data})
			f.only(1, http.MethodGet, "/trails/t/steps/0/objects/", func(w http.ResponseWriter, _ *http.Request) {
				fmt.Fprintf(w, `{"size":%s,"signed-geturl":"%s/local-s3/%s?sig=a%%2Fb+c&x=1"}`, size, f.URL, sumOf(data))
			})
			endless := func(w http.ResponseWriter, _ *http.Request) {
				for {
					if _, err := w.Write(data); err != nil {
						return
					}
				}
			}
			f.only(1, http.MethodGet, "/local-s3/", endless)
			store := newStore(t)
			_, err := newClient(t, Options{MaxObject: 150_000}).Get(t.Context(), f.ref(), store, GetOptions{})
			if err == nil || !strings.Contains(err.Error(), "150000") {
				t.Errorf("%v", err)
			}
			if left := leftovers(t, store); len(left) > 0 {
				t.Errorf("%q is left", left)
			}
		})
	}
}

// One object fails; those that arrived stay, and the next run fetches the rest.
func TestDownloadGoesOn(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	a, b := pattern(10_000, 1), pattern(200_000, 2)
	st := f.hold(map[string][]byte{"a": a, "b": b})
	f.only(4, http.MethodGet, "/local-s3/"+sumOf(b), status(500))
	store := newStore(t)
	got, err := newClient(t, Options{}).Get(t.Context(), f.ref(), store, GetOptions{})
	if err == nil || got.Objects != 1 || !store.Has(sumOf(a)) {
		t.Fatalf("%+v, %v", got, err)
	}
	// The object that is here gets damaged: it is fetched again.
	if err := os.WriteFile(filepath.Join(store.Dir(), sumOf(a)), pattern(10_000, 3), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err = newClient(t, Options{}).Get(t.Context(), f.ref(), store, GetOptions{}); err != nil || got.Objects != 2 {
		t.Fatalf("%+v, %v", got, err)
	}
	holdsAll(t, store, st)
}

func TestResume(t *testing.T) {
	t.Parallel()
	data := pattern(100_000, 1)
	tests := []struct {
		name   string
		there  []byte
		answer func(http.ResponseWriter, *http.Request)
		want   []string // ranges asked for
	}{
		{"half", data[:50_000], nil, []string{"bytes=50000-"}},
		{"all", data, nil, nil},
		{"damaged", pattern(50_000, 5), nil, []string{"bytes=50000-", ""}},
		{"longer", append(pattern(1, 1), data...), nil, []string{""}},
		{"no ranges", data[:50_000], func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(data) }, []string{"bytes=50000-"}},
		{"another range", data[:50_000], func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", "bytes 10-99999/100000")
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(data[10:])
		}, []string{"bytes=50000-", ""}},
		{"refused range", data[:50_000], status(416), []string{"bytes=50000-", ""}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			f := newFake(t)
			st := f.hold(map[string][]byte{"k": data})
			if tc.answer != nil {
				f.only(1, http.MethodGet, "/local-s3/", tc.answer)
			}
			store := newStore(t)
			if err := os.WriteFile(partialName(store.Dir(), sumOf(data)), tc.there, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := newClient(t, Options{}).Get(t.Context(), f.ref(), store, GetOptions{}); err != nil {
				t.Fatal(err)
			}
			holdsAll(t, store, st)
			var got []string
			for _, line := range f.log {
				if rest, ok := strings.CutPrefix(line, "GET /local-s3/"); ok {
					_, rng, _ := strings.Cut(rest, " ")
					got = append(got, rng)
				}
			}
			if fmt.Sprint(got) != fmt.Sprint(tc.want) {
				t.Errorf("ranges %q, want %q", got, tc.want)
			}
			if info, err := os.Stat(filepath.Join(store.Dir(), sumOf(data))); err != nil || info.Mode().Perm() != objects.Perm {
				t.Errorf("%v, %v", info, err)
			}
		})
	}
}

// A process is killed in the middle of an object; the next one asks for the rest.
func TestResumeAfterKill(t *testing.T) {
	t.Parallel()
	if dir := os.Getenv("REMOTE_TEST_STORE"); dir != "" {
		store, err := objects.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		_, err = newClient(t, Options{}).Get(t.Context(), mustRef(t, os.Getenv("REMOTE_TEST_URL")), store, GetOptions{})
		t.Fatalf("not killed: %v", err)
	}
	data := pattern(400_000, 1)
	f := newFake(t)
	st := f.hold(map[string][]byte{"bsp/kernel.img": data})
	f.only(1, http.MethodGet, "/local-s3/", hang(data, 300_000))
	store := newStore(t)
	cmd := exec.Command(os.Args[0], "-test.run=^TestResumeAfterKill$")
	cmd.Env = append(os.Environ(), "REMOTE_TEST_STORE="+store.Dir(), "REMOTE_TEST_URL="+f.URL+"/trails/t")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, func() bool {
		info, err := os.Stat(partialName(store.Dir(), sumOf(data)))
		return err == nil && info.Size() == 300_000
	})
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if list, err := store.List(); err != nil || len(list) != 0 {
		t.Fatalf("objects after the kill: %q, %v", list, err)
	}
	if _, err := newClient(t, Options{}).Get(t.Context(), f.ref(), store, GetOptions{}); err != nil {
		t.Fatal(err)
	}
	holdsAll(t, store, st)
	if last := f.log[len(f.log)-1]; !strings.HasSuffix(last, " bytes=300000-") {
		t.Errorf("last request %q", last)
	}
}

// until waits for a condition that another process brings about.
func until(t *testing.T, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for !done() {
		if err := wait(ctx, time.Millisecond); err != nil {
			t.Fatal("nothing happened")
		}
	}
}

// While one process works on an object, another fetches it without disturbing it.
func TestTwoWriters(t *testing.T) {
	t.Parallel()
	data := pattern(100_000, 1)
	f := newFake(t)
	st := f.hold(map[string][]byte{"k": data})
	store := newStore(t)
	held, err := openPartial(store, sumOf(data))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := held.Write(data[:10]); err != nil {
		t.Fatal(err)
	}
	if _, err := newClient(t, Options{}).Get(t.Context(), f.ref(), store, GetOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := leftovers(t, store); len(got) != 1 {
		t.Errorf("left over: %q", got)
	}
	if _, err := held.Write(data[10:]); err != nil {
		t.Fatal(err)
	}
	if err := held.commit(); err != nil {
		t.Fatal(err)
	}
	held.close()
	holdsAll(t, store, st)
}

func TestCancel(t *testing.T) {
	t.Parallel()
	data := pattern(100_000, 1)
	f := newFake(t)
	f.hold(map[string][]byte{"k": data})
	ctx, cancel := context.WithCancel(t.Context())
	f.only(1, http.MethodGet, "/local-s3/", func(w http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})
	_, err := newClient(t, Options{}).Get(ctx, f.ref(), newStore(t), GetOptions{})
	if !errors.Is(err, context.Canceled) || fault.Of(err) != fault.Cancelled {
		t.Errorf("%v (%v)", err, fault.Of(err))
	}
}

// A full disk is not the remote's fault, and asking again does not help.
func TestStoreNotWritable(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	data := pattern(1000, 1)
	f.hold(map[string][]byte{"k": data})
	store := newStore(t)
	if err := os.Mkdir(partialName(store.Dir(), sumOf(data)), 0o755); err != nil {
		t.Fatal(err)
	}
	_, err := newClient(t, Options{}).Get(t.Context(), f.ref(), store, GetOptions{})
	if fault.Of(err) != fault.IO || f.requests("GET /local-s3/") != 0 {
		t.Errorf("%v (%v)", err, fault.Of(err))
	}
}

func TestUpload(t *testing.T) {
	t.Parallel()
	data := pattern(300_000, 1)
	url := "/local-s3/" + sumOf(data)
	announce := "/trails/t/steps/0/objects/"
	tests := []struct {
		name   string
		times  int
		prefix string
		method string
		answer func(http.ResponseWriter, *http.Request)
		kind   fault.Kind // 0: it works
		puts   int
	}{
		{"500 thrice", 3, url, "PUT", status(500), 0, 4},
		{"500 thrice at the announcement", 3, announce, "POST", status(500), 0, 1},
		{"signature ran out", 1, url, "PUT", status(403), 0, 2},
		{"connection dropped", 1, url, "PUT", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 0, 2},
		{"hang", 1, url, "PUT", func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		}, 0, 2},
		{"always 500", 99, url, "PUT", status(500), fault.Unreachable, 4},
		{"refused", 99, url, "PUT", status(400), fault.BadInput, 1},
		{"announcement refused", 99, announce, "POST", status(400), fault.BadInput, 0},
		{"over quota", 99, announce, "POST", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(500)
			_, _ = io.WriteString(w, `{"error":"REST-ERR-ID-7","code":500,"msg":"quota"}{"error":"x"}`)
		}, fault.Unreachable, 0},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			f := newFake(t)
			f.only(tc.times, tc.method, tc.prefix, tc.answer)
			st, store := state.New(state.Spec), newStore(t, string(data))
			if err := st.SetObject("k", sumOf(data)); err != nil {
				t.Fatal(err)
			}
			_, err := newClient(t, Options{Timeout: 300 * time.Millisecond}).Post(t.Context(), f.ref(), st, store, PostOptions{Revision: NextRevision})
			if fault.Of(err) != tc.kind {
				t.Errorf("%v (%v), want %v", err, fault.Of(err), tc.kind)
			}
			if n := f.requests("PUT " + url); n != tc.puts {
				t.Errorf("%d uploads, want %d", n, tc.puts)
			}
			if posts := f.requests("POST /trails/t/steps "); tc.kind != 0 && posts > 0 {
				t.Error("the state was posted without its object")
			}
		})
	}
}

// Nothing is announced before all objects are known to be right.
func TestUploadOfDamagedStore(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	st, store := state.New(state.Spec), newStore(t, "good")
	for path, sum := range map[string]string{"a": sumOf([]byte("good")), "b": sumOf([]byte("bad")), "c": sumOf([]byte("missing"))} {
		if err := st.SetObject(path, sum); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(store.Dir(), sumOf([]byte("bad"))), []byte("BAD"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := newClient(t, Options{}).Post(t.Context(), f.ref(), st, store, PostOptions{})
	if !errors.Is(err, objects.ErrMismatch) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("both defects are expected: %v", err)
	}
	if f.requests("POST") != 0 {
		t.Errorf("requests: %q", f.log)
	}
}

func TestPostRefusals(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		times  int
		answer func(http.ResponseWriter, *http.Request)
		opt    PostOptions
		text   string // "" works
		posts  int
	}{
		{"number taken by another", 1, status(500), PostOptions{Revision: NextRevision}, "", 2},
		{"wrong number", 99, status(500), PostOptions{Revision: 4}, "500 Internal Server Error", 1},
		{"gateway", 99, status(502), PostOptions{Revision: NextRevision}, "502 Bad Gateway", 1},
		{"not ready", 99, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(503)
		}, PostOptions{}, `Endpoint reported "Not ready"; retry in: 7 seconds`, 1},
		{"receipt without sum", 1, func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"rev":3,"trail-id":"t"}`)
		}, PostOptions{}, `"state-sha" is missing`, 1},
		{"lost answer", 1, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, PostOptions{Revision: NextRevision}, "EOF", 1},
		{"broken envelope", 0, nil, PostOptions{Envelope: "[]"}, "envelope", 0},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			f := newFake(t)
			f.only(tc.times, http.MethodPost, "/trails/t/steps", tc.answer)
			_, err := newClient(t, Options{}).Post(t.Context(), f.ref(), state.New(state.Spec), newStore(t), tc.opt)
			if err == nil != (tc.text == "") || err != nil && !strings.Contains(err.Error(), tc.text) {
				t.Errorf("%v, want %q", err, tc.text)
			}
			if n := f.requests("POST /trails/t/steps"); n != tc.posts {
				t.Errorf("%d posts, want %d", n, tc.posts)
			}
		})
	}
}

func TestLocalRevision(t *testing.T) {
	t.Parallel()
	p, err := readPosted([]byte(`{"rev":-1,"revlocal":"locals/pvr-1","state-sha":"0123456789","trail-id":"d"}`))
	if err != nil || p.String() != "Successfully posted Revision locals/pvr-1 (01234567) to device id d" {
		t.Errorf("%v, %v", p, err)
	}
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	ref := f.ref()
	f.Close()
	_, err := newClient(t, Options{}).Get(t.Context(), ref, newStore(t), GetOptions{})
	if fault.Of(err) != fault.Unreachable || !strings.Contains(err.Error(), "refused") {
		t.Errorf("%v (%v)", err, fault.Of(err))
	}
}

func TestProgress(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	a, b := pattern(400_000, 1), pattern(100_000, 2)
	f.hold(map[string][]byte{"a": a, "b": b, "c": b, "d": []byte("here")})
	f.only(1, http.MethodGet, "/local-s3/"+sumOf(a), cut(a, 100))
	var ends []string
	var last Event
	c := newClient(t, Options{Progress: func(e Event) {
		if e.Status == Failed || e.AllDone > e.AllTotal || e.Done > e.Total {
			t.Errorf("%+v", e)
		}
		if e.Phase == PhaseDownload && e.Status != Running {
			ends = append(ends, fmt.Sprintf("%s %s %d/%d", e.Path, e.Status, e.Done, e.Total))
			last = e
		}
	}})
	if _, err := c.Get(t.Context(), f.ref(), newStore(t, "here"), GetOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(ends, ", "); got != "d OK cache 0/0, a OK 400000/400000, b OK 100000/100000" {
		t.Error(got)
	}
	if left, ok := last.Remaining(); last.AllDone != 500_000 || last.AllTotal != 500_000 || !ok || left != 0 {
		t.Errorf("%+v, %v left", last, left)
	}
}
