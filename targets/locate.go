package targets

import (
	"io/fs"

	"github.com/pantavisor/pantavisor/internal/yamlfile"
)

// LocateSuite returns an error with a text at each place where a target or its bases name a
// suite, nil when there is none.
func LocateSuite(fsys fs.FS, name, suite, text string) error {
	t, err := Load(fsys, name, func(t *Target, f *yamlfile.File) {
		for path, is := range t.suites() {
			if is == suite && f.Given(path) {
				f.Wrong(path, "%s", text)
			}
		}
	})
	if err == nil && t.Base != "" {
		return LocateSuite(fsys, t.Base, suite, text)
	}
	return err
}

// suites are the names of suites in a target, by their paths.
func (t *Target) suites() map[string]string {
	out := map[string]string{}
	if t.Kernel != nil {
		out["kernel.suite"] = t.Kernel.Suite
	}
	if t.Bootloader != nil {
		out["bootloader.suite"] = t.Bootloader.Suite
	}
	if t.AppEngine != nil {
		out["appengine.suite"] = t.AppEngine.Suite
	}
	return out
}
