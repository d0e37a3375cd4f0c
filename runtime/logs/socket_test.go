package logs

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/runtime/peer"
)

// serving starts one of the sockets; the platform of peers is *who.
func serving(t *testing.T, who *atomic.Value, listen func(s *Server, path string) (func(context.Context) error, error)) (s *Server, dir, path string) {
	t.Helper()
	s, dir = start(t, Options{Identify: func(pid int) (string, error) {
		if pid != os.Getpid() {
			return "", errors.New("not the test")
		}
		return who.Load().(string), nil
	}})
	path = filepath.Join(t.TempDir(), "socket")
	serve, err := listen(s, path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return s, dir, path
}

// await returns when the file has the content; the test's own time is the limit.
func await(t *testing.T, s *Server, want string, path ...string) {
	t.Helper()
	file, got := filepath.Join(path...), ""
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		s.Flush()
		text, _ := os.ReadFile(file)
		if got = string(text); got == want {
			return
		}
	}
	t.Fatalf("%s holds %q, want %q", file, got, want)
}

func connect(t *testing.T, path string) *peer.Conn {
	t.Helper()
	var conn *peer.Conn
	var err error
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if conn, err = peer.Dial(path, 0); err == nil {
			t.Cleanup(func() { _ = conn.Close() })
			return conn
		}
	}
	t.Fatal(err)
	return nil
}

func as(platform string) *atomic.Value {
	var v atomic.Value
	v.Store(platform)
	return &v
}

func TestMessagesOverTheSocket(t *testing.T) {
	who := as("app")
	s, dir, path := serving(t, who, (*Server).ListenMessages)
	send := func(data string) *peer.Conn {
		t.Helper()
		conn := connect(t, path)
		if _, err := io.WriteString(conn, data); err != nil {
			t.Fatal(err)
		}
		return conn
	}
	_ = send("<14>one: a").Close()
	await(t, s, "one: a\n", dir, "0/app/one")

	open := send("<14>two: b")
	await(t, s, "two: b\n", dir, "0/app/two")
	if n, err := open.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("after one message without an end the connection gives %d, %v, want its end", n, err)
	}

	lib := send("<14>three: c\x00<14>three: d\x00")
	await(t, s, "three: c\nthree: d\n", dir, "0/app/three")
	if _, err := io.WriteString(lib, "<14>three: e\x00"); err != nil {
		t.Fatal(err)
	}
	await(t, s, "three: c\nthree: d\nthree: e\n", dir, "0/app/three")

	body := "3\x00" + "victim" + "\x00src\x00spoofed"
	spoof := string(legacy(0, int32(len(body)), body))
	_ = send(spoof).Close()
	await(t, s, "spoofed\n", dir, "0/app/src")
	who.Store(Runtime)
	_ = send(spoof).Close()
	await(t, s, "spoofed\n", dir, "0/victim/src")

	who.Store("")
	_ = send(`{"version":"0","level":"INFO","src":"json","message":"who am I"}`).Close()
	await(t, s, "who am I\n", dir, "0/unknown-platform/json")
	_ = send(string(legacy(256, 13, `{"code":1}   `))).Close()
	_ = send("level=INFO src=last message=still here").Close()
	await(t, s, "still here\n", dir, "0/unknown-platform/last")
}

func TestLongMessageIsCut(t *testing.T) {
	s, dir, path := serving(t, as("app"), (*Server).ListenMessages)
	conn := connect(t, path)
	go func() {
		_, _ = io.WriteString(conn, "level=INFO src=long message="+strings.Repeat("x", 3*maxMessage))
		_ = conn.Close()
	}()
	file := filepath.Join(dir, "0/app/long")
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		s.Flush()
		if st, err := os.Stat(file); err == nil && st.Size() > 0 {
			if st.Size() > maxMessage+1 {
				t.Errorf("%d bytes of one message were taken, bound is %d", st.Size(), maxMessage)
			}
			return
		}
	}
	t.Fatal("nothing of the message arrived")
}

// request sends a request on pv-fd-log.
func request(t *testing.T, path, platform, source string, action int32, file *os.File) {
	t.Helper()
	data := make([]byte, requestSize)
	copy(data, platform)
	copy(data[nameSize:], source)
	binary.NativeEndian.PutUint32(data[2*nameSize:], uint32(Warn))
	binary.NativeEndian.PutUint32(data[2*nameSize+4:], uint32(action))
	var rights []byte
	if file != nil {
		rights = unix.UnixRights(int(file.Fd()))
	}
	conn := connect(t, path)
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var sendErr error
	if err := raw.Write(func(fd uintptr) bool {
		sendErr = unix.Sendmsg(int(fd), data, rights, nil, 0)
		return true
	}); err != nil || sendErr != nil {
		t.Fatal(err, sendErr)
	}
	_ = conn.Close()
}

func TestDescriptorsOverTheSocket(t *testing.T) {
	who := as("app")
	s, dir, path := serving(t, who, (*Server).ListenDescriptors)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	request(t, path, "victim", "stdout", 1, r)
	_ = r.Close()
	if _, err := io.WriteString(w, "line\npart"); err != nil {
		t.Fatal(err)
	}
	await(t, s, "line\npart", dir, "0/app/stdout")
	request(t, path, "app", "stdout", 0, nil)
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		if _, err := io.WriteString(w, "after\n"); errors.Is(err, unix.EPIPE) {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the descriptor is still read after it was unsubscribed")
		}
	}
	who.Store(Runtime)
	r2, w2, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	request(t, path, "other", "lxc/console.log", 1, r2)
	_, _ = io.WriteString(w2, "for another\n")
	await(t, s, "for another\n", dir, "0/other/lxc/console.log")
	conn := connect(t, path)
	_, _ = io.WriteString(conn, "rubbish")
	_ = conn.Close()
	_ = w2.Close()
}

// TestOnlyStreamsAreRead subscribes to what never ends and to what ends at once; the
// server closes the connection without keeping a descriptor.
func TestOnlyStreamsAreRead(t *testing.T) {
	s, _, path := serving(t, as("app"), (*Server).ListenDescriptors)
	holes, err := os.Create(filepath.Join(t.TempDir(), "holes"))
	if err != nil {
		t.Fatal(err)
	}
	defer holes.Close()
	if err := holes.Truncate(1 << 40); err != nil {
		t.Fatal(err)
	}
	zero, err := os.Open("/dev/zero")
	if err != nil {
		t.Fatal(err)
	}
	defer zero.Close()
	for _, f := range []*os.File{holes, zero} {
		request(t, path, "app", "endless", 1, f)
	}
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	a, b := os.NewFile(uintptr(ends[0]), "a"), os.NewFile(uintptr(ends[1]), "b")
	defer b.Close()
	request(t, path, "app", "socket", 1, a) // comes after the others
	_ = a.Close()
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		s.subs.mu.Lock()
		taken, endless := s.subs.open[subscription{"app", "socket"}], s.subs.open[subscription{"app", "endless"}]
		s.subs.mu.Unlock()
		if endless != nil {
			t.Fatalf("%s is read", endless.Name())
		}
		if taken != nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the socket is not read")
		}
	}
	for f, want := range map[*os.File]bool{holes: false, zero: false, b: true} {
		if got := isStream(f); got != want {
			t.Errorf("%s is a stream: %v, want %v", f.Name(), got, want)
		}
	}
}

func TestSubscriptions(t *testing.T) {
	s, dir := start(t, Options{})
	r1, w1, _ := os.Pipe()
	r2, w2, _ := os.Pipe()
	if err := s.Subscribe(r1, "app", "console", Info); err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(w1, "one\n")
	await(t, s, "one\n", dir, "0/app/console")
	if err := s.Subscribe(r2, "app", "console", Info); err != nil {
		t.Fatal(err)
	}
	if _, err := r1.Read(nil); !errors.Is(err, os.ErrClosed) {
		t.Errorf("the file that was replaced is still open: %v", err)
	}
	_, _ = io.WriteString(w2, "two\n")
	_ = w2.Close()
	await(t, s, "one\ntwo\n", dir, "0/app/console")
	for i := range maxSubscriptions + 1 {
		r, w, _ := os.Pipe()
		defer w.Close()
		err := s.Subscribe(r, "many", strings.Repeat("s", i+1), Info)
		if (err != nil) != (i == maxSubscriptions) {
			t.Errorf("subscription %d: %v", i, err)
		}
	}
	s.Close()
	if err := s.Subscribe(r1, "app", "late", Info); err == nil {
		t.Error("a closed server took a subscription")
	}
}
