package bench

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// pvr measures the host tool as a user runs it: a process for each command, on a
// tree of 2,100 files and 207 MB. Everything is made in directories that are new, and
// nothing is removed before the end, because removals slow down the creations that
// follow on ext4.
func pvr(ctx context.Context, root string) ([]Row, error) {
	work, err := os.MkdirTemp("", "bench-pvr-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(work)
	b := &tool{ctx: ctx, work: work, program: filepath.Join(work, "pvr"), cpu: map[string][]float64{}}
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", b.program, "./cmd/pvr")
	build.Dir, build.Stderr = root, os.Stderr
	if err := build.Run(); err != nil {
		return nil, fmt.Errorf("building pvr: %w", err)
	}
	if err := sampleTree(filepath.Join(work, "tree")); err != nil {
		return nil, fmt.Errorf("making the tree: %w", err)
	}
	size, err := systemFiles(filepath.Join(work, "rootfs"), 50e6)
	if err != nil {
		return nil, fmt.Errorf("making the root file system: %w", err)
	}
	for i := range runs {
		if err := b.round(filepath.Join(work, fmt.Sprint(i))); err != nil {
			return nil, err
		}
	}
	return b.rows(size), nil
}

// tool runs the program and keeps what the commands took, by name.
type tool struct {
	ctx           context.Context //nolint:containedctx // lives as long as one measurement
	work, program string
	cpu           map[string][]float64 // seconds
	peak          float64              // MiB, the largest of all
}

// rows makes the lines of the table.
func (b *tool) rows(size int64) []Row {
	var out []Row
	for _, r := range []struct {
		name string
		aim  float64
		note string
	}{
		{"init, add, commit", 0.6, "2,100 files, 207 MB; the store is new"},
		{"status", 0.03, "clean tree"},
		{"export", 1.5, ".tgz"},
		{"import", 0.45, ".tgz into a new store"},
		{"clone", 0.5, "of a local repository with the same store"},
		{"sig ls", 0.02, "a signature over all files"},
		{"app add", 2.5, fmt.Sprintf("%.1f MB of this machine's /usr, xz", float64(size)/1e6)},
		{"--version", 0.01, ""},
		{"cp -r", 0, "the same tree, for comparison"},
		{"sha256sum", 0, "the same tree, for comparison"},
	} {
		name := "pvr " + r.name
		if r.aim == 0 {
			name = r.name
		}
		out = append(out, row(name, "CPU s", r.aim, b.cpu[r.name], r.note))
	}
	return append(out, row("pvr, peak memory", "MiB", 40, []float64{b.peak}, "the largest of these commands"))
}

// run runs a program in a directory and counts its time for a name; an empty name
// counts nothing.
func (b *tool) run(name, dir, home string, args ...string) error {
	cmd := exec.CommandContext(b.ctx, args[0], args[1:]...)
	cmd.Dir = dir
	cmd.Env = []string{"HOME=" + home, "PATH=" + os.Getenv("PATH")}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting %s: %w", args[0], err)
	}
	peak := watch(cmd.Process.Pid)
	err := cmd.Wait()
	used := peak()
	if err != nil {
		return fmt.Errorf("running %s: %w: %s", strings.Join(args[:min(len(args), 9)], " "), err, out.Bytes()[max(0, out.Len()-2000):])
	}
	if name == "" {
		return nil
	}
	b.cpu[name] = append(b.cpu[name], (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds())
	if args[0] == b.program {
		b.peak = max(b.peak, used)
	}
	return nil
}

// watch follows the peak memory of a process, in MiB, until the returned function
// is called. It looks every two milliseconds, because rusage counts the memory of
// this process, too: the child had it for a moment.
func watch(pid int) (peak func() float64) {
	stop, last := make(chan struct{}), make(chan float64)
	go func() {
		high := 0.0
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for {
			high = max(high, highWater(fmt.Sprintf("/proc/%d/status", pid)))
			select {
			case <-stop:
				last <- high
				return
			case <-tick.C:
			}
		}
	}()
	return func() float64 { close(stop); return <-last }
}

// round measures everything once.
func (b *tool) round(dir string) error {
	repo, home, other := filepath.Join(dir, "repo"), filepath.Join(dir, "home"), filepath.Join(dir, "other")
	for _, d := range []string{home, other, filepath.Join(dir, "home2"), filepath.Join(dir, "apps")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	tree := filepath.Join(b.work, "tree")
	if err := b.run("cp -r", dir, home, "cp", "-r", tree, repo); err != nil {
		return err
	}
	var files []string
	err := filepath.WalkDir(tree, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := b.run("sha256sum", dir, home, append([]string{"sha256sum"}, files...)...); err != nil {
		return err
	}
	key, chain, err := signer(dir)
	if err != nil {
		return err
	}
	unix.Sync() // what cp left behind shall not be counted
	home2, archive, p := filepath.Join(dir, "home2"), filepath.Join(dir, "all.tgz"), b.program
	for _, c := range []struct {
		name, dir, home string
		args            []string
	}{
		{"init", repo, home, []string{p, "init"}},
		{"add", repo, home, []string{p, "add", "."}},
		{"commit", repo, home, []string{p, "commit"}},
		{"", repo, home, []string{p, "status"}},
		{"status", repo, home, []string{p, "status"}},
		{"export", repo, home, []string{p, "export", archive}},
		{"", other, home2, []string{p, "init"}},
		{"import", other, home2, []string{p, "import", archive}},
		{"clone", dir, home, []string{p, "clone", "repo/.pvr", "clone"}},
		{"", repo, home, []string{p, "sig", "--key", key, "--x5c", chain, "add", "--raw", "all"}},
		{"", repo, home, []string{p, "add", "_sigs/all.json"}},
		{"", repo, home, []string{p, "commit"}},
		{"sig ls", repo, home, []string{p, "sig", "--cacerts", chain, "ls"}},
		{"", filepath.Join(dir, "apps"), home, []string{p, "init"}},
		{"app add", filepath.Join(dir, "apps"), home, []string{p, "app", "add", "a", "-t", "rootfs", "--from", filepath.Join(b.work, "rootfs")}},
		{"--version", dir, home, []string{p, "--version"}},
	} {
		if err := b.run(c.name, c.dir, c.home, c.args...); err != nil {
			return err
		}
	}
	sum := 0.0
	for _, name := range []string{"init", "add", "commit"} {
		list := b.cpu[name]
		sum += list[len(list)-1]
	}
	b.cpu["init, add, commit"] = append(b.cpu["init, add, commit"], sum)
	return nil
}

// sampleTree writes 300 JSON files, 1,750 small files and 50 root file systems of
// 4 MB that hardly compress, the same in every run.
func sampleTree(dir string) error {
	random := rand.New(rand.NewPCG(1, 2))
	body := func(n int, dense float64) []byte {
		out := make([]byte, 0, n+4096)
		for len(out) < n {
			if random.Float64() >= dense {
				out = append(out, strings.Repeat(fmt.Sprintf("%08x", random.Uint32()), 256)...)
				continue
			}
			for range 256 {
				out = append(out, fmt.Append(nil, random.Uint64())[:8]...)
			}
		}
		return out[:n]
	}
	noise := make([]byte, 4e6)
	source := rand.NewChaCha8([32]byte{1})
	var errs error
	write := func(name string, text []byte) {
		name = filepath.Join(dir, name)
		if errs == nil {
			errs = os.MkdirAll(filepath.Dir(name), 0o755)
		}
		if errs == nil {
			errs = os.WriteFile(name, text, 0o644)
		}
	}
	for i := range 300 {
		write(fmt.Sprintf("app%d/conf%d.json", i%20, i), fmt.Appendf(nil, "{\n  \"n\": %d,\n  \"name\": %q\n}", i, strings.Repeat("x", i%100)))
	}
	for i := range 1750 {
		write(fmt.Sprintf("app%d/f/d%d/file%d", i%20, i%7, i), body(200+random.IntN(7800), 0.3))
	}
	for i := range 50 {
		_, _ = source.Read(noise)
		write(fmt.Sprintf("app%d/root%d.squashfs", i%20, i), noise)
	}
	return errs
}

// systemFiles copies files of this machine up to so many bytes, programs and text.
func systemFiles(dir string, limit int64) (total int64, err error) {
	for _, from := range []string{"/usr/bin", "/usr/share/perl", "/usr/lib/python3", "/usr/lib/python3.11"} {
		room := total + limit/4
		err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return nil //nolint:nilerr // what is not there is not measured
			}
			text, err := os.ReadFile(path)
			if err != nil || total+int64(len(text)) > room {
				return nil //nolint:nilerr // likewise
			}
			total += int64(len(text))
			to := filepath.Join(dir, path)
			if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
				return err
			}
			return os.WriteFile(to, text, 0o755)
		})
		if err != nil {
			return total, err
		}
	}
	return total, nil
}
