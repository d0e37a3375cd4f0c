package app

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/revision/app/template"
)

// TestUserOfRootFileSystem adds an application whose user is a name, installs it again
// after its source is gone, and updates it to a root file system with other numbers.
func TestUserOfRootFileSystem(t *testing.T) {
	t.Parallel()
	w, _ := workspace(t, nil)
	from := t.TempDir()
	archive := filepath.Join(from, "root.tar")
	write := func(uid string) {
		t.Helper()
		data := tarOf(t, [2]string{"etc/", ""}, [2]string{"etc/passwd", "svc:x:" + uid + ":1235::/:/bin/sh\n"}, [2]string{"etc/group", "audio:x:29:svc\n"})
		if err := os.WriteFile(archive, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(uid string) {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(w.Dir, "app", template.ConfigName))
		if err != nil || !strings.Contains(string(text), "lxc.init.uid = "+uid+"\nlxc.init.gid = 1235\nlxc.init.groups = 29\n") {
			t.Errorf("%v; want the user %s in\n%s", err, uid, text)
		}
	}
	write("1234")
	o := AddOptions{From: archive, Kind: Rootfs, Config: []byte(`{"User":"svc","Cmd":["/x"]}`)}
	if _, err := w.Add(context.Background(), "app", o); err != nil {
		t.Fatal(err)
	}
	expect("1234")
	if err := os.Remove(archive); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Install(context.Background(), "app"); err != nil {
		t.Fatal(err)
	}
	expect("1234")
	write("77")
	if _, err := w.Update(context.Background(), "app", UpdateOptions{From: archive}); err != nil {
		t.Fatal(err)
	}
	expect("77")
	o.Config = []byte(`{"User":"nobody","Cmd":["/x"]}`)
	if _, err := w.Add(context.Background(), "other", o); err == nil || !strings.Contains(err.Error(), `user "nobody" is not in the image's /etc/passwd`) {
		t.Errorf("%v", err)
	}
	if w.Exists("other") {
		t.Error("something is left of an application that was refused")
	}
}

// TestConfigurationIsReadAtOnce refuses what the device's reader refuses.
func TestConfigurationIsReadAtOnce(t *testing.T) {
	t.Parallel()
	w, log := workspace(t, nil)
	var read string
	w.CheckConfig = func(config []byte) ([]string, error) {
		read = string(config)
		return []string{"lxc.odd: unknown key, ignored"}, errors.New("line 3: no")
	}
	archive := filepath.Join(t.TempDir(), "root.tar")
	if err := os.WriteFile(archive, tarOf(t, [2]string{"etc/", ""}), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := w.Add(context.Background(), "app", AddOptions{From: archive, Kind: Rootfs, Args: []string{"PV_LXC_EXTRA_CONF=lxc.odd = 1"}})
	if err == nil || !strings.Contains(err.Error(), "lxc.container.conf: line 3: no") || w.Exists("app") {
		t.Errorf("%v", err)
	}
	if !strings.Contains(read, "lxc.odd = 1\n") || !strings.Contains(strings.Join(log.take(), "\n"), "WARN: app/lxc.container.conf: lxc.odd: unknown key") {
		t.Errorf("read %s", read)
	}
}
