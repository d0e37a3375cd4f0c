package device

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/internal/oracle"
	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/revision/state"
	"github.com/pantavisor/pantavisor/revision/trail"
	"github.com/pantavisor/pantavisor/runtime/config"
	"github.com/pantavisor/pantavisor/runtime/container"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
	"github.com/pantavisor/pantavisor/runtime/ctrl/client"
	"github.com/pantavisor/pantavisor/runtime/drivers"
	"github.com/pantavisor/pantavisor/runtime/handoff"
	"github.com/pantavisor/pantavisor/runtime/program"
	"github.com/pantavisor/pantavisor/runtime/step"
)

func TestMain(m *testing.M) {
	if os.Args[0] == container.StageArg {
		container.Init()
	}
	if socket := os.Getenv(relayEnv); socket != "" {
		relay(socket)
		return
	}
	signal.Notify(make(chan os.Signal, 1), unix.SIGUSR1) // its goroutine stays for good
	_, _ = program.Path()                                // and so does its descriptor
	code := m.Run()
	if guest.dir != "" {
		_ = os.RemoveAll(guest.dir)
	}
	os.Exit(code)
}

// guest is the root file system of all containers of the tests, built once.
var guest struct {
	once sync.Once
	dir  string
	err  error
}

// guestImage returns the path of the image.
func guestImage(t testing.TB) string {
	t.Helper()
	guest.once.Do(func() { guest.err = buildGuest() })
	if guest.err != nil {
		t.Fatal(guest.err)
	}
	return guest.dir + "/root.squashfs"
}

func buildGuest() (err error) {
	if guest.dir, err = os.MkdirTemp("", "pv-guest-"); err != nil {
		return err
	}
	root := guest.dir + "/root"
	err = errors.Join(os.MkdirAll(root+"/sbin", 0o755), os.MkdirAll(root+"/etc", 0o755), os.WriteFile(root+"/etc/motd", []byte("image"), 0o644),
		os.WriteFile(root+"/sbin/pause", pauser(), 0o755))
	for _, args := range [][]string{
		{"go", "build", "-trimpath", "-ldflags=-s -w", "-o", root + "/sbin/init", "../container/testdata/guest"},
		{"mksquashfs", root, root + ".squashfs", "-quiet", "-no-progress", "-comp", "gzip", "-Xcompression-level", "1"},
	} {
		if err != nil {
			return err
		}
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		var out []byte
		if out, err = cmd.CombinedOutput(); err != nil {
			err = fmt.Errorf("%s: %w\n%s", args[0], err, out)
		}
	}
	return err
}

// device is a storage with a revision, and an engine that runs it.
type device struct {
	t     testing.TB
	dir   string
	store *objects.Store
	st    *state.State
	tree  *container.Tree
	cfg   *config.Config
	image string // sum of the guest's squashfs
	rev   string // that runs
	out   *buffer
	code  chan int
	ctl   client.Client
	s     *session

	modules drivers.Modules
}

// buffer is the engine's standard output.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) { b.mu.Lock(); defer b.mu.Unlock(); return b.b.Write(p) }
func (b *buffer) String() string              { b.mu.Lock(); defer b.mu.Unlock(); return b.b.String() }

func newDevice(t testing.TB) *device {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("containers need root")
	}
	oracle.Need(t, "mksquashfs")
	d := &device{t: t, dir: t.TempDir(), st: state.New(state.Spec), rev: "0", out: &buffer{}}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var err error
	d.store, err = objects.Create(d.dir + "/storage/objects")
	must(err)
	tree, err := container.FindTree(d.dir + "/cgroup")
	must(err)
	d.tree = tree.Sub("pv-test-" + filepath.Base(filepath.Dir(d.dir)))
	d.image = d.object(guestImage(t))
	d.cfg = config.New()
	for k, v := range map[config.Key]string{
		config.StorageMntPoint: d.dir + "/storage", config.SystemRunDir: d.dir + "/run", config.DiskVolDir: d.dir + "/volumes",
		config.DiskExportsDir: d.dir + "/exports", config.SystemConfDir: d.dir + "/configs", config.LogDir: d.dir + "/storage/logs",
		config.CacheUsrmetaDir: d.dir + "/storage/cache/meta", config.CacheDevmetaDir: d.dir + "/storage/cache/devmeta",
		config.SystemEtcPantavisorDir: d.dir + "/etc", config.SystemInitMode: "appengine", config.LogLevel: "4",
		config.LogServerOutputs: "filetree,stdout.pantavisor", config.LogCaptureDmesg: "0",
	} {
		if !d.cfg.Apply(config.Env, k, v) && d.cfg.String(k) != v {
			t.Logf("%s stays %q: %v", k.Name(), d.cfg.String(k), d.cfg.Notes())
		}
	}
	d.ctl = client.Client{Socket: d.dir + "/run/pv-ctrl", Timeout: 60 * time.Second}
	return d
}

// pauser is a tiny program for x86_64 that waits for ever.
func pauser() []byte {
	code := []byte{0xb8, 34, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7} // again: mov eax, 34 (pause); syscall; jmp again
	const base, size = 0x400000, 64 + 56 + 9
	b := append([]byte{0x7f, 'E', 'L', 'F', 2, 1, 1}, make([]byte, 9)...)
	for _, f := range []struct{ bytes, value int }{
		{2, 2}, {2, 62}, {4, 1}, {8, base + 64 + 56}, {8, 64}, {8, 0}, {4, 0}, {2, 64}, {2, 56}, {2, 1}, {2, 0}, {2, 0}, {2, 0}, // ELF header
		{4, 1}, {4, 5}, {8, 0}, {8, base}, {8, base}, {8, size}, {8, size}, {8, 4096}, // the one segment
	} {
		var word [8]byte
		binary.LittleEndian.PutUint64(word[:], uint64(f.value))
		b = append(b, word[:f.bytes]...)
	}
	return append(b, code...)
}

func (d *device) object(path string) string {
	d.t.Helper()
	f, err := os.Open(path)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	sum, err := d.store.Put(context.Background(), f, "")
	if err != nil {
		d.t.Fatal(err)
	}
	return sum
}

func (d *device) text(s string) string {
	d.t.Helper()
	sum, err := d.store.Put(context.Background(), strings.NewReader(s), "")
	if err != nil {
		d.t.Fatal(err)
	}
	return sum
}

// add adds a container to the state, with the files that pvr makes. run is merged into
// its run.json, lines are appended to its configuration.
func (d *device) add(name, group, init string, run map[string]any, lines ...string) {
	d.t.Helper()
	conf := append([]string{
		"lxc.tty.max = 8", "lxc.pty.max = 1024", "lxc.cgroup.devices.allow = a",
		"lxc.rootfs.path = overlayfs:/volumes/" + name + "/root.squashfs:/volumes/" + name + "/lxc-overlay/upper",
		"lxc.init.cmd = " + init, "lxc.namespace.keep = user  net  ipc", "lxc.mount.auto = proc  sys:rw  cgroup",
		"lxc.mount.entry = /etc/resolv.conf etc/resolv.conf none bind,rw,create=file 0 0",
		"lxc.mount.entry = tmpfs run tmpfs rw,nodev,relatime,create=dir,mode=755 0 0",
	}, lines...)
	doc := map[string]any{"#spec": "service-manifest-run@1", "config": "lxc.container.conf", "group": group, "name": name,
		"root-volume": "root.squashfs", "storage": map[string]any{"lxc-overlay": map[string]any{"persistence": "boot"}},
		"type": "lxc", "volumes": []string{}}
	for k, v := range run {
		doc[k] = v
	}
	b, err := json.Marshal(doc)
	if err == nil {
		err = errors.Join(d.st.Set(name+"/run.json", b), d.st.SetObject(name+"/root.squashfs", d.image),
			d.st.SetObject(name+"/lxc.container.conf", d.text(strings.Join(conf, "\n")+"\n")))
	}
	if err != nil {
		d.t.Fatal(err)
	}
}

// boot lays the state out as revision 0 and runs it.
func (d *device) boot() {
	d.t.Helper()
	err := trail.Checkout(context.Background(), d.dir+"/storage/trails/0", d.st, d.store, trail.Options{Replace: true, NoBootLinks: true})
	if err != nil {
		d.t.Fatal(err)
	}
	d.run()
}

func (d *device) run() {
	d.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	d.code = make(chan int, 1)
	done := make(chan struct{})
	d.s = newSession(d.cfg, Options{Revision: d.rev, Version: "test", BootCPU: -1, Stdout: d.out, Tree: d.tree, Modules: d.modules})
	go func() {
		defer close(done)
		d.code <- d.s.run(ctx)
	}()
	d.t.Cleanup(func() {
		cancel()
		<-done
		if d.t.Failed() {
			d.t.Logf("the engine said:\n%s", d.out)
		}
	})
}

// ask asks the control socket and returns the body.
func (d *device) ask(method, path, body string) string {
	d.t.Helper()
	text, err := d.try(method, path, body)
	if err != nil {
		d.t.Fatalf("%s %s: %v", method, path, err)
	}
	return text
}

func (d *device) try(method, path, body string) (string, error) {
	req := &client.Request{Method: method, Path: path}
	if body != "" {
		req.Body, req.Size = strings.NewReader(body), int64(len(body))
	}
	res, err := d.ctl.Do(context.Background(), req)
	if err != nil {
		return "", err
	}
	defer res.Close()
	b, err := io.ReadAll(res)
	if err == nil && res.Status != 200 {
		err = fmt.Errorf("%d %s", res.Status, b)
	}
	return string(b), err
}

// await waits until the containers have the wanted statuses, by name; "" is any status.
func (d *device) await(want map[string]string) map[string]api.Container {
	d.t.Helper()
	var got map[string]api.Container
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); time.Sleep(5*time.Millisecond + time.Duration(len(want))*time.Millisecond/2) {
		text, err := d.try("GET", "/containers", "")
		var list []api.Container
		if err != nil || json.Unmarshal([]byte(text), &list) != nil {
			continue
		}
		got = map[string]api.Container{}
		right := len(list) == len(want)
		for _, c := range list {
			got[c.Name] = c
			right = right && (want[c.Name] == c.Status || want[c.Name] == "")
		}
		if right {
			return got
		}
	}
	d.t.Fatalf("containers are %+v, want %v", got, want)
	return nil
}

// off powers the device off.
func (d *device) off() {
	d.t.Helper()
	d.ask("POST", "/commands", `{"op":"POWEROFF_DEVICE","payload":""}`)
	if code := <-d.code; code != handoff.ExitPowerOff {
		d.t.Errorf("exit code %d", code)
	}
}

// console waits for the first line of a container's console and reads the report in it.
func (d *device) console(name string) map[string]string {
	d.t.Helper()
	return d.consoleIn("0", name)
}

// consoleIn is console for another revision than 0.
func (d *device) consoleIn(rev, name string) map[string]string {
	d.t.Helper()
	path := d.dir + "/storage/logs/" + rev + "/" + name + "/lxc/console.log"
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		b, _ := os.ReadFile(path)
		line, _, ok := strings.Cut(string(b), "\n")
		if !ok {
			continue
		}
		var r struct{ Tried map[string]string }
		if err := json.Unmarshal([]byte(strings.TrimSpace(line)), &r); err != nil {
			d.t.Fatalf("%s says %q: %v", name, line, err)
		}
		return r.Tried
	}
	d.t.Fatalf("%s stays empty", path)
	return nil
}

// traces are the kinds of resources that an engine may leave behind, by name.
type traces map[string]int

// more lists the resources that were not there before.
func (a traces) more(than traces) []string {
	var out []string
	for what, n := range a {
		if n > than[what] {
			out = append(out, fmt.Sprintf("%s: %d, before %d", what, n, than[what]))
		}
	}
	slices.Sort(out)
	return out
}

func (d *device) traces() traces {
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	loops, groups := 0, 0
	files, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && strings.HasPrefix(string(b), d.dir) {
			loops++
		}
	}
	_ = filepath.WalkDir(d.groupsOrNone(), func(_ string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			groups++
		}
		return nil //nolint:nilerr // groups come and go
	})
	processes := 0
	threads, _ := filepath.Glob("/proc/self/task/*/children") // each has the processes that it started
	for _, f := range threads {
		children, _ := os.ReadFile(f)
		processes += len(strings.Fields(string(children)))
	}
	return traces{"mounts": strings.Count(string(mounts), d.dir), "loop devices": loops, "control groups": groups, "descriptors": len(d.descriptors()),
		"goroutines": runtime.NumGoroutine(), "processes": processes}
}

// descriptors lists the open files of this process. Those of the log server are left out:
// it keeps a bounded number open for further messages.
func (d *device) descriptors() (open []string) {
	list, _ := os.ReadDir("/proc/self/fd")
	for _, f := range list {
		if to, _ := os.Readlink("/proc/self/fd/" + f.Name()); !strings.HasPrefix(to, d.dir+"/storage/logs/") {
			open = append(open, f.Name()+":"+to)
		}
	}
	return open
}

// same checks that no resources were left behind. It waits for goroutines that are still
// serving a request or closing a socket.
func (d *device) same(before traces) {
	d.t.Helper()
	more := d.traces().more(before)
	for deadline := time.Now().Add(60 * time.Second); len(more) > 0 && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		more = d.traces().more(before)
	}
	if len(more) > 0 {
		d.t.Fatalf("left behind: %s; descriptors: %s", strings.Join(more, "; "), strings.Join(d.descriptors(), " "))
	}
}

func TestDeviceRuns(t *testing.T) {
	d := newDevice(t)
	d.add("net", "root", "/sbin/init stay ask:GET,/containers list:/pantavisor write:/pantavisor/new read:/etc/motd", map[string]any{"roles": []string{"mgmt"}})
	d.add("app", "app", "/sbin/init stay ask:GET,/containers ask:POST,/signal,{\"type\":\"ready\"} list:/pantavisor write:/data/mine write:/tmp1/x read:/etc/motd read:/pantavisor/user-meta/greeting write:/pantavisor/user-meta/mine log:<13>hello",
		map[string]any{"status_goal": "READY", "storage": map[string]any{"lxc-overlay": map[string]any{"persistence": "boot"}, "data": map[string]any{"persistence": "permanent"}}},
		"lxc.mount.entry = /volumes/app/data data none bind,rw,create=dir 0 0")
	if err := d.st.SetObject("_config/app/etc/motd", d.text("config")); err != nil {
		t.Fatal(err)
	}
	meta := d.dir + "/storage/cache/meta/app" // as an earlier boot left it
	if err := errors.Join(os.MkdirAll(meta, 0o755), os.WriteFile(meta+"/greeting", []byte("hello"), 0o644)); err != nil {
		t.Fatal(err)
	}
	before := d.traces()
	d.boot()
	list := d.await(map[string]string{"net": "STARTED", "app": "READY"})
	if g := list["app"].Group; g == nil || *g != "app" || list["app"].StatusReason != "" || len(list["app"].Roles) != 0 {
		t.Errorf("app is %+v", list["app"])
	}
	net, app := d.console("net"), d.console("app")
	if !strings.HasPrefix(net["ask:GET,/containers"], "200 [{") {
		t.Errorf("a container with role mgmt asks for the containers: %s", net["ask:GET,/containers"])
	}
	if !strings.HasPrefix(app["ask:GET,/containers"], "403 ") {
		t.Errorf("a container without roles asks for the containers: %s", app["ask:GET,/containers"])
	}
	if got := app[`ask:POST,/signal,{"type":"ready"}`]; got != "200 " {
		t.Errorf("signal ready: %s", got)
	}
	if got := app["list:/pantavisor"]; got != "device-meta logs pv-ctrl pv-ctrl-log pv-fd-log user-meta" {
		t.Errorf("a container without roles sees %s", got)
	}
	for _, f := range []string{"pv-ctrl", "challenge", "device-id", "logs", "user-meta"} {
		if !strings.Contains(" "+net["list:/pantavisor"]+" ", " "+f+" ") {
			t.Errorf("role mgmt does not see %s: %s", f, net["list:/pantavisor"])
		}
	}
	if !strings.Contains(net["write:/pantavisor/new"], "read-only") {
		t.Errorf("writing to /pantavisor: %s", net["write:/pantavisor/new"])
	}
	if net["read:/etc/motd"] != "image" || app["read:/etc/motd"] != "config" {
		t.Errorf("/etc/motd is %q and %q", net["read:/etc/motd"], app["read:/etc/motd"])
	}
	if app["read:/pantavisor/user-meta/greeting"] != "hello" || !strings.Contains(app["write:/pantavisor/user-meta/mine"], "read-only") {
		t.Errorf("its user metadata: %q, %q", app["read:/pantavisor/user-meta/greeting"], app["write:/pantavisor/user-meta/mine"])
	}
	published := d.ask("GET", "/device-meta", "")
	for _, want := range []string{`"pantavisor.status":"READY"`, `"pantavisor.version":"test"`, `"pantavisor.revision":"0"`, `"pantahub.claimed":"0"`, `"pantavisor.claimed":"0"`, `"lo.ipv4":["127.0.0.1"`, `"tv_sec":`, `"real_free":`} {
		if !strings.Contains(published, want) {
			t.Errorf("device metadata lacks %s: %s", want, published)
		}
	}
	if target, _ := os.Readlink(d.dir + "/storage/trails/current"); target != "0" {
		t.Errorf("trails/current leads to %q", target)
	}
	d.off()
	for _, want := range []string{"container net is now STARTED", "container app is now READY", "ready: all 2 containers reached their goals in"} {
		if strings.Count(d.out.String(), want) != 1 {
			t.Errorf("the console says %q %d times", want, strings.Count(d.out.String(), want))
		}
	}
	if b, _ := os.ReadFile(d.dir + "/storage/disks/perm/app/data/mine"); string(b) != "1\n" {
		t.Errorf("the permanent volume holds %q", b)
	}
	d.same(before)
	if _, err := os.Stat(d.dir + "/volumes/app"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the volumes' directory is left: %v", err)
	}
}

// TestOwnVolumes keeps metadata in the volumes that device.json has for it, and in
// memory when the disk cannot be mounted.
func TestOwnVolumes(t *testing.T) {
	d := newDevice(t)
	d.add("app", "app", "/sbin/init stay list:/pantavisor/user-meta list:/pantavisor/device-meta", map[string]any{"roles": []string{"mgmt"}})
	d.add("plain", "app", "/sbin/init stay", nil)
	err := d.st.Set("device.json", []byte(`{"groups":[{"name":"app"}],"disks":[{"name":"secrets","type":"dm-crypt-versatile","path":"/x.img,2,key"}],
		"volumes":{"pv--usrmeta":{"persistence":"permanent"},"pv--devmeta":{"persistence":"permanent","disk":"secrets"},
		"pv--phconfig":{"persistence":"permanent"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	d.cfg.Apply(config.Env, config.StoragePHConfigVol, "1")
	for dir, text := range map[string]string{"config": "PV_NOT_READ=1\n", "disks/perm/bsp/pv--phconfig": "PH_CREDS_PRN=prn:::devices:/1\n"} {
		dir = filepath.Join(d.dir, "storage", dir)
		if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(dir+"/pantahub.config", []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	before := d.traces()
	delete(before, "goroutines") // the test's own wait for the engine's end
	d.boot()
	d.await(map[string]string{"app": "STARTED", "plain": "STARTED"})
	d.console("app")
	d.ask("PUT", "/user-meta/mine", "1")
	d.ask("PUT", "/device-meta/secret", "2")
	d.ask("PUT", "/device-meta/plain.secret", "3")
	if b, _ := os.ReadFile(d.dir + "/storage/disks/perm/bsp/pv--usrmeta/mine"); string(b) != "1" {
		t.Errorf("the volume for user metadata holds %q", content(t, d.dir+"/storage/disks/perm/bsp/pv--usrmeta"))
	}
	meta := d.ask("GET", "/device-meta", "")
	if !strings.Contains(meta, `"secret":"2"`) {
		t.Errorf("device metadata is lost: %s", meta)
	}
	if !strings.Contains(meta, `"pantahub.claimed":"1"`) || strings.Contains(d.out.String(), "PV_NOT_READ") {
		t.Errorf("pantahub.config of the volume is not used alone: %s", meta)
	}
	if found := d.secrets(); len(found) != 3 || slices.ContainsFunc(found, func(f string) bool { return !inMemory(filepath.Dir(f)) }) {
		t.Errorf("what was to be on an encrypted disk is in %q: want three files, all in memory", found)
	}
	if !strings.Contains(d.out.String(), "disk secrets has the unsupported type dm-crypt-versatile") {
		t.Error("the log does not name the disk")
	}
	d.off()
	after := d.traces()
	delete(after, "goroutines")
	if more := after.more(before); len(more) > 0 {
		t.Errorf("left behind: %v", more)
	}
	if found := d.secrets(); len(found) > 0 && !inMemory(d.dir) {
		t.Errorf("after the end there is %q", found)
	}
}

// secrets are the files of a key named secret, whole or in a container's copy.
func (d *device) secrets() (out []string) {
	for _, f := range files(d.dir) {
		if name := filepath.Base(f); name == "secret" || name == "plain.secret" {
			out = append(out, filepath.Join(d.dir, f))
		}
	}
	return out
}

// TestNoMemoryNoFile keeps metadata in the runtime alone when there is no directory in
// memory for it.
func TestNoMemoryNoFile(t *testing.T) {
	h := &host{rev: &revision{logs: t.TempDir()}, paths: paths{run: "/r", logs: "/l"}}
	plain, err := h.ordinaryMounts("c")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range append(h.mgmtMounts(), plain...) {
		if m.Source == "" || strings.HasSuffix(m.Target, "-meta") {
			t.Errorf("%+v", m)
		}
	}
	own := &ownVolumes{paths: &paths{run: "/dev/null/r"}}
	if dir, release := own.memory(); dir != "" {
		release()
		t.Errorf("a directory in memory at %s, below a file", dir)
	}
}

func TestDamagedStateStillServes(t *testing.T) {
	d := newDevice(t)
	stay := "/sbin/init wait"
	d.add("good", "platform", stay, nil)
	d.add("lost", "platform", stay, nil)
	d.add("wrong", "platform", stay, nil)
	d.add("noinit", "platform", "/bin/nothere", nil)
	d.add("nosource", "platform", stay, nil, "lxc.mount.entry = /no/such/thing a none bind,create=dir 0 0")
	d.add("noconf", "platform", stay, nil, "lxc.cap.keep = fly")
	d.add("norun", "app", stay, map[string]any{"status_goal": "SOMETIME"})
	d.add("ends", "platform", "/sbin/init exit 3", nil)
	lost, wrong := d.text("this will be lost"), d.text("this will be changed")
	if err := errors.Join(d.st.SetObject("lost/extra.bind", lost), d.st.SetObject("wrong/extra.bind", wrong)); err != nil {
		t.Fatal(err)
	}
	if err := trail.Checkout(context.Background(), d.dir+"/storage/trails/0", d.st, d.store, trail.Options{NoBootLinks: true}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Remove(d.dir+"/storage/objects/"+lost), os.WriteFile(d.dir+"/storage/objects/"+wrong, []byte("changed"), 0o644),
		os.Remove(d.dir+"/storage/trails/0/good/root.squashfs")); err != nil {
		t.Fatal(err)
	}
	d.run()
	list := d.await(map[string]string{"good": "STARTED", "lost": "STOPPED", "wrong": "STOPPED", "noinit": "STOPPED",
		"nosource": "STOPPED", "noconf": "STOPPED", "norun": "STOPPED", "ends": "STOPPED"})
	for name, want := range map[string]string{
		"lost": "object " + lost + " is missing", "wrong": objects.ErrMismatch.Error(), "noinit": "looking for init: /bin/nothere",
		"nosource": "mounting /no/such/thing on /a", "noconf": "is not a capability", "norun": "status_goal", "ends": "exited with code 3",
	} {
		if !strings.Contains(list[name].StatusReason, want) {
			t.Errorf("%s: %q does not say %q", name, list[name].StatusReason, want)
		}
	}
	d.off()
	if !strings.Contains(d.out.String(), "not ready: 2 of 8 containers") { // "ends" was STARTED for a moment
		t.Error("the log does not say how many containers reached their goals")
	}
}

func TestNoStateStillServes(t *testing.T) {
	d := newDevice(t)
	for _, doc := range []string{"", "{", `{"#spec":"other@1"}`} {
		if err := errors.Join(os.MkdirAll(d.dir+"/storage/trails/0/.pvr", 0o755), os.WriteFile(d.dir+"/storage/trails/0/.pvr/json", []byte(doc), 0o644)); err != nil {
			t.Fatal(err)
		}
		d.run()
		for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(time.Millisecond) {
			_, err := d.try("GET", "/containers", "")
			if err != nil && strings.Contains(err.Error(), "State not loaded yet") {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("with state %q: %v", doc, err)
			}
		}
		d.ask("GET", "/device-meta", "")
		d.off()
	}
}

// TestRevisionOfStateAndObjects starts a revision that is only .pvr/json and objects: what
// reads its files runs as at the second start.
func TestRevisionOfStateAndObjects(t *testing.T) {
	d := newDevice(t)
	if err := d.st.Set("device.json", []byte(`{"groups":[{"name":"app","status_goal":"STARTED","restart_policy":"container"}],
		"network":{"pools":{"net0":{"type":"bridge","bridge":"pvs`+strconv.Itoa(os.Getpid())+`","subnet":"10.255.78.0/24","gateway":"10.255.78.1","nat":false}}}}`)); err != nil {
		t.Fatal(err)
	}
	d.add("fixed", "app", "/sbin/init stay read:/etc/motd", nil, "lxc.net.0.type = veth", "lxc.net.0.ipv4.address = 10.255.78.2/24", "lxc.namespace.keep = user ipc")
	d.add("pooled", "app", "/sbin/init stay net:", map[string]any{"network": map[string]any{"pool": "net0"}})
	for key, text := range map[string]string{"acme/default.config": "PH_UPDATER_INTERVAL=77\n", "_config/fixed/etc/motd": "config"} {
		if err := d.st.SetObject(key, d.text(text)); err != nil {
			t.Fatal(err)
		}
	}
	d.cfg.Apply(config.PVConf, config.OEMName, "acme")
	if err := step.Open(d.dir+"/storage").Put("0", d.st.Encode()); err != nil {
		t.Fatal(err)
	}
	for _, start := range []string{"first", "second"} {
		d.run()
		d.await(map[string]string{"fixed": "STARTED", "pooled": "STARTED"})
		if got := d.console("fixed")["read:/etc/motd"]; got != "config" {
			t.Errorf("%s start: the configuration overlay has %q", start, got)
		}
		if got := d.console("pooled")["net:"]; !strings.Contains(got, "[10.255.78.3/24]") {
			t.Errorf("%s start: the pool gives %s; 10.255.78.2 belongs to another container", start, got)
		}
		if all := d.ask("GET", "/config2", ""); !strings.Contains(all, `"77"`) {
			t.Errorf("%s start: the OEM's configuration was not read", start)
		}
		d.off()
		if err := os.RemoveAll(d.dir + "/storage/logs"); err != nil {
			t.Fatal(err)
		}
	}
}

// TestContainersComeAndGo starts and stops a hundred containers twenty times. What the
// engine holds with all of them down, and with all of them up, is the same each time.
func TestContainersComeAndGo(t *testing.T) {
	many, often := 100, 20
	if testing.Short() {
		many, often = 10, 3
	}
	d := newDevice(t)
	up, down := map[string]string{"ctl": "STARTED"}, map[string]string{"ctl": "STARTED"}
	var names []string
	d.add("ctl", "platform", "/sbin/init wait", nil)
	for i := range many {
		n := fmt.Sprintf("c%02d", i)
		if runtime.GOARCH == "amd64" {
			d.add(n, "app", "/sbin/pause", nil, "lxc.signal.halt = SIGKILL") // as init it has no other end
		} else {
			d.add(n, "app", "/sbin/init wait", nil)
		}
		names, up[n], down[n] = append(names, n), "STARTED", "STOPPED"
	}
	outside := d.traces()
	d.boot()
	d.await(up)
	all := func(action string, want map[string]string) traces {
		for _, n := range names {
			d.ask("PUT", "/containers/"+n, `{"action":"`+action+`"}`)
		}
		d.await(want)
		return d.traces()
	}
	idle := all("stop", down)
	busy := all("start", up)
	for range often - 1 {
		all("stop", down)
		d.same(idle)
		all("start", up)
	}
	d.same(busy)
	all("stop", down)
	d.same(idle)
	d.off()
	delete(outside, "goroutines") // the test's own wait for the engine's end
	after := d.traces()
	delete(after, "goroutines")
	if more := after.more(outside); len(more) > 0 {
		t.Errorf("left behind by the engine: %v", more)
	}
}
