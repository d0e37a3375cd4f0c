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

// TestTranslateControllers walks the settings that both versions have, each with the
// others of its container that count.
func TestTranslateControllers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		v1, v2 []Setting
	}{
		{[]Setting{{"memory.limit_in_bytes", "1G"}}, []Setting{{"memory.max", "1G"}}},
		{[]Setting{{"memory.limit_in_bytes", "-1"}}, []Setting{{"memory.max", "max"}}},
		{[]Setting{{"memory.limit_in_bytes", "1048576"}, {"memory.memsw.limit_in_bytes", "3145728"}},
			[]Setting{{"memory.max", "1048576"}, {"memory.swap.max", "2097152"}}},
		{[]Setting{{"memory.memsw.limit_in_bytes", "-1"}}, []Setting{{"memory.swap.max", "max"}}},
		{[]Setting{{"pids.max", "10"}}, []Setting{{"pids.max", "10"}}},
		{[]Setting{{"pids.max", "max"}}, []Setting{{"pids.max", "max"}}},
		{[]Setting{{"cpu.shares", "262144"}}, []Setting{{"cpu.weight", "10000"}}},
		{[]Setting{{"cpu.shares", "2"}}, []Setting{{"cpu.weight", "1"}}},
		{[]Setting{{"cpu.cfs_quota_us", "50000"}}, []Setting{{"cpu.max", "50000"}}},
		{[]Setting{{"cpu.cfs_quota_us", "-1"}, {"cpu.cfs_period_us", "20000"}}, []Setting{{"cpu.max", "max 20000"}}},
		{[]Setting{{"cpu.cfs_burst_us", "100"}}, []Setting{{"cpu.max.burst", "100"}}},
		{[]Setting{{"blkio.weight", "1000"}}, []Setting{{"io.weight", "10000"}}},
		{[]Setting{{"blkio.throttle.read_bps_device", "8:0 1048576"}}, []Setting{{"io.max", "8:0 rbps=1048576"}}},
		{[]Setting{{"blkio.throttle.write_iops_device", "8:0 0"}}, []Setting{{"io.max", "8:0 wiops=max"}}},
		{[]Setting{{"hugetlb.2MB.limit_in_bytes", "4M"}}, []Setting{{"hugetlb.2MB.max", "4M"}}},
		{[]Setting{{"hugetlb.2MB.rsvd.limit_in_bytes", "-1"}}, []Setting{{"hugetlb.2MB.rsvd.max", "max"}}},
	} {
		if d := cmp.Diff(c.v2, each1(fromV1, c.v1)); d != "" {
			t.Errorf("fromV1(%v) (-want +got)\n%s", c.v1, d)
		}
		if d := cmp.Diff(c.v1, each1(toV1, c.v2)); d != "" {
			t.Errorf("toV1(%v) (-want +got)\n%s", c.v2, d)
		}
	}
	for _, s := range []Setting{{"memory.swappiness", "1"}, {"memory.memsw.limit_in_bytes", "1G"}, {"cpu.cfs_period_us", "1000"}, {"freezer.state", "THAWED"}} {
		if got, ok := fromV1(s, []Setting{s}); ok {
			t.Errorf("%v has no counterpart, not %v", s, got)
		}
	}
	for _, s := range []Setting{{"memory.high", "1G"}, {"memory.swap.max", "1G"}, {"cpu.max", ""}, {"io.max", "8:0 what=1"}, {"io.weight", "8:0 100"}} {
		if got, ok := toV1(s, []Setting{s}); ok {
			t.Errorf("%v has no counterpart, not %v", s, got)
		}
	}
}

func each1(turn func(Setting, []Setting) ([]Setting, bool), list []Setting) (all []Setting) {
	for _, s := range list {
		turned, _ := turn(s, list)
		all = append(all, turned...)
	}
	return all
}

// TestLimitsInAnyOrder starts containers with settings that the kernel takes in one order
// only, written in the other, and with v2 settings that this machine has as v1 or not at
// all.
func TestLimitsInAnyOrder(t *testing.T) {
	b := newBench(t)
	m := b.l.Tree.controllers()
	for name, c := range map[string]struct {
		lines  []string
		v1, v2 map[string]string // files and their values
	}{
		"swap before memory": {
			[]string{"lxc.cgroup.memory.memsw.limit_in_bytes = 64M", "lxc.cgroup.memory.limit_in_bytes = 32M"},
			map[string]string{"memory.limit_in_bytes": "33554432", "memory.memsw.limit_in_bytes": "67108864"},
			map[string]string{"memory.max": "33554432", "memory.swap.max": "33554432"},
		},
		"swap before memory, v2": {
			[]string{"lxc.cgroup2.memory.swap.max = 32M", "lxc.cgroup2.memory.max = 32M"},
			map[string]string{"memory.limit_in_bytes": "33554432", "memory.memsw.limit_in_bytes": "67108864"},
			map[string]string{"memory.max": "33554432", "memory.swap.max": "33554432"},
		},
		"burst before quota": {
			[]string{"lxc.cgroup2.cpu.max.burst = 10000", "lxc.cgroup2.cpu.max = 20000 50000"},
			map[string]string{"cpu.cfs_quota_us": "20000", "cpu.cfs_period_us": "50000"},
			map[string]string{"cpu.max": "20000 50000", "cpu.max.burst": "10000"},
		},
		"own setting wins": {
			[]string{"lxc.cgroup.pids.max = 50", "lxc.cgroup2.pids.max = 50", "lxc.cgroup.cpu.shares = 512", "lxc.cgroup2.cpu.weight = 20"},
			map[string]string{"cpu.shares": "512", "pids.max": "50"},
			map[string]string{"cpu.weight": "20", "pids.max": "50"},
		},
		"no counterpart": {
			[]string{"lxc.cgroup2.memory.high = 1G", "lxc.cgroup2.memory.oom.group = 1", "lxc.cgroup2.cpu.weight.nice = 3", "lxc.cgroup2.io.latency = 8:0 target=1"},
			nil, map[string]string{"memory.high": "1073741824"},
		},
		"cpuset": {
			[]string{"lxc.cgroup.cpuset.cpus = 0"},
			map[string]string{"cpuset.cpus": "0"}, map[string]string{"cpuset.cpus": "0"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "no counterpart" && !m.hybrid() {
				t.Skip("this machine has control groups of version 2 only")
			}
			b.t = t
			p := b.start("ordered", append(c.lines, "lxc.init.cmd = /sbin/init wait")...)
			for file, want := range c.v1 {
				if set := (Setting{Key: file}); m.legacy(set) {
					b.holds(filepath.Join(b.l.Tree.legacyTop(controllerOf(set)), "ordered", file), want)
				}
			}
			for file, want := range c.v2 {
				if set := (Setting{Key: file}); m.v2[controllerOf(set)] {
					b.holds(filepath.Join(b.l.Tree.dir, "lxc/ordered", file), want)
				}
			}
			b.end(p)
		})
	}
}

func (b *bench) holds(file, want string) {
	b.t.Helper()
	text, err := os.ReadFile(file)
	if got := strings.TrimSpace(string(text)); err != nil || got != want {
		b.t.Errorf("%s: %q, %v; want %q", filepath.Base(file), got, err, want)
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
	tree := &Tree{path: b.l.Tree.path, own: b.l.Tree.own}
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
	if err := g.removeLegacy(1e9); err != nil || exists(top+"/old") {
		t.Errorf("%v; left: %v", err, exists(top+"/old"))
	}
}

// TestGroupsHaveOneNameInAllHierarchies has the paths of docs/appengine.md and
// docs/launcher.md.
func TestGroupsHaveOneNameInAllHierarchies(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		tree      *Tree
		own, want string
	}{
		{&Tree{path: "/", own: "/"}, "/", "/"},
		{(&Tree{path: "/", own: "/"}).Top().Sub("pantavisor").Sub("x"), "/", "/pantavisor/x"},
		{(&Tree{dir: "/m/s/a", path: "/s/a", own: "/s/a"}).Top().Sub("pantavisor").Sub("x"), "/s/b", "/pantavisor/x"},
		{(&Tree{path: "/s/a", own: "/s/a"}).Sub("test"), "/s/b", "/s/b/test"},
	} {
		if got := c.tree.legacyGroup(c.own); got != c.want {
			t.Errorf("%+v with a runtime in %s: %s, want %s", c.tree, c.own, got, c.want)
		}
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
