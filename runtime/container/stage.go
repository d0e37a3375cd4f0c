package container

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/runtime/network"
)

// stageName is the process name of the first stage, see [nameStage].
const stageName = "pv-stage"

// nameStage names this process and its thread. Its socket closes a moment before
// execve is done, so a process that is to be stopped may still be the first stage.
func nameStage() {
	name := [16]byte{}
	copy(name[:], stageName)
	_ = unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(&name[0])), 0, 0, 0)
	if unix.Gettid() != unix.Getpid() {
		_ = os.WriteFile("/proc/self/comm", []byte(stageName), 0)
	}
}

// stage is the state of the first stage, which runs in the container's namespaces.
type stage struct {
	plan *plan
	sock int
	root int // descriptor of the new root, -1 before it is mounted
	dir  string
	tty  int    // slave side of the console, -1 without
	prog string // absolute path of init
	// label takes the AppArmor profile; only with one.
	label int
	// self is this program, for the second stage; only with start hooks.
	self int
}

// step is one step of the first stage; its name is in gerund form.
type step struct {
	name string
	do   func(*stage) error
}

// steps is a start from the clone to execve. The order is that of LXC: the
// configuration's mounts come after proc and sys and before the nodes of /dev.
var steps = []step{
	{"separating the mounts", (*stage).separate},
	{"making the cgroup namespace", (*stage).unshareCgroup},
	{"making the session keyring", (*stage).joinKeyring},
	{"opening the AppArmor label", (*stage).openLabel},
	{"opening the program", (*stage).openSelf},
	{"setting process parameters", (*stage).setProc},
	{"setting up the network", (*stage).configureNet},
	hook("pre-mount"),
	{"mounting the root", (*stage).mountRoot},
	{"making /dev", (*stage).makeDev},
	{"mounting /proc", (*stage).mountProc},
	{"mounting /sys", (*stage).mountSys},
	{"", (*stage).mountEntries},
	{"mounting /sys/fs/cgroup", (*stage).mountCgroup},
	hook("mount"),
	{"exporting directories", (*stage).export},
	{"filling /dev", (*stage).fillDev},
	{"making the terminals", (*stage).makeTerminals},
	hook("autodev"),
	{"setting the host name", (*stage).setHostname},
	{"setting kernel parameters", (*stage).setSysctls},
	{"protecting /proc", (*stage).protectProc},
	{"applying the remount policy", (*stage).remountAll},
	{"changing the root", (*stage).pivot},
	{"opening the console", (*stage).openConsole},
	{"entering the working directory", (*stage).enterCwd},
	{"looking for init", (*stage).findInit},
	{"waiting for the launcher", (*stage).await},
	{"setting limits", (*stage).setLimits}, // after what they could make impossible, before what drops the right to it
	{"filtering system calls", (*stage).filterEarly},
	{"setting user and groups", (*stage).setUser},
	{"setting capabilities", (*stage).setCaps},
	{"setting the AppArmor profile", (*stage).setLabel},
	{"starting the second stage", (*stage).second},
	{"starting init", (*stage).exec},
}

// secondSteps are those of the second stage, see [stage.second].
var secondSteps = []step{
	hook("start"),
	{"looking for init", (*stage).findInit},
	{"starting init", (*stage).exec},
}

// Init runs the first or the second stage and does not return. The device binary calls it when its
// first argument is [StageArg].
func Init() {
	runtime.LockOSThread() // namespaces and capabilities belong to a thread
	nameStage()
	s := &stage{sock: stageFD, root: -1, tty: -1}
	markInherited("/proc/self/fd")
	p, err := receivePlan(stageFD)
	if err != nil {
		fmt.Fprintln(os.Stderr, StageArg+": "+err.Error())
		os.Exit(125)
	}
	s.plan, s.dir = p, p.Stage
	unix.Umask(0o022)
	list := steps
	if p.Second {
		list = secondSteps
	}
	for _, st := range list {
		if err := st.do(s); err != nil {
			s.fail(st.name, err)
		}
	}
}

// markInherited marks all descriptors but the standard ones close-on-exec. Those that
// the runtime and the first stage open are marked already, but the runtime may have
// inherited others. dir is /proc/self/fd, for kernels before Linux 5.11.
func markInherited(dir string) {
	if unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC) == nil {
		return
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		unix.CloseOnExec(stageFD)
	}
	markEach(entries)
}

func markEach(entries []os.DirEntry) {
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
}

// namedError is an error with its own step name, for example of one mount.
type namedError struct {
	name string
	err  error
}

func (e *namedError) Error() string { return e.name + ": " + e.err.Error() }

// fail reports the error to the launcher and ends the process.
func (s *stage) fail(name string, err error) {
	var named *namedError
	if name == "" && errors.As(err, &named) {
		name, err = named.name, named.err
	}
	text := err.Error()
	data, _ := json.Marshal(StepError{name, text[:min(len(text), 2048)]})
	_, _ = unix.Write(s.sock, data)
	os.Exit(125)
}

// receivePlan reads packets until the plan is complete.
func receivePlan(fd int) (*plan, error) {
	var data []byte
	buf := make([]byte, packet)
	for len(data) < planHead || len(data) < planHead+int(binary.NativeEndian.Uint32(data)) {
		n, err := unix.Read(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return nil, fmt.Errorf("receiving the plan: %w", errors.Join(err, errors.New("the plan is not complete")))
		}
		data = append(data, buf[:n]...)
	}
	p, err := decodePlan(data[planHead:])
	if err != nil {
		return nil, fmt.Errorf("reading the plan: %w", err)
	}
	return p, nil
}

// separate stops the propagation of mounts between the container and the device.
func (s *stage) separate() error {
	return unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
}

func (s *stage) unshareCgroup() error {
	if !s.plan.NewCgroup {
		return nil
	}
	err := unix.Unshare(unix.CLONE_NEWCGROUP)
	if err == unix.EINVAL { // a kernel without cgroup namespaces
		return nil
	}
	return err
}

// joinKeyring gives the container a session keyring of its own: in an inherited one,
// all containers and the runtime would find each other's keys (keyrings(7)). It ignores
// a kernel without keys, and one that denies the call.
func (s *stage) joinKeyring() error {
	if s.plan.SameKeys {
		return nil
	}
	_, err := unix.KeyctlInt(unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0)
	if err == unix.ENOSYS || err == unix.EPERM || err == unix.EOPNOTSUPP {
		return nil
	}
	return err
}

// configureNet configures the interfaces of the container's own network namespace.
func (s *stage) configureNet() error {
	if !s.plan.OwnNet {
		return nil
	}
	return network.Configure(s.plan.Links)
}

// pivot makes the container's root the root of this process and drops the device's.
func (s *stage) pivot() error {
	if err := unix.Fchdir(s.root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return err
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return err
	}
	_ = unix.Close(s.root)
	s.dir = "/"
	return unix.Chdir("/")
}

func (s *stage) setHostname() error {
	if s.plan.Hostname == "" {
		return nil
	}
	return unix.Sethostname([]byte(s.plan.Hostname))
}

func (s *stage) setLimits() error {
	for _, l := range s.plan.Limits {
		lim, err := parseLimit(l.Value)
		if err != nil {
			return err
		}
		limit, _ := find(limits, l.Key)
		if err := unix.Prlimit(0, limit, &lim, nil); err != nil {
			return fmt.Errorf("%s to %s: %w", l.Key, l.Value, err)
		}
	}
	return nil
}

// await waits for the launcher's work in beforeInit.
func (s *stage) await() error {
	if !s.plan.Wait {
		return nil
	}
	if _, err := unix.Write(s.sock, []byte(stageReady)); err != nil {
		return err
	}
	var b [1]byte
	for {
		n, err := unix.Read(s.sock, b[:])
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return err
		case n != 1:
			return errors.New("the launcher has closed the socket")
		default:
			return nil
		}
	}
}

// enterCwd enters init's working directory. It makes a missing one, as the tools do that
// images are made for.
func (s *stage) enterCwd() error {
	if s.plan.Cwd == "" {
		return nil
	}
	err := unix.Chdir(s.plan.Cwd)
	if !errors.Is(err, unix.ENOENT) {
		return wrapPath(s.plan.Cwd, err)
	}
	root, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(root)
	p, err := physical(root, s.plan.Cwd)
	if err != nil {
		return wrapPath(s.plan.Cwd, err)
	}
	fd, err := makeDirIn(root, p)
	if err != nil {
		return fmt.Errorf("%s does not exist and cannot be made: %w", s.plan.Cwd, err)
	}
	defer unix.Close(fd)
	return unix.Fchdir(fd)
}

// setSysctls writes kernel parameters of the container's namespaces.
func (s *stage) setSysctls() error {
	for _, k := range s.plan.Sysctls {
		if err := os.WriteFile("/proc/sys/"+k.Key, []byte(k.Value), 0); err != nil {
			return err
		}
	}
	return nil
}

// findInit looks up init before the last capabilities are dropped, so that the error
// can say why it cannot be executed.
func (s *stage) findInit() error {
	name := s.plan.Init[0]
	if strings.Contains(name, "/") {
		s.prog = name
		return executable(name)
	}
	for _, e := range s.plan.Env {
		if list, ok := strings.CutPrefix(e, "PATH="); ok {
			for _, dir := range filepath.SplitList(list) {
				if p := filepath.Join(dir, name); executable(p) == nil {
					s.prog = p
					return nil
				}
			}
		}
	}
	return fmt.Errorf("%s: %w", name, exec.ErrNotFound)
}

func executable(path string) error {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Mode&0o111 == 0 {
		return fmt.Errorf("%s is not an executable file", path)
	}
	return nil
}

// setUser becomes the configured user; root keeps its capabilities for setCaps.
func (s *stage) setUser() error {
	p := s.plan
	groups := make([]int, len(p.Groups))
	for i, g := range p.Groups {
		groups[i] = int(g)
	}
	if err := unix.Setgroups(groups); err != nil {
		return fmt.Errorf("the groups: %w", err)
	}
	if p.UID == 0 && p.GID == 0 {
		return nil
	}
	if err := dropBounding(p.Caps); err != nil { // needs setpcap, which setresuid drops
		return err
	}
	if err := unix.Setresgid(int(p.GID), int(p.GID), int(p.GID)); err != nil {
		return fmt.Errorf("group %d: %w", p.GID, err)
	}
	if err := unix.Setresuid(int(p.UID), int(p.UID), int(p.UID)); err != nil {
		return fmt.Errorf("user %d: %w", p.UID, err)
	}
	return nil
}

// setCaps drops the capabilities that the container must not have. The bounding set
// comes first: changing it needs a capability that the second part may drop.
func (s *stage) setCaps() error {
	p := s.plan
	if p.UID == 0 {
		if err := dropBounding(p.Caps); err != nil {
			return err
		}
		if err := setCapSets(p.Caps); err != nil {
			return err
		}
	}
	if p.NoNewPrivs {
		return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	}
	return nil
}

func dropBounding(keep uint64) error {
	for c := 0; c < 64; c++ {
		if c < len(capNames) && keep&(1<<c) != 0 {
			continue
		}
		err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0)
		if err == unix.EINVAL { // beyond the kernel's last capability
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// setCapSets sets the permitted and effective sets and clears the inheritable one.
func setCapSets(keep uint64) error {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return err
	}
	for i := range data {
		word := uint32(keep >> (32 * i))
		data[i].Permitted &= word
		data[i].Effective = data[i].Permitted
		data[i].Inheritable = 0
	}
	return unix.Capset(&hdr, &data[0])
}

// exec executes init. Descriptors other than the standard ones are close-on-exec, see
// [markInherited].
func (s *stage) exec() error {
	resetSignals()
	cpu := cpuOf(s.prog) // no call is allowed behind the filter
	if s.plan.Filter != nil {
		err := s.execFiltered(execution{path: s.prog, argv: s.plan.Init, env: s.plan.Env})
		return fmt.Errorf("%s: %w", s.prog, explain(err, cpu))
	}
	return fmt.Errorf("%s: %w", s.prog, explain(syscall.Exec(s.prog, s.plan.Init, s.plan.Env), cpu))
}

// resetSignals unblocks signals that the runtime may have blocked. execve resets the
// handlers, and a Go program ignores no signals by itself.
func resetSignals() {
	var none unix.Sigset_t
	_ = unix.PthreadSigmask(unix.SIG_SETMASK, &none, nil)
}
