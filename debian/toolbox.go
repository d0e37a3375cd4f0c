package debian

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/debian/deb"
	"github.com/pantavisor/pantavisor/internal/command"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/sbom"
)

// ToolsRequest is the name of the closure request for the helper programs of the build
// machine.
const ToolsRequest = "tools"

// ToolSuite is the release that helper programs come from on every build machine, so that
// all machines use the same programs.
const ToolSuite = "bookworm"

// Toolbox is the step that unpacks helper programs with all their libraries. A step that
// runs one depends on the toolbox, so that the program is part of its key, and starts it
// with [Toolbox.Command]: through the toolbox's own dynamic loader, so that the machine's
// libraries do not matter. It does not need root.
type Toolbox struct {
	// Request names the closure request whose packages it holds.
	Request  string
	Packages []*Fetch `json:"-"`
}

var (
	_ build.Step      = (*Toolbox)(nil)
	_ build.Versioned = (*Toolbox)(nil)
)

// Toolbox returns the toolbox of a closure request.
func (p *Parts) Toolbox(r Request) (*Toolbox, error) {
	all, err := p.All(r)
	if err != nil {
		return nil, err
	}
	return &Toolbox{Request: r.id(), Packages: all}, nil
}

// Name is "toolbox/REQUEST/ARCH".
func (t *Toolbox) Name() string { return "toolbox/" + t.Request }

// Version of the step's logic.
func (t *Toolbox) Version() int { return 2 }

// Deps are the packages.
func (t *Toolbox) Deps() []build.Step {
	out := make([]build.Step, len(t.Packages))
	for i, p := range t.Packages {
		out[i] = p
	}
	return out
}

// Run unpacks programs and libraries.
func (t *Toolbox) Run(ctx context.Context, w *build.Work) error {
	for _, p := range t.Packages {
		keep := func(name string) bool { return isTool(name) || name == p.Licence() }
		if err := p.Extract(ctx, w, deb.Extract{Keep: keep, Place: merged}); err != nil {
			return err
		}
	}
	return nil
}

// Tooling says that its programs run on the build machine.
func (*Toolbox) Tooling() {}

// Supplies are the packages.
func (t *Toolbox) Supplies(in func(build.Step) string) (out []sbom.Supply, err error) {
	for _, p := range t.Packages {
		found, err := p.Supply(in(p), in(t))
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
	return out, nil
}

// isTool reports whether a program needs the file to run: documentation, locales and
// character set converters are left out.
func isTool(name string) bool {
	name = merged(name)
	if strings.Contains(name, "/gconv/") || strings.Contains(name, "/locale/") {
		return false
	}
	return hasPrefix(name, []string{"usr/bin/", "usr/sbin/", "usr/lib"})
}

// HostArch returns Debian's name for the architecture that this program runs on, which is
// that of the helper programs.
func HostArch() string {
	names := map[string]string{"386": "i386", "arm": "armhf", "mipsle": "mipsel", "ppc64le": "ppc64el"}
	if n, ok := names[runtime.GOARCH]; ok {
		return n
	}
	return runtime.GOARCH
}

// Command prepares a run of a program of the toolbox: name has no path, dir is the
// working directory. The environment is clean (C locale, UTC, SOURCE_DATE_EPOCH as in
// [build.Epoch]); append to cmd.Env what else the program needs, or another time.
// Cancelling ctx kills the program.
func (t *Toolbox) Command(ctx context.Context, w *build.Work, dir, name string, args ...string) (*exec.Cmd, error) {
	root := w.In(t)
	file, err := t.find(root, name)
	if err != nil {
		return nil, err
	}
	argv, err := start(root, file, name)
	if err != nil {
		return nil, fault.Wrap(fault.Unsupported, err, "starting %s of %s", name, t.Name())
	}
	cmd := exec.CommandContext(ctx, argv[0], append(argv[1:], args...)...)
	cmd.Dir = dir
	cmd.WaitDelay = 5 * time.Second
	cmd.Env = []string{
		"PATH=" + filepath.Join(root, "usr/sbin") + ":" + filepath.Join(root, "usr/bin"),
		"LC_ALL=C", "TZ=UTC", "HOME=/nonexistent", "TMPDIR=" + w.Tmp,
		fmt.Sprintf("SOURCE_DATE_EPOCH=%d", build.Epoch),
	}
	return cmd, nil
}

// Exec runs a program as prepared by Command. Its output is in the error when it fails
// and is discarded otherwise.
func (t *Toolbox) Exec(ctx context.Context, w *build.Work, dir, name string, args ...string) error {
	cmd, err := t.Command(ctx, w, dir, name, args...)
	if err != nil {
		return err
	}
	return command.Run(ctx, cmd, name)
}

func (t *Toolbox) find(root, name string) (string, error) {
	for _, d := range []string{"usr/bin", "usr/sbin"} {
		file := filepath.Join(root, d, name)
		// An absolute link of a package refers to the toolbox's root, not the machine's.
		if to, err := os.Readlink(file); err == nil && filepath.IsAbs(to) {
			file = filepath.Join(root, merged(strings.TrimPrefix(filepath.Clean(to), "/")))
		}
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() {
			return file, nil
		}
	}
	return "", fault.New(fault.Missing, "looking for program %s: not found in any package of %s", name, t.Name())
}

var errScript = errors.New("it is a script: only ELF programs run from a toolbox")

// start returns the command line that starts a program: through the root's own loader, or
// directly when it is static.
func start(root, file, name string) ([]string, error) {
	loader, err := interpreter(file)
	if err != nil {
		return nil, err
	}
	if loader == "" {
		return []string{file}, nil
	}
	dirs := []string{filepath.Join(root, "usr/lib")}
	triplets, err := filepath.Glob(filepath.Join(root, "usr/lib", "*-linux-gnu*"))
	if err != nil {
		return nil, err
	}
	dirs = append(triplets, dirs...)
	inside := filepath.Join(root, merged(strings.TrimLeft(loader, "/")))
	return []string{inside, "--inhibit-cache", "--library-path", strings.Join(dirs, ":"), "--argv0", name, file}, nil
}

// interpreter returns the dynamic loader that an ELF program names, empty for a static
// program.
func interpreter(file string) (string, error) {
	f, err := elf.Open(file)
	var format *elf.FormatError
	if errors.As(err, &format) {
		return "", errScript
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			b, err := io.ReadAll(io.LimitReader(p.Open(), 4096))
			return strings.TrimRight(string(b), "\x00"), err
		}
	}
	return "", nil
}
