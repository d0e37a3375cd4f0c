package device

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/revision/compat"
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
	if got, want := blockers(readOnly), "boot loader: uboot cannot try it: "+root+"/boot/uboot.txt cannot be written: read-only file system"; got != want {
		t.Errorf("blockers are %q, want %q", got, want)
	}
	readOnly.Space, readOnly.Possible, readOnly.Blockers = nil, true, stored.Blockers
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
	same, err := d.try(http.MethodGet, "/updates/check/0", "")
	if err != nil || strings.Contains(same, "null") {
		t.Errorf("lists without items are null: %s, %v", same, err)
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

// withBSP returns a state whose BSP has a kernel and provides something, and whose container requires
// something.
func withBSP(t *testing.T, kernel, provides, requires string) (*state.State, *manifest.System) {
	t.Helper()
	st := state.New(state.Spec)
	sum := strings.Repeat("1", 64)
	for key, text := range map[string]string{
		"bsp/run.json":   `{"linux":"kernel.img","initrd":"pantavisor","provides":[` + provides + `]}`,
		"bsp/kernel.img": `"` + strings.Repeat(kernel, 64) + `"`, "bsp/pantavisor": `"` + sum + `"`,
		"app/run.json": `{"name":"app","type":"lxc","config":"c","root-volume":"r","storage":{},"requires":[` + requires + `]}`,
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
		from, to         string // what the BSPs provide
		kernel           string // of the second; that of the first is 1
		version, release string
		want             string
	}{
		"the device's own":         {"", "", "1", "v2.1", "6.6.1", ""},
		"old runtime":              {"", "", "1", "v1", "6.6.1", "app requires runtime>=2, this device provides runtime=v1"},
		"old kernel":               {"", "", "1", "(devel)", "5.10.1", "app requires kernel>=6.1, the running kernel provides kernel=5.10.1"},
		"another kernel, silent":   {`"board:a"`, "", "2", "1", "5.10", ""},
		"another BSP, same kernel": {`"board:a"`, "", "1", "1", "5.10", "app requires kernel>=6.1, the running kernel provides kernel=5.10"},
		"another BSP":              {`"board:a"`, `"board:a","kernel=6.2"`, "2", "1", "5.10", ""},
		"another BSP's kernel":     {`"board:a"`, `"board:a","kernel=6.0"`, "2", "1", "6.1", "app requires kernel>=6.1, bsp provides kernel=6.0"},
		"another board":            {`"board:a"`, `"board:b"`, "1", "3", "6.2", "this device requires board:a, bsp provides board:b"},
		"a board's second name":    {`"board:a"`, `"board:b","board:a"`, "1", "3", "6.2", ""},
		"back to the first":        {`"board:b","board:a"`, `"board:a"`, "1", "3", "6.2", ""},
	} {
		from, was := withBSP(t, "1", c.from, "")
		to, sys := withBSP(t, c.kernel, c.to, `"kernel>=6.1","runtime>=2"`)
		running := &revision{state: from, loaded: &loaded{state: from, sys: was}}
		f := facts{version: c.version, release: c.release}
		if got := f.compatible(running, to, sys).Error(); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
		unknown := strings.Join(compat.Unknown(f.parts(running, to, sys)), "\n")
		if silent := c.to == "" && c.kernel == "2"; strings.Contains(unknown, "app requires kernel>=6.1; ") != silent {
			t.Errorf("%s: unknown are %q", name, unknown)
		}
	}
}

// TestFeaturesOfTheRunningKernel asks the files in which a kernel says what it has.
func TestFeaturesOfTheRunningKernel(t *testing.T) {
	t.Parallel()
	proc, modules := t.TempDir(), t.TempDir()
	write := func(path string, text []byte) {
		t.Helper()
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(proc, "filesystems"), []byte("nodev\tproc\n\text4\n"))
	write(filepath.Join(modules, "modules.dep"), []byte("kernel/net/wire-guard.ko.zst: kernel/lib/a.ko\n"))
	write(filepath.Join(modules, "modules.builtin"), []byte("kernel/drivers/md/dm-mod.ko\n"))
	const has = `"kernel:ext4","kernel:proc","kernel:wire_guard","kernel:dm-mod"`
	st, sys := withBSP(t, "1", "", has+`,"kernel:overlay","kernel:preempt-rt"`)
	running := &revision{state: st, loaded: &loaded{state: st, sys: sys}}
	f := facts{kernel: runningKernel{proc: proc, modules: modules}}
	if bad := f.compatible(running, st, sys); bad != nil {
		t.Errorf("a kernel that does not say everything: %v", bad)
	}
	config := func(text string) {
		var packed bytes.Buffer
		z := gzip.NewWriter(&packed)
		_, err := z.Write([]byte(text))
		if err := errors.Join(err, z.Close()); err != nil {
			t.Fatal(err)
		}
		write(filepath.Join(proc, "config.gz"), packed.Bytes())
	}
	config("# CONFIG_OVERLAY_FS is not set\nCONFIG_PREEMPT_RT=y\nCONFIG_X=\"y\"\n")
	if got, want := f.compatible(running, st, sys).Error(), "app requires kernel:overlay, the running kernel does not provide it"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	config("CONFIG_OVERLAY_FS=m\nCONFIG_PREEMPT_RT=y\n")
	if bad := f.compatible(running, st, sys); bad != nil {
		t.Error(bad)
	}
	// A BSP that lists some features need not list what the kernel has.
	st, sys = withBSP(t, "1", `"kernel:camera"`, has+`,"kernel:camera"`)
	running = &revision{state: st, loaded: &loaded{state: st, sys: sys}}
	if bad := f.compatible(running, st, sys); bad != nil {
		t.Error(bad)
	}
	// Another kernel is not asked.
	other, otherSys := withBSP(t, "2", `"kernel:camera"`, `"kernel:ext4"`)
	if got, want := f.compatible(running, other, otherSys).Error(), "app requires kernel:ext4, bsp does not provide it"; got != want {
		t.Errorf("%q, want %q", got, want)
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
