package ctrl

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/internal/serialconn"
)

func TestSerialPort(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"console=ttyS1 pv_hostport=ttyUSB0 pv_rev=0": "ttyUSB0", "console=ttyUSB0": "", "pv_hostport=": "", "pv_hostport=../sda": "",
		"pv_hostport=sda": "", "pv_hostport=tty": "", "pv_hostport=ttyZ9": "ttyZ9", "pv_hostport=tty0123456789abcdef": "tty0123456789abcdef", "pv_hostport=tty0123456789abcdefg": "", "pv_hostport=tty[0": "", "pv_hostport=ttyé": "", "xpv_hostport=ttyS1": "", "pv_hostport=ttyS1/../sda": "",
	} {
		if got := SerialPort(line); got != want {
			t.Errorf("%q names %q, want %q", line, got, want)
		}
	}
}

// TestSerialLine asks over a terminal, which is neither raw nor without echo before.
func TestSerialLine(t *testing.T) {
	t.Parallel()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	s := newTestServer(t, newFake())
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.serveTTY(ctx, fmt.Sprintf("/dev/pts/%d", number)) }()
	host := serialconn.NewHost(master)
	for range 2 {
		c, err := host.Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, "GET /containers HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		if res.StatusCode != http.StatusOK {
			t.Errorf("answer %s", res.Status)
		}
		_ = c.Close()
	}
	cancel()
	<-ended
}
