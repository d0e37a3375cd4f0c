package device

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/revision/state"
	"github.com/pantavisor/pantavisor/runtime/config"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
	"github.com/pantavisor/pantavisor/runtime/ctrl/replaytest"
	"github.com/pantavisor/pantavisor/runtime/drivers"
)

// relayEnv makes the test's program a relay: the variable has the path of the relay's
// socket, from which it forwards every connection to the control socket beside it. So a
// test can send requests from any control group.
const relayEnv = "PV_TEST_RELAY"

func relay(socket string) {
	l, err := net.Listen("unix", socket)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("ready")
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // ends with the test
		os.Exit(0)
	}()
	for {
		in, err := l.Accept()
		if err != nil {
			os.Exit(1)
		}
		go func() {
			defer in.Close()
			out, err := net.Dial("unix", filepath.Join(filepath.Dir(socket), "run/pv-ctrl"))
			if err != nil {
				return
			}
			defer out.Close()
			go func() {
				_, _ = io.Copy(out, in)
				_ = out.(*net.UnixConn).CloseWrite()
			}()
			_, _ = io.Copy(in, out)
		}()
	}
}

// relayIn starts a relay in a control group below the device's own.
func (d *device) relayIn(group string) string {
	d.t.Helper()
	socket := filepath.Join(d.dir, "as-"+filepath.Base(group))
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), relayEnv+"="+socket)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		d.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = stdin.Close(); _ = cmd.Wait() })
	if _, err := io.ReadFull(out, make([]byte, len("ready\n"))); err != nil {
		d.t.Fatalf("the relay did not come: %v", err)
	}
	procs := filepath.Join(d.groups(), group, "cgroup.procs")
	if err := os.WriteFile(procs, []byte(strconv.Itoa(cmd.Process.Pid)), 0); err != nil {
		d.t.Fatal(err)
	}
	return socket
}

// groups is the directory of the device's control groups.
func (d *device) groups() string {
	d.t.Helper()
	dir := d.groupsOrNone()
	if dir == "" {
		d.t.Fatal("the device has no control groups")
	}
	return dir
}

// groupsOrNone is the same, "" as long as there is none.
func (d *device) groupsOrNone() string {
	own, _ := os.ReadFile("/proc/self/cgroup")
	places := []string{d.dir + "/cgroup"}
	for line := range strings.Lines(string(own)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			places = append(places, "/sys/fs/cgroup"+path, "/sys/fs/cgroup/unified"+path)
		}
	}
	for _, p := range places {
		found, _ := filepath.Glob(filepath.Join(p, "pv-test-"+filepath.Base(filepath.Dir(d.dir)), "lxc"))
		if len(found) == 1 {
			return filepath.Dir(found[0])
		}
	}
	return ""
}

// as connects to the control socket as a caller of the recordings.
func (d *device) as(relays map[string]string, caller string) net.Conn {
	d.t.Helper()
	socket := d.dir + "/run/pv-ctrl"
	if caller != "_pv_" {
		if relays[caller] == "" {
			group := "lxc/" + caller
			if caller == "unknown-cgroup" {
				group = "elsewhere"
				if err := os.MkdirAll(filepath.Join(d.groups(), group), 0o755); err != nil {
					d.t.Fatal(err)
				}
			}
			relays[caller] = d.relayIn(group)
		}
		socket = relays[caller]
	}
	conn, err := net.Dial("unix", socket)
	if err != nil {
		d.t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(60 * time.Second))
	return conn
}

// fixture is one of the recordings' containers.
type fixture struct {
	State map[string]json.RawMessage `json:"package_state"`
}

// inits are the programs of the recordings' containers that do more than wait.
var inits = map[string]string{"crash1": "/sbin/init exit 1", "once1": "/sbin/init exit 0"}

// addRecorded adds containers of the recordings to the state, with images and
// configurations of the test.
func (d *device) addRecorded(names ...string) {
	d.t.Helper()
	data, err := os.ReadFile(filepath.Join(replaytest.Dir(d.t), "fixtures.json"))
	var all map[string]fixture
	if err == nil {
		err = json.Unmarshal(data, &all)
	}
	if err != nil {
		d.t.Fatal(err)
	}
	for _, name := range names {
		run := map[string]any{}
		if err := json.Unmarshal(all[name].State[name+"/run.json"], &run); err != nil {
			d.t.Fatalf("%s: %v", name, err)
		}
		init := inits[name]
		if init == "" {
			init = "/sbin/init wait"
		}
		d.add(name, fmt.Sprint(run["group"]), init, run)
		for key, value := range all[name].State {
			if strings.HasSuffix(key, ".json") && !strings.HasSuffix(key, "run.json") {
				if err := d.st.Set(key, value); err != nil {
					d.t.Fatal(err)
				}
			}
		}
	}
}

// xconnect installs a program in place of pv-xconnect.
func (d *device) xconnect() {
	d.t.Helper()
	if err := os.MkdirAll(d.dir+"/usr/bin", 0o755); err != nil {
		d.t.Fatal(err)
	}
	if err := os.WriteFile(d.dir+"/usr/bin/pv-xconnect", []byte("#!/bin/sh\nexec sleep 1000\n"), 0o755); err != nil {
		d.t.Fatal(err)
	}
	d.cfg.Apply(config.Env, config.SystemUsrDir, d.dir+"/usr")
}

// sameObjects gives a recorded state the objects of the device: the recorded update changes
// nothing, and so must this one.
func sameObjects(d *device, x *replaytest.Exchange) {
	collected(d, x)
	if x.Method != http.MethodPut || !strings.HasPrefix(x.Path, "/steps/") {
		return
	}
	st, err := state.Parse([]byte(*x.RequestBody))
	if err != nil {
		d.t.Fatal(err)
	}
	for _, o := range d.st.Objects() {
		if _, ok := st.Object(o.Path); ok {
			if err := st.SetObject(o.Path, o.Sum); err != nil {
				d.t.Fatal(err)
			}
		}
	}
	*x.RequestBody = string(st.Encode())
}

// seed makes files with the names of the objects that recorded states refer to.
func (d *device) seed(text string) {
	d.t.Helper()
	for _, sum := range regexp.MustCompile(`"[0-9a-f]{64}"`).FindAllString(text, -1) {
		path := filepath.Join(d.store.Dir(), strings.Trim(sum, `"`))
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o644)
		if err != nil {
			d.t.Fatal(err)
		}
		_ = f.Close()
	}
}

func differ(status, body, why string) replaytest.Differ {
	return replaytest.Differ{Status: status, Body: body, Why: why}
}

// The status lines of answers that differ.
const (
	fine      = "HTTP/1.1 200 OK"
	bad       = "HTTP/1.1 400 Bad Request"
	notFound  = "HTTP/1.1 404 Not Found"
	conflict  = "HTTP/1.1 409 Conflict"
	unfit     = "HTTP/1.1 422 Unprocessable Content"
	notYet    = "HTTP/1.1 501 Not Implemented"
	laterText = " is not available in this version"
)

// later is the answer to an operation that this version lacks.
func later(op string) replaytest.Differ {
	return differ(notYet, `{"Error":"`+op+laterText+`"}`, "what is not done is not answered with 200")
}

type differs = map[string]replaytest.Differ

// replays are all recorded endpoints, replayed against a device with the recordings'
// containers mgmt, app1 and sys1. The recordings' README explains the differences.
var replays = map[string]struct {
	differs differs
	skip    map[string]string
	reduce  func(list []replaytest.Exchange) func(any) any
	remote  bool // PV_CONTROL_REMOTE
	before  func(d *device, x *replaytest.Exchange)
}{
	"buildinfo": {}, "containers": {}, "daemons": {}, "device-meta": {}, "drivers": {}, "drivers-actions": {}, "groups": {}, "signal": {},
	"steps": {}, "user-meta": {}, "user-meta-actions": {}, "wakelocks": {}, "xconnect-graph": {},
	"config": {reduce: sameKeys}, "config2": {reduce: sameKeys},
	"containers-actions": {differs: differs{
		"no body (no Content-Length)":    differ(bad, `{"Error":"No data"}`, "every request gets an answer"),
		"empty body (Content-Length: 0)": differ(bad, `{"Error":"No data"}`, "every request gets an answer"),
	}},
	"daemons-actions": {differs: differs{
		"unknown action": differ(bad, `{"Error":"Invalid action. Use 'start', 'stop', or 'restart'"}`, "what is not done is not answered with 200"),
		"missing action": differ(bad, `{"Error":"Missing 'action' field"}`, "what is not done is not answered with 200"),
		"bad JSON":       differ(bad, `{"Error":"Invalid JSON"}`, "half a request is not obeyed"),
		"no body":        differ(bad, `{"Error":"No data"}`, "every request gets an answer"),
	}},
	"commands": {before: collected, differs: differs{
		"ENABLE_SSH": later("ENABLE_SSH"), "DISABLE_SSH": later("DISABLE_SSH"), "XCONNECT_GRAPH": later("XCONNECT_GRAPH"),
		"DEFER_REBOOT": differ(conflict, `{"Error":"Cannot do this operation when debug shell is not active"}`, "the recorded device had a debug shell"),
		"broken JSON":  differ(bad, `{"Error":"Command has bad format"}`, "half a command is not obeyed"),
	}, skip: map[string]string{
		"second command at once: slot busy": "the first may have ended; TestOneCollectionAtATime has the answer",
	}},
	"commands-remote-enabled": {remote: true, differs: differs{
		"device-meta": differ(fine, "", "without a hub nothing was told"),
	}, skip: map[string]string{"device-meta after": "shows what a hub was told"}},
	"commands-while-updating": {before: sameObjects, reduce: anySums, differs: differs{
		"TRY_ONCE while an update is in TESTING":       differ("HTTP/1.1 503 Service Unavailable", `{"Error":"Cannot do this operation while update is ongoing"}`, "what is not done is not answered with 200"),
		"ENABLE_SSH while an update is in TESTING":     later("ENABLE_SSH"),
		"XCONNECT_GRAPH while an update is in TESTING": later("XCONNECT_GRAPH"),
		"PUT step over the revision under test":        differ(conflict, `{"Error":"Cannot do this operation while the revision is in use"}`, "what is tested stays what it is"),
		"its progress":                                 differ(fine, "", "it was not replaced"),
		"device-meta":                                  differ(fine, "", "the status is that of a device whose update is quicker"),
	}},
	"objects": {reduce: firstOf},
	"objects-actions": {reduce: firstOf, differs: differs{
		"path traversal": differ(bad, "", "every request gets an answer"),
	}, skip: map[string]string{
		"put 300000 bytes": "the recording has only the digest of the content", "get 300000 bytes": "as above",
	}},
	"steps-actions": {reduce: anySums, differs: differs{
		"commitmsg on unknown step":                        differ(notFound, `{"Error":"Resource does not exist"}`, "a message makes no step"),
		"commitmsg empty":                                  differ(bad, `{"Error":"No commit message"}`, "every request gets an answer"),
		"put name with dot-dot":                            differ(bad, `{"Error":"Request has bas step name"}`, "no step outside of trails/locals"),
		"put state referring to a missing object":          differ(unfit, "", "a state that cannot run is refused at once, with its missing objects"),
		"progress of missing object state":                 differ(notFound, `{"Error":"Resource does not exist"}`, "it was refused"),
		"put state with unknown container type":            differ(unfit, "", "every violation is named at once"),
		"put state with an object value that is not a sha": differ(unfit, "", "every violation is named at once"),
	}, skip: map[string]string{
		"list steps after odd commitmsg": "shows the step that a message made", "list steps at the end": "shows what refused names and states left behind",
	}},
	"steps-signatures-audit":   {reduce: anySums, skip: map[string]string{"steps": "shows what was refused for its signature"}},
	"steps-signatures-lenient": {reduce: anySums, skip: map[string]string{"steps": "as above"}},
	"device-meta-actions":      {},
	"http-level": {skip: map[string]string{
		"connection opened, nothing sent": "the control socket's own tests wait for the end of such connections", "partial request line": "as above",
		"body shorter than Content-Length": "as above", "two pipelined requests": "as above; the recorded metadata is that of another case",
		"no Host header, HTTP/1.1": "the recorded metadata is that of another case", "header line of 9000 bytes": "as above",
	}, differs: differs{
		"Host: other":                 differ("HTTP/1.1 421 Misdirected Request", `{"Error":"This socket answers for localhost only; the request names another host"}`, "every request gets an answer"),
		"Content-Length not a number": differ(bad, replaytest.Unsupported, "one request, one answer"),
		"negative Content-Length":     differ(bad, replaytest.Unsupported, "one request, one answer"),
	}},
	"long-names": {differs: longNames()},
}

func longNames() differs {
	m := differs{}
	for _, n := range []int{256, 300, 1000, 4000} {
		m[fmt.Sprintf("user-meta key of %d", n)] = differ(bad, `{"Error":"Cannot add or update user meta"}`, "a key that cannot be stored is not accepted")
	}
	m["container name of 4000"] = differ(notFound, `{"Error":"Container not found"}`, "long names do no harm")
	m["daemon name of 4000"] = differ(notFound, `{"Error":"Daemon not found"}`, "long names do no harm")
	m["step name of 4000"] = differ(notFound, `{"Error":"Resource does not exist"}`, "long names do no harm")
	m["unknown endpoint of 4000"] = differ(bad, "", "every request gets an answer")
	return m
}

// collected waits until no garbage is being collected, and until a container that
// was stopped has stopped.
func collected(d *device, x *replaytest.Exchange) {
	switch {
	case strings.Contains(pointed(x.RequestBody), "RUN_GC"):
		for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
			if _, err := d.try("POST", "/storage/gc", ""); err == nil {
				return
			}
		}
	case x.Case == "containers":
		d.await(map[string]string{"mgmt": "STARTED", "sys1": "STARTED", "app1": "STOPPED"})
	}
}

func pointed(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// sameKeys compares settings by their names and the types of their values: those of
// the recording must be there.
func sameKeys(list []replaytest.Exchange) func(any) any {
	recorded := list[0].ResponseBody
	return func(v any) any {
		out := map[string]any{}
		add := func(key string, value any) {
			if !strings.Contains(*recorded, `"`+key+`"`) {
				return // ours alone
			}
			if value == nil {
				value = "" // unset
			}
			out[key] = fmt.Sprintf("%T", value)
		}
		switch v := v.(type) {
		case map[string]any:
			for key, value := range v {
				add(key, value)
			}
		case []any:
			for _, e := range v {
				m := e.(map[string]any)
				add(fmt.Sprint(m["key"]), fmt.Sprintf("%T %T", m["value"], m["modified"]))
			}
		}
		return out
	}
}

// firstOf compares the first elements of lists.
func firstOf([]replaytest.Exchange) func(any) any {
	return func(v any) any {
		if list, ok := v.([]any); ok && len(list) > 1 {
			return list[:1]
		}
		return v
	}
}

// anySums compares states with all object names equal.
func anySums([]replaytest.Exchange) func(any) any {
	return func(v any) any {
		m, ok := v.(map[string]any)
		for key, value := range m {
			if text, _ := value.(string); ok && len(text) == 64 {
				m[key] = "<object>"
			}
		}
		return v
	}
}

// machine lists the members of answers that differ from machine to machine.
var machine = replaytest.Conditions{
	Kinds: []string{"is_stable", "pid", "interfaces", "pantavisor.arch", "pantavisor.version", "pantavisor.cpumodel", "size", "sha256",
		"modified", "degraded", "reclaimed"},
	Shapes: []string{"storage", "sysinfo", "time", "pantavisor.uname"},
	Extra:  []string{"status_reason", "timeout", "timeout_remaining", "Details", "pantavisor.dtmodel", "pantavisor.claimed", "memory"},
}

func TestReplay(t *testing.T) {
	for _, name := range replaytest.Names(t) {
		r, ok := replays[name]
		if !ok {
			if !slices.Contains(featureReplays, name) {
				t.Errorf("recording %s is not replayed", name)
			}
			continue
		}
		t.Run(name, func(t *testing.T) {
			list := replaytest.Load(t, name)
			d := newDevice(t)
			d.addRecorded("mgmt", "app1", "sys1")
			d.xconnect()
			if !r.remote {
				d.cfg.Apply(config.Env, config.ControlRemote, "0")
			}
			d.cfg.Apply(config.Env, config.SecurebootChecksum, "0") // the objects of the recording are empty here
			d.boot()
			d.await(map[string]string{"mgmt": "STARTED", "app1": "STARTED", "sys1": "STARTED"})
			c := machine
			relays := map[string]string{}
			c.Dial = func(_ testing.TB, caller string) net.Conn { return d.as(relays, caller) }
			c.Differs, c.Skip = r.differs, r.skip
			if r.reduce != nil {
				c.Reduce = r.reduce(list)
			}
			c.Before = func(x *replaytest.Exchange) {
				if x.Method == "PUT" && strings.HasPrefix(x.Path, "/steps") && !strings.Contains(x.Case, "missing object") {
					d.seed(pointed(x.RequestBody))
				}
				if r.before != nil {
					r.before(d, x)
				}
			}
			replaytest.Run(t, list, c)
		})
	}
}

// featureReplays are the recordings of a device with containers that crash, signal,
// and use drivers and services.
var featureReplays = []string{"readiness", "recovery", "drivers-managed", "services"}

// TestReplayFeatures replays them on one device, in the order in which they were
// recorded. The crashing container uses up its attempts in real time.
func TestReplayFeatures(t *testing.T) {
	d := newDevice(t)
	d.addRecorded("mgmt", "svc1", "cli1", "drv1", "crash1", "per1", "once1", "rdy1")
	d.xconnect()
	var inserted []string // a kernel that takes all modules but those whose names begin with no
	d.modules = drivers.Modules{
		Insert: func(module, options string) error {
			inserted = append(inserted, strings.TrimSpace(module+" "+options))
			if strings.HasPrefix(module, "no") {
				return errors.New("no such module")
			}
			return nil
		},
		Remove: func(string) error { return nil },
	}
	d.boot()
	up := map[string]string{"mgmt": "STARTED", "svc1": "STARTED", "cli1": "STARTED", "drv1": "STARTED", "crash1": "STOPPED", "per1": "STARTED",
		"once1": "STOPPED", "rdy1": "STARTED"}
	now := d.await(up)
	// A policy "no" of its own takes precedence over that of the group.
	if c := now["once1"]; c.AutoRecovery != nil || c.StatusReason != "exited with code 0" {
		t.Errorf("once1: %+v", c)
	}
	if c := now["crash1"]; c.AutoRecovery == nil || c.AutoRecovery.CurrentRetries != 3 || c.StatusReason != "exited with code 1" {
		t.Errorf("crash1: %+v", c)
	}
	if diff := cmp.Diff([]string{"dummy", "noopt"}, inserted); diff != "" {
		t.Errorf("modules at start (-want +got):\n%s", diff)
	}
	relays := map[string]string{}
	c := machine
	c.Dial = func(_ testing.TB, caller string) net.Conn { return d.as(relays, caller) }
	c.Kinds = append(slices.Clone(c.Kinds), "consumer_pid", "provider_pid")
	c.Reduce = ownPolicies
	replaytest.Run(t, replaytest.Load(t, "readiness"), c)
	c.Before = func(x *replaytest.Exchange) {
		if x.Case == "containers" { // crash1 is at one of its attempts, the others are where they were sent
			up["crash1"], up["rdy1"] = "", "READY"
			d.await(up)
		}
	}
	replaytest.Run(t, replaytest.Load(t, "recovery"), c)
	c.Before = nil
	replaytest.Run(t, replaytest.Load(t, "drivers-managed"), c)
	if last := inserted[len(inserted)-2:]; last[0] != "wifimod a=1" || last[1] != "wifimod2 opt=7" {
		t.Errorf("the options of user metadata: %q", last)
	}
	c.Differs = differs{"xconnect-graph": differ(fine, "[]", "the service mesh comes in a later version")}
	replaytest.Run(t, replaytest.Load(t, "services"), c)
	if c := d.await(up)["once1"]; c.UserStopped != "true" {
		t.Errorf("once1 after a stop: %+v", c)
	}
}

// ownPolicies removes the members that show a group's recovery policy on containers that
// have a policy of their own, and the attempt that crash1 is at.
func ownPolicies(v any) any {
	list, _ := v.([]any)
	for _, e := range list {
		m, _ := e.(map[string]any)
		switch m["name"] {
		case "once1":
			delete(m, "auto_recovery")
			delete(m, "status")
		case "per1":
			delete(m, "auto_recovery")
		case "crash1":
			delete(m, "status")
			if r, ok := m["auto_recovery"].(map[string]any); ok {
				delete(r, "current_retries")
			}
		}
	}
	return v
}

// TestReplayLifecycle sends the recorded actions to a container, some while it still
// carries out the previous one, and waits for the final status of the recorded device.
func TestReplayLifecycle(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(replaytest.Dir(t), "containers-lifecycle.json"))
	if err != nil {
		t.Fatal(err)
	}
	var steps []struct {
		Request replaytest.Exchange `json:"request"`
		After   []struct {
			App api.Container `json:"app1"`
		} `json:"containers_after"`
	}
	if err := json.Unmarshal(data, &steps); err != nil {
		t.Fatal(err)
	}
	d := newDevice(t)
	d.addRecorded("mgmt", "app1", "sys1")
	d.boot()
	d.await(map[string]string{"mgmt": "STARTED", "app1": "STARTED", "sys1": "STARTED"})
	relays := map[string]string{}
	c := machine
	c.Dial = func(_ testing.TB, caller string) net.Conn { return d.as(relays, caller) }
	for i := range steps {
		s := &steps[i]
		if strings.HasPrefix(s.Request.Case, "broken JSON") {
			continue // half an order is not obeyed, and nothing changes
		}
		replaytest.Run(t, []replaytest.Exchange{s.Request}, c)
		if len(s.After) == 0 {
			continue // the next order comes at once
		}
		want := s.After[len(s.After)-1].App
		got := d.await(map[string]string{"mgmt": "STARTED", "sys1": "STARTED", "app1": want.Status})["app1"]
		if got.UserStopped != want.UserStopped || got.AutoRecovery.CurrentRetries != want.AutoRecovery.CurrentRetries {
			t.Errorf("after %q: %+v, want %+v", s.Request.Case, got, want)
		}
	}
}
