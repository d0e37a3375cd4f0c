package device

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/revision/manifest"
	"github.com/pantavisor/pantavisor/revision/state"
	"github.com/pantavisor/pantavisor/runtime/config"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
)

// check asks what an update to the state, or to a stored revision, would do.
func (d *device) check(rev string) api.UpdateCheck {
	d.t.Helper()
	var text string
	if rev == "" {
		text = d.ask(http.MethodPost, "/updates/check", string(d.st.Encode()))
	} else {
		text = d.ask(http.MethodGet, "/updates/check/"+rev, "")
	}
	var c api.UpdateCheck
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		d.t.Fatal(err)
	}
	return c
}

// blockers are those of an answer as "check: text".
func blockers(c api.UpdateCheck) string {
	var list []string
	for _, b := range c.Blockers {
		list = append(list, b.Check+": "+b.Text)
	}
	return strings.Join(list, "\n")
}

// files lists the storage without the logs, which are written all the time.
func (d *device) files() map[string]string {
	d.t.Helper()
	out := map[string]string{}
	root := d.dir + "/storage"
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || path == root+"/logs" {
			return fs.SkipDir
		}
		info, err := e.Info()
		if err == nil {
			out[path] = fmt.Sprint(info.Mode(), info.Size(), info.ModTime().UnixNano())
		}
		return err
	})
	if err != nil {
		d.t.Fatal(err)
	}
	return out
}

func TestDryRunWritesNothing(t *testing.T) {
	d := updated(t)
	d.add("second", "app", "/sbin/init stay", nil)
	d.send("locals/a")
	before := d.files()
	byState, stored := d.check(""), d.check("locals/a")
	if diff := cmp.Diff(before, d.files()); diff != "" {
		t.Errorf("the storage has changed (-before +after):\n%s", diff)
	}
	if !stored.Possible || stored.Restart || stored.From != "0" || stored.Revision != "locals/a" {
		t.Errorf("the answer is %+v", stored)
	}
	if len(stored.Parts) != 1 || stored.Parts[0].Part != "second" || stored.Parts[0].Change != "added" || fmt.Sprint(stored.Containers) != "[second]" {
		t.Errorf("the difference is %+v, %v", stored.Parts, stored.Containers)
	}
	if len(stored.Space) != 1 || stored.Space[0].Required <= 0 || stored.Space[0].Available <= stored.Space[0].Required {
		t.Errorf("space: %+v", stored.Space)
	}
	byState.Revision = "locals/a"
	byState.Space, stored.Space = nil, nil // what is available may differ by what logs take
	if diff := cmp.Diff(stored, byState); diff != "" {
		t.Errorf("the state itself (-stored +sent):\n%s", diff)
	}
	root := d.dir + "/storage"
	if err := unix.Mount(root, root, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Unmount(root, unix.MNT_DETACH) }()
	if err := unix.Mount("", root, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	readOnly := d.check("locals/a")
	readOnly.Space = nil
	if diff := cmp.Diff(stored, readOnly); diff != "" {
		t.Errorf("read-only (-before +then):\n%s", diff)
	}
	if err := unix.Unmount(root, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	d.off()
}

func TestDryRunNamesEveryBlocker(t *testing.T) {
	d := updated(t)
	d.add("mgmt", "platform", "/sbin/init stay", map[string]any{
		"roles": []string{"mgmt"}, "requires": []string{"arch:none", "camera", "runtime>=2026.1"}, "conflicts": []string{"container:app"},
	})
	lost := strings.Repeat("ab", 32)
	if err := d.st.SetObject("app/more", lost); err != nil {
		t.Fatal(err)
	}
	c := d.check("")
	if c.Possible || !c.Restart || len(c.RestartKeys) == 0 || fmt.Sprint(c.Missing) != "["+lost+"]" {
		t.Errorf("the answer is %+v", c)
	}
	for _, want := range []string{
		"object: object " + lost + " is not on the device",
		"compatibility: mgmt requires arch:none, this device provides arch:",
		"compatibility: mgmt requires camera, which nothing provides",
		"compatibility: mgmt conflicts with container:app, app provides container:app",
	} {
		if got := blockers(c); !strings.Contains(got, want) || strings.Contains(got, "runtime") {
			t.Errorf("blockers:\n%s\nwant %s", got, want)
		}
	}
	text := d.ask(http.MethodPost, "/updates/check", "{")
	if !strings.Contains(text, `"check":"state"`) || !strings.Contains(text, `"possible":false`) {
		t.Errorf("no state: %s", text)
	}
	if _, err := d.try(http.MethodGet, "/updates/check/locals/none", ""); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("not stored: %v", err)
	}
	d.off()
}

func TestIncompatibleUpdateIsRefused(t *testing.T) {
	d := updated(t)
	d.add("app", "app", "/sbin/init stay", map[string]any{"requires": []string{"camera"}})
	d.send("locals/a")
	before := d.files()
	d.command(api.OpLocalRun, "locals/a")
	u := d.ends("locals/a", "WONTGO")
	if f := u.Failure; u.Message != "State JSON has incompatible parts" || f == nil || f.Check != "compatibility" || f.Text != "app requires camera, which nothing provides" {
		t.Errorf("%+v, %+v", u, u.Failure)
	}
	for path := range d.files() {
		if before[path] == "" && strings.Contains(path, "/trails/") && !strings.Contains(path, "/.pv") {
			t.Errorf("%s was installed", path)
		}
	}
	d.off()
}

// withBSP returns a state whose BSP provides something.
func withBSP(t *testing.T, provides string) (*state.State, *manifest.System) {
	t.Helper()
	st := state.New(state.Spec)
	sum := strings.Repeat("1", 64)
	for key, text := range map[string]string{
		"bsp/run.json":   `{"linux":"kernel.img","initrd":"pantavisor","provides":[` + provides + `]}`,
		"bsp/kernel.img": `"` + sum + `"`, "bsp/pantavisor": `"` + sum + `"`,
		"app/run.json": `{"name":"app","type":"lxc","config":"c","root-volume":"r","storage":{},"requires":["kernel>=6.1","runtime>=2"]}`,
		"app/c":        `"` + sum + `"`, "app/r": `"` + sum + `"`,
	} {
		if err := st.Set(key, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	sys, err := manifest.Parse(st, manifest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return st, sys
}

func TestCompatible(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		from, to string
		facts    facts
		want     string
	}{
		"the device's own":      {"", "", facts{"v2.1", "6.6.1"}, ""},
		"old runtime":           {"", "", facts{"v1", "6.6.1"}, "app requires runtime>=2, this device provides runtime=v1"},
		"old kernel":            {"", "", facts{"(devel)", "5.10.1"}, "app requires kernel>=6.1, this device provides kernel=5.10.1"},
		"another BSP, silent":   {`"board:a"`, "", facts{"1", "5.10"}, ""},
		"another BSP":           {`"board:a"`, `"board:a","kernel=6.2"`, facts{"1", "5.10"}, ""},
		"another BSP's kernel":  {`"board:a"`, `"board:a","kernel=6.0"`, facts{"1", "6.1"}, "app requires kernel>=6.1, bsp provides kernel=6.0"},
		"another board":         {`"board:a"`, `"board:b"`, facts{"3", "6.2"}, "this device requires board:a, bsp provides board:b"},
		"a board's second name": {`"board:a"`, `"board:b","board:a"`, facts{"3", "6.2"}, ""},
		"back to the first":     {`"board:b","board:a"`, `"board:a"`, facts{"3", "6.2"}, ""},
	} {
		from, was := withBSP(t, c.from)
		to, sys := withBSP(t, c.to)
		running := &revision{state: from, loaded: &loaded{state: from, sys: was}}
		if got := c.facts.compatible(running, to, sys).Error(); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestSpaceIsJudgedBeforeInstall(t *testing.T) {
	d := updated(t)
	d.add("second", "app", "/sbin/init stay", nil)
	d.send("locals/a")
	d.cfg.Apply(config.Env, config.StorageGCReserved, "100") // nothing may be used
	if err := d.st.SetObject("second/data.bind", d.image); err != nil {
		t.Fatal(err)
	}
	if got := blockers(d.check("")); !strings.Contains(got, "space: storage: Space required ") || !strings.Contains(got, " B, available ") {
		t.Errorf("blockers: %s", got)
	}
	d.off()
}
