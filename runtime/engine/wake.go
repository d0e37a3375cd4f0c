package engine

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/pantavisor/pantavisor/runtime/config"
)

// wakeLock is the name of the kernel's wake lock (Documentation/power: wake locks).
const wakeLock = "pantavisor"

// Reasons to stay awake that this version has.
const (
	wakeBoot     = "boot"     // until the revision is up
	wakeShutdown = "shutdown" // from the order to the end
)

// wakeHeld are the reasons to stay awake as GET /wakelocks shows them.
type wakeHeld struct {
	Boot        bool `json:"boot"`
	Update      bool `json:"update"`
	UpdateCheck bool `json:"update_check"`
	Devmeta     bool `json:"devmeta"`
	Usrmeta     bool `json:"usrmeta"`
	Shutdown    bool `json:"shutdown"`
	DebugShell  bool `json:"debug_shell"`
	Poll        bool `json:"poll"`
}

// wakeView is the body of GET /wakelocks.
type wakeView struct {
	Mode      string   `json:"mode"`
	Count     int      `json:"count"`
	Degraded  bool     `json:"degraded"` // the kernel has no wake locks
	Autosleep bool     `json:"autosleep"`
	Settling  bool     `json:"settling"`
	Polling   bool     `json:"polling"`
	RunWindow bool     `json:"run_window"`
	Held      wakeHeld `json:"held"`
}

// wakes keeps the device awake while there is a reason to (manual: Power, locks). A
// kernel without wake locks does not sleep by itself, so nothing is lost there.
type wakes struct {
	mu   sync.Mutex
	dir  string // PV_POWER_SYSFS_DIR
	view wakeView
}

func newWakes(c *config.Config) *wakes {
	w := &wakes{dir: c.String(config.PowerSysfsDir), view: wakeView{Mode: c.Enum(config.PowerMode)}}
	_, err := os.Stat(filepath.Join(w.dir, "wake_lock"))
	w.view.Degraded = err != nil && w.view.Mode != "disabled"
	return w
}

// reason is where a reason's flag is.
func (w *wakes) reason(name string) *bool {
	if name == wakeBoot {
		return &w.view.Held.Boot
	}
	return &w.view.Held.Shutdown
}

// set adds or takes away a reason to stay awake.
func (w *wakes) set(name string, on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	flag := w.reason(name)
	if w.view.Mode == "disabled" || *flag == on {
		return
	}
	*flag = on
	before := w.view.Count
	if on {
		w.view.Count++
	} else {
		w.view.Count--
	}
	switch {
	case before == 0:
		w.tell("wake_lock")
	case w.view.Count == 0:
		w.tell("wake_unlock")
	}
}

func (w *wakes) tell(file string) {
	if !w.view.Degraded && os.WriteFile(filepath.Join(w.dir, file), []byte(wakeLock), 0) != nil {
		w.view.Degraded = true
	}
}

// write writes the body of GET /wakelocks.
func (w *wakes) write(out io.Writer) error {
	w.mu.Lock()
	v := w.view
	w.mu.Unlock()
	b, err := json.Marshal(v)
	if err == nil {
		_, err = out.Write(b)
	}
	return err
}
