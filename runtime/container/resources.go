package container

import "strconv"

// sameInV2 are v1 settings whose values are the same in v2.
var sameInV2 = []word[string]{
	{"memory.limit_in_bytes", "memory.max"}, {"memory.soft_limit_in_bytes", "memory.low"},
	{"pids.max", "pids.max"}, {"cpuset.cpus", "cpuset.cpus"}, {"cpuset.mems", "cpuset.mems"},
}

func fromV1(s Setting) (Setting, bool) {
	if name, ok := find(sameInV2, s.Key); ok {
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

// toV1 translates a v2 setting to the v1 setting with the same effect.
func toV1(s Setting) (Setting, bool) {
	for _, w := range sameInV2 {
		if w.value == s.Key {
			if s.Value == "max" && controllerOf(s) == "memory" {
				s.Value = "-1"
			}
			return Setting{w.name, s.Value}, true
		}
	}
	if s.Key != "cpu.weight" {
		return s, false
	}
	n, err := strconv.ParseUint(s.Value, 10, 16)
	if err != nil {
		return s, false
	}
	n = min(max(n, 1), 10000)
	return Setting{"cpu.shares", strconv.FormatUint(2+(n-1)*262142/9999, 10)}, true
}

// weight maps cpu.shares, 2 to 262144, to cpu.weight, 1 to 10000 (OCI runtime
// specification, conversion of v1 to v2).
func weight(shares uint64) uint64 {
	shares = min(max(shares, 2), 262144)
	return 1 + (shares-2)*9999/262142
}
