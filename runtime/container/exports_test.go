package container

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestExportsAreSeenOutside(t *testing.T) {
	b := newBench(t)
	out := filepath.Join(b.dir, "exports")
	b.file("root/data/hello", "hi", 0o644)
	b.file("root/etc/one", "file", 0o644)
	// What the container can write to must not lead the device's mounts elsewhere.
	if err := os.Symlink("/etc", filepath.Join(b.dir, "root/data/trap")); err != nil {
		t.Fatal(err)
	}
	p, err := b.l.Start(Start{Name: "giver", ExportDir: out, Exports: []string{"data", "/etc/one", "/run"},
		Config: b.config("lxc.init.cmd = /sbin/init stay write:/data/new mkdir:/run/later mount:/run/later write:/run/later/x")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.end(p) })
	firstLine(t, p)
	for name, want := range map[string]string{"data/hello": "hi", "data/new": "1\n", "etc/one": "file", "run/later/x": "1\n"} {
		if got, err := os.ReadFile(filepath.Join(out, "giver", name)); string(got) != want {
			t.Errorf("%s holds %q, %v", name, got, err)
		}
	}
	r := b.probe([]string{"read:/in/hello", "write:/in/back"}, "lxc.mount.entry = "+out+"/giver/data in none bind,rw,create=dir 0 0",
		"lxc.rootfs.path = overlayfs:"+b.dir+"/root:"+b.dir+"/vol-taker/upper")
	if got := tried(r, "read:/in/hello"); got != "hi" {
		t.Errorf("another container reads %q", got)
	}
	if _, err := os.Stat(filepath.Join(out, "giver/data/back")); err != nil {
		t.Errorf("what another container wrote is not there: %v", err)
	}
	b.end(p)
	if entries, _ := os.ReadDir(out); len(entries) != 0 {
		t.Errorf("left below the exports: %v", entries)
	}
	if text, _ := os.ReadFile("/proc/self/mountinfo"); strings.Contains(string(text), out) {
		t.Errorf("a mount is left below %s", out)
	}
	_, err = b.l.Start(Start{Name: "giver", ExportDir: out, Exports: []string{"data", "/data/trap"}, Config: b.config()})
	if err == nil || !strings.Contains(err.Error(), "export") {
		t.Errorf("an export over a symbolic link: %v", err)
	}
}

func TestExportThatIsNotThere(t *testing.T) {
	b := newBench(t)
	out := filepath.Join(b.dir, "exports")
	for _, e := range []string{"/nowhere", "/", ".."} {
		_, err := b.l.Start(Start{Name: "giver", ExportDir: out, Exports: []string{e}, Config: b.config()})
		if err == nil || !strings.Contains(err.Error(), "export") {
			t.Errorf("%s: %v", e, err)
		}
	}
	if exists(filepath.Join(out, "giver")) {
		t.Error("a place is left")
	}
}

func TestRemountPolicy(t *testing.T) {
	b := newBench(t)
	log := b.listen()
	p, err := b.l.Start(Start{Name: "policy", Remounts: []Remount{
		{"/run", "ro,noexec"}, {"/no(where|thing)", "ro"}, {"/s[xy]s", "ro"}, {"(", "ro"}, {"/proc", "sometimes"},
	}, Config: b.config("lxc.init.cmd = /sbin/init probe write:/run/x write:/etc/x")})
	if err != nil {
		t.Fatal(err)
	}
	defer b.end(p)
	var r map[string]any
	if err := json.Unmarshal([]byte(firstLine(t, p)), &r); err != nil {
		t.Fatal(err)
	}
	if got := tried(r, "write:/run/x"); !strings.Contains(got, "read-only") {
		t.Errorf("/run takes a file: %s", got)
	}
	if got := tried(r, "write:/etc/x"); got != "ok" {
		t.Errorf("the policy went too far: %s", got)
	}
	opts := map[string]string{}
	for _, m := range r["Mounts"].([]any) {
		f := strings.Fields(m.(string))
		opts[f[4]] = f[5]
	}
	if o := opts["/run"]; o != "ro,nodev,noexec,relatime" {
		t.Errorf("/run has the options %s", o)
	}
	if o := opts["/sys"]; !strings.HasPrefix(o, "ro,nosuid,nodev,noexec") {
		t.Errorf("/sys has the options %s", o)
	}
	if len(log.lines) != 2 || !log.has(`pattern "("`) || !log.has(`"sometimes"`) {
		t.Errorf("said %q", log.lines)
	}
}

func TestExportTarget(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(os.Mkdir(dir+"/a", 0o755), os.Symlink("/etc", dir+"/a/link")); err != nil {
		t.Fatal(err)
	}
	for name, ok := range map[string]bool{"a/b/c": true, "a/link": false, "a/link/x": false} {
		fd, err := exportTarget(dir, name, true)
		if (err == nil) != ok {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			unix.Close(fd)
		}
	}
	if fd, err := exportTarget(dir, "a/b/file", false); err != nil {
		t.Error(err)
	} else {
		unix.Close(fd)
	}
	removeEmptyDirectories(dir)
	if entries, _ := os.ReadDir(dir + "/a"); len(entries) != 1 || entries[0].Name() != "link" {
		t.Errorf("left: %v", entries)
	}
}
