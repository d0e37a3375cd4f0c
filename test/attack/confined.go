package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// makeNode returns an attempt to make a device node.
func makeNode(kind uint32, major, minor uint32) func() error {
	return func() error {
		const name = "/srv/node"
		defer os.Remove(name)
		return unix.Mknod(name, kind|0o600, int(unix.Mkdev(major, minor)))
	}
}

// loadModule loads what is not a module: whoever may load modules is told so.
func loadModule() error { return permitted(unix.InitModule([]byte("not a module"), "")) }

// permitted takes the error of an argument without sense for success.
func permitted(err error) error {
	for _, e := range []error{syscall.ENOEXEC, syscall.EINVAL, syscall.EBADF, syscall.EFAULT, syscall.ENOENT} {
		if errors.Is(err, e) {
			return nil
		}
	}
	return err
}

func loadKernel() error {
	_, _, errno := unix.Syscall6(unix.SYS_KEXEC_LOAD, 0, 0, 0, 0, 0, 0)
	if errno == 0 {
		return nil
	}
	return permitted(errno)
}

func joinNamespace() error {
	fd, err := unix.Open("/proc/1/ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return permitted(unix.Setns(fd, unix.CLONE_NEWNS)) // EINVAL: this process has threads
}

// openByHandle opens the root of the file system of a file that the device has mounted into
// the container: inode 2 of ext4.
func openByHandle() error {
	handle, _, err := unix.NameToHandleAt(unix.AT_FDCWD, "/var/keep", 0)
	if err != nil {
		return err
	}
	dir, err := unix.Open("/var/keep", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	_, err = unix.OpenByHandleAt(dir, unix.NewFileHandle(handle.Type(), append([]byte{2, 0, 0, 0}, make([]byte, 4)...)), unix.O_RDONLY)
	if errors.Is(err, syscall.ESTALE) { // the right is there, the inode is not
		return nil
	}
	return err
}

func setClock() error {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_REALTIME, &now); err != nil {
		return err
	}
	return unix.ClockSettime(unix.CLOCK_REALTIME, &now)
}

// loadBPF loads a program of two instructions, r0 = 0 and exit, that decides about devices.
func loadBPF() error {
	code := []uint64{0x00000000000000b7, 0x0000000000000095}
	license := []byte("GPL\x00")
	attr := struct {
		kind, count    uint32
		code, license  uint64
		level, logSize uint32
		log            uint64
		version, flags uint32
		_              [16]uint64
	}{kind: unix.BPF_PROG_TYPE_CGROUP_DEVICE, count: uint32(len(code)), code: uint64(uintptr(unsafe.Pointer(&code[0]))), license: uint64(uintptr(unsafe.Pointer(&license[0])))}
	_, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_LOAD, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	if errno == 0 {
		return nil
	}
	return errno
}

// sendEvent sends an event as the kernel does to all that listen for devices.
func sendEvent() error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	event := "add@/devices/evil\x00ACTION=add\x00DEVPATH=/devices/evil\x00SUBSYSTEM=evil\x00MODALIAS=evil\x00"
	err = unix.Sendto(fd, []byte(event), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1})
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ESRCH) { // nobody listens
		return nil
	}
	return err
}

func raiseLimit() error {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return err
	}
	l.Max++
	return unix.Setrlimit(unix.RLIMIT_NOFILE, &l)
}

// raiseCapabilities asks for every capability of the first word.
func raiseCapabilities() error {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return err
	}
	data[0].Permitted, data[0].Effective = ^uint32(0), ^uint32(0)
	return unix.Capset(&hdr, &data[0])
}

func gainPrivileges() error {
	on, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	if err != nil || on == 0 {
		return err
	}
	return errHeld
}

// inUserNamespace returns this program in new user and mount namespaces.
func inUserNamespace(mode string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", mode)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	return cmd
}

// viaUserNamespace makes a user namespace, in which this program has every capability, and
// tries insideUser there.
func viaUserNamespace() error {
	cmd := inUserNamespace("user")
	cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWPID
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	switch {
	case cmd.ProcessState == nil:
		return err
	case err != nil:
		return fmt.Errorf("%w: %s", err, &out)
	case strings.TrimSpace(out.String()) != "":
		return nil
	}
	return errHeld
}

// insideUser prints what succeeds.
func insideUser() error {
	for name, try := range map[string]func() error{
		"a new /proc":         func() error { return unix.Mount("proc", "/srv", "proc", 0, "") },
		"a new /sys":          func() error { return unix.Mount("sysfs", "/srv", "sysfs", 0, "") },
		"a writable /proc":    func() error { return unix.Mount("", "/proc/sys", "", unix.MS_REMOUNT|unix.MS_BIND, "") },
		"an unmasked /proc":   uncoverLocked,
		"kernel parameters":   writes(deviceParameters...),
		"a node":              makeNode(unix.S_IFBLK, 8, 0),
		"a module":            loadModule,
		"the clock":           setClock,
		"a limit":             raiseLimit,
		"a program of device": loadBPF,
	} {
		if try() == nil {
			fmt.Println(name)
		}
	}
	return nil
}

// uncoverLocked is uncover where EINVAL says that the mounts are locked.
func uncoverLocked() error {
	for _, p := range masked {
		if unix.Unmount(p, unix.MNT_DETACH) == nil {
			return nil
		}
	}
	return errHeld
}

// manyProcesses starts more processes than lxc.cgroup2.pids.max of the container.
func manyProcesses() error {
	var all []*exec.Cmd
	defer func() {
		for _, cmd := range all {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}()
	for range 100 {
		cmd := exec.Command("/proc/self/exe", "sleep")
		if err := cmd.Start(); err != nil {
			return err
		}
		all = append(all, cmd)
		time.Sleep(time.Millisecond)
		if ended(cmd.Process.Pid) { // its runtime could start no thread
			return syscall.EAGAIN
		}
	}
	return nil
}

// ended reports whether a child has ended; it stays for Wait.
func ended(pid int) bool {
	var info [128]byte
	err := unix.Waitid(unix.P_PID, pid, (*unix.Siginfo)(unsafe.Pointer(&info)), unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	return err == nil && info != [128]byte{}
}
