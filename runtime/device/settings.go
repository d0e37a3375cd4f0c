package device

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"sync"

	"github.com/pantavisor/pantavisor/runtime/boot"
	"github.com/pantavisor/pantavisor/runtime/config"
	"github.com/pantavisor/pantavisor/runtime/ctrl"
	"github.com/pantavisor/pantavisor/runtime/logs"
	"github.com/pantavisor/pantavisor/runtime/meta"
)

// loadMore reads the configuration on the storage: the boot loader's type where nothing
// sets it, the hub's file, unless that is in a volume, and the OEM's file in the
// revision, whose directory trail is.
func loadMore(c *config.Config, p paths, trail string) error {
	if found := boot.Detect(p.storage); found != "" {
		c.SetDefault(config.BootloaderType, found)
	}
	var hub error
	if !c.Bool(config.StoragePHConfigVol) {
		hub = loadHub(c, filepath.Join(p.storage, "config"))
	}
	return errors.Join(hub, c.LoadOEM(trail))
}

// loadHub reads the hub's file, which need not be there.
func loadHub(c *config.Config, dir string) error {
	err := c.LoadFile(config.PHConf, filepath.Join(dir, "pantahub.config"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// loadHubVolume reads the hub's file from the runtime's volume for it, where the device's
// secret is not on the open storage.
func (s *session) loadHubVolume() {
	if !s.cfg.Bool(config.StoragePHConfigVol) {
		return
	}
	if s.paths.hub == "" {
		s.log.Warnf("PV_STORAGE_PHCONFIG_VOL: the revision has no volume %s; there are no settings of the Hub", volumeHub)
		return
	}
	if err := loadHub(s.cfg, s.paths.hub); err != nil {
		s.log.Named("config").Errorf("%v", err)
	}
	s.settings.logNotes()
}

// settings apply the configuration, and the changes that user metadata makes to it, to
// the log server.
type settings struct {
	cfg      *config.Config
	stdout   io.Writer                     // as Options.Stdout
	identify func(pid int) (string, error) // returns the name of a sender of messages
	logs     *logs.Server
	log      logs.Logger

	mu   sync.Mutex  // held while user metadata changes settings
	user *meta.Store // nil before it is open
}

// logOptions returns the log server's settings.
func (s *settings) logOptions() logs.Options {
	c := s.cfg
	outputs, _ := logs.ParseOutputs(c.String(config.LogServerOutputs)) // checked when it was set
	return logs.Options{
		Outputs: outputs, Level: logs.Level(c.Int(config.LogLevel)), Absolute: c.Enum(config.LogTimestamp) == "absolute",
		TreeTime: c.String(config.LogFiletreeTimestamp), SingleTime: c.String(config.LogSinglefileTimestamp),
		StdoutTime: c.String(config.LogStdoutTimestamp), MaxSize: c.String(config.LogDirMaxSize),
		Hysteresis: c.Int(config.LogHysteresisFactor), Rotate: c.Int(config.LogRotateFactor), Buffer: c.Int(config.LogBufNitems),
		Stdout: s.stdout, Identify: s.identify,
	}
}

// logNotes logs the mistakes in the sources of the configuration.
func (s *settings) logNotes() {
	for _, n := range s.cfg.Notes() {
		s.log.Named("config").Warnf("%s: %s", n.Level, n.Text)
	}
}

// follow applies user metadata to the configuration, now and whenever it changes.
func (s *settings) follow(user *meta.Store) {
	s.mu.Lock()
	s.user = user
	s.mu.Unlock()
	for _, k := range user.Keys() {
		s.userMetaChanged(k)
	}
}

// userMetaChanged applies the value of a key of user metadata to the configuration.
func (s *settings) userMetaChanged(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.user == nil {
		return // the store is being opened; follow applies all keys afterwards
	}
	var k config.Key
	var changed bool
	if value, ok := s.user.Get(key); ok {
		k, changed = s.cfg.SetMeta(key, value)
	} else {
		k, changed = s.cfg.UnsetMeta(key)
	}
	s.logNotes()
	if changed {
		s.log.Infof("%s is now %s (%v)", k.Name(), fmt.Sprintf("%.200q", s.cfg.String(k)), s.cfg.From(k))
		s.logs.Configure(s.logOptions())
	}
}

// list returns the settings for the control socket.
func (s *settings) list() []ctrl.Setting {
	items := s.cfg.Items()
	out := make([]ctrl.Setting, 0, len(items))
	for _, it := range items {
		set := ctrl.Setting{Key: it.Name, Alias: it.Alias, Text: it.Value, Level: it.From.String(), Note: it.Note}
		switch {
		case it.Flag:
			set.Value = it.Number != 0
		case it.Numeric:
			set.Value = it.Number
		case it.Set:
			set.Value = it.Value
		}
		out = append(out, set)
	}
	return out
}
