package container

import (
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// capNames are the capabilities by number (linux/capability.h).
var capNames = [...]string{
	"chown", "dac_override", "dac_read_search", "fowner", "fsetid", "kill", "setgid", "setuid", "setpcap",
	"linux_immutable", "net_bind_service", "net_broadcast", "net_admin", "net_raw", "ipc_lock", "ipc_owner",
	"sys_module", "sys_rawio", "sys_chroot", "sys_ptrace", "sys_pacct", "sys_admin", "sys_boot", "sys_nice",
	"sys_resource", "sys_time", "sys_tty_config", "mknod", "lease", "audit_write", "audit_control", "setfcap",
	"mac_override", "mac_admin", "syslog", "wake_alarm", "block_suspend", "audit_read", "perfmon", "bpf",
	"checkpoint_restore",
}

// capsDropped are the capabilities dropped by default: raw access to ports and memory,
// and changing the mandatory access rules of the system. Dropping more would break
// existing system containers, which load modules, set clocks and mount.
var capsDropped = []string{"mac_admin", "mac_override", "sys_rawio"}

func capBit(name string) (uint64, bool) {
	for i, n := range capNames {
		if n == name {
			return 1 << i, true
		}
	}
	return 0, false
}

func parseCaps(v string) ([]string, error) {
	var list []string
	for _, w := range strings.Fields(v) {
		name := strings.TrimPrefix(strings.ToLower(w), "cap_")
		if _, ok := capBit(name); !ok && name != "none" {
			return nil, fmt.Errorf("%q is not a capability", clip(w))
		}
		list = append(list, name)
	}
	return list, nil
}

// setCapKeep adds to the capabilities that are kept; "none" empties the list.
func setCapKeep(p *parser, v string) error {
	list, err := parseCaps(v)
	if err != nil {
		return err
	}
	if v == "" {
		p.cfg.CapKeep = nil
		return nil
	}
	if p.cfg.CapKeep == nil {
		p.cfg.CapKeep = []string{}
	}
	for _, name := range list {
		if name == "none" {
			p.cfg.CapKeep = []string{}
			continue
		}
		p.cfg.CapKeep = append(p.cfg.CapKeep, name)
	}
	return nil
}

// setCapDrop adds to the capabilities dropped by default; an empty value drops none.
func setCapDrop(p *parser, v string) error {
	list, err := parseCaps(v)
	if err != nil {
		return err
	}
	if v == "" {
		p.cfg.CapDrop, p.cfg.dropReset = nil, true
	}
	p.cfg.CapDrop = append(p.cfg.CapDrop, list...)
	return nil
}

// Caps returns the capabilities of the container as bits: init and its children can
// have these and no others.
func (c *Config) Caps() uint64 {
	if c.CapKeep != nil {
		return capBits(c.CapKeep)
	}
	all := (uint64(1)<<len(capNames) - 1) &^ capBits(c.CapDrop)
	if c.dropReset {
		return all
	}
	return all &^ capBits(capsDropped)
}

func capBits(names []string) (bits uint64) {
	for _, n := range names {
		b, _ := capBit(n)
		bits |= b
	}
	return bits
}

// limits are the resources of prlimit(2) by name.
var limits = []word[int]{
	{"as", unix.RLIMIT_AS}, {"core", unix.RLIMIT_CORE}, {"cpu", unix.RLIMIT_CPU}, {"data", unix.RLIMIT_DATA},
	{"fsize", unix.RLIMIT_FSIZE}, {"locks", unix.RLIMIT_LOCKS}, {"memlock", unix.RLIMIT_MEMLOCK},
	{"msgqueue", unix.RLIMIT_MSGQUEUE}, {"nice", unix.RLIMIT_NICE}, {"nofile", unix.RLIMIT_NOFILE},
	{"nproc", unix.RLIMIT_NPROC}, {"rss", unix.RLIMIT_RSS}, {"rtprio", unix.RLIMIT_RTPRIO},
	{"rttime", unix.RLIMIT_RTTIME}, {"sigpending", unix.RLIMIT_SIGPENDING}, {"stack", unix.RLIMIT_STACK},
}

func setLimit(p *parser, name, v string) error {
	if _, ok := find(limits, name); !ok {
		return errors.New("no such limit")
	}
	if _, err := parseLimit(v); err != nil {
		return err
	}
	return addSetting(&p.cfg.Limits, name, v)
}

// parseLimit reads "SOFT:HARD" or one value for both, each a number or "unlimited".
func parseLimit(v string) (unix.Rlimit, error) {
	soft, hard, ok := strings.Cut(v, ":")
	if !ok {
		hard = soft
	}
	var l unix.Rlimit
	for _, f := range []struct {
		text string
		dst  *uint64
	}{{soft, &l.Cur}, {hard, &l.Max}} {
		f.text = strings.TrimSpace(f.text)
		if f.text == "unlimited" {
			*f.dst = unix.RLIM_INFINITY
			continue
		}
		n, err := strconv.ParseUint(f.text, 10, 63)
		if err != nil {
			return l, fmt.Errorf("%q is neither a number nor unlimited", clip(f.text))
		}
		*f.dst = n
	}
	if l.Cur > l.Max {
		return l, fmt.Errorf("the soft limit %s is above the hard limit %s", soft, hard)
	}
	return l, nil
}

// sysctlSpaces are the kernel parameters that a namespace has of its own, by file or, with
// "/" at the end, by directory below /proc/sys (namespaces(7), sysctl(5)). All others
// are the device's.
var sysctlSpaces = []struct {
	path  string
	space uintptr
}{
	{"net/", unix.CLONE_NEWNET}, {"fs/mqueue/", unix.CLONE_NEWIPC},
	{"kernel/hostname", unix.CLONE_NEWUTS}, {"kernel/domainname", unix.CLONE_NEWUTS}, {"kernel/ns_last_pid", unix.CLONE_NEWPID},
	{"kernel/shmall", unix.CLONE_NEWIPC}, {"kernel/shmmax", unix.CLONE_NEWIPC}, {"kernel/shmmni", unix.CLONE_NEWIPC},
	{"kernel/shm_rmid_forced", unix.CLONE_NEWIPC}, {"kernel/shm_next_id", unix.CLONE_NEWIPC}, {"kernel/msgmax", unix.CLONE_NEWIPC},
	{"kernel/msgmnb", unix.CLONE_NEWIPC}, {"kernel/msgmni", unix.CLONE_NEWIPC}, {"kernel/msg_next_id", unix.CLONE_NEWIPC},
	{"kernel/auto_msgmni", unix.CLONE_NEWIPC}, {"kernel/sem", unix.CLONE_NEWIPC}, {"kernel/sem_next_id", unix.CLONE_NEWIPC},
}

// sysctlSpace returns the kind of namespace that has the parameter, 0 for the device's.
func sysctlSpace(file string) uintptr {
	for _, s := range sysctlSpaces {
		if s.path == file || strings.HasSuffix(s.path, "/") && strings.HasPrefix(file, s.path) {
			return s.space
		}
	}
	return 0
}

// checkSysctls returns an error for a kernel parameter of a namespace that the container
// shares with the device.
func (c *Config) checkSysctls() error {
	for _, s := range c.Sysctls {
		space := sysctlSpace(s.Key)
		if c.cloneFlags()&space != 0 {
			continue
		}
		for _, n := range namespaces {
			if n.value == space {
				return fmt.Errorf("lxc.sysctl.%s: it would change the device, whose %s namespace the container has; leave %[2]s out of lxc.namespace.keep",
					strings.ReplaceAll(s.Key, "/", "."), n.name)
			}
		}
	}
	return nil
}

// setSysctl takes a kernel parameter by its dotted name. It becomes a path.
func setSysctl(p *parser, name, v string) error {
	file := strings.ReplaceAll(name, ".", "/")
	if path.Clean("/"+file) != "/"+file {
		return errors.New("not a valid name of a kernel parameter")
	}
	if sysctlSpace(file) == 0 {
		return errors.New("it is the device's, not one of a namespace of the container's own; set it on the device")
	}
	p.cfg.Sysctls = append(p.cfg.Sysctls, Setting{file, v})
	return nil
}
