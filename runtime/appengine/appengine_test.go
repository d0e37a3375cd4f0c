package appengine

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/internal/oracle"
	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/revision/state"
	"github.com/pantavisor/pantavisor/revision/trail"
	"github.com/pantavisor/pantavisor/runtime/boot"
	"github.com/pantavisor/pantavisor/runtime/config"
	"github.com/pantavisor/pantavisor/runtime/container"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
	"github.com/pantavisor/pantavisor/runtime/ctrl/client"
	"github.com/pantavisor/pantavisor/runtime/network"
)

// asProgram makes this test's program the App Engine, or a container's first stage.
const asProgram = "PV_TEST_APPENGINE"

// asClient makes this test's program ask the control socket that it names.
const asClient = "PV_TEST_CLIENT"

// askAs prints what the control socket answers to a request for the containers.
func askAs(socket string) int {
	resp, err := (&client.Client{Socket: socket, Timeout: patient}).Do(context.Background(), &client.Request{Path: "/containers"})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer resp.Close()
	fmt.Print(resp.Status)
	return 0
}

func TestMain(m *testing.M) {
	if os.Args[0] == container.StageArg {
		container.Init()
	}
	if socket := os.Getenv(asClient); socket != "" {
		os.Exit(askAs(socket))
	}
	if os.Getenv(asProgram) != "" {
		os.Exit(Command(context.Background(), os.Args[1:], "test", os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// patient bounds every wait of a test; waits end as soon as they can.
const patient = time.Minute

// installation is a prefix with a revision of two containers.
type installation struct {
	t      *testing.T
	prefix string
	bridge string // PV_NET_BRDEV; other instances on this machine have others
	api    client.Client
}

func newInstallation(t *testing.T, name string) *installation {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("namespaces and mounts need root")
	}
	in := &installation{t: t, prefix: filepath.Join(t.TempDir(), name)}
	in.bridge = "pvb" + nameOf(in.prefix)[len(nameOf(in.prefix))-8:]
	in.api = client.Client{Socket: filepath.Join(in.prefix, client.HostedSocket), Timeout: 10 * time.Second}
	store, err := objects.Create(filepath.Join(in.prefix, "storage/objects"))
	in.must(err)
	root := filepath.Join(t.TempDir(), "root")
	in.must(os.MkdirAll(filepath.Join(root, "sbin"), 0o755))
	in.tool("go", "build", "-trimpath", "-o", filepath.Join(root, "sbin/init"), "../container/testdata/guest")
	image := filepath.Join(t.TempDir(), "root.squashfs")
	in.tool("mksquashfs", root, image, "-quiet", "-no-progress", "-comp", "gzip", "-Xcompression-level", "1")
	st := state.New(state.Spec)
	for _, c := range []string{"one", "two"} {
		in.add(st, store, c, image)
	}
	in.must(trail.Checkout(t.Context(), filepath.Join(in.prefix, "storage/trails/0"), st, store, trail.Options{}))
	in.must(os.MkdirAll(filepath.Join(in.prefix, "etc"), 0o755))
	in.must(os.WriteFile(filepath.Join(in.prefix, "etc/pantavisor.config"),
		[]byte("PV_LOG_LEVEL=4\nPV_LOG_SERVER_OUTPUTS=stdout.pantavisor\nPV_SECURITY_DEFAULT_ROLE=mgmt\nPV_NET_BRDEV="+in.bridge+"\n"), 0o644))
	return in
}

func (in *installation) must(err error) {
	in.t.Helper()
	if err != nil {
		in.t.Fatal(err)
	}
}

func (in *installation) tool(name string, args ...string) {
	in.t.Helper()
	cmd := exec.Command(oracle.Program(in.t, name), args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		in.t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

func (in *installation) add(st *state.State, store *objects.Store, name, image string) {
	in.t.Helper()
	put := func(r io.Reader) string {
		sum, err := store.Put(in.t.Context(), r, "")
		in.must(err)
		return sum
	}
	f, err := os.Open(image)
	in.must(err)
	defer f.Close()
	conf := "lxc.rootfs.path = overlayfs:/volumes/" + name + "/root.squashfs:/volumes/" + name + "/lxc-overlay/upper\n" +
		"lxc.init.cmd = /sbin/init wait\nlxc.mount.auto = proc sys:ro cgroup:mixed\nlxc.tty.max = 1\nlxc.pty.max = 16\n" +
		"lxc.net.0.type = veth\nlxc.net.0.link = " + in.bridge + "\nlxc.cgroup2.pids.max = 100\nlxc.cgroup2.memory.max = 512M\n"
	run := `{"#spec":"service-manifest-run@1","name":"` + name + `","type":"lxc","root-volume":"root.squashfs","config":"lxc.container.conf","storage":{"lxc-overlay":{"persistence":"boot"}},"status_goal":"STARTED"}`
	in.must(st.SetObject(name+"/root.squashfs", put(f)))
	in.must(st.SetObject(name+"/lxc.container.conf", put(strings.NewReader(conf))))
	in.must(st.Set(name+"/run.json", []byte(run)))
}

// process is a running App Engine.
type process struct {
	in  *installation
	cmd *exec.Cmd
	out *output
	end chan error
}

// output is what a process has printed so far.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// says waits until the process has printed a text so many times.
func (p *process) says(text string, times int) {
	p.in.t.Helper()
	p.until(fmt.Sprintf("it says %q", text), func() bool { return strings.Count(p.out.String(), text) == times })
}

// start starts the App Engine and waits until its containers run.
func (in *installation) start(words ...string) *process {
	in.t.Helper()
	p := in.launch(words...)
	p.until("the containers run", func() bool {
		status := in.statuses()
		return len(status) == 2 && status["one"] == "STARTED" && status["two"] == "STARTED"
	})
	return p
}

func (in *installation) launch(words ...string) *process {
	in.t.Helper()
	exe, err := os.Executable()
	in.must(err)
	p := &process{in: in, out: &output{}, end: make(chan error, 1)}
	p.cmd = exec.Command(exe, append([]string{"-i", "--prefix", in.prefix}, words...)...)
	p.cmd.Env = append(os.Environ(), asProgram+"=1")
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	in.must(p.cmd.Start())
	go func() { p.end <- p.cmd.Wait() }()
	in.t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		p.wait()
		in.clean()
	})
	return p
}

// clean removes what a killed run has left, whatever the test has come to.
func (in *installation) clean() {
	i := &instance{run: filepath.Join(in.prefix, "run/pv")}
	i.name = nameOf(i.run)
	if tree, err := i.tree(); err == nil {
		if err := i.removeGroups(context.Background(), tree); err != nil {
			in.t.Error(err)
		}
	}
	// The kernel takes its time for the interfaces of containers that are gone.
	for end := time.Now().Add(patient); linkExists(in.bridge) && time.Now().Before(end); time.Sleep(time.Millisecond) {
		if err := removeLinks([]string{in.bridge}); err != nil {
			in.t.Error(err)
		}
	}
}

func (p *process) wait() int {
	err := <-p.end
	p.end <- err
	return p.cmd.ProcessState.ExitCode()
}

// until waits for a condition of which nobody tells.
func (p *process) until(what string, ok func() bool) {
	p.in.t.Helper()
	deadline := time.Now().Add(patient)
	for !ok() {
		select {
		case err := <-p.end:
			p.end <- err
			p.in.t.Fatalf("waiting until %s: the process ended: %v\n%s", what, err, p.out)
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			p.in.t.Fatalf("waiting until %s: time is over\n%s", what, p.out)
		}
	}
}

// statuses asks the control socket; nil when it does not answer.
func (in *installation) statuses() map[string]string {
	resp, err := in.api.Do(in.t.Context(), &client.Request{Path: "/containers"})
	if err != nil {
		return nil
	}
	defer resp.Close()
	var list []api.Container
	if json.NewDecoder(resp).Decode(&list) != nil {
		return nil
	}
	out := map[string]string{}
	for _, c := range list {
		out[c.Name] = c.Status
	}
	return out
}

func (in *installation) command(op string) {
	in.t.Helper()
	body := `{"op":"` + op + `","payload":""}`
	resp, err := in.api.Do(in.t.Context(), &client.Request{Method: "POST", Path: "/commands", Body: strings.NewReader(body), Size: int64(len(body))})
	in.must(err)
	defer resp.Close()
	if resp.Status != 200 {
		in.t.Fatalf("%s: status %d", op, resp.Status)
	}
}

// record reads pv.json.
func (in *installation) record() record {
	i := &instance{run: filepath.Join(in.prefix, "run/pv")}
	return i.last()
}

// machine is what an instance could leave on this machine, of its own.
func (in *installation) machine() []string {
	in.t.Helper()
	var out []string
	for kind, file := range map[string]string{"mount": "/proc/self/mountinfo"} {
		text, err := os.ReadFile(file)
		in.must(err)
		for line := range strings.Lines(string(text)) {
			if strings.Contains(line, in.prefix) {
				out = append(out, kind+" "+line)
			}
		}
	}
	loops, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
	for _, l := range loops {
		if text, err := os.ReadFile(l); err == nil && strings.Contains(string(text), in.prefix) {
			out = append(out, "loop device "+l)
		}
	}
	name := nameOf(filepath.Join(in.prefix, "run/pv"))
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	in.must(err)
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); strings.Contains(line, " - cgroup") {
			if dir := filepath.Join(f[4], base, name); exists(dir) {
				out = append(out, "control group "+dir)
			}
		}
	}
	out = append(out, in.processes()...)
	for _, f := range []string{"run/pv", "run/pv.json"} {
		if exists(filepath.Join(in.prefix, f)) {
			out = append(out, "file "+f)
		}
	}
	slices.Sort(out)
	return out
}

// processes are those whose root, control group or words are of the installation.
func (in *installation) processes() []string {
	var out []string
	name := nameOf(filepath.Join(in.prefix, "run/pv"))
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, d := range dirs {
		if status, _ := os.ReadFile(d + "/status"); strings.Contains(string(status), "State:\tZ") {
			continue // has ended; its parent, process 1 of the machine, will see to it
		}
		group, _ := os.ReadFile(d + "/cgroup")
		words, _ := os.ReadFile(d + "/cmdline")
		if d != "/proc/"+strconv.Itoa(os.Getpid()) && (strings.Contains(string(group), name) || strings.Contains(string(words), in.prefix)) {
			out = append(out, "process "+d)
		}
	}
	return out
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// gone waits until nothing is left: the kernel detaches loop devices a moment after
// their last user has gone.
func (in *installation) gone() {
	in.t.Helper()
	deadline := time.Now().Add(patient)
	for left := in.machine(); len(left) > 0; left = in.machine() {
		if time.Now().After(deadline) {
			in.t.Fatalf("left behind: %q", left)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestSignalsEndItWithNothingLeft(t *testing.T) {
	in := newInstallation(t, "pv")
	for sig, code := range map[syscall.Signal]int{unix.SIGTERM: 0, unix.SIGINT: 3} {
		p := in.start()
		if len(in.machine()) == 0 || !linkExists(in.bridge) {
			t.Fatal("nothing is seen of a running instance: the comparison means nothing")
		}
		in.must(p.cmd.Process.Signal(sig))
		if got := p.wait(); got != code {
			t.Errorf("%v: exit code %d, want %d\n%s", sig, got, code, p.out)
		}
		in.gone()
		if linkExists(in.bridge) {
			t.Errorf("the bridge %s is left", in.bridge)
		}
	}
}

func TestPowerOffAndReboot(t *testing.T) {
	in := newInstallation(t, "pv")
	p := in.start()
	pid := in.record().PID
	p.says("ready: all", 1)
	in.command("REBOOT_DEVICE")
	p.says("ready: all", 2)
	p.until("its containers run again", func() bool { return in.statuses()["two"] == "STARTED" && len(in.processes()) >= 3 })
	if in.record().PID != pid {
		t.Errorf("process %d, want %d as before", in.record().PID, pid)
	}
	in.command("POWEROFF_DEVICE")
	if got := p.wait(); got != 3 {
		t.Errorf("exit code %d, want 3\n%s", got, p.out)
	}
	in.gone()
}

func TestOnceEndsWhereADeviceReboots(t *testing.T) {
	in := newInstallation(t, "pv")
	p := in.start("--once")
	in.command("REBOOT_DEVICE")
	if got := p.wait(); got != 0 {
		t.Errorf("exit code %d, want 0\n%s", got, p.out)
	}
	in.gone()
}

// freeze holds the containers where they are: some programs end by themselves when
// their console hangs up.
func (in *installation) freeze() {
	in.t.Helper()
	for _, line := range in.machine() {
		if dir, ok := strings.CutPrefix(line, "control group "); ok && exists(filepath.Join(dir, "cgroup.freeze")) {
			in.must(os.WriteFile(filepath.Join(dir, "cgroup.freeze"), []byte("1"), 0))
			return
		}
	}
	in.t.Fatal("the instance has no control group in the v2 tree")
}

func TestKilledRunIsCleanedByTheNext(t *testing.T) {
	in := newInstallation(t, "pv")
	p := in.start()
	in.freeze()
	in.must(p.cmd.Process.Kill())
	p.wait()
	if left := in.processes(); len(left) == 0 {
		t.Fatal("the containers ended with the process: there is nothing to clean")
	}
	before := in.processes()
	again := in.start()
	again.says("was killed; removing what it has left", 1)
	for _, old := range before {
		if slices.Contains(in.processes(), old) {
			t.Errorf("%s of the killed run is still there", old)
		}
	}
	in.must(again.cmd.Process.Signal(unix.SIGTERM))
	again.wait()
	in.gone()
}

func TestInstancesSideBySide(t *testing.T) {
	a, b := newInstallation(t, "a"), newInstallation(t, "b")
	pa, pb := a.start(), b.start()
	if second := a.launch(); second.wait() != exitFailed || !strings.Contains(second.out.String(), fmt.Sprintf("process %d runs already", pa.cmd.Process.Pid)) {
		t.Errorf("the same prefix twice: exit code %d\n%s", second.cmd.ProcessState.ExitCode(), second.out)
	}
	a.must(pa.cmd.Process.Kill())
	pa.wait()
	again := a.start() // cleans a's, and nothing of b's
	if got := b.statuses(); got["one"] != "STARTED" || got["two"] != "STARTED" || len(b.processes()) < 3 {
		t.Errorf("the other instance has %v, %v", got, b.processes())
	}
	for _, p := range []*process{again, pb} {
		a.must(p.cmd.Process.Signal(unix.SIGTERM))
		if p.wait() != 0 {
			t.Errorf("exit code %d\n%s", p.cmd.ProcessState.ExitCode(), p.out)
		}
		p.in.gone()
	}
}

// TestGroupsAreAsDocumented has the path of docs/appengine.md, in every hierarchy in which
// the container has a group of its own.
func TestGroupsAreAsDocumented(t *testing.T) {
	in := newInstallation(t, "pv")
	p := in.start()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", p.containerProcess()))
	in.must(err)
	want := "/" + base + "/" + nameOf(filepath.Join(in.prefix, "run/pv")) + "/lxc/one"
	own := 0
	for line := range strings.Lines(string(text)) {
		hierarchy, group, _ := strings.Cut(strings.TrimSpace(line[strings.Index(line, ":")+1:]), ":")
		switch {
		case group == want:
			own++
		case hierarchy == "", strings.Contains(hierarchy, "pids"), strings.Contains(hierarchy, "memory"):
			t.Errorf("the group in the hierarchy %q is %s, want %s", hierarchy, group, want)
		}
	}
	if own == 0 {
		t.Errorf("the container has no group %s:\n%s", want, text)
	}
}

func TestOthersAreNotTheOwner(t *testing.T) {
	in := newInstallation(t, "pv")
	p := in.start()
	own := owner()
	if !own(os.Getpid(), "/elsewhere") || own(os.Getpid(), "/"+base+"/other/lxc/x") || own(1<<22-1, "/elsewhere") {
		t.Error("root outside of containers is the owner, a container of another instance and nobody are not")
	}
	inside := p.containerProcess()
	if own(inside, "/elsewhere") {
		t.Errorf("process %d of a container is the owner when it moves to another group", inside)
	}
}

// TestUsersOfTheMachineMayNothing asks as a user of the machine, from the control group
// that the runtime is in as well.
func TestUsersOfTheMachineMayNothing(t *testing.T) {
	in := newInstallation(t, "pv")
	in.start()
	t.Chdir(filepath.Dir(in.api.Socket)) // whose parents may be closed to others
	for uid, want := range map[uint32]string{0: "200", 65534: "500"} {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = []string{asClient + "=" + filepath.Base(in.api.Socket)}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		if out, err := cmd.CombinedOutput(); err != nil || string(out) != want {
			t.Errorf("user %d: %v, %s; want status %s", uid, err, out, want)
		}
	}
}

// containerProcess is a process in one of the containers.
func (p *process) containerProcess() int {
	for _, line := range p.in.processes() {
		pid, _ := strconv.Atoi(strings.TrimPrefix(line, "process /proc/"))
		group, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
		if strings.Contains(string(group), "/lxc/one") {
			return pid
		}
	}
	p.in.t.Fatal("no process in container one")
	return 0
}

func TestParse(t *testing.T) {
	text := "pv_rev=0"
	for _, c := range []struct {
		words []string
		want  options
		bad   string
	}{
		{[]string{"-i", "--prefix", "/a/b/"}, options{prefix: "/a/b", config: "/a/b/etc/pantavisor.config"}, ""},
		{[]string{"--prefix=/a", "--config", "/c", "--once"}, options{prefix: "/a", config: "/c", once: true}, ""},
		{[]string{"--prefix=/a", "--cmdline=" + text}, options{prefix: "/a", config: "/a/etc/pantavisor.config", cmdline: &text}, ""},
		{[]string{"--prefix=/a", "-h"}, options{prefix: "/a", config: "/a/etc/pantavisor.config", help: true}, ""},
		{[]string{"--prefix"}, options{}, "--prefix needs a value"},
		{[]string{"dance"}, options{}, `unknown option "dance"`},
	} {
		got, err := parse(c.words)
		if c.bad != "" {
			if err == nil || !strings.Contains(err.Error(), c.bad) {
				t.Errorf("%q: %v, want %s", c.words, err, c.bad)
			}
			continue
		}
		if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(options{})); diff != "" || err != nil {
			t.Errorf("%q: %v\n%s", c.words, err, diff)
		}
	}
}

func TestHelpAndMistakes(t *testing.T) {
	var out, errout bytes.Buffer
	if code := Command(t.Context(), []string{"--help"}, "", &out, &errout); code != 0 || !strings.Contains(out.String(), "--prefix DIR") {
		t.Errorf("code %d, %s", code, out.String())
	}
	if code := Command(t.Context(), []string{"--dance"}, "", &out, &errout); code != exitUsage || !strings.Contains(errout.String(), "--dance") {
		t.Errorf("code %d, %s", code, errout.String())
	}
}

func TestConfigurationNamesItsMistakes(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "etc", "pantavisor.config")
	o := options{prefix: dir, config: file}
	if _, err := load(o); err == nil || !strings.Contains(err.Error(), "--prefix names another") {
		t.Errorf("no file: %v", err)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{"PV_SYSTEM_INIT_MODE=embedded\n": "this is not process 1", "PV_POLICY=none\n": "none.config"} {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := load(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

func TestPathsFollowPrefixAndStorage(t *testing.T) {
	c := config.New()
	c.Set(config.PVConf, "PV_STORAGE_MNTPOINT", "/data")
	c.Set(config.PVConf, "PV_DISK_VOLDIR", "/v")
	place(c, "/opt/p")
	for k, want := range map[config.Key]string{
		config.StorageMntPoint: "/data", config.LogDir: "/data/logs", config.CacheUsrmetaDir: "/data/cache/usrmeta",
		config.SystemRunDir: "/opt/p/run/pv", config.DiskVolDir: "/v", config.SystemEtcPantavisorDir: "/opt/p/etc/pantavisor",
	} {
		if got := c.String(k); got != want {
			t.Errorf("%s is %s, want %s", k.Name(), got, want)
		}
	}
}

func TestRevisionIsWhatABootLoaderWouldTake(t *testing.T) {
	c := config.New()
	dir := t.TempDir()
	c.SetDefault(config.StorageMntPoint, dir)
	store, err := boot.Open("uboot", dir)
	if err != nil {
		t.Fatal(err)
	}
	take := func(cmdline *string, want string) {
		t.Helper()
		if got, err := revision(options{cmdline: cmdline}, c); got != want || err != nil {
			t.Errorf("%s, %v; want %s", got, err, want)
		}
	}
	take(nil, "0")
	for _, err := range []error{store.Commit("5"), store.SetTry("locals/new")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	text := "quiet pv_rev=7"
	take(&text, "7")
	take(nil, "locals/new") // the one try
	take(nil, "5")          // it was not committed
	if err := store.Commit("locals/new"); err != nil {
		t.Fatal(err)
	}
	take(nil, "locals/new")
	if err := os.WriteFile(filepath.Join(dir, "boot/uboot.txt"), []byte("pv_rev=../x\x00pv_try=../y\x00\x00"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := revision(options{}, c); got != "0" || err == nil {
		t.Errorf("hostile names: %s, %v", got, err)
	}
}

func TestNamesOfInstances(t *testing.T) {
	seen := map[string]string{}
	for _, run := range []string{"/opt/pantavisor/run/pv", "/opt-pantavisor/run/pv", "/opt/pantavisor", "/" + strings.Repeat("x", 300) + "/run/pv"} {
		name := nameOf(run)
		if len(name) > 60 || strings.ContainsAny(name, "/.") || seen[name] != "" {
			t.Errorf("%s is named %s", run, name)
		}
		seen[name] = run
	}
	if got := nameOf("/opt/pantavisor/run/pv"); !strings.HasPrefix(got, "opt-pantavisor-") {
		t.Errorf("%s does not tell where it is", got)
	}
}

func TestRunDirectoryOfOthersStays(t *testing.T) {
	dir := t.TempDir()
	precious, outside := filepath.Join(dir, "pv", "precious"), filepath.Join(dir, "outside")
	for _, d := range []string{filepath.Dir(precious), outside} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{precious, filepath.Join(outside, "file")} {
		if err := os.WriteFile(f, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	in := &instance{run: filepath.Join(dir, "pv")}
	in.removeFiles(false)
	if !exists(precious) {
		t.Error("a file in a directory that was there before is gone")
	}
	if err := os.Symlink(outside, filepath.Join(dir, "pv", "link")); err != nil {
		t.Fatal(err)
	}
	in.removeFiles(true)
	if exists(in.run) || !exists(filepath.Join(outside, "file")) {
		t.Error("the own directory stays, or a link out of it was followed")
	}
	if err := os.MkdirAll(in.run+"/mounted", 0o755); err != nil {
		t.Fatal(err)
	}
	removeUnmounted(in.run, "36 35 98:0 / "+in.run+"/mounted rw - ext4 /dev/x rw\n")
	if !exists(in.run + "/mounted") {
		t.Error("a mount point is gone")
	}
}

func TestBridgesInUseStay(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("network links need root")
	}
	name := fmt.Sprintf("pvt%d", os.Getpid()%1_000_000)
	port := name + "p"
	program := oracle.Program(t, "ip")
	ip := func(words ...string) {
		t.Helper()
		if out, err := exec.Command(program, words...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v: %s", words, err, out)
		}
	}
	t.Cleanup(func() {
		_ = exec.Command("ip", "link", "del", port).Run()
		_ = exec.Command("ip", "link", "del", name).Run()
	})
	ip("link", "add", name, "type", "bridge")
	ip("link", "set", name, "up")
	if err := removeLinks([]string{name}); err != nil || !linkExists(name) {
		t.Errorf("somebody else's: %v, there %v", err, linkExists(name))
	}
	ip("link", "set", name, "alias", network.BridgeAlias)
	ip("link", "add", port, "type", "veth", "peer", "name", name+"q")
	ip("link", "set", port, "master", name)
	if err := removeLinks([]string{name, "lo", "absent"}); err != nil || !linkExists(name) || !linkExists("lo") {
		t.Errorf("in use: %v, there %v", err, linkExists(name))
	}
	ip("link", "set", port, "nomaster")
	if err := removeLinks([]string{name}); err != nil || linkExists(name) {
		t.Errorf("free: %v, there %v", err, linkExists(name))
	}
}

func TestBuildInfo(t *testing.T) {
	dir := t.TempDir()
	if got := buildInfo(dir, "7"); got != "release 7\n" {
		t.Errorf("without a manifest: %q", got)
	}
	text := strings.Repeat("x", maxBuildInfo+9)
	if err := os.WriteFile(filepath.Join(dir, "build"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := buildInfo(dir, "7"); got != text[:maxBuildInfo] {
		t.Errorf("%d bytes, want the first %d", len(got), maxBuildInfo)
	}
}
