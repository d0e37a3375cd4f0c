package device

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/revision/state"
	"github.com/pantavisor/pantavisor/runtime/entry"
	"github.com/pantavisor/pantavisor/runtime/step"
)

// pids returns the processes of the containers' inits.
func (d *device) pids() map[string]int {
	d.t.Helper()
	dir := filepath.Join(d.dir, "run", entry.Dir)
	files, err := os.ReadDir(dir)
	if err != nil {
		d.t.Fatal(err)
	}
	out := map[string]int{}
	for _, f := range files {
		if e, err := entry.Read(dir, f.Name()); err == nil {
			out[f.Name()] = e.PID
		}
	}
	return out
}

// put stores the state as a revision and begins another one.
func (d *device) put(rev string) {
	d.t.Helper()
	if err := step.Open(d.dir+"/storage").Put(rev, d.st.Encode()); err != nil {
		d.t.Fatal(err)
	}
	d.st = state.New(state.Spec)
}

// change changes to a revision and waits for its containers.
func (d *device) change(rev string, changed []string, want map[string]string) {
	d.t.Helper()
	began := time.Now()
	if err := d.s.transition(rev, changed); err != nil {
		d.t.Fatal(err)
	}
	d.await(want)
	d.logged("ready: all "+strconv.Itoa(len(want))+" containers reached their goals", "../"+rev+"/pantavisor/pantavisor.log")
	d.t.Logf("to %s in %v", rev, time.Since(began))
	if target, _ := os.Readlink(d.dir + "/storage/trails/current"); target != rev {
		d.t.Errorf("trails/current leads to %q", target)
	}
	if target, _ := os.Readlink(d.dir + "/storage/logs/current"); target != rev {
		d.t.Errorf("logs/current leads to %q", target)
	}
	if all := d.ask("GET", "/device-meta", ""); !strings.Contains(all, `"pantavisor.revision":"`+rev+`"`) || !strings.Contains(all, `"pantavisor.status":"READY"`) {
		d.t.Errorf("the device metadata is %s", all)
	}
}

// TestTransition goes to another revision and back: one container goes on, one is replaced,
// one goes and one comes.
func TestTransition(t *testing.T) {
	d := newDevice(t)
	const one = "locals/one"
	bridge := "pvt" + strconv.Itoa(os.Getpid())
	common := func() {
		pool := `"network":{"pools":{"net0":{"type":"bridge","bridge":"` + bridge + `","subnet":"10.255.79.0/24","gateway":"10.255.79.1","nat":false}}}`
		err := d.st.Set("device.json", []byte(`{"groups":[{"name":"sys","restart_policy":"system","timeout":60},{"name":"app","restart_policy":"container","timeout":60}],`+pool+`}`))
		if err != nil {
			t.Fatal(err)
		}
		d.add("net", "sys", "/sbin/init stay net: write:/boot/mark", map[string]any{
			"network": map[string]any{"pool": "net0"}, "roles": []string{"mgmt"},
			"storage": map[string]any{"boot": map[string]any{"persistence": "boot"}, "lxc-overlay": map[string]any{"persistence": "boot"}},
		}, "lxc.mount.entry = /volumes/net/boot boot none bind,rw,create=dir 0 0")
	}
	web := func(words string) {
		d.add("web", "app", "/sbin/init stay read:/boot/mark read:/rev/mark net: write:/boot/mark write:/rev/mark "+words, map[string]any{
			"network": map[string]any{"pool": "net0"},
			"storage": map[string]any{"boot": map[string]any{"persistence": "boot"}, "rev": map[string]any{"persistence": "revision"}, "lxc-overlay": map[string]any{"persistence": "boot"}},
		}, "lxc.mount.entry = /volumes/web/boot boot none bind,rw,create=dir 0 0", "lxc.mount.entry = /volumes/web/rev rev none bind,rw,create=dir 0 0")
	}
	common()
	web("ask:GET,/containers")
	d.add("old", "app", "/sbin/init wait", nil)
	before := d.traces()
	d.put("0")
	common()
	web("read:/etc/motd")
	d.add("new", "app", "/sbin/init stay net:", map[string]any{"network": map[string]any{"pool": "net0"}, "roles": []string{"mgmt"}})
	if err := d.st.SetObject("_config/web/etc/motd", d.text("changed")); err != nil {
		t.Fatal(err)
	}
	d.put(one)

	d.run()
	d.await(map[string]string{"net": "STARTED", "web": "STARTED", "old": "STARTED"})
	first := d.pids()
	if got := d.console("web")["ask:GET,/containers"]; !strings.HasPrefix(got, "403 ") {
		t.Errorf("without a role: %s", got)
	}
	changed := []string{"new", "old", "web"}
	d.change(one, changed, map[string]string{"net": "STARTED", "web": "STARTED", "new": "STARTED"})
	second := d.pids()
	if second["net"] != first["net"] || second["web"] == first["web"] || second["old"] != 0 || second["new"] == 0 {
		t.Errorf("processes were %v and are %v", first, second)
	}
	tried := d.consoleIn(one, "web")
	if tried["read:/etc/motd"] != "changed" || tried["read:/boot/mark"] == "1\n" || tried["read:/rev/mark"] == "1\n" {
		t.Errorf("the replaced container finds %v", tried)
	}
	if got, other := d.consoleIn(one, "new")["net:"], d.console("net")["net:"]; !strings.Contains(got, "[10.255.79.") || got == other || got == tried["net:"] {
		t.Errorf("addresses: %s, %s, %s", other, tried["net:"], got)
	}
	d.logged("container old is now STOPPED", "pantavisor/pantavisor.log") // it still was revision 0
	if d.pids()["web"] != second["web"] {
		t.Error("a container was started twice")
	}
	if diff := cmp.Diff([]string{"0", one}, d.s.revs.inUse()); diff != "" {
		t.Errorf("revisions in use (-want +got)\n%s", diff)
	}
	d.ask("POST", "/storage/gc", "")
	if _, err := os.Stat(d.dir + "/storage/trails/0/net/root.squashfs"); err != nil {
		t.Errorf("the files of a container that runs were collected: %v", err)
	}

	d.change("0", changed, map[string]string{"net": "STARTED", "web": "STARTED", "old": "STARTED"})
	third := d.pids()
	if third["net"] != first["net"] || third["web"] == second["web"] || third["new"] != 0 || third["old"] == 0 {
		t.Errorf("processes were %v and are %v", second, third)
	}
	d.ask("PUT", "/containers/web", `{"action":"restart"}`)
	if _, err := d.try("GET", "/steps/current", ""); err != nil {
		t.Error(err)
	}
	if err := d.s.transition("locals/none", nil); !errors.Is(err, os.ErrNotExist) || !slices.Equal(d.s.revs.inUse(), []string{"0"}) {
		t.Errorf("a revision that is not there: %v; in use are %v", err, d.s.revs.inUse())
	}
	d.off()
	if err := d.s.transition(one, nil); err == nil {
		t.Error("a device that is off took another revision")
	}
	d.same(before)
}
