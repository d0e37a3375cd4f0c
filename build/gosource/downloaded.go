package gosource

import (
	"go/build"
	"os"
	"path/filepath"

	gomodule "golang.org/x/mod/module"
	"golang.org/x/mod/semver"
)

// Downloaded returns a module's directory in the module cache (Go Modules Reference, "Module
// cache"); "" for a version that cannot be there, such as "(devel)", and where there is no cache.
func Downloaded(path, version string) string {
	cache := os.Getenv("GOMODCACHE")
	if list := filepath.SplitList(build.Default.GOPATH); cache == "" && len(list) > 0 {
		cache = filepath.Join(list[0], "pkg", "mod")
	}
	at, err := gomodule.EscapePath(path)
	if err != nil || !semver.IsValid(version) {
		return ""
	}
	v, err := gomodule.EscapeVersion(version)
	if err != nil || cache == "" {
		return ""
	}
	return filepath.Join(cache, filepath.FromSlash(at)+"@"+v)
}
