package device

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/revision/manifest"
	"github.com/pantavisor/pantavisor/runtime/config"
	"github.com/pantavisor/pantavisor/runtime/container"
	"github.com/pantavisor/pantavisor/runtime/logs"
)

// Levels of PV_LXC_LOG_LEVEL, with the values of liblxc: messages at or above the level
// are logged.
const (
	lxcInfo = 2
	lxcWarn = 4
)

// builtIn are the log sources that elements of "logs" configure without naming a file.
var builtIn = map[string]string{"lxc": launcherSource, "console": consoleSource}

const (
	launcherSource = "lxc/lxc.log"
	consoleSource  = "lxc/console.log"
)

// launcherLog writes a message about a container to its lxc/lxc.log.
func (h *host) launcherLog(name string, level int, text string) {
	if !h.capture || h.server == nil || level < h.lxcLevel {
		return
	}
	l, word := logs.Info, "INFO     "
	if level >= lxcWarn {
		l, word = logs.Warn, "WARN     "
	}
	h.server.Log(name, launcherSource, l, name+" "+word+text)
}

// devLog gives a container a /dev/log of its own. When that cannot be made, it mounts the
// shared log socket, which takes streams only.
func (l *instance) devLog() container.Mount {
	h, path := l.host, filepath.Join(l.host.paths.at("devlog"), l.c.Name)
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		l.dev, err = h.server.ServeSyslog(path, l.c.Name)
	}
	if err != nil {
		h.log.Warnf("container %s: %v", l.c.Name, err)
		path = h.paths.at("pv-ctrl-log")
	}
	return bind(path, "/dev/log", "file", unix.MS_RDONLY) // a container must not change the mode of a shared socket
}

// hostSyslog is /dev/log of the device itself.
const hostSyslog = "/dev/log"

// serveHost logs what the device's own programs send to syslog, in embedded mode only:
// elsewhere /dev/log belongs to the host. end stops it.
func (s *session) serveHost() (end func()) {
	if s.cfg.Enum(config.SystemInitMode) != "embedded" {
		return func() {}
	}
	l, err := s.logs.ServeSyslog(hostSyslog, logs.Runtime)
	if err != nil {
		s.log.Warnf("%v", err)
		return func() {}
	}
	return l.Close
}

// followFiles follows the log files that run.json declares, and the default ones.
func (h *host) followFiles(c *manifest.Container, proc *container.Process) *logs.Follower {
	if !h.capture || !h.loggers || h.server == nil {
		return nil
	}
	for _, l := range c.Logs {
		if source := builtIn[l.Kind]; source != "" && l.Truncate {
			h.server.Limit(c.Name, source, l.MaxSize)
		}
	}
	dir := filepath.Join(h.paths.storage, "cache", "logs")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		h.log.Warnf("container %s: keeping the positions in its log files: %v", c.Name, err)
	}
	f, err := h.server.Follow(logs.Files{
		Platform: c.Name, List: declared(c.Logs), Open: proc.Open, Positions: filepath.Join(dir, c.Name+".json"),
	})
	if err != nil {
		h.log.Warnf("container %s: %v", c.Name, err)
		return nil
	}
	return f
}

// declared returns the files of run.json's "logs", then the default ones.
func declared(list []manifest.Logger) []logs.File {
	var out []logs.File
	for _, l := range list {
		if l.File != "" {
			out = append(out, logs.File{Path: l.File, MaxSize: l.MaxSize, Truncate: l.Truncate})
		}
	}
	return append(out, logs.DefaultFiles()...)
}
