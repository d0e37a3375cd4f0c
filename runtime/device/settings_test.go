package device

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/runtime/config"
	"github.com/pantavisor/pantavisor/runtime/container"
)

func TestSettingsOnTheStorage(t *testing.T) {
	dir := t.TempDir()
	c := config.New()
	c.Apply(config.Env, config.StorageMntPoint, dir)
	p := newPaths(c)
	if err := loadMore(c, p, filepath.Join(dir, "trails", "7")); err != nil {
		t.Fatalf("without any file: %v", err)
	}
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("config/pantahub.config", "creds.host=hub.example\nPV_LOG_LEVEL=5\nupdater.interval=7\n")
	write("trails/7/acme/default.config", "PV_LOG_LEVEL=3\nPH_UPDATER_INTERVAL=9\nPV_STORAGE_WAIT=99\n")
	write("trails/8/acme/default.config", "PV_LOG_LEVEL=4\n")
	c.Apply(config.PVConf, config.OEMName, "acme")
	if err := loadMore(c, p, filepath.Join(dir, "trails", "7")); err != nil {
		t.Fatal(err)
	}
	got := []any{c.String(config.CredsHost), c.Int(config.LogLevel), c.From(config.LogLevel), c.Int(config.UpdaterInterval), c.Int(config.StorageWait)}
	want := []any{"hub.example", 3, config.OEM, 9, 5}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("setting %d is %v, want %v", i, got[i], want[i])
		}
	}
	refused := 0
	for _, n := range c.Notes() {
		if strings.Contains(fmt.Sprint(n), "may not be set here") {
			refused++
		}
	}
	if refused != 2 {
		t.Errorf("%d settings are refused, want 2: %v", refused, c.Notes())
	}
	c.Apply(config.PVConf, config.OEMName, "../8/acme")
	if err := loadMore(c, p, filepath.Join(dir, "trails", "7")); err == nil {
		t.Error("a path was taken as the OEM's name")
	}
}

func TestUserMetadataSetsTheLog(t *testing.T) {
	d := newDevice(t)
	d.add("app", "app", "/sbin/init wait", nil)
	d.boot()
	d.await(map[string]string{"app": "STARTED"})
	d.ask("PUT", "/user-meta/PV_LOG_SERVER_OUTPUTS", "singlefile")
	d.ask("PUT", "/user-meta/log.level", "loud")
	if got := d.ask("GET", "/config2", ""); !strings.Contains(got, `"PV_LOG_SERVER_OUTPUTS","value":"130","modified":"metadata"}`) {
		t.Errorf("the configuration is %s", got)
	}
	d.logged(`"src":"config","msg":"metadata: PV_LOG_LEVEL: \"loud\" is not a whole number from 0 to 6; it stays 4"`, "pv.log")
	d.ask("DELETE", "/user-meta/PV_LOG_SERVER_OUTPUTS", "")
	d.logged(`PV_LOG_SERVER_OUTPUTS is now \"filetree,stdout.pantavisor\" (env)`, "pv.log")
	d.off()
	d.logged("all containers are stopped", "pantavisor/pantavisor.log")
}

// TestMistakesAreLoggedOnce checks that mistakes that process 1 has logged are not logged again.
func TestMistakesAreLoggedOnce(t *testing.T) {
	for reported, want := range map[bool]int{false: 1, true: 0} {
		cfg, err := loadConfig(config.Sources{Environ: []string{"PV_LOG_LEVEL=loud"}}, reported)
		if err != nil || cfg.Int(config.LogLevel) != 0 {
			t.Errorf("level %d, %v", cfg.Int(config.LogLevel), err)
		}
		if notes := cfg.Notes(); len(notes) != want {
			t.Errorf("reported by process 1 %v: %v, want %d notes", reported, notes, want)
		}
	}
}

// TestHostedResolvConf checks that App Engine uses the host system's /etc/resolv.conf if
// there is one, otherwise a file of the runtime's own.
func TestHostedResolvConf(t *testing.T) {
	p := newPaths(config.New())
	p.run = t.TempDir()
	if err := p.makeResolvConf(true); err != nil {
		t.Fatal(err)
	}
	want := p.at("resolv.conf")
	if _, err := os.Stat(resolvConf); err == nil {
		want = resolvConf
	} else if _, err := os.Stat(want); err != nil {
		t.Error(err)
	}
	c := &container.Config{Mounts: []container.Mount{{Source: resolvConf}, {Source: resolvConf + ".d"}}}
	c.Translate(p.directories())
	if got := c.Mounts[0].Source; got != want || c.Mounts[1].Source != resolvConf+".d" {
		t.Errorf("%s, want %s; %s", got, want, c.Mounts[1].Source)
	}
}
