package catalogue

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/build/options"
	"github.com/pantavisor/pantavisor/ci/releases"
	"github.com/pantavisor/pantavisor/ci/store"
	"github.com/pantavisor/pantavisor/internal/attest"
	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/signing"
)

// AddOptions are those of [Add].
type AddOptions struct {
	Options
	// Version is that of directories that mage build made; a release of mage release has its own.
	Version string
	// Channel is where the release belongs. Default: what the version says, see releases.ChannelOf.
	Channel string
	// Key, if not nil, is the key that the releases must be signed with.
	Key *signing.Public
	// Name is that of the entry for a directory that mage build made. Default: its target.
	Name string
	// Board describes the board of a directory that mage build made.
	Board releases.Board
}

// Added is a release that was added.
type Added struct {
	Name    string `json:"name"`
	Channel string `json:"channel"`
	Version string `json:"version"`
	// Device is the entry of the catalogue.
	Device releases.Device `json:"device"`
	// Files are the names of all its files in the store; Uploaded are those that it did not have.
	Files    []string `json:"files"`
	Uploaded []string `json:"uploaded"`

	index *releases.Index
}

// Add uploads releases, directories that mage release or mage build made, and adds them to the
// catalogue. What is there already is left as it is: the same command may be repeated.
func Add(ctx context.Context, s *store.Store, o AddOptions, dirs []string) ([]Added, error) {
	var all []*release
	for _, dir := range dirs { // nothing is uploaded when one of them is wrong
		r, err := load(ctx, dir, o)
		if err != nil {
			return nil, fault.Wrap(fault.IO, err, "reading the release %s", dir)
		}
		if slices.ContainsFunc(all, func(a *release) bool { return a.prefix() == r.prefix() }) {
			return nil, fault.New(fault.BadInput, "%s and another directory are both %s %s", dir, r.index.Target, r.index.Version)
		}
		all = append(all, r)
	}
	var out []Added
	for _, r := range all {
		added, err := r.add(ctx, s, o)
		if err != nil {
			return nil, fault.Wrap(fault.IO, err, "adding %s %s to %s", r.index.Target, r.index.Version, s)
		}
		out = append(out, *added)
	}
	if o.DryRun {
		return out, nil
	}
	return out, publish(ctx, s, o.Options, out)
}

// publish adds releases whose files are in the store to the catalogue.
func publish(ctx context.Context, s *store.Store, o Options, all []Added) error {
	err := s.Update(ctx, releases.CatalogueName, releases.MaxCatalogue, func(text []byte) (_ []byte, err error) {
		for _, a := range all {
			text, err = change(text, a.Channel, a.Version, func(old []byte) ([]byte, error) { return withDevice(old, o.date(), a.Device) })
			if err != nil {
				return nil, err
			}
		}
		return text, nil
	})
	if err != nil {
		return err
	}
	var names []string
	for _, a := range all {
		names = append(names, a.Name)
	}
	slices.Sort(names)
	return refresh(ctx, s, o, slices.Compact(names))
}

// release is a directory that is added.
type release struct {
	dir     string
	channel string
	index   *releases.Index
	text    []byte   // of the index
	further []string // files besides those of the index
	signs   []string // those of them that sign
}

// prefix is the directory in the store.
func (r *release) prefix() string { return directoryOf(r.index.Version, r.index.Target) }

// load reads a directory and verifies its files.
func load(ctx context.Context, dir string, o AddOptions) (*release, error) {
	text, err := bounded.ReadRegular(filepath.Join(dir, releases.IndexName), releases.MaxIndex)
	r := &release{dir: dir, text: text}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = r.loadBuild(ctx, o)
	case err == nil:
		err = r.loadRelease(ctx, o)
	}
	if err != nil {
		return nil, err
	}
	r.channel = o.Channel
	if r.channel == "" {
		r.channel = releases.ChannelOf(r.index.Version)
	}
	for _, name := range []string{r.fullImageName(), r.exportsName()} {
		if r.index.File(name) != nil {
			return nil, fault.New(fault.BadInput, "a result is named %s, as an archive that is made for the catalogue: give it another name", name)
		}
	}
	return r, releases.CheckChannel(r.channel)
}

// loadRelease reads a directory of mage release.
func (r *release) loadRelease(ctx context.Context, o AddOptions) (err error) {
	if r.index, err = releases.ParseIndex(r.text); err != nil {
		return err
	}
	if o.Version != "" && o.Version != r.index.Version {
		return fault.New(fault.BadInput, "it is released as %s, and cannot be added as %s: mage release --version=%s makes that", r.index.Version, o.Version, o.Version)
	}
	var files []attest.File
	if o.Key != nil {
		v, err := attest.Verify(ctx, r.dir, "", o.Key)
		if err != nil {
			return err
		}
		files = v.Files
	} else if files, err = attest.Check(ctx, r.dir); err != nil {
		return err
	}
	for _, f := range r.index.Files {
		if !slices.Contains(files, attest.File{Name: f.Name, SHA256: f.SHA256}) {
			return fault.New(fault.Digest, "%s lists %s with another digest than %s, or this does not list it", releases.IndexName, f.Name, build.SumsName)
		}
	}
	for _, f := range files {
		if f.Name != releases.IndexName && r.index.File(f.Name) == nil {
			r.further = append(r.further, f.Name)
		}
	}
	for _, name := range build.SignatureNames() {
		if _, err := os.Lstat(filepath.Join(r.dir, name)); err == nil {
			r.further = append(r.further, name)
			if name != build.SumsName {
				r.signs = append(r.signs, name)
			}
		}
	}
	return nil
}

// loadBuild reads a directory of mage build.
func (r *release) loadBuild(ctx context.Context, o AddOptions) error {
	report, err := build.LoadReport(filepath.Join(r.dir, build.ReportName))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fault.New(fault.Missing, "it has neither %s nor %s: mage release or mage build makes a directory that can be added", releases.IndexName, build.ReportName)
	case err != nil:
		return err
	case report.Failure != nil:
		return fault.New(fault.Missing, "the build failed (%s)", report.Failure.Kind)
	case o.Key != nil:
		return fault.New(fault.BadInput, "a build has no signed %s: mage release --sign=KEY makes a release that can be verified", releases.IndexName)
	case o.Version == "":
		return fault.New(fault.BadInput, "a build has no version: say --version=V, or add what mage release makes")
	}
	if err := options.CheckRelease(o.Version); err != nil {
		return fault.Wrap(fault.BadInput, err, "--version")
	}
	files, err := attest.Artefacts(ctx, r.dir, report.Artefacts)
	if err != nil {
		return err
	}
	r.index = &releases.Index{Format: releases.IndexFormat, Target: cmp.Or(o.Name, report.Target), Version: o.Version, Board: o.Board}
	for _, f := range files {
		info, err := os.Stat(filepath.Join(r.dir, filepath.FromSlash(f.Name)))
		if err != nil {
			return err
		}
		r.index.Add(f.Name, info.Size(), f.SHA256)
	}
	r.index.SetForms()
	r.text, err = r.index.Text()
	if err == nil {
		_, err = releases.ParseIndex(r.text) // which checks all names
	}
	return err
}

// add uploads the files of a release, and adds it to those of its board.
func (r *release) add(ctx context.Context, s *store.Store, o AddOptions) (*Added, error) {
	out := &Added{Name: r.index.Target, Channel: r.channel, Version: r.index.Version, index: r.index}
	sum := sha256.Sum256(r.text)
	e := Entry{Channel: r.channel, Version: r.index.Version, Date: o.date(), IndexSHA256: hex.EncodeToString(sum[:]), Index: r.index, Signatures: r.signs}
	link := func(f *releases.File) *releases.Link {
		if f == nil {
			return nil
		}
		return &releases.Link{URL: o.link(s, r.prefix()+f.Name), SHA256: f.SHA256}
	}
	if o.DryRun {
		for _, f := range r.index.Files {
			out.Files = append(out.Files, r.prefix()+f.Name)
		}
		return out, nil
	}
	if err := r.checkSame(ctx, s, e.IndexSHA256); err != nil {
		return nil, err
	}
	if err := r.upload(ctx, s, out); err != nil {
		return nil, err
	}
	var err error
	if e.FullImage, e.Exports, err = r.archives(ctx, s, out); err != nil {
		return nil, err
	}
	// The index comes last: a release that has it is complete.
	if err := r.uploadIndex(ctx, s, out, e.IndexSHA256); err != nil {
		return nil, err
	}
	out.Device = releases.Device{
		Name: r.index.Target, FullImage: link(e.FullImage), PVRExports: link(e.Exports), BSP: link(r.first("bsp")),
		Release: link(&releases.File{Name: releases.IndexName, SHA256: e.IndexSHA256}),
	}
	return out, updateJSON(ctx, s, boardName(r.index.Target), func(b *board) error {
		for _, was := range b.Releases {
			if was.Channel == e.Channel && was.Version == e.Version && was.Date != "" {
				e.Date = was.Date // it keeps its time
			}
		}
		return b.put(r.index.Target, e)
	})
}

// checkSame returns an error when the store has another release of this version: its files would
// otherwise be mixed with those of this one.
func (r *release) checkSame(ctx context.Context, s *store.Store, sum string) error {
	there, err := s.Digest(ctx, r.prefix()+releases.IndexName)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err == nil && there != sum:
		return fault.New(fault.Different, "the catalogue has another release of this version: a version is released once; take another, or pvci catalogue remove it")
	}
	return err
}

// first returns the first file of a kind as it is, nil for none.
func (r *release) first(kind string) *releases.File {
	for i := range r.index.Files {
		if f := &r.index.Files[i]; f.Kind == kind && f.Of == "" {
			return f
		}
	}
	return nil
}

// upload uploads the files of the directory, but not the index.
func (r *release) upload(ctx context.Context, s *store.Store, out *Added) error {
	for _, f := range r.index.Files {
		if err := r.put(ctx, s, out, f.Name, filepath.Join(r.dir, filepath.FromSlash(f.Name)), f.SHA256); err != nil {
			return err
		}
	}
	for _, name := range r.further {
		if err := r.put(ctx, s, out, name, filepath.Join(r.dir, filepath.FromSlash(name)), ""); err != nil {
			return err
		}
	}
	return nil
}

// put uploads a file.
func (r *release) put(ctx context.Context, s *store.Store, out *Added, name, file, sum string) error {
	up, err := s.PutFile(ctx, r.prefix()+name, store.File{Path: file, SHA256: sum})
	if err != nil {
		return err
	}
	out.Files = append(out.Files, r.prefix()+name)
	if up {
		out.Uploaded = append(out.Uploaded, r.prefix()+name)
	}
	return nil
}

// uploadIndex uploads the index, which a build has not in its directory.
func (r *release) uploadIndex(ctx context.Context, s *store.Store, out *Added, sum string) error {
	dir, err := os.MkdirTemp("", "pvci-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, releases.IndexName)
	if err := os.WriteFile(file, r.text, 0o600); err != nil {
		return err
	}
	return r.put(ctx, s, out, releases.IndexName, file, sum)
}

// link is the address of a file of the store in the catalogue.
func (o Options) link(s *store.Store, name string) string {
	path := (&url.URL{Path: name}).EscapedPath()
	if public := o.public(s); public != "" {
		return public + "/" + path
	}
	return path
}
