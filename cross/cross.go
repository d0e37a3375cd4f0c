// Package cross builds this repository's own Go programs for any board, as a
// step of the build graph: static, without cgo, stripped, the same bytes from any
// path.
package cross

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/fault"
	"github.com/pantavisor/pantavisor/targets"
)

// Program is the step that builds one program. Its output is one file, named as
// the last element of Package.
type Program struct {
	// Package is the program's folder below the module's root, for example
	// "cmd/pantavisor".
	Package string
	// Arch is the CPU to build for.
	Arch targets.Arch
	// Toolchain is the Go version that builds it. Default: the one that built
	// the running program, see [New].
	Toolchain string
	// Root is the module's folder.
	Root string `json:"-"`
}

var (
	_ build.Step      = (*Program)(nil)
	_ build.Versioned = (*Program)(nil)
	_ build.Sourced   = (*Program)(nil)
)

// New returns the step for the program in a folder of the module at root.
func New(root, pkg string, arch targets.Arch) *Program {
	return &Program{Package: pkg, Arch: arch, Toolchain: runtime.Version(), Root: root}
}

// Name is "program/NAME/ARCH".
func (p *Program) Name() string { return "program/" + p.File() + "/" + archName(p.Arch) }

// File is the name of the program in the step's output.
func (p *Program) File() string { return filepath.Base(p.Package) }

func archName(a targets.Arch) string {
	name := a.Go
	for _, more := range []string{a.ARM, a.MIPS} {
		if more != "" {
			name += "-" + more
		}
	}
	return name
}

// Version of the step's logic.
func (p *Program) Version() int { return 1 }

// Deps is empty.
func (p *Program) Deps() []build.Step { return nil }

// Sources are the files of the program's package and of all packages of the
// module that it imports, with go.mod and go.sum.
func (p *Program) Sources() ([]build.Source, error) { return sources(p.Root, p.Package) }

// Run calls the go command.
func (p *Program) Run(ctx context.Context, w *build.Work) error {
	if err := p.checkToolchain(ctx); err != nil {
		return err
	}
	args := []string{
		"build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=",
		"-o", filepath.Join(w.Out, p.File()), "./" + p.Package,
	}
	if out, err := p.command(ctx, args...).CombinedOutput(); err != nil {
		if ctx.Err() != nil {
			return fault.Wrap(fault.Cancelled, ctx.Err(), "building %s", p.Package)
		}
		return fault.Wrap(kindOf(out), err, "building %s for %s: %s", p.Package, archName(p.Arch), bytes.TrimSpace(out))
	}
	return nil
}

func kindOf(said []byte) fault.Kind {
	if bytes.Contains(said, []byte("no space left")) {
		return fault.NoSpace
	}
	return fault.BadInput
}

// checkToolchain makes sure that the go command on the PATH is the one that the
// step's key speaks of.
func (p *Program) checkToolchain(ctx context.Context) error {
	out, err := p.command(ctx, "env", "GOVERSION").Output()
	if ctx.Err() != nil {
		return fault.Wrap(fault.Cancelled, ctx.Err(), "building %s", p.Package)
	}
	if err != nil {
		return fault.New(fault.Missing, "asking the go command for its version (is Go on the PATH?): %w", err)
	}
	if got := strings.TrimSpace(string(out)); got != p.Toolchain {
		return fault.New(fault.Missing, "building %s: the go command on the PATH is %s, this build runs with %s", p.Package, got, p.Toolchain)
	}
	return nil
}

// settings are the variables that change what the go command makes. They are
// taken from the step alone, never from the user's environment.
var settings = []string{
	"GOOS", "GOARCH", "GOARM", "GOMIPS", "GOAMD64", "GOARM64", "GORISCV64", "GOFLAGS", "GOEXPERIMENT",
	"GOFIPS140", "GOWORK", "GODEBUG", "CGO_ENABLED", "GOTOOLCHAIN", "GO111MODULE", "PWD", "GOENV",
}

func (p *Program) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = p.Root
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		if !slices.Contains(settings, name) {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, "GOOS=linux", "CGO_ENABLED=0", "GOWORK=off", "GOTOOLCHAIN=local", "GOARCH="+p.Arch.Go)
	if p.Arch.ARM != "" {
		cmd.Env = append(cmd.Env, "GOARM="+p.Arch.ARM)
	}
	if p.Arch.MIPS != "" {
		cmd.Env = append(cmd.Env, "GOMIPS="+p.Arch.MIPS)
	}
	return cmd
}
