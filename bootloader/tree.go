package bootloader

import (
	"os"
	"path/filepath"
	"time"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// WriteTree writes the files of a loader's step below out, by their paths with slashes, with
// the time [build.Epoch].
func WriteTree(out string, files map[string][]byte) error {
	epoch := time.Unix(build.Epoch, 0)
	for name, data := range files {
		file := filepath.Join(out, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return fault.Wrap(fault.IO, err, "writing %s", name)
		}
		if err := os.WriteFile(file, data, 0o644); err != nil {
			return fault.Wrap(fault.IO, err, "writing %s", name)
		}
		if err := os.Chtimes(file, epoch, epoch); err != nil {
			return fault.Wrap(fault.IO, err, "writing %s", name)
		}
	}
	return nil
}
