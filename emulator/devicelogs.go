package emulator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
)

const (
	// logWait is how long the device's logs may take to come.
	logWait = 10 * time.Second
	// logDelay is how long a last line may take to get into its file.
	logDelay = time.Second
	// logTail is how many lines of a container's log are shown.
	logTail = 20
)

// file copies a log file of the device to w.
func (a *API) file(ctx context.Context, path string, w io.Writer) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/logs/"+url.PathEscape(path), nil)
	if err != nil {
		return fmt.Errorf("asking for the log %s: %w", path, err)
	}
	err = a.ask(ctx, req, func(res *http.Response) error {
		if res.StatusCode != http.StatusOK {
			return fmt.Errorf("the device answers %s", res.Status)
		}
		_, err := io.Copy(w, res.Body)
		return err
	})
	return fault.Wrap(fault.Unreachable, err, "reading the log %s", path)
}

// explain adds to each failure the last lines of the container's log.
func (m *Machine) explain(ctx context.Context, list []Failure) {
	if m.API == nil || len(list) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, logWait)
	defer cancel()
	select {
	case <-time.After(logDelay):
	case <-ctx.Done():
	}
	var meta map[string]any
	_ = m.API.Get(ctx, "/device-meta", &meta) // without a revision there are no lines
	rev, _ := meta["pantavisor.revision"].(string)
	for i := range list {
		for _, source := range []string{"lxc/console.log", "lxc/lxc.log"} {
			var text tailWriter
			if m.API.file(ctx, rev+"/"+list[i].Container+"/"+source, &text) != nil || text.String() == "" {
				continue
			}
			lines := strings.Split(strings.TrimRight(plain(text.String()), "\n"), "\n")
			list[i].LastLines = lines[max(0, len(lines)-logTail):]
			break
		}
	}
}

// saveLogs writes the device's log files below dir.
func (m *Machine) saveLogs(ctx context.Context, dir string) error {
	if m.API == nil {
		return fault.New(fault.Unsupported, "saving the logs: the machine has no channel to its device; %s has what the console showed", serialLog)
	}
	ctx, cancel := context.WithTimeout(ctx, logWait)
	defer cancel()
	var files []api.LogFile
	if err := m.API.Get(ctx, "/logs", &files); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fault.Wrap(fault.IO, err, "saving the logs")
	}
	defer root.Close()
	var errs []error
	for _, f := range files {
		errs = append(errs, m.saveLog(ctx, root, f.Path))
	}
	return errors.Join(errs...)
}

func (m *Machine) saveLog(ctx context.Context, root *os.Root, path string) (err error) {
	if err := root.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fault.Wrap(fault.IO, err, "saving the log %s", path)
	}
	f, err := root.Create(path)
	if err != nil {
		return fault.Wrap(fault.IO, err, "saving the log %s", path)
	}
	defer func() { err = errors.Join(err, fault.Wrap(fault.IO, f.Close(), "saving the log %s", path)) }()
	return m.API.file(ctx, path, f)
}

// serialLog is the file in the directory of logs with the output of the serial console.
const serialLog = "serial.log"
