// Package cli is the program pvtx, with which a device's software is changed from within a
// container (manual: pvtx); see package pvtx. Words and exit codes are those of earlier
// versions.
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/pantavisor/pantavisor/runtime/ctrl/client"
	"github.com/pantavisor/pantavisor/runtime/peer"
	"github.com/pantavisor/pantavisor/runtime/pvtx"
)

// command is one verb; its words are "VERB" or "queue VERB".
type command struct {
	name     string
	args     string // for the help
	help     string
	min, max int // arguments
	short    int // exit code for too few arguments
	none     int // exit code without a transaction
	run      func(t *tool, args []string) error
}

// The exit codes are those of earlier versions, which scripts know.
const (
	exitOK    = 0
	exitOther = 1
	exitWrong = 12 // the transaction is of the other kind, or one is active
	exitBusy  = 75 // as for a device that is busy
)

var commands = []command{
	{"begin", "[BASE [OBJECTS]]", "start a transaction with the state of BASE; with the directory OBJECTS it is local", 0, 2, exitOther, exitOther, begin},
	{"add", "FILE|-", "add or replace a package: .json, .tar, .tar.gz, .tgz or .bz2", 1, 1, 255, 1, add},
	{"remove", "PART", "remove a package: nginx, _sigs/nginx.json or _config/nginx", 1, 1, 4, 3, remove},
	{"show", "", "print the state", 0, 0, exitOther, 11, show},
	{"status", "", "print where the transaction is", 0, 0, exitOther, exitOther, status},
	{"diff", "", "print what differs from the running revision", 0, 0, exitOther, 11, diff},
	{"check", "", "print also what would stop the update; exit code 1 if something does", 0, 0, exitOther, 11, check},
	{"commit", "[NAME]", "store the state as revision NAME, locals/..., and print the name", 0, 1, exitOther, 11, commit},
	{"deploy", "DIRECTORY", "write a local transaction to a directory", 1, 1, exitOther, 11, deploy},
	{"abort", "", "discard the transaction", 0, 0, exitOther, exitOther, abort},
	{"queue new", "QUEUE OBJECTS", "make a queue of steps to be done later", 2, 2, exitOther, exitOther, queueNew},
	{"queue remove", "PART", "queue the removal of a package", 1, 1, exitOther, exitOther, queueRemove},
	{"queue unpack", "FILE|-", "queue the addition of a package; its objects are stored now", 1, 1, exitOther, exitOther, queueUnpack},
	{"queue process", "[BASE [QUEUE [OBJECTS]]]", "do the steps of the queue; with BASE in a new transaction", 0, 3, exitOther, 3, queueProcess},
}

const help = `Usage: pvtx [-s SOCKET] [--json] COMMAND [ARGUMENTS]

Changes the software of this device: a transaction begins with a revision's state,
packages are added to it and removed, and it becomes a new revision.

%s
  BASE is current (the default: the running revision), empty, a revision, a file with
  a state, or a directory that was deployed.

Options:
  --json         status, diff, check and commit print JSON
  -m MESSAGE     commit: describe the revision
  --run          commit: run the revision; exit code 75 while an update is in progress
  --wait         commit --run: wait for an update in progress, then for the end of this
                 one; exit code 1 if it fails
  -s SOCKET      the device's control socket

Environment:
  PVTXDIR                the transaction's directory, now %s
  PVTX_OBJECT_BUF_SIZE   bytes of a package that are read at once: 512 to 10M
  PVTX_CTRL_BUF_SIZE     bytes that are sent to the device at once: 16K to 10M

Examples:
  pvtx begin && pvtx add web.tgz && pvtx remove nginx && pvtx commit --run
  pvtx begin empty /tmp/objects && cat web.tgz | pvtx add - && pvtx deploy /tmp/web
  pvtx queue new /tmp/queue /tmp/objects && pvtx queue unpack web.tgz &&
    pvtx queue process empty && pvtx deploy /tmp/web
`

// errUsage is a mistake in the words of the command line.
var errUsage = errors.New("usage")

// tool is one run.
type tool struct {
	*pvtx.Transaction
	ctx            context.Context
	stdin          io.Reader
	stdout, stderr io.Writer
	getenv         func(string) string
	socket         string
	json, help     bool
	run, wait      bool
	message        string
}

// Run is the program; args are without its name. It returns the exit code.
func Run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	t := &tool{ctx: ctx, stdin: stdin, stdout: stdout, stderr: stderr, getenv: os.Getenv}
	return t.main(args)
}

func (t *tool) main(args []string) int {
	words, err := t.options(args)
	if err == nil && (t.help || len(words) > 0 && words[0] == "help") {
		t.usage(t.stdout)
		return exitOK
	}
	if err == nil && len(words) == 0 {
		t.usage(t.stderr)
		return exitOther
	}
	var c command
	if err == nil {
		c, words, err = find(words)
	}
	if err != nil {
		return t.fail("", exitOther, err)
	}
	switch n := len(words); {
	case n < c.min:
		return t.fail(c.name, c.short, usageOf(c))
	case n > c.max:
		return t.fail(c.name, exitOther, usageOf(c))
	}
	if err := t.open(); err != nil {
		return t.fail(c.name, exitOther, err)
	}
	if err := c.run(t, words); err != nil {
		return t.fail(c.name, c.exit(err), err)
	}
	return exitOK
}

func usageOf(c command) error {
	return fmt.Errorf("%w: %s; see pvtx -h", errUsage, strings.TrimSpace("pvtx "+c.name+" "+c.args))
}

// exit returns the exit code for an error.
func (c command) exit(err error) int {
	var refused *client.Refused
	switch {
	case errors.As(err, &refused):
		return refused.ExitCode()
	case errors.Is(err, pvtx.ErrBusy):
		return exitBusy
	case errors.Is(err, pvtx.ErrNone):
		return c.none
	case errors.Is(err, pvtx.ErrLocal), errors.Is(err, pvtx.ErrNotLocal), errors.Is(err, pvtx.ErrActive):
		return exitWrong
	}
	return exitOther
}

func (t *tool) fail(name string, code int, err error) int {
	text := err.Error()
	if refused, ok := errors.AsType[*client.Refused](err); ok {
		text = strings.Replace(text, refused.Error(), refused.Text(), 1)
	}
	if name != "" {
		text = name + ": " + text
	}
	fmt.Fprintln(t.stderr, "ERROR: "+text)
	return code
}

func find(words []string) (command, []string, error) {
	for n := min(2, len(words)); n > 0; n-- {
		name := strings.Join(words[:n], " ")
		for _, c := range commands {
			if c.name == name {
				return c, words[n:], nil
			}
		}
	}
	return command{}, nil, fmt.Errorf("%w: unknown command %q; see pvtx -h", errUsage, strings.Join(words[:min(2, len(words))], " "))
}

// options takes the options, which may be anywhere before "--".
func (t *tool) options(args []string) (words []string, err error) {
	for i := 0; i < len(args); i++ {
		var value *string
		switch arg := args[i]; {
		case arg == "--":
			return append(words, args[i+1:]...), nil
		case arg == "-h" || arg == "--help":
			t.help = true
		case arg == "--json":
			t.json = true
		case arg == "--run":
			t.run = true
		case arg == "--wait":
			t.wait = true
		case arg == "-s":
			value = &t.socket
		case arg == "-m":
			value = &t.message
		case len(arg) > 1 && arg[0] == '-':
			return nil, fmt.Errorf("%w: unknown option %s; see pvtx -h", errUsage, arg)
		default:
			words = append(words, arg)
		}
		if value == nil {
			continue
		}
		if i++; i == len(args) {
			return nil, fmt.Errorf("%w: option %s needs a value; see pvtx -h", errUsage, args[i-1])
		}
		*value = args[i]
	}
	return words, nil
}

func (t *tool) usage(w io.Writer) {
	var list strings.Builder
	for _, c := range commands {
		fmt.Fprintf(&list, "  %-38s %s\n", strings.TrimSpace(c.name+" "+c.args), c.help)
	}
	fmt.Fprintf(w, help, list.String(), t.dir())
}

// dir returns the directory of the transaction.
func (t *tool) dir() string {
	switch {
	case t.getenv("PVTXDIR") != "":
		return t.getenv("PVTXDIR")
	case os.Geteuid() == 0:
		return filepath.Join("/", t.getenv("PREFIX"), "var/cache/pvtx")
	}
	return filepath.Join(t.getenv("HOME"), ".local/share/pvtx")
}

// Bounds of the buffers, in bytes.
const (
	minObjectBuffer = 512
	minCtrlBuffer   = 16 << 10
	maxBuffer       = 10 << 20
)

// size returns the size that a variable of the environment has, in bytes or with the suffix
// K or M; 0 when it is not set. One that cannot be used is a warning.
func (t *tool) size(name string, least, multiple int) int {
	text := t.getenv(name)
	if text == "" {
		return 0
	}
	digits, unit := strings.TrimRight(text, "kKmM"), 1
	switch strings.ToUpper(text[len(digits):]) {
	case "K":
		unit = 1 << 10
	case "M":
		unit = 1 << 20
	}
	n, err := strconv.Atoi(digits)
	if err == nil && n <= maxBuffer/unit && n*unit >= least && n*unit%multiple == 0 {
		return n * unit
	}
	t.warn(fmt.Sprintf("%s=%s is not used: %d to %d bytes, in multiples of %d, are possible", name, text, least, maxBuffer, multiple))
	return 0
}

func (t *tool) warn(text string) { fmt.Fprintln(t.stderr, "WARNING: "+text) }

const (
	connectTimeout = 5 * time.Second
	objectTimeout  = 4 * time.Hour
)

// open finds the transaction and the device.
func (t *tool) open() error {
	if t.socket == "" {
		t.socket = t.getenv("SOCKET")
	}
	if t.socket == "" {
		t.socket = client.FindSocket()
	}
	var device *client.Client
	if t.socket != "" {
		device = &client.Client{Timeout: objectTimeout, Dial: t.dial, Buffer: t.size("PVTX_CTRL_BUF_SIZE", minCtrlBuffer, 1)}
	}
	t.Transaction = pvtx.New(pvtx.Options{Dir: t.dir(), Device: device, Warn: t.warn, Buffer: t.size("PVTX_OBJECT_BUF_SIZE", minObjectBuffer, minObjectBuffer)})
	return nil
}

// A runtime that is being restarted is asked again.
const (
	dials    = 5
	dialEach = 2 * time.Second
)

func (t *tool) dial(ctx context.Context) (io.ReadWriteCloser, error) {
	for n := 1; ; n++ {
		conn, err := peer.Dial(t.socket, connectTimeout)
		if err == nil {
			return conn, nil
		}
		if n == dials || !errors.Is(err, syscall.ECONNREFUSED) {
			return nil, err
		}
		select {
		case <-time.After(dialEach):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// print prints a value as JSON.
func (t *tool) print(v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(t.stdout, "%s\n", text)
	return err
}

// open opens a file of the command line; "-" is the standard input.
func (t *tool) file(name string) (io.ReadCloser, error) {
	if name == "-" {
		return io.NopCloser(t.stdin), nil
	}
	return os.Open(name)
}
