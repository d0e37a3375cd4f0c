package container

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/runtime/seccomp"
)

// filter compiles the container's system call profile; nil without one. A relative
// path is relative to the configuration's directory.
func (st *starting) filter() ([]byte, error) {
	name := st.Config.Seccomp
	if name == "" || name == "none" {
		return nil, nil
	}
	if !filepath.IsAbs(name) {
		name = filepath.Join(filepath.Dir(st.Config.File), name)
	}
	f, err := st.open(name)
	if err != nil {
		return nil, fmt.Errorf("opening the system call profile: %w", err)
	}
	defer f.Close()
	p, err := seccomp.Parse(f)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	code, unknown, err := p.Compile()
	if err != nil {
		return nil, fmt.Errorf("compiling %s: %w", name, err)
	}
	if len(unknown) > 0 {
		st.Log.Warnf("container %s: %s: unknown system calls, ignored: %.500s", st.Name, name, strings.Join(unknown, " "))
	}
	return code, nil
}

// open opens a file that a configuration names for reading. In a volume a container may
// have put anything there: links stay in the volume, and a FIFO would wait for a writer.
func (s Start) open(name string) (f *os.File, err error) {
	const flags = unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY
	if volume := below(s.Volumes, name); volume != "" && path.Clean(name) != volume {
		f, err = openBelow(volume, path.Clean(name)[len(volume):], flags)
	} else {
		f, err = os.OpenFile(name, flags, 0)
	}
	if err != nil {
		return nil, err
	}
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		_ = f.Close()
		return nil, cmp.Or(err, fmt.Errorf("%s is not a regular file", name))
	}
	return f, nil
}

// openBelow opens a path with a directory as the root directory.
func openBelow(dir, p string, flags int) (*os.File, error) {
	root, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(root)
	fd, err := openIn(root, p, flags)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path.Join(dir, p), Err: err}
	}
	return os.NewFile(uintptr(fd), path.Join(dir, p)), nil
}

// earlyFilter reports whether the filter must be installed while the first stage still
// has its capabilities: the kernel accepts a filter only from a thread that has
// sys_admin or has set no_new_privs. The profile must then allow the system calls that
// follow: setgroups, setresgid, setresuid, capget, capset and prctl.
func (p *plan) earlyFilter() bool {
	admin, _ := capBit("sys_admin")
	return p.Filter != nil && !p.NoNewPrivs && (p.UID != 0 || p.Caps&admin == 0)
}

// filterEarly installs the filter before capabilities are dropped, see earlyFilter.
func (s *stage) filterEarly() error {
	if !s.plan.earlyFilter() {
		return nil
	}
	return seccomp.Install(s.plan.Filter)
}

// Paths of AppArmor.
const (
	appArmorEnabled = "/sys/module/apparmor/parameters/enabled"
	threadLabels    = "/proc/thread-self/attr"
)

// appArmor returns the profile that init runs under; "" for none. On a kernel without
// AppArmor it logs a warning, and the container starts unconfined.
func (st *starting) appArmor() string {
	name := st.Config.AppArmor
	if name == "" || name == "unchanged" {
		return ""
	}
	if text, err := os.ReadFile(appArmorEnabled); err != nil || !strings.HasPrefix(string(text), "Y") {
		if name != "unconfined" {
			st.Log.Warnf("container %s: lxc.apparmor.profile: the kernel has no AppArmor; %s does not confine anything", st.Name, name)
		}
		return ""
	}
	if name == "generated" {
		st.Log.Warnf("container %s: lxc.apparmor.profile: generated profiles are not supported; name a loaded profile", st.Name)
		return ""
	}
	return name
}

// openLabel opens the file that takes the profile while the device's /proc is still
// mounted. The file belongs to this thread, which becomes init.
func (s *stage) openLabel() error {
	if s.plan.AppArmor == "" {
		return nil
	}
	var err error
	for _, name := range []string{"apparmor/exec", "exec"} { // "exec" before Linux 5.8
		s.label, err = unix.Open(filepath.Join(s.labels(), name), unix.O_WRONLY|unix.O_CLOEXEC, 0)
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return err
}

func (s *stage) labels() string {
	if s.plan.LabelDir != "" {
		return s.plan.LabelDir
	}
	return threadLabels
}

// setLabel asks the kernel to change to the profile at execve.
func (s *stage) setLabel() error {
	if s.plan.AppArmor == "" {
		return nil
	}
	defer unix.Close(s.label)
	_, err := unix.Write(s.label, []byte("exec "+s.plan.AppArmor))
	if errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("the profile %s is not loaded", s.plan.AppArmor)
	}
	return err
}

// setProc writes the files of lxc.proc.* in init's directory in /proc.
func (s *stage) setProc() error {
	for _, p := range s.plan.Process {
		if err := os.WriteFile("/proc/self/"+p.Key, []byte(p.Value), 0); err != nil {
			return err
		}
	}
	return nil
}

func setProcFile(p *parser, name, v string) error {
	if strings.ContainsAny(name, "/ ") || strings.HasPrefix(name, ".") {
		return errors.New("not a valid name of a file in /proc/PID")
	}
	return addSetting(&p.cfg.Process, name, v)
}

// openSelf opens this program for second, while the device's /proc is still mounted.
func (s *stage) openSelf() (err error) {
	if s.plan.second() == nil {
		return nil
	}
	s.self, err = unix.Open("/proc/self/exe", unix.O_PATH|unix.O_CLOEXEC, 0)
	return err
}

// second executes this program again, as init would be, to run the start hooks. They
// belong to the container and see this process in /proc, so nothing in this process
// may have more rights than init: no thread and no descriptor.
func (s *stage) second() error {
	if s.plan.second() == nil {
		return nil
	}
	if _, err := unix.FcntlInt(uintptr(s.sock), unix.F_SETFD, 0); err != nil {
		return err
	}
	resetSignals()
	err := s.execFiltered(execution{fd: s.self, argv: []string{StageArg}, env: stageEnv})
	if s.plan.Filter != nil {
		err = fmt.Errorf("%w; with start hooks the system call profile must allow execveat and what a hook takes", err)
	}
	return err
}

// execution is a program to execute.
type execution struct {
	path      string
	fd        int // of the program instead of a path, with path ""
	argv, env []string
}

// execFiltered installs the filter, if there is one, and executes a program. The filter
// may deny every call but execve, so no other system call may come in between.
func (s *stage) execFiltered(e execution) error {
	path, err := syscall.BytePtrFromString(e.path)
	if err != nil {
		return err
	}
	argv, err := syscall.SlicePtrFromStrings(e.argv)
	if err != nil {
		return err
	}
	env, err := syscall.SlicePtrFromStrings(e.env)
	if err != nil {
		return err
	}
	// Go raises the limit of open files for itself and restores the old one in
	// Exec, even when that finds no program.
	_ = syscall.Exec("", nil, nil)
	if s.plan.Filter != nil && !s.plan.earlyFilter() {
		if err := seccomp.Install(s.plan.Filter); err != nil {
			return err
		}
	}
	if e.path == "" {
		return execveat(e.fd, path, argv, env)
	}
	return execve(path, argv, env)
}
