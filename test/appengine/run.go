package appengine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/scratch"
)

// Mode is how tests run.
type Mode struct {
	// Interactive opens a console in place of the test script.
	Interactive bool
	// Manual opens it before the App Engine is started.
	Manual bool
	// Overwrite records the results in place of comparing them.
	Overwrite bool
	// JUnit is a file for a report in JUnit's form. Default: none.
	JUnit string
}

// Verdicts of a [Result].
const (
	Passed   = "passed"
	Failed   = "failed"
	Skipped  = "skipped"
	Recorded = "recorded"
)

// Result is what became of one test.
type Result struct {
	ID          string  `json:"id"`
	Name        string  `json:"name"`
	Description string  `json:"description"`
	Verdict     string  `json:"verdict"`
	Seconds     float64 `json:"seconds"`
	Why         string  `json:"why,omitempty"` // of a failed one
}

// Runner runs tests.
type Runner struct {
	Builder        Builder
	Stdout, Stderr io.Writer
	Mode           Mode
	label          string // of this runner, in the names of directories and control groups
}

// made is a builder that has made its package.
type made struct {
	Builder
	tarball string
}

// Package returns what has been made.
func (m made) Package(context.Context) (string, error) { return m.tarball, nil }

// resultFile is the recorded result below a test's directory.
const resultFile = "output/result"

// listTests prints tests and where they come from.
func listTests(w io.Writer, all []*Test) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, test := range all {
		skip := ""
		if test.Spec.Skip == "true" {
			skip = " (skipped)"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s%s\n", test.ID(), test.Name, test.From, test.Spec.Description, skip)
	}
	return t.Flush()
}

// Run runs tests one after the other and prints a line for each. single runs one
// that is to be skipped. The error is about the runner, not the tests.
func (r *Runner) Run(ctx context.Context, tests []*Test, single bool) ([]Result, error) {
	if os.Geteuid() != 0 {
		return nil, fault.New(fault.Missing, "running tests: namespaces, mounts and control groups need root; run it with sudo")
	}
	if (r.Mode.Interactive || r.Mode.Manual) && len(tests) != 1 {
		return nil, fault.New(fault.BadInput, "a console is for one test, not for %d; name GROUP:NUMBER", len(tests))
	}
	tarball, err := r.Builder.Package(ctx)
	if err != nil {
		return nil, err
	}
	b := made{r.Builder, tarball}
	var out []Result
	for _, t := range tests {
		res := Result{ID: t.ID(), Name: t.Name, Description: t.Spec.Description, Verdict: Skipped}
		if t.Spec.Skip != "true" || single {
			start := time.Now()
			res.Verdict, err = r.one(ctx, b, t)
			res.Seconds = time.Since(start).Seconds()
			if ctx.Err() != nil {
				return out, ctx.Err()
			}
			if err != nil {
				res.Verdict, res.Why = Failed, err.Error()
			}
		}
		out = append(out, res)
		fmt.Fprintf(r.Stdout, "%-8s  %s  %s\n", res.Verdict, res.ID, res.Name)
		if res.Why != "" {
			fmt.Fprintln(r.Stdout, indent(res.Why))
		}
	}
	return out, nil
}

func indent(text string) string {
	return "    " + strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n    ")
}

// summary counts verdicts and is an error when a test has failed.
func summary(all []Result) (line string, err error) {
	n := map[string]int{}
	for _, r := range all {
		n[r.Verdict]++
	}
	line = fmt.Sprintf("%d passed, %d failed, %d skipped", n[Passed], n[Failed], n[Skipped])
	if n[Recorded] > 0 {
		line += fmt.Sprintf(", %d recorded", n[Recorded])
	}
	if n[Failed] > 0 {
		err = fault.New(fault.Goal, "running tests: %s", line)
	}
	return line, err
}

// workPrefix begins the names of tests' directories and control groups.
const workPrefix = "pv-appengine-test-"

// one runs a test in a directory of its own.
func (r *Runner) one(ctx context.Context, b Builder, t *Test) (verdict string, err error) {
	own, err := scratch.New(workPrefix + r.label)
	if err != nil {
		return "", err
	}
	defer own.Remove()
	work := own.Path
	prefix, err := Install(ctx, b, t, work)
	if err != nil {
		return "", err
	}
	out, err := r.enter(ctx, work, job{
		Work: work, Prefix: prefix, Dir: t.Dir, Cmdline: &t.Spec.Setup.Cmdline, Control: t.Spec.Setup.Containers.Control,
		Ready: t.Spec.Setup.ReadyScript, Test: t.Spec.TestScript,
		Interactive: r.Mode.Interactive || r.Mode.Manual, Manual: r.Mode.Manual,
	})
	switch {
	case err != nil:
		return "", err
	case out.Failed != "":
		return "", fmt.Errorf("%s\nlast lines of the log:\n%s", out.Failed, lastLines(filepath.Join(work, engineLog), 20))
	case len(out.Left) > 0:
		return "", fmt.Errorf("left behind: %s\nthe script said:\n%s", strings.Join(out.Left, ", "), out.Result)
	case r.Mode.Interactive || r.Mode.Manual:
		return Passed, nil
	case r.Mode.Overwrite:
		return Recorded, t.record(out.Result)
	}
	return Passed, t.compare(out.Result)
}

func (t *Test) record(result string) error {
	file := filepath.Join(t.Dir, resultFile)
	err := os.MkdirAll(filepath.Dir(file), 0o755)
	if err == nil {
		err = atomicfile.Write(file, []byte(result), 0o644)
	}
	return fault.Wrap(fault.IO, err, "recording the result")
}

// compare tells how a result differs from the recorded one.
func (t *Test) compare(got string) error {
	want, err := os.ReadFile(filepath.Join(t.Dir, resultFile))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("no result is recorded; mage appengine:run %s -o does", t.ID())
	}
	if err != nil {
		return err
	}
	if got == string(want) {
		return nil
	}
	return fmt.Errorf("the result differs from the recorded one (- recorded, + now):\n%s", diffLines(string(want), got))
}

// diffLines shows two texts line by line, equal ones at both ends left out.
func diffLines(want, got string) string {
	a, b := strings.Split(want, "\n"), strings.Split(got, "\n")
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	var out strings.Builder
	for _, l := range a {
		out.WriteString("- " + l + "\n")
	}
	for _, l := range b {
		out.WriteString("+ " + l + "\n")
	}
	return out.String()
}

func lastLines(file string, n int) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// enter makes the test's control group and process 1, and waits for its word. When
// it comes back nothing of the test runs any more.
func (r *Runner) enter(ctx context.Context, work string, j job) (outcome, error) {
	var out outcome
	text, err := json.Marshal(j)
	if err == nil {
		err = os.WriteFile(filepath.Join(work, jobFile), text, 0o644)
	}
	if err != nil {
		return out, fault.Wrap(fault.IO, err, "writing what to do")
	}
	g, err := newGroup(filepath.Base(work))
	if err != nil {
		return out, err
	}
	defer g.remove()
	if err := r.process1(ctx, work, g, j.Interactive); err != nil {
		return out, err
	}
	if text, err = os.ReadFile(filepath.Join(work, outcomeFile)); err == nil {
		err = json.Unmarshal(text, &out)
	}
	return out, fault.Wrap(fault.Internal, err, "reading how the test went")
}

func (r *Runner) process1(ctx context.Context, work string, g *group, interactive bool) error {
	exe, err := os.Executable()
	if err != nil {
		return fault.Wrap(fault.Internal, err, "looking for this program")
	}
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, exe)
	cmd.Args, cmd.Stderr = []string{insideArg, work}, &said
	if interactive {
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, r.Stdout, r.Stderr
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP,
		Pdeathsig:  syscall.SIGKILL, UseCgroupFD: true, CgroupFD: int(g.directory.Fd()),
	}
	if err := cmd.Run(); err != nil {
		return fault.New(fault.Internal, "running process 1 of the test: %w: %s", err, said.Bytes())
	}
	return nil
}

// group is a test's control group.
type group struct {
	dir       string
	directory *os.File
}

// newGroup makes one at the top of the cgroup v2 tree.
func newGroup(name string) (*group, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fault.Wrap(fault.IO, err, "looking for the cgroup tree")
	}
	for line := range strings.Lines(string(mounts)) {
		f := strings.Fields(line)
		if _, typ, _ := strings.Cut(line, " - "); len(f) < 5 || f[3] != "/" || !strings.HasPrefix(typ, "cgroup2 ") {
			continue
		}
		g := &group{dir: filepath.Join(f[4], name)}
		if err := os.Mkdir(g.dir, 0o755); err != nil {
			return nil, fault.Wrap(fault.IO, err, "making the test's control group")
		}
		g.directory, err = os.Open(g.dir)
		return g, fault.Wrap(fault.IO, err, "opening the test's control group")
	}
	return nil, fault.New(fault.Unsupported, "running tests: this machine has no cgroup v2 tree")
}

// remove ends what is in the group and removes it with those below.
func (g *group) remove() {
	_ = g.directory.Close()
	_ = os.WriteFile(filepath.Join(g.dir, "cgroup.kill"), []byte("1"), 0)
	for deadline := time.Now().Add(stopTime); time.Now().Before(deadline); {
		if removeTree(g.dir) {
			return
		}
		time.Sleep(5 * time.Millisecond) // ended processes leave their group a little later
	}
}

func removeTree(dir string) bool {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if e.IsDir() {
			removeTree(filepath.Join(dir, e.Name()))
		}
	}
	err := unix.Rmdir(dir)
	return err == nil || errors.Is(err, unix.ENOENT)
}

// HostTarget is the App Engine target of this machine.
func HostTarget(goarch string) (string, error) {
	name, ok := map[string]string{"amd64": "x64", "arm64": "aarch64", "arm": "arm", "mipsle": "mips"}[goarch]
	if !ok {
		return "", fault.New(fault.Unsupported, "there is no App Engine target for %s", strconv.Quote(goarch))
	}
	return name + "-appengine", nil
}
