package emulator

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
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
	client http.Client
}

// maxBody bounds an answer, in bytes.
const maxBody = 16 << 20

// dialer opens a connection to the device.
type dialer func(ctx context.Context) (net.Conn, error)

// unixDialer is for a virtio-serial port.
func unixDialer(socket string) dialer {
	return func(ctx context.Context) (net.Conn, error) {
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
	return func(ctx context.Context) (net.Conn, error) {
		c, err := host.Dial(ctx)
		if err != nil {
			return nil, err
		}
		return serialConn{c, line}, nil
	}, nil
}

// serialConn is a connection of a serial line, with the addresses and without the deadlines of
// the line.
type serialConn struct {
	*serialconn.Conn
	line net.Conn
}

func (c serialConn) LocalAddr() net.Addr              { return c.line.LocalAddr() }
func (c serialConn) RemoteAddr() net.Addr             { return c.line.RemoteAddr() }
func (c serialConn) SetDeadline(time.Time) error      { return nil }
func (c serialConn) SetReadDeadline(time.Time) error  { return nil }
func (c serialConn) SetWriteDeadline(time.Time) error { return nil }

func newAPI(open dialer, off <-chan struct{}) *API {
	turn := make(chan struct{}, 1) // a port has one host at a time
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		select {
		case turn <- struct{}{}:
		case <-off:
			return nil, errOff
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		conn, err := open(ctx)
		if err != nil {
			<-turn
			return nil, err
		}
		return &turnConn{Conn: conn, turn: turn}, nil
	}
	return &API{http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}
}

var errOff = errors.New("the machine is off")

// turnConn gives its turn back when it is closed.
type turnConn struct {
	net.Conn
	turn chan struct{}
	once sync.Once
}

func (c *turnConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() { <-c.turn })
	return err
}

// Do sends a request, "GET", "/containers", and returns status and body. A device
// that does not listen yet lets the request wait until ctx ends.
func (a *API) Do(ctx context.Context, method, path string, body []byte) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://localhost"+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, fmt.Errorf("asking the device: %w", err)
	}
	res, err := a.client.Do(req)
	if err != nil {
		return 0, nil, fault.Wrap(fault.Unreachable, err, "asking the device %s %s", method, path)
	}
	defer res.Body.Close()
	data, err := bounded.Read(res.Body, maxBody)
	if err != nil {
		return 0, nil, fault.Wrap(fault.Unreachable, err, "asking the device %s %s", method, path)
	}
	return res.StatusCode, data, nil
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

// reached reports whether a container has reached its goal.
func reached(c api.Container) bool {
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
			if !reached(c) {
				return false
			}
		}
		return len(cs) >= n
	}
}
