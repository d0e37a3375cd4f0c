package pventer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/runtime/ctrl/client"
	"github.com/pantavisor/pantavisor/runtime/program"
	"github.com/pantavisor/pantavisor/runtime/seccomp"
)

// rights are what the container's first process may do; what is started beside it gets
// no more.
type rights struct {
	bounding   uint64 // capabilities
	noNewPrivs bool
	limits     [limitCount]unix.Rlimit
	label      *os.File // takes the AppArmor profile; nil without one
	profile    string
	filter     []byte // for system calls; nil without one
}

// limitCount is the number of resources of prlimit(2) (RLIM_NLIMITS).
const limitCount = 16

// rights reads those of the container's first process.
func (v *visit) rights() (r rights, err error) {
	status := v.proc("status")
	if r.bounding, err = strconv.ParseUint(field(status, "CapBnd"), 16, 64); err != nil {
		return r, fmt.Errorf("reading the container's capabilities: %w", err)
	}
	r.noNewPrivs = field(status, "NoNewPrivs") == "1"
	for i := range r.limits {
		if err := unix.Prlimit(v.pid, i, nil, &r.limits[i]); err != nil {
			return r, fmt.Errorf("reading the container's limits: %w", err)
		}
	}
	r.filter = v.filter
	return r, r.openLabel(v)
}

// runDir is the directory with the runtime's control socket.
func runDir() string {
	var socket string
	if exe, err := program.File(); err == nil {
		socket = client.FindSocketBeside(exe)
	}
	return filepath.Dir(socket)
}

// Paths of AppArmor of the first process, since Linux 5.8 and before.
var labelFiles = [][2]string{{"attr/apparmor/current", "attr/apparmor/exec"}, {"attr/current", "attr/exec"}}

// appArmorEnabled says whether the old files are AppArmor's.
const appArmorEnabled = "/sys/module/apparmor/parameters/enabled"

// openLabel reads the first process's profile and opens this thread's file that takes
// it, while the device's /proc is there.
func (r *rights) openLabel(v *visit) error {
	if text, err := os.ReadFile(appArmorEnabled); err != nil || !strings.HasPrefix(string(text), "Y") {
		return nil
	}
	for _, files := range labelFiles {
		text, err := os.ReadFile(v.proc(files[0]))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("reading the container's AppArmor profile: %w", err)
		}
		r.profile, _, _ = strings.Cut(strings.TrimRight(string(text), "\n\x00"), " (")
		if r.profile == "unconfined" {
			return nil
		}
		r.label, err = os.OpenFile(filepath.Join("/proc/thread-self", files[1]), os.O_WRONLY, 0)
		return err
	}
	return nil
}

// take gives this thread, and with the limits this process, the rights. Only execve and
// what starting a process takes may follow.
func (r *rights) take() error {
	if err := limit(r.bounding); err != nil {
		return err
	}
	for i := range r.limits {
		if err := unix.Prlimit(0, i, &r.limits[i], nil); err != nil {
			return fmt.Errorf("setting limit %d: %w", i, err)
		}
	}
	if r.label != nil {
		if _, err := r.label.WriteString("exec " + r.profile); err != nil {
			return fmt.Errorf("setting the AppArmor profile %s: %w", r.profile, err)
		}
	}
	if r.noNewPrivs {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return fmt.Errorf("setting no_new_privs: %w", err)
		}
	}
	if r.filter == nil {
		return nil
	}
	return seccomp.Install(r.filter)
}
