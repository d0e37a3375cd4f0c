package web

import (
	"net/http"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/sbom/spdx2"
)

// TestSBOM downloads what the device is made of.
func TestSBOM(t *testing.T) {
	t.Parallel()
	w := device(t, "{}", nil)
	for _, path := range []string{"/app/api/sbom", "/app/api/sbom?rev=0"} {
		code, head, text := w.do("GET", path, nil)
		d, err := spdx2.Read(strings.NewReader(text))
		if err != nil || code != http.StatusOK || !strings.Contains(head.Get("Content-Disposition"), "device.spdx.json") {
			t.Fatalf("%s: %d, %v, %v, %s", path, code, head, err, text)
		}
		if len(d.Packages) != 3 { // the revision, its part, and the part's object
			t.Errorf("%s: %+v", path, d.Packages)
		}
	}
	w.fails(http.StatusNotFound, "does not exist", "GET", "/app/api/sbom?rev=7", "")
	w.fails(http.StatusBadRequest, "not a valid revision", "GET", "/app/api/sbom?rev=../x", "")
	if page := w.ok("GET", "/app/", ""); !strings.Contains(page, `href="/app/api/sbom"`) {
		t.Error("the page has no link to it")
	}
}
