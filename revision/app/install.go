package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/app/dm"
	"github.com/pantavisor/pantavisor/revision/app/image"
	"github.com/pantavisor/pantavisor/revision/app/rootfs"
	"github.com/pantavisor/pantavisor/revision/app/template"
	"github.com/pantavisor/pantavisor/revision/canon"
)

// Result lists what an operation changed.
type Result struct {
	// Written are the files whose content is new, relative to the checkout.
	Written []string `json:"written,omitempty"`
	// Tracked are files that belong on the repository's add list.
	Tracked []string `json:"tracked,omitempty"`
}

// build makes the files of one application.
type build struct {
	w      *Workspace
	name   string
	old    *Source // as it is on disk; nil for a new application
	src    *Source
	change *change
	image  *image.Image // of src, when it has been looked up
	result *Result
	depth  int  // bases above
	stale  bool // the overlay was made for another base
	// accounts are the account files of the root file system; nil unless it was composed.
	accounts *accountFiles
	user     template.Account
	runs     bool // it has a program
	force    bool // take an image for any platform
	added    bool // it is new, or replaced as a whole
	// root is the root file system as it was composed; nil unless it was.
	root *rootfs.Tree
}

func (w *Workspace) begin(name string, old, src *Source) (*build, error) {
	c, err := w.change(w.directory(name))
	if err != nil {
		return nil, err
	}
	return &build{w: w, name: name, old: old, src: src, change: c, result: &Result{}}, nil
}

// end aborts what was not committed and releases the image.
func (b *build) end() {
	b.change.abort()
	if b.root != nil {
		_ = b.root.Close() // its file has no name and is not needed
	}
	if b.image != nil {
		b.image.Close()
	}
}

// Install renders an application again from its src.json and makes the files that are
// missing or were made from another source (manual: pvr app install).
func (w *Workspace) Install(ctx context.Context, name string) (*Result, error) {
	name, err := CheckName(name)
	if err != nil {
		return nil, err
	}
	r, err := w.install(ctx, name, 0)
	if err != nil {
		return nil, fmt.Errorf("installing application %q: %w", name, err)
	}
	w.say(name, "", "Application installed")
	return r, nil
}

// maxBases bounds the length of a chain of applications that extend each other.
const maxBases = 8

func (w *Workspace) install(ctx context.Context, name string, depth int) (*Result, error) {
	old, err := w.read(name)
	if err != nil {
		return nil, err
	}
	b, err := w.begin(name, old, old.clone())
	if err != nil {
		return nil, err
	}
	defer b.end()
	b.depth = depth
	if err := b.complete(ctx); err != nil {
		return nil, err
	}
	return b.finish(ctx)
}

// complete looks up what a manifest written by hand omits.
func (b *build) complete(ctx context.Context) error {
	if b.src.Kind() != Docker || b.src.Text("docker_name") == "" {
		return nil
	}
	if b.src.Text("docker_digest") != "" && !b.src.Value("docker_config").IsNull() {
		return nil
	}
	b.w.notice(b.name, "WARN: %s/%s names no docker_config or docker_digest; looking the image up", b.name, SourceName)
	return b.lookup(ctx, image.JoinReference(b.src.Text("docker_name"), b.src.Text("docker_tag")), false)
}

// finish makes all files of the application and puts them in place.
func (b *build) finish(ctx context.Context) (*Result, error) {
	if b.src.Text("base") != "" {
		if err := b.installBase(ctx); err != nil {
			return nil, err
		}
	}
	if err := b.check(); err != nil { // first, because it is cheap and may refuse
		return nil, err
	}
	if err := b.images(ctx); err != nil {
		return nil, err
	}
	if err := b.findUser(ctx); err != nil {
		return nil, err
	}
	if err := b.render(); err != nil {
		return nil, err
	}
	if err := b.writeJSON(SourceName, b.src.Encode(), b.src.JSON()); err != nil {
		return nil, err
	}
	if err := b.bill(ctx); err != nil {
		return nil, err
	}
	if err := b.change.commit(); err != nil {
		return nil, err
	}
	return b.result, b.protect(ctx)
}

// protect renews the hash trees of the volumes that the device mapper mounts.
func (b *build) protect(ctx context.Context) error {
	var keys []string
	for _, m := range b.src.Value("dm_enabled").Members() {
		if on, _ := m.Value.Bool(); on && b.wrote(m.Name) {
			keys = append(keys, dm.Manifest(b.name, m.Name))
		}
	}
	r, err := b.w.ApplyDM(ctx, keys, "")
	if r != nil {
		b.result.Written = append(b.result.Written, r.Written...)
		b.result.Tracked = append(b.result.Tracked, r.Tracked...)
	}
	return err
}

func (b *build) wrote(file string) bool {
	for _, w := range b.result.Written {
		if w == b.name+"/"+file {
			return true
		}
	}
	return false
}

// images makes the root file system and the overlay over it.
func (b *build) images(ctx context.Context) error {
	switch {
	case b.src.Text("rootfs_url") != "" && b.src.Text("docker_name") == "":
		return b.ensureRootfs(ctx)
	case b.src.Text("docker_digest") != "":
		return b.ensureDocker(ctx)
	case b.src.Kind() == PVR:
		b.w.say(b.name, "", "Application already up to date. Will skip generating new %s", rootName)
		return nil
	}
	return fault.New(fault.BadInput, "%s/%s names no source: docker_name, rootfs_url or pvr is expected", b.name, SourceName)
}

func (b *build) ensureDocker(ctx context.Context) error {
	b.change.remove(rootName + rootfsDigest)
	if b.src.Text("base") == "" {
		if err := b.ensure(ctx, rootName, b.src.Text("docker_digest"), b.rootTree); err != nil {
			return err
		}
	}
	if over := b.src.Text("docker_ovl_digest"); over != "" {
		if b.old != nil && b.old.Text("docker_digest") != b.src.Text("docker_digest") {
			b.stale = true // its base has changed
			b.change.first = append(b.change.first, overlayName+dockerDigest)
		}
		return b.ensure(ctx, overlayName, over, b.overlayTree)
	}
	b.change.remove(overlayName)
	b.change.remove(overlayName + dockerDigest)
	return nil
}

// current reports whether an image exists and was made from the wanted source.
func (b *build) current(file, suffix, want string) bool {
	info, err := os.Stat(filepath.Join(b.change.final, file))
	if err != nil || !info.Mode().IsRegular() || info.Size() == 0 {
		return false
	}
	got, err := os.ReadFile(filepath.Join(b.change.final, file+suffix))
	return err == nil && strings.TrimSpace(string(got)) == want
}

// ensure makes an image from a container image unless it exists.
func (b *build) ensure(ctx context.Context, file, want string, compose func(context.Context, string) (*rootfs.Tree, error)) error {
	if b.current(file, dockerDigest, want) && (file != overlayName || !b.stale) {
		b.w.say(b.name, b.name+"/"+file, "%s: already up to date.", file)
		return nil
	}
	b.w.say(b.name, b.name+"/"+file, "Generating %s", file)
	tree, err := compose(ctx, want)
	if err != nil {
		return err
	}
	if file == rootName {
		b.root = tree
	} else {
		defer tree.Close()
	}
	if _, err := b.w.squash(ctx, b.change, b.name, file, tree, b.src.Text("format_options")); err != nil {
		return err
	}
	b.result.Written = append(b.result.Written, b.name+"/"+file)
	return b.rewrite(file+dockerDigest, []byte(want))
}

func (b *build) rootTree(ctx context.Context, digest string) (*rootfs.Tree, error) {
	i, err := b.byDigest(ctx, digest)
	if err != nil {
		return nil, err
	}
	t, err := b.w.composeImage(ctx, b.name, i)
	if err != nil {
		return nil, err
	}
	return b.see(t)
}

// byDigest returns the image with a digest, looking it up unless that was done.
func (b *build) byDigest(ctx context.Context, digest string) (*image.Image, error) {
	if b.image != nil && b.image.Digest == digest {
		return b.image, nil
	}
	i, err := b.w.byDigest(ctx, b.src, digest)
	if err != nil {
		return nil, err
	}
	if b.image != nil {
		b.image.Close()
	}
	b.image = i
	return i, nil
}

func (w *Workspace) byDigest(ctx context.Context, src *Source, digest string) (*image.Image, error) {
	opts, err := w.origins(src)
	if err != nil {
		return nil, err
	}
	opts.AnyPlatform = true // the digest was accepted when it was recorded
	if !strings.HasPrefix(digest, "sha256:") {
		return image.Resolve(ctx, digest, opts)
	}
	name := src.Text("docker_name")
	i, err := image.Resolve(ctx, image.JoinReference(name, src.Text("docker_tag")), opts)
	if err != nil {
		return nil, err
	}
	if !strings.HasSuffix(i.Digest, digest) {
		i.Close()
		return nil, fault.New(fault.BadInput, "the image %s is now %s, not %s; pvr app update takes it", name, i.Digest, digest)
	}
	return i, nil
}

// origins returns the options for finding an application's image.
func (w *Workspace) origins(src *Source) (image.Options, error) {
	opts, err := w.images(src.Text("docker_platform"))
	if err != nil {
		return opts, err
	}
	if opts.Dir == "" {
		opts.Dir = w.Dir
	}
	if len(opts.Origins) == 0 {
		opts.Origins, err = image.ParseOrigins(src.Text("docker_source"))
	}
	return opts, err
}

// overlayTree composes the overlay over the base, which is the application's own
// former root or that of the base application.
func (b *build) overlayTree(ctx context.Context, digest string) (*rootfs.Tree, error) {
	full, err := b.rootTree(ctx, digest)
	if err != nil {
		return nil, err
	}
	base, err := b.baseTree(ctx)
	if err != nil {
		return nil, errors.Join(err, full.Close())
	}
	defer base.Close()
	over, err := full.Overlay(ctx, base)
	if err != nil {
		return nil, errors.Join(err, full.Close())
	}
	return over, nil
}

// baseTree composes the base's root file system again from the image that its digest
// names.
func (b *build) baseTree(ctx context.Context) (*rootfs.Tree, error) {
	src := b.src
	if base := src.Text("base"); base != "" {
		var err error
		if src, err = b.w.read(base); err != nil {
			return nil, err
		}
	}
	quiet := *b.w
	quiet.Report = nil
	i, err := quiet.byDigest(ctx, src, b.src.Text("docker_digest"))
	if err != nil {
		return nil, err
	}
	defer i.Close()
	return quiet.composeImage(ctx, b.name, i)
}

// installBase installs the base application and copies its digest.
func (b *build) installBase(ctx context.Context) error {
	base, err := CheckName(b.src.Text("base"))
	if err != nil {
		return err
	}
	if base == b.name || b.depth >= maxBases {
		return fault.New(fault.BadInput, "application %q is its own base, directly or through others", base)
	}
	if _, err := b.w.install(ctx, base, b.depth+1); err != nil {
		return fmt.Errorf("installing the base %q: %w", base, err)
	}
	src, err := b.w.read(base)
	if err != nil {
		return err
	}
	if src.Text("docker_digest") == "" || src.Text("base") != "" || src.Text("docker_ovl_digest") != "" {
		return fault.New(fault.Unsupported, "the base %q must be made from one container image, without base or patch of its own", base)
	}
	b.src.Set("docker_digest", src.Text("docker_digest"))
	return nil
}

func (b *build) ensureRootfs(ctx context.Context) error {
	for _, file := range []string{rootName + dockerDigest, overlayName, overlayName + dockerDigest} {
		b.change.remove(file)
	}
	if want := b.src.Text("rootfs_digest"); want != "" && b.current(rootName, rootfsDigest, want) {
		b.w.say(b.name, b.name+"/"+rootName, "%s: already up to date.", rootName)
		return nil
	}
	tree, err := b.w.composeRootfs(ctx, b.name, b.src.Text("rootfs_url"))
	if err != nil {
		return err
	}
	if tree, err = b.see(tree); err != nil {
		return err
	}
	defer tree.Close()
	sum, err := b.w.squash(ctx, b.change, b.name, rootName, tree, b.src.Text("format_options"))
	if err != nil {
		return err
	}
	b.result.Written = append(b.result.Written, b.name+"/"+rootName)
	b.src.Set("rootfs_digest", "sha256:"+sum)
	return b.write(rootName+rootfsDigest, []byte("sha256:"+sum))
}

// apply renders the application for the user found so far.
func (b *build) apply() (*template.Output, error) {
	out, err := template.Render(template.Input{Name: b.name, Source: b.src.Encode(), Groups: b.w.Groups, Device: b.w.Device, User: b.user})
	if err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "applying the template")
	}
	return out, nil
}

// check tells what the template says, and has the container's configuration read as the
// device reads it.
func (b *build) check() error {
	out, err := b.apply()
	if err != nil {
		return err
	}
	for _, m := range out.Messages {
		b.w.notice(b.name, "%s", m)
	}
	b.runs = out.Config != nil
	if !b.runs || b.w.CheckConfig == nil {
		return nil
	}
	warnings, err := b.w.CheckConfig(out.Config)
	for _, m := range warnings {
		b.w.notice(b.name, "WARN: %s/%s: %s", b.name, template.ConfigName, m)
	}
	if err != nil {
		return fault.Wrap(fault.BadInput, err, "a device could not start it: %s", template.ConfigName)
	}
	return nil
}

// render makes run.json and the container's configuration.
func (b *build) render() error {
	out, err := b.apply()
	if err != nil {
		return err
	}
	if out.Config == nil {
		b.change.remove(template.ConfigName)
	} else if err := b.write(template.ConfigName, out.Config); err != nil {
		return err
	}
	return b.writeJSON(runName, out.Run.Pretty(canon.Checkout), out.Run)
}

// write makes a file of the application unless it exists with the same content.
func (b *build) write(name string, data []byte) error {
	old, err := os.ReadFile(filepath.Join(b.change.final, name))
	if err == nil && bytes.Equal(old, data) {
		return nil
	}
	return b.rewrite(name, data)
}

func (b *build) rewrite(name string, data []byte) error {
	b.result.Written = append(b.result.Written, b.name+"/"+name)
	return b.change.write(name, data)
}

// writeJSON writes a value unless the file already has it, in whatever layout.
func (b *build) writeJSON(name string, text []byte, v canon.Value) error {
	if old, err := os.ReadFile(filepath.Join(b.change.final, name)); err == nil {
		if have, err := canon.One(old); err == nil && canon.Equal(have, v) {
			return nil
		}
	}
	return b.write(name, text)
}
