//go:build linux && (amd64 || arm64)

package fsfault

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// replace replaces a file.
func replace(dir string) error {
	path := filepath.Join(dir, "file")
	if err := os.WriteFile(path+".new", []byte("new"), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func TestFaults(t *testing.T) {
	Isolated(t, func(f *Faults) {
		dir, other := t.TempDir(), t.TempDir()
		var err error
		clean, bad := f.During(Fault{Dir: dir}, func() { err = errors.Join(replace(dir), replace(other)) })
		if bad != nil || err != nil || clean.Count != 3 || clean.Failed != "" {
			t.Fatalf("without a fault: %+v, %v, %v", clean, bad, err)
		}
		failed := []string{"openat " + dir + "/file.new", "write " + dir + "/file.new", "renameat " + dir + "/file"}
		for i, want := range failed {
			r, bad := f.During(Fault{Dir: dir, Nth: i + 1, Errno: syscall.ENOSPC}, func() { err = errors.Join(replace(dir), replace(other)) })
			if bad != nil || r.Failed != want || !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("operation %d: %+v, %v, %v, want %s", i+1, r, bad, err, want)
			}
		}
		var text []byte
		r, bad := f.During(Fault{Dir: dir, Reads: true, Nth: 2, Errno: syscall.EIO}, func() { text, err = os.ReadFile(dir + "/file") })
		if bad != nil || r.Failed != "read "+dir+"/file" || len(text) != 0 || !errors.Is(err, syscall.EIO) {
			t.Errorf("reading: %+v, %v, %q, %v", r, bad, text, err)
		}
		_, bad = f.During(Fault{Dir: dir, Nth: 2, Errno: syscall.EROFS, Lasting: true}, func() { err = os.Remove(dir + "/file"); _ = replace(dir) })
		if _, gone := os.Stat(dir + "/file"); bad != nil || err != nil || !errors.Is(gone, os.ErrNotExist) {
			t.Errorf("a lasting fault: %v, %v, %v", bad, err, gone)
		}
	})
}
