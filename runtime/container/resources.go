package container

import (
	"fmt"
	"strconv"
	"strings"
)

// settings2 returns the settings for a cgroup v2 group: those of lxc.cgroup2.*, and
// those of lxc.cgroup.* that have a counterpart there, which exports for v1 devices
// carry. The rest of v1 has no meaning and is reported.
func (c *Config) settings2() (list []Setting, notes []Note) {
	for _, s := range c.Cgroup1 {
		if strings.HasPrefix(s.Key, "devices.") {
			continue
		}
		t, ok := fromV1(s)
		if !ok {
			notes = append(notes, Note{"lxc.cgroup." + s.Key, fmt.Sprintf("%q has no counterpart in cgroup v2, ignored", clip(s.Value))})
			continue
		}
		list = append(list, t)
	}
	return append(list, c.Cgroup2...), notes
}

// sameInV2 are v1 names whose values are taken over.
var sameInV2 = map[string]string{
	"memory.limit_in_bytes": "memory.max", "memory.soft_limit_in_bytes": "memory.low",
	"pids.max": "pids.max", "cpuset.cpus": "cpuset.cpus", "cpuset.mems": "cpuset.mems",
}

func fromV1(s Setting) (Setting, bool) {
	if name, ok := sameInV2[s.Key]; ok {
		if s.Value == "-1" {
			s.Value = "max"
		}
		return Setting{name, s.Value}, true
	}
	if s.Key != "cpu.shares" {
		return s, false
	}
	n, err := strconv.ParseUint(s.Value, 10, 32)
	if err != nil {
		return s, false
	}
	return Setting{"cpu.weight", strconv.FormatUint(weight(n), 10)}, true
}

// weight maps cpu.shares, 2 to 262144, to cpu.weight, 1 to 10000, as the kernel's
// users of both agree (OCI runtime specification, conversion of v1 to v2).
func weight(shares uint64) uint64 {
	shares = min(max(shares, 2), 262144)
	return 1 + (shares-2)*9999/262142
}
