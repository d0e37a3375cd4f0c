package sbom

import (
	"runtime/debug"
	"testing"
)

func TestGoModule(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		m                      debug.Module
		version, purl, comment string
	}{
		{debug.Module{Path: "example.com/a", Version: "v1.2.0", Sum: "h1:abc="}, "v1.2.0", "pkg:golang/example.com/a@v1.2.0", "go.sum: h1:abc="},
		{debug.Module{Path: "a", Version: "(devel)"}, "", "pkg:golang/a", ""},
		{debug.Module{Path: "example.com/a", Version: "v1", Replace: &debug.Module{Path: "example.com/fork", Version: "v2", Sum: "h1:x"}}, "v2", "pkg:golang/example.com/fork@v2", "go.sum: h1:x"},
		{debug.Module{Path: "example.com/a", Version: "v1", Replace: &debug.Module{Path: "../a"}}, "", "pkg:golang/example.com/a", "a directory on the build machine is in the place of its v1"},
	} {
		if p := GoModule(&c.m); p.Version != c.version || p.PURL != c.purl || p.Comment != c.comment {
			t.Errorf("%+v: %+v", c.m, p)
		}
	}
}

func TestGoProgram(t *testing.T) {
	t.Parallel()
	for program, want := range map[string]string{
		"example.com/a/cmd/x": "pkg:golang/example.com/a@v1#cmd/x", "example.com/a": "pkg:golang/example.com/a@v1", "command-line-arguments": "pkg:golang/example.com/a@v1",
	} {
		if got := GoProgram("example.com/a", "v1", program); got != want {
			t.Errorf("%s: %s, want %s", program, got, want)
		}
	}
	if p := GoStandardLibrary("go1.26.0 X:nodwarf5"); p.Version != "1.26.0" || p.PURL != "pkg:golang/stdlib@1.26.0" {
		t.Errorf("%+v", p)
	}
}
