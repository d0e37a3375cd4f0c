package workspace

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/debian"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/filecopy"
)

// rebuild builds a target once more in another process.
type rebuild struct {
	*Workspace
	VerifyOptions
	target string
	recipe *build.Recipe // nil when it is not known
	dir    string        // an empty directory

	conditions []string
}

// Places below the directory of a rebuild. The tree is deeper than the usual one.
const (
	rebuiltTree  = "elsewhere/another/tree"
	rebuiltOut   = "results"
	rebuiltCache = "cache"
)

func (r *rebuild) at(name string) string { return filepath.Join(r.dir, filepath.FromSlash(name)) }

// results returns the path of a result.
func (r *rebuild) results(name string) string {
	out := r.at(rebuiltOut)
	if r.Results != "" {
		out = r.path(r.Results)
	}
	return filepath.Join(out, r.target, filepath.FromSlash(name))
}

// run copies the source tree, gives the copy the lock of the recipe, and builds it.
func (r *rebuild) run(ctx context.Context) (*build.Report, error) {
	if err := r.copyTree(ctx); err != nil {
		return nil, err
	}
	lock, err := r.lock()
	if err != nil {
		return nil, err
	}
	if err := r.packages(ctx, lock); err != nil {
		return nil, err
	}
	env, err := r.environment(ctx)
	if err != nil {
		return nil, err
	}
	report := r.results(build.ReportName)
	if err := os.Remove(report); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fault.Wrap(fault.IO, err, "removing the report of an earlier rebuild")
	}
	if err := r.process(ctx, env); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, failureOf(report, err)
	}
	return build.LoadReport(report)
}

// copyTree copies the source tree, without results and without what version control has.
func (r *rebuild) copyTree(ctx context.Context) error {
	names, err := os.ReadDir(r.Root)
	if err != nil {
		return fault.Wrap(fault.IO, err, "copying the source tree")
	}
	to := r.at(rebuiltTree)
	if err := os.MkdirAll(to, 0o755); err != nil {
		return fault.Wrap(fault.IO, err, "copying the source tree")
	}
	root, err := filepath.Abs(r.Root)
	if err != nil {
		return fault.Wrap(fault.IO, err, "copying the source tree")
	}
	for _, n := range names {
		from := filepath.Join(root, n.Name())
		if n.Name() == ".git" || from == r.outDir() || from == filepath.Join(root, "out") || r.Results != "" && from == r.path(r.Results) {
			continue
		}
		switch {
		case n.IsDir():
			err = build.CopyTree(ctx, filepath.Join(to, n.Name()), from)
		case n.Type().IsRegular():
			err = build.CopyFile(ctx, filepath.Join(to, n.Name()), from)
		case n.Type()&fs.ModeSymlink != 0:
			var target string
			if target, err = os.Readlink(from); err == nil {
				err = os.Symlink(target, filepath.Join(to, n.Name()))
			}
		}
		if err != nil {
			return fault.Wrap(fault.IO, err, "copying the source tree")
		}
	}
	return nil
}

// lock puts the lock of the recipe into the copy, and returns it, or that of the copy.
func (r *rebuild) lock() (*debian.Lock, error) {
	l, err := r.Sources()
	if err != nil {
		return nil, err
	}
	t, err := r.loadWhole(r.target)
	if err != nil {
		return nil, err
	}
	if r.recipe == nil {
		return debian.LoadLock(r.usedLock(l, t.Definition))
	}
	lock, err := debian.ParseLock([]byte(r.recipe.Lock))
	if err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "reading the lock in the record of the build")
	}
	file := filepath.Join(r.at(rebuiltTree), "targets", t.Definition, lockName)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return nil, fault.Wrap(fault.IO, err, "writing the lock of the rebuild")
	}
	return lock, fault.Wrap(fault.IO, os.WriteFile(file, []byte(r.recipe.Lock), 0o644), "writing the lock of the rebuild")
}

// packages puts those that are at hand into the cache of the rebuild; its own store checks their
// digests.
func (r *rebuild) packages(ctx context.Context, lock *debian.Lock) error {
	cache, err := build.CacheDir()
	if err != nil {
		return err
	}
	from := debian.Open(cache, nil)
	if r.Parts != "" {
		from = &debian.Store{Dir: filepath.Join(r.path(r.Parts), partsDir)}
	}
	to := debian.Open(r.at(rebuiltCache), nil)
	if err := os.MkdirAll(to.Dir, 0o755); err != nil {
		return fault.Wrap(fault.IO, err, "making the cache of the rebuild")
	}
	for _, e := range lock.Packages {
		if !from.Has(e) {
			continue
		}
		name := e.SHA256 + ".deb"
		err := filecopy.Link(ctx, filepath.Join(to.Dir, name), filepath.Join(from.Dir, name))
		if err != nil && !errors.Is(err, fs.ErrExist) { // one package may be in the lock for several suites
			return fault.Wrap(fault.IO, err, "copying %s", e)
		}
	}
	return nil
}

// environment returns that of the rebuild: little of this process's, with another home, time
// zone and locale.
func (r *rebuild) environment(ctx context.Context) ([]string, error) {
	const zone, locale = "Pacific/Kiritimati", "tr_TR.UTF-8"
	env := []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + r.at("home"), "TMPDIR=" + r.at("tmp"), "TZ=" + zone, "LC_ALL=" + locale, "LANG=" + locale,
		"PV_CACHE_DIR=" + r.at(rebuiltCache), "PV_BUILD_INTERACTIVE=false", "PV_LOCKED=yes", "USER=somebody",
	}
	for _, dir := range []string{"home", "tmp"} {
		if err := os.MkdirAll(r.at(dir), 0o755); err != nil {
			return nil, fault.Wrap(fault.IO, err, "making the directories of the rebuild")
		}
	}
	// The tool chain's caches are shared: it knows their entries by all that they are made of.
	out, err := exec.CommandContext(ctx, "go", "env", "GOCACHE", "GOMODCACHE", "GOPROXY", "GOFLAGS").Output()
	if err != nil {
		return nil, fault.Wrap(fault.Missing, err, "asking the go command for its caches")
	}
	for i, value := range strings.Split(strings.TrimRight(string(out), "\n"), "\n") {
		if name := []string{"GOCACHE", "GOMODCACHE", "GOPROXY", "GOFLAGS"}; i < len(name) && value != "" {
			env = append(env, name[i]+"="+value)
		}
	}
	for _, name := range []string{"GOTOOLCHAIN", "GOMEMLIMIT", "MAGE_PANTAVISOR_DIR", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"} {
		if value := os.Getenv(name); value != "" {
			env = append(env, name+"="+value)
		}
	}
	r.conditions = append(r.conditions, "in "+r.at(rebuiltTree), "time zone "+zone, "locale "+locale, "umask 077")
	recipe := r.recipe
	if recipe == nil {
		own := &build.Recipe{}
		var files map[string]string
		own.Settings, _, files = r.Options.Variables()
		own.Files = map[string]build.RecipeFile{}
		for name, path := range files {
			own.Files[name] = build.RecipeFile{Path: r.path(path)}
		}
		if r.Options.FactoryToken != "" {
			env = append(env, "PV_FACTORY_AUTOTOK="+r.Options.FactoryToken)
		}
		recipe = own
	}
	further, err := environment(ctx, recipe)
	return append(env, further...), err
}

// otherUser is the number by which the process of a rebuild knows its user.
const otherUser = 4711

// process runs the build as another user of a name space of its own, where the kernel allows it,
// with another umask and on fewer cores.
func (r *rebuild) process(ctx context.Context, env []string) error {
	self, err := os.Executable()
	if err != nil {
		return fault.Wrap(fault.IO, err, "looking for this program")
	}
	out := filepath.Dir(r.results(""))
	command := func(attr *syscall.SysProcAttr) *exec.Cmd {
		cmd := exec.CommandContext(ctx, "/bin/sh", "-c", `umask 077; exec "$0" "$@"`, self, "build", r.target, "-out="+out)
		cmd.Dir, cmd.Env = r.at(rebuiltTree), env
		cmd.Stdout, cmd.Stderr = r.Stderr, r.Stderr
		attr.Setpgid = true
		cmd.SysProcAttr = attr
		cmd.WaitDelay = killAfter
		cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
		return cmd
	}
	cmd := command(isolated(r.Offline))
	cores, err := start(cmd)
	if err != nil && !r.Offline {
		cmd = command(&syscall.SysProcAttr{})
		cores, err = start(cmd)
		r.conditions = append(r.conditions, "the same user (the kernel allows no user name space)")
	} else {
		r.conditions = append(r.conditions, fmt.Sprintf("user %d", otherUser))
	}
	if err != nil {
		return fault.Wrap(fault.Unsupported, err, "starting the rebuild, without a network: %v", r.Offline)
	}
	r.conditions = append(r.conditions, cores)
	if r.Offline {
		r.conditions = append(r.conditions, "no network")
	}
	return cmd.Wait()
}

// killAfter is how long a rebuild that is cancelled may take to clean up.
const killAfter = 20 * time.Second

// isolated returns the attributes of a process in a user name space, in which the same user has
// another number, and without a network if that is wanted.
func isolated(offline bool) *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: otherUser, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: otherUser, HostID: os.Getgid(), Size: 1}},
	}
	if offline {
		a.Cloneflags |= syscall.CLONE_NEWNET
	}
	return a
}

// start starts a command on one core less than this process may use, where it may use several,
// and says on how many.
func start(cmd *exec.Cmd) (string, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil || all.Count() < 2 {
		return "one core", cmd.Start()
	}
	fewer, left := all, 0
	for cpu := 0; left < 1; cpu++ {
		if fewer.IsSet(cpu) {
			fewer.Clear(cpu)
			left++
		}
	}
	if err := unix.SchedSetaffinity(0, &fewer); err != nil {
		return "the same cores", cmd.Start()
	}
	err := errors.Join(cmd.Start(), unix.SchedSetaffinity(0, &all))
	return fmt.Sprintf("%d of %d cores", fewer.Count(), all.Count()), err
}
