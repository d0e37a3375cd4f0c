package ctrl

import (
	"bufio"
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestFindPort(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "vport0p1/name"), "org.qemu.guest_agent.0\n")
	write(t, filepath.Join(dir, "vport2p1/name"), portName+"\n")
	if got := findPort(dir, portName); got != "vport2p1" {
		t.Errorf("found %q", got)
	}
	if got := findPort(dir, "other"); got != "" {
		t.Errorf("found %q", got)
	}
}

// TestPortHostsComeAndGo drives the port with two named pipes: like the port, the
// reading end of one gives 0 bytes while nobody has its other end open.
func TestPortHostsComeAndGo(t *testing.T) {
	dir := t.TempDir()
	down, up := filepath.Join(dir, "down"), filepath.Join(dir, "up")
	for _, path := range []string{down, up} {
		if err := unix.Mkfifo(path, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	open := func(path string, mode int) *os.File {
		f, err := os.OpenFile(path, mode|unix.O_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	in := open(down, os.O_RDONLY)
	answers := open(up, os.O_RDWR)
	p := &port{in: in, out: open(up, os.O_WRONLY)}
	s := newTestServer(t, newFake())
	ctx, cancel := context.WithCancel(context.Background())
	ended, sessions := make(chan struct{}), make(chan struct{}, 4)
	go func() {
		defer close(ended)
		for ctx.Err() == nil && !p.dead() {
			s.ServeConn(ctx, &portSession{port: p}, portCaller)
			sessions <- struct{}{}
		}
	}()
	_ = answers.SetReadDeadline(time.Now().Add(20 * time.Second))
	from := bufio.NewReader(answers)
	for i, raw := range []string{
		"GET /user-meta HTTP/1.1\r\n\r\nGET /user-meta HTTP/1.1\r\nConnection: close\r\n\r\n",
		"GET /half", // this host leaves in the middle of a request
		"GET /user-meta HTTP/1.1\r\nConnection: close\r\n\r\n",
	} {
		host := open(down, os.O_WRONLY)
		if _, err := io.WriteString(host, raw); err != nil {
			t.Fatal(err)
		}
		for range []int{2, 0, 1}[i] {
			r, err := readResponse(from, "GET")
			if err != nil || r == nil || r.body != "{}" {
				t.Fatalf("host %d: %+v, %v", i, r, err)
			}
		}
		_ = host.Close()
		<-sessions
	}
	cancel()
	_ = in.Close()
	<-ended
}
