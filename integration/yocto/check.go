package yocto

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
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
	// Save saves the inputs of a target into a new directory, with their list: kernel, boot loader
	// and containers for the machine in QEMU.
	Save func(ctx context.Context, target, dir string) error
	// Boot boots an image in the target's virtual machine until all of its containers have reached
	// their goals. An error of kind [fault.Missing] says that there is no emulator.
	Boot func(ctx context.Context, target, image string) error
	// Tell is called for each check that ended.
	Tell func(Result)
	// Out takes what the programs print.
	Out io.Writer
}

// Result is what became of a check.
type Result struct {
	Name    string  `json:"name"`
	State   string  `json:"state"` // done, failed or not run
	Reason  string  `json:"reason,omitempty"`
	Found   string  `json:"found,omitempty"` // what was counted
	Seconds float64 `json:"seconds,omitempty"`
}

// String is the result as a line.
func (r Result) String() string {
	out := fmt.Sprintf("%-8s %s", r.State, r.Name)
	if r.Seconds > 0 {
		out += fmt.Sprintf(" (%.0f s)", r.Seconds)
	}
	for _, text := range []string{r.Found, r.Reason} {
		if text != "" {
			out += ": " + text
		}
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
	name    string
	machine string // MACHINE; "": the build's own
	build   string // the build directory; "": that of the recipes of the test layer
	script  string // "": judge does it all
	wanted  func(o *Options) string
	// judge looks at what the script printed and returns what it has counted.
	judge func(ctx context.Context, o *Options, machine, output string) (string, error)
}

// targetOf are the targets whose kernel, boot loader and virtual machine are taken for a machine
// of OpenEmbedded-Core: one that GRUB starts, and one that U-Boot does.
var targetOf = map[string]string{"qemux86-64": "x64-uefi", "qemuarm64": "qemu-aarch64"}

// checks are in the order of what they cost.
var checks = slices.Concat([]check{
	{name: "parse all recipes", script: "bitbake -p"},
	{name: "what the bundle's recipe pulls in", script: pulls + "pv-stub-bundle" + listed, judge: few},
	{name: "composer and a bundle of a container", script: "bitbake pv-stub-bundle"},
	{name: "again without a change", script: "bitbake pv-stub-bundle", judge: nothing},
	{name: "an image becomes a container", script: "bitbake -c image_pvrexport pv-stub-image"},
	{name: "owners and devices of an image", wanted: withPseudo, script: "bitbake -c image_pvrexport pv-stub-owners", judge: owners},
	{name: "runtime and a revision", script: "bitbake pv-stub-revision"},
	{name: "pvr, with Go from a recipe", script: "bitbake pvr-native"},
	{name: "what a kernel's recipe takes of pv-kernel", script: `echo 'KERNEL_CLASSES:append = " pv-kernel"' > conf/pv-kernel.conf && ` +
		`bitbake -R conf/pv-kernel.conf -e -b "$(ls "$PV_OECORE"/meta/recipes-kernel/linux/linux-yocto_[0-9]*.bb | tail -n 1)"`, judge: features},
}, device("qemux86-64"), device("qemuarm64"), []check{
	{name: "variables and files of the former layer", machine: formerMachine, script: "bitbake pv-former-device pv-former-auto", judge: former},
	{name: "what is not built here, for want of a network, has all that it needs", script: pulls + "pantavisor-initramfs pantavisor-bsp pv-example-bundle" + listed, judge: count},
	{name: "yocto-check-layer", wanted: asked, build: "build-layer", script: "yocto-check-layer --no-auto-dependency $PV_LAYER"},
})

// device are the checks of a whole device: kernel, runtime, containers and a medium that boots.
func device(machine string) []check {
	return []check{
		{name: machine + ": kernel and boot loader of " + targetOf[machine], machine: machine, judge: save},
		{name: machine + ": what an image pulls in", machine: machine, script: pulls + "pv-test-device" + listed, judge: count},
		{name: machine + ": an image for a medium", machine: machine, script: "bitbake pv-test-device"},
		{name: machine + ": again without a change", machine: machine, script: "bitbake pv-test-device", judge: nothing},
		{name: machine + ": boot until the containers are at their goals", machine: machine, judge: boot},
	}
}

// What counts recipes and tasks: a recipe, and a task with its label, in each line.
const (
	pulls  = "bitbake -g "
	listed = " >&2 && cat pn-buildlist && grep 'label=' task-depends.dot"
)

func asked(o *Options) string {
	if !o.Layer {
		return "takes minutes: --layer runs it"
	}
	return ""
}

// counted returns the numbers of recipes and tasks.
func counted(output string) (recipes, tasks int) {
	for line := range strings.Lines(output) {
		switch {
		case strings.Contains(line, "label="):
			tasks++
		case strings.TrimSpace(line) != "":
			recipes++
		}
	}
	return recipes, tasks
}

func count(_ context.Context, _ *Options, _, output string) (string, error) {
	recipes, tasks := counted(output)
	return fmt.Sprintf("%d recipes, %d tasks", recipes, tasks), nil
}

// few compares recipes and tasks with the limits.
func few(ctx context.Context, o *Options, machine, output string) (string, error) {
	recipes, tasks := counted(output)
	if recipes == 0 || recipes > maxRecipes || tasks > maxTasks {
		return "", fault.New(fault.Goal, "%d recipes and %d tasks; want at most %d and %d", recipes, tasks, maxRecipes, maxTasks)
	}
	return count(ctx, o, machine, output)
}

// nothing looks whether a build had nothing to do.
func nothing(_ context.Context, _ *Options, _, output string) (string, error) {
	if !strings.Contains(output, "all succeeded") {
		return "", fault.New(fault.Goal, "no summary of tasks")
	}
	_, rest, _ := strings.Cut(output, "Attempted ")
	var all, kept int
	if _, err := fmt.Sscanf(rest, "%d tasks of which %d", &all, &kept); err != nil || all != kept {
		return "", fault.New(fault.Goal, "%d of %d tasks were done again", all-kept, all)
	}
	return fmt.Sprintf("0 of %d tasks", all), nil
}

var kernelFeatures = regexp.MustCompile(`(?m)^KERNEL_FEATURES="(.*)"$`)

// features looks for ours in the variables of a kernel's recipe.
func features(_ context.Context, _ *Options, _, output string) (string, error) {
	m := kernelFeatures.FindStringSubmatch(output)
	if m == nil || !strings.Contains(output, "file://pantavisor-kmeta;type=kmeta") {
		return "", fault.New(fault.Goal, "the recipe takes no features of the layer")
	}
	var ours []string
	for _, f := range strings.Fields(m[1]) {
		if strings.HasPrefix(f, "pantavisor/") {
			ours = append(ours, f)
		}
	}
	if !slices.Contains(ours, "pantavisor/pantavisor.scc") {
		return "", fault.New(fault.Goal, "KERNEL_FEATURES has %v of ours; want pantavisor/pantavisor.scc", ours)
	}
	return strings.Join(ours, " "), nil
}

// Check runs the checks in a tree. Without one it says how to give it, and that nothing ran. The
// error is that of the first one that failed; those behind it do not run.
func Check(ctx context.Context, o Options) error {
	if o.OECore == "" {
		for _, c := range checks {
			o.Tell(Result{Name: c.name, State: notRun, Reason: "name a tree of OpenEmbedded-Core and one of BitBake: --oecore=DIR --bitbake=DIR"})
		}
		return nil
	}
	if err := o.prepare(ctx); err != nil {
		return err
	}
	var failed error
	lacking := map[string]bool{} // machines for which something is missing here
	for _, c := range checks {
		r := Result{Name: c.name, State: notRun}
		switch {
		case failed != nil:
			r.Reason = "an earlier one failed"
		case lacking[c.machine]:
			r.Reason = "an earlier one of this machine was not run"
		case c.wanted != nil:
			r.Reason = c.wanted(&o)
		}
		if r.Reason == "" {
			failed = o.result(ctx, c, &r)
			lacking[c.machine] = c.machine != "" && r.State == notRun
		}
		o.Tell(r)
	}
	return failed
}

// notRun is the state of a check for which something is missing here.
const notRun = "not run"

// result runs a check and fills in its result.
func (o *Options) result(ctx context.Context, c check, r *Result) error {
	start := time.Now()
	found, err := o.run(ctx, c)
	r.Seconds, r.Found, r.State = time.Since(start).Seconds(), found, "done"
	if err != nil {
		r.Reason, r.State = err.Error(), "failed"
	}
	if fault.Of(err) == fault.Missing { // of this machine, not of the layer
		r.State = notRun
		return nil
	}
	if err != nil {
		return fault.New(fault.Of(err), "%s: %w", c.name, err)
	}
	return nil
}

// nobody is the user that BitBake runs as when we are root, as which it refuses to.
const nobody = 65534

// prepare makes the build directories.
func (o *Options) prepare(ctx context.Context) error {
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
	for _, file := range []string{filepath.Join(o.OECore, "oe-init-build-env"), filepath.Join(o.BitBake, "bin/bitbake"), o.Source} {
		if _, err := os.Stat(file); err != nil {
			return fault.Wrap(fault.BadInput, err, "looking for the trees of OpenEmbedded-Core and BitBake, and for the source")
		}
	}
	layers := filepath.Join(o.Work, "layers")
	if err := errors.Join(os.RemoveAll(layers), os.MkdirAll(o.Work, 0o755)); err != nil {
		return fault.Wrap(fault.IO, err, "preparing the build directory")
	}
	// Sources of recipes are in it, and those in Go must not become packages of a module around it.
	if err := os.WriteFile(filepath.Join(o.Work, "go.mod"), []byte("module builds\n"), 0o644); err != nil {
		return fault.Wrap(fault.IO, err, "preparing the build directory")
	}
	for name, from := range map[string]string{"meta-pantavisor-go": "meta-pantavisor-go", "meta-pv-test": "testdata/meta-pv-test"} {
		if err := os.CopyFS(filepath.Join(layers, name), os.DirFS(filepath.Join(o.Root, "integration/yocto", from))); err != nil {
			return fault.Wrap(fault.IO, err, "copying the layers")
		}
	}
	goroot, archive, err := o.packGo(ctx)
	if err == nil {
		site := o.site(goroot)
		err = o.configure("build-layer", site, filepath.Join(o.OECore, "meta"))
		site = append(site, `PANTAVISOR_GOROOT:pn-pvr-native = ""`, `SRC_URI:pn-pantavisor-go-native = "file://`+archive+`;name=archive"`,
			`PV_TEST_PARTS = "`+o.parts("${MACHINE}")+`"`)
		site = append(site, pseudo()...)
		err = errors.Join(err, o.configure("build", site, filepath.Join(o.OECore, "meta"), filepath.Join(layers, "meta-pantavisor-go"), filepath.Join(layers, "meta-pv-test")))
	}
	if err != nil {
		return fault.Wrap(fault.Of(err), err, "preparing the build directory")
	}
	return o.readable(ctx, goroot)
}

// packGo returns this machine's Go, and an archive of it in the form of those that the Go project
// publishes, for the recipe that takes these.
func (o *Options) packGo(ctx context.Context) (root, archive string, err error) {
	text, err := exec.CommandContext(ctx, "go", "env", "GOROOT", "GOVERSION").Output()
	words := strings.Fields(string(text))
	if err != nil {
		return "", "", fault.Wrap(fault.Missing, err, "asking for the directory of Go: go env GOROOT GOVERSION")
	}
	if len(words) != 2 {
		return "", "", fault.New(fault.Missing, "go env GOROOT GOVERSION prints %q; want a directory without blanks and a version", text)
	}
	root, archive = words[0], filepath.Join(o.Work, words[1]+".tar")
	if _, err := os.Stat(archive); err == nil {
		return root, archive, nil
	}
	part := archive + ".part"
	cmd := exec.CommandContext(ctx, "tar", "--dereference", "--transform=s,^\\.,go,", "-C", root, "-cf", part, ".")
	cmd.Stdout, cmd.Stderr = o.Out, o.Out
	if err := cmd.Run(); err != nil {
		return "", "", errors.Join(fault.Wrap(fault.IO, err, "packing %s with tar", root), os.Remove(part))
	}
	return root, archive, os.Rename(part, archive)
}

// site returns what all builds have in their configuration.
func (o *Options) site(goroot string) []string {
	version := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(o.Source), "pantavisor-"), "-vendored.tar.gz")
	return []string{
		`BB_NO_NETWORK = "1"`, `CONNECTIVITY_CHECK_URIS = ""`, fmt.Sprintf(`BB_NUMBER_THREADS ?= "%d"`, runtime.NumCPU()),
		`PANTAVISOR_SOURCE = "file://` + o.Source + `"`, `PANTAVISOR_VERSION = "` + version + `"`, `PANTAVISOR_GOROOT = "` + goroot + `"`,
	}
}

// configure writes the configuration of a build directory.
func (o *Options) configure(name string, site []string, layers ...string) error {
	build := filepath.Join(o.Work, name)
	conf := filepath.Join(build, "conf")
	if err := os.MkdirAll(conf, 0o755); err != nil {
		return err
	}
	for file, lines := range map[string][]string{
		"site.conf":     site,
		"bblayers.conf": {`POKY_BBLAYERS_CONF_VERSION = "2"`, `BBPATH = "${TOPDIR}"`, `BBFILES ?= ""`, `BBLAYERS ?= "` + strings.Join(layers, " ") + `"`},
	} {
		if err := os.WriteFile(filepath.Join(conf, file), []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
			return err
		}
	}
	if os.Geteuid() != 0 {
		return nil
	}
	return errors.Join(os.Lchown(build, nobody, nobody), os.Lchown(conf, nobody, nobody))
}

// readable looks whether BitBake's user can read what the build has outside of its directory.
func (o *Options) readable(ctx context.Context, goroot string) error {
	for _, p := range []string{filepath.Join(o.OECore, "oe-init-build-env"), filepath.Join(o.BitBake, "bin/bitbake"), o.Source, filepath.Join(goroot, "bin/go"), filepath.Join(o.Work, "layers")} {
		if err := o.command(ctx, "test", "-r", p).Run(); err != nil {
			return fault.New(fault.BadInput, "%s: the user that BitBake runs as cannot read it: put it where all users may", p)
		}
	}
	return nil
}

// command returns a command of BitBake's user.
func (o *Options) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = "/"
	cmd.Env = []string{
		"HOME=" + filepath.Join(o.Work, "build"), "PATH=" + os.Getenv("PATH"), "LANG=en_US.UTF-8", "LC_ALL=en_US.UTF-8", "TERM=dumb", "USER=nobody",
		"PV_LAYER=" + filepath.Join(o.Work, "layers/meta-pantavisor-go"), "PV_OECORE=" + o.OECore,
	}
	if n := os.Getenv("BB_NUMBER_THREADS"); n != "" {
		cmd.Env = append(cmd.Env, "BB_NUMBER_THREADS="+n)
	}
	// BitBake's client and server end in order when they are interrupted, as by a terminal.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
	cmd.WaitDelay = patience
	if os.Geteuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	}
	return cmd
}

// patience is how long BitBake may take to end.
const patience = 30 * time.Second

// run runs one check, and returns what it has counted.
func (o *Options) run(ctx context.Context, c check) (string, error) {
	var output bytes.Buffer
	if c.script != "" {
		build := filepath.Join(o.Work, cmp.Or(c.build, "build"))
		script := fmt.Sprintf("cd '%s' && set -- '%s' && . ./oe-init-build-env '%s' '%s' >/dev/null && %s", o.OECore, build, build, o.BitBake, c.script)
		cmd := o.command(ctx, "bash", "-c", script)
		if c.machine != "" {
			cmd.Env = append(cmd.Env, "MACHINE="+c.machine)
		}
		cmd.Stdout, cmd.Stderr = io.MultiWriter(&output, o.Out), o.Out
		if err := cmd.Run(); err != nil {
			return "", fault.Wrap(fault.Goal, err, "running %s", strings.Fields(c.script)[0])
		}
	}
	if c.judge == nil {
		return "", nil
	}
	return c.judge(ctx, o, c.machine, output.String())
}
