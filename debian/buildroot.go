package debian

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/debian/deb"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/sbom"
)

// BuildRoot is the step that unpacks a closure of packages as a root file system in which
// compilers run: programs, headers and data where the programs expect them. No maintainer
// script runs. The closure must have busybox-static, which enters the root, and coreutils.
type BuildRoot struct {
	// Request names the closure request whose packages it holds.
	Request string
	// Links are further symbolic links, by path: what update-alternatives makes elsewhere.
	Links    map[string]string `json:",omitempty"`
	Packages []*Fetch          `json:"-"`
}

var _ build.Step = (*BuildRoot)(nil)

// BuildRoot returns the build root of a closure request.
func (p *Parts) BuildRoot(r Request, links map[string]string) (*BuildRoot, error) {
	all, err := p.All(r)
	if err != nil {
		return nil, err
	}
	return &BuildRoot{Request: r.id(), Links: links, Packages: all}, nil
}

// Name is "buildroot/REQUEST/ARCH".
func (b *BuildRoot) Name() string { return "buildroot/" + b.Request }

// Deps are the packages.
func (b *BuildRoot) Deps() []build.Step {
	out := make([]build.Step, len(b.Packages))
	for i, p := range b.Packages {
		out[i] = p
	}
	return out
}

// Tooling says that its programs run on the build machine.
func (*BuildRoot) Tooling() {}

// Supplies are the packages. Their licences are not known: the root has none of their texts.
func (b *BuildRoot) Supplies(in func(build.Step) string) (out []sbom.Supply, err error) {
	for _, p := range b.Packages {
		found, err := p.Supply(in(p), in(b))
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
	return out, nil
}

// mountPoints are directories of the root that [BuildRoot.Command] mounts something on, or that
// programs expect.
var mountPoints = []string{"build", "dev", "proc", "tmp", "etc", "old"}

// Run unpacks the packages with a merged /usr.
func (b *BuildRoot) Run(ctx context.Context, w *build.Work) error {
	for _, p := range b.Packages {
		if err := p.Extract(ctx, w, deb.Extract{Keep: inBuildRoot, Place: merged}); err != nil {
			return err
		}
	}
	links := map[string]string{}
	for _, dir := range []string{"bin", "sbin", "lib", "lib32", "lib64", "libx32"} {
		links[dir] = "usr/" + dir
	}
	for name, to := range b.Links {
		links[name] = to
	}
	return fault.Wrap(fault.IO, furnish(w.Out, links), "making %s", b.Name())
}

// furnish adds the mount points and links to a root.
func furnish(root string, links map[string]string) error {
	var all error
	for _, dir := range mountPoints {
		all = errors.Join(all, os.MkdirAll(filepath.Join(root, dir), 0o755))
	}
	for name, to := range links {
		all = errors.Join(all, os.Symlink(to, filepath.Join(root, name)))
	}
	return all
}

// inBuildRoot leaves out documentation, translations and maintainers' data.
func inBuildRoot(name string) bool {
	name = merged(name)
	for _, dir := range []string{"doc", "man", "info", "locale", "lintian", "bug", "doc-base", "menu"} {
		if strings.HasPrefix(name, "usr/share/"+dir+"/") {
			return false
		}
	}
	return !strings.Contains(name, "/gconv/") && hasPrefix(name, []string{"usr/", "etc/"})
}

// enter is the script that enters a build root: in a mount namespace of its own the root is
// bound to an empty directory, read-only where the kernel allows it, with harmless devices of the
// machine and the work directory in it. The root of the machine is gone behind it. /proc has the
// processes of the build only; a machine that hides parts of its own, as containers do, allows
// none, and no compiler needs it. $1 is busybox, $2 the root, $3 the empty directory, $4 the work
// directory.
const enter = `bb=$1 root=$2 at=$3 work=$4
shift 4
prepare() {
	$bb mount -o rbind "$root" "$at" || return
	$bb mount -o remount,ro,bind "$at" 2>/dev/null
	# Of a user a device in a directory that all can write to cannot be opened with O_CREAT.
	$bb mount -t tmpfs -o mode=755 none "$at/dev" || return
	for node in null zero full random urandom; do
		: > "$at/dev/$node" && $bb mount -o bind "/dev/$node" "$at/dev/$node" || return
	done
	$bb ln -s /proc/self/fd "$at/dev/fd" && $bb ln -s /proc/self/fd/0 "$at/dev/stdin" || return
	$bb ln -s /proc/self/fd/1 "$at/dev/stdout" && $bb ln -s /proc/self/fd/2 "$at/dev/stderr" || return
	$bb mount -t proc none "$at/proc" 2>/dev/null
	$bb mount -t tmpfs none "$at/tmp" && $bb mount -o bind "$work" "$at/build" || return
	cd "$at" && $bb pivot_root . old && cd / && /usr/bin/busybox umount -l /old
}
prepare || exit ` + cannotEnter + `
exec /usr/bin/env -C /build "$@"
`

// cannotEnter is the exit status of enter when the machine does not allow the mounts.
const cannotEnter = "121"

// Command prepares a run of a program in the build root, in namespaces of its own and without
// network: dir is its working directory and the one that it can write to besides /tmp; there it
// is /build on every machine. The environment is clean, as for [Toolbox.Command]; append to
// cmd.Env what else the program needs. Who is not root needs a kernel that gives users
// namespaces. Cancelling ctx ends everything that runs in it; so does the end of the calling
// thread.
func (b *BuildRoot) Command(ctx context.Context, w *build.Work, dir string, argv ...string) (*exec.Cmd, error) {
	root := w.In(b)
	at, err := os.MkdirTemp(w.Tmp, "root-")
	if err != nil {
		return nil, fault.Wrap(fault.IO, err, "starting %s", argv[0])
	}
	busybox := filepath.Join(root, "usr/bin/busybox")
	args := append([]string{"sh", "-c", enter, "enter", busybox, root, at, dir}, argv...)
	cmd := exec.CommandContext(ctx, busybox, args...)
	cmd.Dir = "/"
	cmd.WaitDelay = 5 * time.Second
	cmd.Env = []string{
		"PATH=/usr/sbin:/usr/bin", "LC_ALL=C", "TZ=UTC", "HOME=/build", "TMPDIR=/tmp",
		fmt.Sprintf("SOURCE_DATE_EPOCH=%d", build.Epoch),
	}
	cmd.SysProcAttr = isolated(os.Geteuid(), os.Getegid())
	return cmd, nil
}

// isolated returns the namespaces of a program in a build root for a user.
func isolated(uid, gid int) *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC,
		// As an "unshare" its mounts are made private: none is seen outside.
		Unshareflags: syscall.CLONE_NEWNS,
		Pdeathsig:    syscall.SIGKILL,
	}
	if uid != 0 {
		a.Cloneflags |= syscall.CLONE_NEWUSER
		a.UidMappings = []syscall.SysProcIDMap{{HostID: uid, Size: 1}}
		a.GidMappings = []syscall.SysProcIDMap{{HostID: gid, Size: 1}}
	}
	return a
}

// Started explains the error of a program that a build root started, when the kernel does not
// allow the namespaces.
func Started(err error) error {
	var exit *exec.ExitError
	entered := !errors.As(err, &exit) || fmt.Sprint(exit.ExitCode()) != cannotEnter
	if !entered || errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EINVAL) {
		return fault.New(fault.Unsupported, "%w: this machine does not allow the namespaces of a build root: run as root, or allow users to make them (sysctl user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns, kernel.unprivileged_userns_clone)", err)
	}
	return err
}
