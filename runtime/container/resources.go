package container

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// sameInV2 are v1 settings whose values are the same in v2.
var sameInV2 = []word[string]{
	{"memory.limit_in_bytes", "memory.max"}, {"memory.soft_limit_in_bytes", "memory.low"},
	{"pids.max", "pids.max"}, {"cpuset.cpus", "cpuset.cpus"}, {"cpuset.mems", "cpuset.mems"},
	{"cpu.cfs_burst_us", "cpu.max.burst"}, {"cpu.idle", "cpu.idle"},
	{"cpu.uclamp.min", "cpu.uclamp.min"}, {"cpu.uclamp.max", "cpu.uclamp.max"},
	{"rdma.max", "rdma.max"}, {"misc.max", "misc.max"},
}

// Names of the settings that are translated by more than their name.
const (
	v1Limit, v1Both   = "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"
	v2Limit, v2Swap   = "memory.max", "memory.swap.max"
	v1Quota, v1Period = "cpu.cfs_quota_us", "cpu.cfs_period_us"
	v1HugeSuffix      = ".limit_in_bytes"
)

// throttles are the limits of v1 for devices and their words in io.max.
var throttles = []word[string]{
	{"blkio.throttle.read_bps_device", "rbps"}, {"blkio.throttle.write_bps_device", "wbps"},
	{"blkio.throttle.read_iops_device", "riops"}, {"blkio.throttle.write_iops_device", "wiops"},
}

// fromV1 translates a v1 setting to the v2 settings with the same effect; all are the v1
// settings of the container. It returns false for a setting without a counterpart.
func fromV1(s Setting, all []Setting) ([]Setting, bool) {
	if name, ok := find(sameInV2, s.Key); ok {
		return one(name, noLimit(s, "-1", "max"))
	}
	if name, ok := find(throttles, s.Key); ok {
		return throttleFromV1(name, s.Value)
	}
	switch s.Key {
	case "cpu.shares":
		return scaled("cpu.weight", s.Value, weight)
	case "blkio.weight":
		return scaled("io.weight", s.Value, func(n uint64) uint64 { return scale(n, 10, 1000, 1, 10000) })
	case v1Quota:
		period, _ := value(all, v1Period)
		return one("cpu.max", strings.TrimSpace(noLimit(s, "-1", "max")+" "+period))
	case v1Period:
		_, ok := value(all, v1Quota)
		return nil, ok // with the quota; alone it limits nothing
	case v1Both:
		return swapFromV1(s, all)
	}
	if size, ok := strings.CutSuffix(s.Key, v1HugeSuffix); ok && strings.HasPrefix(size, "hugetlb.") {
		return one(size+".max", noLimit(s, "-1", "max"))
	}
	return nil, false
}

// toV1 translates a v2 setting to the v1 settings with the same effect; all are the v2
// settings of the container. It returns false for a setting without a counterpart.
func toV1(s Setting, all []Setting) ([]Setting, bool) {
	for _, w := range sameInV2 {
		if w.value == s.Key && controllerOf(s) == "memory" {
			return one(w.name, noLimit(s, "max", "-1"))
		} else if w.value == s.Key {
			return one(w.name, s.Value)
		}
	}
	switch s.Key {
	case "cpu.weight":
		return scaled("cpu.shares", s.Value, shares)
	case "cpu.max":
		return quotaToV1(s.Value)
	case "io.weight":
		return scaled("blkio.weight", strings.TrimPrefix(s.Value, "default "), func(n uint64) uint64 { return scale(n, 1, 10000, 10, 1000) })
	case "io.max":
		return throttleToV1(s.Value)
	case v2Swap:
		return swapToV1(s, all)
	}
	if size, ok := strings.CutSuffix(s.Key, ".max"); ok && strings.HasPrefix(size, "hugetlb.") {
		return one(size+v1HugeSuffix, noLimit(s, "max", "-1"))
	}
	return nil, false
}

func one(key, value string) ([]Setting, bool) { return []Setting{{key, value}}, true }

// noLimit returns the value of a setting; that for "no limit" is written in another way.
func noLimit(s Setting, from, to string) string {
	if s.Value == from {
		return to
	}
	return s.Value
}

// value returns the last value of a key.
func value(all []Setting, key string) (v string, ok bool) {
	for _, s := range all {
		if s.Key == key {
			v, ok = s.Value, true
		}
	}
	return v, ok
}

func scaled(key, text string, by func(uint64) uint64) ([]Setting, bool) {
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return nil, false
	}
	return one(key, strconv.FormatUint(by(n), 10))
}

// scale maps a range of numbers to another.
func scale(n, from, to, first, last uint64) uint64 {
	return first + (min(max(n, from), to)-from)*(last-first)/(to-from)
}

// weight maps cpu.shares, 2 to 262144, to cpu.weight, 1 to 10000 (OCI runtime
// specification, conversion of v1 to v2).
func weight(shares uint64) uint64 { return scale(shares, 2, 262144, 1, 10000) }

// shares is the inverse of [weight].
func shares(weight uint64) uint64 { return scale(weight, 1, 10000, 2, 262144) }

// quotaToV1 translates "QUOTA [PERIOD]".
func quotaToV1(v string) ([]Setting, bool) {
	f := strings.Fields(v)
	if len(f) == 0 || len(f) > 2 {
		return nil, false
	}
	list, _ := one(v1Quota, noLimit(Setting{v1Quota, f[0]}, "max", "-1"))
	if len(f) == 2 {
		list = append(list, Setting{v1Period, f[1]})
	}
	return list, true
}

// throttleToV1 translates "MAJOR:MINOR rbps=N wiops=N".
func throttleToV1(v string) (list []Setting, ok bool) {
	f := strings.Fields(v)
	if len(f) < 2 {
		return nil, false
	}
	for _, limit := range f[1:] {
		kind, n, _ := strings.Cut(limit, "=")
		i := slices.IndexFunc(throttles, func(w word[string]) bool { return w.value == kind })
		if i < 0 {
			return nil, false
		}
		if n == "max" {
			n = "0" // ends a limit
		}
		list = append(list, Setting{throttles[i].name, f[0] + " " + n})
	}
	return list, true
}

// throttleFromV1 translates "MAJOR:MINOR N"; the kernel unites the lines of a device.
func throttleFromV1(kind, v string) ([]Setting, bool) {
	f := strings.Fields(v)
	if len(f) != 2 {
		return nil, false
	}
	return one("io.max", f[0]+" "+kind+"="+noLimit(Setting{Value: f[1]}, "0", "max"))
}

// swapToV1 adds up memory and swap, which v1 limits together.
func swapToV1(s Setting, all []Setting) ([]Setting, bool) {
	if s.Value == "max" {
		return one(v1Both, "-1")
	}
	limit, _ := value(all, v2Limit)
	mem, ok1 := size(limit)
	swap, ok2 := size(s.Value)
	if !ok1 || !ok2 || mem+swap < mem {
		return nil, false // the memory has no limit
	}
	return one(v1Both, strconv.FormatUint(mem+swap, 10))
}

// swapFromV1 is the inverse of [swapToV1].
func swapFromV1(s Setting, all []Setting) ([]Setting, bool) {
	if s.Value == "-1" {
		return one(v2Swap, "max")
	}
	limit, _ := value(all, v1Limit)
	mem, ok1 := size(limit)
	both, ok2 := size(s.Value)
	if !ok1 || !ok2 || both < mem {
		return nil, false
	}
	return one(v2Swap, strconv.FormatUint(both-mem, 10))
}

// size reads a number of bytes as the kernel does (memparse): with a suffix K, M, G, T, P
// or E.
func size(text string) (uint64, bool) {
	text = strings.TrimSpace(text)
	shift := 0
	if i := len(text) - 1; i >= 0 {
		if n := strings.IndexByte("KMGTPE", text[i]&^0x20); n >= 0 {
			text, shift = text[:i], 10*(n+1)
		}
	}
	n, err := strconv.ParseUint(text, 0, 64)
	return n << shift, err == nil && n<<shift>>shift == n
}

// ranks are the settings that the kernel takes only before or after others: the limit of
// memory and swap may not be below that of memory, a real-time budget not above its
// period, a burst not above its quota. Other settings have rank 0. A group is frozen
// last, or it could not be finished.
var ranks = []word[int]{
	{"cpuset.cpus", -2}, {"cpuset.mems", -2}, {"memory.use_hierarchy", -2},
	{v1Period, -1}, {"cpu.rt_period_us", -1},
	{v1Both, 1}, {"cpu.cfs_burst_us", 1}, {"cpu.max.burst", 1}, {"cpuset.cpus.partition", 1},
	{"cpuset.cpu_exclusive", 1}, {"cpuset.mem_exclusive", 1},
	{"freezer.state", 2}, {"cgroup.freeze", 2},
}

// inKernelOrder sorts settings so that the kernel accepts them in turn.
func inKernelOrder(list []Setting) {
	slices.SortStableFunc(list, func(a, b Setting) int {
		ra, _ := find(ranks, a.Key)
		rb, _ := find(ranks, b.Key)
		return cmp.Compare(ra, rb)
	})
}
