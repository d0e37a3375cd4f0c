package pvcontrol

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/pantavisor/pantavisor/runtime/ctrl"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
	"github.com/pantavisor/pantavisor/runtime/ctrl/client"
	"github.com/pantavisor/pantavisor/runtime/meta"
	"github.com/pantavisor/pantavisor/runtime/step"
)

// engine remembers what it was asked for.
type engine struct {
	mu    sync.Mutex
	asked []string
	err   error
	// containers are those of the device; nil for one, app.
	containers []api.Container
}

func (e *engine) note(format string, args ...any) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.asked = append(e.asked, fmt.Sprintf(format, args...))
	return e.err
}

func (e *engine) last() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.asked) == 0 {
		return ""
	}
	return e.asked[len(e.asked)-1]
}

func (e *engine) Resolve(int) (ctrl.Caller, error) { return ctrl.Caller{Name: "sdk", Mgmt: true}, nil }
func (e *engine) Containers() ([]api.Container, error) {
	if e.containers != nil {
		return e.containers, nil
	}
	return []api.Container{{Name: "app", RestartPolicy: "container"}}, nil
}
func (e *engine) Groups() ([]api.Group, error) { return []api.Group{{Name: "root"}}, nil }
func (e *engine) Daemons() ([]api.Daemon, error) {
	return []api.Daemon{{Name: "hub", PID: 7, Respawn: true}}, nil
}
func (e *engine) ContainerAction(name, action string) error { return e.note("%s %s", action, name) }
func (e *engine) DaemonAction(name, action string) error    { return e.note("%s %s", action, name) }
func (e *engine) Signal(from ctrl.Caller, typ, payload string) error {
	return e.note("signal %s %s %q", from.Name, typ, payload)
}
func (e *engine) Command(op, payload string) error { return e.note("%s %q", op, payload) }

// device serves the control socket of an imaginary device.
func device(t *testing.T) (socket, storage string, e *engine) {
	t.Helper()
	dir := t.TempDir()
	socket, storage, e = filepath.Join(dir, "pv-ctrl"), filepath.Join(dir, "storage"), &engine{}
	store := func(kind string) *meta.Store {
		s, err := meta.Open(meta.Options{Kind: kind})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := ctrl.New(ctrl.Options{
		Resolve: e.Resolve, Engine: e, Daemons: e, UserMeta: store(meta.User), Updates: dryRuns{looks: new(atomic.Int64)}, DeviceMeta: store(meta.Device), Objects: filepath.Join(storage, "objects"), Steps: step.Open(storage), BuildInfo: "built from here\n",
		Config: func() []ctrl.Setting {
			return []ctrl.Setting{{Key: "PV_LOG_LEVEL", Alias: "log.level", Value: 4, Text: "4", Level: "env"},
				{Key: "PH_A", Value: 1, Text: "1", Level: "default", Note: "no effect"}, {Key: "PH_B", Value: 1, Text: "1", Level: "default", Note: "no effect"}}
		},
		CollectGarbage: func(context.Context) (int64, error) { return 42, nil },
	})
	ctx, cancel := context.WithCancel(context.Background())
	serve, err := s.Listen(socket)
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return socket, storage, e
}

func run(t *testing.T, socket, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, bad bytes.Buffer
	code = Run(context.Background(), append([]string{"-s", socket}, args...), strings.NewReader(stdin), &out, &bad)
	return code, out.String(), bad.String()
}

func TestCommands(t *testing.T) {
	socket, _, e := device(t)
	containers := `[{"name":"app","group":null,"status":"","status_goal":"","restart_policy":"container","roles":[]}]` + "\n"
	tests := []struct{ args, stdin, out, asked string }{
		{"ls", "", containers, ""},
		{"list", "", containers, ""},
		{"containers ls", "", containers, ""},
		{"containers stop app", "", "", "stop app"},
		{"containers start app", "", "", "start app"},
		{"containers restart app", "", "", "restart app"},
		{"groups ls", "", `[{"name":"root","status_goal":"","restart_policy":"","status":""}]` + "\n", ""},
		{"daemons ls", "", `[{"name":"hub","pid":7,"respawn":true}]` + "\n", ""},
		{"daemons get hub", "", `{"name":"hub","pid":7,"respawn":true}` + "\n", ""},
		{"daemons stop hub", "", "", "stop hub"},
		{"daemons restart hub", "", "", "start hub"},
		{"graph ls", "", "[]\n", ""},
		{"signal ready", "", "", `signal sdk ready ""`},
		{"cmd run locals/x", "", "", `LOCAL_RUN "locals/x"`},
		{"command run-commit 3", "", "", `LOCAL_RUN_COMMIT "3"`},
		{"commands reboot why\"not", "", "", `REBOOT_DEVICE "why\"not"`},
		{"cmd poweroff", "", "", `POWEROFF_DEVICE ""`},
		{"cmd make-factory", "", "", `MAKE_FACTORY ""`},
		{"cmd run-gc", "", "", `RUN_GC ""`},
		{"cmd enable-ssh", "", "", `ENABLE_SSH ""`},
		{"cmd disable-ssh", "", "", `DISABLE_SSH ""`},
		{"cmd go-remote", "", "", `GO_REMOTE ""`},
		{"cmd unclaim", "", "", `UNCLAIM ""`},
		{"cmd defer-reboot 60", "", "", `DEFER_REBOOT "60"`},
		{"usrmeta save k v", "", "", ""},
		{"usrmeta save j", `{"a":1}`, "", ""},
		{"usrmeta ls", "", `{"j":{"a":1},"k":"v"}` + "\n", ""},
		{"usrmeta delete k", "", "", ""},
		{"devmeta ls", "", "{}\n", ""},
		{"buildinfo", "", "built from here\n", ""},
		{"--json buildinfo", "", `{"text":"built from here\n"}` + "\n", ""},
		{"--json cmd run-gc", "", `{"status":200}` + "\n", ""},
		{"config sources", "", `[{"key":"PV_LOG_LEVEL","value":"4","modified":"env"},{"key":"PH_A","value":"1","modified":"default","note":"no effect"},{"key":"PH_B","value":"1","modified":"default","note":"no effect"}]` + "\n", ""},
		{"config ls", "", `{"log.level":4}` + "\n", ""},
		{"storage gc", "", `{"reclaimed": 42}` + "\n", ""},
		{"steps ls", "", "[]\n", ""},
		{"objects ls", "", "[]\n", ""},
	}
	for _, tt := range tests {
		code, out, bad := run(t, socket, tt.stdin, strings.Fields(tt.args)...)
		if code != 0 || out != tt.out || bad != "" {
			t.Errorf("%s: exit %d, out %q, err %q, want %q", tt.args, code, out, bad, tt.out)
		}
		if tt.asked != "" && e.last() != tt.asked {
			t.Errorf("%s: the engine was asked for %s, want %s", tt.args, e.last(), tt.asked)
		}
	}
}

// TestRemarks: a person is told which settings have no effect.
func TestRemarks(t *testing.T) {
	socket, _, _ := device(t)
	var out strings.Builder
	tool := &tool{ctx: t.Context(), client: client.Client{Connect: connectTimeout, Timeout: timeout, Socket: socket}}
	if err := tool.remarks(&out); err != nil || out.String() != "no effect: PH_A PH_B\n" {
		t.Errorf("%q, %v", out.String(), err)
	}
	if isTerminal(&out) {
		t.Error("a buffer is taken for a terminal")
	}
}

func TestExitCodes(t *testing.T) {
	socket, _, e := device(t)
	absent := filepath.Join(t.TempDir(), "absent")
	tests := []struct {
		args string
		err  error
		code int
		says string
	}{
		{"cmd run-gc", &api.Error{Status: 503, Text: "busy", RetryAfter: 120}, 75, `{"Error":"busy"}`},
		{"cmd run-gc", &api.Error{Status: 409, Text: "no"}, 255, `{"Error":"no"}`},
		{"cmd unclaim", &api.Error{Status: 204, Text: "no body"}, 255, "nothing to do"},
		{"usrmeta save k " + strings.Repeat("v", 5000), nil, 48, "disk space"},
		{"usrmeta delete nope", nil, 255, "User meta does not exist"},
		{"objects put -3 " + strings.Repeat("0", 64), nil, 60, "bad checksum"},
		{"daemons get nope", nil, 255, "Daemon not found"},
		{"steps get nope", nil, 255, "Resource does not exist"},
		{"steps put - locals/x", nil, 70, "State JSON has bad format"},
		{"nope", nil, 1, "unknown command"},
		{"containers", nil, 1, "needs another word"},
		{"containers fly app", nil, 1, "fly"},
		{"containers stop", nil, 1, "containers stop NAME"},
		{"ls -x y", nil, 1, "ERROR: usage: pvcontrol ls; see pvcontrol -h\n"},
		{"--json ls -x y", nil, 1, `{"Error":"usage: pvcontrol ls; see pvcontrol -h"}` + "\n"},
		{"--json cmd run-gc", &api.Error{Status: 409, Text: "no"}, 255, `{"Error":"no"}` + "\n"},
		{"--json cmd unclaim", &api.Error{Status: 204, Text: "no body"}, 255, `{"Error":"nothing to do (status 204)"}` + "\n"},
		{"--json -s " + absent + " ls", nil, 1, `{"Error":"` + absent + ` not found"}` + "\n"},
		{"cmd defer-reboot soon", nil, 1, "number of seconds"},
		{"steps put " + absent + " locals/x", nil, 1, "no such file"},
	}
	for _, tt := range tests {
		e.err = tt.err
		code, out, bad := run(t, socket, "abc", strings.Fields(tt.args)...)
		if code != tt.code || !strings.Contains(bad, tt.says) || out != "" {
			t.Errorf("%.40s: exit %d, out %q, err %q, want %d %q", tt.args, code, out, bad, tt.code, tt.says)
		}
	}
	if code, _, bad := run(t, socket, "", "usrmeta", "save", "a b", "v"); code != 1 || !strings.Contains(bad, "space") {
		t.Errorf("a key with a space: exit %d, %q", code, bad)
	}
	if code, _, bad := run(t, absent, "", "ls"); code != 1 || bad != "ERROR: "+absent+" not found\n" {
		t.Errorf("no socket: exit %d, %q", code, bad)
	}
}

// closedTo makes this test's program ask a socket as another user.
const closedTo = "PV_TEST_CLOSED_SOCKET"

// TestDirectoryOfRoot says to users who may not see the socket that this is why.
func TestDirectoryOfRoot(t *testing.T) {
	if socket := os.Getenv(closedTo); socket != "" {
		os.Exit(Run(context.Background(), []string{"-s", socket, "ls"}, nil, os.Stdout, os.Stderr))
	}
	if os.Geteuid() != 0 {
		t.Skip("becoming another user needs root")
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestDirectoryOfRoot$")
	cmd.Env = []string{closedTo + "=" + dir + "/pv-ctrl"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if want := "ERROR: " + dir + "/pv-ctrl: permission denied; only root may\n"; err == nil || string(out) != want {
		t.Errorf("%v, %q, want %q", err, out, want)
	}
}

func TestHelp(t *testing.T) {
	var out, bad bytes.Buffer
	if code := Run(context.Background(), []string{"-h"}, nil, &out, &bad); code != 0 || !strings.Contains(out.String(), "containers restart NAME") {
		t.Errorf("-h: exit %d, %q", code, out.String())
	}
	out.Reset()
	if code := Run(context.Background(), []string{"conf", "-h"}, nil, &out, &bad); code != 0 || !strings.Contains(out.String(), "config ls") || strings.Contains(out.String(), "steps") {
		t.Errorf("conf -h: exit %d, %q", code, out.String())
	}
	out.Reset()
	if code := Run(context.Background(), []string{"dance", "-h"}, nil, &out, &bad); code != 1 || out.Len() > 0 || !strings.Contains(bad.String(), `unknown command "dance"`) {
		t.Errorf("dance -h: exit %d, %q, %q", code, out.String(), bad.String())
	}
	bad.Reset()
	if code := Run(context.Background(), nil, nil, &out, &bad); code != 1 || bad.Len() == 0 {
		t.Errorf("no words: exit %d, %q", code, bad.String())
	}
}

func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

func TestObjects(t *testing.T) {
	socket, storage, _ := device(t)
	content := strings.Repeat("object\x00\n", 40000)
	file := filepath.Join(t.TempDir(), "o")
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	if code, _, bad := run(t, socket, "", "objects", "put", file, digest(content)); code != 0 {
		t.Fatalf("put: exit %d, %s", code, bad)
	}
	if code, _, bad := run(t, socket, "from stdin, and more", "objects", "put", "-10", digest("from stdin")); code != 0 {
		t.Fatalf("put from standard input: exit %d, %s", code, bad)
	}
	if code, out, _ := run(t, socket, "", "--json", "objects", "get", digest(content)); code != 0 || out != content {
		t.Errorf("get: exit %d, %d bytes, want %d", code, len(out), len(content))
	}
	to := filepath.Join(t.TempDir(), "out")
	if code, out, _ := run(t, socket, "", "-f", to, "objects", "get", digest("from stdin")); code != 0 || out != "" {
		t.Errorf("get to a file: exit %d, %q", code, out)
	}
	if got, _ := os.ReadFile(to); string(got) != "from stdin" {
		t.Errorf("the file holds %q", got)
	}
	if files, _ := os.ReadDir(filepath.Join(storage, "objects")); len(files) != 2 {
		t.Errorf("%d files in the store, want 2", len(files))
	}
}

// export makes a tarball as pvr exports them.
func export(t *testing.T, members ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "export.tgz")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	z := gzip.NewWriter(f)
	w := tar.NewWriter(z)
	for i := 0; i < len(members); i += 2 {
		if err := w.WriteHeader(&tar.Header{Name: members[i], Mode: 0o644, Size: int64(len(members[i+1]))}); err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(w, members[i+1])
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

const document = `{"#spec":"pantavisor-service-system@1"}`

// cut returns an archive that ends within its last object.
func cut(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	path += ".cut"
	if err := os.WriteFile(path, data[:3*512+2], 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestInstall(t *testing.T) {
	socket, storage, _ := device(t)
	good := export(t, "objects/"+digest("one"), "one", "json", document, "./objects/"+digest("two"), "two")
	for range 2 { // the second time there is nothing left to send
		code, out, bad := run(t, socket, "", "-m", "a message", "steps", "install", good, "locals/new")
		if code != 0 || out != `{"revision":"locals/new"}`+"\n" {
			t.Fatalf("exit %d, %q, %s", code, out, bad)
		}
	}
	if got, _ := os.ReadFile(filepath.Join(storage, "trails/locals/new/.pvr/json")); string(got) != document {
		t.Errorf("the state is %q", got)
	}
	if got, _ := os.ReadFile(filepath.Join(storage, "trails/locals/new/.pv/commitmsg")); string(got) != "a message" {
		t.Errorf("the message is %q", got)
	}
	text, _ := os.ReadFile(good)
	code, out, _ := run(t, socket, "", "steps", "install", good)
	var named struct{ Revision string }
	if err := json.Unmarshal([]byte(out), &named); err != nil || code != 0 || named.Revision != "locals/"+digest(string(text)) {
		t.Errorf("without a name: exit %d, %q", code, out)
	}
	for name, tt := range map[string]struct {
		tarball string
		code    int
	}{
		"wrong object": {export(t, "objects/"+digest("one!"), "other", "json", document), 60},
		"bad state":    {export(t, "json", "{}"), 70},
		"cut short":    {cut(t, export(t, "json", document, "objects/"+digest("one!"), "one!")), 1},
		"no state":     {export(t, "objects/"+digest("x"), "x"), 1},
		"no tarball":   {os.Args[0], 1},
	} {
		code, out, bad := run(t, socket, "", "steps", "install", tt.tarball, "locals/bad")
		if code != tt.code || out != "" || bad == "" {
			t.Errorf("%s: exit %d, out %q, err %q, want %d", name, code, out, bad, tt.code)
		}
	}
	if _, err := os.Stat(filepath.Join(storage, "trails/locals/bad")); err == nil {
		t.Error("a refused step is there")
	}
}
