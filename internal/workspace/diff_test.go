package workspace

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// revisionOf is the document of a revision with one object.
func revisionOf(object string) string {
	return `{"#spec":"pantavisor-service-system@1","app/run.json":{"name":"app"},"app/root.squashfs":"` + strings.Repeat(object, 64) + `"}`
}

// checkout makes a directory .pvr with a document.
func checkout(t *testing.T, document string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, ".pvr"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, ".pvr/json"), []byte(document), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestDiff(t *testing.T) {
	t.Setenv("PV_CACHE_DIR", t.TempDir())
	w, out := empty(t)
	define(t, w, "plain", plain)
	a, b := checkout(t, revisionOf("a")), checkout(t, revisionOf("b"))
	for _, c := range []struct {
		a, b     string
		markdown bool
		kind     fault.Kind
		want     string // in the output or the error
	}{
		{a, a, false, 0, "are equal"},
		{a, b, false, fault.Different, "changed  app/root.squashfs"},
		{a, b, true, fault.Different, "| changed | ` app/root.squashfs ` |"},
		{a, "plain", false, fault.Missing, "has not been built"},
		{a, "none", false, fault.Missing, "neither a file, nor a directory, nor a target"},
	} {
		out.Reset()
		err := w.Diff(t.Context(), c.a, c.b, c.markdown)
		text := out.String()
		if err != nil {
			text += err.Error()
		}
		if fault.Of(err) != c.kind || !strings.Contains(text, c.want) {
			t.Errorf("%q is not in %s", c.want, text)
		}
	}
	if name := w.targetName("plain-default"); name != "plain" {
		t.Errorf("the word plain-default stands for %s", name)
	}
	w.JSON = true
	if err := w.Diff(t.Context(), a, b, true); fault.Of(err) != fault.BadInput {
		t.Errorf("two forms: %v", err)
	}
	out.Reset()
	if err := w.Diff(t.Context(), a, b, false); fault.Of(err) != fault.Different {
		t.Error(err)
	}
	if got := decode(t, out.String()); len(got) != 1 || got[0]["equal"] != false || len(got[0]["differences"].([]any)) != 1 {
		t.Errorf("%s", out)
	}
}

// TestDiffOfDevices compares a checkout with what a device says over its socket and its network.
func TestDiffOfDevices(t *testing.T) {
	w, out := empty(t)
	a := checkout(t, revisionOf("a"))
	socket := filepath.Join(t.TempDir(), "pv-ctrl")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /steps/current", func(rw http.ResponseWriter, _ *http.Request) {
		_, _ = rw.Write([]byte(revisionOf("b")))
	})
	s := &http.Server{Handler: mux}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { s.Close() })

	var web *httptest.Server
	remote := http.NewServeMux()
	remote.HandleFunc("GET /cgi-bin/pvr/.pvrremote", func(rw http.ResponseWriter, _ *http.Request) {
		_, _ = rw.Write([]byte(`{"pvr-spec":"pvr-pantahub-1","json-get-url":"` + web.URL + `/state","objects-endpoint":"` + web.URL + `/objects"}`))
	})
	remote.HandleFunc("GET /state", func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write([]byte(revisionOf("b"))) })
	web = httptest.NewServer(remote)
	t.Cleanup(web.Close)

	for _, device := range []string{socket, web.URL + "/cgi-bin/pvr"} {
		out.Reset()
		if err := w.Diff(t.Context(), a, device, false); fault.Of(err) != fault.Different || !strings.Contains(out.String(), "app/root.squashfs") || strings.Contains(out.String(), "run.json") {
			t.Errorf("%s: %v\n%s", device, err, out)
		}
	}
	web.Close()
	if err := w.Diff(t.Context(), a, web.URL+"/cgi-bin/pvr", false); fault.Of(err) != fault.Unreachable {
		t.Errorf("a device that does not answer: %v", err)
	}
}
