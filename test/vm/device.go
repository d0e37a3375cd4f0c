// Package vm is the harness of the tests that boot a composed image: it makes
// images through the build graph, starts them in the emulator, types on the debug
// shell and asks the control API.
package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/build/gobinary"
	"github.com/pantavisor/pantavisor/build/gosource"
	"github.com/pantavisor/pantavisor/containers"
	"github.com/pantavisor/pantavisor/debian"
	"github.com/pantavisor/pantavisor/emulator"
	"github.com/pantavisor/pantavisor/images/resolve"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
	"github.com/pantavisor/pantavisor/targets"
)

// Workshop makes images. Its cache is the user's, so that a test run after a
// build has little left to do.
type Workshop struct {
	Target  *targets.Target
	Root    string // the source tree
	parts   *debian.Parts
	builder *build.Builder
}

// Open prepares to make images of a target.
func Open(ctx context.Context, root, target string, warn func(string)) (*Workshop, error) {
	t, err := targets.Load(targets.Builtin(), target)
	if err != nil {
		return nil, err
	}
	lock, err := debian.LoadLock(filepath.Join(root, "targets", target, "parts.lock"))
	if err != nil {
		return nil, err
	}
	dir, err := build.CacheDir()
	if err != nil {
		return nil, err
	}
	store := debian.Open(dir, warn)
	requests, err := resolve.BuildRequests(t, root)
	if err != nil {
		return nil, err
	}
	if lock, _, err = store.Refresh(ctx, lock, requests, debian.Options{Target: target}); err != nil {
		return nil, err
	}
	cache, err := build.OpenCache(dir)
	if err != nil {
		return nil, err
	}
	code, err := gosource.Open(root)
	if err != nil {
		return nil, err
	}
	b := &build.Builder{Cache: cache, Target: target + "-test", Workspace: root, Code: code}
	return &Workshop{Target: t, Root: root, parts: debian.NewParts(store, lock), builder: b}, nil
}

// Image makes the target's image with a debug shell and returns its path, which is
// inside the cache: read only. reference is a .pvr folder with other containers;
// empty takes the target's own.
func (w *Workshop) Image(ctx context.Context, reference string) (string, error) {
	return w.artefact(ctx, ".img", resolve.Options{Debug: true, MergeSource: reference})
}

// Package makes the target's App Engine package and returns its path, which is
// inside the cache: read only.
func (w *Workshop) Package(ctx context.Context) (string, error) {
	return w.artefact(ctx, ".tgz", resolve.Options{})
}

// artefact makes the target's artefact whose name ends so.
func (w *Workshop) artefact(ctx context.Context, suffix string, o resolve.Options) (string, error) {
	o.Root, o.Module, o.Parts = w.Root, w.builder.Code, w.parts
	c, err := resolve.Composition(w.Target, o)
	if err != nil {
		return "", err
	}
	for _, a := range c.Artefacts {
		if !strings.HasSuffix(a.To, suffix) {
			continue
		}
		res, err := w.builder.Build(ctx, a.Step)
		if err != nil {
			return "", err
		}
		return filepath.Join(res.Dir(a.Step), filepath.FromSlash(a.From)), nil
	}
	return "", fmt.Errorf("target %s makes no *%s", w.Target.Name, suffix)
}

// Reference makes containers of a folder like containers/ and puts them together
// as a .pvr folder at dir.
func (w *Workshop) Reference(ctx context.Context, folder string, names []string, dir string) error {
	t := *w.Target
	t.Containers = names
	requests := containers.Requests(w.Target, filepath.Join(w.Root, "containers"))
	if len(requests) == 0 {
		return fmt.Errorf("target %s takes no packages for containers", t.Name)
	}
	parts, err := containers.Parts(&t, containers.Options{
		Dir:      folder,
		Program:  func(pkg string) containers.Builder { return gobinary.New(w.builder.Code, pkg, t.Arch) },
		Packages: func(name string) (*debian.Fetch, error) { return w.parts.Fetch(requests[0], name) },
	})
	if err != nil {
		return err
	}
	steps := make([]build.Step, len(parts))
	for i, p := range parts {
		steps[i] = p
	}
	res, err := w.builder.Build(ctx, steps...)
	if err != nil {
		return err
	}
	var outputs []string
	for _, s := range steps {
		outputs = append(outputs, res.Dir(s))
	}
	return merge(dir, outputs)
}

// Device is a running image.
type Device struct {
	*emulator.Machine
	shell bool // the debug shell is open
	count int
}

// Boot starts an image in a folder that survives power cuts; image "" starts what
// is there already.
func (w *Workshop) Boot(ctx context.Context, image, dir string) (*Device, error) {
	m, err := emulator.Start(ctx, emulator.Config{Emulator: w.Target.Emulators[0], Image: image, Dir: dir})
	if err != nil {
		return nil, err
	}
	return &Device{Machine: m}, nil
}

// Invitation is what the console says when a debug shell can be had.
const Invitation = "Press ENTER for a debug shell."

// Reboot restarts the device through the control API and waits until it comes up.
func (d *Device) Reboot(ctx context.Context) error {
	if err := d.leaveShell(ctx); err != nil {
		return err
	}
	if err := d.API.Command(ctx, api.OpReboot, "test"); err != nil {
		return err
	}
	_, err := d.Console.Expect(ctx, "Linux version")
	return err
}

func (d *Device) leaveShell(ctx context.Context) error {
	if !d.shell {
		return nil
	}
	d.shell = false
	if _, err := d.Console.Write([]byte("exit\r")); err != nil {
		return err
	}
	_, err := d.Console.Expect(ctx, Invitation)
	return err
}

func (d *Device) enterShell(ctx context.Context) error {
	if d.shell {
		return nil
	}
	if _, err := d.Console.Write([]byte("\r")); err != nil {
		return err
	}
	if _, err := d.Console.Expect(ctx, "# "); err != nil {
		return fmt.Errorf("opening the debug shell: %w", err)
	}
	d.shell = true
	_, err := d.Run(ctx, "stty cols 4000 -echo") // long lines stay whole, commands do not come back
	return err
}

// Run runs a command in the debug shell and returns what it prints. An exit code
// other than 0 is an [ExitError].
func (d *Device) Run(ctx context.Context, command string) (string, error) {
	if err := d.enterShell(ctx); err != nil {
		return "", err
	}
	d.count++
	// The quotes keep the marks out of the echo of what is typed.
	begin, end := fmt.Sprintf("BEGIN-%d:", d.count), fmt.Sprintf("END-%d:", d.count)
	line := fmt.Sprintf("echo BE''GIN-%d:; %s; echo EN''D-%d:$?:\r", d.count, command, d.count)
	if _, err := d.Console.Write([]byte(line)); err != nil {
		return "", err
	}
	if out, err := d.Console.Expect(ctx, begin); err != nil {
		return out, fmt.Errorf("running %q: %w", command, err)
	}
	out, err := d.Console.Expect(ctx, end)
	if err != nil {
		return out, fmt.Errorf("running %q: %w", command, err)
	}
	status, err := d.Console.Expect(ctx, ":")
	if err != nil {
		return out, fmt.Errorf("running %q: %w", command, err)
	}
	out = strings.TrimSpace(strings.ReplaceAll(strings.TrimSuffix(out, end), "\r", ""))
	code, err := strconv.Atoi(strings.TrimSuffix(status, ":"))
	if err != nil {
		return out, fmt.Errorf("running %q: exit code %q: %w", command, status, err)
	}
	if code != 0 {
		return out, &ExitError{command, code, out}
	}
	return out, nil
}

// ExitError is a command of the debug shell that failed.
type ExitError struct {
	Command string
	Code    int
	Output  string
}

func (e *ExitError) Error() string {
	return fmt.Sprintf("running %q on the device: exit code %d: %s", e.Command, e.Code, e.Output)
}

// Root finds the source tree above the working folder.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
	}
	return "", errors.New("no go.mod above the working folder")
}
