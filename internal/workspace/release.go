package workspace

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/build/options"
	"github.com/pantavisor/pantavisor/ci/releases"
	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/internal/attest"
	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/filelock"
	"github.com/pantavisor/pantavisor/internal/signing"
	"github.com/pantavisor/pantavisor/targets"
)

// releaseName is the directory below out/ for releases.
const releaseName = "release"

// Released is a release that [Workspace.Release] made.
type Released struct {
	Directory string `json:"directory"`
	releases.Index
	// Signed is nil for a release that is not signed.
	Signed *build.Signed `json:"signed,omitempty"`
	// Kept is set when the release was there already.
	Kept bool `json:"kept,omitempty"`
}

// Release builds targets and puts what is to be published of each into a directory of its own. All
// are built before the first directory is made. The version may be "" when options have it.
func (w *Workspace) Release(ctx context.Context, names []string, version string) error {
	to := w.releaseDir()
	w.OutDir = ""
	if version != "" {
		if err := options.CheckRelease(version); err != nil {
			return fault.Wrap(fault.BadInput, err, "--version")
		}
		w.Options.Release = version
	}
	w.Signing = w.Signing.or(w.Options)
	key, err := w.signingKey(ctx)
	if err != nil {
		return err
	}
	w.Signing = Signing{} // the release is signed, and not what it is taken from
	if key == nil {
		fmt.Fprintln(w.Stderr, "warning  the release is not signed: --sign=KEY signs it")
	} else if key.Warning != "" {
		fmt.Fprintln(w.Stderr, "warning ", key.Warning)
	}
	list, err := w.checkReleases(ctx, names)
	if err != nil {
		return err
	}
	reports, err := w.buildAll(ctx, list)
	if err != nil {
		return err
	}
	var all []*Released
	for i, t := range list {
		r := &release{Workspace: w, target: t, report: reports[i], key: key, to: to}
		made, err := r.make(ctx)
		if err != nil {
			return w.roomFor(fault.Wrap(fault.IO, err, "releasing %s", t.Name), to)
		}
		all = append(all, made)
	}
	return w.tell(all, func(out io.Writer) error { return releasesText(out, all) })
}

// releaseDir is the directory of releases: out/release, or what the user says.
func (w *Workspace) releaseDir() string {
	if w.OutDir == "" {
		return w.Out(releaseName)
	}
	return w.outDir()
}

// buildAll builds targets. What a build says on standard output otherwise is not said.
func (w *Workspace) buildAll(ctx context.Context, list []*targets.Target) ([]*build.Report, error) {
	quiet := *w
	quiet.JSON, quiet.Stdout = false, io.Discard
	var out []*build.Report
	for _, t := range list {
		report, _, err := quiet.build(ctx, t.Name)
		if err != nil {
			return nil, fault.Wrap(fault.Internal, err, "building %s for its release", t.Name)
		}
		out = append(out, report)
	}
	return out, nil
}

// release is one release that is made.
type release struct {
	*Workspace
	target *targets.Target
	report *build.Report
	key    *signing.Key // nil signs nothing
	to     string       // the directory of all releases

	files []attest.File // of the results
}

// name is the name of the directory.
func (r *release) name() string { return r.target.Name + "-" + r.Options.Release }

// make makes the directory, or finds the same one.
func (r *release) make(ctx context.Context) (*Released, error) {
	if err := os.MkdirAll(r.to, 0o755); err != nil {
		return nil, err
	}
	// One at a time: what is left of a process that was killed can be told from the work of another.
	lock, err := filelock.Acquire(ctx, filepath.Join(r.to, ".lock"), filelock.Options{Create: 0o644})
	if err != nil {
		return nil, err
	}
	defer lock.Unlock()
	r.sweep()
	index, err := r.index(ctx)
	if err != nil {
		return nil, err
	}
	out := &Released{Directory: filepath.Join(r.to, r.name()), Index: *index}
	if _, err := os.Lstat(out.Directory); err == nil {
		out.Kept = true
		return out, r.compare(ctx, out)
	}
	work, err := os.MkdirTemp(r.to, r.temporary())
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(work)
	if err := r.fill(ctx, work, out); err != nil {
		return nil, err
	}
	return out, atomicfile.NameTree(work, r.to, func() error { return os.Rename(work, out.Directory) })
}

// temporary is the beginning of the name of a directory that is not finished.
func (r *release) temporary() string { return "." + r.name() + ".tmp-" }

// sweep removes what processes that were killed have left. The lock is held.
func (r *release) sweep() {
	left, _ := filepath.Glob(filepath.Join(r.to, r.temporary()+"*"))
	for _, dir := range left {
		_ = os.RemoveAll(dir)
	}
}

// index lists the results of the build, the main one first.
func (r *release) index(ctx context.Context) (*releases.Index, error) {
	dir := r.Out(r.target.Name)
	var err error
	if r.files, err = attest.Artefacts(ctx, dir, r.report.Artefacts); err != nil {
		return nil, err
	}
	index := &releases.Index{
		Format: releases.IndexFormat, Target: r.target.Name, Version: r.Options.Release, Support: r.target.Support,
		Board: releases.Board{Description: r.target.Description, Arch: r.target.Arch.String(), Aliases: r.target.Aliases},
	}
	for _, f := range r.files {
		info, err := os.Stat(filepath.Join(dir, filepath.FromSlash(f.Name)))
		if err != nil {
			return nil, err
		}
		if f.Name == releases.IndexName || slices.Contains(build.SignatureNames(), f.Name) {
			return nil, fault.New(fault.BadInput, "a result of the build is named %s, as a file of its release: give it another name", f.Name)
		}
		index.Add(f.Name, info.Size(), f.SHA256)
	}
	index.SetForms()
	return index, nil
}

// fill copies the results into a directory, and adds the record, the index and what signs.
func (r *release) fill(ctx context.Context, work string, out *Released) error {
	dir := r.Out(r.target.Name)
	for _, f := range r.files {
		to := filepath.Join(work, filepath.FromSlash(f.Name))
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		if err := build.CopyFile(ctx, to, filepath.Join(dir, filepath.FromSlash(f.Name))); err != nil {
			return err
		}
	}
	text, err := out.Index.Text()
	if err != nil {
		return err
	}
	record := *r.report
	record.Signed = nil
	if err := errors.Join(os.Chmod(work, 0o755), record.Save(work), os.WriteFile(filepath.Join(work, releases.IndexName), text, 0o644)); err != nil {
		return err
	}
	// Another build may have published meanwhile: what is released is what was built here.
	copied := slices.Clone(r.files)
	if err := attest.Digest(ctx, work, copied); err != nil {
		return err
	}
	for i, f := range copied {
		if f != r.files[i] {
			return fault.New(fault.Digest, "%s was changed while it was copied: is another build of %s running?", f.Name, r.target.Name)
		}
	}
	further := []attest.File{{Name: releases.IndexName}, {Name: build.ReportName}, {Name: build.ReportText}}
	if err := attest.Digest(ctx, work, further); err != nil {
		return err
	}
	all := slices.Concat(copied, further)
	if r.key == nil {
		return attest.List(work, all)
	}
	out.Signed, err = r.signRelease(ctx, work, &record, all)
	return err
}

// signRelease signs a directory. The provenance is about the results of the build.
func (r *release) signRelease(ctx context.Context, dir string, record *build.Report, all []attest.File) (*build.Signed, error) {
	s, err := r.statement(ctx, record, r.files)
	if err != nil {
		return nil, err
	}
	return attest.Sign(dir, r.key, all, s, r.signedName(r.target.Name))
}

// compare compares a release that is there with what was built: a version is released once. It is
// signed now if it was not.
func (r *release) compare(ctx context.Context, out *Released) error {
	want, err := out.Index.Text()
	if err != nil {
		return err
	}
	got, err := bounded.ReadRegular(filepath.Join(out.Directory, releases.IndexName), releases.MaxIndex)
	if errors.Is(err, fs.ErrNotExist) {
		return fault.New(fault.BadInput, "%s is there, and is not a release: it has no %s", out.Directory, releases.IndexName)
	}
	if err != nil {
		return err
	}
	if !bytes.Equal(want, got) {
		return fault.New(fault.Different, "%s is there, and has other results than what was built: a version is released once, take another --version, or remove it; mage diff says what differs", out.Directory)
	}
	if _, err := os.Lstat(filepath.Join(out.Directory, build.DetachedName)); err == nil && r.key != nil {
		v, err := attest.Verify(ctx, out.Directory, "", r.key.Public)
		if err != nil {
			return fault.Wrap(fault.Digest, err, "the release is there, and is not as this key has signed it")
		}
		out.Signed = v.Signed()
		return nil
	}
	files, err := attest.Check(ctx, out.Directory)
	if err != nil || r.key == nil {
		return err
	}
	record, err := build.LoadReport(filepath.Join(out.Directory, build.ReportName))
	if err == nil {
		out.Signed, err = r.signRelease(ctx, out.Directory, record, files)
	}
	return err
}

// releasesText writes for people what was released.
func releasesText(out io.Writer, all []*Released) error {
	for _, r := range all {
		how := "released"
		if r.Kept {
			how = "is released already"
		}
		with := ""
		if r.Signed != nil {
			with = fmt.Sprintf(", signed with the %s key %.16s", r.Signed.Algorithm, r.Signed.KeySHA256)
		}
		if _, err := fmt.Fprintf(out, "%s %s %s: %s, %d files%s\n", r.Target, r.Version, how, r.Directory, len(r.Files), with); err != nil {
			return err
		}
	}
	return nil
}
