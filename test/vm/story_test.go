package vm

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pantavisor/pantavisor/emulator"
	"github.com/pantavisor/pantavisor/formats/cpio"
	"github.com/pantavisor/pantavisor/formats/tree"
	"github.com/pantavisor/pantavisor/internal/oracle"
	"github.com/pantavisor/pantavisor/internal/workspace"
	"github.com/pantavisor/pantavisor/revision/state"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
	"github.com/pantavisor/pantavisor/targets"
)

// TestStory is a device's life with updates that are good and bad, on GRUB.
func TestStory(t *testing.T) {
	if testing.Short() {
		t.Skip("boots virtual machines")
	}
	story(t, target)
}

// TestBoardsStory is the same on U-Boot, on those of these boards that PV_TEST_TARGETS names. The
// machine of the Raspberry Pi is slow and has no network: what the others have shown is left out.
func TestBoardsStory(t *testing.T) {
	if testing.Short() || os.Getenv("PV_TEST_TARGETS") == "" {
		t.Skip("boots virtual machines: mage boards")
	}
	wanted := chosen(t)
	for board, story := range map[string]func(*testing.T, string){"qemu-aarch64": story, "rpi64-5.10.y": shortStory} {
		if slices.Contains(wanted, board) {
			t.Run(board, func(t *testing.T) { story(t, board) })
		}
	}
}

// scenario is a device, and a host with a checkout of its revision.
type scenario struct {
	t    *testing.T
	w    *workspace.Maker
	d    *Device
	pvr  string // the program
	dir  string // the checkout
	port uint16 // of the host, which leads to the device's web server; 0 without a network
	app  string // a root file system with pv-idle
}

// groupsOfStory are the usual groups without a stable_timeout, which would only take time.
const groupsOfStory = `{"groups":[
{"name":"root","restart_policy":"system","status_goal":"STARTED","timeout":120},
{"name":"platform","restart_policy":"system","status_goal":"STARTED","timeout":120},
{"name":"app","restart_policy":"container","status_goal":"STARTED","timeout":120}]}`

// story runs the whole story. Boots are what takes its time; each does several things:
//
//	1  revision 0; an app is tried once
//	2  revision 0 again; the app is added for good, another one dies at once
//	3  the app is committed; a container dies whose change takes a restart
//	4  the same, until it has died
//	5  the committed one; a new BSP
//	6  the new BSP is committed; a BSP panics
//	7  the same, until it has panicked
//	8  the new BSP, for as long as it takes to give the other one its second trial
//	9  the same as 7
//	10 the new BSP again
func story(t *testing.T, name string) {
	s := newScenario(t, name, "PV_UPDATER_TRIALS=2")
	s.ready(2)
	s.ask(http.MethodPut, "/user-meta/PV_UPDATER_COMMIT_DELAY", []byte("1"))
	s.tryOnce()
	good := s.addForGood()
	s.dieInSystem(good)
	s.replaceBSP()
	s.panicBSP("locals/bsp", 2)
	// Each reason is still there, after all the updates that followed.
	if out := inSDK(t, s.d, "pvcontrol updates why locals/system"); !strings.Contains(out, "dead") || !strings.Contains(out, "-dies") {
		t.Errorf("why an earlier update failed:\n%s", out)
	}
	s.end()
}

// shortStory is a part of the story that takes four restarts:
//
//	1  revision 0; an app is tried once
//	2  revision 0 again; the app is added for good, another one dies at once
//	3  the app is committed; a BSP panics
//	4  the same, until it has panicked
//	5  the committed one again
func shortStory(t *testing.T, name string) {
	s := newScenario(t, name)
	s.ready(2)
	s.ask(http.MethodPut, "/user-meta/PV_UPDATER_COMMIT_DELAY", []byte("15")) // a program takes seconds to begin, and to die
	s.tryOnce()
	s.panicBSP(s.addForGood(), 1)
	s.end()
}

// end switches the device off.
func (s *scenario) end() {
	s.t.Helper()
	s.leave()
	must(s.t, s.d.Shutdown(s.within(), 2*time.Minute))
	s.t.Logf("the story took %.0f s", s.d.Uptime().Seconds())
}

// tryOnce adds an app, which leaves the other containers alone and is gone after a restart.
func (s *scenario) tryOnce() {
	s.t.Helper()
	pids := s.pids()
	s.addApp("idle", "app", "container", "/pv-idle")
	s.send("locals/once")
	s.command(api.OpTryOnce, "locals/once")
	s.await("locals/once", "UPDATED")
	s.samePids(pids, "while an app was added")
	s.reboot()
	s.runs("0", 2)
}

// addForGood posts the revision with the app and has it committed by a restart. Before that
// another app fails, which leaves the others alone. It returns the revision.
func (s *scenario) addForGood() (rev string) {
	s.t.Helper()
	s.post()
	rev = s.newest()
	u := s.await(rev, "UPDATED")
	if !slices.ContainsFunc(u.Path, func(p api.UpdateStep) bool { return p.Status == "TESTING" }) {
		s.t.Errorf("the update was not tested: %+v", u.Path)
	}
	s.runs(rev, 3)
	pids := s.pids()
	s.change("locals/dies", func(s *scenario) { s.addApp("dead", "app", "container", "/pv-idle", "-dies") })
	s.command(api.OpLocalRun, "locals/dies")
	s.because(s.await("locals/dies", "ERROR"), "dead")
	s.runs(rev, 3)
	s.samePids(pids, "while an app failed")
	s.reboot()
	s.await(rev, "DONE")
	return rev
}

// dieInSystem adds a container that dies and whose change takes a restart.
func (s *scenario) dieInSystem(good string) {
	s.t.Helper()
	s.change("locals/system", func(s *scenario) { s.addApp("dead", "platform", "system", "/pv-idle", "-dies") })
	s.command(api.OpLocalRun, "locals/system")
	s.boots(2)
	s.runs(good, 3)
	s.because(s.await("locals/system", "ERROR"), "dead")
}

// replaceBSP changes the BSP: the same kernel starts from another initrd.
func (s *scenario) replaceBSP() {
	s.t.Helper()
	s.bsp(s.withFile("story", "new"))
	s.send("locals/bsp")
	s.command(api.OpLocalRun, "locals/bsp")
	s.boots(1)
	s.await("locals/bsp", "DONE")
	if out := run(s.t, s.d, "cat /story"); out != "new" {
		s.t.Errorf("the file in the new initrd is %q", out)
	}
	s.leave()
}

// panicBSP changes the BSP for one whose initrd the kernel cannot read, which the device is to try as often
// as trials says; good runs before and after.
func (s *scenario) panicBSP(good string, trials int) {
	s.t.Helper()
	s.change("locals/panics", func(s *scenario) { s.bsp(bytes.Repeat([]byte("no initrd "), 500)) })
	s.command(api.OpLocalRun, "locals/panics")
	for range trials {
		if _, err := s.d.Console.Expect(s.within(), "Kernel panic"); err != nil {
			s.t.Fatalf("the damaged BSP starts: %v", err)
		}
		if s.w.Target.Emulators[0].Complete().Machine == "raspi3b" { // what resets it is a module of the initrd
			if _, err := s.d.Console.Expect(s.within(), "System halted"); err != nil {
				s.t.Fatal(err)
			}
			must(s.t, s.d.Reset(s.within()))
		}
	}
	s.boots(1)
	s.runs(good, 3)
	u := s.await("locals/panics", "ERROR")
	if u.Message != "Unexpected rollback" {
		s.t.Errorf("the update ended with %q", u.Message)
	}
	tries := 0
	for _, p := range u.Path {
		if strings.HasPrefix(p.Message, "Rebooting") {
			tries++
		}
	}
	if tries != trials {
		s.t.Errorf("%d trials, want %d: %+v", tries, trials, u.Path)
	}
}

// newScenario makes an image whose web server can be reached, with these words for the kernel's command line,
// and boots it.
func newScenario(t *testing.T, name string, words ...string) *scenario {
	t.Helper()
	s := &scenario{t: t, w: openTarget(t, name), dir: filepath.Join(t.TempDir(), "checkout")}
	s.w.Target.Kernel.Arguments = append(s.w.Target.Kernel.Arguments, words...)
	machine := s.w.Target.Emulators[0].Complete()
	oracle.Emulator(t, emulator.Missing(machine))
	s.build()
	reference := replaced(t, s.w, s.w, map[string]string{
		"_config/sdk/etc/pvr-sdk/config.json": `{"httpd":{"listen":"0.0.0.0"}}`, "device.json": groupsOfStory,
	})
	s.do(filepath.Dir(s.dir), "clone", reference, s.dir)
	cfg, err := s.w.Machine(t.Context(), machine, t.TempDir())
	must(t, err)
	cfg.Image, err = s.w.Image(t.Context(), reference)
	must(t, err)
	if machine.Machine != "raspi3b" { // it has no network card
		s.port = freePort(t)
		cfg.Forward = []targets.Forward{{Protocol: "tcp", Address: netip.MustParseAddr("127.0.0.1"), Host: s.port, Device: 12368}}
	}
	cfg.Dir = t.TempDir()
	m, err := emulator.Start(within(t), cfg)
	must(t, err)
	s.d = &Device{Machine: m}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("after %.0f s; last lines of the console:\n%s", m.Uptime().Seconds(), strings.Join(s.d.Console.Tail(80), "\n"))
		}
		s.d.Close()
	})
	return s
}

// build makes pvr for the host and the first process of the applications.
func (s *scenario) build() {
	s.t.Helper()
	dir := s.t.TempDir()
	s.pvr, s.app = filepath.Join(dir, "pvr"), filepath.Join(dir, "app")
	must(s.t, os.Mkdir(s.app, 0o755))
	for out, build := range map[string]struct{ pkg, arch string }{
		s.pvr: {"./cmd/pvr", ""}, filepath.Join(s.app, "pv-idle"): {"./cmd/pv-idle", s.w.Target.Arch.Go},
	} {
		cmd := exec.CommandContext(s.t.Context(), "go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, build.pkg)
		cmd.Dir = s.w.Root
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if build.arch != "" {
			cmd.Env = append(cmd.Env, "GOARCH="+build.arch)
		}
		if text, err := cmd.CombinedOutput(); err != nil {
			s.t.Fatalf("%v\n%s", err, text)
		}
	}
}

func freePort(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort().Port()
}

// config is the directory of pvr's settings, which has the objects of all checkouts.
func (s *scenario) config() string { return filepath.Join(filepath.Dir(s.pvr), "config") }

// do runs pvr in a directory and returns what it prints.
func (s *scenario) do(dir string, args ...string) string {
	s.t.Helper()
	cmd := exec.CommandContext(s.within(), s.pvr, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PVR_CONFIG_DIR="+s.config())
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.t.Fatalf("pvr %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// addApp adds an application whose root file system is pv-idle, and commits.
func (s *scenario) addApp(name, group, policy string, command ...string) {
	s.t.Helper()
	config := filepath.Join(s.t.TempDir(), "config.json")
	text, err := json.Marshal(map[string]any{"Entrypoint": command})
	must(s.t, err)
	must(s.t, os.WriteFile(config, text, 0o644))
	s.do(s.dir, "app", "add", name, "--from", s.app, "--type", "rootfs", "--group", group, "--restart-policy", policy, "--config-json", config)
	s.commit()
}

func (s *scenario) commit() {
	s.t.Helper()
	s.do(s.dir, "add", ".")
	s.do(s.dir, "commit", "-m", "story")
}

// change makes a change in a copy of the checkout and stores what results on the device.
func (s *scenario) change(rev string, change func(*scenario)) {
	s.t.Helper()
	other := *s
	other.dir = filepath.Join(s.t.TempDir(), "changed")
	s.do(filepath.Dir(other.dir), "clone", filepath.Join(s.dir, ".pvr"), other.dir)
	change(&other)
	other.send(rev)
}

func (s *scenario) state() *state.State {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join(s.dir, ".pvr/json"))
	must(s.t, err)
	st, err := state.Parse(text)
	must(s.t, err)
	return st
}

// initrd is the file of the BSP's initrd in the checkout.
func (s *scenario) initrd() string {
	s.t.Helper()
	text, _ := s.state().Get("bsp/run.json")
	var run struct{ Initrd string }
	must(s.t, json.Unmarshal(text, &run))
	return filepath.Join(s.dir, "bsp", run.Initrd)
}

// bsp gives the BSP another initrd.
func (s *scenario) bsp(initrd []byte) {
	s.t.Helper()
	file := s.initrd()
	must(s.t, os.Remove(file)) // it may be a link
	must(s.t, os.WriteFile(file, initrd, 0o644))
	s.commit()
}

// withFile is the BSP's initrd with one file more: the kernel unpacks one archive after the
// other.
func (s *scenario) withFile(name, content string) []byte {
	s.t.Helper()
	text, err := os.ReadFile(s.initrd())
	must(s.t, err)
	all := bytes.NewBuffer(text)
	all.Write(make([]byte, -len(text)&3))
	must(s.t, cpio.Write(all, []tree.Entry{tree.Bytes(name, 0o644, []byte(content))}, cpio.Options{}))
	must(s.t, cpio.WriteTrailer(all))
	return all.Bytes()
}

// within bounds one step of the story.
func (s *scenario) within() context.Context { return within(s.t) }

// ask asks the control API over the machine's channel.
func (s *scenario) ask(method, path string, body []byte) {
	s.t.Helper()
	status, text, err := s.d.API.Do(s.within(), method, path, body)
	if err != nil || status >= 300 {
		s.t.Fatalf("%s %s: %d %s, %v", method, path, status, text, err)
	}
}

// send stores the committed state as a revision, over the machine's channel.
func (s *scenario) send(rev string) {
	s.t.Helper()
	var have []api.Object
	must(s.t, s.d.API.Get(s.within(), "/objects", &have))
	st := s.state()
	for _, o := range st.Objects() {
		if slices.ContainsFunc(have, func(h api.Object) bool { return h.SHA256 == o.Sum }) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(s.config(), "objects", o.Sum))
		must(s.t, err)
		s.ask(http.MethodPut, "/objects/"+o.Sum, text)
		have = append(have, api.Object{SHA256: o.Sum})
	}
	s.ask(http.MethodPut, "/steps/"+rev, st.Encode())
}

// post has pvr send the committed state over the network and run it; without a network it is
// sent over the channel.
func (s *scenario) post() {
	s.t.Helper()
	if s.port == 0 {
		s.send("locals/posted")
		s.command(api.OpLocalRun, "locals/posted")
		return
	}
	server := fmt.Sprintf("127.0.0.1:%d", s.port)
	for ctx := s.within(); ; {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+server+"/cgi-bin/pvr/.pvrremote", nil)
		must(s.t, err)
		if resp, err := http.DefaultClient.Do(req); err == nil {
			_ = resp.Body.Close()
			break
		}
		select {
		case <-ctx.Done():
			s.t.Fatal("the device's web server does not answer")
		case <-time.After(250 * time.Millisecond):
		}
	}
	s.do(s.dir, "post", "-m", "story", "http://"+server+"/cgi-bin/pvr")
}

// newest is the revision of the last update.
func (s *scenario) newest() string {
	s.t.Helper()
	var all []api.Update
	must(s.t, s.d.API.Get(s.within(), "/updates", &all))
	return all[len(all)-1].Revision
}

func (s *scenario) command(op, rev string) {
	s.t.Helper()
	must(s.t, s.d.API.Command(s.within(), op, rev))
}

// await waits until the last update of a revision has ended with a status.
func (s *scenario) await(rev, status string) api.Update {
	s.t.Helper()
	var u api.Update
	s.poll(func(ctx context.Context) bool {
		var list []api.Update
		if s.d.API.Get(ctx, "/updates/"+rev, &list) != nil || len(list) == 0 {
			return false
		}
		u = list[len(list)-1]
		return u.Status == status
	}, func() string { return fmt.Sprintf("the update of %s is to be %s: %+v", rev, status, u) })
	return u
}

// runs waits until a revision runs and all its containers have reached their goals.
func (s *scenario) runs(rev string, containers int) {
	s.t.Helper()
	running := ""
	s.poll(func(ctx context.Context) bool {
		var meta map[string]any
		if s.d.API.Get(ctx, "/device-meta", &meta) != nil {
			return false
		}
		running = fmt.Sprint(meta["pantavisor.revision"])
		return running == rev
	}, func() string { return fmt.Sprintf("revision %s is to run, not %s", rev, running) })
	s.ready(containers)
}

func (s *scenario) ready(containers int) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), bootPatience)
	defer cancel()
	must(s.t, ready(ctx, s.d, containers))
}

// poll asks until the answer is right: what is asked for spans restarts of the device.
func (s *scenario) poll(right func(context.Context) bool, what func() string) {
	s.t.Helper()
	end, cancel := context.WithTimeout(s.t.Context(), bootPatience)
	defer cancel()
	for end.Err() == nil {
		ctx, cancel := context.WithTimeout(end, 10*time.Second)
		ok := right(ctx)
		cancel()
		if ok {
			return
		}
		select {
		case <-end.Done():
		case <-time.After(300 * time.Millisecond):
		}
	}
	s.t.Fatal(what())
}

// because wants a reason that names a container, how it ended and what it said.
func (s *scenario) because(u api.Update, container string) {
	s.t.Helper()
	f := cmp.Or(u.Failure, &api.UpdateFailure{})
	said := slices.ContainsFunc(f.Log, func(l string) bool { return strings.Contains(l, "-dies") })
	if f.Container != container || f.Exit == "" || !said {
		s.t.Errorf("the reason of %s is %+v", u.Revision, f)
	}
}

// pids are the first processes of the starter containers.
func (s *scenario) pids() map[string]string {
	s.t.Helper()
	out := run(s.t, s.d, "grep -h . /proc/[0-9]*/stat 2>/dev/null | grep -E '(pv-|sdk-)'")
	s.leave()
	found := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^(\d+) \((pv-network|sdk-init|pv-idle)\)`).FindAllStringSubmatch(out, -1) {
		found[m[2]] = m[1]
	}
	return found
}

func (s *scenario) samePids(want map[string]string, when string) {
	s.t.Helper()
	got := s.pids()
	for name, pid := range want {
		if got[name] != pid || pid == "" {
			s.t.Errorf("%s: %s is process %s and was %s", when, name, got[name], pid)
		}
	}
}

// leave closes the debug shell, which puts restarts off.
func (s *scenario) leave() {
	s.t.Helper()
	must(s.t, s.d.leaveShell(s.within()))
}

func (s *scenario) reboot() {
	s.t.Helper()
	s.leave()
	must(s.t, s.d.Reboot(s.within()))
}

// boots waits until the device has started a number of times.
func (s *scenario) boots(n int) {
	s.t.Helper()
	for range n {
		if _, err := s.d.Console.Expect(s.within(), "Linux version"); err != nil {
			s.t.Fatalf("the device does not start: %v", err)
		}
	}
}
