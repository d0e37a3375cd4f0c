package main

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// helloSum is the SHA-256 of "hello".
const helloSum = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"

const (
	eperm  = syscall.EPERM
	eacces = syscall.EACCES
	erofs  = syscall.EROFS
)

// attacks are all attempts. The sets:
//
//	hook      of a start hook, which runs before the container's init
//	any       of every container with a PID namespace of its own, whatever its rights
//	role      of every container without a role
//	everybody of every caller, also of the device's own
//	files     of every container
//	restarted of one that has made its volume hostile before it started again
//	cgroup    of one that has the device's cgroup namespace and may mount
//	confined  of one with few capabilities, rules for devices, a system call profile
//	          and limits
//	pid       of one that sees the device's processes, with few capabilities
//	limit     as confined, where the machine has the controllers
//	label     of one with an AppArmor profile
var attacks = []attack{
	{"hook", "write to the runtime's program through /proc/1/exe", writeFirstProgram, []error{eperm, syscall.ETXTBSY}},

	{"any", "have more rights than the container's init", moreThanInit, nil},
	{"any", "be in other control groups than the container's init", otherGroups, nil},
	{"any", "see other control groups below /sys/fs/cgroup", otherTree, nil},
	{"any", "see processes of the device", seeProcesses, nil},
	{"any", "write kernel parameters of the device", writes(deviceParameters...), []error{erofs}},
	{"any", "read the kernel's memory", readMasked, nil},

	{"role", "list containers", asks("GET", "/containers", ""), nil},
	{"role", "command the device", asks("POST", "/commands", `{"op":"RUN_GC","payload":""}`), nil},
	{"role", "store an object", asks("PUT", "/objects/"+helloSum, "hello"), nil},
	{"role", "read the runtime's log", asks("GET", "/logs/0%2Fpantavisor%2Fpantavisor.log", ""), nil},
	{"role", "read the settings", asks("GET", "/config", ""), nil},
	{"role", "list containers from a mount namespace that nobody knows", asksElsewhere, []error{eperm, syscall.ENOSPC, syscall.ENOSYS}},
	{"role", "set metadata of the device", asks("PUT", "/device-meta/evil", "1"), nil},

	{"everybody", "name a file above the logs", asks("GET", "/logs/..%2F..%2F..%2Fetc%2Fpantavisor.config", ""), nil},
	{"everybody", "name a revision above the local ones", asks("PUT", "/steps/locals/..%2F..%2Fevil", "{}"), nil},
	{"everybody", "name an object above the store", asks("PUT", "/objects/..%2F..%2Fevil", "hello"), nil},
	{"everybody", "use the control socket for a foreign host", foreignHost, nil},

	{"files", "write among the runtime's files", writes("/pantavisor/logs/evil", "/pantavisor/user-meta/evil", "/pantavisor/device-meta/evil"), []error{erofs, eacces, eperm}},

	{"restarted", "lead a mount out of a volume by a symbolic link", throughVolume, nil},

	{"cgroup", "become another container by moving to its control groups", moveToOther, nil},

	{"confined", "make the node of a disk", makeNode(unix.S_IFBLK, 8, 0), []error{eperm}},
	{"confined", "make the node of the memory", makeNode(unix.S_IFCHR, 1, 1), []error{eperm}},
	{"confined", "open a device that the rules deny", opens("/dev/full"), []error{eperm}},
	{"confined", "load a module", loadModule, []error{eperm, syscall.ENOSYS}},
	{"confined", "remove a module", func() error { return permitted(unix.DeleteModule("absent", unix.O_NONBLOCK)) }, []error{eperm, syscall.ENOSYS}},
	{"confined", "load another kernel", loadKernel, []error{eperm, syscall.ENOSYS}},
	{"confined", "reboot", func() error { return unix.Reboot(unix.LINUX_REBOOT_CMD_CAD_OFF) }, []error{eperm}},
	{"confined", "mount", func() error { return unix.Mount("none", "/srv", "tmpfs", 0, "") }, []error{eperm}},
	{"confined", "make the protected parts of /proc writable", func() error {
		return permitted(unix.Mount("", "/proc/sys", "", unix.MS_REMOUNT|unix.MS_BIND, ""))
	}, []error{eperm}},
	{"confined", "uncover what is masked", uncover, []error{eperm}},
	{"confined", "make a mount namespace", func() error { return unix.Unshare(unix.CLONE_NEWNS) }, []error{eperm}},
	{"confined", "join a namespace", joinNamespace, []error{eperm}},
	{"confined", "do in a user namespace what init cannot", viaUserNamespace, []error{eperm, syscall.ENOSPC, syscall.ENOSYS}},
	{"confined", "open the device's root by a file handle", openByHandle, []error{eperm}},
	{"confined", "write device attributes below /sys", writes(deviceAttributes...), []error{erofs}},
	{"confined", "clear the kernel's log", func() error { _, err := unix.Klogctl(unix.SYSLOG_ACTION_CONSOLE_OFF, nil); return err }, []error{eperm}},
	{"confined", "set the clock", setClock, []error{eperm}},
	{"confined", "set the host name", func() error { return unix.Sethostname([]byte("evil")) }, []error{eperm}},
	{"confined", "load an eBPF program", loadBPF, []error{eperm}},
	{"confined", "send a device event", sendEvent, []error{eperm}},
	{"confined", "raise a limit", raiseLimit, []error{eperm}},
	{"confined", "get the capabilities back", raiseCapabilities, []error{eperm}},
	{"confined", "make a system call that the profile denies", func() error { return permitted(unix.Acct("")) }, []error{profileError}},
	{"confined", "gain privileges by executing a program", gainPrivileges, nil},

	{"pid", "read the memory of the engine", readEngine, []error{eperm}},
	{"pid", "trace the engine", func() error { return unix.PtraceSeize(enginePID()) }, []error{eperm}},
	{"pid", "take a descriptor of the engine", takeDescriptor, []error{eperm}},
	{"pid", "enter the device through /proc/1/root", opens("/proc/1/root/etc"), []error{eacces}},
	{"pid", "write to the engine's program", writeEngine, []error{eacces, eperm}},
	{"pid", "join the engine's mount namespace", joinEngine, []error{eacces, eperm}},

	{"limit", "start more processes than the limit allows", manyProcesses, []error{syscall.EAGAIN}},

	{"label", "run without the AppArmor profile", withoutLabel, nil},
	{"label", "write a file that the AppArmor profile denies", writes("/srv/denied"), []error{eacces}},
}

// deviceParameters are files of /proc that user 0 could write without a capability.
var deviceParameters = []string{"/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/vm/drop_caches", "/proc/sysrq-trigger", "/proc/irq/default_smp_affinity"}

// deviceAttributes are files of /sys that user 0 could write without a capability.
var deviceAttributes = []string{"/sys/kernel/uevent_helper", "/sys/power/state", "/sys/kernel/uevent_seqnum", "/sys/kernel/profiling", "/sys/kernel/mm/ksm/run", "/sys/bus/pci/rescan"}

// profileError is what the system call profile of the container confined makes of acct.
const profileError = syscall.Errno(77)
