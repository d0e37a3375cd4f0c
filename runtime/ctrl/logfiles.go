package ctrl

import (
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
	"github.com/pantavisor/pantavisor/runtime/ctrl/http1"
)

// maxLogFiles bounds the list of log files.
const maxLogFiles = 10_000

// listLogs lists the log files of all revisions.
func (s *Server) listLogs(*call) *reply {
	list := []api.LogFile{}
	if s.o.Logs == "" {
		return okJSON(list)
	}
	err := fs.WalkDir(os.DirFS(s.o.Logs), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() { // it may have been rotated away
			return nil //nolint:nilerr // as above
		}
		if info, err := d.Info(); err == nil {
			list = append(list, api.LogFile{Path: path, Size: info.Size()})
		}
		if len(list) == maxLogFiles {
			return fs.SkipAll
		}
		return nil
	})
	if err != nil {
		return internal(fmt.Errorf("listing log files: %w", err))
	}
	return okJSON(list)
}

// getLog answers with a log file, whose path is one segment: slashes are encoded. The file
// may grow meanwhile; the answer has the size of the beginning.
func (s *Server) getLog(c *call) *reply {
	name, valid := decode(c.name())
	if !valid || !fs.ValidPath(name) || s.o.Logs == "" {
		return failure(400, "Request has bad log file name")
	}
	f, size, err := openLog(s.o.Logs, name)
	if err != nil {
		return failure(404, "Log file not found")
	}
	return &reply{status: 200, mediaType: typeBinary, stream: func(w io.Writer) error {
		defer f.Close()
		_, err := http1.Copy(w, io.LimitReader(f, size))
		return err
	}}
}

// openLog opens a regular file below dir; symbolic links cannot lead out of it.
func openLog(dir, name string) (*os.File, int64, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, 0, err
	}
	defer root.Close()
	f, err := root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fs.ErrInvalid
	}
	if err != nil {
		_ = f.Close()
		return nil, 0, err
	}
	return f, info.Size(), nil
}
