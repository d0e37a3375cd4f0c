package template

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/internal/oracle"
	"github.com/pantavisor/pantavisor/revision/canon"
)

func parse(t testing.TB, text string) canon.Value {
	t.Helper()
	v, err := canon.First([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// render renders a src.json with the given members besides the template.
func render(t testing.TB, members string) (*Output, error) {
	t.Helper()
	return Render(Input{Name: "app", Source: []byte(`{"template":"builtin-lxc-docker"` + members + `}`)})
}

func mustRender(t testing.TB, members string) *Output {
	t.Helper()
	out, err := render(t, members)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestSmallest(t *testing.T) {
	out := mustRender(t, "")
	want := `lxc.tty.max = 8
lxc.pty.max = 1024
lxc.cgroup.devices.allow = a
lxc.rootfs.path = overlayfs:/volumes/app/root.squashfs:/volumes/app/lxc-overlay/upper
lxc.init.cmd = /sbin/init
lxc.namespace.keep = user  net  ipc
lxc.mount.auto = proc  sys:rw  cgroup
lxc.mount.entry = /etc/resolv.conf etc/resolv.conf none bind,rw,create=file 0 0
lxc.mount.entry = tmpfs run tmpfs rw,nodev,relatime,create=dir,mode=755 0 0
`
	if diff := cmp.Diff(want, string(out.Config)); diff != "" {
		t.Error(diff)
	}
	run := `{"#spec":"service-manifest-run@1","config":"lxc.container.conf","drivers":{"manual":[],"optional":[],"required":[]},"name":"app","root-volume":"root.squashfs","storage":{"lxc-overlay":{"persistence":"boot"}},"type":"lxc","volumes":[]}`
	if got := string(out.Run.Encode()); got != run {
		t.Error(cmp.Diff(run, got))
	}
}

func TestLaterArguments(t *testing.T) {
	out := mustRender(t, `,"args":{"PV_NETWORK_POOL":"net0","PV_NETWORK_IP":"10.0.3.7","PV_AUTO_RECOVERY":{"policy":"always"},
		"PV_SERVICES_REQUIRED":[{"name":"bus","type":"dbus"}]}`)
	for member, want := range map[string]string{
		"network": `{"hostname":"app","ip":"10.0.3.7","pool":"net0"}`, "auto_recovery": `{"policy":"always"}`,
		"services": `{"required":[{"name":"bus","type":"dbus"}]}`,
	} {
		if v, _ := out.Run.Get(member); string(v.Encode()) != want {
			t.Errorf("%s: %s", member, v.Encode())
		}
	}
}

func TestTimeout(t *testing.T) {
	for arg, want := range map[string]string{"90": "90", `"90"`: "90", "0": "0", `"0"`: "0", `""`: "", "null": ""} {
		out := mustRender(t, `,"args":{"PV_STATUS_GOAL_TIMEOUT":`+arg+`}`)
		v, ok := out.Run.Get("timeout")
		if ok != (want != "") || ok && string(v.Encode()) != want {
			t.Errorf("%s: %s", arg, v.Encode())
		}
	}
	for _, arg := range []string{"-1", "1.5", `"1m"`, "true", "[1]", "2147483648"} {
		_, err := render(t, `,"args":{"PV_STATUS_GOAL_TIMEOUT":`+arg+`}`)
		if err == nil || !strings.Contains(err.Error(), "args.PV_STATUS_GOAL_TIMEOUT: a whole number of seconds") {
			t.Errorf("%s: %v", arg, err)
		}
	}
}

func TestDeclarations(t *testing.T) {
	out := mustRender(t, `,"args":{"PV_PROVIDES":"camera=2,container:app=1.2","PV_REQUIRES":["arch:arm64","kernel>=6.1"],"PV_CONFLICTS":" "}`)
	for member, want := range map[string]string{
		"provides": `["camera=2","container:app=1.2"]`, "requires": `["arch:arm64","kernel>=6.1"]`,
	} {
		v, _ := out.Run.Get(member)
		if got := string(v.Encode()); got != want {
			t.Errorf("%s: %s, want %s", member, got, want)
		}
	}
	if v, ok := out.Run.Get("conflicts"); ok {
		t.Errorf("conflicts: %s", v.Encode())
	}
}

// An empty argument is an argument: it drops what would be there by default.
func TestEmptyArguments(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{`"LXC_MOUNT_AUTO_GROUP":""`, "lxc.mount.auto = proc  sys:rw  \n"},
		{`"LXC_MOUNT_AUTO_SYS":""`, "lxc.mount.auto = proc    cgroup\n"},
		{`"LXC_MOUNT_AUTO_PROC":""`, "lxc.mount.auto =   sys:rw  cgroup\n"},
		{`"LXC_MOUNT_AUTO_PROC":null`, "lxc.mount.auto = proc  sys:rw  cgroup\n"},
		{`"LXC_TTY_MAX":0`, "lxc.tty.max = 0\n"},
		{`"LXC_TTY_MAX":"0"`, "lxc.tty.max = 0\n"},
		{`"LXC_PTY_MAX":0`, "lxc.pty.max = 0\n"},
	} {
		if out := mustRender(t, `,"args":{`+c.args+`}`); !strings.Contains(string(out.Config), c.want) {
			t.Errorf("%s: %q is not in\n%s", c.args, c.want, out.Config)
		}
	}
}

func TestGroupMessages(t *testing.T) {
	const deprecated = "WARN: using deprecated runlevel. Use --group instead for Pantavisor 015 or above"
	groups, device := []byte(`[{"name":"old"}]`), []byte(`{"groups":[{"name":"net"},{"name":"app"}]}`)
	for _, c := range []struct {
		args           string
		groups, device []byte
		want           []string
	}{
		{`"PV_GROUP":"old","PV_RUNLEVEL":"app"`, groups, nil, []string{`Setting new platform to group "old"`,
			`Setting new platform to runlevel "app"`, deprecated, "WARN: PV_RUNLEVEL used and groups.json found at the same time"}},
		{`"PV_GROUP":"g","PV_RUNLEVEL":"app"`, nil, nil, []string{`Setting new platform to group "g"`,
			`Setting new platform to runlevel "app"`, deprecated, "WARN: group does not exist in groups.json"}},
		{`"PV_GROUP":"net"`, nil, device, []string{`Setting new platform to group "net"`}},
		{`"PV_GROUP":"ent"`, nil, device, []string{`Setting new platform to group "ent"`, "WARN: group does not exist in device.json, which has net, app"}},
		{`"X":1`, nil, device, nil},
	} {
		out, err := Render(Input{Name: "app", Source: []byte(`{"template":"builtin-lxc-docker","args":{` + c.args + `}}`), Groups: c.groups, Device: c.device})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, out.Messages); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.args, diff)
		}
	}
}

func TestVolumesOfOnePathCountOnce(t *testing.T) {
	out := mustRender(t, `,"docker_config":{"Volumes":{"/x/":{},"/y":{}}},"persistence":{"/x":"revision@d"}`)
	storage, _ := out.Run.Get("storage")
	if got := string(storage.Encode()); got != `{"docker--x":{"disk":"d","persistence":"revision"},"docker--y":{"persistence":"permanent"},"lxc-overlay":{"persistence":"boot"}}` {
		t.Errorf("storage %s", got)
	}
	if n := strings.Count(string(out.Config), "docker--x "); n != 1 {
		t.Errorf("%d mounts of /x", n)
	}
}

func TestRefused(t *testing.T) {
	for name, c := range map[string]struct{ src, want string }{
		"no JSON":         {`{`, "reading src.json"},
		"no template":     {`{}`, "empty template"},
		"other template":  {`{"template":"nope"}`, "no handler for nope"},
		"string for list": {`{"template":"builtin-lxc-docker","args":{"PV_LXC_CAP_DROP":"sys_admin"}}`, "args.PV_LXC_CAP_DROP: a list is expected"},
		"list for string": {`{"template":"builtin-lxc-docker","args":{"PV_GROUP":["a"]}}`, "args.PV_GROUP: a string is expected"},
		"object in list":  {`{"template":"builtin-lxc-docker","docker_config":{"Env":[{}]}}`, "docker_config.Env[0]"},
		"NUL in Env":      {`{"template":"builtin-lxc-docker","docker_config":{"Env":["A=\u0000"]}}`, "docker_config.Env[0]"},
		"NUL in Cmd":      {`{"template":"builtin-lxc-docker","docker_config":{"Cmd":["a","\u0000"]}}`, "NUL byte"},
		"no program":      {`{"template":"builtin-lxc-docker","docker_config":{"Entrypoint":[""],"Cmd":["a"]}}`, "begins with an empty word"},
		"name in Env":     {`{"template":"builtin-lxc-docker","docker_config":{"Env":["A=1","DEBUG"]}}`, "docker_config.Env[1]: \"DEBUG\"; NAME=VALUE"},
		"nameless Env":    {`{"template":"builtin-lxc-docker","docker_config":{"Env":["=1"]}}`, "docker_config.Env[0]"},
		"extra Env":       {`{"template":"builtin-lxc-docker","args":{"PV_LXC_EXTRA_ENV":["A"]}}`, "args.PV_LXC_EXTRA_ENV[0]"},
		"relative dir":    {`{"template":"builtin-lxc-docker","docker_config":{"WorkingDir":"app"}}`, "docker_config.WorkingDir: \"app\" is not an absolute path"},
		"root volume":     {`{"template":"builtin-lxc-docker","docker_config":{"Volumes":{"/":{}}}}`, "the root of a container cannot be a volume"},
		"root by dots":    {`{"template":"builtin-lxc-docker","docker_config":{"Volumes":{"/a/..":{}}}}`, "the root of a container cannot be a volume"},
		"root of overlay": {`{"template":"builtin-lxc-docker","persistence":{"ovl:/":"boot"}}`, "the root of a container cannot be a volume"},
		"overlay's colon": {`{"template":"builtin-lxc-docker","persistence":{"ovl:/a:b":"boot"}}`, "no comma, colon or backslash"},
		"open quote":      {`{"template":"builtin-lxc-docker","docker_config":{"Cmd":"a \"b"}}`, "docker_config.Cmd"},
		"line in string":  {`{"template":"builtin-lxc-docker","docker_config":{"Cmd":"a\nb"}}`, "line break"},
		"line in signal":  {`{"template":"builtin-lxc-docker","docker_config":{"StopSignal":"9\nlxc.autodev = 0"}}`, "line break"},
		"line in cgroup":  {`{"template":"builtin-lxc-docker","args":{"PVR_LXC_CGROUP_V1":["a\nb"]}}`, "line break"},
		"declaration":     {`{"template":"builtin-lxc-docker","args":{"PV_REQUIRES":"camera, kernel=>6"}}`, "args.PV_REQUIRES: declaration \"kernel=>6\", column 7"},
		"provided range":  {`{"template":"builtin-lxc-docker","args":{"PV_PROVIDES":["kernel>6"]}}`, "args.PV_PROVIDES: declaration"},
		"import":          {`{"template":"builtin-lxc-docker","args":{"PV_VOLUME_IMPORTS":["a:b"]}}`, "CONTAINER:[SUB@]PATH:TARGET"},
	} {
		out, err := Render(Input{Name: "app", Source: []byte(c.src)})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v", name, out, err)
		}
	}
	for _, name := range []string{"", "a/b", "..", ".pvr"} {
		if _, err := Render(Input{Name: name, Source: []byte(`{"template":"builtin-lxc-docker"}`)}); err == nil {
			t.Errorf("the name %q is accepted", name)
		}
	}
	if _, err := Render(Input{Name: "app", Source: []byte(`{"template":"builtin-lxc-docker"}`), Groups: []byte("{")}); err == nil {
		t.Error("damaged groups.json is accepted")
	}
}

// specDir returns the directory of recorded applications or skips the test.
func specDir(t *testing.T) string {
	t.Helper()
	return oracle.Recordings(t, "golden/pvr/template")
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return data
}

type recorded struct {
	Case, App, Stderr, Quirk string
	RC                       int
	Run                      json.RawMessage `json:"run_json"`
}

func TestRecordedApplications(t *testing.T) {
	dir := specDir(t)
	var index struct{ Cases []recorded }
	if err := json.Unmarshal(read(t, filepath.Join(dir, "index.json")), &index); err != nil {
		t.Fatal(err)
	}
	if len(index.Cases) == 0 {
		t.Fatal("no cases")
	}
	for _, c := range index.Cases {
		t.Run(c.Case, func(t *testing.T) { checkRecorded(t, filepath.Join(dir, c.Case), c) })
	}
}

func checkRecorded(t *testing.T, dir string, c recorded) {
	out, err := Render(Input{Name: c.App, Source: read(t, filepath.Join(dir, "src.json")), Groups: read(t, filepath.Join(dir, "groups.json"))})
	if strings.Contains(c.Stderr, "docker_name") {
		// The image's name is not the business of the template: an application may come
		// from a root file system.
		return
	}
	if c.RC != 0 {
		if err == nil {
			t.Error("no error")
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(read(t, filepath.Join(dir, ConfigName))), string(out.Config)); diff != "" {
		t.Error(diff)
	}
	want := string(c.Run)
	if want == "null" || want == "" {
		// The recorded file is not JSON: it separates volumes by a literal \n.
		want = strings.ReplaceAll(string(read(t, filepath.Join(dir, "run.json"))), `\n`, "")
	}
	if v := parse(t, want); !canon.Equal(v, out.Run) {
		t.Error(cmp.Diff(string(v.Pretty(canon.Tabs)), string(out.Run.Pretty(canon.Tabs))))
	}
	if got := strings.Join(append(out.Messages, ""), "\n"); got != c.Stderr {
		t.Error(cmp.Diff(c.Stderr, got))
	}
}

func FuzzRender(f *testing.F) {
	f.Add([]byte(`{"template":"builtin-lxc-docker","args":{"PV_LXC_CAP_DROP":["a"],"PV_VOLUME_IMPORTS":["a:b@c:d"]},"persistence":{"ovl:/x":"boot@d"}}`), []byte(`[{"name":"g"}]`))
	f.Add([]byte(`{"template":"builtin-lxc-docker","docker_config":{"Env":["A=\n"],"Cmd":"x","Entrypoint":["a","b"]}}`), []byte(nil))
	f.Fuzz(func(t *testing.T, src, groups []byte) {
		out, err := Render(Input{Name: "app", Source: src, Groups: groups})
		if err != nil {
			return
		}
		if _, err := canon.Parse(out.Run.Encode()); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(src), "EXTRA_CONF") {
			return
		}
		for _, line := range strings.Split(strings.TrimSuffix(string(out.Config), "\n"), "\n") {
			if len(out.Config) > 0 && !strings.HasPrefix(line, "lxc.") && !strings.HasPrefix(line, "pv.") {
				t.Fatalf("line %q", line)
			}
		}
	})
}
