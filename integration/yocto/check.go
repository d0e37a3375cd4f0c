package yocto

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// Options are those of [Check].
type Options struct {
	// Root is the repository.
	Root string
	// OECore and BitBake are the trees of one series. BitBake's may be left out when OECore has it in
	// bitbake/.
	OECore, BitBake string
	// Source is the source with its modules, pantavisor-VERSION-vendored.tar.gz (mage dist).
	Source string
	// Work is the directory of the build. What it has from an earlier run is used again.
	Work string
	// Layer runs yocto-check-layer too, which takes minutes.
	Layer bool
	// Out takes what the programs print.
	Out io.Writer
}

// Result is what became of a check.
type Result struct {
	Name    string  `json:"name"`
	State   string  `json:"state"` // done, failed or not run
	Reason  string  `json:"reason,omitempty"`
	Seconds float64 `json:"seconds,omitempty"`
}

// String is the result as a line.
func (r Result) String() string {
	out := fmt.Sprintf("%-8s %s", r.State, r.Name)
	if r.Seconds > 0 {
		out += fmt.Sprintf(" (%.0f s)", r.Seconds)
	}
	if r.Reason != "" {
		out += ": " + r.Reason
	}
	return out
}

// limits are what the bundle's recipe may pull in.
const (
	maxRecipes = 3
	maxTasks   = 50
)

// check is one of the checks.
type check struct {
	name   string
	script string
	wanted func(o Options) string // why it is not run, "" when it is
	judge  func(output string) error
}

func always(Options) string { return "" }

func withSource(o Options) string {
	if o.Source == "" {
		return "name the source that mage dist --platform source makes: --source=FILE"
	}
	return ""
}

// checks are in the order of what they cost.
var checks = []check{
	{"parse all recipes", "bitbake -p", always, nil},
	{"what the bundle's recipe pulls in", "bitbake -g pv-stub-bundle >&2 && cat pn-buildlist && grep 'label=' task-depends.dot", withSource, few},
	{"composer and a bundle of a container", "bitbake pv-stub-bundle", withSource, nil},
	{"again without a change", "bitbake pv-stub-bundle", withSource, nothing},
	{"an image becomes a container", "bitbake -c image_pvrexport pv-stub-image", withSource, nil},
	{"runtime and a revision", "bitbake pv-stub-revision", withSource, nil},
	{"yocto-check-layer", "yocto-check-layer --no-auto-dependency $PV_LAYER", func(o Options) string {
		if !o.Layer {
			return "takes minutes: --layer runs it"
		}
		return ""
	}, nil},
}

// few compares recipes and tasks with the limits.
func few(output string) error {
	tasks := strings.Count(output, "label=")
	recipes := 0
	for line := range strings.Lines(output) {
		if !strings.Contains(line, "label=") && strings.TrimSpace(line) != "" {
			recipes++
		}
	}
	if recipes == 0 || recipes > maxRecipes || tasks > maxTasks {
		return fault.New(fault.Internal, "%d recipes and %d tasks; want at most %d and %d", recipes, tasks, maxRecipes, maxTasks)
	}
	return nil
}

// nothing looks whether a build had nothing to do.
func nothing(output string) error {
	if !strings.Contains(output, "all succeeded") {
		return fault.New(fault.Internal, "no summary of tasks")
	}
	_, rest, _ := strings.Cut(output, "Attempted ")
	var all, kept int
	if _, err := fmt.Sscanf(rest, "%d tasks of which %d", &all, &kept); err != nil || all != kept {
		return fault.New(fault.Internal, "%d of %d tasks were done again", all-kept, all)
	}
	return nil
}

// Check runs the checks in a tree. Without one it says how to give it, and that nothing ran.
func Check(ctx context.Context, o Options) ([]Result, error) {
	if o.OECore == "" {
		var out []Result
		for _, c := range checks {
			out = append(out, Result{Name: c.name, State: "not run", Reason: "name a tree of OpenEmbedded-Core and one of BitBake: --oecore=DIR --bitbake=DIR"})
		}
		return out, nil
	}
	if err := o.prepare(); err != nil {
		return nil, err
	}
	var out []Result
	var failed error
	for _, c := range checks {
		r := Result{Name: c.name, State: "done"}
		switch reason := c.wanted(o); {
		case reason != "":
			r.State, r.Reason = "not run", reason
		case failed != nil:
			r.State, r.Reason = "not run", "an earlier one failed"
		default:
			start := time.Now()
			err := o.run(ctx, c)
			r.Seconds = time.Since(start).Seconds()
			if err != nil {
				r.State, r.Reason = "failed", err.Error()
				failed = fault.New(fault.Of(err), "%s: %w", c.name, err)
			}
		}
		out = append(out, r)
	}
	return out, failed
}

// nobody is the user that BitBake runs as when we are root, as which it refuses to.
const nobody = 65534

// prepare makes the build directory.
func (o *Options) prepare() error {
	for _, dir := range []*string{&o.OECore, &o.BitBake, &o.Work, &o.Root, &o.Source} {
		if *dir == "" {
			continue
		}
		abs, err := filepath.Abs(*dir)
		if err != nil {
			return fault.Wrap(fault.IO, err, "preparing the build directory")
		}
		*dir = abs
	}
	if o.BitBake == "" {
		o.BitBake = filepath.Join(o.OECore, "bitbake")
	}
	for _, file := range []string{filepath.Join(o.OECore, "oe-init-build-env"), filepath.Join(o.BitBake, "bin/bitbake")} {
		if _, err := os.Stat(file); err != nil {
			return fault.Wrap(fault.BadInput, err, "looking for the trees of OpenEmbedded-Core and BitBake")
		}
	}
	layers := filepath.Join(o.Work, "layers")
	if err := errors.Join(os.RemoveAll(layers), os.MkdirAll(filepath.Join(o.Work, "build/conf"), 0o755)); err != nil {
		return fault.Wrap(fault.IO, err, "preparing the build directory")
	}
	for name, from := range map[string]string{"meta-pantavisor-go": "meta-pantavisor-go", "meta-pv-test": "testdata/meta-pv-test"} {
		if err := os.CopyFS(filepath.Join(layers, name), os.DirFS(filepath.Join(o.Root, "integration/yocto", from))); err != nil {
			return fault.Wrap(fault.IO, err, "copying the layers")
		}
	}
	return fault.Wrap(fault.IO, o.configure(layers), "preparing the build directory")
}

// configure writes the configuration of the build.
func (o *Options) configure(layers string) error {
	conf := filepath.Join(o.Work, "build/conf")
	site := fmt.Sprintf("BB_NO_NETWORK = \"1\"\nCONNECTIVITY_CHECK_URIS = \"\"\nPANTAVISOR_GOROOT = \"%s\"\nBB_NUMBER_THREADS = \"%d\"\n", runtime.GOROOT(), runtime.NumCPU()) //nolint:staticcheck // the Go that runs us
	if o.Source != "" {
		version := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(o.Source), "pantavisor-"), "-vendored.tar.gz")
		site += fmt.Sprintf("PANTAVISOR_SOURCE = \"file://%s\"\nPANTAVISOR_VERSION = \"%s\"\n", o.Source, version)
	}
	for name, text := range map[string]string{
		"site.conf": site,
		"bblayers.conf": fmt.Sprintf("POKY_BBLAYERS_CONF_VERSION = \"2\"\nBBPATH = \"${TOPDIR}\"\nBBFILES ?= \"\"\nBBLAYERS ?= \"%s/meta %s/meta-pantavisor-go %s/meta-pv-test\"\n",
			o.OECore, layers, layers),
	} {
		if err := os.WriteFile(filepath.Join(conf, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	if os.Geteuid() != 0 {
		return nil
	}
	return filepath.WalkDir(o.Work, func(at string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(at, nobody, nobody)
	})
}

// run runs one check.
func (o *Options) run(ctx context.Context, c check) error {
	script := fmt.Sprintf("cd '%s' && set -- '%s' && . ./oe-init-build-env '%s' '%s' >/dev/null && %s",
		o.OECore, filepath.Join(o.Work, "build"), filepath.Join(o.Work, "build"), o.BitBake, c.script)
	cmd := exec.CommandContext(ctx, "bash", "-c", script)
	cmd.Env = []string{
		"HOME=" + o.Work, "PATH=" + os.Getenv("PATH"), "LANG=en_US.UTF-8", "LC_ALL=en_US.UTF-8", "TERM=dumb", "USER=nobody",
		"PV_LAYER=" + filepath.Join(o.Work, "layers/meta-pantavisor-go"),
	}
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = io.MultiWriter(&output, o.Out), o.Out
	if err := cmd.Run(); err != nil {
		return fault.Wrap(fault.Internal, err, "running %s", strings.Fields(c.script)[0])
	}
	if c.judge == nil {
		return nil
	}
	return c.judge(output.String())
}
