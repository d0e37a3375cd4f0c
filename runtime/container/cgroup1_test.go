package container

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDeviceRulesHoldInside(t *testing.T) {
	b := newBench(t)
	for name, prefix := range map[string]string{"v1 keys": "lxc.cgroup.devices.", "v2 keys": "lxc.cgroup2.devices."} {
		t.Run(name, func(t *testing.T) {
			r := b.probe([]string{"open:/dev/null", "open:/dev/full", "open:/dev/zero", "mknod:/run/n,1,3", "mknod:/run/z,1,5"},
				prefix+"deny = a", prefix+"allow = c 1:3 rwm", prefix+"allow = c 1:5 rw", prefix+"allow = c 136:* rw", prefix+"allow = c 5:* rw")
			for what, want := range map[string]string{"open:/dev/null": "ok", "open:/dev/zero": "ok", "open:/dev/full": "not permitted",
				"mknod:/run/n,1,3": "ok", "mknod:/run/z,1,5": "not permitted"} {
				if got := tried(r, what); !strings.HasSuffix(got, want) {
					t.Errorf("%s: %s, want %s", what, got, want)
				}
			}
		})
	}
	r := b.probe([]string{"open:/dev/full"}, "lxc.cgroup.devices.allow = c 1:3 rwm")
	if got := tried(r, "open:/dev/full"); got != "ok" {
		t.Errorf("a rule that allows took something away: %s", got)
	}
}

// TestControllerIsWhereItIsMounted limits memory with the key of the version of
// control groups that this machine does not have for it.
func TestControllerIsWhereItIsMounted(t *testing.T) {
	b := newBench(t)
	const limit = 64 << 20
	for name, line := range map[string]string{"v1": "lxc.cgroup.memory.limit_in_bytes = 64M", "v2": "lxc.cgroup2.memory.max = 64M"} {
		t.Run(name, func(t *testing.T) {
			p := b.start("limited", line, "lxc.init.cmd = /sbin/init wait")
			file := filepath.Join(b.l.Tree.dir, "lxc/limited/memory.max")
			if top := b.l.Tree.legacyTop("memory"); top != "" {
				file = filepath.Join(top, "limited/memory.limit_in_bytes")
			}
			text, err := os.ReadFile(file)
			if err != nil {
				t.Skipf("there is no controller memory on this machine: %v", err)
			}
			if got := strings.TrimSpace(string(text)); got != itoa(limit) {
				t.Errorf("the limit is %s, want %d", got, limit)
			}
			cg, _ := os.ReadFile("/proc/" + itoa(p.PID) + "/cgroup")
			if !strings.Contains(string(cg), "/limited\n") {
				t.Errorf("init is in\n%s", cg)
			}
			b.end(p)
			if _, err := os.Stat(filepath.Dir(file)); !os.IsNotExist(err) {
				t.Errorf("the group is left: %v", err)
			}
		})
	}
}

func TestTranslateControllers(t *testing.T) {
	for _, c := range []struct {
		v1, v2 Setting
	}{
		{Setting{"memory.limit_in_bytes", "1G"}, Setting{"memory.max", "1G"}},
		{Setting{"memory.limit_in_bytes", "-1"}, Setting{"memory.max", "max"}},
		{Setting{"pids.max", "10"}, Setting{"pids.max", "10"}},
		{Setting{"cpu.shares", "262144"}, Setting{"cpu.weight", "10000"}},
		{Setting{"cpu.shares", "2"}, Setting{"cpu.weight", "1"}},
	} {
		if got, ok := fromV1(c.v1); !ok || got != c.v2 {
			t.Errorf("fromV1(%v) = %v, %v; want %v", c.v1, got, ok, c.v2)
		}
		if got, ok := toV1(c.v2); !ok || got != c.v1 {
			t.Errorf("toV1(%v) = %v, %v; want %v", c.v2, got, ok, c.v1)
		}
	}
	if _, ok := fromV1(Setting{"memory.swappiness", "1"}); ok {
		t.Error("a setting without counterpart has one")
	}
}

func TestLostSettingIsNamed(t *testing.T) {
	c, _ := parse(t, "lxc.cgroup.nosuch.thing = 1\nlxc.cgroup.devices.allow = a\n")
	s := (&Tree{path: "/"}).settings(c)
	if len(s.notes) != 1 || s.notes[0].Key != "lxc.cgroup.nosuch.thing" {
		t.Errorf("notes %v", s.notes)
	}
	if d := cmp.Diff([]Setting(nil), append(s.unified, s.legacy...)); d != "" {
		t.Error(d)
	}
}

func TestBadDeviceRuleIsNamed(t *testing.T) {
	_, _, err := Parse(strings.NewReader("lxc.cgroup2.devices.allow = c 1 rwm\n"))
	if err == nil || !strings.Contains(err.Error(), `line 1: lxc.cgroup2.devices.allow: "c 1 rwm"`) {
		t.Errorf("%v", err)
	}
}

func TestOwnController(t *testing.T) {
	const text = "9:name=systemd:/a\n4:cpu,cpuacct:/b/c\n2:memory:/\n0::/u\n"
	for c, want := range map[string]string{"cpu": "/b/c", "cpuacct": "/b/c", "memory": "/", "pids": "/"} {
		if got := ownController(text, c); got != want {
			t.Errorf("%s: %q, want %q", c, got, want)
		}
	}
}

// TestRestrictWithoutUnifiedTree takes the v1 controller where there is no v2 tree.
func TestRestrictWithoutUnifiedTree(t *testing.T) {
	b := newBench(t)
	tree := &Tree{path: b.l.Tree.path}
	top := tree.legacyTop("devices")
	if top == "" {
		t.Skip("the controller devices is not mounted as v1 on this machine")
	}
	p := b.start("old", "lxc.init.cmd = /sbin/init wait")
	g := &Group{tree: tree, dir: "/nowhere/old", fd: -1}
	c, _ := parse(t, "lxc.cgroup.devices.deny = a\nlxc.cgroup.devices.allow = c 1:3 rw\n")
	if err := g.restrict(c.devices(), p.PID); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(top, "old/devices.list"))
	if err != nil || string(got) != "c 1:3 rw\n" {
		t.Errorf("the group allows %q, %v", got, err)
	}
	pids, _ := os.ReadFile(filepath.Join(top, "old/cgroup.procs"))
	if !strings.Contains(string(pids), itoa(p.PID)+"\n") {
		t.Errorf("init is not among %q", pids)
	}
	b.end(p)
	if err := g.removeLegacy(1e9); err != nil || exists(top) {
		t.Errorf("%v; left: %v", err, exists(top))
	}
}

func TestSweepAfterKill(t *testing.T) {
	b := newBench(t)
	top := b.l.Tree.legacyTop("memory")
	if top == "" {
		t.Skip("the controller memory is not mounted as v1 on this machine")
	}
	if err := os.MkdirAll(filepath.Join(top, "dead/inner"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := b.l.Tree.Remove(); err != nil || exists(top) {
		t.Errorf("%v; left: %v", err, exists(top))
	}
}
