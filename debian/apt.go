package debian

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/filelock"
	"github.com/pantavisor/pantavisor/internal/spelling"
)

// Apt is the archive as this machine's own apt reaches it: with its mirrors, keys and
// proxies, but with lists, caches and an empty package state in a private directory for
// each suite and architecture. The machine's package state is never read or written, and
// an index that is broken or does not match its Release file affects no other suite or
// architecture. It does not need root.
//
// An Apt may be used by several goroutines; several processes may share Dir.
type Apt struct {
	// Dir holds the private roots, one directory each, of up to about 30 MB.
	Dir string
	// Warn receives warnings for the user; nil drops them.
	Warn func(string)
	// Config is the directory with the machine's source lists. Default: the one that apt
	// reports (/etc/apt).
	Config string
	// Tries is the number of attempts over the network. Default: 4.
	Tries int
	// Pause is the first wait between attempts, doubled each time. Default: 1 s.
	Pause time.Duration

	mu    sync.Mutex
	roots map[string]*root
}

var _ Archive = (*Apt)(nil)

// aptGet and its companions, looked up in PATH.
const (
	aptGet    = "apt-get"
	aptCache  = "apt-cache"
	aptConfig = "apt-config"
)

// helper is apt's program that downloads one file with apt's own methods.
const helper = "/usr/lib/apt/apt-helper"

func (a *Apt) warn(format string, args ...any) {
	if a.Warn != nil {
		a.Warn(fmt.Sprintf(format, args...))
	}
}

func (a *Apt) tries() int {
	if a.Tries > 0 {
		return a.Tries
	}
	return 4
}

// root is one private apt root.
type root struct {
	dir     string
	suite   string
	conf    string
	mirrors mirrors
	mu      sync.Mutex
	fresh   bool  // lists were updated by this process
	broken  error // why the lists could not be updated
}

// root returns the private root of a suite and architecture, created on first use.
func (a *Apt) root(ctx context.Context, suite, arch string) (*root, error) {
	if !word.MatchString(suite) || !word.MatchString(arch) {
		return nil, fault.New(fault.BadInput, "opening a package root: bad suite %q or architecture %q", suite, arch)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	key := suite + "-" + arch
	if r := a.roots[key]; r != nil {
		return r, nil
	}
	r, err := a.makeRoot(ctx, key, suite, arch)
	if err != nil {
		return nil, err
	}
	if a.roots == nil {
		a.roots = map[string]*root{}
	}
	a.roots[key] = r
	return r, nil
}

func (a *Apt) makeRoot(ctx context.Context, key, suite, arch string) (*root, error) {
	if _, err := exec.LookPath(aptGet); err != nil {
		return nil, fault.New(fault.Missing, "looking for apt-get: not found on this machine; "+
			"parts come from Debian's archive through apt, so build on Debian or a system derived from it")
	}
	all, err := a.sources(ctx)
	if err != nil {
		return nil, err
	}
	m, err := findMirrors(all)
	if err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(filepath.Join(a.Dir, key))
	if err != nil {
		return nil, fault.Wrap(fault.IO, err, "making package root %s", key)
	}
	r := &root{dir: dir, suite: suite, conf: filepath.Join(dir, "apt.conf"), mirrors: m}
	return r, r.write(ctx, m.text(suite, arch), arch)
}

// write creates the root's directories and configuration.
func (r *root) write(ctx context.Context, sources, arch string) error {
	for _, d := range []string{"state/lists/partial", "cache/archives/partial", "etc"} {
		if err := os.MkdirAll(filepath.Join(r.dir, d), 0o755); err != nil {
			return fault.Wrap(fault.IO, err, "making package root")
		}
	}
	inherited, err := machineConfig(ctx)
	if err != nil {
		return err
	}
	files := map[string]string{
		"state/status": "", "etc/debian.sources": sources, "apt.conf": inherited + r.settings(arch),
	}
	for name, text := range files {
		if err := writeIfChanged(filepath.Join(r.dir, name), text); err != nil {
			return err
		}
	}
	return nil
}

// writeIfChanged avoids a sync to disk when the file is unchanged.
func writeIfChanged(file, text string) error {
	if old, err := os.ReadFile(file); err == nil && string(old) == text {
		return nil
	}
	return fault.Wrap(fault.IO, atomicfile.Write(file, []byte(text), 0o644), "writing package root")
}

// settings returns the configuration that keeps apt inside the root. The machine's own
// configuration files are not read: their hooks would act on the machine.
func (r *root) settings(arch string) string {
	var b strings.Builder
	set := func(key, value string) { fmt.Fprintf(&b, "%s %q;\n", key, value) }
	set("Dir::State", filepath.Join(r.dir, "state"))
	set("Dir::State::status", filepath.Join(r.dir, "state/status"))
	set("Dir::Cache", filepath.Join(r.dir, "cache"))
	set("Dir::Log", filepath.Join(r.dir, "log"))
	set("Dir::Etc::sourcelist", filepath.Join(r.dir, "etc/debian.sources"))
	for _, off := range []string{"sourceparts", "main", "parts", "preferences", "preferencesparts"} {
		set("Dir::Etc::"+off, "/dev/null")
	}
	set("APT::Architecture", arch)
	fmt.Fprintf(&b, "APT::Architectures { %q; };\n", arch)
	set("APT::Sandbox::User", "root")
	set("Acquire::Languages", "none")
	set("Acquire::Retries", "0")
	set("Dpkg::Use-Pty", "0")
	return b.String()
}

// inheritable matches the machine's settings that a private root needs: how to reach the
// mirrors, with which keys and passwords.
var inheritable = regexp.MustCompile(`^(Acquire::|Dir::Etc::(netrc|trusted)|Dir::Bin::methods)`)

// indexSettings matches settings that change which indexes are fetched and how they are
// stored.
var indexSettings = regexp.MustCompile(`^Acquire::(IndexTargets|GzipIndexes|Languages|Retries)`)

// machineConfig returns the machine's inheritable settings in apt.conf(5) form.
func machineConfig(ctx context.Context) (string, error) {
	out, err := run(ctx, "", aptConfig, "dump")
	if err != nil {
		return "", fault.Wrap(fault.Missing, err, "reading apt's configuration")
	}
	var b strings.Builder
	for line := range strings.Lines(out) {
		if inheritable.MatchString(line) && !indexSettings.MatchString(line) && !strings.HasSuffix(strings.TrimSpace(line), ` "";`) {
			b.WriteString(line)
		}
	}
	return b.String(), nil
}

// sources reads the machine's source lists.
func (a *Apt) sources(ctx context.Context) ([]source, error) {
	dir := a.Config
	if dir == "" {
		dir = machineEtc(ctx)
	}
	var out []source
	lists, _ := filepath.Glob(filepath.Join(dir, "sources.list.d", "*"))
	for _, file := range append([]string{filepath.Join(dir, "sources.list")}, lists...) {
		text, err := os.ReadFile(file)
		switch {
		case errors.Is(err, os.ErrNotExist):
		case err != nil:
			return nil, fault.Wrap(fault.IO, err, "reading apt's source lists")
		case strings.HasSuffix(file, ".list"):
			out = append(out, parseList(string(text))...)
		case strings.HasSuffix(file, ".sources"):
			out = append(out, parseStanzas(string(text))...)
		}
	}
	return out, nil
}

// machineEtc asks apt for the directory of its configuration.
func machineEtc(ctx context.Context) string {
	out, err := run(ctx, "", aptConfig, "shell", "E", "Dir::Etc/d")
	if err != nil {
		return "/etc/apt"
	}
	return strings.Trim(strings.TrimPrefix(strings.TrimSpace(out), "E="), "'")
}

// update refreshes the lists once per process, with retries. When an index stays broken,
// the others are used; the caller finds out whether they suffice.
func (r *root) update(ctx context.Context, a *Apt) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fresh || r.broken != nil {
		return r.broken
	}
	lock, err := filelock.Acquire(ctx, filepath.Join(r.dir, "lock"), filelock.Options{Create: 0o644})
	if err != nil {
		return fault.Wrap(fault.IO, err, "reading the package lists of %s", filepath.Base(r.dir))
	}
	defer lock.Unlock()
	err = a.retry(ctx, func() error {
		_, err := r.run(ctx, aptGet, "-q", "-o", "APT::Update::Error-Mode=any", "update")
		return err
	})
	switch {
	case err == nil:
		r.fresh = true
	case noSuite(err, r.suite) && !r.hasLists():
		r.broken = fault.New(fault.BadInput, "%w", &UnknownSuiteError{Suite: r.suite})
		return r.broken
	case fault.Of(err) == fault.Cancelled || fault.Of(err) == fault.NoSpace || !r.hasLists():
		r.broken = advise(fault.Wrap(fault.Unreachable, err, "reading the package lists of %s", filepath.Base(r.dir)))
		return r.broken
	default:
		r.fresh = true
		a.warn("package lists of %s: not all could be refreshed; continuing with the existing ones: %v", filepath.Base(r.dir), err)
	}
	return nil
}

// noSuite reports whether apt says that the archive has no such suite.
func noSuite(err error, suite string) bool {
	return err != nil && strings.Contains(err.Error(), " "+suite+" Release' does not have a Release file")
}

// UnknownSuiteError says that the archive has no suite of a name.
type UnknownSuiteError struct{ Suite string }

// Error names the suite, and one that it resembles.
func (e *UnknownSuiteError) Error() string {
	hint := ""
	if near := spelling.Nearest(e.Suite, suites); len(near) > 0 && near[0] != e.Suite {
		hint = "; did you mean " + near[0] + "?"
	}
	return fmt.Sprintf("the archive that this machine has in its package sources has no suite %q%s", e.Suite, hint)
}

// suites are those that a misspelt name is compared with.
var suites = []string{"bullseye", "bookworm", "trixie", "forky", "sid", "stable", "testing", "unstable"}

func (r *root) hasLists() bool {
	found, _ := filepath.Glob(filepath.Join(r.dir, "state/lists/*_Packages*"))
	return len(found) > 0
}

// run starts one of apt's programs inside the root.
func (r *root) run(ctx context.Context, name string, args ...string) (string, error) {
	return run(ctx, r.conf, name, args...)
}

// retry runs f until it succeeds, the attempts are used up, or it fails with an error
// that another attempt cannot fix.
func (a *Apt) retry(ctx context.Context, f func() error) error {
	pause := a.Pause
	if pause == 0 {
		pause = time.Second
	}
	for try := 1; ; try++ {
		err := f()
		k := fault.Of(err)
		if err == nil || try >= a.tries() || k == fault.NoSpace || k == fault.Missing || k == fault.Cancelled {
			return err
		}
		select {
		case <-ctx.Done():
			return fault.Wrap(fault.Cancelled, ctx.Err(), "waiting for another try")
		case <-time.After(pause):
		}
		pause *= 2
	}
}

// run starts one of apt's programs; its messages decide the kind of an error.
func run(ctx context.Context, conf, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 3 * time.Second
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	if conf != "" {
		cmd.Env = append(cmd.Env, "APT_CONFIG="+conf)
	}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	switch {
	case err == nil:
		return out.String(), nil
	case ctx.Err() != nil:
		return "", fault.Wrap(fault.Cancelled, ctx.Err(), "running %s", filepath.Base(name))
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, os.ErrNotExist):
		return "", fault.New(fault.Missing, "running %s: not found on this machine; install the package apt", name)
	}
	said := complaint(errs.String())
	return "", fault.New(kindOf(said), "running %s %s: %w: %s", filepath.Base(name), args[0], err, said)
}

// idle lists lines of apt that only refer to another line.
var idle = map[string]bool{
	"E: Download Failed": true,
	"E: Some index files failed to download. They have been ignored, or old ones used instead.": true,
}

// complaint returns apt's error lines, or else the last line, up to a limit.
func complaint(stderr string) string {
	var lines []string
	last := ""
	for line := range strings.Lines(stderr) {
		line = strings.TrimSpace(line)
		if idle[line] {
			continue
		}
		if strings.HasPrefix(line, "E:") || strings.HasPrefix(line, "W: Failed") || strings.HasPrefix(line, "Err:") {
			lines = append(lines, line)
		}
		if line != "" {
			last = line
		}
	}
	if len(lines) == 0 {
		lines = []string{last}
	}
	text := strings.Join(lines, "; ")
	return text[:min(len(text), 600)]
}

var complaints = []struct {
	says *regexp.Regexp
	kind fault.Kind
}{
	{regexp.MustCompile(`No space left|enough free space`), fault.NoSpace},
	{regexp.MustCompile(`Hash Sum mismatch|unexpected size|Mirror sync in progress|hash mismatch|Hashes of`), fault.Digest},
	{regexp.MustCompile(`\s404\s|Not Found|Failed to stat|Unable to locate|No packages found|has no installation candidate|File not found`), fault.Missing},
	{regexp.MustCompile(`resol|onnect|imed out|Failed to fetch|Temporary|unreachable|proxy`), fault.Unreachable},
}

// kindOf maps apt's messages to a kind.
func kindOf(said string) fault.Kind {
	for _, c := range complaints {
		if c.says.MatchString(said) {
			return c.kind
		}
	}
	return fault.IO
}
