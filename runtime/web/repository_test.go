package web

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/revision/remote"
	"github.com/pantavisor/pantavisor/revision/state"
)

// host is a client of the server with an empty store of objects.
func (w *world) pvr(token string) (*remote.Client, remote.Reference, *objects.Store) {
	w.Helper()
	store, err := objects.Create(w.TempDir())
	if err != nil {
		w.Fatal(err)
	}
	c, err := remote.New(remote.Options{ConfigDir: w.TempDir(), AccessToken: token})
	if err != nil {
		w.Fatal(err)
	}
	ref, err := c.Reference(w.web.URL + "/cgi-bin/pvr")
	if err != nil {
		w.Fatal(err)
	}
	return c, ref, store
}

// TestCloneAndPost clones the device with the code of pvr, changes a part and posts it,
// with and without a token.
func TestCloneAndPost(t *testing.T) {
	t.Parallel()
	for _, token := range []string{"", "a secret of some length"} {
		w := device(t, "{}", func(o *Options) { o.Token = token })
		c, ref, store := w.pvr(token)
		got, err := c.Get(t.Context(), ref, store, remote.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		running, err := w.steps.State("0")
		if err != nil {
			t.Fatal(err)
		}
		if string(got.State.Raw()) != string(running) || got.Objects != 1 {
			t.Errorf("cloned %d objects and %s", got.Objects, got.State.Raw())
		}
		content := strings.Repeat("root of web 2", 10_000)
		sum, err := store.Put(t.Context(), strings.NewReader(content), "")
		if err != nil {
			t.Fatal(err)
		}
		next := got.State.Clone()
		if err := next.SetObject("web/root.squashfs", sum); err != nil {
			t.Fatal(err)
		}
		receipt, err := c.Post(t.Context(), ref, next, store, remote.PostOptions{Message: "second", Revision: remote.NextRevision})
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(receipt.Revision, "locals/pvr-") {
			t.Errorf("receipt %+v", receipt)
		}
		stored, err := w.steps.State(receipt.Revision)
		if err != nil {
			t.Fatal(err)
		}
		if st, err := state.Parse(stored); err != nil || !state.Equal(st, next) {
			t.Errorf("stored %s", stored)
		}
		if note, _ := w.steps.CommitMsg(receipt.Revision); string(note) != "second" {
			t.Errorf("message %q", note)
		}
		if text, err := os.ReadFile(filepath.Join(w.dir, "storage/objects", sum)); err != nil || string(text) != content {
			t.Errorf("object: %v", err)
		}
		if w.engine.heard() != "LOCAL_RUN "+receipt.Revision {
			t.Errorf("the device heard %q", w.engine.heard())
		}
	}
}

// TestPostWhileBusy wants the error to name the revision that can be run later.
func TestPostWhileBusy(t *testing.T) {
	t.Parallel()
	w := device(t, "{}", nil)
	w.engine.busy = 1000
	told := w.fails(503, "is stored, but does not run", "POST", "/cgi-bin/pvr/steps", `{"state":{"#spec":"pantavisor-service-system@1"}}`)
	rev, _, _ := strings.Cut(told[strings.Index(told, "locals/"):], " ")
	w.engine.busy = 0
	w.ok("POST", "/cgi-bin/pvtx/run?rev="+rev, "")
}

func TestBadPosts(t *testing.T) {
	t.Parallel()
	w := device(t, "{}", nil)
	for body, says := range map[string]string{"": "reading the revision", "[]": "missing", `{"post":{}}`: `"state" is missing`, `{"state":{}}`: "bad format"} {
		_, _, text := w.do("POST", "/cgi-bin/pvr/steps", strings.NewReader(body))
		if !strings.Contains(w.member(text, "error"), says) {
			t.Errorf("%s: %s", body, text)
		}
	}
	w.fails(400, "sha256sum", "POST", "/cgi-bin/pvr/objects/", `{"sha256sum":"../x"}`)
	w.fails(404, "no object", "GET", "/cgi-bin/pvr/objects/x", "")
	if w.engine.heard() != "" {
		t.Errorf("the device heard %q", w.engine.heard())
	}
}

// TestDownloadGoesOn asks for the rest of an object.
func TestDownloadGoesOn(t *testing.T) {
	t.Parallel()
	w := device(t, "{}", nil)
	sum := objectOf(w)
	path := contentPath + sum
	code, head, text := w.do("GET", path, nil, "Range: bytes=5-", `If-Range: "`+sum+`"`)
	if code != http.StatusPartialContent || text != "of web 1" || head.Get("Content-Range") != "bytes 5-12/13" {
		t.Errorf("%d %v %q", code, head, text)
	}
	for _, r := range []string{"bytes=13-", "bytes=5-6", "bytes=-3", "x", "bytes=0-"} {
		if code, _, text := w.do("GET", path, nil, "Range: "+r); code != 200 || text != "root of web 1" {
			t.Errorf("%s: %d %q", r, code, text)
		}
	}
	if code, _, text := w.do("GET", path, nil, "Range: bytes=5-", `If-Range: "other"`); code != 200 || text != "root of web 1" {
		t.Errorf("%d %q", code, text)
	}
}

// objectOf returns the object of the running revision.
func objectOf(w *world) string {
	w.Helper()
	running, err := w.steps.State("0")
	if err != nil {
		w.Fatal(err)
	}
	st, err := state.Parse(running)
	if err != nil {
		w.Fatal(err)
	}
	return st.Sums()[0]
}

// TestWrongObject wants the device's verdict on content that has another digest.
func TestWrongObject(t *testing.T) {
	t.Parallel()
	w := device(t, "{}", nil)
	path := contentPath + strings.Repeat("0", 64)
	w.fails(422, "checksum", "PUT", path, "content")
	code, _, text := w.do("PUT", path, io.MultiReader(strings.NewReader("unknown length")))
	if code != http.StatusLengthRequired {
		t.Errorf("%d %s", code, text)
	}
}
