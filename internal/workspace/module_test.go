package workspace

import (
	"path/filepath"
	"runtime/debug"
	"testing"
)

// TestRequiredModule looks for this module as programs were made of it.
func TestRequiredModule(t *testing.T) {
	t.Setenv("GOMODCACHE", "/cache")
	for name, c := range map[string]struct {
		dep  debug.Module
		want string
	}{
		"version":           {debug.Module{Path: modulePath, Version: "v1.2.3"}, "/cache/" + modulePath + "@v1.2.3"},
		"of a checkout":     {debug.Module{Path: modulePath, Version: "(devel)"}, ""},
		"replaced":          {debug.Module{Path: modulePath, Version: "v1.2.3", Replace: &debug.Module{Path: "example.com/fork", Version: "v2.0.0"}}, "/cache/example.com/fork@v2.0.0"},
		"by a directory":    {debug.Module{Path: modulePath, Version: "v1.2.3", Replace: &debug.Module{Path: "/src/checkout"}}, "/src/checkout"},
		"by one beside":     {debug.Module{Path: modulePath, Version: "v1.2.3", Replace: &debug.Module{Path: "../checkout"}}, "/product/../checkout"},
		"by a wrong module": {debug.Module{Path: "example.com/other", Version: "v1.2.3"}, ""},
	} {
		want := c.want
		if want != "" {
			want = filepath.Clean(want)
		}
		if got := required(&debug.BuildInfo{Deps: []*debug.Module{&c.dep}}, "/product"); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}
