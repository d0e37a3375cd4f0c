// Package host checks for and installs programs and files that a command needs on this
// machine, from Debian packages.
package host

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// Need is one thing that the machine may lack.
type Need struct {
	// Name is a program on the PATH, or with Has a name for people.
	Name string
	// Package is the Debian package that contains it.
	Package string
	// Has reports whether it exists. Default: the program is on the PATH.
	Has func() bool
}

func (n Need) met() bool {
	if n.Has != nil {
		return n.Has()
	}
	_, err := exec.LookPath(n.Name)
	return err == nil
}

// unmet returns the needs that are not met.
func unmet(needs []Need) []Need {
	return slices.DeleteFunc(slices.Clone(needs), Need.met)
}

// Ensure installs the packages of missing needs: as root through apt, after printing what
// and why; for any other user it returns an error of kind Missing with the command to
// type. With interactive false (PV_BUILD_INTERACTIVE=false) it never installs. purpose is
// what needs them, for messages: "the emulator".
func Ensure(ctx context.Context, purpose string, needs []Need, interactive bool, out io.Writer) error {
	missing := unmet(needs)
	if len(missing) == 0 {
		return nil
	}
	var names, packages []string
	for _, n := range missing {
		names, packages = append(names, n.Name), append(packages, n.Package)
	}
	slices.Sort(packages)
	packages = slices.Compact(packages)
	if os.Geteuid() != 0 || !interactive {
		return fault.New(fault.Missing, "missing for %s: %s; type: %s", purpose, strings.Join(names, ", "), Command(packages))
	}
	fmt.Fprintf(out, "installing %s for %s: missing %s\n", strings.Join(packages, " "), purpose, strings.Join(names, ", "))
	if err := install(ctx, packages, out); err != nil {
		return fault.New(fault.Missing, "installing %s for %s: %w", strings.Join(packages, ", "), purpose, err)
	}
	if still := unmet(missing); len(still) > 0 {
		return fault.New(fault.Missing, "%s is still missing for %s after installing %s", still[0].Name, purpose, still[0].Package)
	}
	return nil
}

// Command returns the command that installs packages.
func Command(packages []string) string {
	sudo := "sudo "
	if os.Geteuid() == 0 {
		sudo = ""
	}
	return sudo + "apt-get install -y --no-install-recommends " + strings.Join(packages, " ")
}

// install runs apt. Old lists may suffice when they cannot be refreshed.
func install(ctx context.Context, packages []string, out io.Writer) error {
	_ = apt(ctx, out, "update", "-q")
	return apt(ctx, out, append([]string{"install", "-y", "-q", "--no-install-recommends"}, packages...)...)
}

// lockWait are the seconds for which apt waits for another one, as unattended upgrades start
// one on their own, before it gives up (apt.conf(5)).
const lockWait = "-oDPkg::Lock::Timeout=900"

func apt(ctx context.Context, out io.Writer, args ...string) error {
	cmd := exec.CommandContext(ctx, "apt-get", append([]string{lockWait}, args...)...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("apt-get %s: %w", args[0], err)
	}
	return nil
}
