package device

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

// TestWhatContainersReach looks from inside two containers, one without roles and
// with few rights, the other with the role mgmt, at what each can see, mount, signal
// and ask for.
func TestWhatContainersReach(t *testing.T) {
	d := newDevice(t)
	me := strconv.Itoa(os.Getpid())
	tries := []string{
		"list:" + d.dir, "kill:" + me, "kill:2", "mount:/mnt", "mkdir:/sys/fs/x", "write:/proc/sys/kernel/hostname", "write:/proc/sys/vm/swappiness",
		"write:/sys/kernel/uevent_helper", "mknod:/run/sda,8,0", "open:/dev/mem", "list:/pantavisor", "list:/pantavisor/logs", "list:/pantavisor/user-meta",
		"ask:GET,/containers", "ask:GET,/user-meta", "ask:PUT,/user-meta/k,v", "ask:GET,/steps", "ask:GET,/config", "ask:POST,/signal,{\"type\":\"ready\"}",
		"ask:PUT,/containers/mgmt,{\"action\":\"stop\"}", "write:/pantavisor/device-meta/x", "list:/lib/modules", "read:/proc/1/environ",
		"chmod:/pantavisor/pv-ctrl", "chmod:/pantavisor/pv-ctrl-log", "chmod:/dev/log", "log:heard",
	}
	init := "/sbin/init stay " + strings.Join(tries, " ")
	d.add("few", "app", init, nil, "lxc.cap.keep = net_bind_service", "lxc.mount.auto =", "lxc.mount.auto = proc sys:ro cgroup",
		"lxc.cgroup.devices.deny = a", "lxc.cgroup.devices.allow = c 1:3 rwm", "lxc.cgroup.devices.allow = c 5:* rw", "lxc.cgroup.devices.allow = c 136:* rw")
	d.add("mgmt", "platform", init, map[string]any{"roles": []string{"mgmt"}})
	before := d.traces()
	d.boot()
	d.await(map[string]string{"few": "STARTED", "mgmt": "STARTED"})
	few, mgmt := d.console("few"), d.console("mgmt")
	d.off()
	d.same(before)

	for what, want := range map[string]string{
		"list:" + d.dir: "no such file", "kill:" + me: "no such process", "kill:2": "no such process", "mount:/mnt": "error", "mkdir:/sys/fs/x": "error",
		"write:/proc/sys/kernel/hostname": "read-only", "write:/proc/sys/vm/swappiness": "read-only", "write:/sys/kernel/uevent_helper": "error",
		"mknod:/run/sda,8,0": "not permitted", "open:/dev/mem": "no such file",
		"list:/pantavisor":    "device-meta logs pv-ctrl pv-ctrl-log pv-fd-log user-meta",
		"ask:GET,/containers": "403 ", "ask:GET,/user-meta": "403 ", "ask:PUT,/user-meta/k,v": "403 ", "ask:GET,/steps": "403 ", "ask:GET,/config": "403 ",
		`ask:POST,/signal,{"type":"ready"}`:          "500 ", // its goal is STARTED
		`ask:PUT,/containers/mgmt,{"action":"stop"}`: "403 ",
		"write:/pantavisor/device-meta/x":            "read-only",
		"chmod:/pantavisor/pv-ctrl":                  "read-only",
		"chmod:/pantavisor/pv-ctrl-log":              "read-only",
		"chmod:/dev/log":                             "read-only",
		"log:heard":                                  "ok",
		"read:/proc/1/environ":                       "container=pv-app",
	} {
		if got := few[what]; !strings.Contains(got, want) {
			t.Errorf("a container without roles, %s: %q, want %q", what, got, want)
		}
	}
	if got := few["list:/pantavisor/user-meta"]; got != "" {
		t.Errorf("a container without roles sees the metadata %q", got)
	}
	for what, want := range map[string]string{
		"list:" + d.dir: "no such file", "kill:" + me: "no such process", "kill:2": "no such process", "write:/proc/sys/vm/swappiness": "read-only",
		"ask:GET,/containers": "200 [", "ask:GET,/user-meta": "200 {", "ask:PUT,/user-meta/k,v": "200 ", "ask:GET,/steps": "200 [",
		`ask:PUT,/containers/mgmt,{"action":"stop"}`: "403 ", // its restart policy is system
		"write:/pantavisor/device-meta/x":            "read-only",
		"list:/pantavisor/logs":                      "0",
	} {
		if got := mgmt[what]; !strings.Contains(got, want) {
			t.Errorf("role mgmt, %s: %q, want %q", what, got, want)
		}
	}
	for _, f := range []string{"challenge", "device-id", "device-meta", "logs", "pantahub-host", "pv-ctrl", "pv-ctrl-log", "pv-fd-log", "user-meta"} {
		if !strings.Contains(" "+mgmt["list:/pantavisor"]+" ", " "+f+" ") {
			t.Errorf("role mgmt does not see %s: %s", f, mgmt["list:/pantavisor"])
		}
	}
}

// TestIdentityDoesNotFollowAMove lets containers that may mount move themselves to
// another container's control group and to the root of the tree, and then ask for what
// only those may do.
func TestIdentityDoesNotFollowAMove(t *testing.T) {
	for name, keep := range map[string]string{"own": "user net ipc", "cgroup": "user net ipc cgroup", "pid": "user net ipc cgroup pid"} {
		t.Run(name, func(t *testing.T) {
			d := newDevice(t)
			words := []string{"list:/sys/fs/cgroup/lxc", "ask:GET,/user-meta", "join:mgmt", "ask:GET,/containers", "join:tree", "ask:GET,/config"}
			d.add("thief", "app", "/sbin/init stay "+strings.Join(words, " "), nil, "lxc.namespace.keep =", "lxc.namespace.keep = "+keep)
			d.add("mgmt", "root", "/sbin/init stay", map[string]any{"roles": []string{"mgmt"}})
			d.boot()
			d.await(map[string]string{"thief": "STARTED", "mgmt": "STARTED"})
			got := d.console("thief")
			d.off()
			for _, what := range words {
				if strings.HasPrefix(what, "ask:") && !strings.HasPrefix(got[what], "403 ") {
					t.Errorf("%s: %q, want 403", what, got[what])
				}
			}
			if moved := got["join:mgmt"] == "ok" && got["join:tree"] == "ok"; moved != (name != "own") {
				t.Errorf("moving itself: %q, %q", got["join:mgmt"], got["join:tree"])
			}
			if list := got["list:/sys/fs/cgroup/lxc"]; !strings.Contains(list, "no such file") {
				t.Errorf("it sees the device's control groups: %s", list)
			}
		})
	}
}

// TestExportsAndPolicies checks the exports and remount policies of a state.
func TestExportsAndPolicies(t *testing.T) {
	d := newDevice(t)
	if err := d.st.Set("device.json", []byte(`{"groups":[{"name":"first"},{"name":"second"}],"remount":{"default":[{"/run":"noexec"}],"other":[{"/run":"ro"}]}}`)); err != nil {
		t.Fatal(err)
	}
	d.add("giver", "first", "/sbin/init stay write:/run/shared write:/dev/x", map[string]any{"exports": []string{"/run"}, "remount": map[string]any{"default": []any{map[string]any{"/dev": "ro"}}}})
	d.add("taker", "second", "/sbin/init stay list:/in write:/run/x", nil, "lxc.mount.entry = /exports/giver/run in none bind,create=dir 0 0")
	before := d.traces()
	d.boot()
	d.await(map[string]string{"giver": "STARTED", "taker": "STARTED"})
	giver, taker := d.console("giver"), d.console("taker")
	if giver["write:/run/shared"] != "ok" || taker["write:/run/x"] != "ok" {
		t.Errorf("/run takes files: %q, %q", giver["write:/run/shared"], taker["write:/run/x"])
	}
	if got := giver["write:/dev/x"]; !strings.Contains(got, "read-only") {
		t.Errorf("the container's own policy does not hold: %s", got)
	}
	if _, err := os.Stat(d.dir + "/exports/giver/run/shared"); err != nil {
		t.Errorf("the export is not there: %v", err)
	}
	if got := taker["list:/in"]; got != "" && got != "shared" {
		t.Errorf("the other container sees %q", got)
	}
	d.off()
	d.same(before)
	if entries, _ := os.ReadDir(d.dir + "/exports"); len(entries) > 0 {
		t.Errorf("left: %v", entries)
	}
}
