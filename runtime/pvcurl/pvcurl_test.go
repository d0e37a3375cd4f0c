package pvcurl

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pantavisor/pantavisor/runtime/peer"
)

// answering is a socket that takes one request and gives one answer.
func answering(t *testing.T, answer string) (socket string, request chan string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "s")
	l, err := peer.Listen(socket, 0o600, 1)
	if err != nil {
		t.Fatal(err)
	}
	request = make(chan string, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		request <- readRequest(conn)
		_, _ = io.WriteString(conn, answer)
	}()
	t.Cleanup(func() { _ = l.Close() })
	return socket, request
}

// readRequest reads a head and the body it announces.
func readRequest(r io.Reader) string {
	b, text, length := bufio.NewReader(r), "", 0
	for {
		line, err := b.ReadString('\n')
		if text += line; err != nil || line == "\r\n" {
			break
		}
		if v, ok := strings.CutPrefix(line, "Content-Length: "); ok {
			for _, c := range strings.TrimSpace(v) {
				length = 10*length + int(c-'0')
			}
		}
	}
	body := make([]byte, length)
	n, _ := io.ReadFull(b, body)
	return text + string(body[:n])
}

func TestPvcurl(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, []byte("of a file"), 0o644); err != nil {
		t.Fatal(err)
	}
	const answer = "HTTP/1.0 404 Not Found\r\nX: y\r\n\r\nbody"
	head := func(method, path, length string) string {
		return method + " " + path + " HTTP/1.0\r\nHost: localhost\r\nContent-Length: " + length + "\r\nContent-Type: application/json\r\n\r\n"
	}
	tests := []struct {
		args, stdin, want, out string
	}{
		{"/containers", "", head("GET", "/containers", "0"), "body"},
		{"http://localhost/a/b", "", head("GET", "/a/b", "0"), "body"},
		{"localhost/a/b", "", head("GET", "/a/b", "0"), "body"},
		{"-s -X PUT --data v /user-meta/k", "", head("PUT", "/user-meta/k", "1") + "v", "body"},
		{"-XPUT --upload-file=" + file + " /x", "", head("PUT", "/x", "9") + "of a file", "body"},
		{"-X POST --data-binary @" + file + " --max-time 5 --no-progress-meter /x", "", head("POST", "/x", "9") + "of a file", "body"},
		{"-T - /x", "abc", head("GET", "/x", "3") + "abc", "body"},
		{"-i -w \\n%{http_code} /x", "", head("GET", "/x", "0"), "HTTP/1.0 404 Not Found\r\nX: y\r\n\r\nbody\n404"},
		{"-H Content-Type:text/plain --header Host:other /x", "", "GET /x HTTP/1.0\r\nContent-Length: 0\r\nContent-Type:text/plain\r\nHost:other\r\n\r\n", "body"},
	}
	for _, tt := range tests {
		socket, request := answering(t, answer)
		var out, bad bytes.Buffer
		code := Run(context.Background(), append([]string{"--unix-socket", socket}, strings.Fields(tt.args)...), strings.NewReader(tt.stdin), &out, &bad)
		if code != 0 || out.String() != tt.out || bad.Len() > 0 {
			t.Errorf("%s: exit %d, out %q, err %q, want %q", tt.args, code, out.String(), bad.String(), tt.out)
			continue
		}
		if got := <-request; got != tt.want {
			t.Errorf("%s: sent\n%q, want\n%q", tt.args, got, tt.want)
		}
	}
}

func TestOutputToAFile(t *testing.T) {
	socket, _ := answering(t, "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabcdef")
	to := filepath.Join(t.TempDir(), "out")
	var out, bad bytes.Buffer
	if code := Run(context.Background(), []string{"--unix-socket", socket, "-o", to, "-v", "-w", "%{http_code}", "/x"}, nil, &out, &bad); code != 0 || out.String() != "200" {
		t.Errorf("exit %d, %q", code, out.String())
	}
	if got, _ := os.ReadFile(to); string(got) != "abc" {
		t.Errorf("the file holds %q, want what the length says", got)
	}
	if !strings.Contains(bad.String(), "> GET /x HTTP/1.0\n") || !strings.Contains(bad.String(), "< HTTP/1.0 200 OK\n") {
		t.Errorf("-v shows %q", bad.String())
	}
}

// TestSilentServer gives up on a server that takes connections and says nothing, and
// on one that takes none.
func TestSilentServer(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := peer.Listen(socket, 0o600, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for i := range 4 { // the last of them find the queue full
		var bad bytes.Buffer
		code := Run(context.Background(), []string{"--unix-socket", socket, "--max-time", "0.01", "--connect-timeout", "0.01", "/x"}, nil, io.Discard, &bad)
		if code != 1 || !strings.Contains(bad.String(), "timeout") {
			t.Errorf("%d: exit %d, %q", i, code, bad.String())
		}
		conn, err := peer.Dial(socket, time.Millisecond)
		if err == nil {
			defer conn.Close()
		} else if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
	}
}

func TestHelp(t *testing.T) {
	for _, args := range [][]string{{"-h"}, {"--help"}, {"-X", "PUT", "--help", "/x"}} {
		var out, bad bytes.Buffer
		if code := Run(context.Background(), args, nil, &out, &bad); code != 0 || !strings.Contains(out.String(), "--unix-socket SOCKET") || bad.Len() > 0 {
			t.Errorf("%q: exit %d, out %q, err %q", args, code, out.String(), bad.String())
		}
	}
	// Every option of the help is taken.
	for _, word := range regexp.MustCompile(`(?m)^  (-[^ ,]+)(?:, (--[^ ]+))?`).FindAllStringSubmatch(usage, -1) {
		for _, option := range word[1:] {
			if o := (options{}); option != "" && !o.flag(option) && o.valued(option) == nil {
				t.Errorf("%s is in the help and nowhere else", option)
			}
		}
	}
}

// endless is an input of zeros.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// A body that is cut would be stored as if it were whole.
func TestStandardInputIsNotCut(t *testing.T) {
	socket, request := answering(t, "HTTP/1.0 200 OK\r\n\r\n")
	var out, bad bytes.Buffer
	code := Run(context.Background(), []string{"--unix-socket", socket, "-X", "PUT", "-T", "-", "/objects/x"}, endless{}, &out, &bad)
	if code != 1 || !strings.Contains(bad.String(), "reading standard input: more than 67108864 bytes") {
		t.Errorf("exit %d, %q", code, bad.String())
	}
	select {
	case sent := <-request:
		t.Errorf("sent %d bytes", len(sent))
	default:
	}
}

func TestMistakes(t *testing.T) {
	for _, args := range []string{"", "--unix-socket", "--unix-socket /nonexistent /x", "--unix-socket /x path", "--unix-socket /x --frob /x", "--unix-socket /x -H nocolon /x", "--unix-socket /x --connect-timeout soon /x", "--unix-socket /x --max-time NaN /x"} {
		var out, bad bytes.Buffer
		if code := Run(context.Background(), strings.Fields(args), nil, &out, &bad); code != 1 || bad.Len() == 0 || out.Len() > 0 {
			t.Errorf("%q: exit %d, out %q, err %q", args, code, out.String(), bad.String())
		}
	}
	socket, _ := answering(t, "")
	var bad bytes.Buffer
	if code := Run(context.Background(), []string{"-s", "--unix-socket", socket, "/x"}, nil, io.Discard, &bad); code != 1 || bad.Len() > 0 {
		t.Errorf("no answer, -s: exit %d, %q", code, bad.String())
	}
}
