package client

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
)

// listed is a client of a device that answers with this list of updates.
func listed(list string) *Client {
	return &Client{Dial: func(context.Context) (io.ReadWriteCloser, error) {
		near, far := net.Pipe()
		go func() {
			defer far.Close()
			if _, err := bufio.NewReader(far).ReadString('\n'); err != nil {
				return
			}
			_, _ = fmt.Fprintf(far, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(list), list)
		}()
		return near, nil
	}}
}

var errDown = errors.New("connection refused")

// TestWaitOverARestart waits for an update that restarts the device.
func TestWaitOverARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answers := []error{&Refused{Status: 503}, errDown, errDown, &Refused{Status: 503}, errDown, nil}
		busy := 0
		send := func() error {
			err := answers[0]
			answers = answers[1:]
			return err
		}
		before, then := listed(`[]`), listed(`[{"number":7,"revision":"locals/a","status":"DONE","path":[]}]`)
		looks := 0
		c := &Client{Dial: func(ctx context.Context) (io.ReadWriteCloser, error) {
			if looks++; looks == 1 {
				return before.Dial(ctx)
			}
			return then.Dial(ctx)
		}}
		u, err := c.Update(t.Context(), "locals/a", send, Watch{Busy: func() { busy++ }})
		if err != nil || u.Number != 7 || busy != 1 || len(answers) != 0 {
			t.Errorf("%+v, %v; told %d times, %d answers left", u, err, busy, len(answers))
		}
	})
}

func TestWaitEnds(t *testing.T) {
	for name, tt := range map[string]struct {
		answers func(n int) error
		want    string
		after   time.Duration
	}{
		"a device that was never there": {func(int) error { return errDown }, "connection refused", 0},
		"a device that does not come back": {func(n int) error {
			if n == 0 {
				return &Refused{Status: 503}
			}
			return errDown
		}, "connection refused", absence},
		"another answer": {func(n int) error {
			if n == 0 {
				return &Refused{Status: 503}
			}
			return &Refused{Status: 404, Body: `{"Error":"none"}`}
		}, "none", 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n, began := 0, time.Now()
				_, err := listed(`[]`).Update(t.Context(), "locals/a", func() error { n++; return tt.answers(n - 1) }, Watch{})
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("it ended with %v", err)
				}
				if took := time.Since(began); took < tt.after || took > tt.after+5*time.Second {
					t.Errorf("it took %v, want %v", took, tt.after)
				}
			})
		})
	}
}

// TestStagedIsFollowedUntilItWaits follows an update that is to wait for a reboot.
func TestStagedIsFollowedUntilItWaits(t *testing.T) {
	for end, status := range map[string]string{"Update installed, waiting for a reboot": "QUEUED", "Space required 7 B, available 5 B": "WONTGO"} {
		synctest.Test(t, func(t *testing.T) {
			looks := 0
			c := &Client{Dial: func(ctx context.Context) (io.ReadWriteCloser, error) {
				list := `[]`
				switch looks++; {
				case looks > 3:
					list = `[{"number":7,"revision":"locals/a","status":"` + status + `","message":"` + end + `","when":"reboot","path":[]}]`
				case looks > 1:
					list = `[{"number":7,"revision":"locals/a","status":"QUEUED","message":"` + api.Preparing + `","when":"reboot","path":[]}]`
				}
				return listed(list).Dial(ctx)
			}}
			u, err := c.Update(t.Context(), "locals/a", func() error { return nil }, Watch{})
			if err != nil || u.Status != status || u.Message != end {
				t.Errorf("%+v, %v", u, err)
			}
		})
	}
}
