// Package gobinary is the build step that cross-compiles a Go program of this module or of
// a product's: static, without cgo, paths, version control stamps or symbols, so that the same tree
// and tool chain give the same binary.
package gobinary

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/build/gosource"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/targets"
)

// Step compiles one package; the output holds bin/NAME, and the licences of its modules.
type Step struct {
	// Package is the main package's directory in the module, for example
	// "cmd/pantavisor".
	Package string
	// Binary is the file's name below bin/. Default: the last part of Package.
	Binary string
	// Arch is the CPU to compile for; only its Go fields matter.
	Arch targets.Arch
	// OS is GOOS. Default: linux.
	OS string `json:",omitempty"`
	// Tags are build tags.
	Tags []string
	// Release is what the program calls itself, its variable main.release. Default:
	// [unreleased], and not a digest of the sources: a change to a comment would then
	// change the program and everything that is made from it.
	Release string
	// Small compiles for size: for programs that lie in the memory of a device.
	Small bool `json:",omitempty"`
	// Toolchain is the version of the go command, for the key. Set by [New].
	Toolchain string

	// Module is where the source is.
	Module *gosource.Module `json:"-"`
	// Own is set for a program of a product's module. It is part of the step's name, so that
	// the program may be called like one of this module's.
	Own bool `json:"-"`
}

var (
	_ build.Step     = (*Step)(nil)
	_ build.Sourced  = (*Step)(nil)
	_ build.Weighted = (*Step)(nil)
)

// ForDevice returns the step that compiles pkg, a program of a device, for arch: it is small.
func ForDevice(module *gosource.Module, pkg string, arch targets.Arch) *Step {
	s := New(module, pkg, arch)
	s.Small = true
	return s
}

// New returns the step that compiles pkg for arch with the tool chain that built this
// program. Set further fields before use.
func New(module *gosource.Module, pkg string, arch targets.Arch) *Step {
	return &Step{Package: pkg, Arch: arch, Toolchain: runtime.Version(), Module: module}
}

// Name implements build.Step: "go/NAME/ARCH", "go/NAME/OS-ARCH" or "go/own/PACKAGE/ARCH".
func (s *Step) Name() string {
	if s.Own {
		return "go/own/" + word(s.Package) + "/" + s.Arch.String()
	}
	if s.OS != "" {
		return "go/" + s.binary() + "/" + s.OS + "-" + s.Arch.String()
	}
	return "go/" + s.binary() + "/" + s.Arch.String()
}

var notInWord = regexp.MustCompile(`[^a-z0-9._+/-]|(^|/)[._+-]`)

// word returns a package's directory as it may be part of a step's name: with a digest
// where it has other characters.
func word(pkg string) string {
	if !notInWord.MatchString(pkg) {
		return pkg
	}
	sum := sha256.Sum256([]byte(pkg))
	return "x" + hex.EncodeToString(sum[:6])
}

// Deps implements build.Step.
func (s *Step) Deps() []build.Step { return nil }

// Cores implements build.Weighted: the compiler uses all cores.
func (s *Step) Cores() int { return 0 }

// Sources implements build.Sourced.
func (s *Step) Sources() ([]build.Source, error) {
	files, err := s.Module.Files(s.Package, gosource.Platform{GOOS: s.OS, GOARCH: s.Arch.Go, Tags: s.Tags})
	if err != nil {
		return nil, err
	}
	sources := make([]build.Source, len(files))
	for i, f := range files {
		sources[i] = build.Source{Name: f.Name, Path: f.Path}
	}
	return sources, nil
}

// File returns the binary's path inside the output.
func (s *Step) File() string {
	if s.OS == "windows" {
		return path.Join("bin", s.binary()+".exe")
	}
	return path.Join("bin", s.binary())
}

func (s *Step) binary() string { return cmp.Or(s.Binary, path.Base(s.Package)) }

// Run implements build.Step.
func (s *Step) Run(ctx context.Context, w *build.Work) error {
	out := filepath.Join(w.Out, filepath.FromSlash(s.File()))
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", s.arguments(out)...)
	cmd.Dir = s.Module.Root()
	cmd.Env = s.environment(w.Tmp)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	// The compilers end with the go command, also when this process is killed.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	if err := cmd.Run(); err != nil {
		return compileError(err, said.String(), s)
	}
	info, err := os.Stat(out)
	if err != nil {
		return err
	}
	w.Contains(s.binary(), info.Size())
	return s.writeLicences(out, filepath.Join(w.Out, licencesFile))
}

// Download fetches the modules that the program imports and that are not here yet.
func (s *Step) Download(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, "go", "list", "-mod=readonly", "-deps", "-f", "{{.Dir}}", "./"+s.Package)
	cmd.Dir = s.Module.Root()
	cmd.Env = s.environment(os.TempDir())
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Run(); err != nil {
		return compileError(err, said.String(), s)
	}
	return nil
}

// compileError gives a missing tool chain, a full disk and a program that does not
// compile their kinds.
func compileError(err error, said string, s *Step) error {
	if errors.Is(err, exec.ErrNotFound) {
		return fault.Wrap(fault.Missing, err, "looking for the go command (install Go, put it on the PATH)")
	}
	kind := fault.BadInput
	if strings.Contains(said, "no space left") {
		kind = fault.NoSpace
	}
	return fault.New(kind, "compiling %s for %s: %w\n%s", s.Package, s.Arch, err, strings.TrimSpace(said))
}

// defaults are the program's default settings of GODEBUG; disablethp can be set in no
// other way. The first huge page of a heap costs 2 MiB of memory, and the time to clear
// it, in programs that need a few hundred KiB. The other two keep a starting program from
// reading its control group's CPU limit and the list of mounts: the runtime has no such
// limit, and one thread too many does no harm.
const defaults = "-X=runtime.godebugDefault=disablethp=1,containermaxprocs=0,updatemaxprocs=0"

// unreleased is what a program calls itself that has no release.
const unreleased = "devel"

// ReleaseName returns what a program of this release calls itself.
func ReleaseName(release string) string { return cmp.Or(release, unreleased) }

// small are the compiler's options for size. Inlined functions are a sixth of a program that is
// compressed: their code, and the tables that name them in stack traces. What computes digests
// keeps them, which is faster and smaller.
var small = []string{"-gcflags=all=-l", "-gcflags=crypto/...="}

func (s *Step) arguments(out string) []string {
	flags := []string{"-s", "-w", "-buildid=", defaults, "-X=main.release=" + ReleaseName(s.Release)}
	args := []string{
		"build", "-trimpath", "-buildvcs=false", "-mod=readonly",
		"-ldflags=" + strings.Join(flags, " "), "-o", out,
	}
	if len(s.Tags) > 0 {
		args = append(args, "-tags="+strings.Join(s.Tags, ","))
	}
	if s.Small {
		args = append(args, small...)
	}
	return append(args, "./"+s.Package)
}

// environment returns the caller's environment without any variable that would change the
// result. The levels of the instruction sets are set because the go command's own
// settings file (go env -w) may raise them.
func (s *Step) environment(tmp string) []string {
	env := []string{
		"CGO_ENABLED=0", "GOOS=" + cmp.Or(s.OS, "linux"), "GOARCH=" + s.Arch.Go, "GOTMPDIR=" + tmp, "GOFLAGS=", "GOWORK=off", "GOEXPERIMENT=",
		"GOTOOLCHAIN=" + s.Toolchain, "GOAMD64=v1", "GOARM64=v8.0", "GORISCV64=rva20u64", "GO386=sse2", "GOPPC64=power8", "GOMIPS64=hardfloat", "GOFIPS140=off",
	}
	if s.Arch.ARM != "" {
		env = append(env, "GOARM="+s.Arch.ARM)
	}
	if s.Arch.MIPS != "" {
		env = append(env, "GOMIPS="+s.Arch.MIPS)
	}
	for _, kept := range os.Environ() {
		name, _, _ := strings.Cut(kept, "=")
		switch name {
		case "PATH", "HOME", "GOPATH", "GOCACHE", "GOMODCACHE", "GOPROXY", "GOSUMDB", "GONOSUMDB", "GOPRIVATE", "GOROOT",
			"XDG_CACHE_HOME", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "https_proxy", "http_proxy", "no_proxy", "SSL_CERT_FILE":
			env = append(env, kept)
		}
	}
	return env
}
