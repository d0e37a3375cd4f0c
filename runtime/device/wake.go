package device

import (
	"os"
	"path/filepath"
	"sync"

	"github.com/pantavisor/pantavisor/runtime/config"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
)

// wakeLock is the name of the kernel's wake lock (Documentation/power: wake locks).
const wakeLock = "pantavisor"

// The reasons to stay awake that this version knows.
const (
	wakeBoot     = "boot"     // until the revision is up
	wakeShutdown = "shutdown" // from the request to the end
	wakeUpdate   = "update"   // while an update is in progress
)

// wakeReasons keeps the device awake while there is a reason to (manual: Power, locks). A
// kernel without wake locks does not suspend by itself and needs none.
type wakeReasons struct {
	mu   sync.Mutex
	dir  string // PV_POWER_SYSFS_DIR
	view api.Wakelocks
}

func newWakeReasons(c *config.Config) *wakeReasons {
	w := &wakeReasons{dir: c.String(config.PowerSysfsDir), view: api.Wakelocks{Mode: c.Enum(config.PowerMode)}}
	_, err := os.Stat(filepath.Join(w.dir, "wake_lock"))
	w.view.Degraded = err != nil && w.view.Mode != "disabled"
	return w
}

// reason returns the flag of a reason.
func (w *wakeReasons) reason(name string) *bool {
	switch name {
	case wakeBoot:
		return &w.view.Held.Boot
	case wakeUpdate:
		return &w.view.Held.Update
	}
	return &w.view.Held.Shutdown
}

// set adds or removes a reason to stay awake.
func (w *wakeReasons) set(name string, on bool) {
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
		w.write("wake_lock")
	case w.view.Count == 0:
		w.write("wake_unlock")
	}
}

func (w *wakeReasons) write(file string) {
	if !w.view.Degraded && os.WriteFile(filepath.Join(w.dir, file), []byte(wakeLock), 0) != nil {
		w.view.Degraded = true
	}
}

// show returns the body of GET /wakelocks.
func (w *wakeReasons) show() api.Wakelocks {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.view
}
