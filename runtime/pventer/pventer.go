// Package pventer runs a command or a shell inside a running container (manual:
// pventer). It joins the container's control group and namespaces, takes its
// capabilities and the environment of its first process, and hands the terminal on.
//
// Joining a mount namespace needs a thread that shares nothing of its file
// system view with others, and joining a PID namespace counts only for children.
// So one locked thread joins everything and starts the command; it ends with the program.
package pventer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/runtime/ctrl/client"
	"github.com/pantavisor/pantavisor/runtime/entry"
	"github.com/pantavisor/pantavisor/runtime/peer"
	"github.com/pantavisor/pantavisor/runtime/program"
)

const (
	exitFailed    = 1
	exitNoProgram = 127     // as shells have it
	maxPasswd     = 1 << 20 // bytes of a container's passwd file that are read
)

const usage = `usage: pventer -c CONTAINER [COMMAND ...]

Runs a command in a running container; without one, its shell. One word is a line
for that shell, several are run as they stand. CONTAINER / is the runtime itself.
PVUSER names another user of the container than root.

  pventer -c app
  pventer -c app ps aux
  pventer -c app 'ls /tmp | wc -l'

Exit codes: the command's; 128 and the number of the signal that ended it; 127 when
the container has no such program; 1 when there is no such container, or for wrong words.
`

// errUnknown is printed as it is.
var errUnknown = errors.New("no container found")

// errNoProgram is a command that the container does not have.
var errNoProgram = errors.New("there is no such program in the container")

// Run is the program; args are without its name. It returns the command's exit
// code, 128 and the number of the signal that ended it, 127 without such a program, or 1.
func Run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if len(args) == 1 && (args[0] == "-h" || args[0] == "--help") {
		fmt.Fprint(stdout, usage)
		return 0
	}
	name, words, err := parse(args)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return exitFailed
	}
	if err := program.Rerun(); err != nil { // whom it meets in there must not write to it
		fmt.Fprintf(stderr, "pventer: %v\n", err)
		return exitFailed
	}
	code, err := enter(ctx, name, words, stdin, stdout, stderr)
	switch {
	case errors.Is(err, errUnknown):
		fmt.Fprintln(stdout, errUnknown)
		fmt.Fprintf(stderr, "pventer: container %s does not run; pvcontrol ls tells which do\n", name)
	case errors.Is(err, errNoProgram):
		fmt.Fprintf(stderr, "pventer: %v\n", err)
		return exitNoProgram
	case err != nil:
		fmt.Fprintf(stderr, "pventer: %v\n", err)
	default:
		return code
	}
	return exitFailed
}

func parse(args []string) (name string, words []string, err error) {
	if len(args) >= 2 && args[0] == "-c" && args[1] != "" {
		return args[1], args[2:], nil
	}
	return "", nil, errors.New("usage: pventer -c CONTAINER [COMMAND ...]; pventer --help tells more")
}

// enter finds the container's first process and runs the words beside it.
func enter(ctx context.Context, name string, words []string, stdin io.Reader, stdout, stderr io.Writer) (int, error) {
	home := hosted()
	in := entry.Entry{PID: home.PID}
	runtimeItself := name == "/" || name == "_pv_"
	if !runtimeItself {
		var err error
		if in, err = enterable(home, name); err != nil {
			return 0, err
		}
	}
	v := &visit{host: runtimeItself, pid: in.PID, runtime: home.PID, filter: in.Filter, words: words, stdin: stdin, stdout: stdout, stderr: stderr}
	t, err := v.standIn()
	if err != nil {
		return 0, err
	}
	if t != nil {
		t.start()
		defer t.end()
	}
	ended := make(chan error, 1)
	go func() {
		// Never unlocked: the thread is of no use to anybody else and ends with this goroutine.
		runtime.LockOSThread()
		ended <- v.run(ctx)
	}()
	err = <-ended
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if st, ok := exit.Sys().(syscall.WaitStatus); ok && st.Signaled() {
			return 128 + int(st.Signal()), nil
		}
		return exit.ExitCode(), nil
	}
	return 0, err
}

// enterable finds a running container: in the runtime's list of them, or without a list by
// the control group.
func enterable(h home, name string) (entry.Entry, error) {
	list := filepath.Join(runDir(), entry.Dir)
	if _, err := os.Stat(list); err != nil {
		pid := find("/proc", h.Cgroup, name)
		if pid == 0 {
			return entry.Entry{}, errUnknown
		}
		if field(filepath.Join("/proc", strconv.Itoa(pid), "status"), "Seccomp") == "2" {
			return entry.Entry{}, fmt.Errorf("the container's system call filter is not known: there is no directory %s", list)
		}
		return entry.Entry{PID: pid}, nil
	}
	in, err := entry.Read(list, name)
	if errors.Is(err, fs.ErrNotExist) {
		return in, errUnknown
	}
	if err == nil && containerOf(in.PID, h.Cgroup) == "" { // the runtime was killed
		return in, errUnknown
	}
	return in, err
}

// find returns the process ID of a container's first process: the one in the
// control group lxc/NAME that is process 1 of its PID namespace, or else the
// group's lowest number. 0 means that there is none.
func find(proc, tree, name string) int {
	entries, err := os.ReadDir(proc)
	if err != nil {
		return 0
	}
	lowest := 0
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || containerOf(pid, tree) != name {
			continue
		}
		if isInit(filepath.Join(proc, e.Name(), "status")) {
			return pid
		}
		if lowest == 0 || pid < lowest {
			lowest = pid
		}
	}
	return lowest
}

// home is the runtime whose containers are meant.
type home struct {
	PID    int    `json:"pid"`
	Cgroup string `json:"cgroup"` // its tree; "" means any
}

// hosted is the runtime of the installation that this program belongs to (App
// Engine): of several on a machine, its own. On a device it is process 1.
func hosted() home {
	h := home{PID: 1}
	exe, err := program.File()
	if err != nil {
		return h
	}
	if text, err := os.ReadFile(filepath.Join(filepath.Dir(exe), filepath.Dir(filepath.Dir(client.HostedSocket)), "pv.json")); err == nil {
		_ = json.Unmarshal(text, &h) // a damaged one says nothing
	}
	return h
}

// containerOf is the container of a process by its control group below a runtime's
// tree, "" for none.
func containerOf(pid int, tree string) string {
	group, err := peer.Cgroup(pid, !unified())
	if err != nil || !strings.HasPrefix(group, tree) {
		return ""
	}
	return nameIn(group)
}

// unifiedRoots are where machines have the cgroup v2 tree.
var unifiedRoots = []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"}

// unified reports whether this machine has the cgroup v2 tree, which then counts.
func unified() bool {
	for _, root := range unifiedRoots {
		var st unix.Statfs_t
		if unix.Statfs(root, &st) == nil && uint32(st.Type) == unix.CGROUP2_SUPER_MAGIC {
			return true
		}
	}
	return false
}

// nameIn returns what follows the first "lxc" in the path of a control group.
func nameIn(group string) string {
	_, rest, ok := strings.Cut(group+"/", "/lxc/")
	if !ok {
		return ""
	}
	name, _, _ := strings.Cut(rest, "/")
	return name
}

// isInit reports whether a process is the first of a PID namespace below ours.
func isInit(status string) bool {
	ids := strings.Fields(field(status, "NSpid"))
	return len(ids) > 1 && ids[len(ids)-1] == "1"
}

// field returns the value of a line of /proc/PID/status.
func field(path, name string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// visit is one command in one container.
type visit struct {
	host           bool // the runtime itself is meant
	pid            int
	runtime        int // process ID of the runtime
	filter         []byte
	words          []string
	stdin          io.Reader
	stdout, stderr io.Writer
	own            *os.File // the command's terminal; nil without
}

func (v *visit) proc(file string) string {
	return filepath.Join("/proc", strconv.Itoa(v.pid), file)
}

// namespaces in the order of joining: the user namespace would have to be first,
// the mount namespace last, as /proc is needed until then.
var namespaces = []struct {
	file string
	flag int
}{
	{"cgroup", unix.CLONE_NEWCGROUP}, {"ipc", unix.CLONE_NEWIPC}, {"uts", unix.CLONE_NEWUTS},
	{"net", unix.CLONE_NEWNET}, {"pid", unix.CLONE_NEWPID}, {"mnt", unix.CLONE_NEWNS},
}

// run does all that must happen in one thread, and waits for the command.
func (v *visit) run(ctx context.Context) error {
	environ, err := os.ReadFile(v.proc("environ"))
	if err != nil {
		return fmt.Errorf("reading the container's environment: %w", err)
	}
	r, err := v.rights()
	if err != nil {
		return err
	}
	if err := v.join(); err != nil {
		return err
	}
	cmd, err := v.command(ctx, strings.Split(strings.TrimRight(string(environ), "\x00"), "\x00"))
	if err != nil {
		return err
	}
	if err := r.take(); err != nil {
		return err
	}
	return v.start(cmd)
}

// join enters the control group and every namespace that differs from ours.
func (v *visit) join() error {
	if !v.host {
		if err := v.joinGroups(); err != nil {
			return err
		}
	}
	if differs, err := v.differs("user"); err != nil || differs {
		return errors.Join(err, errors.New("entering the container: it has a user namespace of its own, which a program with several threads cannot join"))
	}
	var open []*os.File
	var flags []int
	defer func() {
		for _, f := range open {
			_ = f.Close()
		}
	}()
	for _, ns := range namespaces {
		differs, err := v.differs(ns.file)
		if err != nil || !differs {
			continue // the same, or one that this kernel does not know
		}
		f, err := os.Open(v.proc("ns/" + ns.file))
		if err != nil {
			return fmt.Errorf("opening the container's %s namespace: %w", ns.file, err)
		}
		open, flags = append(open, f), append(flags, ns.flag)
	}
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("taking a thread apart: %w", err)
	}
	for i, f := range open {
		if err := unix.Setns(int(f.Fd()), flags[i]); err != nil {
			return fmt.Errorf("joining %s: %w", f.Name(), err)
		}
	}
	return nil
}

func (v *visit) differs(ns string) (bool, error) {
	own, err := os.Readlink("/proc/self/ns/" + ns)
	if err != nil {
		return false, err
	}
	other, err := os.Readlink(v.proc("ns/" + ns))
	return own != other, err
}

// limit drops the capabilities that the container does not have from the
// bounding set: what is started gets none of them.
func limit(bounding uint64) error {
	for c := range uintptr(64) {
		if bounding&(1<<c) != 0 {
			continue
		}
		switch err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); {
		case errors.Is(err, unix.EINVAL):
			return nil // beyond the last one that this kernel knows
		case err != nil:
			return fmt.Errorf("dropping capability %d: %w", c, err)
		}
	}
	return nil
}

// user is what the container's passwd file says of one.
type user struct {
	name, home, shell string
	uid, gid          uint32
}

// lookUp finds a user; one that is not there is root with /bin/sh.
func lookUp(passwd []byte, name string) user {
	for line := range bytes.Lines(passwd) {
		f := strings.Split(strings.TrimRight(string(line), "\n"), ":")
		if len(f) < 7 || f[0] != name {
			continue
		}
		uid, err1 := strconv.ParseUint(f[2], 10, 32)
		gid, err2 := strconv.ParseUint(f[3], 10, 32)
		if err1 != nil || err2 != nil {
			continue
		}
		u := user{name: name, home: f[5], shell: f[6], uid: uint32(uid), gid: uint32(gid)}
		if u.shell == "" {
			u.shell = "/bin/sh"
		}
		return u
	}
	return user{name: "root", home: "/", shell: "/bin/sh"}
}

func readPasswd() []byte {
	// The container may have anything there: opening a FIFO would wait for a writer.
	f, err := os.OpenFile("/etc/passwd", os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return nil
	}
	text, _ := io.ReadAll(io.LimitReader(f, maxPasswd))
	return text
}

// commandLine is what to run: no words mean the user's shell, one word is a line
// for that shell, as ssh has it, and several are run as they stand, so that words
// with spaces stay whole. A container without a shell gets its word run.
func commandLine(words []string, shell string) []string {
	if len(words) == 0 {
		return []string{shell}
	}
	if _, err := os.Stat(shell); len(words) > 1 || err != nil {
		return words
	}
	return []string{shell, "-c", words[0]}
}

// command makes the command of the words, or of the user's shell.
func (v *visit) command(ctx context.Context, environ []string) (*exec.Cmd, error) {
	name := os.Getenv("PVUSER")
	if name == "" {
		name = "root"
	}
	u := lookUp(readPasswd(), name)
	if u.name != name {
		return nil, fmt.Errorf("looking for user %s of PVUSER: the container's /etc/passwd has none such", name)
	}
	words := commandLine(v.words, u.shell)
	env := withEnv(environ, "HOME="+u.home, "USER="+u.name, "SHELL="+u.shell)
	if term := os.Getenv("TERM"); term != "" {
		env = withEnv(env, "TERM="+term)
	}
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	if cmd.Err != nil || !filepath.IsAbs(cmd.Path) {
		cmd.Path, cmd.Err = lookPath(words[0], env)
	}
	cmd.Env, cmd.Dir = env, u.home
	if st, err := os.Stat(u.home); err != nil || !st.IsDir() {
		cmd.Dir = "/"
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = v.stdin, v.stdout, v.stderr
	cmd.SysProcAttr = v.session()
	if u.uid != 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: u.uid, Gid: u.gid}
	}
	return cmd, nil
}

// start starts the command and waits for it.
func (v *visit) start(cmd *exec.Cmd) error {
	// The terminal's signals are for the command; caught ones are reset in it, ignored ones would not be.
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, unix.SIGINT, unix.SIGQUIT)
	defer signal.Stop(caught)
	err := cmd.Run()
	if cmd.Process == nil && errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("starting %s: %w", cmd.Args[0], errNoProgram)
	}
	return err
}

// withEnv sets variables in place of those of the same name.
func withEnv(env []string, vars ...string) []string {
	var out []string
	for _, e := range env {
		keep := strings.Contains(e, "=")
		for _, v := range vars {
			key, _, _ := strings.Cut(v, "=")
			keep = keep && !strings.HasPrefix(e, key+"=")
		}
		if keep {
			out = append(out, e)
		}
	}
	return append(out, vars...)
}

// lookPath finds a program by the container's PATH.
func lookPath(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	path := "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			path = v
		}
	}
	for _, dir := range filepath.SplitList(path) {
		full := filepath.Join(dir, name)
		if st, err := os.Stat(full); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return full, nil
		}
	}
	return "", fmt.Errorf("starting %s: %w", name, errNoProgram)
}
