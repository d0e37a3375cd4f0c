package build

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sync/errgroup"

	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/filelock"
	"github.com/pantavisor/pantavisor/internal/filesig"
)

// Artefact is something that a build leaves under out/TARGET.
type Artefact struct {
	Step Step   // the step whose output it is taken from
	From string // file or directory in that output; "" or "." is all of it
	To   string // its name below out/TARGET, with '/'
}

// Published is an artefact as it was written.
type Published struct {
	Path  string `json:"path"` // below out/TARGET
	Step  string `json:"step"`
	Bytes int64  `json:"bytes"`
	// Allocated is what it takes on the disk; less than Bytes when it is sparse.
	Allocated int64 `json:"allocated"`
	// SHA256 is the digest of the whole file, holes included; of a directory that of its
	// content, as in keys.
	SHA256 string `json:"sha256"`
	// Contains is what the step reports about its output; only the first artefact of the
	// step has it.
	Contains []Content `json:"contains,omitempty"`
	// Source and Seen let the next build detect that the file is still the one that was
	// published: the digest of the step's output, and size, times and inode.
	Source string `json:"source"`
	Seen   string `json:"seen"`
	fresh  bool
	from   string // as in [Artefact]
}

// stateFile is kept below out/TARGET, for the next build.
const stateFile = ".build/published.json"

// Current reports whether a directory still has what [Builder.Deliver] published there last, as it
// was. It reads none of it: it compares sizes, times and inodes.
func Current(dir string) bool {
	published := readState(dir)
	for name, was := range published {
		if was.Seen == "" || was.SHA256 == "" || was.Seen != seen(filepath.Join(dir, filepath.FromSlash(name))) {
			return false
		}
	}
	return len(published) > 0
}

// publishAll copies the artefacts of a finished build into dir (out/TARGET), each under a
// temporary name first. Artefacts that are unchanged since the last build stay. The
// caller holds the lock of the directory. With an error it returns what it has published.
func (b *Builder) publishAll(ctx context.Context, res *Result, dir string, artefacts []Artefact) ([]Published, error) {
	old := readState(dir)
	if err := unsign(res, dir, artefacts, old); err != nil {
		return nil, err
	}
	all, err := b.putAll(ctx, res, dir, artefacts, old)
	fresh := slices.ContainsFunc(all, func(p Published) bool { return p.fresh })
	if err == nil && !fresh && len(old) == len(artefacts) {
		return all, nil
	}
	if unmeasured := b.describe(ctx, res, dir, all); err == nil {
		err = unmeasured
	}
	if err != nil {
		return slices.DeleteFunc(all, func(p Published) bool { return p.SHA256 == "" }), err
	}
	if err := removeStale(dir, old, all); err != nil {
		return all, fault.Wrap(fault.IO, err, "removing what the last build left")
	}
	return all, writeState(dir, all)
}

// putAll copies the artefacts until one fails.
func (b *Builder) putAll(ctx context.Context, res *Result, dir string, artefacts []Artefact, old map[string]Published) ([]Published, error) {
	var all []Published
	for _, a := range artefacts {
		p, err := b.publish(ctx, res, dir, a, old)
		if err != nil {
			return all, fault.Wrap(fault.IO, err, "publishing %s", a.To)
		}
		if slices.ContainsFunc(all, func(o Published) bool { return o.Step == p.Step }) {
			p.Contains = nil
		}
		all = append(all, *p)
	}
	return all, nil
}

// describe measures the artefacts that are new, as many at once as there are cores, and
// tells of them in their order.
func (b *Builder) describe(ctx context.Context, res *Result, dir string, all []Published) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(b.cores())
	for i := range all {
		p := &all[i]
		if !p.fresh {
			continue
		}
		group.Go(func() error {
			err := b.measure(ctx, p, res.Step(p.Step), filepath.Join(dir, filepath.FromSlash(p.Path)))
			return fault.Wrap(fault.IO, err, "publishing %s", p.Path)
		})
	}
	err := group.Wait()
	for _, p := range all {
		if p.fresh && p.SHA256 != "" {
			to := filepath.Join(dir, filepath.FromSlash(p.Path))
			b.emit(Event{Type: Written, Step: p.Step, Text: to, Bytes: p.Bytes, SHA256: p.SHA256})
		}
	}
	return err
}

// removeStale removes files that an earlier build published under names that this build
// does not use, such as an image of another size: nobody should write an old image to a
// medium by mistake. Files that the user has changed since are kept.
func removeStale(dir string, old map[string]Published, all []Published) error {
	var errs []error
	for name, was := range old {
		dst := filepath.Join(dir, filepath.FromSlash(name))
		current := slices.ContainsFunc(all, func(p Published) bool { return p.Path == name })
		if !current && fs.ValidPath(name) && CheckInside(dir, name) == nil && was.Seen != "" && was.Seen == seen(dst) {
			errs = append(errs, removeAll(dst))
		}
	}
	return errors.Join(errs...)
}

func writeState(dir string, all []Published) error {
	data, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return fault.Wrap(fault.Internal, err, "writing what was published")
	}
	return atomicfile.Write(filepath.Join(dir, stateFile), append(data, '\n'), 0o644)
}

// lockOut creates the output directory and keeps two builds of one target from publishing
// at once: the later one waits, then replaces what the earlier one published.
func lockOut(ctx context.Context, dir string) (*filelock.Lock, error) {
	if err := CheckInside(dir, stateFile); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(dir, ".build"), 0o755); err != nil {
		return nil, fault.Wrap(fault.IO, err, "making the output directory")
	}
	lock, err := filelock.Acquire(ctx, filepath.Join(dir, ".build", "lock"), filelock.Options{Create: 0o644})
	return lock, fault.Wrap(fault.IO, err, "publishing")
}

func (b *Builder) publish(ctx context.Context, res *Result, dir string, a Artefact, old map[string]Published) (*Published, error) {
	if !fs.ValidPath(a.To) || a.To == "." || strings.HasPrefix(a.To, ".build") {
		return nil, fault.New(fault.Internal, "artefact name %q: want a path below the output directory", a.To)
	}
	if a.From != "" && !fs.ValidPath(a.From) {
		return nil, fault.New(fault.Internal, "artefact source %q: want a path below the step's output", a.From)
	}
	made := res.Step(a.Step.Name())
	dst := filepath.Join(dir, filepath.FromSlash(a.To))
	if was, ok := a.kept(made, dir, old); ok {
		was.Contains = made.Record.Contains
		return &was, nil
	}
	if err := CheckInside(dir, a.To); err != nil {
		return nil, err
	}
	if err := put(ctx, dst, filepath.Join(made.Dir, filepath.FromSlash(a.From))); err != nil {
		return nil, err
	}
	return &Published{
		Path: a.To, Step: made.Name, Contains: made.Record.Contains,
		Source: made.Record.Output + "/" + a.From, Seen: seen(dst), fresh: true, from: a.From,
	}, nil
}

// CheckInside checks that no directory on the way from dir to a name below it is a link, through
// which something would be written elsewhere.
func CheckInside(dir, name string) error {
	for at := path.Dir(name); at != "."; at = path.Dir(at) {
		info, err := os.Lstat(filepath.Join(dir, filepath.FromSlash(at)))
		if err == nil && !info.IsDir() {
			return fault.New(fault.BadInput, "%s in %s is not a directory: remove it, or take another output directory", at, dir)
		}
	}
	return nil
}

// checkNames checks that no two artefacts, nor one and the report or a signature, have the same
// name, and that none is in another.
func (b *Builder) checkNames(artefacts []Artefact) error {
	names := []string{ReportName, ReportText}
	if b.Sign != nil {
		names = append(names, SignatureNames()...)
	}
	for _, a := range artefacts {
		for _, n := range names {
			if n == a.To || strings.HasPrefix(n, a.To+"/") || strings.HasPrefix(a.To, n+"/") {
				return fault.New(fault.BadInput, "two results of the build are named %s: give one of them another name", a.To)
			}
		}
		names = append(names, a.To)
	}
	return nil
}

// kept returns an artefact as it was published last, if it is still that.
func (a *Artefact) kept(made *StepResult, dir string, old map[string]Published) (Published, bool) {
	was, ok := old[a.To]
	return was, ok && was.Source == made.Record.Output+"/"+a.From && was.SHA256 != "" && was.Seen == seen(filepath.Join(dir, filepath.FromSlash(a.To)))
}

func put(ctx context.Context, dst, src string) error {
	if err := os.MkdirAll(filepath.Dir(dst), 0o755); err != nil {
		return err
	}
	info, err := os.Stat(src)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return replaceTree(ctx, dst, src)
	}
	return CopyFile(ctx, dst, src)
}

// measure fills in sizes and digest of a published file or directory.
func (b *Builder) measure(ctx context.Context, p *Published, made *StepResult, dst string) error {
	info, err := os.Stat(dst)
	if err != nil {
		return err
	}
	if info.IsDir() {
		t, err := DigestTree(dst)
		p.Bytes, p.Allocated, p.SHA256 = t.Bytes, t.Bytes, t.Digest
		return err
	}
	p.Bytes, p.Allocated = info.Size(), info.Sys().(*syscall.Stat_t).Blocks*512
	if p.Bytes >= sparseFrom && b.Cache.sums(made.Record)[p.from] == "" {
		b.emit(Event{Type: Message, Step: p.Step, Text: "computing the SHA-256 of " + p.Path})
	}
	p.SHA256, err = b.Cache.sum(ctx, made.Record, p.from)
	return err
}

// seen identifies a published file or directory as it is now. Of a directory only its own
// times count: a change to a file inside it is not noticed.
func seen(dst string) string {
	info, err := os.Lstat(dst)
	if err != nil {
		return ""
	}
	return filesig.Of(info)
}

func readState(dir string) map[string]Published {
	data, err := os.ReadFile(filepath.Join(dir, stateFile))
	if err != nil {
		return nil
	}
	var all []Published
	if json.Unmarshal(data, &all) != nil {
		return nil // damaged: everything is published again
	}
	found := map[string]Published{}
	for _, p := range all {
		found[p.Path] = p
	}
	return found
}

// sweepOut removes temporary files of killed builds. The caller holds the lock of the
// directory, so no other process is writing one.
func sweepOut(dir string, artefacts []Artefact) {
	names := append(SignatureNames(), ReportName, ReportText, stateFile)
	for _, a := range artefacts {
		names = append(names, a.To)
	}
	for _, name := range names {
		at := filepath.Join(dir, filepath.FromSlash(path.Dir(name)))
		left, _ := filepath.Glob(filepath.Join(at, tmpPattern(name)+"*"))
		for _, l := range left {
			_ = removeAll(l)
		}
	}
}
