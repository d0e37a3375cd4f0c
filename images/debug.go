package images

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/formats/cpio"
	"github.com/pantavisor/pantavisor/formats/tree"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// DebugAddonFile is the addon in the output of a [DebugAddon], under its name in
// the BSP.
const DebugAddonFile = "addon-debug.cpio.xz4"

// DebugAddon is the step that makes the addon with a shell for the console: a
// static busybox with a link for each of its commands. Images without it have no
// shell at all.
type DebugAddon struct {
	// X86 turns the branch filter on.
	X86 bool
	// Epoch is the time of all files.
	Epoch build.Stamp
	// Busybox is the step whose output has bin/busybox, static.
	Busybox build.Step `json:"-"`
}

var (
	_ build.Step      = (*DebugAddon)(nil)
	_ build.Large     = (*DebugAddon)(nil)
	_ build.Versioned = (*DebugAddon)(nil)
	_ named           = (*DebugAddon)(nil)
)

// Name of the step.
func (s *DebugAddon) Name() string { return "initrd/addon-debug" }

// Version of the step's logic.
func (s *DebugAddon) Version() int { return 2 }

// Memory is that for compression.
func (*DebugAddon) Memory() int64 { return compressing }

// Deps are busybox.
func (s *DebugAddon) Deps() []build.Step { return []build.Step{s.Busybox} }

// names lists the links of busybox, or busybox alone while it has not been fetched.
func (s *DebugAddon) names(_ context.Context, in func(build.Step) string) ([]string, error) {
	out := []string{busyboxProgram}
	dir := in(s.Busybox)
	if dir == "" {
		return out, nil
	}
	file, err := busyboxIn(dir)
	if err != nil {
		return nil, err
	}
	names, err := commands(file)
	return append(out, names...), err
}

// busyboxProgram is the path of busybox in the initrd.
const busyboxProgram = "usr/bin/busybox"

// commands returns the paths of the links to busybox.
func commands(file string) ([]string, error) {
	names, err := applets(file)
	var out []string
	for _, n := range names {
		if n != "busybox" && n != "init" {
			out = append(out, "usr/bin/"+n)
		}
	}
	return out, err
}

// Run archives busybox and its links in usr/bin, to which /bin and /sbin of the base
// initrd point.
func (s *DebugAddon) Run(ctx context.Context, w *build.Work) error {
	file, err := busyboxIn(w.In(s.Busybox))
	if err != nil {
		return err
	}
	names, err := commands(file)
	if err != nil {
		return err
	}
	program, err := fileEntry(file, busyboxProgram)
	if err != nil {
		return err
	}
	entries := []tree.Entry{tree.Dir("usr", 0o755), tree.Dir("usr/bin", 0o755), program}
	for _, n := range names {
		entries = append(entries, tree.Symlink(n, "busybox"))
	}
	raw, packed := filepath.Join(w.Tmp, "addon.cpio"), filepath.Join(w.Tmp, "addon.xz")
	if err := writeArchive(raw, s.Epoch, entries, cpio.Options{}, true); err != nil {
		return err
	}
	if err := compress(ctx, raw, packed, codeFor(s.X86)); err != nil {
		return err
	}
	return joinBlocks(filepath.Join(w.Out, DebugAddonFile), []string{packed})
}

// busyboxIn finds the program, whether /usr is merged or not.
func busyboxIn(dir string) (string, error) {
	for _, name := range []string{"bin/busybox", "usr/bin/busybox"} {
		if file := filepath.Join(dir, name); exists(file) {
			return file, nil
		}
	}
	return "", fault.New(fault.BadInput, "looking for busybox: the package has no bin/busybox")
}

var appletForm = regexp.MustCompile(`^[a-z0-9\[][a-z0-9\[_.+-]*$`)

// applets reads the names of the commands from a busybox binary of any architecture: they
// are stored in a sorted sequence of NUL-terminated strings that begins with "[".
func applets(file string) ([]string, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fault.Wrap(fault.IO, err, "reading busybox")
	}
	at := bytes.Index(data, []byte("[\x00[[\x00")) // behind a table on some architectures, not a NUL
	if at < 0 {
		return nil, fault.New(fault.BadInput, "reading busybox: no list of commands in it")
	}
	var out []string
	for _, name := range bytes.Split(data[at:], []byte{0}) {
		text := string(name)
		if !appletForm.MatchString(text) || len(out) > 0 && text <= out[len(out)-1] {
			break
		}
		out = append(out, text)
	}
	if len(out) < 50 {
		return nil, fault.New(fault.BadInput, "reading busybox: only %d commands in its list", len(out))
	}
	return out, nil
}
