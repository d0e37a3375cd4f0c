// Package pvcontrol is the tool that monitors and manages a device from within a
// container or the runtime, over the control socket (manual: pvcontrol).
//
// The body of a good answer goes to standard output as it is and the exit code
// is 0; a bad one goes to standard error. --json makes every output JSON.
package pvcontrol

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
	"github.com/pantavisor/pantavisor/runtime/ctrl/client"
)

// The exit codes (manual: pvcontrol, return value); those for what the device does not
// accept are [client.Refused.ExitCode].
const (
	exitOK    = 0
	exitUsage = 1 // also: no socket, no reply
)

const (
	connectTimeout = 5 * time.Second
	timeout        = 240 * time.Second
	objectTimeout  = 4 * time.Hour
)

// errUsage is a mistake in the words of the command line.
var errUsage = errors.New("usage")

// tool is one run.
type tool struct {
	ctx     context.Context
	client  client.Client
	stdin   io.Reader
	stdout  io.Writer
	stderr  io.Writer
	file    string   // -f
	into    *os.File // it, when something has been written
	message string   // -m
	verbose bool
	json    bool
	wait    bool // --wait
}

// Run is the program; args are without its name. It returns the exit code.
func Run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	t := &tool{ctx: ctx, stdin: stdin, stdout: stdout, stderr: stderr, client: client.Client{Connect: connectTimeout, Timeout: timeout, Socket: os.Getenv("SOCKET")}}
	words, help, err := t.options(args)
	if err == nil && (help || len(words) == 0) {
		return t.help(words, help)
	}
	if err == nil {
		err = t.dispatch(words)
	}
	if t.into != nil {
		err = errors.Join(err, t.into.Close())
	}
	return t.finish(err)
}

func (t *tool) finish(err error) int {
	var bad *client.Refused
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &bad):
		text := bad.Error()
		if t.json && !json.Valid([]byte(text)) {
			text = asJSON(text)
		}
		fmt.Fprintln(t.stderr, text)
		return bad.ExitCode()
	}
	text := err.Error()
	if errors.Is(err, errUsage) {
		text += "; see pvcontrol -h"
	}
	if t.json {
		fmt.Fprintln(t.stderr, asJSON(text))
	} else {
		fmt.Fprintln(t.stderr, "ERROR: "+text)
	}
	return exitUsage
}

// asJSON is an error in the form of those of the control socket.
func asJSON(text string) string {
	b, err := json.Marshal(api.Refusal{Error: text})
	if err != nil { // a string always can be written
		return `{"Error":""}`
	}
	return string(b)
}

// options takes the options before the command, --json and --wait anywhere.
func (t *tool) options(args []string) (words []string, help bool, err error) {
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		var value *string
		switch {
		case arg == "--json":
			t.json = true
			continue
		case arg == "--wait":
			t.wait = true
			continue
		case arg == "-h" || arg == "--help":
			help = true
			continue
		case len(words) > 0:
			words = append(words, arg)
			continue
		case arg == "-v":
			t.verbose = true
			t.client.Trace = func(line string) { fmt.Fprintln(t.stderr, line) }
			continue
		case arg == "-s":
			value = &t.client.Socket
		case arg == "-f":
			value = &t.file
		case arg == "-m":
			value = &t.message
		case strings.HasPrefix(arg, "-"):
			return nil, false, fmt.Errorf("%w: unknown option %s", errUsage, arg)
		default:
			words = append(words, arg)
			continue
		}
		if len(args) == 0 {
			return nil, false, fmt.Errorf("%w: option %s needs a value", errUsage, arg)
		}
		*value, args = args[0], args[1:]
	}
	return words, help, nil
}

func (t *tool) dispatch(words []string) error {
	c, rest, err := find(words)
	if err != nil {
		return err
	}
	if len(rest) < c.min || len(rest) > c.max {
		return fmt.Errorf("%w: %s", errUsage, strings.TrimSpace("pvcontrol "+c.name+" "+c.args))
	}
	if t.client.Socket == "" {
		t.client.Socket = client.FindSocket()
	}
	if t.client.Socket == "" {
		return fmt.Errorf("%s not found", client.Sockets[len(client.Sockets)-1])
	}
	if _, err := os.Stat(t.client.Socket); errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%s: permission denied; only root may", t.client.Socket)
	} else if err != nil {
		return fmt.Errorf("%s not found", t.client.Socket)
	}
	return c.run(t, rest)
}

// show asks and prints the answer.
func (t *tool) show(req *client.Request) error {
	resp, err := t.client.Ask(t.ctx, req)
	if err != nil {
		return err
	}
	defer resp.Close()
	binary := resp.Get("Content-Type") == "application/octet-stream"
	if t.json && !binary {
		return t.showJSON(resp)
	}
	return t.output(resp, !binary)
}

// showJSON prints an answer that is not JSON as an object with its text, and an
// empty one as {"status":200}.
func (t *tool) showJSON(resp *client.Response) error {
	body, err := readAll(resp)
	if err != nil {
		return err
	}
	switch {
	case len(body) == 0:
		body = []byte(`{"status":200}`)
	case !json.Valid(body):
		if body, err = json.Marshal(map[string]string{"text": string(body)}); err != nil {
			return err
		}
	}
	return t.output(bytes.NewReader(body), true)
}

func readAll(r io.Reader) ([]byte, error) {
	body, err := bounded.Read(r, client.MaxReply)
	if err != nil {
		return nil, fmt.Errorf("reading the answer: %w", err)
	}
	return body, nil
}

// output copies to standard output or the file of -f; a text gets its last newline.
func (t *tool) output(r io.Reader, text bool) (err error) {
	if t.file == "" {
		return copyText(t.stdout, r, text)
	}
	if t.into == nil {
		if t.into, err = os.Create(t.file); err != nil {
			return err
		}
	}
	return copyText(t.into, r, text)
}

func copyText(w io.Writer, r io.Reader, text bool) error {
	last := &lastByteWriter{w: w, last: '\n'}
	if _, err := io.Copy(last, r); err != nil {
		return fmt.Errorf("copying the answer: %w", err)
	}
	if text && last.last != '\n' {
		_, err := io.WriteString(w, "\n")
		return err
	}
	return nil
}

// lastByteWriter remembers how what was written ends.
type lastByteWriter struct {
	w    io.Writer
	last byte
}

// Write implements io.Writer.
func (l *lastByteWriter) Write(p []byte) (int, error) {
	if len(p) > 0 {
		l.last = p[len(p)-1]
	}
	return l.w.Write(p)
}
