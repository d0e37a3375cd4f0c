package container

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/runtime/seccomp"
)

// filter compiles the container's profile for system calls; nil without one. A path
// that is not absolute is in the configuration's directory.
func (st *starting) filter() ([]byte, error) {
	name := st.Config.Seccomp
	if name == "" || name == "none" {
		return nil, nil
	}
	if !filepath.IsAbs(name) {
		name = filepath.Join(filepath.Dir(st.Config.File), name)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("opening the profile for system calls: %w", err)
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

// earlyFilter reports whether the filter must be installed while the first stage still
// has its rights: the kernel takes one only from a thread with sys_admin or without
// new privileges. The profile must then allow what follows: setgroups, setresgid,
// setresuid, capget, capset and prctl.
func (p *plan) earlyFilter() bool {
	admin, _ := capBit("sys_admin")
	return p.Filter != nil && !p.NoNewPrivs && (p.UID != 0 || p.Caps&admin == 0)
}

// filterEarly installs the filter ahead of time, see earlyFilter.
func (s *stage) filterEarly() error {
	if !s.plan.earlyFilter() {
		return nil
	}
	return seccomp.Install(s.plan.Filter)
}

// Places of AppArmor.
const (
	appArmorEnabled = "/sys/module/apparmor/parameters/enabled"
	threadLabels    = "/proc/thread-self/attr"
)

// appArmor is the profile that init is to run under; "" for none. A kernel without
// AppArmor cannot confine anybody: that is told, and the container starts.
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
		st.Log.Warnf("container %s: lxc.apparmor.profile: profiles are not generated; name one that is loaded", st.Name)
		return ""
	}
	return name
}

// openLabel opens the file that takes the profile, as long as the device's /proc is
// there. It is of this very thread, which becomes init.
func (s *stage) openLabel() error {
	if s.plan.AppArmor == "" {
		return nil
	}
	var err error
	for _, name := range []string{"apparmor/exec", "exec"} { // the second before Linux 5.8
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

// setProc writes what is asked of init's own directory in /proc.
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
		return errors.New("no name of a file in /proc/PID")
	}
	return addSetting(&p.cfg.Process, name, v)
}

// execFiltered becomes init behind the filter, which may deny everything but this
// one call: nothing else comes between.
func (s *stage) execFiltered() error {
	argv0, err := syscall.BytePtrFromString(s.prog)
	if err != nil {
		return err
	}
	argv, err := syscall.SlicePtrFromStrings(s.plan.Init)
	if err != nil {
		return err
	}
	env, err := syscall.SlicePtrFromStrings(s.plan.Env)
	if err != nil {
		return err
	}
	// Go raises the limit of open files for itself and gives the old one back in
	// Exec, even in one that finds no program.
	_ = syscall.Exec("", nil, nil)
	if !s.plan.earlyFilter() {
		if err := seccomp.Install(s.plan.Filter); err != nil {
			return err
		}
	}
	return execve(argv0, argv, env)
}
