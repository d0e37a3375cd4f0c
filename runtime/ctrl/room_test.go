package ctrl

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/revision/canon"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
)

func status(err error) int {
	var e *api.Error
	if errors.As(err, &e) {
		return e.Status
	}
	return 200
}

func TestRoomForStates(t *testing.T) {
	t.Parallel()
	const gib = 1 << 30
	for _, c := range []struct {
		size, free int64
		want       int
	}{
		{0, 0, 200}, {-1, 0, 200}, {smallState, 0, 200}, {smallState + 1, 0, 507}, {smallState + 1, gib, 200}, {gib / stateFactor, gib, 200},
		{gib/stateFactor + 1, gib, 507}, {canon.MaxSize, 64 * gib, 200}, {canon.MaxSize + 1, 64 * gib, 413}, {1 << 62, 0, 413},
	} {
		r := room{free: func() int64 { return c.free }}
		if _, err := r.take(c.size); status(err) != c.want {
			t.Errorf("a state of %d bytes with %d free: %v, want status %d", c.size, c.free, err, c.want)
		}
	}
	if free := FreeMemory(); free < 1<<20 {
		t.Errorf("this machine has %d bytes of memory", free)
	}
}

func TestOneLargeStateAtATime(t *testing.T) {
	t.Parallel()
	r := room{free: func() int64 { return 1 << 40 }}
	release, err := r.take(smallState + 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.take(smallState + 1); status(err) != 503 {
		t.Errorf("a second large state: %v", err)
	}
	small, err := r.take(smallState)
	if err != nil {
		t.Errorf("a small state beside a large one: %v", err)
	}
	release()
	small()
	if _, err := r.take(smallState + 1); err != nil || r.steps != 1 {
		t.Errorf("afterwards: %v, %d in hand", err, r.steps)
	}
}

// TestLargeState sends a state of 150,000 files, gets it back and sends one that is too
// large for the format, and one of unknown length.
func TestLargeState(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, newFake())
	s.serial.room.free = func() int64 { return 1 << 40 }
	var b bytes.Buffer
	b.WriteString(`{"#spec":"pantavisor-service-system@1"`)
	for i := range 150_000 {
		fmt.Fprintf(&b, `,"app/usr/share/files/directory%04d/file%08d":"%064x"`, i/1000, i, i)
	}
	b.WriteString("}")
	if b.Len() <= smallState {
		t.Fatalf("the state has %d bytes only", b.Len())
	}
	if r := ask(t, s, asMgmt, "PUT", "/steps/locals/large", b.String()); !strings.Contains(r.line, "200") {
		t.Fatalf("storing %d bytes: %s %s", b.Len(), r.line, r.body)
	}
	if r := ask(t, s, asMgmt, "GET", "/steps/locals/large", ""); r.body != b.String() {
		t.Errorf("%s: %d bytes came back of %d", r.line, len(r.body), b.Len())
	}
	head := "PUT /steps/locals/more HTTP/1.1\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n"
	if r := roundTrip(t, dial(t, s, asMgmt), fmt.Sprintf(head, canon.MaxSize+1), "PUT"); r == nil || !strings.Contains(r.line, "413") || !strings.Contains(r.body, "268435456") {
		t.Errorf("a state beyond the bound: %+v", r)
	}
	conn := dial(t, s, asMgmt)
	go func() {
		_, _ = fmt.Fprintf(conn, "PUT /steps/locals/more HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n", smallState+1)
		_, _ = io.WriteString(conn, strings.Repeat(" ", smallState+1)+"\r\n0\r\n\r\n")
	}()
	if r := roundTrip(t, conn, "", "PUT"); r == nil || !strings.Contains(r.line, "411") {
		t.Errorf("a large state without a length: %+v", r)
	}
}
