package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/pantavisor/pantavisor/runtime/config"
	"github.com/pantavisor/pantavisor/runtime/logs"
)

// loadMore reads the configuration that is on the storage: the Hub's file, and what
// the OEM has put into the revision.
func loadMore(c *config.Config, p paths) error {
	hub := c.LoadFile(config.PHConf, filepath.Join(p.storage, "config", "pantahub.config"))
	if errors.Is(hub, fs.ErrNotExist) {
		hub = nil
	}
	return errors.Join(hub, c.LoadOEM(p.trail))
}

// logOptions are the log server's settings.
func (s *session) logOptions() logs.Options {
	c := s.cfg
	outputs, _ := logs.ParseOutputs(c.String(config.LogServerOutputs)) // checked when it was set
	return logs.Options{
		Outputs: outputs, Level: logs.Level(c.Int(config.LogLevel)), Absolute: c.Enum(config.LogTimestamp) == "absolute",
		TreeTime: c.String(config.LogFiletreeTimestamp), SingleTime: c.String(config.LogSinglefileTimestamp),
		StdoutTime: c.String(config.LogStdoutTimestamp), MaxSize: c.String(config.LogDirMaxSize),
		Hysteresis: c.Int(config.LogHysteresisFactor), Rotate: c.Int(config.LogRotateFactor), Buffer: c.Int(config.LogBufNitems),
		Stdout: s.opt.Stdout, Identify: s.platform,
	}
}

// sayNotes logs what is wrong with a source of configuration.
func (s *session) sayNotes() {
	for _, n := range s.cfg.Notes() {
		s.log.Named("config").Warnf("%s: %s", n.Level, n.Text)
	}
}

// userMetaChanged lets user metadata override the configuration.
func (s *session) userMetaChanged(key string) {
	if s.user == nil {
		return // it is being opened; all keys come afterwards
	}
	s.setting.Lock()
	defer s.setting.Unlock()
	var k config.Key
	var changed bool
	if value, ok := s.user.Get(key); ok {
		k, changed = s.cfg.SetMeta(key, value)
	} else {
		k, changed = s.cfg.UnsetMeta(key)
	}
	s.sayNotes()
	if changed {
		s.log.Infof("%s is now %s (%v)", k.Name(), fmt.Sprintf("%.200q", s.cfg.String(k)), s.cfg.From(k))
		s.logs.Configure(s.logOptions())
	}
}
