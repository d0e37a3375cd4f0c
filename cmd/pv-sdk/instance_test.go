package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/internal/oracle"
	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/revision/remote"
	"github.com/pantavisor/pantavisor/revision/state"
	"github.com/pantavisor/pantavisor/revision/trail"
)

// instance is an App Engine with two containers: sdk, whose first process is the server, and
// app, which has another copy of it without a server.
type instance struct {
	*testing.T
	prefix, url string
	state       *state.State
	log         bytes.Buffer // to be read when the process has ended
}

func (in *instance) must(err error) {
	in.Helper()
	if err != nil {
		in.Fatal(err)
	}
}

func (in *instance) tool(name string, args ...string) {
	in.Helper()
	cmd := exec.Command(oracle.Program(in, name), args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		in.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// newInstance installs the App Engine and starts it.
func newInstance(t *testing.T) *instance {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("namespaces and mounts need root")
	}
	dir := t.TempDir()
	in := &instance{T: t, prefix: filepath.Join(dir, "pv"), state: state.New(state.Spec)}
	root, image := filepath.Join(dir, "root"), filepath.Join(dir, "root.squashfs")
	for _, d := range []string{"root/usr/bin", "root/var", "root/etc/pvr-sdk", "root/tmp", "pv/etc"} {
		in.must(os.MkdirAll(filepath.Join(dir, d), 0o755))
	}
	in.tool("go", "build", "-trimpath", "-o", filepath.Join(root, "usr/bin/pv-web"), ".")
	in.tool("go", "build", "-trimpath", "-o", filepath.Join(in.prefix, "pantavisor"), "../pantavisor")
	in.tool("mksquashfs", root, image, "-quiet", "-no-progress", "-comp", "gzip", "-Xcompression-level", "1")
	store, err := objects.Create(filepath.Join(in.prefix, "storage/objects"))
	in.must(err)
	in.container(store, "sdk", image)
	in.container(store, "app", image)
	// The server is on a free port of this machine.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	in.must(err)
	in.url = "http://" + l.Addr().String()
	_, port, err := net.SplitHostPort(l.Addr().String())
	in.must(err)
	in.must(l.Close())
	in.must(in.state.Set("_config/sdk/etc/pvr-sdk/config.json", []byte(`{"httpd":{"port":"`+port+`"}}`)))
	in.must(in.state.Set("_config/app/etc/pvr-sdk/config.json", []byte(`{"httpd":{"listen":"off"}}`)))
	in.must(trail.Checkout(t.Context(), filepath.Join(in.prefix, "storage/trails/0"), in.state, store, trail.Options{}))
	in.must(os.WriteFile(filepath.Join(in.prefix, "etc/pantavisor.config"),
		[]byte("PV_LOG_LEVEL=4\nPV_SECURITY_DEFAULT_ROLE=mgmt\nPV_UPDATER_COMMIT_DELAY=0\nPV_NET_BRDEV=pvw"+port+"\n"), 0o644))
	in.start()
	return in
}

// container adds a container that shares the network of the machine.
func (in *instance) container(store *objects.Store, name, image string) {
	in.Helper()
	put := func(r io.Reader) string {
		sum, err := store.Put(in.Context(), r, "")
		in.must(err)
		return sum
	}
	f, err := os.Open(image)
	in.must(err)
	defer f.Close()
	conf := "lxc.rootfs.path = overlayfs:/volumes/" + name + "/root.squashfs:/volumes/" + name + "/lxc-overlay/upper\n" +
		"lxc.init.cmd = /usr/bin/pv-web -init\nlxc.mount.auto = proc sys:ro cgroup:mixed\nlxc.net.0.type = none\n"
	run := `{"#spec":"service-manifest-run@1","name":"` + name + `","type":"lxc","root-volume":"root.squashfs","config":"lxc.container.conf",` +
		`"storage":{"lxc-overlay":{"persistence":"boot"}},"status_goal":"STARTED"}`
	in.must(in.state.SetObject(name+"/root.squashfs", put(f)))
	in.must(in.state.SetObject(name+"/lxc.container.conf", put(strings.NewReader(conf))))
	in.must(in.state.Set(name+"/run.json", []byte(run)))
}

func (in *instance) start() {
	cmd := exec.Command(filepath.Join(in.prefix, "pantavisor"), "-i", "--prefix", in.prefix)
	cmd.Stdout, cmd.Stderr = &in.log, &in.log
	in.must(cmd.Start())
	in.Cleanup(func() {
		_ = cmd.Process.Signal(unix.SIGTERM)
		late := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
		defer late.Stop()
		if err := cmd.Wait(); err != nil || in.Failed() {
			in.Errorf("the App Engine: %v\n%s", err, &in.log)
		}
	})
}

// ask returns the answer to a request, "" when there is none or it is an error.
func (in *instance) ask(method, path string) string {
	in.Helper()
	req, err := http.NewRequestWithContext(in.Context(), method, in.url+path, nil)
	in.must(err)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		in.Logf("%s %s: %d %s (%v)", method, path, resp.StatusCode, text, err)
		return ""
	}
	return string(text)
}

// until waits for an answer that has a text.
func (in *instance) until(method, path, text string) string {
	in.Helper()
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		got := in.ask(method, path)
		if strings.Contains(got, text) {
			return got
		}
		if time.Now().After(end) {
			in.Fatalf("%s %s has no %s: %s", method, path, text, got)
		}
	}
}

// TestAppEngine uses the server in a container of an App Engine: its configuration is a
// part of the state, the logs are there, the device is cloned, and a revision without a
// container is made and runs, which restarts the device with the server.
func TestAppEngine(t *testing.T) {
	in := newInstance(t)
	in.until("GET", "/cgi-bin/pvtx/status", `"DONE"`)
	in.until("GET", "/app/api/overview", `"name":"app"`)
	in.until("GET", "/app/", "<title>")
	in.until("GET", "/cgi-bin/logs?source=sdk", "listening on "+in.url+"/app/")
	in.until("GET", "/cgi-bin/logs?source=app", "the configuration wants no web server")

	store, err := objects.Create(t.TempDir())
	in.must(err)
	c, err := remote.New(remote.Options{ConfigDir: t.TempDir()})
	in.must(err)
	ref, err := c.Reference(in.url + "/cgi-bin/pvr")
	in.must(err)
	got, err := c.Get(t.Context(), ref, store, remote.GetOptions{})
	in.must(err)
	if !state.Equal(got.State, in.state) || got.Objects != 3 {
		t.Errorf("cloned %d objects and %s", got.Objects, got.State.Raw())
	}

	in.until("POST", "/cgi-bin/pvtx/begin", `"app/run.json"`)
	if text := in.ask("PUT", "/cgi-bin/pvtx/remove?part=app"); !strings.Contains(text, "sdk/run.json") || strings.Contains(text, "app/run.json") {
		t.Errorf("remove: %s", text)
	}
	in.ask("PUT", "/cgi-bin/pvtx/remove?part=_config/app") // what a signature would cover
	var committed struct {
		Revision string `json:"revision"`
	}
	in.must(json.Unmarshal([]byte(in.ask("POST", "/cgi-bin/pvtx/commit")), &committed))
	if in.ask("POST", "/cgi-bin/pvtx/run?rev="+committed.Revision) == "" {
		t.Fatal("it does not run")
	}
	in.until("GET", "/cgi-bin/pvtx/status?rev="+committed.Revision, `"DONE"`)
	if text := in.until("GET", "/app/api/overview", fmt.Sprintf(`"revision":%q`, committed.Revision)); strings.Contains(text, `"name":"app"`) {
		t.Errorf("what runs: %s", text)
	}
	in.until("GET", "/app/api/updates", `"status":"DONE"`)
}
