package gosource

import (
	"go/build"
	"testing"
)

// TestDownloaded: a place that is named counts, also for a user without a home directory.
func TestDownloaded(t *testing.T) {
	before := build.Default.GOPATH
	t.Cleanup(func() { build.Default.GOPATH = before })
	build.Default.GOPATH = ""
	t.Setenv("GOMODCACHE", "/cache")
	for _, c := range [][3]string{
		{"example.org/Tool", "v1.2.3", "/cache/example.org/!tool@v1.2.3"},
		{"example.org/tool", "(devel)", ""},
		{"../tool", "v1.2.3", ""},
	} {
		if got := Downloaded(c[0], c[1]); got != c[2] {
			t.Errorf("%s %s: %q", c[0], c[1], got)
		}
	}
	t.Setenv("GOMODCACHE", "")
	if got := Downloaded("example.org/tool", "v1.2.3"); got != "" {
		t.Errorf("without a home directory: %q", got)
	}
	build.Default.GOPATH = "/home/go"
	if got := Downloaded("example.org/tool", "v1.2.3"); got != "/home/go/pkg/mod/example.org/tool@v1.2.3" {
		t.Errorf("below the home directory: %q", got)
	}
}
