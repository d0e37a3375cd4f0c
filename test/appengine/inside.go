package appengine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/runtime/ctrl/client"
)

// insideArg is the name under which this program is process 1 of a test.
const insideArg = "pv-test-inside"

// job is what process 1 of a test is to do.
type job struct {
	Work, Prefix, Dir    string
	Cmdline              *string
	Control, Ready, Test string
	Interactive, Manual  bool
}

// outcome is what process 1 tells.
type outcome struct {
	Result string   `json:"result"`         // of the test script
	Failed string   `json:"failed"`         // why the test did not come to its end
	Left   []string `json:"left,omitempty"` // what the instance has left behind
}

// Files in the work directory.
const (
	jobFile     = "job.json"
	outcomeFile = "outcome.json"
	engineLog   = "pantavisor.log"
)

// Times: for the device to be ready, for a script, and for the instance to stop.
const (
	readyTime  = 2 * time.Minute
	scriptTime = 5 * time.Minute
	stopTime   = 2 * time.Minute
)

// maxResult bounds what a script may print, in bytes.
const maxResult = 4 << 20

// Inside is for the begin of every program that runs tests: when the program is
// process 1 of a test, it does that and does not return.
func Inside() {
	if len(os.Args) != 2 || os.Args[0] != insideArg {
		return
	}
	out, err := inside(context.Background(), os.Args[1])
	if err != nil {
		out.Failed = strings.TrimPrefix(out.Failed+"; "+err.Error(), "; ")
	}
	text, err := json.Marshal(out)
	if err == nil {
		err = os.WriteFile(filepath.Join(os.Args[1], outcomeFile), text, 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// inside runs the test in namespaces that are there already.
func inside(ctx context.Context, work string) (out outcome, err error) {
	var j job
	text, err := os.ReadFile(filepath.Join(work, jobFile))
	if err == nil {
		err = json.Unmarshal(text, &j)
	}
	if err != nil {
		return out, fmt.Errorf("reading what to do: %w", err)
	}
	if err := furnish(); err != nil {
		return out, err
	}
	if err := j.environment(); err != nil {
		return out, err
	}
	before := traces()
	if j.Manual {
		return out, j.console(ctx)
	}
	e, err := j.start(ctx)
	if err != nil {
		return out, err
	}
	err = j.becomeReady(ctx, e)
	switch {
	case err != nil:
	case j.Interactive:
		err = j.console(ctx)
	default:
		out.Result, err = j.script(ctx, j.Test)
	}
	err = errors.Join(err, e.stop())
	out.Left = left(before, traces())
	return out, err
}

// furnish mounts the file systems that belong to the namespaces.
func furnish() error {
	for _, m := range []struct {
		source, target, typ string
		flags               uintptr
	}{
		{"", "/", "", unix.MS_REC | unix.MS_PRIVATE},
		{"proc", "/proc", "proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
		{"sysfs", "/sys", "sysfs", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
		{"cgroup2", "/sys/fs/cgroup", "cgroup2", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
	} {
		if err := unix.Mount(m.source, m.target, m.typ, m.flags, ""); err != nil {
			return fmt.Errorf("mounting %s: %w", m.target, err)
		}
	}
	// The root of the tree stays without processes, so that controllers can be enabled.
	own := filepath.Join("/sys/fs/cgroup", ownGroup)
	if err := os.MkdirAll(own, 0o755); err != nil {
		return fmt.Errorf("making the test's own control group: %w", err)
	}
	if err := os.WriteFile(filepath.Join(own, "cgroup.procs"), []byte("0"), 0); err != nil {
		return fmt.Errorf("entering the test's own control group: %w", err)
	}
	return linkUp("lo")
}

// ownGroup is where the scripts and the instance run.
const ownGroup = "test"

func linkUp(name string) error {
	link, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	link.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, link); err != nil {
		return fmt.Errorf("setting %s up: %w", name, err)
	}
	return nil
}

// environment is what scripts and the console find.
func (j *job) environment() error {
	tmp := filepath.Join(j.Work, "tmp")
	if err := os.MkdirAll(tmp, 0o777); err != nil {
		return err
	}
	in := ""
	if j.Control != "" {
		in = "pventer -c " + j.Control
	}
	var errs []error
	for name, value := range map[string]string{
		"PATH":          j.Prefix + ":" + os.Getenv("PATH"),
		"PVTEST_PREFIX": j.Prefix, "PVTEST_CONTROL": j.Control, "PVTEST_IN": in, "PVTEST_TMP": tmp,
		"LC_ALL": "C",
	} {
		errs = append(errs, os.Setenv(name, value))
	}
	return errors.Join(errs...)
}

// instance is the running App Engine.
type instance struct {
	cmd  *exec.Cmd
	done chan error
}

// words are how the instance is started.
func (j *job) words() []string {
	words := []string{filepath.Join(j.Prefix, "pantavisor"), "-i"}
	if j.Cmdline != nil {
		words = append(words, "--cmdline", *j.Cmdline)
	}
	return words
}

func (j *job) start(ctx context.Context) (*instance, error) {
	log, err := os.Create(filepath.Join(j.Work, engineLog))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	words := j.words()
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the App Engine: %w", err)
	}
	e := &instance{cmd, make(chan error, 1)}
	go func() { e.done <- cmd.Wait() }()
	return e, nil
}

// becomeReady waits for the socket, runs the ready script and waits for READY.
func (j *job) becomeReady(ctx context.Context, e *instance) error {
	ctx, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	api := client.Client{Socket: filepath.Join(j.Prefix, client.HostedSocket), Timeout: 10 * time.Second}
	status := func() (string, error) {
		var meta map[string]any
		resp, err := api.Do(ctx, &client.Request{Path: "/device-meta"})
		if err != nil {
			return "", err
		}
		defer resp.Close()
		err = json.NewDecoder(io.LimitReader(resp, maxResult)).Decode(&meta)
		s, _ := meta["pantavisor.status"].(string)
		return s, err
	}
	if err := e.wait(ctx, func() error { _, err := status(); return err }); err != nil {
		return fmt.Errorf("waiting for the control socket: %w", err)
	}
	if j.Ready != "" {
		if out, err := j.script(ctx, j.Ready); err != nil || strings.Contains(out, exitMark) {
			return fmt.Errorf("running the ready script: %w: %s", err, out)
		}
	}
	err := e.wait(ctx, func() error {
		s, err := status()
		if err == nil && s != "READY" {
			err = fmt.Errorf("the status is %s", s)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("waiting for READY: %w", err)
	}
	return nil
}

// wait asks until the answer is good, the instance has ended or time is over. The
// API has no event for what is asked.
func (e *instance) wait(ctx context.Context, ask func() error) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ask()
		if err == nil {
			return nil
		}
		select {
		case end := <-e.done:
			e.done <- end
			return fmt.Errorf("the App Engine has ended: %w", errors.Join(end, err))
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}

// stop ends the instance as a user does.
func (e *instance) stop() error {
	_ = e.cmd.Process.Signal(unix.SIGTERM)
	select {
	case err := <-e.done:
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.ExitCode() == 3 { // the script has powered it off
			return nil
		}
		if err != nil {
			return fmt.Errorf("stopping the App Engine: %w", err)
		}
		return nil
	case <-time.After(stopTime):
		_ = e.cmd.Process.Kill()
		return fmt.Errorf("stopping the App Engine: it still runs after %v", stopTime)
	}
}

// exitMark begins the line that a script's exit code other than 0 adds to its result.
const exitMark = "exit code "

// script runs a script in the test's directory and returns what it prints.
func (j *job) script(ctx context.Context, file string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, scriptTime)
	defer cancel()
	out := &limited{max: maxResult}
	cmd := exec.CommandContext(ctx, "/bin/sh", beside(j.Dir, file))
	cmd.Dir, cmd.Stdout, cmd.Stderr = j.Dir, out, out
	cmd.WaitDelay = 10 * time.Second // what it leaves in the background keeps its output open
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && ctx.Err() == nil {
		fmt.Fprintf(out, "%s%d\n", exitMark, exit.ExitCode())
		err = nil
	}
	return string(out.b), err
}

// limited keeps the first bytes.
type limited struct {
	b   []byte
	max int
}

// Write implements io.Writer.
func (l *limited) Write(p []byte) (int, error) {
	l.b = append(l.b, p[:min(len(p), l.max-len(l.b))]...)
	return len(p), nil
}

// console gives the user a shell in the test's environment.
func (j *job) console(ctx context.Context) error {
	shell := os.Getenv("SHELL")
	if shell == "" {
		shell = "/bin/sh"
	}
	if j.Manual {
		fmt.Fprintf(os.Stderr, "start it with: %s &\n", strings.Join(quote(j.words()), " "))
	}
	fmt.Fprintf(os.Stderr, "the test would run: sh %s\nexit ends it\n", j.Test)
	// The terminal's signals are for the shell: caught ones are reset in it, ignored ones would stay ignored in what it runs.
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, unix.SIGINT, unix.SIGQUIT, unix.SIGTTOU, unix.SIGTTIN)
	defer signal.Stop(caught)
	cmd := exec.CommandContext(ctx, shell)
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = j.Dir, os.Stdin, os.Stdout, os.Stderr
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		return fmt.Errorf("opening the console: %w", err)
	}
	return nil
}

func quote(words []string) []string {
	out := slices.Clone(words)
	for i, w := range out {
		if w == "" || strings.ContainsAny(w, " '\"$\\&;|<>()*?") {
			out[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
	}
	return out
}

// traces are what an instance could leave behind in the test's namespaces.
func traces() map[string][]string {
	out := map[string][]string{}
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 4 {
			out["mount"] = append(out["mount"], f[4])
		}
	}
	for kind, pattern := range map[string]string{
		"control group": "/sys/fs/cgroup/*/cgroup.procs", "link": "/sys/class/net/*",
	} {
		out[kind], _ = filepath.Glob(pattern)
	}
	return out
}

// left lists what is there now and was not before.
func left(before, now map[string][]string) []string {
	var out []string
	for kind, names := range now {
		for _, name := range names {
			if !slices.Contains(before[kind], name) {
				out = append(out, kind+" "+name)
			}
		}
	}
	slices.Sort(out)
	return out
}
