package emulator

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/serialconn"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
)

// API asks the device's control API over the machine's channel. Every request is
// a connection of its own: its end tells the device that this host has gone, so
// that no late answer can be taken for another's.
type API struct {
	open dialer
	turn chan struct{}   // a port has one host at a time
	off  <-chan struct{} // closed when the machine is off
}

// maxBody bounds an answer, in bytes.
const maxBody = 16 << 20

// dialer opens a connection to the device.
type dialer func(ctx context.Context) (io.ReadWriteCloser, error)

// unixDialer is for a virtio-serial port.
func unixDialer(socket string) dialer {
	return func(ctx context.Context) (io.ReadWriteCloser, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}
}

// serialDialer is for a serial line, which stays open.
func serialDialer(ctx context.Context, socket string) (dialer, error) {
	line, err := unixDialer(socket)(ctx)
	if err != nil {
		return nil, fault.Wrap(fault.IO, err, "opening the machine's serial port")
	}
	host := serialconn.NewHost(line)
	return func(ctx context.Context) (io.ReadWriteCloser, error) { return host.Dial(ctx) }, nil
}

func newAPI(open dialer, off <-chan struct{}) *API {
	return &API{open: open, turn: make(chan struct{}, 1), off: off}
}

var errOff = errors.New("the machine is off")

// Do sends a request, "GET", "/containers", and returns status and body. A device
// that does not listen yet lets the request wait until ctx ends.
func (a *API) Do(ctx context.Context, method, path string, body []byte) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://localhost"+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, fmt.Errorf("asking the device: %w", err)
	}
	status, data := 0, []byte(nil)
	err = a.ask(ctx, req, func(res *http.Response) (err error) {
		status = res.StatusCode
		data, err = bounded.Read(res.Body, maxBody)
		return err
	})
	return status, data, fault.Wrap(fault.Unreachable, err, "asking the device %s %s", method, path)
}

// ask opens a connection for one request and has read take the answer. The connections of http.Transport are not used: it
// goes on dialing for requests that are over, and a port has but one connection.
func (a *API) ask(ctx context.Context, req *http.Request, read func(*http.Response) error) (err error) {
	select {
	case a.turn <- struct{}{}:
	case <-a.off:
		return errOff
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-a.turn }()
	conn, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	defer func() {
		if err != nil && ctx.Err() != nil { // which has closed the connection
			err = ctx.Err()
		}
	}()
	req.Close = true
	if err := req.Write(conn); err != nil {
		return err
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	return read(res)
}

// Get reads a JSON answer into v.
func (a *API) Get(ctx context.Context, path string, v any) error {
	status, data, err := a.Do(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return fault.New(fault.Unreachable, "asking the device for %s: it answers %d %s", path, status, data)
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fault.New(fault.Unreachable, "asking the device for %s: reading its answer: %w", path, err)
	}
	return nil
}

// Containers asks for GET /containers.
func (a *API) Containers(ctx context.Context) ([]api.Container, error) {
	var cs []api.Container
	return cs, a.Get(ctx, "/containers", &cs)
}

// Command requests an operation of POST /commands, for example [api.OpReboot].
func (a *API) Command(ctx context.Context, op, payload string) error {
	body, err := json.Marshal(api.Command{Op: op, Payload: payload})
	if err != nil {
		return fmt.Errorf("making the command %s: %w", op, err)
	}
	status, data, err := a.Do(ctx, http.MethodPost, "/commands", body)
	if err == nil && status != http.StatusOK {
		err = fault.New(fault.Unreachable, "giving the command %s: the device answers %d %s", op, status, data)
	}
	return err
}

// ranks orders the states of a container: a goal is reached by its own state and
// by every later one up to READY (manual: Containers, status).
var ranks = map[string]int{"MOUNTED": 1, "BLOCKED": 1, "STARTING": 2, "STARTED": 3, "READY": 4}

// Reached reports whether a container has reached its goal.
func Reached(c api.Container) bool {
	goal, ok := ranks[c.StatusGoal]
	return ok && c.Status != "BLOCKED" && ranks[c.Status] >= goal
}

// attempt bounds one question while waiting: a reboot of the guest may swallow it.
const attempt = 20 * time.Second

// WaitContainers asks for the containers until ok says so, and returns the last
// answer. The API has no event for this, so it asks again after a pause.
func (m *Machine) WaitContainers(ctx context.Context, ok func([]api.Container) bool) ([]api.Container, error) {
	var last []api.Container
	for {
		ask, cancel := context.WithTimeout(ctx, attempt)
		cs, err := m.API.Containers(ask)
		cancel()
		if err == nil {
			if last = cs; ok(cs) {
				return cs, nil
			}
		}
		select {
		case <-m.done:
			return last, fault.New(fault.Goal, "the machine went off: %w", errors.Join(errOff, m.exitErr))
		case <-ctx.Done():
			return last, fmt.Errorf("waiting for the containers: %w", ctx.Err())
		case <-time.After(250 * time.Millisecond):
		}
	}
}

// AllReached is a condition for WaitContainers: there are at least n containers,
// and each has reached its goal.
func AllReached(n int) func([]api.Container) bool {
	return func(cs []api.Container) bool {
		for _, c := range cs {
			if !Reached(c) {
				return false
			}
		}
		return len(cs) >= n
	}
}
