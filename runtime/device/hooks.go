package device

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/pantavisor/pantavisor/runtime/config"
	"github.com/pantavisor/pantavisor/runtime/logs"
	"github.com/pantavisor/pantavisor/runtime/updater"
)

// hookTime bounds one program of a hook: updates wait for it.
const hookTime = 60 * time.Second

// maxHookOutput bounds what is logged of a program's output, in bytes.
const maxHookOutput = 4 << 10

// systemHooks are the device's own programs that take part in updates (manual: system
// hooks): executable files in <pvlib>/hooks/system.d.
type systemHooks struct {
	dir     string
	objects string
	trails  string
	limit   time.Duration // of one program
	log     logs.Logger
}

// newSystemHooks returns the hooks of a device. <pvlib> is the environment's LIBPVPATH, or
// <PV_SYSTEM_USRDIR>/lib/pantavisor/pv.
func newSystemHooks(c *config.Config, p paths, log logs.Logger) systemHooks {
	lib := cmp.Or(os.Getenv("LIBPVPATH"), filepath.Join(cmp.Or(c.String(config.SystemUsrDir), "/usr"), "lib/pantavisor/pv"))
	return systemHooks{
		dir: filepath.Join(lib, "hooks/system.d"), objects: p.objects, trails: filepath.Join(p.storage, "trails"), limit: hookTime, log: log,
	}
}

// run runs the programs in the order of their names until one fails.
func (s systemHooks) run(ctx context.Context, event string, h updater.Hook) error {
	entries, err := os.ReadDir(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking for hooks: %w", err)
	}
	for _, e := range entries {
		info, err := os.Stat(filepath.Join(s.dir, e.Name()))
		if err != nil || !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
			continue
		}
		if err := s.one(ctx, filepath.Join(s.dir, e.Name()), event, h); err != nil {
			return fmt.Errorf("hook %s of %s: %w", e.Name(), event, err)
		}
	}
	return nil
}

func (s systemHooks) one(ctx context.Context, program, event string, h updater.Hook) error {
	ctx, cancel := context.WithTimeout(ctx, s.limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, program)
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "PV_OP="+event, "PV_REV="+h.Revision, "PV_TRY="+h.Try, "PV_TRYBOOT="+strconv.FormatBool(h.TryBoot),
		"PV_OBJ_STORAGE="+s.objects, "PV_TRAILS_STORAGE="+s.trails, "PV_STATUS="+string(h.Status))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) } // and what it started
	cmd.WaitDelay = time.Second
	cmd.Stdin = strings.NewReader("") // nil would need a /dev/null
	var out bytes.Buffer
	said := &limited{&out}
	cmd.Stdout, cmd.Stderr = said, said // one pipe, which keeps the order
	err := cmd.Run()
	last := ""
	for line := range strings.Lines(out.String()) {
		last = strings.TrimSuffix(line, "\n")
		s.log.Infof("%s: %s", filepath.Base(program), last)
	}
	switch {
	case err != nil && ctx.Err() == context.DeadlineExceeded:
		return fmt.Errorf("it did not end within %v", s.limit)
	case errors.Is(err, exec.ErrWaitDelay): // what it has started goes on, and has its output
		return nil
	case err != nil && last != "":
		return fmt.Errorf("%w: %.200s", err, strings.ToValidUTF8(last, "?"))
	}
	return err
}

// limited keeps the beginning of what is written. The buffer is not embedded: its ReadFrom
// would keep all.
type limited struct{ kept *bytes.Buffer }

// Write implements io.Writer.
func (l *limited) Write(p []byte) (int, error) {
	l.kept.Write(p[:max(0, min(len(p), maxHookOutput-l.kept.Len()))])
	return len(p), nil
}
