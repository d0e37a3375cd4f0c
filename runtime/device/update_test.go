package device

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pantavisor/pantavisor/revision/state"
	"github.com/pantavisor/pantavisor/runtime/boot"
	"github.com/pantavisor/pantavisor/runtime/config"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
)

// updated is a device whose boot loader is [boot.Pick].
func updated(t *testing.T) *device {
	d := newDevice(t)
	d.cfg.Apply(config.Env, config.BootloaderType, "uboot")
	d.cfg.Apply(config.Env, config.UpdaterCommitDelay, "0")
	const groups = `{"groups":[{"name":"platform","restart_policy":"system","timeout":60},{"name":"app","restart_policy":"container","timeout":60}]}`
	if err := d.st.Set("device.json", []byte(groups)); err != nil { // the default groups have a stable_timeout
		t.Fatal(err)
	}
	d.add("mgmt", "platform", "/sbin/init stay", map[string]any{"roles": []string{"mgmt"}})
	d.add("app", "app", "/sbin/init stay", nil)
	d.boot()
	d.await(map[string]string{"mgmt": "STARTED", "app": "STARTED"})
	return d
}

// send stores the state as a revision over the control socket.
func (d *device) send(rev string) {
	d.t.Helper()
	if got := d.ask(http.MethodPut, "/steps/"+rev, string(d.st.Encode())); got != "" {
		d.t.Fatalf("storing %s: %s", rev, got)
	}
}

func (d *device) command(op, payload string) {
	d.t.Helper()
	body, err := json.Marshal(api.Command{Op: op, Payload: payload})
	if err != nil {
		d.t.Fatal(err)
	}
	if got := d.ask(http.MethodPost, "/commands", string(body)); got != "" {
		d.t.Fatalf("%s: %s", op, got)
	}
}

// restarted waits until the device goes down and starts what the boot loader picks.
func (d *device) restarted() {
	d.t.Helper()
	select {
	case code := <-d.code:
		if code != 0 {
			d.t.Fatalf("the device ended with %d, not for a restart", code)
		}
	case <-time.After(time.Minute):
		d.t.Fatal("the device does not restart")
	}
	store, err := boot.Configured(d.cfg, d.dir+"/storage")
	if err != nil {
		d.t.Fatal(err)
	}
	if d.rev, err = boot.Pick(store); err != nil {
		d.t.Fatal(err)
	}
	d.run()
}

// ends waits until the last update of a revision has a status and returns it.
func (d *device) ends(rev, status string) api.Update {
	d.t.Helper()
	var last string
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		text, err := d.try(http.MethodGet, "/updates/"+rev, "")
		var list []api.Update
		if err != nil || json.Unmarshal([]byte(text), &list) != nil || len(list) == 0 {
			continue
		}
		u := list[len(list)-1]
		if last = u.Status; last == status {
			return u
		}
	}
	d.t.Fatalf("the update of %s is %q, not %s", rev, last, status)
	return api.Update{}
}

// stored is what the boot loader's store and the progress of a revision say.
func (d *device) stored(rev string) string {
	d.t.Helper()
	store, err := boot.Configured(d.cfg, d.dir+"/storage")
	if err != nil {
		d.t.Fatal(err)
	}
	v, err := store.Load()
	if err != nil {
		d.t.Fatal(err)
	}
	var p struct {
		Status string `json:"status"`
	}
	if err := json.Unmarshal([]byte(d.ask(http.MethodGet, "/steps/"+rev+"/progress", "")), &p); err != nil {
		d.t.Fatal(err)
	}
	_, err = os.Stat(filepath.Join(d.dir, "storage/trails", rev, ".pv/done"))
	return fmt.Sprintf("rev=%s try=%s %s done=%v", v.Rev, v.Try, p.Status, err == nil)
}

func TestUpdateThatRestarts(t *testing.T) {
	d := updated(t)
	d.add("mgmt", "platform", "/sbin/init stay", map[string]any{"roles": []string{"mgmt"}, "description": "another"})
	d.send("locals/a")
	d.command(api.OpLocalRun, "locals/a")
	d.restarted()
	d.await(map[string]string{"mgmt": "STARTED", "app": "STARTED"})
	d.ends("locals/a", "DONE")
	if got, want := d.stored("locals/a"), "rev=locals/a try= DONE done=true"; got != want {
		t.Errorf("stored is %q, want %q", got, want)
	}
	d.off()
}

func TestUpdateThatFailsAfterRestart(t *testing.T) {
	d := updated(t)
	d.add("mgmt", "platform", "/sbin/none", map[string]any{"roles": []string{"mgmt"}})
	d.send("locals/bad")
	d.command(api.OpLocalRun, "locals/bad")
	d.restarted() // tries it
	d.restarted() // and falls back
	d.await(map[string]string{"mgmt": "STARTED", "app": "STARTED"})
	u := d.ends("locals/bad", "ERROR")
	if f := u.Failure; f == nil || f.Container != "mgmt" || !strings.Contains(f.Text, "/sbin/none") {
		t.Errorf("the reason is %+v", u.Failure)
	}
	if got, want := d.stored("locals/bad"), "rev= try= ERROR done=false"; got != want {
		t.Errorf("stored is %q, want %q", got, want)
	}
	d.off()
}

func TestUpdateWithoutRestart(t *testing.T) {
	d := updated(t)
	pid := d.pids()["mgmt"]
	d.add("second", "app", "/sbin/init stay", nil)
	d.send("locals/a")
	d.command(api.OpLocalRun, "locals/a")
	d.ends("locals/a", "UPDATED")
	d.await(map[string]string{"mgmt": "STARTED", "app": "STARTED", "second": "STARTED"})
	if now := d.pids()["mgmt"]; now != pid || pid == 0 {
		t.Errorf("mgmt's init is process %d and was %d", now, pid)
	}
	if got, want := d.stored("locals/a"), "rev= try=locals/a UPDATED done=false"; got != want {
		t.Errorf("stored is %q, want %q", got, want)
	}
	d.command(api.OpReboot, "")
	d.restarted()
	d.ends("locals/a", "DONE")
	d.off()
}

func TestUpdateThatFailsWithoutRestart(t *testing.T) {
	d := updated(t)
	pid := d.pids()["mgmt"]
	d.add("second", "app", "/sbin/none", nil)
	d.send("locals/bad")
	d.command(api.OpLocalRun, "locals/bad")
	u := d.ends("locals/bad", "ERROR")
	if u.Failure == nil || u.Failure.Container != "second" {
		t.Errorf("the reason is %+v", u.Failure)
	}
	d.await(map[string]string{"mgmt": "STARTED", "app": "STARTED"})
	if now := d.pids()["mgmt"]; now != pid || pid == 0 {
		t.Errorf("mgmt's init is process %d and was %d", now, pid)
	}
	d.off()
}

func TestFactoryIsMadeOfWhatIsCommitted(t *testing.T) {
	d := updated(t)
	d.add("mgmt", "platform", "/sbin/init stay", map[string]any{"roles": []string{"mgmt"}, "description": "another"})
	d.send("locals/a")
	if _, err := d.try(http.MethodPost, "/commands", `{"op":"MAKE_FACTORY","payload":"locals/a"}`); err == nil || !strings.Contains(err.Error(), "has not been committed") {
		t.Errorf("a revision that never ran: %v", err)
	}
	d.command(api.OpLocalRun, "locals/a")
	d.restarted()
	d.ends("locals/a", "DONE")
	d.command(api.OpMakeFactory, "")
	d.ends("0", "UPDATED")
	text, err := os.ReadFile(d.dir + "/storage/trails/0/.pvr/json")
	if err != nil {
		t.Fatal(err)
	}
	if st, err := state.Parse(text); err != nil || !state.Equal(st, d.st) {
		t.Errorf("revision 0 has another state: %v", err)
	}
	d.command(api.OpReboot, "")
	d.restarted()
	d.ends("0", "DONE")
	if got, want := d.stored("0"), "rev=0 try= DONE done=true"; got != want {
		t.Errorf("stored is %q, want %q", got, want)
	}
	d.off()
}
