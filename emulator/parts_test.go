package emulator

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/oracle"
	"github.com/pantavisor/pantavisor/internal/serialconn"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
	"github.com/pantavisor/pantavisor/targets"
)

// fakeDevice serves an API on a socket as the port of a machine would.
func fakeDevice(t *testing.T, h http.HandlerFunc) *API {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: h}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close() })
	return newAPI(unixDialer(socket), make(chan struct{}))
}

func TestAPI(t *testing.T) {
	var got []string
	api := fakeDevice(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = append(got, r.Method+" "+r.URL.Path+" "+string(body))
		switch r.URL.Path {
		case "/containers":
			_, _ = io.WriteString(w, `[{"name":"a","group":null,"status":"STARTED","status_goal":"STARTED","restart_policy":"system","roles":[]}]`)
		case "/commands":
		default:
			http.Error(w, `{"Error":"no"}`, http.StatusNotFound)
		}
	})
	ctx := deadline(t, 20*time.Second)
	cs, err := api.Containers(ctx)
	if err != nil || len(cs) != 1 || cs[0].Name != "a" || cs[0].Group != nil {
		t.Errorf("containers: %+v %v", cs, err)
	}
	if err := api.Command(ctx, "REBOOT_DEVICE", "because"); err != nil {
		t.Error(err)
	}
	if err := api.Get(ctx, "/absent", new(any)); fault.Of(err) != fault.Unreachable {
		t.Errorf("an error answer: kind %v: %v", fault.Of(err), err)
	}
	want := []string{"GET /containers ", `POST /commands {"op":"REBOOT_DEVICE","payload":"because"}`, "GET /absent "}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestAPIDoesNotWaitForEver(t *testing.T) {
	block := make(chan struct{})
	api := fakeDevice(t, func(http.ResponseWriter, *http.Request) { <-block })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := api.Containers(ctx); fault.Of(err) != fault.Unreachable {
		t.Errorf("kind %v: %v", fault.Of(err), err)
	}
	close(block)
	if _, _, err := api.Do(deadline(t, 20*time.Second), "GET", "/", nil); err != nil {
		t.Errorf("the turn was not given back: %v", err)
	}
}

func TestReached(t *testing.T) {
	for _, c := range []struct {
		status, goal string
		want         bool
	}{
		{"STARTED", "STARTED", true}, {"READY", "STARTED", true}, {"READY", "READY", true}, {"STARTED", "READY", false},
		{"MOUNTED", "MOUNTED", true}, {"STARTING", "STARTED", false}, {"STOPPED", "STARTED", false}, {"STOPPED", "MOUNTED", false},
		{"RECOVERING", "STARTED", false}, {"BLOCKED", "MOUNTED", false}, {"NONE", "MOUNTED", false}, {"STARTED", "", false},
	} {
		if got := Reached(api.Container{Status: c.status, StatusGoal: c.goal}); got != c.want {
			t.Errorf("%s of %s: %v", c.status, c.goal, got)
		}
	}
	one := []api.Container{{Status: "STARTED", StatusGoal: "STARTED"}}
	if !AllReached(1)(one) || AllReached(2)(one) || AllReached(1)(nil) || AllReached(1)(append(one, api.Container{Status: "STOPPED", StatusGoal: "STARTED"})) {
		t.Error("AllReached")
	}
}

func TestKeys(t *testing.T) {
	var k keys
	out, acts := k.feed([]byte("ls\r\x03\x1d"))
	if string(out) != "ls\r\x03" || acts != nil {
		t.Errorf("%q %v", out, acts)
	}
	out, acts = k.feed([]byte("qa\x1d\x1d\x1dx\x1dr\x1d?"))
	if string(out) != "a\x1d" || !cmp.Equal(acts, []action{actQuit, actKill, actReset, actHelp}) {
		t.Errorf("%q %v", out, acts)
	}
}

func TestConsole(t *testing.T) {
	ours, theirs := net.Pipe()
	c := newConsole(ours)
	defer c.close()
	_, _ = io.WriteString(theirs, "one two ")
	ctx := deadline(t, 10*time.Second)
	if out, err := c.Expect(ctx, "one"); err != nil || out != "one" {
		t.Errorf("%q %v", out, err)
	}
	var copied strings.Builder
	c.CopyTo(&copied)
	go func() { _, _ = io.WriteString(theirs, "\x1b[31mthree\x1b[0m\r\nfour\n") }()
	if out, err := c.Expect(ctx, "four\n"); err != nil || !strings.HasPrefix(out, " two ") {
		t.Errorf("%q %v", out, err)
	}
	if d := cmp.Diff([]string{"one two three", "four"}, c.Tail(5)); d != "" {
		t.Error(d)
	}
	c.CopyTo(nil)
	if !strings.HasPrefix(copied.String(), "one two ") || !strings.HasSuffix(copied.String(), "four\n") {
		t.Errorf("copy: %q", copied.String())
	}
	short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	if _, err := c.Expect(short, "one"); err == nil {
		t.Error("Expect finds the same text twice")
	}
	c.mu.Lock()
	c.add(make([]byte, 3*maxConsole))
	if len(c.buf) != maxConsole {
		t.Errorf("%d bytes are kept", len(c.buf))
	}
	c.mu.Unlock()
}

func TestQMP(t *testing.T) {
	ours, theirs := net.Pipe()
	go func() {
		b := make([]byte, 256)
		answers := []string{`{"return":{}}`, `{"event":"X"}` + "\n" + `{"return":{}}`, `{"error":{"desc":"no way"}}`}
		_, _ = io.WriteString(theirs, `{"QMP":{"version":{}}}`+"\n")
		for _, a := range answers {
			_, _ = theirs.Read(b)
			_, _ = io.WriteString(theirs, a+"\n")
		}
	}()
	ctx := deadline(t, 10*time.Second)
	q, err := openQMP(ctx, ours)
	if err != nil {
		t.Fatal(err)
	}
	if err := q.execute(ctx, "stop"); err != nil {
		t.Error(err)
	}
	if err := q.execute(ctx, "stop"); err == nil || !strings.Contains(err.Error(), "no way") {
		t.Errorf("a refusal: %v", err)
	}
	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	if err := q.execute(short, "stop"); err == nil {
		t.Error("silence is an answer")
	}
}

func TestVerdictIsKeptForThisBootOnly(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	if _, ok := keptVerdict("id"); ok {
		t.Error("a verdict from nowhere")
	}
	keepVerdict("id", "kvm")
	if v, ok := keptVerdict("id"); v != "kvm" || !ok {
		t.Errorf("%q %v", v, ok)
	}
	if _, ok := keptVerdict("other"); ok {
		t.Error("the verdict of another boot counts")
	}
}

// TestAcceleratorBoots: whatever the verdict is, firmware boots with it.
func TestAcceleratorBoots(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	e := pc(t, "uefi")
	ctx := deadline(t, 2*time.Minute)
	m := start(ctx, t, Config{Emulator: e, NoNetwork: true, Accelerator: Accelerator(ctx, e)})
	expect(ctx, t, m, probeMarker)
}

func TestEnsure(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	e := targets.Emulator{System: "x86_64", Packages: []string{"qemu-system-x86"}}
	err := Ensure(t.Context(), e, false, io.Discard)
	if fault.Of(err) != fault.Missing || !strings.Contains(err.Error(), "apt-get install -y --no-install-recommends qemu-system-x86") {
		t.Errorf("kind %v: %v", fault.Of(err), err)
	}
	log := filepath.Join(t.TempDir(), "log")
	program := filepath.Join(os.Getenv("PATH"), "qemu-system-x86_64")
	script := "#!/bin/sh\necho \"$@\" >> " + log + "\n: > " + program + "\n/bin/chmod +x " + program + "\n"
	if err := os.WriteFile(filepath.Join(os.Getenv("PATH"), "apt-get"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() != 0 {
		t.Skip("only root installs")
	}
	var said strings.Builder
	if err := Ensure(t.Context(), e, true, &said); err != nil {
		t.Error(err)
	}
	got, _ := os.ReadFile(log)
	if want := "-oDPkg::Lock::Timeout=900 update -q\n-oDPkg::Lock::Timeout=900 install -y -q --no-install-recommends qemu-system-x86\n"; string(got) != want || !strings.Contains(said.String(), "for the emulator: missing qemu-system-x86_64") {
		t.Errorf("apt-get got %q; said %q", got, said.String())
	}
}

// TestHaltedMachine has a machine that stays on: what the kernel says last ends it, but not
// what it has said before the shutdown.
func TestHaltedMachine(t *testing.T) {
	t.Parallel()
	device, ours := net.Pipe()
	m := &Machine{Console: newConsole(ours), cfg: Config{Emulator: targets.Emulator{System: "arm", Machine: "orangepi-pc"}}}
	say := func(text string) {
		t.Helper()
		news := m.Console.News()
		if _, err := io.WriteString(device, text); err != nil {
			t.Fatal(err)
		}
		<-news
	}
	say("[    9.0] reboot: Power down\r\n")
	halted := m.halted(t.Context())
	say("[   20.0] still here\r\n")
	select {
	case <-halted:
		t.Error("what came before the shutdown counts")
	default:
	}
	say("[   30.0] reboot: Power down\r\n")
	<-halted
	m.cfg.Emulator = targets.Emulator{System: "x86_64", Machine: "q35"}
	if m.halted(t.Context()) != nil {
		t.Error("a machine that ends by itself is watched")
	}
}

// TestAPIOverASerialLine asks a device whose serial port carries frames.
func TestAPIOverASerialLine(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	booted := make(chan struct{})
	go func() {
		line, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = io.WriteString(line, "U-Boot 2023.01\r\n")
		<-booted
		_ = serialconn.Serve(t.Context(), line, func(_ context.Context, c *serialconn.Conn) {
			if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n[]")
			}
		})
	}()
	ctx := deadline(t, 20*time.Second)
	open, err := serialDialer(ctx, socket)
	if err != nil {
		t.Fatal(err)
	}
	api := newAPI(open, make(chan struct{}))
	for range 3 {
		short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		if _, err := api.Containers(short); fault.Of(err) != fault.Unreachable {
			t.Errorf("a device that has not booted: kind %v: %v", fault.Of(err), err)
		}
		cancel()
	}
	close(booted)
	for range 2 {
		if cs, err := api.Containers(ctx); err != nil || len(cs) != 0 {
			t.Errorf("%v, %v", cs, err)
		}
	}
}

const portsSource = `/dts-v1/; / { model = "x"; soc { serial@7e201000 { reg = <1>; status = "okay"; bluetooth { compatible = "bt"; }; };
	serial@7e215040 { status = "disabled"; }; other { status = "disabled"; }; }; };`

// FuzzWithPorts has device trees that are damaged.
func FuzzWithPorts(f *testing.F) {
	f.Add([]byte("\xd0\x0d\xfe\xed"))
	oracle.Need(f, "dtc")
	cmd := exec.Command("dtc", "-O", "dtb", "-")
	cmd.Stdin = strings.NewReader(portsSource)
	tree, err := cmd.Output()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(tree)
	pi := targets.Emulator{System: "aarch64", Machine: "raspi3b"}
	f.Fuzz(func(_ *testing.T, tree []byte) { _, _ = withPorts(tree, pi.Ports()) })
}

// TestPortsAreEnabled has a Pi's device tree with Bluetooth at one port and the other disabled.
func TestPortsAreEnabled(t *testing.T) {
	t.Parallel()
	oracle.Need(t, "dtc", "fdtget")
	dir := t.TempDir()
	run := func(name string, args ...string) string {
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Stdin = strings.NewReader(portsSource)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	run("dtc", "-O", "dtb", "-o", from, "-")
	pi := targets.Emulator{System: "aarch64", Machine: "raspi3b"}
	if err := enablePorts(to, from, pi.Ports()); err != nil {
		t.Fatal(err)
	}
	for _, p := range pi.Ports() {
		if got := run("fdtget", to, p.Node, "status"); got != "okay" {
			t.Errorf("%s has the status %s", p.Node, got)
		}
		if got := run("fdtget", "-l", to, p.Node); got != "" {
			t.Errorf("%s is joined to %s", p.Node, got)
		}
	}
	if run("fdtget", to, "/soc/other", "status") != "disabled" || run("fdtget", to, "/soc/serial@7e201000", "reg") != "1" {
		t.Error("other parts of the device tree are changed")
	}
	if err := enablePorts(to, from, []targets.SerialPort{{TTY: "ttyS9", Node: "/soc/serial@0"}}); fault.Of(err) != fault.BadInput {
		t.Errorf("a port that is not there: %v", err)
	}
}
