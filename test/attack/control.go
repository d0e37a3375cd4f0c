package main

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// controlSocket is where containers have the control socket.
const controlSocket = "/pantavisor/pv-ctrl"

// status sends a request to the control socket and returns the status line's code.
func status(method, path, host, body string) (code string, err error) {
	socket := controlSocket
	if s := os.Getenv("ATTACK_SOCKET"); s != "" {
		socket = s
	}
	conn, err := net.DialTimeout("unix", socket, 5*time.Second)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", method, path, host, len(body), body); err != nil {
		return "", err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	words := strings.Fields(line)
	if err != nil || len(words) < 2 {
		return "", fmt.Errorf("the answer begins %q: %w", line, err)
	}
	return words[1], nil
}

// asks returns an attempt that succeeds when the answer is one of success.
func asks(method, path, body string) func() error {
	return func() error {
		code, err := status(method, path, "localhost", body)
		if err != nil || code[0] == '2' {
			return err
		}
		if code[0] != '4' && code[0] != '5' {
			return fmt.Errorf("the status is %s", code)
		}
		return errHeld
	}
}

// asksElsewhere asks from new user and mount namespaces, which any program may make.
func asksElsewhere() error {
	cmd := inUserNamespace("ask")
	out, err := cmd.CombinedOutput()
	switch {
	case cmd.ProcessState == nil || err != nil:
		return fmt.Errorf("%w %s", err, out)
	case out[0] == '2':
		return nil
	case out[0] == '4':
		return errHeld
	}
	return fmt.Errorf("the answer is %s", out)
}

// ask prints the status of a list of containers.
func ask() error {
	code, err := status("GET", "/containers", "localhost", "")
	fmt.Println(code)
	return err
}

func foreignHost() error {
	code, err := status("POST", "/signal", "evil.example", `{"type":"ready","payload":""}`)
	if err != nil || code != "421" && code != "400" {
		return err
	}
	return errHeld
}

// throughVolume looks at the mounts whose sources are links that the container has put into
// its volume before it was started again (leaveTraces): they must not lead to the device.
func throughVolume() error {
	for _, dir := range []string{"/evil-root", "/evil-up", "/evil-proc"} {
		entries, _ := os.ReadDir(dir) // a mount that is left out is as good
		for _, e := range entries {
			if e.Name() != "link-root" && e.Name() != "link-up" && e.Name() != "link-proc" {
				return nil
			}
		}
	}
	if links, err := os.ReadDir("/var/keep"); err != nil || len(links) < 3 {
		return errors.New("the links are not in the volume")
	}
	return errHeld
}

// leaveTraces does what is looked for later: links in a volume, and a mount in a shared
// tree.
func leaveTraces() error {
	for link, to := range map[string]string{"link-root": "/", "link-up": "../../../../../..", "link-proc": "/proc/1/root"} {
		if err := os.Symlink(to, "/var/keep/"+link); err != nil && !errors.Is(err, os.ErrExist) && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	_ = unix.Mount("", "/", "", unix.MS_SHARED|unix.MS_REC, "") // it may lack the right to it
	_ = os.MkdirAll("/srv/mark", 0o755)
	_ = unix.Mount("attack-mark", "/srv/mark", "tmpfs", 0, "")
	return nil
}
