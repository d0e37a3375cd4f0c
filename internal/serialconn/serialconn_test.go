package serialconn

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// wire is a serial line with a device that answers with what it is told, in capitals, when the
// connection's first line has ended.
func wire(t *testing.T) (host *Host, hostSide, deviceSide net.Conn) {
	t.Helper()
	hostSide, deviceSide = net.Pipe()
	t.Cleanup(func() { _, _ = hostSide.Close(), deviceSide.Close() })
	return NewHost(hostSide), hostSide, deviceSide
}

func capitals(_ context.Context, c *Conn) {
	text, err := bufio.NewReader(c).ReadString('\n')
	if err == nil {
		_, _ = io.WriteString(c, strings.ToUpper(text))
	}
}

func ask(t *testing.T, h *Host, text string) string {
	t.Helper()
	c, err := h.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, text+"\n"); err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestConnections(t *testing.T) {
	t.Parallel()
	h, _, device := wire(t)
	go func() { _ = Serve(t.Context(), device, capitals) }()
	for _, text := range []string{"one", "two", strings.Repeat("long ", 5000)} {
		if got := ask(t, h, text); got != strings.ToUpper(text)+"\n" {
			t.Errorf("asked %.20q, got %d bytes: %.20q", text, len(got), got)
		}
	}
}

// TestNoise has a boot loader's output on the line, and parts of frames.
func TestNoise(t *testing.T) {
	t.Parallel()
	h, _, device := wire(t)
	whole := frame{data, 1, []byte("old")}.encode()
	for _, noise := range [][]byte{[]byte("U-Boot 2023.01\r\n"), whole[:5], {0xA5, 'p', 'v', 'D', 0, 0, 0xff, 0xff}, whole[:len(whole)-1], whole, {0xA5}} {
		if _, err := device.Write(noise); err != nil {
			t.Fatal(err)
		}
	}
	go func() { _ = Serve(t.Context(), device, capitals) }()
	if got := ask(t, h, "hello"); got != "HELLO\n" {
		t.Errorf("got %q", got)
	}
}

// TestHostIsSilentBeforeTheInvitation reads what the host sends to a device that boots.
func TestHostIsSilentBeforeTheInvitation(t *testing.T) {
	t.Parallel()
	h, _, device := wire(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := h.Dial(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("it dials without an invitation: %v", err)
	}
	if _, err := device.Write(frame{kind: invitation}.encode()); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Dial(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestHostGoesAway ends a connection in the middle of an answer and asks again.
func TestHostGoesAway(t *testing.T) {
	t.Parallel()
	h, _, device := wire(t)
	ended := make(chan error, 1)
	go func() {
		_ = Serve(t.Context(), device, func(ctx context.Context, c *Conn) {
			text, err := bufio.NewReader(c).ReadString('\n')
			if err != nil || text != "flood\n" {
				_, _ = io.WriteString(c, text)
				return
			}
			for err == nil {
				_, err = c.Write(make([]byte, 4096))
			}
			ended <- err
		})
	}()
	c, err := h.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, "flood\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 10000)); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("the device's connection ended with %v", err)
	}
	if got := ask(t, h, "again"); got != "again\n" {
		t.Errorf("got %q", got)
	}
}

func TestLineEnds(t *testing.T) {
	t.Parallel()
	h, hostSide, device := wire(t)
	served := make(chan error, 1)
	go func() {
		served <- Serve(t.Context(), device, func(_ context.Context, c *Conn) { _, _ = io.ReadAll(c) })
	}()
	c, err := h.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	_ = hostSide.Close()
	if _, err := io.ReadAll(c); err == nil {
		t.Error("the connection ended as if the device had closed it")
	}
	if err := <-served; err == nil {
		t.Error("the device serves a line that is gone")
	}
	if _, err := h.Dial(t.Context()); err == nil {
		t.Error("it dials on a line that is gone")
	}
}

func FuzzReadFrame(f *testing.F) {
	f.Add(frame{data, 7, []byte("abc")}.encode())
	f.Add([]byte("\xa5pvD\x00\x00\x00\x04"))
	f.Fuzz(func(t *testing.T, noise []byte) {
		want := frame{data, 9, []byte("found")}
		// What looks like the beginning of a frame may swallow as much as one holds.
		in := append(append(noise, make([]byte, bufferSize)...), want.encode()...)
		r := bufio.NewReaderSize(bytes.NewReader(in), bufferSize)
		for {
			got, err := readFrame(r)
			if err != nil {
				t.Fatalf("the frame behind the noise was not found: %v", err)
			}
			if got.kind == want.kind && got.id == want.id && bytes.Equal(got.data, want.data) {
				return
			}
		}
	})
}
