package images

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/internal/command"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// ToolPackages are the Debian packages of the helper programs that steps of this package
// run: xz.
var ToolPackages = []string{"xz-utils"}

// Tools is a step that provides helper programs: those of [ToolPackages]. The Toolbox of
// package debian implements it.
type Tools interface {
	build.Step
	// Command prepares a run of a program by its bare name in the directory dir.
	Command(ctx context.Context, w *build.Work, dir, name string, args ...string) (*exec.Cmd, error)
}

// dictionary bounds the memory for compression to about 100 MiB and for the
// kernel's decoder to 8 MiB.
const dictionary = 8 << 20

// effort sets how hard xz searches. Preset 6 makes the device binary 0.6 % smaller but
// takes about a fifth more time, at every change of the runtime.
const effort = "preset=5"

// compress makes one xz stream with one block for the kernel's decoder: CRC32, one thread
// (the number of threads changes the bytes) and, for x86 code, the branch filter.
func compress(ctx context.Context, w *build.Work, t Tools, src, dst string, x86 bool) error {
	info, err := os.Stat(src)
	if err != nil {
		return fault.Wrap(fault.IO, err, "compressing %s", filepath.Base(src))
	}
	dict := int64(64 << 10)
	for dict < info.Size() && dict < dictionary {
		dict *= 2
	}
	args := []string{"--format=xz", "--check=crc32", "--threads=1", "--stdout"}
	if x86 {
		args = append(args, "--x86")
	}
	args = append(args, "--lzma2="+effort+",dict="+strconv.FormatInt(dict, 10), src)
	out, err := os.Create(dst)
	if err != nil {
		return fault.Wrap(fault.IO, err, "compressing %s", filepath.Base(src))
	}
	defer out.Close()
	cmd, err := t.Command(ctx, w, w.Tmp, "xz", args...)
	if err != nil {
		return err
	}
	cmd.Stdout = out
	if err := command.Run(ctx, cmd, "xz"); err != nil {
		return err
	}
	return fault.Wrap(fault.IO, out.Close(), "compressing %s", filepath.Base(src))
}
