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

// qmp is the QEMU Machine Protocol, as much as it takes to give commands (QEMU:
// docs/interop/qmp-spec). Events are read over.
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

// execute gives a command without arguments and waits for its answer.
func (q *qmp) execute(ctx context.Context, command string) error {
	return q.ask(ctx, command, nil, nil)
}

// ask gives a command with its arguments, nil for none, and reads the answer into what into points to,
// unless that is nil.
func (q *qmp) ask(ctx context.Context, command string, arguments, into any) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	defer q.bound(ctx)()
	text, err := json.Marshal(struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
	}{command, arguments})
	if err == nil {
		_, err = q.conn.Write(append(text, '\n'))
	}
	if err != nil {
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
		case m.Return != nil && into != nil:
			return json.Unmarshal(m.Return, into)
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
