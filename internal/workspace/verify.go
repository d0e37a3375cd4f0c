package workspace

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/images/inspect"
	"github.com/pantavisor/pantavisor/internal/attest"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/scratch"
)

// VerifyOptions say what Workspace.Verify compares, and how it builds.
type VerifyOptions struct {
	// Image is a file that is compared with the one that the target makes. Default: all that
	// the target's results have.
	Image string
	// Record is the report.json of the build that made what is compared. Default: that beside
	// the image, or that of the target's results.
	Record string
	// Parts is a directory of mage parts:export that has the packages. Default: those of the
	// download cache, and of the archive.
	Parts string
	// Results is a directory for what was rebuilt. Default: it is removed.
	Results string
	// Offline builds without a network.
	Offline bool
	// Key is a public key with which the signatures of what is verified are verified first.
	// Default: they are not.
	Key string
}

// Verified is what Workspace.Verify has found.
type Verified struct {
	Target string `json:"target"`
	// Signed is what was verified with a public key.
	Signed *attest.Verified `json:"signed,omitempty"`
	// Same reports that everything that was compared is equal, bit by bit.
	Same  bool           `json:"same"`
	Files []VerifiedFile `json:"files"`
	// Conditions are what was other than in the first build.
	Conditions []string `json:"conditions"`
	// First is the first difference in one line.
	First       string               `json:"first,omitempty"`
	Differences []inspect.Difference `json:"differences,omitempty"`
	// Unstable are steps that made something else of the same inputs; Moved are those whose
	// inputs were others, the first ones of the graph.
	Unstable []string `json:"unstable_steps,omitempty"`
	Moved    []string `json:"moved_steps,omitempty"`
	// Recipe has a line for each setting and package that was another one.
	Recipe []string `json:"recipe,omitempty"`
	// Signatures are those that were not compared, because only who has the key can make them.
	Signatures []string `json:"signatures_not_compared,omitempty"`
	// Wall and CPU are those of the rebuild, in seconds.
	Wall float64 `json:"wall_seconds"`
	CPU  float64 `json:"cpu_seconds"`
}

// VerifiedFile is a file that was compared.
type VerifiedFile struct {
	Path   string `json:"path"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"` // of the rebuilt one
	Same   bool   `json:"same"`
}

// Verify builds a target again, in another directory and under other conditions, and compares
// the results bit by bit. The error is of kind fault.Different when they are not the same. With a
// public key it verifies signatures before; in place of a target it then takes a directory or a
// file, of which nothing else is verified.
func (w *Workspace) Verify(ctx context.Context, target string, o VerifyOptions) error {
	signed, err := w.verifySigned(ctx, target, o)
	if err != nil {
		return err
	}
	if signed != nil && w.signedAlone(target) {
		return w.tell(signed, signedText(signed))
	}
	v, err := w.verify(ctx, target, o, signed)
	if err != nil {
		return err
	}
	if err := w.tell(v, v.text); err != nil {
		return err
	}
	if !v.Same {
		return fault.New(fault.Different, "%s is not what was rebuilt", cmp.Or(o.Image, target))
	}
	return nil
}

func (w *Workspace) verify(ctx context.Context, target string, o VerifyOptions, signed *attest.Verified) (*Verified, error) {
	t, err := w.load(target)
	if err != nil {
		return nil, err
	}
	target = t.Name
	old, err := w.record(target, o)
	if err != nil {
		return nil, err
	}
	if signed != nil && old.Recipe != nil {
		if err := signed.CheckRecipe(old); err != nil {
			return nil, err
		}
	}
	dir, err := scratch.New("pv-verify-")
	if err != nil {
		return nil, err
	}
	defer dir.Remove()
	r := &rebuild{Workspace: w, target: target, VerifyOptions: o, recipe: old.Recipe, dir: dir.Path}
	report, err := r.run(ctx)
	if err != nil {
		return nil, err
	}
	v := &Verified{Target: target, Signed: signed, Conditions: r.conditions, Wall: report.Wall, CPU: report.CPU}
	v.compareSteps(old, report)
	v.Recipe = differingRecipes(old.Recipe, report.Recipe)
	pairs, alone := w.pairs(target, o, old, report)
	for _, pair := range pairs {
		if err := v.compare(ctx, pair, r.results(pair.made.Path)); err != nil {
			return nil, err
		}
	}
	v.Differences = append(v.Differences, alone...)
	if len(v.Files)+len(alone) == 0 {
		return nil, fault.New(fault.BadInput, "%s makes nothing that %s could be compared with", target, cmp.Or(o.Image, "the earlier build"))
	}
	v.judge()
	return v, nil
}

// record returns the report of the build that made what is to be verified. For a file without
// one it is empty: the workspace's lock and the settings of this process then count.
func (w *Workspace) record(target string, o VerifyOptions) (*build.Report, error) {
	name := filepath.Join(w.Out(target), build.ReportName)
	switch {
	case o.Record != "":
		name = w.path(o.Record)
	case o.Image != "":
		if _, err := os.Stat(w.path(o.Image)); err != nil {
			return nil, fault.New(fault.Missing, "verifying a file: %w", err)
		}
		name = filepath.Join(filepath.Dir(w.path(o.Image)), build.ReportName)
		if _, err := os.Stat(name); err != nil {
			fmt.Fprintf(w.Stderr, "warning  %s has no %s beside it: the lock of %s and the settings of this process count\n", o.Image, build.ReportName, target)
			return &build.Report{Target: target}, nil
		}
	case !w.built(target):
		return nil, fault.New(fault.Missing, "verifying %s: it has not been built here: mage build %s, or name the image that is to be verified", target, target)
	}
	r, err := build.LoadReport(name)
	switch {
	case err != nil:
		return nil, err
	case r.Failure != nil:
		return nil, fault.New(fault.BadInput, "verifying %s: the build of %s failed (%s)", target, name, r.Failure.Text)
	case r.Target != target:
		return nil, fault.New(fault.BadInput, "verifying %s: %s is of the target %s", target, name, r.Target)
	}
	return r, nil
}

// pair is a file with the one that it must be equal to.
type pair struct {
	file string // of the earlier build
	made build.Published
}

// pairs lists what is compared, and, as differences, the results that only one of the builds has.
func (w *Workspace) pairs(target string, o VerifyOptions, old, report *build.Report) (out []pair, alone []inspect.Difference) {
	if o.Image != "" {
		if i := fitting(filepath.Base(o.Image), report.Artefacts); i >= 0 {
			out = []pair{{w.path(o.Image), report.Artefacts[i]}}
		}
		return out, nil
	}
	at := func(all []build.Published, p string) int {
		return slices.IndexFunc(all, func(a build.Published) bool { return a.Path == p })
	}
	for _, a := range old.Artefacts {
		if i := at(report.Artefacts, a.Path); i >= 0 {
			out = append(out, pair{filepath.Join(w.Out(target), filepath.FromSlash(a.Path)), report.Artefacts[i]})
		} else {
			alone = append(alone, inspect.Difference{Kind: inspect.Removed, Path: []string{a.Path}, OldBytes: a.Bytes})
		}
	}
	for _, b := range report.Artefacts {
		if at(old.Artefacts, b.Path) < 0 {
			alone = append(alone, inspect.Difference{Kind: inspect.Added, Path: []string{b.Path}, NewBytes: b.Bytes})
		}
	}
	return out, alone
}

// fitting returns the index of the result that a file with a name is compared with, -1 for none:
// that with the name, else the one with the longest beginning of it, as of a name with a suffix of
// compression, else the first of the same kind. No image is compared with a block map.
func fitting(name string, made []build.Published) int {
	base := func(i int) string { return path.Base(made[i].Path) }
	begins := -1
	for i := range made {
		if base(i) == name {
			return i
		}
		if strings.HasPrefix(name, base(i)) && extension(name) != ".bmap" && (begins < 0 || len(base(i)) > len(base(begins))) {
			begins = i
		}
	}
	if begins >= 0 {
		return begins
	}
	return slices.IndexFunc(made, func(b build.Published) bool { return extension(b.Path) == extension(name) })
}

// extension tells an image from an export and a block map, without compression.
func extension(name string) string {
	for _, packed := range []string{".xz", ".zst", ".gz", ".bz2"} {
		name = strings.TrimSuffix(name, packed)
	}
	return filepath.Ext(name)
}

// compare compares a file with the rebuilt one.
func (v *Verified) compare(ctx context.Context, p pair, rebuilt string) error {
	var r inspect.Reader
	defer r.Close()
	a, err := r.Open(ctx, p.file)
	if err != nil {
		return err
	}
	b, err := r.Open(ctx, rebuilt)
	if err != nil {
		return err
	}
	differences, err := r.Compare(ctx, a, b)
	if err != nil {
		return err
	}
	for i := range differences {
		differences[i].Path = append([]string{p.made.Path}, differences[i].Path...)
	}
	v.Files = append(v.Files, VerifiedFile{p.made.Path, p.made.Bytes, p.made.SHA256, len(differences) == 0})
	v.Differences = append(v.Differences, differences...)
	return nil
}

// compareSteps compares the outputs of steps that both builds have.
func (v *Verified) compareSteps(old, report *build.Report) {
	before := map[string]build.StepReport{}
	for _, s := range old.Steps {
		before[s.Name] = s
	}
	for _, s := range report.Steps {
		was, ok := before[s.Name]
		switch {
		case !ok || was.Output == s.Output && was.Key == s.Key:
		case was.Key == s.Key:
			v.Unstable = append(v.Unstable, s.Name)
		case len(v.Unstable) == 0: // later steps have other inputs because of an unstable one
			v.Moved = append(v.Moved, s.Name)
		}
	}
}

// judge decides whether all is the same. Signatures that the rebuilt files lack do not count:
// whoever has no key cannot make them.
func (v *Verified) judge() {
	result := inspect.NewResult("", "", v.Differences)
	v.Differences = result.Differences
	var rest []inspect.Difference
	for i := range v.Differences {
		d := &v.Differences[i]
		switch {
		case !ofSignature(d):
			rest = append(rest, *d)
		case strings.HasSuffix(d.Path[len(d.Path)-1], ".json"): // not the directory
			v.Signatures = append(v.Signatures, d.Name())
		}
	}
	follows := !slices.ContainsFunc(rest, func(d inspect.Difference) bool { return !d.Derived || !onlySignatures(&d) })
	v.Same = len(rest) == 0 || follows && len(v.Signatures) > 0
	if !v.Same {
		v.First = inspect.NewResult("", "", rest).First().String()
	}
}

// The places of signatures: in the trail of a revision in an image, and in an export.
var (
	signatureInTrail  = regexp.MustCompile(`^trails/[^/]+/_sigs(/[^/]+\.json)?$`)
	signatureInExport = regexp.MustCompile(`^_sigs/[^/]+\.json$`)
)

// ofSignature reports whether a difference is a signature of a part, or the directory of
// signatures, that the rebuilt revision lacks. A file of that name in a container is none.
func ofSignature(d *inspect.Difference) bool {
	last := len(d.Path) - 1
	if d.Kind != inspect.Removed || last < 1 || slices.ContainsFunc(d.Path[1:last], func(step string) bool { return strings.Contains(step, "/") }) {
		return false
	}
	return signatureInTrail.MatchString(d.Path[last]) || strings.HasSuffix(d.Path[0], ".pvr.tgz") && signatureInExport.MatchString(d.Path[last])
}

// onlySignatures reports whether a difference, when it is one of the document of a revision, is in
// its signatures alone.
func onlySignatures(d *inspect.Difference) bool {
	if !strings.HasSuffix(d.Path[len(d.Path)-1], "/.pvr/json") {
		return true
	}
	other := func(k inspect.Detail) bool { return !strings.HasPrefix(k.Name, "_sigs/") }
	return len(d.Details) > 0 && !slices.ContainsFunc(d.Details, other)
}

// mostNamed is how many steps and settings the text names.
const mostNamed = 5

// text writes the result for people.
func (v *Verified) text(out io.Writer) error {
	var b strings.Builder
	if v.Signed != nil {
		if err := signedText(v.Signed)(&b); err != nil {
			return err
		}
	}
	for _, f := range v.Files {
		verdict := "differs from"
		if f.Same || v.Same {
			verdict = "is the same as"
		}
		fmt.Fprintf(&b, "%s %s what was rebuilt, %d bytes\n", f.Path, verdict, f.Bytes)
	}
	fmt.Fprintf(&b, "rebuilt in %.1f s, %.1f s of CPU, %s\n", v.Wall, v.CPU, strings.Join(v.Conditions, ", "))
	for _, s := range v.Signatures {
		fmt.Fprintf(&b, "not compared, because it needs the private key: %s\n", s)
	}
	if v.First != "" {
		fmt.Fprintf(&b, "\nthe first of %d differences: %s\n", len(v.Differences), v.First)
	}
	for _, list := range []struct {
		title string
		lines []string
	}{
		{"steps that made something else of the same inputs", v.Unstable},
		{"the first steps with other inputs", v.Moved},
		{"other packages and settings", v.Recipe},
	} {
		if len(list.lines) == 0 {
			continue
		}
		fmt.Fprintf(&b, "%s:\n", list.title)
		for n, line := range list.lines {
			if n == mostNamed {
				fmt.Fprintf(&b, "  and %d more\n", len(list.lines)-n)
				break
			}
			fmt.Fprintf(&b, "  %s\n", line)
		}
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// failureOf returns the error of a build that another process has made, from its report.
func failureOf(name string, err error) error {
	r, unread := build.LoadReport(name)
	if unread != nil || r.Failure == nil {
		return fault.Wrap(fault.Internal, err, "rebuilding")
	}
	return fault.New(fault.Kind(r.Failure.Code), "rebuilding: %s", r.Failure.Text)
}
