// Package control sends single requests to the runtime's control socket, for the small
// programs of containers: it needs no HTTP client.
package control

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// Socket is the control socket's path in a container.
const Socket = "/pantavisor/pv-ctrl"

// Bounds of a request.
const (
	limit     = 10 * time.Second
	maxAnswer = 1 << 10 // bytes of the answer that are read
)

// Send sends a request with a body. An answer without status 200 is an error that has the
// end of the answer, which is its reason.
func Send(ctx context.Context, socket, method, path string, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return fmt.Errorf("connecting to the control socket: %w", err)
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	_, err = fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", method, path, len(body), body)
	if err != nil {
		return fmt.Errorf("asking %s %s: %w", method, path, err)
	}
	return check(conn, method+" "+path)
}

func check(conn io.Reader, what string) error {
	r := bufio.NewReader(io.LimitReader(conn, maxAnswer))
	status, err := r.ReadString('\n')
	if err != nil {
		return fmt.Errorf("asking %s: reading the answer: %w", what, err)
	}
	if fields := strings.Fields(status); len(fields) >= 2 && fields[1] == "200" {
		return nil
	}
	rest, _ := io.ReadAll(r) // what has arrived
	_, reason, _ := strings.Cut(string(rest), "\r\n\r\n")
	return fmt.Errorf("asking %s: the runtime answers %q %s", what, strings.TrimSpace(status), strings.TrimSpace(reason))
}
