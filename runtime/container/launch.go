package container

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/runtime/devices"
	"github.com/pantavisor/pantavisor/runtime/entry"
	"github.com/pantavisor/pantavisor/runtime/logs"
	"github.com/pantavisor/pantavisor/runtime/network"
	"github.com/pantavisor/pantavisor/runtime/program"
)

// StageArg is the first argument of this binary when it runs as the first stage.
const StageArg = "container-init"

// stageFD is the first stage's end of the socket to the launcher.
const stageFD = 3

// setupTime bounds the first stage: mounts that hang must not hold a start forever.
const setupTime = 30 * time.Second

// Launcher starts containers.
type Launcher struct {
	// Tree holds the containers' control groups.
	Tree *Tree
	// Stage is an empty directory on which each container's root is mounted, in its
	// own mount namespace; all containers share it.
	Stage string
	// Entries is the directory for the entry of each running container (package entry); ""
	// writes none.
	Entries string
	// Network makes interfaces of containers; nil makes none.
	Network *network.Host
	// Log takes warnings about settings without effect, and what hooks print.
	Log logs.Logger

	residents residents
}

// StepError is the error of one step of a start.
type StepError struct {
	Step string // in gerund form: "mounting tmpfs on /run"
	Err  string
}

func (e *StepError) Error() string { return e.Step + ": " + e.Err }

// Start starts a container and returns once its init runs, that is after execve.
// When the start fails, nothing of the container is left.
func (l *Launcher) Start(s Start) (*Process, error) {
	p, err := s.plan(l.Stage, l.Tree.v2)
	if err != nil {
		return nil, fmt.Errorf("starting container %s: %w", s.Name, err)
	}
	set := l.Tree.settings(s.Config)
	for _, n := range set.notes {
		l.Log.Warnf("container %s: %s", s.Name, n)
	}
	g, err := l.Tree.group(s.Name, set.unified)
	if err != nil {
		return nil, fmt.Errorf("starting container %s: %w", s.Name, err)
	}
	st := &starting{Launcher: l, Start: s, plan: p, group: g, set: set, hooking: s.hooking(l.Stage)}
	proc, err := st.launch()
	if err != nil {
		_ = st.tearDown()
		return nil, fmt.Errorf("starting container %s: %w", s.Name, err)
	}
	return proc, nil
}

// starting is a start in progress.
type starting struct {
	*Launcher
	Start
	plan    *plan
	group   *Group
	set     settings
	hooking hooking
	spaces  []space // kept open for the stop hooks
	// attached is the host's side of the network.
	attached *network.Attachment
	exported []*os.File // mounts below ExportDir
	// confined is set once the stage is no more privileged than the container: a
	// program of the container may then write to the socket in its place.
	confined bool
}

// prepare does the work that does not need a process of the container.
func (st *starting) prepare() (err error) {
	for _, h := range st.Config.Hooks {
		if err := st.checkHook(h); err != nil {
			return err
		}
	}
	if st.plan.Filter, err = st.filter(); err != nil {
		return err
	}
	st.plan.AppArmor = st.appArmor()
	st.plan.Remounts = st.remounts()
	st.plan.Hooking = st.hooking
	// A mount that init makes below an export is seen outside only when the export is
	// already mounted there: the kernel does not propagate to detached mounts.
	st.plan.Wait = st.set.devices.Restricts() || len(st.Config.hooks("start-host")) > 0 || len(st.plan.Exports) > 0 || st.plan.second() != nil
	return st.outside("pre-start", nil, nil)
}

// remounts returns the valid rules and logs the others.
func (st *starting) remounts() (list []Remount) {
	for _, r := range st.Remounts {
		if err := r.check(); err != nil {
			st.Log.Warnf("container %s: the remount policy: %v", st.Name, err)
			continue
		}
		list = append(list, r)
	}
	return list
}

func (st *starting) launch() (*Process, error) {
	if err := st.prepare(); err != nil {
		return nil, err
	}
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer ours.Close()
	proc, err := spawn(st.Config.cloneFlags(), theirs, st.group)
	_ = theirs.Close()
	if err != nil {
		return nil, err
	}
	proc.Name, proc.halt, proc.start = st.Name, st.Config.HaltSignal, st
	err = st.residents.enter(st.Name, proc.PID, st.Config.cloneFlags()&unix.CLONE_NEWPID != 0)
	if err == nil {
		err = st.setUp(proc, ours)
	}
	if err == nil && st.Entries != "" { // not before: a container that is not complete must not be entered
		err = entry.Write(st.Entries, st.Name, entry.Entry{PID: proc.PID, Filter: st.plan.Filter})
	}
	if err != nil {
		proc.abandon()
		return nil, err
	}
	go proc.watch()
	return proc, nil
}

// beforeInit does the launcher's work when the container is complete, just before its
// init runs. Device rules come only now: the first stage makes nodes that the container
// may not make.
func (st *starting) beforeInit(p *Process) error {
	if err := st.outside("start-host", nil, []string{"LXC_PID=" + strconv.Itoa(p.PID)}); err != nil {
		return err
	}
	if !st.set.devices.Restricts() {
		return nil
	}
	err := st.group.restrict(st.set.devices, p.PID)
	if errors.Is(err, devices.ErrNoBPF) {
		st.Log.Warnf("container %s: device rules are not enforced: %v", st.Name, err)
		return nil
	}
	return err
}

// socketPair makes the socket between launcher and first stage.
func socketPair() (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("making the socket to the first stage: %w", err)
	}
	_ = unix.SetNonblock(fds[0], true)
	return os.NewFile(uintptr(fds[0]), "launcher"), os.NewFile(uintptr(fds[1]), "stage"), nil
}

// stageEnv is the environment of the stages: they live too briefly to collect garbage.
var stageEnv = []string{"GOMAXPROCS=1", "GOGC=off"}

// self is this program; the first stage runs in it. Tests replace it.
var self = program.Path

// spawn clones the first stage into its namespaces and group.
func spawn(flags uintptr, sock *os.File, g *Group) (*Process, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("cloning the first stage: %w", err)
	}
	defer null.Close()
	n, pidfd := null.Fd(), -1
	attr := &syscall.ProcAttr{
		Env: stageEnv, Files: []uintptr{n, n, n, sock.Fd()},
		Sys: &syscall.SysProcAttr{
			Cloneflags: flags, PidFD: &pidfd, Setsid: true,
			UseCgroupFD: g.fd >= 0, CgroupFD: g.fd,
		},
	}
	path, err := self()
	if err != nil {
		return nil, fmt.Errorf("cloning the first stage: %w", err)
	}
	pid, err := syscall.ForkExec(path, []string{StageArg}, attr)
	g.close()
	if err != nil {
		return nil, fmt.Errorf("cloning the first stage: %w", err)
	}
	proc := &Process{PID: pid, group: g, done: make(chan struct{})}
	if err := proc.hold(pidfd); err != nil {
		_ = unix.Kill(pid, unix.SIGKILL)
		_, _ = unix.Wait4(pid, nil, 0, nil)
		return nil, err
	}
	return proc, nil
}

// setUp sends the plan and waits for the first stage's messages.
func (st *starting) setUp(p *Process, sock *os.File) error {
	if !p.group.tree.v2 {
		if err := p.group.add(p.PID); err != nil {
			return err
		}
	}
	notes, err := p.group.setLegacy(st.set, p.PID)
	if err != nil {
		return err
	}
	for _, n := range notes {
		st.Log.Warnf("container %s: %s", st.Name, n)
	}
	if err := st.holdSpaces(p.PID); err != nil {
		return err
	}
	if err := st.connect(p.PID); err != nil {
		return err
	}
	if err := sock.SetDeadline(time.Now().Add(setupTime)); err != nil {
		return fmt.Errorf("talking to the first stage: %w", err)
	}
	if err := sendPlan(sock, st.plan); err != nil {
		return err
	}
	for {
		more, err := st.hear(p, sock)
		if err != nil || !more {
			return err
		}
	}
}

// packet is the largest packet on the socket, in bytes.
const packet = 8 << 10

// planHead is the length of the header before the plan: its size in bytes.
const planHead = 4

// sendPlan sends the plan in packets.
func sendPlan(sock *os.File, p *plan) error {
	data := p.encode()
	head := binary.NativeEndian.AppendUint32(make([]byte, 0, planHead+len(data)), uint32(len(data)))
	for part := range slices.Chunk(append(head, data...), packet) {
		if _, err := sock.Write(part); err != nil {
			return fmt.Errorf("sending the plan to the first stage: %w", err)
		}
	}
	return nil
}

// Messages of the first stage.
const (
	stageReady = "ready" // all is done but starting init; it waits for an answer
	stageLog   = "log "  // followed by a text for the log
	stageTty   = "tty"   // with the master sides of terminals
)

// hear handles one packet: a terminal, an export, that the stage is ready, a text, or a
// failure. It returns false at end of file.
func (st *starting) hear(p *Process, sock *os.File) (bool, error) {
	data, fds, err := receive(sock)
	if errors.Is(err, io.EOF) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("waiting for the first stage: %w", err)
	}
	if st.confined && (len(fds) > 0 || string(data) == stageReady) {
		closeAll(fds)
		return false, errors.New("running the hook start: the container has sent a message of the first stage")
	}
	if len(fds) > 0 {
		return true, st.take(p, string(data), fds)
	}
	if string(data) == stageReady {
		return true, st.goOn(p, sock)
	}
	if text, ok := bytes.CutPrefix(data, []byte(stageLog)); ok {
		st.Log.Infof("container %s: %s", st.Name, text)
		return true, nil
	}
	e := &StepError{}
	if err := json.Unmarshal(data, e); err != nil {
		return false, fmt.Errorf("reading the first stage's message %q: %w", data, err)
	}
	return false, e
}

// goOn lets the first stage start init, or the second stage with its plan.
func (st *starting) goOn(p *Process, sock *os.File) error {
	if err := st.beforeInit(p); err != nil {
		return err
	}
	if _, err := sock.Write([]byte("\n")); err != nil {
		return fmt.Errorf("telling the first stage to go on: %w", err)
	}
	st.confined = true
	if second := st.plan.second(); second != nil {
		return sendPlan(sock, second)
	}
	return nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}

// take keeps the descriptors that came with a message. Only the console is ever read,
// so the poller does not need the others.
func (st *starting) take(p *Process, word string, fds []int) error {
	if word == stageTty {
		p.ttys = append(p.ttys, fds...)
		return nil
	}
	if n, ok := strings.CutPrefix(word, stageExport); ok {
		return st.placeExport(n, os.NewFile(uintptr(fds[0]), word))
	}
	_ = unix.SetNonblock(fds[0], true)
	p.Console = os.NewFile(uintptr(fds[0]), word+" of "+strconv.Itoa(p.PID))
	return nil
}

// receive reads a packet and the descriptors in it.
func receive(sock *os.File) (data []byte, fds []int, err error) {
	raw, err := sock.SyscallConn()
	if err != nil {
		return nil, nil, err
	}
	buf, oob := make([]byte, 8192), make([]byte, unix.CmsgSpace(4*ttyBatch))
	var n, oobn int
	var got error
	err = raw.Read(func(s uintptr) bool {
		n, oobn, _, _, got = unix.Recvmsg(int(s), buf, oob, unix.MSG_CMSG_CLOEXEC)
		return got != unix.EAGAIN
	})
	if err = errors.Join(err, got); err != nil {
		return nil, nil, err
	}
	if fds = rights(oob[:oobn]); n == 0 && len(fds) == 0 {
		return nil, nil, io.EOF
	}
	return buf[:n], fds, nil
}

// rights returns the descriptors in a control message.
func rights(oob []byte) []int {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	for i := range msgs {
		if fds, err := unix.ParseUnixRights(&msgs[i]); err == nil && len(fds) > 0 {
			return fds
		}
	}
	return nil
}
