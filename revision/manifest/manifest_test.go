package manifest

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/internal/oracle"
	"github.com/pantavisor/pantavisor/revision/state"
)

var sum = strings.Repeat("0", 64)

// doc is a state under construction: key to JSON text.
type doc map[string]string

// device returns the state of a small device.
func device() doc {
	d := doc{
		"#spec":        `"pantavisor-service-system@1"`,
		"bsp/run.json": `{"linux":"kernel.img","initrd":"pantavisor","firmware":"firmware.squashfs","modules":"modules.squashfs","addons":["a.cpio.xz4","b.cpio.xz4"],"initrd_config":""}`,
		"bsp/drivers.json": `{"#spec":"driver-aliases@1","all":{"wifi":["cfg80211","iwlwifi ${user-meta:wifi}"],"eth":[]},
			"dtb:x.dtb":{"wifi":["brcmfmac"]},"dtb:all":{}}`,
	}
	for _, f := range []string{"kernel.img", "pantavisor", "firmware.squashfs", "modules.squashfs", "a.cpio.xz4", "b.cpio.xz4"} {
		d["bsp/"+f] = `"` + sum + `"`
	}
	return d
}

// app adds a container; extra is more of its run.json, starting with a comma.
func (d doc) app(name, extra string) doc {
	d[name+"/run.json"] = `{"#spec":"service-manifest-run@1","name":"` + name + `","type":"lxc","config":"lxc.container.conf","root-volume":"root.squashfs","volumes":[],"storage":{}` + extra + `}`
	d[name+"/lxc.container.conf"] = `"` + sum + `"`
	d[name+"/root.squashfs"] = `"` + sum + `"`
	return d
}

func (d doc) with(key, value string) doc { d[key] = value; return d }

func (d doc) state(t testing.TB) *state.State {
	t.Helper()
	s := state.New("")
	for key, value := range d {
		if err := s.Set(key, []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func (d doc) parse(t testing.TB, opt Options) *System {
	t.Helper()
	sys, err := Parse(d.state(t), opt)
	if err != nil {
		t.Fatal(err)
	}
	return sys
}

func container(t *testing.T, sys *System, name string) *Container {
	t.Helper()
	c, ok := sys.Container(name)
	if !ok {
		t.Fatalf("no container %s", name)
	}
	return c
}

func TestWholeDevice(t *testing.T) {
	d := device().app("net", `,"group":"root","roles":["mgmt"]`).app("web", `,"group":"app","roles":["nobody"],
		"status_goal":"READY","timeout":45,"drivers":{"required":["wifi"],"optional":["eth"],"manual":["usb"]},
		"services":{"required":["bus",{"name":"api","type":"rest","target":"/run/api","role":"user","interface":"i"}],"optional":[{"name":"raw"}]},
		"logs":[{"file":"/var/log/x","maxsize":100,"truncate":true,"name":"x"},{"console":"enable","maxsize":1}],
		"network":{"pool":"net0","ip":"10.0.3.7","hostname":"web","mac":"02:00:00:00:00:01"},
		"storage":{"lxc-overlay":{"persistence":"boot"},"docker--data":{"persistence":"permanent","disk":"crypt"},"etc/x/":{"persistence":"revision"},"none":{},"odd":{"persistence":"x"}},
		"exports":["/run/web"],"dev-log":false,"automodfw":"no","remount":{"default":[{"/sys.*":"ro"}]},
		"auto_recovery":{"policy":"always","max_retries":3,"retry_delay":2,"backoff_factor":1.5,"reset_window":9,"stable_timeout":30,"backoff_policy":"10min"}`)
	d["web/services.json"] = `{"#spec":"service-manifest-xconnect@1","services":[{"name":"ui","type":"dbus","socket":"/run/ui","owns":"org.x","allow":["a","b"]}]}`
	d["_config/web/etc/web.conf"] = `"` + sum + `"`
	d["_config/web/etc/web.json"] = `{}`
	d["device.json"] = `{"groups":` + builtinGroups + `,
		"disks":[{"name":"crypt","type":"dm-crypt-versatile","path":"/storage/x.img,2,key","aliases":["old"],"default":"yes"}],
		"disks_v2":[{"name":"z","type":"swap-disk","format":"swap","provision":"zram","provision_ops":"disksize=1M"}],
		"disks_v3":[{"name":"future","type":"quantum"}],
		"volumes":{"pv--devmeta":{"persistence":"permanent","disk":"old"}},
		"network":{"pools":{"net0":{"type":"bridge","bridge":"br0","subnet":"10.0.3.0/24","gateway":"10.0.3.1"},"half":{"bridge":"b"}}},
		"remount":{"default":[{"/.*":"noatime"},{"/tmp":"noexec"}]}}`
	sys := d.parse(t, Options{DevLog: true})

	web := container(t, sys, "web")
	want := &Container{
		Name: "web", Type: "lxc", Config: "lxc.container.conf", Root: Artifact{File: "root.squashfs"},
		Group: "app", Goal: Ready, Restart: RestartContainer, Timeout: 45 * time.Second, Roles: []string{"nobody"},
		Recovery: &AutoRecovery{Policy: "always", MaxRetries: 3, RetryDelay: 2 * time.Second, BackoffFactor: 1.5,
			ResetWindow: 9 * time.Second, StableTimeout: 30 * time.Second, BackoffPolicy: "10min", BackoffWait: 10 * time.Minute},
		Network:  &Network{Mode: "pool", Pool: "net0", Hostname: "web", IP: "10.0.3.7", MAC: "02:00:00:00:00:01"},
		Logs:     []Logger{{Kind: "file", File: "/var/log/x", Name: "x", MaxSize: 100, Truncate: true}, {Kind: "console", MaxSize: 1}},
		Storage:  []Volume{{"docker--data", "permanent", "crypt"}, {"etc/x", "revision", ""}, {"lxc-overlay", "boot", ""}, {"odd", "boot", ""}},
		Drivers:  DriverRefs{Required: []string{"wifi"}, Optional: []string{"eth"}, Manual: []string{"usb"}},
		Requires: []Requirement{{Name: "bus"}, {"api", "rest", "user", "i", "/run/api"}}, Wants: []Requirement{{Name: "raw"}},
		Services: []Service{{Name: "ui", Type: "dbus", Socket: "/run/ui", Owns: []string{"org.x"}, Allow: []string{"a", "b"}}},
		Exports:  []string{"/run/web"}, Remount: map[string][]RemountRule{"default": {{"/sys.*", "ro"}}},
		Overlay: []string{"etc/web.conf", "etc/web.json"},
	}
	if diff := cmp.Diff(want, web); diff != "" {
		t.Error(diff)
	}
	checkDevice(t, sys)
	var notes []string
	for _, n := range sys.Notes {
		notes = append(notes, n.String())
	}
	for _, part := range []string{"disks_v3[0]: type", "pools.half", "storage.none: without persistence", "storage.odd: persistence"} {
		if !strings.Contains(strings.Join(notes, "\n"), part) {
			t.Errorf("no note on %s in %v", part, notes)
		}
	}
}

func checkDevice(t *testing.T, sys *System) {
	t.Helper()
	wantBSP := &BSP{Linux: "kernel.img", Initrd: "pantavisor", Firmware: Artifact{File: "firmware.squashfs"},
		Modules: map[string]Artifact{"": {File: "modules.squashfs"}}, Addons: []string{"a.cpio.xz4", "b.cpio.xz4"}}
	if diff := cmp.Diff(wantBSP, sys.BSP); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]Pool{{"net0", "bridge", "br0", "", "10.0.3.0/24", "10.0.3.1", true}}, sys.Pools); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string][]RemountRule{"default": {{"/.*", "noatime"}, {"/tmp", "noexec"}}}, sys.Remount); diff != "" {
		t.Error(diff)
	}
	for name, want := range map[string]string{"crypt": "crypt", "old": "crypt", "": "crypt", "z": "z"} {
		if d, ok := sys.Disk(name); !ok || d.Name != want {
			t.Errorf("disk %q: %v", name, d)
		}
	}
	if d, _ := sys.Disk("z"); d.ProvisionOptions != "disksize=1M" || d.Format != "swap" {
		t.Errorf("disk z: %+v", d)
	}
	if g, ok := sys.Group("app"); !ok || g.Timeout != 30*time.Second || g.Recovery.BackoffFactor != 2 || sys.DefaultGroups {
		t.Errorf("group app: %+v", g)
	}
	if net := container(t, sys, "net"); !net.Mgmt || net.Goal != Started || net.Restart != RestartSystem || !net.DevLog || !net.AutoModFW || net.Recovery != nil {
		t.Errorf("container net: %+v", net)
	}
	if len(sys.Volumes) != 1 || sys.Volumes[0] != (Volume{"pv--devmeta", "permanent", "old"}) {
		t.Errorf("volumes %v", sys.Volumes)
	}
	for key, want := range map[string]string{"web/run.json": "web", "_config/web/etc/x": "web", "_sigs/web.json": "web", "bsp/run.json": "", "device.json": "", "web": "", "stray/x": ""} {
		if got, ok := sys.Owner(key); got != want || ok != (want != "") {
			t.Errorf("owner of %s: %q", key, got)
		}
	}
	lines, _ := sys.Drivers.Modules("wifi", "dtb:y.dtb")
	special, _ := sys.Drivers.Modules("wifi", "dtb:x.dtb")
	if len(lines) != 2 || len(special) != 1 || special[0] != "brcmfmac" {
		t.Errorf("drivers %v %v", lines, special)
	}
}

func TestEveryViolationIsNamed(t *testing.T) {
	cases := []struct {
		name string
		doc  doc
		want string // part of the message
	}{
		{"no spec", device().with("#spec", "null"), "#spec: missing; pantavisor-service-system@1"},
		{"unknown spec", device().with("#spec", `"pantavisor-service-system@2"`), "not supported"},
		{"no BSP", doc{"#spec": `"pantavisor-service-system@1"`}, "bsp/run.json: missing"},
		{"nothing to boot", device().with("bsp/run.json", `{"linux":"kernel.img"}`), "fit, rpiab, efiab, or linux and initrd"},
		{"BSP file", device().with("bsp/run.json", `{"fit":"x.fit"}`), `fit: "bsp/x.fit" is not in the state`},
		{"addon", device().with("bsp/run.json", `{"linux":"kernel.img","initrd":"pantavisor","addons":["gone"]}`), `addons[0]: "bsp/gone"`},
		{"addon outside", device().with("bsp/run.json", `{"linux":"kernel.img","initrd":"pantavisor","addons":["../../etc/passwd"]}`), "not a relative path"},
		{"BSP type", device().with("bsp/run.json", `[]`), "an object is expected"},
		{"drivers spec", device().with("bsp/drivers.json", `{"all":{}}`), "driver-aliases@1 is expected"},
		{"required driver", device().app("a", `,"drivers":{"required":["gpu"]}`), "a/run.json: drivers.required: bsp/drivers.json does not define gpu"},
		{"name", device().app("a", `,"name":"b"`).with("a/run.json", `{"name":"b"}`), `it must be the directory's name "a"`},
		{"no name", device().with("a/run.json", `{}`), "a/run.json: name: missing"},
		{"reserved name", device().app("pantavisor", ""), "belongs to the runtime"},
		{"name of a file in control groups", device().app("cgroup.procs", ""), "every control group has a file of that name"},
		{"name of a file in v1 groups", device().app("tasks", ""), "every control group has a file of that name"},
		{"hidden name", device().app(".app", ""), "it begins with a dot"},
		{"config missing", device().with("a/run.json", `{"name":"a","type":"lxc","root-volume":"r"}`), "a/run.json: config: missing"},
		{"config not there", device().app("a", "").with("a/lxc.container.conf", "null"), `config: "a/lxc.container.conf" is not in the state`},
		{"root not there", device().app("a", "").with("a/root.squashfs", "null"), `root-volume: "a/root.squashfs"`},
		{"type", device().app("a", "").with("a/run.json", `{"name":"a","type":"docker"}`), "allowed are lxc"},
		{"goal", device().app("a", `,"status_goal":"DONE"`), `status_goal: "DONE"; allowed are MOUNTED, STARTED, READY`},
		{"restart policy", device().app("a", `,"restart_policy":"x"`), "allowed are system, container"},
		{"group", device().app("a", `,"group":"x"`), `group: there is no group "x"; groups are data, root, platform, app`},
		{"runlevel", device().app("a", `,"runlevel":"x"`), `there is no group "x"`},
		{"recovery policy", device().app("a", `,"auto_recovery":{"policy":"maybe"}`), "auto_recovery.policy"},
		{"retries", device().app("a", `,"auto_recovery":{"max_retries":-1}`), "max_retries: a whole number"},
		{"retries fraction", device().app("a", `,"auto_recovery":{"max_retries":1.5}`), "max_retries: a whole number"},
		{"delay", device().app("a", `,"auto_recovery":{"retry_delay":99999999999}`), "retry_delay: a whole number"},
		{"factor", device().app("a", `,"auto_recovery":{"backoff_factor":"2"}`), "backoff_factor: a number"},
		{"backoff", device().app("a", `,"auto_recovery":{"backoff_policy":"1y"}`), "reboot, never and durations"},
		{"storage name", device().app("a", "").with("a/run.json", `{"name":"a","status_goal":"MOUNTED","storage":{"../x":{"persistence":"boot"}}}`), "storage.../x"},
		{"storage type", device().app("a", "").with("a/run.json", `{"name":"a","status_goal":"MOUNTED","storage":[]}`), "storage: an object is expected, not a value of type array"},
		{"roles", device().app("a", `,"roles":"mgmt"`), "roles: an array is expected"},
		{"logger", device().app("a", `,"logs":[{"name":"x"}]`), "logs[0]: one of file, lxc and console"},
		{"log path", device().app("a", `,"logs":[{"file":"/var/../../x"}]`), "logs[0].file"},
		{"ip", device().app("a", `,"network":{"pool":"p","ip":"1.2.3"}`), "network.ip"},
		{"requirement", device().app("a", `,"services":{"required":[{"type":"rest"}]}`), "services.required[0].name: missing"},
		{"service", device().app("a", "").with("a/services.json", `[{"type":"rest"}]`), "a/services.json: [0].name: missing"},
		{"no object name", device().with("README.md", `"text"`), "README.md: the SHA-256"},
		{"group name", device().with("device.json", `{"groups":[{"status_goal":"READY"}]}`), "groups[0].name: missing"},
		{"no groups", device().with("device.json", `{"groups":[]}`), "at least one group"},
		{"same groups", device().with("device.json", `{"groups":[{"name":"a"},{"name":"a"}]}`), "a second group"},
		{"timeout", device().with("device.json", `{"groups":[{"name":"a","timeout":"x"}]}`), "timeout: a whole number"},
		{"disk type", device().with("device.json", `{"disks":[{"name":"d","type":"tape"}]}`), `disks[0].type: "tape"`},
		{"disk path", device().with("device.json", `{"disks":[{"name":"d","type":"dm-crypt-caam"}]}`), "image,size,key"},
		{"disk name", device().with("device.json", `{"disks":[{"name":"a/b","type":"directory"}]}`), "must not contain a slash"},
		{"disk default", device().with("disks.json", `[{"name":"a","type":"directory","default":"yes"},{"name":"b","type":"directory","default":"yes"}]`), "2 disks"},
		{"disk twice", device().with("disks.json", `[{"name":"a","type":"directory"},{"name":"a","type":"directory"}]`), "a second disk"},
		{"alias is a name", device().with("disks.json", `[{"name":"a","type":"directory","aliases":["b"]},{"name":"b","type":"directory"}]`), `alias "b" of disk "a"`},
		{"alias twice", device().with("disks.json", `[{"name":"a","type":"directory","aliases":["x"]},{"name":"b","type":"directory","aliases":["x"]}]`), `alias "x" of disk "b"`},
		{"dual", device().with("device.json", `{"disks_v3":[{"name":"d","type":"dual","disks":["a"],"init_order":["fly"]}]}`), `init_order: "fly"`},
		{"dual of nothing", device().with("device.json", `{"disks_v3":[{"name":"d","type":"dual","disks":["a","b"],"init_order":["primary"]}]}`), `unknown disk "a"`},
		{"export outside", device().app("a", `,"exports":["/run/x","/../etc"]`), "exports[1]"},
		{"target outside", device().app("a", `,"services":{"optional":[{"name":"n","target":"/run/../../x"}]}`), "services.optional[0].target"},
		{"socket outside", device().app("a", "").with("a/services.json", `[{"name":"n","socket":"../x"}]`), "[0].socket"},
		{"mac", device().app("a", `,"network":{"pool":"p","mac":"02:00:00:00:00:0g"}`), "network.mac"},
		{"volume twice", device().app("a", "").with("a/run.json", `{"name":"a","group":"data","storage":{"x":{"persistence":"boot"},"x/":{"persistence":"boot"}}}`), `a second volume with the name "x"`},
		{"dual of itself", device().with("device.json", `{"disks_v3":[{"name":"d","type":"dual","disks":["d","a"],"init_order":["primary"]}]}`), "names itself"},
		{"pool", device().with("device.json", `{"network":{"pools":{"p":{"bridge":"b","subnet":"10.0.0.0/24","gateway":"10.1.0.1"}}}}`), "an address inside"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse(c.doc.state(t), Options{})
			if !errors.Is(err, state.ErrFormat) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want …%s…", err, c.want)
			}
		})
	}
}

func TestAllViolationsAtOnce(t *testing.T) {
	d := device().with("a/run.json", `{"name":"b","status_goal":"X","type":7}`).with("device.json", `{"groups":[{}]}`)
	_, err := Parse(d.state(t), Options{})
	var problems Problems
	if !errors.As(err, &problems) || len(problems) < 5 {
		t.Errorf("problems %v", err)
	}
}

func TestGroupAssignment(t *testing.T) {
	own := `{"groups":[{"name":"first"},{"name":"last","restart_policy":"system","status_goal":"READY"}]}`
	cases := []struct {
		name  string
		doc   doc
		order string
	}{
		{"defaults", device().app("c", "").app("a", "").app("b", ""), "a:root b:platform c:platform"},
		{"root taken", device().app("a", "").app("b", `,"group":"root"`), "b:root a:platform"},
		{"runlevel", device().app("a", `,"runlevel":"app"`).app("b", `,"runlevel":"root"`), "b:root a:app"},
		{"own groups", device().app("a", "").app("b", `,"group":"first"`).with("device.json", own), "b:first a:last"},
		{"legacy groups", device().app("a", "").with("groups.json", `[{"name":"g"}]`), "a:g"},
		{"device.json wins", device().app("a", "").with("groups.json", `[{"name":"g"}]`).with("device.json", own), "a:last"},
		{"both words", device().app("a", `,"group":"app","runlevel":"root"`), "a:app"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, c := range c.doc.parse(t, Options{}).Containers {
				got = append(got, c.Name+":"+c.Group)
			}
			if strings.Join(got, " ") != c.order {
				t.Errorf("order %v, want %s", got, c.order)
			}
		})
	}
	a := container(t, device().app("a", "").with("device.json", own).parse(t, Options{}), "a")
	if a.Goal != Ready || a.Restart != RestartSystem {
		t.Errorf("nothing inherited: %+v", a)
	}
}

func TestRoles(t *testing.T) {
	cases := []struct {
		extra, def string
		mgmt       bool
		roles      []string
	}{
		{"", "", false, nil}, {"", "mgmt", true, []string{"mgmt"}}, {`,"roles":[]`, "mgmt", false, []string{}},
		{`,"roles":["nobody"]`, "mgmt", false, []string{"nobody"}}, {`,"roles":["mgmt"]`, "", true, []string{"mgmt"}},
		{`,"roles":["weird","mgmt"]`, "", true, []string{"weird", "mgmt"}}, {"", "nobody", false, nil},
	}
	for _, c := range cases {
		a := container(t, device().app("a", c.extra).parse(t, Options{DefaultRole: c.def}), "a")
		if a.Mgmt != c.mgmt || !cmp.Equal(a.Roles, c.roles) {
			t.Errorf("%q with default %q: mgmt %v, roles %v", c.extra, c.def, a.Mgmt, a.Roles)
		}
	}
}

func TestRecoveryIsInheritedWhole(t *testing.T) {
	d := device().app("none", `,"group":"app"`).app("own", `,"group":"app","auto_recovery":{"policy":"always"}`).
		app("off", `,"group":"app","auto_recovery":{"policy":"no","max_retries":1}`)
	sys := d.parse(t, Options{})
	if c := container(t, sys, "none"); !c.RecoveryInherited || c.Recovery.MaxRetries != 5 || c.Recovery.RetryDelay != 5*time.Second {
		t.Errorf("none: %+v", c.Recovery)
	}
	if c := container(t, sys, "own"); c.RecoveryInherited || c.Recovery.MaxRetries != 0 || c.Recovery.BackoffPolicy != "reboot" || c.Recovery.BackoffFactor != 1 {
		t.Errorf("own: %+v", c.Recovery)
	}
	if c := container(t, sys, "off"); c.RecoveryInherited || c.Recovery.Policy != "no" {
		t.Errorf("off: %+v", c.Recovery)
	}
}

func TestBackoffDurations(t *testing.T) {
	for text, want := range map[string]time.Duration{"30": 30 * time.Second, "30s": 30 * time.Second, "10min": 10 * time.Minute, "2h": 2 * time.Hour, "never": 0, "reboot": 0} {
		a := container(t, device().app("a", `,"auto_recovery":{"policy":"always","backoff_policy":"`+text+`"}`).parse(t, Options{}), "a")
		if a.Recovery.BackoffWait != want || a.Recovery.BackoffPolicy != text {
			t.Errorf("%s: %+v", text, a.Recovery)
		}
	}
}

func TestOptions(t *testing.T) {
	engine := doc{"#spec": `"pantavisor-service-system@1"`}.app("a", `,"drivers":{"required":["x"]}`)
	if sys := engine.parse(t, Options{AppEngine: true}); sys.BSP != nil || len(sys.Containers) != 1 {
		t.Errorf("App Engine: %+v", sys)
	}
	if sys := engine.with("bsp/drivers.json", `{"#spec":"driver-aliases@1","all":{"x":["y"]}}`).parse(t, Options{AppEngine: true}); sys.Drivers == nil {
		t.Error("App Engine does not read the drivers")
	}
	if _, err := Parse(device().with("#spec", `"pantavisor-multi-platform@1"`).state(t), Options{AppEngine: true}); err == nil {
		t.Error("App Engine takes the legacy format")
	}
	if sys := device().with("#spec", `"pantavisor-multi-platform@1"`).parse(t, Options{}); len(sys.Notes) == 0 {
		t.Error("no note on the legacy format")
	}
	if _, err := Parse(device().state(t), Options{Slot: "rpiab"}); err == nil || !strings.Contains(err.Error(), "rpiab is missing") {
		t.Errorf("rpiab: %v", err)
	}
	efi := device().with("bsp/run.json", `{"efiab":"e.img"}`).with("bsp/e.img", `"`+sum+`"`)
	for _, slot := range []string{"", "efiab", "rpiab"} {
		if _, err := Parse(efi.state(t), Options{Slot: slot}); (err == nil) != (slot != "rpiab") {
			t.Errorf("efiab, and the boot loader is %q: %v", slot, err)
		}
	}
	sys := device().app("a", "").parse(t, Options{Groups: []byte(`[{"name":"only"},{"name":"root"}]`), GoalsTimeout: 7 * time.Second})
	if a := container(t, sys, "a"); a.Group != "root" || a.Timeout != 7*time.Second || sys.Groups[0].Timeout != 7*time.Second || !sys.DefaultGroups {
		t.Errorf("own default groups: %+v", sys.Groups)
	}
	if _, err := Parse(device().state(t), Options{Groups: []byte(`{`)}); err == nil {
		t.Error("damaged default groups are accepted")
	}
}

func TestDataContainerNeedsNoProgram(t *testing.T) {
	d := device().with("d/run.json", `{"name":"d","group":"data","volumes":["x.data","dm:y.squashfs"]}`).with("d/x.data/f", `"`+sum+`"`).with("d/y.squashfs", `"`+sum+`"`)
	c := container(t, d.parse(t, Options{}), "d")
	if c.Goal != Mounted || len(c.Volumes) != 2 || c.Volumes[1] != (Artifact{"dm", "y.squashfs"}) || c.Volumes[1].String() != "dm:y.squashfs" {
		t.Errorf("container %+v", c)
	}
}

func TestModulesByKernelRelease(t *testing.T) {
	d := device().with("bsp/run.json", `{"linux":"kernel.img","initrd":"pantavisor","modules_6.1":"modules.squashfs","modules":"firmware.squashfs"}`)
	b := d.parse(t, Options{}).BSP
	if len(b.Modules) != 2 || b.Modules["6.1"].File != "modules.squashfs" || b.Modules[""].File != "firmware.squashfs" {
		t.Errorf("modules %v", b.Modules)
	}
}

func TestOddities(t *testing.T) {
	disk := func(d string) doc { return device().with("device.json", `{"disks":[`+d+`]}`) }
	for want, d := range map[string]doc{
		`"/x.img,8" is not image,size,key`:               disk(`{"name":"d","type":"dm-crypt-dcp","path":"/x.img,8"}`),
		"with a size in MB":                              disk(`{"name":"d","type":"dm-crypt-caam","path":"-v2 /x.img,many,key"}`),
		"formatted as swap":                              disk(`{"name":"d","type":"swap-disk","provision":"zram"}`),
		"mount_target: missing":                          disk(`{"name":"d","type":"volume-disk"}`),
		"device.json replaces it":                        device().with("device.json", "{}").with("groups.json", `[{"name":"g"}]`).with("disks.json", "[]"),
		`there is no container "gone"`:                   device().with("_config/gone/etc/x", `"`+sum+`"`),
		`no container offers the required service "api"`: device().app("a", `,"services":{"required":["api"]}`),
		`there is no address pool "p"`:                   device().app("a", `,"network":{"pool":"p"}`),
		"role \"root\" is unknown":                       device().app("a", `,"roles":["root"]`),
		"initrd_config: has no effect":                   device().with("bsp/run.json", `{"linux":"kernel.img","initrd":"pantavisor","initrd_config":"x"}`),
	} {
		var notes []string
		for _, n := range d.parse(t, Options{}).Notes {
			notes = append(notes, n.String())
		}
		if !strings.Contains(strings.Join(notes, "\n"), want) {
			t.Errorf("no note %q in %q", want, notes)
		}
	}
}

func TestCryptPath(t *testing.T) {
	d := Disk{Path: "-v2 /storage/x.img, 8,key"}
	if image, size, key, err := d.crypt(); image != "/storage/x.img" || size != 8 || key != "key" || err != nil {
		t.Errorf("%q, %d, %q, %v", image, size, key, err)
	}
}

func TestOutcome(t *testing.T) {
	_, bad := Parse(device().app("a", `,"status_goal":"X"`).state(t), Options{})
	_, broken := state.Parse([]byte("{"))
	for want, errs := range map[string][]error{
		"State JSON has bad format": {bad, broken}, "State JSON not found": {os.ErrNotExist}, "Internal error": {errors.New("x")},
	} {
		for _, err := range errs {
			if status, message := Outcome(err); status != "WONTGO" || message != want {
				t.Errorf("%v: %s, %s, want %s", err, status, message, want)
			}
		}
	}
}

func TestUnknownMembersAreNotes(t *testing.T) {
	sys := device().app("a", `,"future":{"x":1},"storage":{"v":{"persistence":"boot","disk":"nowhere"}}`).parse(t, Options{})
	var text []string
	for _, n := range sys.Notes {
		text = append(text, n.String())
	}
	all := strings.Join(text, "\n")
	for _, want := range []string{"a/run.json: future: unknown, ignored", `unknown disk "nowhere"`} {
		if !strings.Contains(all, want) {
			t.Errorf("no note %q in\n%s", want, all)
		}
	}
}

// recordings returns the directory of recordings or skips the test.
func recordings(t testing.TB) string {
	t.Helper()
	return oracle.Recordings(t, "")
}

func TestRecordedPackages(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(recordings(t), "golden/ctrl/fixtures.json"))
	if err != nil {
		t.Fatal(err)
	}
	var packages map[string]struct {
		State json.RawMessage `json:"package_state"`
	}
	if err := json.Unmarshal(data, &packages); err != nil {
		t.Fatal(err)
	}
	for name, p := range packages {
		t.Run(name, func(t *testing.T) {
			s, err := state.Parse(p.State)
			if err != nil {
				t.Fatal(err)
			}
			sys, err := Parse(s, Options{AppEngine: true})
			if err != nil || len(sys.Containers) != 1 {
				t.Fatalf("%v", err)
			}
			for _, n := range sys.Notes {
				if strings.Contains(n.Text, "unknown, ignored") {
					t.Error(n)
				}
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	for _, d := range []doc{whole(), device().app("a", `,"group":"app"`), device().with("device.json", `{"disks":[{"name":"d","type":"dual","disks":["a","b"]}],"network":{"pools":{"p":{}}}}`)} {
		f.Add(d.state(f).Encode())
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := state.Parse(text)
		if err != nil {
			return
		}
		sys, err := Parse(s, Options{})
		if err != nil {
			if !errors.Is(err, state.ErrFormat) || err.Error() == "" {
				t.Fatal(err)
			}
			return
		}
		for _, c := range sys.Containers {
			if _, ok := sys.Group(c.Group); !ok || c.Goal == "" || c.Restart == "" {
				t.Fatalf("incomplete container %+v", c)
			}
		}
	})
}
