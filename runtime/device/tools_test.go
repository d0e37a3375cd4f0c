package device

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/revision/state"
	"github.com/pantavisor/pantavisor/runtime/config"
	"github.com/pantavisor/pantavisor/runtime/handoff"
	"github.com/pantavisor/pantavisor/runtime/pvcontrol"
	"github.com/pantavisor/pantavisor/runtime/pvcurl"
)

// export writes an export with one more object than the device has.
func (d *device) export(text string) string {
	d.t.Helper()
	scratch := state.New(state.Spec)
	sum := d.text(text) // to know its name
	if err := d.store.Remove(sum); err != nil {
		d.t.Fatal(err)
	}
	if err := scratch.SetObject("README.md", sum); err != nil {
		d.t.Fatal(err)
	}
	path := filepath.Join(d.dir, "export.tgz")
	f, err := os.Create(path)
	if err != nil {
		d.t.Fatal(err)
	}
	z := gzip.NewWriter(f)
	w := tar.NewWriter(z)
	for name, content := range map[string]string{"json": string(scratch.Encode()), "objects/" + sum: text} {
		err := w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(content))})
		if err == nil {
			_, err = w.Write([]byte(content))
		}
		if err != nil {
			d.t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		d.t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		d.t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		d.t.Fatal(err)
	}
	return path
}

// TestTools runs the commands of the tools one after the other on a running device.
func TestTools(t *testing.T) {
	d := newDevice(t)
	d.cfg.Apply(config.Env, config.ControlRemote, "0")
	d.add("sys", "platform", "/sbin/init wait", nil)
	d.add("app", "app", "/sbin/init wait", nil)
	d.xconnect()
	tgz := d.export("readme")
	d.boot()
	d.await(map[string]string{"sys": "STARTED", "app": "STARTED"})
	zeros := strings.Repeat("0", 64)
	const later = "is not available in this version"
	for _, c := range []struct {
		args, stdin string
		code        int
		says        string // on standard output, or on standard error when the code is not 0
	}{
		{"ls", "", 0, `[{"name":"app","group":"app","status":"STARTED"`},
		{"containers stop app", "", 0, ""}, {"containers stop sys", "", 255, "restart_policy 'system'"}, {"containers stop nobody", "", 255, "Container not found"},
		{"containers start app", "", 0, ""}, {"groups ls", "", 0, `"name":"data"`}, {"daemons ls", "", 0, `{"name":"pv-xconnect","pid":`},
		{"daemons stop pv-xconnect", "", 0, ""}, {"daemons get pv-xconnect", "", 0, `"respawn":false`}, {"daemons start pv-xconnect", "", 0, ""},
		{"daemons restart nobody", "", 255, "Daemon not found"}, {"signal ready", "", 255, "Signal not expected"}, {"signal alive", "", 1, "unknown command"},
		{"graph ls", "", 0, "[]\n"}, {"buildinfo", "", 0, ""}, {"usrmeta save k v", "", 0, ""}, {"usrmeta save PV_LOG_LEVEL 5", "", 0, ""},
		{"usrmeta save long", `{"a":1}`, 0, ""}, {"usrmeta ls", "", 0, `"k":"v"`}, {"usrmeta delete k", "", 0, ""}, {"usrmeta delete k", "", 255, "User meta does not exist"},
		{"usrmeta save app/k of-app", "", 0, ""}, {"usrmeta ls", "", 0, `"app/k":"of-app"`}, {"usrmeta save nobody/k v", "", 255, "unknown endpoint"},
		{"usrmeta delete app/k", "", 0, ""}, {"usrmeta delete app/k", "", 255, "User meta does not exist"}, {"devmeta save app/k v", "", 255, "unknown endpoint"},
		{"devmeta save mine x", "", 0, ""}, {"devmeta ls", "", 0, `"mine":"x"`}, {"devmeta delete mine", "", 0, ""},
		{"config sources", "", 0, `{"key":"PV_CONTROL_REMOTE","value":"0","modified":"env"}`}, {"conf sources", "", 0, `{"key":"PV_LOG_LEVEL","value":"5","modified":"metadata"}`},
		{"configuration ls", "", 0, `"control.remote":false`},
		{"steps ls", "", 0, `"status-msg":"Factory revision"`}, {"steps get current", "", 0, `"app/run.json"`}, {"steps show-progress 0", "", 0, `"status":"DONE"`},
		{"-m first steps install " + tgz + " locals/one", "", 0, `{"revision":"locals/one"}`}, {"steps ls", "", 0, `"name":"locals/one"`}, {"steps ls", "", 0, `"commitmsg":"first"`},
		{"steps show-progress locals/one", "", 0, "Update ready to be run"}, {"steps get locals/one", "", 0, "README.md"},
		{"steps put - locals/bad", `{"#spec":"x@1"}`, 70, "State JSON has bad format"},
		{"steps put - locals/lost", `{"#spec":"pantavisor-service-system@1","README.md":"` + zeros + `"}`, 70, "object " + zeros + " is missing"},
		{"steps put - 7", "{}", 255, "Method not supported"}, {"steps get nowhere", "", 255, "Resource does not exist"},
		{"objects put -3 " + zeros, "abc", 60, "bad checksum"}, {"objects put -1 short", "a", 255, "bad object name"}, {"objects get " + zeros, "", 255, "bad object name"},
		{"objects put -0 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "", 0, ""}, {"objects ls", "", 0, `{"sha256":"e3b0c44298fc1c14`},
		{"storage gc", "", 0, `{"reclaimed": `}, {"steps get locals/one", "", 0, "README.md"},
		{"cmd run locals/none", "", 0, ""}, {"cmd run-commit locals/none", "", 0, ""}, {"cmd try-once locals/none", "", 0, ""}, {"cmd apply locals/none", "", 0, ""},
		{"--wait cmd run locals/none", "", 1, "State JSON not found"}, {"updates ls", "", 0, "locals/none"}, {"updates why locals/none", "", 0, "what failed: state: the revision is not on the device"},
		{"updates show locals/none", "", 0, "WONTGO"}, {"--json updates show locals/none", "", 0, `"status":"WONTGO"`}, {"steps show-progress locals/none", "", 0, "State JSON not found"},
		{"updates why locals/other", "", 255, "There was no update to revision locals/other"}, {"updates cancel locals/none", "", 255, "is waiting"}, {"updates stage locals/none 25:00", "", 255, "not a time of day"},
		{"cmd make-factory locals/one", "", 255, "has not been committed"}, {"cmd enable-ssh", "", 255, later}, {"cmd disable-ssh", "", 255, later},
		{"cmd go-remote", "", 255, "disabled by config"}, {"cmd unclaim", "", 255, "nothing to do"}, {"cmd defer-reboot 60", "", 255, "debug shell is not active"},
		{"cmd defer-reboot soon", "", 1, "not a number of seconds"}, {"--json usrmeta save k v", "", 0, `{"status":200}`}, {"nonsense", "", 1, "unknown command"},
		{"-s " + d.dir + "/none ls", "", 1, "not found"},
	} {
		var out, bad bytes.Buffer
		code := pvcontrol.Run(context.Background(), append([]string{"-s", d.dir + "/run/pv-ctrl"}, strings.Fields(c.args)...), strings.NewReader(c.stdin), &out, &bad)
		said := out.String()
		if c.code != 0 {
			said = bad.String()
		}
		if code != c.code || !strings.Contains(said, c.says) {
			t.Errorf("pvcontrol %s: exit code %d, %.300q, want %d and %q", c.args, code, said, c.code, c.says)
		}
	}
	d.curl()
	var out bytes.Buffer
	if code := pvcontrol.Run(context.Background(), []string{"-s", d.dir + "/run/pv-ctrl", "cmd", "poweroff", "enough"}, nil, &out, &out); code != 0 || <-d.code != handoff.ExitPowerOff {
		t.Errorf("poweroff: %d, %s", code, &out)
	}
	if !strings.Contains(d.out.String(), `a power-off was asked for: "enough"`) {
		t.Error("the log lacks the message")
	}
}

// curl runs pvcurl with the options that scripts in containers use.
func (d *device) curl() {
	d.t.Helper()
	socket := d.dir + "/run/pv-ctrl"
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"-s", "-w", "%{http_code}", "-X", "PUT", "--data", "v", "--unix-socket", socket, "http://localhost/user-meta/curl"}, "200"},
		{[]string{"-X", "GET", "--unix-socket", socket, "http://localhost/user-meta"}, `"curl":"v"`},
		{[]string{"-i", "--unix-socket", socket, "http://localhost/nothing"}, "400 Bad Request"},
		{[]string{"-X", "DELETE", "-s", "-w", "%{http_code}", "--unix-socket", socket, "http://localhost/user-meta/curl"}, "200"},
	} {
		var out, bad bytes.Buffer
		if code := pvcurl.Run(context.Background(), c.args, nil, &out, &bad); code != 0 || !strings.Contains(out.String(), c.says) {
			d.t.Errorf("pvcurl %q: %d, %q, %q, want %q", c.args, code, &out, &bad, c.says)
		}
	}
	var out, bad bytes.Buffer
	if code := pvcurl.Run(context.Background(), []string{"--unix-socket", socket, "/containers"}, nil, &out, &bad); code != 0 || !json.Valid(out.Bytes()) {
		d.t.Errorf("pvcurl: %d, %q", code, &out)
	}
}
