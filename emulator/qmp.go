package emulator

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"sync"
	"time"
)

// qmp is the QEMU Machine Protocol, as much as it takes to give commands without
// arguments (QEMU: docs/interop/qmp-spec). Events are read over.
type qmp struct {
	conn net.Conn
	mu   sync.Mutex // one command at a time
	in   *json.Decoder
}

// qmpMessage is anything that QEMU says.
type qmpMessage struct {
	Greeting json.RawMessage `json:"QMP"`
	Return   json.RawMessage `json:"return"`
	Event    string          `json:"event"`
	Error    *struct {
		Desc string `json:"desc"`
	} `json:"error"`
}

func openQMP(ctx context.Context, conn net.Conn) (*qmp, error) {
	q := &qmp{conn: conn, in: json.NewDecoder(bufio.NewReader(conn))}
	stop := q.bound(ctx)
	var hello qmpMessage
	err := q.in.Decode(&hello)
	stop()
	if err != nil {
		return nil, fmt.Errorf("reading the monitor's greeting: %w", err)
	}
	if hello.Greeting == nil {
		return nil, fmt.Errorf("the monitor did not greet")
	}
	return q, q.execute(ctx, "qmp_capabilities")
}

// bound lets ctx end what waits on the connection. The returned function ends the
// bound and must be called.
func (q *qmp) bound(ctx context.Context) (stop func()) {
	_ = q.conn.SetDeadline(time.Time{})
	after := context.AfterFunc(ctx, func() { _ = q.conn.SetDeadline(time.Unix(1, 0)) })
	return func() { after() }
}

// execute gives a command and waits for its answer.
func (q *qmp) execute(ctx context.Context, command string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	defer q.bound(ctx)()
	if _, err := fmt.Fprintf(q.conn, "{\"execute\":%q}\n", command); err != nil {
		return fmt.Errorf("telling QEMU %s: %w", command, err)
	}
	for {
		var m qmpMessage
		if err := q.in.Decode(&m); err != nil {
			return fmt.Errorf("telling QEMU %s: %w", command, err)
		}
		switch {
		case m.Error != nil:
			return fmt.Errorf("telling QEMU %s: it answers %s", command, m.Error.Desc)
		case m.Return != nil:
			return nil
		}
	}
}

func (q *qmp) close() {
	if q != nil {
		_ = q.conn.Close()
	}
}
