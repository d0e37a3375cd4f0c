package device

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pantavisor/pantavisor/runtime/config"
)

// logged waits until a log file holds a text.
func (d *device) logged(text string, path ...string) {
	d.t.Helper()
	name := filepath.Join(append([]string{d.dir, "storage/logs/0"}, path...)...)
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if b, _ := os.ReadFile(name); strings.Contains(string(b), text) {
			return
		}
	}
	b, err := os.ReadFile(name)
	d.t.Fatalf("%s holds %q (%v), want %q in it", name, b, err, text)
}

func TestDeviceKeepsContainersLogs(t *testing.T) {
	d := newDevice(t)
	run := map[string]any{"logs": []map[string]any{
		{"file": "/run/app.log", "maxsize": 1000, "truncate": false, "name": "app"},
		{"lxc": "enable", "maxsize": 1000, "truncate": true, "name": "lxc"},
	}}
	d.add("app", "app", "/sbin/init stay write:/run/app.log log:<11>tag:_from_/dev/log", run,
		"lxc.mount.entry = tmpfs var/log tmpfs rw,create=dir 0 0", "lxc.nothing.known = 1")
	before := d.traces()
	d.boot()
	d.await(map[string]string{"app": "STARTED"})
	tried := d.console("app")
	if tried["write:/run/app.log"] != "ok" || tried["log:<11>tag:_from_/dev/log"] != "ok" {
		t.Fatalf("the container tried: %v", tried)
	}
	d.logged("1\n", "app/run/app.log")
	d.logged("from_/dev/log\n", "app/tag")
	d.logged("app INFO     started, init is process ", "app/lxc/lxc.log")
	d.logged("WARN     lxc.nothing.known", "app/lxc/lxc.log")
	d.off()
	d.logged("app INFO     init exited with code 0", "app/lxc/lxc.log")
	d.same(before)
}

func TestLoggersCanBeTurnedOff(t *testing.T) {
	d := newDevice(t)
	for k, v := range map[string]string{"PV_LOG_LOGGERS": "0", "PV_LXC_LOG_LEVEL": "5"} {
		d.cfg.Set(config.Env, k, v)
	}
	d.add("app", "app", "/sbin/init stay write:/run/app.log", map[string]any{"logs": []map[string]any{
		{"file": "/run/app.log", "maxsize": 1000, "truncate": false, "name": "app"},
	}})
	d.boot()
	d.await(map[string]string{"app": "STARTED"})
	if tried := d.console("app"); tried["write:/run/app.log"] != "ok" {
		t.Fatalf("the container tried: %v", tried)
	}
	d.off()
	for _, name := range []string{"run/app.log", "lxc/lxc.log"} {
		if _, err := os.Stat(filepath.Join(d.dir, "storage/logs/0/app", name)); err == nil {
			t.Errorf("%s was kept", name)
		}
	}
}
