package web

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/runtime/step"
)

// logs adds cgi-bin/logs.
func (s *Server) logs() {
	s.mux.HandleFunc("GET /cgi-bin/logs", s.getLogs)
	s.mux.HandleFunc("GET /cgi-bin/logs/{$}", s.getLogs)
	s.mux.HandleFunc("GET /app/api/logs", s.listLogs)
}

// Bounds of what is read of logs.
const (
	maxListed  = 2000 // files
	maxTail    = 100_000
	defTail    = 10 // as tail(1)
	tailPiece  = 32 << 10
	followEach = 500 * time.Millisecond
)

// ownLog is the log without a source.
const ownLog = "pantavisor/pantavisor.log"

// logRequest is the query of a request for logs.
type logRequest struct {
	revision, source string
	tail, follow     bool
	lines            int
}

func readLogRequest(r *http.Request) (logRequest, error) {
	q := r.URL.Query()
	req := logRequest{revision: revision(r), source: q.Get("source"), tail: q.Get("tail") == "true", lines: defTail}
	req.follow = req.tail && q.Get("follow") == "true"
	if req.source == "" {
		req.source = ownLog
	}
	if text := q.Get("tailn"); text != "" {
		n, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return req, fmt.Errorf("tailn is %.20q: a number of lines is expected", text)
		}
		req.lines = int(min(n, maxTail))
	}
	if !step.Valid(req.revision) || !fs.ValidPath(req.source) || req.source == "." {
		return req, errors.New("rev or source is not a valid name")
	}
	return req, nil
}

// listed is a log file of a revision.
type listed struct {
	Source string `json:"source"`
	Size   int64  `json:"size"` // bytes
}

// listLogs lists the log files of a revision.
func (s *Server) listLogs(w http.ResponseWriter, r *http.Request) {
	rev := revision(r)
	list := []listed{}
	if !step.Valid(rev) {
		answer(w, http.StatusBadRequest, refusal{fmt.Sprintf("%.80q is not a valid revision", rev)})
		return
	}
	err := s.inLogs(func(root *os.Root) error {
		for _, name := range logFiles(root, rev) {
			if st, err := root.Stat(rev + "/" + name); err == nil {
				list = append(list, listed{name, st.Size()})
			}
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		fail(w, err)
		return
	}
	answer(w, http.StatusOK, list)
}

// inLogs runs fn with the directory of logs, which links in it cannot leave.
func (s *Server) inLogs(fn func(*os.Root) error) error {
	root, err := os.OpenRoot(s.o.Logs)
	if err != nil {
		return fmt.Errorf("opening the logs: %w", err)
	}
	defer root.Close()
	return fn(root)
}

// logFiles returns the plain files below a directory, sorted, without those that are
// compressed.
func logFiles(root *os.Root, dir string) (names []string) {
	sub, err := root.OpenRoot(dir) // follows the link "current"
	if err != nil {
		return nil
	}
	defer sub.Close()
	_ = fs.WalkDir(sub.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && !strings.HasSuffix(name, ".gz") && len(names) < maxListed {
			names = append(names, name)
		}
		return nil // it may have been rotated away
	})
	return names
}

// getLogs writes a log, or those of a container below headings as tail(1) writes them. It
// ends with what is there, or goes on as lines are written.
func (s *Server) getLogs(w http.ResponseWriter, r *http.Request) {
	req, err := readLogRequest(r)
	if err != nil {
		fail(w, err)
		return
	}
	err = s.inLogs(func(root *os.Root) error {
		at := path.Join(req.revision, req.source)
		st, err := root.Stat(at)
		if err != nil {
			return err
		}
		names := []string{req.source}
		if st.IsDir() {
			if names = logFiles(root, at); len(names) == 0 {
				return fs.ErrNotExist
			}
			for i := range names {
				names[i] = path.Join(req.source, names[i])
			}
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		return follow(r.Context(), w, root, req, names)
	})
	if errors.Is(err, fs.ErrNotExist) {
		answer(w, http.StatusNotFound, refusal{fmt.Sprintf("there is no log %.80q of revision %.80q", req.source, req.revision)})
		return
	}
	if err != nil {
		s.o.Log.Printf("reading logs: %v", err)
	}
}

// follow writes files. Files that cannot be read are left out: they may be rotated away.
func follow(ctx context.Context, w http.ResponseWriter, root *os.Root, req logRequest, names []string) error {
	out := &headed{w: w, several: len(names) > 1}
	control := http.NewResponseController(w)
	files := make([]logFile, len(names))
	for i, name := range names {
		files[i] = logFile{name: name, path: path.Join(req.revision, name)}
		if req.tail {
			files[i].skip(root, req.lines)
		}
	}
	tick := time.NewTicker(followEach)
	defer tick.Stop()
	for {
		for i := range files {
			if err := files[i].copy(ctx, out, root); err != nil {
				return err
			}
		}
		if !req.follow {
			return nil
		}
		if err := control.Flush(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// headed writes a heading where the output goes on with another file.
type headed struct {
	w       io.Writer
	several bool
	last    string
}

func (h *headed) to(name string) (io.Writer, error) {
	if !h.several || h.last == name {
		return h.w, nil
	}
	gap := "\n"
	if h.last == "" {
		gap = ""
	}
	h.last = name
	_, err := fmt.Fprintf(h.w, "%s==> %s <==\n", gap, name)
	return h.w, err
}

// logFile is a file that is read as it grows.
type logFile struct {
	name, path string
	at         int64       // how far it has been read
	was        os.FileInfo // what was read last
}

// skip moves to the last lines.
func (f *logFile) skip(root *os.Root, lines int) {
	in, err := root.Open(f.path)
	if err != nil {
		return
	}
	defer in.Close()
	st, err := in.Stat()
	if err != nil {
		return
	}
	f.at, f.was = lastLines(in, st.Size(), lines), st
}

// lastLines returns where the last n lines begin. The end of the last one may be missing.
func lastLines(r io.ReaderAt, size int64, n int) int64 {
	if n == 0 {
		return size
	}
	piece := make([]byte, tailPiece)
	for end := size; end > 0; {
		begin := max(0, end-tailPiece)
		got, err := r.ReadAt(piece[:end-begin], begin)
		if err != nil && !errors.Is(err, io.EOF) {
			return begin
		}
		for at := got; ; {
			at = bytes.LastIndexByte(piece[:at], '\n')
			if at < 0 {
				break
			}
			if begin+int64(at)+1 < size { // not the end of the last line
				n--
			}
			if n == 0 {
				return begin + int64(at) + 1
			}
		}
		end = begin
	}
	return 0
}

// copy writes what is new. A file that was replaced or emptied is read from its beginning.
func (f *logFile) copy(ctx context.Context, out *headed, root *os.Root) error {
	in, err := root.Open(f.path)
	if err != nil {
		return nil //nolint:nilerr // it was rotated away
	}
	defer in.Close()
	st, err := in.Stat()
	if err != nil || !st.Mode().IsRegular() {
		return err
	}
	if f.was != nil && !os.SameFile(f.was, st) || st.Size() < f.at {
		f.at = 0
	}
	f.was = st
	if st.Size() == f.at || ctx.Err() != nil {
		return nil
	}
	w, err := out.to(f.name)
	if err != nil {
		return err
	}
	n, err := io.Copy(w, io.NewSectionReader(in, f.at, st.Size()-f.at))
	f.at += n
	return err
}
