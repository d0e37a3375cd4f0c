// Package doctor says what a machine lacks for builds and pipelines: programs, room, memory, access to
// the archive, namespaces, virtual machines, and the variables that a template of ci/ wants. Of variables
// it says whether they are set, never what is in them.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/ci"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/spelling"
)

// State is the outcome of a check.
type State string

// The states.
const (
	Fine    State = "ok"
	Limited State = "limited" // it works with less: slower, or not everything
	Lacking State = "missing" // builds, or what was asked for, do not work
)

// Finding is what a check found.
type Finding struct {
	Name   string `json:"name"`
	State  State  `json:"state"`
	Detail string `json:"detail"`         // what there is, in words
	Mend   string `json:"mend,omitempty"` // what would mend it
}

// Options say what is checked.
type Options struct {
	// Dir is the directory of the project.
	Dir string
	// Templates are those of ci/ whose variables are looked for.
	Templates []string
	// Targets are those of the project whose packages are looked for.
	Targets []string
	// Needs are names of checks that must be fine. Default: only what every build needs.
	Needs []string
	// Offline asks no server.
	Offline bool
	// Environ are the variables, in the form of os.Environ.
	Environ []string
}

// check is one of the checks. Without required its State is Limited where it would be Lacking.
type check struct {
	name     string
	required bool
	do       func(context.Context, *Options) Finding
}

var checks = []check{
	{"go", true, goVersion},
	{"git", true, program("git", "git", "builds name their version, and pipelines keep recipes with it")},
	{"disk", true, disk},
	{"memory", true, memory},
	{"apt", false, apt},
	{"network", false, network},
	{"packages", false, packages},
	{"namespaces", false, namespaces},
	{"kvm", false, kvm},
	{"qemu", false, program("qemu-system-x86_64", "qemu-system-x86", "mage run boots images with it")},
}

// Names lists the checks that Needs may have.
func Names() []string {
	var out []string
	for _, c := range checks {
		out = append(out, c.name)
	}
	return out
}

// Look runs the checks, and those of the variables that the templates want.
func Look(ctx context.Context, o Options) ([]Finding, error) {
	for _, name := range o.Needs {
		if !slices.Contains(Names(), name) {
			return nil, spelling.Unknown("check", name, Names())
		}
	}
	var out []Finding
	for _, c := range checks {
		f := c.do(ctx, &o)
		f.Name = c.name
		if f.State == Lacking && !c.required && !slices.Contains(o.Needs, c.name) {
			f.State = Limited
		}
		if f.State == Limited && slices.Contains(o.Needs, c.name) {
			f.State = Lacking
		}
		out = append(out, f)
	}
	for _, name := range o.Templates {
		t, err := ci.Find(name)
		if err != nil {
			return nil, err
		}
		out = append(out, variables(t, o.Environ)...)
	}
	return out, ctx.Err()
}

// Verdict is an error of kind Missing that names all that is lacking; nil when nothing is.
func Verdict(all []Finding) error {
	var lacking []string
	for _, f := range all {
		if f.State == Lacking {
			lacking = append(lacking, f.Name)
		}
	}
	if len(lacking) == 0 {
		return nil
	}
	return fault.New(fault.Missing, "this machine lacks: %s", strings.Join(lacking, ", "))
}

// Text returns the findings as a table.
func Text(all []Finding) string {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 8, 2, ' ', 0)
	for _, f := range all {
		fmt.Fprintf(w, "%s\t%s\t%s\n", f.State, f.Name, f.Detail)
		if f.Mend != "" {
			fmt.Fprintf(w, "\t\t→ %s\n", f.Mend)
		}
	}
	_ = w.Flush() // a strings.Builder takes everything
	return text.String()
}

// variables says which variables of a template are set.
func variables(t ci.Template, environ []string) []Finding {
	var out []Finding
	for _, v := range t.Variables {
		f := Finding{Name: t.Name + " " + v.Name, State: Fine, Detail: "set"}
		if !isSet(environ, v.Name) {
			f.State, f.Detail = Limited, "not set: "+v.What
			if v.Mandatory {
				f.State, f.Mend = Lacking, "set it in the settings of the pipeline"
				if v.Secret {
					f.Mend += ", masked"
				}
			}
		}
		out = append(out, f)
	}
	return out
}

func isSet(environ []string, name string) bool {
	return slices.ContainsFunc(environ, func(e string) bool {
		value, ok := strings.CutPrefix(e, name+"=")
		return ok && value != ""
	})
}

// program checks that a program is on the PATH.
func program(name, pack, what string) func(context.Context, *Options) Finding {
	return func(context.Context, *Options) Finding {
		path, err := exec.LookPath(name)
		if err != nil {
			return Finding{State: Lacking, Detail: name + " is not installed: " + what, Mend: "apt-get install " + pack}
		}
		return Finding{State: Fine, Detail: path}
	}
}

// leastMemory and leastDisk are what builds of the shipped targets need at least, in bytes: a build keeps
// below 200 MB; compilers of Go programs take more, each for itself.
const (
	leastMemory = 1 << 30
	leastDisk   = 4 << 30
)

func memory(context.Context, *Options) Finding {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return Finding{State: Limited, Detail: "not known: " + err.Error()}
	}
	total := uint64(info.Totalram) * uint64(info.Unit) //nolint:unconvert // 32 bits on some machines
	if limit := cgroupLimit(); limit > 0 {
		total = min(total, limit)
	}
	f := Finding{State: Fine, Detail: gib(total) + " for this job"}
	if total < leastMemory {
		f.State, f.Mend = Lacking, "give the job at least "+gib(leastMemory)
	}
	return f
}

// kvm reports whether virtual machines are accelerated.
func kvm(context.Context, *Options) Finding {
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return Finding{State: Lacking, Detail: "no KVM: images boot in QEMU some ten times slower", Mend: mendKVM(err)}
	}
	if err := f.Close(); err != nil {
		return Finding{State: Limited, Detail: err.Error()}
	}
	return Finding{State: Fine, Detail: "/dev/kvm"}
}

func mendKVM(err error) string {
	if errors.Is(err, os.ErrPermission) {
		return "let the user of the job write /dev/kvm: group kvm"
	}
	return "a runner with hardware virtualization, whose jobs get the device /dev/kvm"
}

// namespaces reports whether this user may make the namespaces of a build root.
func namespaces(ctx context.Context, _ *Options) Finding {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "true")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC | syscall.CLONE_NEWNS}
	how := "as root"
	if uid, gid := os.Geteuid(), os.Getegid(); uid != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: gid, Size: 1}}
		how = "as user"
	}
	if err := cmd.Run(); err != nil {
		return Finding{
			State: Lacking, Detail: "not allowed " + how + ": kernels cannot be compiled, App Engine tests cannot run",
			Mend: "allow them to users: sysctl user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns, kernel.unprivileged_userns_clone; or in a container its security profile",
		}
	}
	return Finding{State: Fine, Detail: "allowed " + how}
}

// timeout bounds a question to a server or a program.
const timeout = 10 * time.Second

func gib(bytes uint64) string { return fmt.Sprintf("%.1f GiB", float64(bytes)/(1<<30)) }
