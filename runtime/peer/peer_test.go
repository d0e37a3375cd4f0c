package peer

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func listen(t *testing.T, path string) *Listener {
	t.Helper()
	l, err := Listen(path, 0o666, 4)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func connect(t *testing.T, l *Listener) (client, server *Conn) {
	t.Helper()
	client, err := Dial(l.Path(), 0)
	if err != nil {
		t.Fatal(err)
	}
	server, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close(); _ = server.Close() })
	return client, server
}

func TestConnectionKnowsItsPeer(t *testing.T) {
	long := filepath.Join(t.TempDir(), strings.Repeat("d", 120))
	if err := os.Mkdir(long, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(t.TempDir(), "s"), filepath.Join(long, "socket")} {
		_, server := connect(t, listen(t, path))
		if server.PID != os.Getpid() || server.UID != os.Geteuid() {
			t.Errorf("%s: peer is %d of user %d, want %d of %d", path, server.PID, server.UID, os.Getpid(), os.Geteuid())
		}
		got, err := Identify(server, func(pid int) (int, error) { return pid + 1, nil })
		if err != nil || got != os.Getpid()+1 {
			t.Errorf("Identify = %d, %v", got, err)
		}
	}
}

// TestDialWaitsThroughSignals waits for a server whose queue is full, while signals
// interrupt the waiting thread.
func TestDialWaitsThroughSignals(t *testing.T) {
	l := listen(t, filepath.Join(t.TempDir(), "s"))
	for full := false; !full; {
		c, err := Dial(l.Path(), time.Millisecond)
		if full = errors.Is(err, os.ErrDeadlineExceeded); err == nil {
			defer c.Close()
		} else if !full {
			t.Fatal(err)
		}
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	thread, stop, stopped := unix.Gettid(), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
				_ = unix.Tgkill(os.Getpid(), thread, unix.SIGURG)
			}
		}
	}()
	if _, err := Dial(l.Path(), 50*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%v, want %v", err, os.ErrDeadlineExceeded)
	}
	close(stop)
	<-stopped
}

func TestIdentifyRefusesAPeerThatEnded(t *testing.T) {
	l := listen(t, filepath.Join(t.TempDir(), "s"))
	cmd := exec.Command(os.Args[0], "-test.run=TestDialChild")
	cmd.Env = append(os.Environ(), "PEER_DIAL="+l.Path())
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	if server.PID != cmd.Process.Pid {
		t.Fatalf("peer is %d, want the child %d", server.PID, cmd.Process.Pid)
	}
	_, err = Identify(server, func(int) (string, error) {
		_ = stdin.Close()
		_ = cmd.Wait()
		return "too late", nil
	})
	if !errors.Is(err, errGone) {
		t.Errorf("identifying a process that ended meanwhile: %v, want ErrGone", err)
	}
	if _, err := Identify(server, func(int) (string, error) { return "", nil }); !errors.Is(err, errGone) {
		t.Errorf("identifying a process that ended before: %v, want ErrGone", err)
	}
}

// TestDialChild is the other process of the test above.
func TestDialChild(t *testing.T) {
	path := os.Getenv("PEER_DIAL")
	if path == "" {
		t.Skip("runs only as a child of TestIdentifyRefusesAPeerThatEnded")
	}
	c, err := Dial(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = os.Stdin.Read(make([]byte, 1))
}

func TestListenReplacesOnlyASocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	if err := os.WriteFile(path, []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path, 0o666, 1); err == nil {
		t.Error("a plain file was replaced by a socket")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	first := listen(t, path)
	second := listen(t, path)
	_ = first.file.Close()
	connect(t, second)
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there after Close: %v", err)
	}
	if _, err := second.Accept(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Accept after Close: %v, want os.ErrClosed", err)
	}
}

// TestAcceptWithoutDescriptors runs in a process of its own, whose descriptors it uses up.
func TestAcceptWithoutDescriptors(t *testing.T) {
	if os.Getenv("PEER_FEW") == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestAcceptWithoutDescriptors$", "-test.v")
		cmd.Env = append(os.Environ(), "PEER_FEW=1")
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "PASS") {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	l := listen(t, filepath.Join(t.TempDir(), "s"))
	client, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 64, Max: 64}); err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = unix.Eventfd(0, 0)
	}
	if err := unix.Connect(client, &unix.SockaddrUnix{Name: l.Path()}); err != nil {
		t.Fatal(err)
	}
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Identify(conn, func(pid int) (string, error) { return Cgroup(pid, false) }); err != nil && !strings.Contains(err.Error(), "no cgroup") {
		t.Error(err)
	}
}

func TestParseCgroup(t *testing.T) {
	const both = "12:pids:/user\n3:name=pantavisor:/forged\n0::/lxc/app\n"
	for _, tt := range []struct {
		text  string
		named bool
		want  string
	}{
		{"0::/lxc/app\n", false, "/lxc/app"},
		{both, false, "/lxc/app"}, // who may mount can make a hierarchy of that name
		{both, true, "/forged"},
		{"3:name=pantavisor:/a:name=pantavisor:/b\n", true, "/a:name=pantavisor:/b"},
		{"0::/\n", false, "/"},
		{"0::/a:b\n", false, "/a:b"},
		{"0::/0::/b\n", false, "/0::/b"},
	} {
		if got, err := parseCgroup(tt.text, tt.named); err != nil || got != tt.want {
			t.Errorf("parseCgroup(%q, %v) = %q, %v, want %q", tt.text, tt.named, got, err, tt.want)
		}
	}
	for text, named := range map[string]bool{
		"4:pids:/x\nrubbish\n": false, "3:name=pantavisor:/x\n": false, "0::/x\n": true, "2:xname=pantavisor:/x\n": true, "3:pids:name=pantavisor:/x\n": true,
	} {
		if got, err := parseCgroup(text, named); err == nil {
			t.Errorf("parseCgroup(%q, %v) = %q; there is none", text, named, got)
		}
	}
}

type closer struct{ shut bool }

func (d *closer) Close() error { d.shut = true; return nil }

func TestGuardClosesConnectionsOfLargestPeer(t *testing.T) {
	g := &Guard{Max: 4, MaxPer: 3}
	var greedy []*closer
	for range 5 {
		d := &closer{}
		greedy = append(greedy, d)
		g.Admit("greedy", d)
	}
	if !greedy[0].shut || !greedy[1].shut || greedy[2].shut || g.Len() != 3 {
		t.Errorf("at its limit the peer must lose its oldest: %v, %d places taken", greedy, g.Len())
	}
	modest := []*closer{{}, {}}
	for _, d := range modest {
		if s := g.Admit("modest", d); s == nil {
			t.Error("a modest peer was refused")
		}
	}
	if modest[0].shut || !greedy[2].shut {
		t.Error("the greedy peer kept its place, the modest one lost it")
	}
}

func TestGuardKeepsBusyConnections(t *testing.T) {
	g := &Guard{Max: 2}
	a, b, c := &closer{}, &closer{}, &closer{}
	sa, sb := g.Admit("p", a), g.Admit("p", b)
	sa.Busy()
	sb.Busy()
	if s := g.Admit("q", c); s != nil || !c.shut || a.shut || b.shut {
		t.Error("a newcomer took the place of a connection at work")
	}
	sb.Idle()
	if s := g.Admit("q", &closer{}); s == nil || !b.shut {
		t.Error("an idle connection was not closed for a newcomer")
	}
	sb.Release()
	sa.Release()
	sa.Release()
	if g.Len() != 1 {
		t.Errorf("%d places taken, want 1", g.Len())
	}
}

type closed struct{ done chan struct{} }

func (c closed) Close() error { close(c.done); return nil }

func TestDrainWaitsForBusyConnections(t *testing.T) {
	var g Guard
	idle, busy := closed{make(chan struct{})}, closed{make(chan struct{})}
	g.Admit("a", idle)
	s := g.Admit("b", busy)
	s.Busy()
	g.Drain(time.Hour)
	<-idle.done
	select {
	case <-busy.done:
		t.Error("a connection at work was closed")
	default:
	}
	s.Waiting()
	select {
	case <-busy.done:
		t.Error("a connection whose peer has not taken the answer was closed")
	default:
	}
	s.Idle()
	<-busy.done
}

// TestGuardClosesLongestWaiting: a connection whose peer does not read loses its slot
// before one whose peer reads.
func TestGuardClosesLongestWaiting(t *testing.T) {
	g := &Guard{Max: 2}
	a, b := &closer{}, &closer{}
	sa, sb := g.Admit("p", a), g.Admit("p", b)
	sa.Waiting()
	sb.Waiting()
	sa.Waiting() // it has taken a piece
	if s := g.Admit("q", &closer{}); s == nil || a.shut || !b.shut {
		t.Errorf("the newcomer has place %v; closed: the reader %v, the other %v", s, a.shut, b.shut)
	}
}
