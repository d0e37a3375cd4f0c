package buildroot

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
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// Options say where Buildroot is.
type Options struct {
	// Tree is a directory with Buildroot; "" for none: then it is told how to give one.
	Tree string
	// External is the external tree.
	External string
	// Dist is the directory with the source of a version, which mage dist has made.
	Dist, Version string
	// Work is the directory for the output directories of builds and for downloads.
	Work string
	// Only runs the steps alone whose names have this text; "" for all.
	Only string
	// Machines are virtual machines for which whole builds are made.
	Machines []Machine
	// Tell is called for each step that ended.
	Tell func(Result)
}

// Result is what became of a step.
type Result struct {
	Step    string  `json:"step"`
	State   string  `json:"state"` // ok, failed or "not run"
	Seconds float64 `json:"seconds"`
	// Why is the reason, if it is not ok.
	Why string `json:"why,omitempty"`
}

// String is the result as a line.
func (r Result) String() string {
	line := fmt.Sprintf("%-8s %s, %.1f s", r.State, r.Step, r.Seconds)
	if r.Why != "" {
		line += ": " + r.Why
	}
	return line
}

// notRun is the result of a step that was not run, with the reason.
type notRun string

func (n notRun) Error() string { return "not run: " + string(n) }

// Check checks the external tree in a tree of Buildroot, the cheap steps first. Steps for which
// something is missing are told as not run. The error says which steps failed.
func Check(ctx context.Context, o Options) error {
	if o.Tree == "" {
		o.Tell(Result{Step: "all", State: "not run", Why: "name a directory with Buildroot of 2026.02 or later, --tree DIR: an unpacked release, or a clone of its repository"})
		return nil
	}
	c := &check{Options: o}
	if err := c.open(); err != nil {
		return err
	}
	steps := []step{
		{"defconfigs keep their options", c.defconfigs},
		{"check-package", c.checkPackage},
		{"show-info", c.showInfo},
		{"host-pvcompose", func(ctx context.Context) error { return c.make(ctx, packagesBuild, "host-pvcompose") }},
		{"host-pvr", func(ctx context.Context) error { return c.make(ctx, packagesBuild, "host-pvr") }},
		{"pantavisor for 32-bit MIPS", func(ctx context.Context) error { return c.make(ctx, packagesBuild, "pantavisor") }},
		{"legal-info of the packages", c.legalInfo},
	}
	for _, m := range o.Machines {
		steps = append(steps, c.whole(m)...)
	}
	steps = slices.DeleteFunc(steps, func(s step) bool { return !strings.Contains(s.name, o.Only) })
	if len(steps) == 0 {
		return fault.New(fault.BadInput, "no step of the check has %q in its name", o.Only)
	}
	var failed []string
	for _, s := range steps {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		start := time.Now()
		err := s.run(ctx)
		if !c.tell(s.name, time.Since(start), err) {
			failed = append(failed, s.name)
		}
	}
	if failed != nil {
		return fault.New(fault.Goal, "in %s failed: %s", o.Tree, strings.Join(failed, "; "))
	}
	return nil
}

// step is one thing that is checked.
type step struct {
	name string
	run  func(context.Context) error
}

// check is a run of [Check].
type check struct {
	Options
	configs []string // names of defconfigs
}

// tell tells of a step, and reports whether it did not fail.
func (c *check) tell(name string, took time.Duration, err error) bool {
	r := Result{Step: name, State: "ok", Seconds: took.Seconds()}
	var skipped notRun
	isSkipped := errors.As(err, &skipped)
	switch {
	case isSkipped:
		r.State, r.Why = "not run", string(skipped)
	case err != nil:
		r.State, r.Why = "failed", err.Error()
	}
	c.Tell(r)
	return err == nil || isSkipped
}

func (c *check) open() error {
	for _, name := range []string{"Makefile", "package/pkg-golang.mk", "utils/check-package"} {
		if _, err := os.Stat(filepath.Join(c.Tree, name)); err != nil {
			return fault.New(fault.BadInput, "%s is not a directory with Buildroot: it has no %s", c.Tree, name)
		}
	}
	found, err := filepath.Glob(filepath.Join(c.External, "configs/*_defconfig"))
	for _, file := range found {
		c.configs = append(c.configs, filepath.Base(file))
	}
	if err != nil || len(found) == 0 {
		return fault.New(fault.BadInput, "%s is not the external tree: it has no defconfigs", c.External)
	}
	if err := os.MkdirAll(c.Work, 0o755); err != nil {
		return fault.Wrap(fault.IO, err, "making a directory for builds")
	}
	// Sources of packages are in it, and those in Go must not become packages of a module around it.
	err = os.WriteFile(filepath.Join(c.Work, "go.mod"), []byte("module builds\n"), 0o644)
	return fault.Wrap(fault.IO, err, "making a directory for builds")
}

// together takes what a program writes to both of its outputs, in its order.
type together struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (t *together) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.Write(p)
}

// run runs a program in Buildroot's directory; the error has the end of what it says.
func (c *check) run(ctx context.Context, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = c.Tree
	cmd.Env = append(os.Environ(), "BR2_DL_DIR="+filepath.Join(c.Work, "dl"))
	var said bytes.Buffer
	var both together
	cmd.Stdout, cmd.Stderr = io.MultiWriter(&said, &both), &both
	if err := cmd.Run(); err != nil {
		lines := strings.Split(strings.TrimSpace(both.text.String()), "\n")
		return nil, fmt.Errorf("%s %s: %w:\n%s", name, strings.Join(args, " "), err, strings.Join(lines[max(0, len(lines)-20):], "\n"))
	}
	return said.Bytes(), nil
}

// defconfigs loads each defconfig, of which every line must be in the configuration: Kconfig drops
// options without a word whose dependencies are off.
func (c *check) defconfigs(ctx context.Context) error {
	var lost []string
	for _, name := range c.configs {
		out := filepath.Join(c.Work, strings.TrimSuffix(name, "_defconfig"))
		if _, err := c.run(ctx, "make", "-s", "O="+out, "BR2_EXTERNAL="+c.External, name); err != nil {
			return err
		}
		want, err := os.ReadFile(filepath.Join(c.External, "configs", name))
		if err != nil {
			return err
		}
		got, err := os.ReadFile(filepath.Join(out, ".config"))
		if err != nil {
			return err
		}
		have := strings.Split(string(got), "\n")
		for _, line := range strings.Split(strings.TrimSpace(string(want)), "\n") {
			if !slices.Contains(have, line) && !hidden(line, string(got)) {
				lost = append(lost, name+": "+line)
			}
		}
	}
	if lost != nil {
		return fmt.Errorf("options are not kept:\n%s", strings.Join(lost, "\n"))
	}
	return nil
}

// hidden reports whether a line turns off an option that the configuration does not have at all.
func hidden(line, config string) bool {
	name, off := strings.CutSuffix(strings.TrimPrefix(line, "# "), " is not set")
	return off && !strings.Contains(config, name+"=")
}

// checkPackage runs Buildroot's check of forms.
func (c *check) checkPackage(ctx context.Context) error {
	python := ""
	for _, p := range []string{"python3", "/usr/bin/python3"} {
		if exec.CommandContext(ctx, p, "-c", "import magic, flake8").Run() == nil {
			python = p
			break
		}
	}
	if _, err := exec.LookPath("shellcheck"); err != nil || python == "" {
		return notRun("it needs python3-magic, python3-flake8 and shellcheck")
	}
	args := []string{"utils/check-package", "--br2-external"}
	err := filepath.WalkDir(c.External, func(file string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && filepath.Ext(file) != ".go" {
			args = append(args, file)
		}
		return err
	})
	if err != nil {
		return err
	}
	_, err = c.run(ctx, python, args...)
	return err
}

// packagesBuild is the build in which packages are made: it needs no toolchain for Go, because the
// golang infrastructure does not know its architecture.
const packagesBuild = "pantavisor_qemu_malta"

// withPvr selects the host tool, which no defconfig does.
const withPvr = "BR2_PACKAGE_HOST_PVR=y\n"

// prepare configures the build for packages: the source is that of Dist, and Go is this machine's.
// rules are more of local.mk, options more of the configuration.
func (c *check) prepare(ctx context.Context, name, rules, options string) (string, error) {
	out := filepath.Join(c.Work, name)
	if _, err := c.run(ctx, "make", "-s", "O="+out, "BR2_EXTERNAL="+c.External, name+"_defconfig"); err != nil {
		return "", err
	}
	root, err := c.run(ctx, "go", "env", "GOROOT")
	if err != nil {
		return "", notRun("it needs Go, of the version that go.mod demands")
	}
	if err := os.WriteFile(filepath.Join(out, "local.mk"), []byte(rules+"HOST_GO_BIN_OVERRIDE_SRCDIR = "+string(root)), 0o644); err != nil {
		return "", err
	}
	f, err := os.OpenFile(filepath.Join(out, ".config"), os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return "", err
	}
	defer f.Close()
	fmt.Fprintf(f, "BR2_PANTAVISOR_SITE=\"file://%s\"\nBR2_PANTAVISOR_VERSION=%q\n%s", c.Dist, c.Version, options)
	if err := f.Close(); err != nil {
		return "", err
	}
	_, err = c.run(ctx, "make", "-s", "O="+out, "olddefconfig")
	return out, err
}

// make makes packages. Neither a toolchain nor another tar is built: the programs are static and
// need none.
func (c *check) make(ctx context.Context, name string, packages ...string) error {
	out, err := c.prepare(ctx, name, "", withPvr)
	if err != nil {
		return err
	}
	tar, err := exec.LookPath("tar")
	if err != nil {
		return notRun("it needs tar")
	}
	args := []string{"O=" + out, "BR2_TAR_HOST_DEPENDENCY=", "TAR=" + tar, "PANTAVISOR_ADD_TOOLCHAIN_DEPENDENCY=NO"}
	for _, p := range packages { // a package that was made before may be one of another source
		if !strings.HasSuffix(p, "-legal-info") {
			args = append(args, p+"-dirclean")
		}
	}
	_, err = c.run(ctx, "make", append(args, packages...)...)
	return err
}

// packageInfo is what Buildroot knows of a package.
type packageInfo struct {
	Version      string   `json:"version"`
	Licenses     string   `json:"licenses"`
	LicenseFiles []string `json:"license_files"`
}

// ours are the packages of the external tree, and where make legal-info puts their licences.
var ours = map[string]string{"pantavisor": "licenses", "host-pvcompose": "host-licenses", "host-pvr": "host-licenses"}

// showInfo asks for what Buildroot knows of the packages.
func (c *check) showInfo(ctx context.Context) error {
	_, err := c.info(ctx)
	return err
}

// info returns what Buildroot knows of the packages.
func (c *check) info(ctx context.Context) (map[string]packageInfo, error) {
	out, err := c.prepare(ctx, packagesBuild, "", withPvr)
	if err != nil {
		return nil, err
	}
	text, err := c.run(ctx, "make", "-s", "--no-print-directory", "O="+out, "show-info")
	if err != nil {
		return nil, err
	}
	var all map[string]packageInfo
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, fmt.Errorf("reading what make show-info prints: %w", err)
	}
	for name := range ours {
		if p := all[name]; p.Version != c.Version || !strings.Contains(p.Licenses, "MIT") || !slices.Contains(p.LicenseFiles, "LICENSE") {
			return nil, fmt.Errorf("package %s is %+v", name, p)
		}
	}
	return all, nil
}

// legalInfo collects the licences of the packages, of which each file must be there.
func (c *check) legalInfo(ctx context.Context) error {
	all, err := c.info(ctx)
	if err != nil {
		return err
	}
	dir := filepath.Join(c.Work, packagesBuild, "legal-info")
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	var targets []string
	for name := range ours {
		targets = append(targets, name+"-legal-info")
	}
	slices.Sort(targets)
	if err := c.make(ctx, packagesBuild, targets...); err != nil {
		return err
	}
	var lost []string
	for name, place := range ours {
		for _, file := range all[name].LicenseFiles {
			at := filepath.Join(place, strings.TrimPrefix(name, "host-")+"-"+c.Version, file)
			if _, err := os.Stat(filepath.Join(dir, at)); err != nil {
				lost = append(lost, at)
			}
		}
	}
	if lost != nil {
		slices.Sort(lost)
		return fmt.Errorf("licences are not collected:\n%s", strings.Join(lost, "\n"))
	}
	return nil
}
