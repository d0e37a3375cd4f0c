package device

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/formats/personal"
	"github.com/pantavisor/pantavisor/runtime/config"
	"github.com/pantavisor/pantavisor/runtime/logs"
	"github.com/pantavisor/pantavisor/runtime/meta"
)

// personalise writes the personal settings of a storage.
func personalise(t *testing.T, storage string, s personal.Settings) {
	t.Helper()
	name := filepath.Join(storage, personal.Name)
	if _, err := os.Stat(name); errors.Is(err, fs.ErrNotExist) {
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, personal.Blank(), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := personal.Write(f, s); err != nil {
		t.Fatal(err)
	}
}

// TestPersonalSettings: a container sees its keys, the configuration has what user metadata and
// the settings of the Hub say, and after the settings were removed all of it is gone, but for what
// others have changed.
func TestPersonalSettings(t *testing.T) {
	d := newDevice(t)
	d.add("net", "app", "/sbin/init stay list:/pantavisor/user-meta", nil)
	storage := d.dir + "/storage"
	personalise(t, storage, personal.Settings{
		Hub:      map[string]string{"PH_CREDS_HOST": "hub.example"},
		UserMeta: map[string]string{"net/pvnet_dns": "192.0.2.1", "PV_LOG_LEVEL": "5", "mine": "1", "../bad": "x"},
	})
	d.boot()
	d.await(map[string]string{"net": "STARTED"})
	if got := d.console("net"); !strings.Contains(fmt.Sprint(got), "pvnet_dns") {
		t.Errorf("the container sees %v", got)
	}
	got := d.ask("GET", "/config2", "")
	for _, want := range []string{`"PH_CREDS_HOST","value":"hub.example","modified":"ph conf file"`, `"PV_LOG_LEVEL","value":"5","modified":"metadata"}`} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in the configuration: %s", want, got)
		}
	}
	if !strings.Contains(d.out.String(), `key ".." begins with a dot`) {
		t.Error("a key that cannot be one was not told")
	}
	d.ask("PUT", "/user-meta/mine", "2")
	d.ask("DELETE", "/user-meta/PV_LOG_LEVEL", "")
	d.off()

	d.run() // the same settings are not taken again
	d.await(map[string]string{"net": "STARTED"})
	if got := d.ask("GET", "/user-meta", ""); !strings.Contains(got, `"mine":"2"`) || strings.Contains(got, "PV_LOG_LEVEL") || !strings.Contains(got, "192.0.2.1") {
		t.Errorf("%s", got)
	}
	d.off()
	personalise(t, storage, personal.Settings{})
	d.run()
	d.await(map[string]string{"net": "STARTED"})
	if got := d.ask("GET", "/user-meta", ""); !strings.Contains(got, `"mine":"2"`) || strings.Contains(got, "pvnet_dns") {
		t.Errorf("removed: %s", got)
	}
	if _, err := os.Stat(filepath.Join(storage, "cache/meta", personalTaken)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the list of what was taken is left: %v", err)
	}
	d.off()
}

// TestPersonalSettingsWithVolumes: user metadata is taken into a volume of the open storage, and
// not into one of an encrypted disk.
func TestPersonalSettingsWithVolumes(t *testing.T) {
	for disk, taken := range map[string]bool{"": true, `,"disk":"secrets"`: false} {
		d := newDevice(t)
		d.add("net", "app", "/sbin/init stay", nil)
		err := d.st.Set("device.json", []byte(`{"groups":[{"name":"app"}],"disks":[{"name":"secrets","type":"dm-crypt-versatile","path":"/x.img,2,key"}],
			"volumes":{"pv--usrmeta":{"persistence":"permanent"`+disk+`}}}`))
		if err != nil {
			t.Fatal(err)
		}
		personalise(t, d.dir+"/storage", personal.Settings{UserMeta: map[string]string{"mine": "1"}})
		d.boot()
		d.await(map[string]string{"net": "STARTED"})
		if got := d.ask("GET", "/user-meta", ""); strings.Contains(got, `"mine":"1"`) != taken {
			t.Errorf("disk %q: %s", disk, got)
		}
		if told := strings.Contains(d.out.String(), "on an encrypted disk"); told == taken {
			t.Errorf("disk %q: the log says %v", disk, told)
		}
		d.off()
	}
}

// TestTakeKeysCutAnywhere: an interruption between two steps is made good by the next start.
func TestTakeKeysCutAnywhere(t *testing.T) {
	t.Parallel()
	want := map[string]string{"a": "1", "b/c": "2"}
	for done := range 3 { // of the keys, before the list was written
		user, err := meta.Open(meta.Options{Kind: meta.User, Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range []string{"a", "b/c"}[:done] {
			if err := user.Set(key, want[key]); err != nil {
				t.Fatal(err)
			}
		}
		taken := takeKeys(user, want, nil, logs.Logger{})
		if len(taken) != 2 || len(user.Keys()) != 2 {
			t.Errorf("%v, %v", taken, user.Keys())
		}
		if again := takeKeys(user, want, taken, logs.Logger{}); !maps.Equal(again, taken) {
			t.Errorf("again: %v", again)
		}
		if left := takeKeys(user, nil, taken, logs.Logger{}); len(left) != 0 || len(user.Keys()) != 0 {
			t.Errorf("removed: %v, %v", left, user.Keys())
		}
	}
}

// TestPersonalSettingsOnOpenStorage: where the Hub's settings are to come from a volume, those
// of the open storage have no effect.
func TestPersonalSettingsOnOpenStorage(t *testing.T) {
	t.Parallel()
	s := personal.Settings{Hub: map[string]string{"PH_CREDS_HOST": "hub.example"}}
	c := config.New()
	if err := setPersonalHub(c, s); err != nil || c.String(config.CredsHost) != "hub.example" {
		t.Errorf("%v", err)
	}
	c = config.New()
	c.Apply(config.Env, config.StoragePHConfigVol, "1")
	if err := setPersonalHub(c, s); err == nil || c.String(config.CredsHost) == "hub.example" {
		t.Errorf("%v", err)
	}
	dir := t.TempDir()
	if _, err := readPersonal(dir); err != nil {
		t.Errorf("without the file: %v", err)
	}
	personalise(t, dir, s)
	if err := os.WriteFile(filepath.Join(dir, personal.Name), []byte("cut"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readPersonal(dir); err == nil {
		t.Error("a cut file was read")
	}
	if err := setPersonalName(personal.Settings{Hostname: "a b"}); err == nil {
		t.Error("a bad name was set")
	}
}

// TestPersonalSettingsOfAnotherType: starting does not wait for the other end of a FIFO.
func TestPersonalSettingsOfAnotherType(t *testing.T) {
	t.Parallel()
	storage := t.TempDir()
	name := filepath.Join(storage, personal.Name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), unix.Mkfifo(name, 0o600)); err != nil {
		t.Fatal(err)
	}
	result := make(chan error, 1)
	go func() {
		_, err := readPersonal(storage)
		result <- err
	}()
	select {
	case err := <-result:
		if err == nil || !strings.Contains(err.Error(), "not a regular file") {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("it waits")
	}
}
