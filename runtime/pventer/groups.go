package pventer

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// membership is the control group of a process in one hierarchy (cgroups(7),
// /proc/PID/cgroup).
type membership struct {
	controllers string // "" for cgroup v2
	group       string
}

// memberships parses /proc/PID/cgroup.
func memberships(text string) (list []membership) {
	for line := range strings.Lines(text) {
		if f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3); len(f) == 3 {
			list = append(list, membership{f[1], f[2]})
		}
	}
	return list
}

// joinGroups moves this program into the container's control groups of all hierarchies,
// so that what it starts has the container's resources, counts, and ends with it.
func (v *visit) joinGroups() error {
	theirs, err := os.ReadFile(v.proc("cgroup"))
	if err != nil {
		return fmt.Errorf("reading the container's control groups: %w", err)
	}
	tables, err := v.mountTables()
	if err != nil {
		return fmt.Errorf("looking for the control groups: %w", err)
	}
	for _, m := range memberships(string(theirs)) {
		if err := m.join(tables); err != nil {
			return err
		}
	}
	return nil
}

// mountTable is what a process has mounted.
type mountTable struct {
	info string // of /proc/PID/mountinfo
	root string // directory of its root, "" for this program's
}

// mountTables returns this program's own and the runtime's: in App Engine that has a mount
// namespace of its own, and in it the hierarchy of its containers when the machine has no
// cgroup v2.
func (v *visit) mountTables() ([]mountTable, error) {
	own, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	tables := []mountTable{{info: string(own)}}
	dir := filepath.Join("/proc", strconv.Itoa(v.runtime))
	if theirs, err := os.ReadFile(filepath.Join(dir, "mountinfo")); err == nil {
		tables = append(tables, mountTable{string(theirs), filepath.Join(dir, "root")})
	}
	return tables, nil
}

// join moves this program unless it is in the group already.
func (m membership) join(tables []mountTable) error {
	ours, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return fmt.Errorf("reading this program's control groups: %w", err)
	}
	for _, own := range memberships(string(ours)) {
		if own == m {
			return nil
		}
	}
	err = fmt.Errorf("the hierarchy %q is not mounted", m.controllers)
	for _, t := range tables {
		dir := m.directory(t.info)
		if dir == "" {
			continue
		}
		if err = os.WriteFile(filepath.Join(t.root, dir, "cgroup.procs"), []byte("0"), 0); err == nil {
			return nil
		}
	}
	return fmt.Errorf("joining the container's control group %s: %w", m.group, err)
}

// directory returns the directory of the group in a mount of its hierarchy; "" without one.
func (m membership) directory(mountinfo string) string {
	for line := range strings.Lines(mountinfo) {
		before, after, _ := strings.Cut(strings.TrimSpace(line), " - ")
		f, g := strings.Fields(before), strings.Fields(after)
		if len(f) < 6 || len(g) < 3 || !m.of(g[0], g[2]) {
			continue
		}
		if rest, ok := strings.CutPrefix(m.group, strings.TrimSuffix(f[3], "/")); ok {
			return filepath.Join(f[4], rest)
		}
	}
	return ""
}

// of reports whether a mounted file system is the hierarchy. The options of a v1 one
// include its controllers or its name.
func (m membership) of(fstype, options string) bool {
	if m.controllers == "" {
		return fstype == "cgroup2"
	}
	if fstype != "cgroup" {
		return false
	}
	for c := range strings.SplitSeq(m.controllers, ",") {
		if !strings.Contains(","+options+",", ","+c+",") {
			return false
		}
	}
	return true
}
