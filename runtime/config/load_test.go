package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func write(t *testing.T, path, content string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoadWholeOrder(t *testing.T) {
	dir := t.TempDir()
	s := Sources{
		File: write(t, dir+"/pantavisor.config", "PV_POLICY=test\nPV_LOG_LEVEL=1\nPV_STORAGE_WAIT=1\nPV_OEM_NAME=oem\n"+
			"PV_NET_BRDEV=file\nPV_LXC_LOG_LEVEL=1\nPV_DEBUG_SHELL=0\n"),
		Hub:      write(t, dir+"/pantahub.config", "updater.interval=7\ncreds.id=\n"),
		Policies: dir + "/policies",
		Cmdline:  write(t, dir+"/cmdline", `console=ttyS0 pv_log.level=3 ph_updater.interval=8 pv_boot_partuuid=1-2 pv_rev=0 PV_NET_BRDEV=cmdline pv_unknown=1 "pv_net.brmask4=255.0.0.0" "pv_storage.fstype=a b"`+"\n"),
		Environ:  []string{"PATH=/bin", "pv_storage_wait=4", "PV_OTHER=1", "PV_LXC_LOG_LEVEL=5"},
		Args:     []string{"pv_appengine"},
	}
	write(t, dir+"/policies/test.config", "PV_LOG_LEVEL=2\nPV_STORAGE_WAIT=2\nPV_DEBUG_SHELL=1\n")
	write(t, dir+"/trail/oem/test.config", "PV_LXC_LOG_LEVEL=3\nPV_UPDATER_COMMIT_DELAY=3\nPV_STORAGE_DEVICE=no\n")
	c, err := Load(s)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.LoadOEM(dir + "/trail"); err != nil {
		t.Fatal(err)
	}
	type row struct {
		Value string
		From  Level
	}
	got := map[string]row{}
	for _, k := range []Key{LogLevel, StorageWait, UpdaterInterval, NetBrDev, NetBrMask4, StorageFSType, LXCLogLevel, DebugShell, SystemInitMode, UpdaterCommitDelay, StorageDevice} {
		got[k.Name()] = row{c.String(k), c.From(k)}
	}
	want := map[string]row{
		"PV_LOG_LEVEL": {"3", PVCmdline}, "PV_STORAGE_WAIT": {"4", Env}, "PH_UPDATER_INTERVAL": {"8", PHCmdline},
		"PV_NET_BRDEV": {"cmdline", PVCmdline}, "PV_NET_BRMASK4": {"255.0.0.0", PVCmdline}, "PV_STORAGE_FSTYPE": {"a b", PVCmdline}, "PV_LXC_LOG_LEVEL": {"5", Env},
		"PV_DEBUG_SHELL": {"1", Policy}, "PV_SYSTEM_INIT_MODE": {"appengine", Args}, "PV_UPDATER_COMMIT_DELAY": {"3", OEM},
		"PV_STORAGE_DEVICE": {"", Default},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	wantNotes := []Note{{PHConf, "PH_UPDATER_INTERVAL has no effect in this version"}, {PVCmdline, `unknown key "unknown"`}, {PHCmdline, "PH_UPDATER_INTERVAL has no effect in this version"},
		{OEM, "PV_STORAGE_DEVICE may not be set here"}}
	if d := cmp.Diff(wantNotes, c.Notes()); d != "" {
		t.Error(d)
	}
}

func TestPolicyNames(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/cmd.config", "PV_LOG_LEVEL=1\n")
	write(t, dir+"/env.config", "PV_LOG_LEVEL=2\n")
	cmdline := write(t, dir+"/cmdline", "pv_policy=cmd")
	c, err := Load(Sources{Policies: dir, Cmdline: cmdline, Environ: []string{"PV_POLICY=env"}})
	if err != nil || c.Int(LogLevel) != 1 {
		t.Errorf("the command line does not choose the policy: level %d, %v", c.Int(LogLevel), err)
	}
	if _, err := Load(Sources{Policies: dir, Environ: []string{"PV_POLICY=absent"}}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a policy without file: %v", err)
	}
	for _, evil := range []string{"../etc", "a/b", "..", "."} {
		if _, err := Load(Sources{Policies: dir, Environ: []string{"PV_POLICY=" + evil}}); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("policy %q: %v", evil, err)
		}
	}
}

func TestLoadOEMRefusesPaths(t *testing.T) {
	c := New()
	c.Apply(PVConf, OEMName, "../../etc")
	if err := c.LoadOEM(t.TempDir()); err == nil {
		t.Error("a path is taken as OEM name")
	}
	c.Apply(PVConf, OEMName, "absent")
	if err := c.LoadOEM(t.TempDir()); err != nil {
		t.Errorf("a missing OEM file: %v", err)
	}
}

func TestLoadReportsWhatIsMissing(t *testing.T) {
	c, err := Load(Sources{File: t.TempDir() + "/absent", Environ: []string{"PV_LOG_LEVEL=2"}})
	if !errors.Is(err, fs.ErrNotExist) || c.Int(LogLevel) != 2 {
		t.Errorf("level %d, %v", c.Int(LogLevel), err)
	}
	big := write(t, t.TempDir()+"/big", strings.Repeat("x", maxFile+1))
	if err := New().LoadFile(PVConf, big); err == nil {
		t.Error("an endless file is read")
	}
}

// TestKernelWordsAreOneSource: the kernel hands its words to process 1 as environment
// as well.
func TestKernelWordsAreOneSource(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cmdline")
	if err := os.WriteFile(file, []byte("quiet pv_log_level=loud pv_wdt_timeout=9 console=ttyS0\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	c, err := Load(Sources{Cmdline: file, Environ: []string{"pv_log_level=loud", "pv_wdt_timeout=9", "PV_STORAGE_WAIT=long"}})
	if err != nil {
		t.Fatal(err)
	}
	var from []string
	for _, n := range c.Notes() {
		from = append(from, n.Level.String())
	}
	if diff := cmp.Diff([]string{"pv cmdline", "env"}, from); diff != "" {
		t.Errorf("notes (-want +got):\n%s", diff)
	}
	if c.From(WatchdogTimeout) != PVCmdline || c.Int(WatchdogTimeout) != 9 {
		t.Errorf("PV_WDT_TIMEOUT is %d of %v", c.Int(WatchdogTimeout), c.From(WatchdogTimeout))
	}
}

func TestWords(t *testing.T) {
	got := splitLine("a  b=\"c d\"\t\"PV_X=|/lib y\" e\"\"\n\"\"")
	if d := cmp.Diff([]string{"a", "b=c d", "PV_X=|/lib y", "e", ""}, got); d != "" {
		t.Error(d)
	}
}

func TestSysctls(t *testing.T) {
	root := t.TempDir()
	for _, p := range []string{"kernel/core_pattern", "net/ipv4/ip_forward", "net/ipv4/conf/all/rp_filter", "vm/swappiness"} {
		write(t, filepath.Join(root, p), "")
	}
	c := New()
	c.Set(PVConf, "sysctl.net.ipv4.ip_forward", "0")
	c.Set(Policy, "PV_SYSCTL_NET_IPV4_IP_FORWARD", "1")
	c.Set(PVConf, "pv_sysctl_net_ipv4_conf_all_rp_filter", "2")
	c.Set(PVConf, "sysctl.../../etc.passwd", "x")
	c.Set(PVConf, "PV_SYSCTL_NO_SUCH_THING", "x")
	c.Set(Meta, "PV_SYSCTL_VM_SWAPPINESS", "x")
	c.LoadCmdline(`"PV_SYSCTL_VM_SWAPPINESS=1 0"`)
	want := []Sysctl{
		{"kernel/core_pattern", "|/lib/pv/pvcrash --skip", Default},
		{"net/ipv4/conf/all/rp_filter", "2", PVConf},
		{"net/ipv4/ip_forward", "1", Policy},
		{"vm/swappiness", "1 0", PVCmdline},
	}
	if d := cmp.Diff(want, c.Sysctls(root)); d != "" {
		t.Error(d)
	}
	c.ApplySysctls(root)
	if got, _ := os.ReadFile(root + "/kernel/core_pattern"); string(got) != "" {
		t.Errorf("a program that does not exist is to get core dumps: %q", got)
	}
	if got, _ := os.ReadFile(root + "/net/ipv4/ip_forward"); string(got) != "1" {
		t.Errorf("written: %q", got)
	}
	texts := ""
	for _, n := range c.Notes() {
		texts += n.Text + "\n"
	}
	for _, part := range []string{"sysctl.../../etc.passwd: not the name", "NO_SUCH_THING: this kernel has no", "SWAPPINESS may not be set here"} {
		if !strings.Contains(texts, part) {
			t.Errorf("no note %q in:\n%s", part, texts)
		}
	}
}

func FuzzLoadReader(f *testing.F) {
	f.Add("PV_LOG_LEVEL=3\nsysctl.a.b=1\nPV_SYSCTL_A=\n=\nlog.level=x")
	f.Fuzz(func(t *testing.T, s string) {
		c := New()
		if err := c.LoadReader(PVConf, strings.NewReader(s)); err != nil {
			t.Skip("the file is refused, nothing was set")
		}
		for _, it := range c.Items() {
			k := it.Key
			if text := c.String(k); it.From == Default && text != table[k].def {
				t.Errorf("%s: %q from nowhere", it.Name, text)
			}
		}
		for _, s := range c.Sysctls("/nonexistent") {
			t.Errorf("%v is not a file", s)
		}
	})
}

func FuzzCmdline(f *testing.F) {
	f.Add(`pv_log.level=3 "ph_x=1 2" pv_`)
	f.Fuzz(func(t *testing.T, s string) {
		c := New()
		c.LoadCmdline(s)
		for _, it := range c.Items() {
			if it.From != Default && it.From != PVCmdline && it.From != PHCmdline {
				t.Errorf("%s from %v", it.Name, it.From)
			}
		}
	})
}
