package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// writeFirstProgram opens what process 1 executes, which is the runtime's program while a
// start hook runs.
func writeFirstProgram() error {
	if name, err := os.Readlink("/proc/1/exe"); err != nil || name == ownProgram {
		return fmt.Errorf("process 1 executes %q, not the runtime's program: %w", name, cmp.Or(err, errWrong))
	}
	return writeProgram("/proc/1/exe")
}

// writeProgram tries to change a copy of the runtime's program.
func writeProgram(name string) error {
	_ = os.Chmod(name, 0o777)
	err := overwrite(name)
	if err == nil || opensFor(unix.O_WRONLY|unix.O_TRUNC, name) == nil {
		return nil
	}
	fd, oerr := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if oerr != nil {
		return oerr
	}
	defer unix.Close(fd)
	// As long as the engine executes the file, that alone protects it: ETXTBSY.
	const all = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if seals, serr := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0); serr != nil || seals&all != all {
		return nil
	}
	return err
}

// overwrite writes a byte to the beginning of a file.
func overwrite(name string) error {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte{0}, 0)
	return errors.Join(err, f.Close())
}

// opensFor opens a file and closes it again.
func opensFor(flags int, path string) error {
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY, 0o600)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// opens returns an attempt to open a file for reading.
func opens(path string) func() error {
	return func() error { return opensFor(unix.O_RDONLY, path) }
}

// writes returns an attempt to open files for writing: one that opens is enough. A file of
// /proc or /sys that the kernel does not have is passed over.
func writes(paths ...string) func() error {
	return func() error {
		result := errAbsent
		for _, p := range paths {
			flags := unix.O_WRONLY
			if !strings.HasPrefix(p, "/proc/") && !strings.HasPrefix(p, "/sys/") {
				flags |= unix.O_CREAT
			} else if _, err := os.Lstat(p); errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err := opensFor(flags, p); err == nil {
				return nil
			} else {
				result = fmt.Errorf("%s: %w", p, err)
			}
		}
		return result
	}
}

// fields returns the lines "NAME: VALUE" of a file.
func fields(path string) map[string]string {
	text, _ := os.ReadFile(path)
	out := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok {
			out[name] = strings.TrimSpace(value)
		}
	}
	return out
}

// moreThanInit compares this process with process 1.
func moreThanInit() error {
	own, init := fields("/proc/self/status"), fields("/proc/1/status")
	if init["CapBnd"] == "" {
		return errors.New("nothing is known of process 1")
	}
	for _, set := range []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"} {
		if number(own[set])&^number(init[set]) != 0 {
			return nil
		}
	}
	for _, restriction := range []string{"NoNewPrivs", "Seccomp", "Seccomp_filters"} {
		if number(own[restriction]) < number(init[restriction]) {
			return nil
		}
	}
	if !slices.Equal(hardLimits("/proc/self/limits"), hardLimits("/proc/1/limits")) || label("self") != label("1") {
		return nil
	}
	return errHeld
}

func number(hex string) uint64 {
	n, _ := strconv.ParseUint(hex, 16, 64)
	return n
}

// hardLimits returns the lines of a file /proc/PID/limits without the soft limits, which a
// program sets itself.
func hardLimits(path string) (list []string) {
	text, _ := os.ReadFile(path)
	for line := range strings.Lines(string(text)) {
		if len(line) > 68 {
			list = append(list, line[:26]+line[47:])
		}
	}
	return list
}

// label returns the AppArmor profile of a process, "" without AppArmor.
func label(pid string) string {
	text, _ := os.ReadFile("/proc/" + pid + "/attr/apparmor/current")
	return strings.TrimRight(string(text), "\n\x00")
}

func withoutLabel() error {
	if got := label("self"); got != "attack (enforce)" {
		return nil
	}
	return errHeld
}

func otherGroups() error {
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return err
	}
	init, err := os.ReadFile("/proc/1/cgroup")
	if err != nil {
		return err
	}
	if string(own) != string(init) {
		return nil
	}
	return errHeld
}

// otherTree looks for groups below the own one, which has none: the container makes none.
func otherTree() error {
	entries, err := os.ReadDir("/sys/fs/cgroup")
	if err != nil {
		return err
	}
	if slices.ContainsFunc(entries, fs.DirEntry.IsDir) {
		return nil
	}
	return errHeld
}

// seeProcesses looks for processes of another PID namespace.
func seeProcesses() error {
	own, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return err
	}
	for _, pid := range processes() {
		if ns, err := os.Readlink("/proc/" + pid + "/ns/pid"); err == nil && ns != own {
			return nil
		}
	}
	return errHeld
}

// processes lists the process IDs in /proc.
func processes() (list []string) {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err == nil {
			list = append(list, e.Name())
		}
	}
	return list
}

// masked are files that show the kernel's memory or its users' keys.
var masked = []string{"/proc/kcore", "/proc/keys", "/proc/timer_list"}

// uncover removes what is mounted over the masked files.
func uncover() error {
	result := errAbsent
	for _, p := range masked {
		err := unix.Unmount(p, unix.MNT_DETACH)
		if err == nil || errors.Is(err, unix.EINVAL) { // permitted, but there is no mount
			return nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			result = err
		}
	}
	return result
}

func readMasked() error {
	found := false
	for _, p := range masked {
		f, err := os.Open(p)
		if err != nil {
			continue
		}
		found = true
		n, _ := f.Read(make([]byte, 16))
		_ = f.Close()
		if n > 0 {
			return nil
		}
	}
	if !found {
		return errAbsent
	}
	return errHeld
}
