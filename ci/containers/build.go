package containers

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/pantavisor/pantavisor/formats/squashfs"
	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/filecopy"
	"github.com/pantavisor/pantavisor/internal/filelock"
	"github.com/pantavisor/pantavisor/revision/app"
	"github.com/pantavisor/pantavisor/revision/app/image"
	"github.com/pantavisor/pantavisor/revision/archive"
	"github.com/pantavisor/pantavisor/revision/pvs/sign"
	"github.com/pantavisor/pantavisor/revision/repo"
	"github.com/pantavisor/pantavisor/revision/state"
	"github.com/pantavisor/pantavisor/sbom/container"
	"github.com/pantavisor/pantavisor/sbom/spdx2"
)

// BuildOptions say what is made of a project, and how.
type BuildOptions struct {
	// Dir is the project, Out where packages go; default its directory [ReleasesDir].
	Dir, Out string
	// Platforms are lists of platforms, as in docker --platform; default all that the project has.
	Platforms []string
	// Build is the part of the names that tells builds of a version apart; default 0-COUNT-gREV of the commit.
	Build string
	// Epoch is the time of all files in seconds since 1970; default that of the commit, without one 1970.
	Epoch string
	// Images says how images are found. Its Platforms are not used; paths in manifests are relative to Dir.
	Images image.Options
	// Signing says with what packages are signed.
	Signing Signing
	// SkipMissing leaves out the platforms that an image does not have. Otherwise they are an error, before
	// anything is made.
	SkipMissing bool
	// CheckConfig is that of [app.Workspace].
	CheckConfig func(config []byte) (warnings []string, err error)
	// Report is called with messages of a platform's directory; "" for all. May be nil.
	Report func(dir string, m app.Message)
}

// Built is what a build made.
type Built struct {
	// Dir is where the packages are.
	Dir string `json:"dir"`
	// Packages are the packages, by platform.
	Packages []Package `json:"packages"`
	// Missing are the platforms that were left out because the image does not have them.
	Missing []string `json:"missing,omitempty"`
}

// builder makes the packages of a project.
type builder struct {
	o      BuildOptions
	desc   *description
	time   time.Time
	signer *sign.Options // nil for unsigned packages
	stage  string        // where they are made
	blocks *squashfs.Cache
}

// Build makes the packages of a project. They appear when all of them are made; what a killed build leaves
// behind, the next one removes. Layers and root file systems that platforms share are worked on once.
func Build(ctx context.Context, o BuildOptions) (*Built, error) {
	if o.Out == "" {
		o.Out = filepath.Join(o.Dir, ReleasesDir)
	}
	b := &builder{o: o}
	wanted, err := parsePlatforms(o.Platforms...)
	if err != nil {
		return nil, err
	}
	if b.desc, err = readDescription(o.Dir); err != nil {
		return nil, err
	}
	all, err := targets(o.Dir, wanted)
	if err != nil {
		return nil, err
	}
	if err := b.identify(ctx); err != nil {
		return nil, err
	}
	if b.signer, err = o.Signing.options(ctx); err != nil {
		return nil, err
	}
	if b.signer == nil {
		b.say("the packages are not signed: no --key")
	}
	if b.o.Images.Dir, err = filepath.Abs(o.Dir); err != nil {
		return nil, fault.Wrap(fault.IO, err, "looking for the project")
	}
	lock, err := b.prepare(ctx)
	if err != nil {
		return nil, err
	}
	defer lock.Unlock()
	defer b.clean()
	return b.all(ctx, all)
}

// identify finds out the build version and the time.
func (b *builder) identify(ctx context.Context) (err error) {
	if b.o.Build == "" {
		if b.o.Build, err = buildVersion(ctx, b.o.Dir); err != nil {
			return err
		}
	}
	if !word.MatchString(b.o.Build) {
		return fault.New(fault.BadInput, "build version %q: letters, digits and . _ + ~ - are expected, at most 100, a letter or digit first", b.o.Build)
	}
	b.time, err = sourceTime(ctx, b.o.Dir, b.o.Epoch)
	return err
}

// stagePattern is that of directories in which packages are made.
const stagePattern = ".build-"

// prepare locks the directory of the packages, and makes room in it.
func (b *builder) prepare(ctx context.Context) (*filelock.Lock, error) {
	if err := os.MkdirAll(b.o.Out, 0o755); err != nil {
		return nil, fault.Wrap(fault.IO, err, "making the directory of the packages")
	}
	lock, err := filelock.Acquire(ctx, filepath.Join(b.o.Out, ".lock"), filelock.Options{Create: 0o644, Waiting: func() { b.say("waiting for another build in " + b.o.Out) }})
	if err != nil {
		return nil, fault.Wrap(fault.IO, err, "locking the directory of the packages")
	}
	b.sweep()
	if b.stage, err = os.MkdirTemp(b.o.Out, stagePattern); err == nil {
		b.blocks, err = squashfs.NewCache(b.stage)
	}
	if err != nil {
		b.clean()
		lock.Unlock()
		return nil, fault.Wrap(fault.IO, err, "making a directory for the packages")
	}
	b.o.Images.Unpacked = filepath.Join(b.stage, "unpacked")
	if b.o.Images.Cache == "" {
		b.o.Images.Cache = filepath.Join(b.stage, "layers")
	}
	return lock, nil
}

// sweep removes what killed builds left behind.
func (b *builder) sweep() {
	left, _ := filepath.Glob(filepath.Join(b.o.Out, stagePattern+"*")) // the pattern is right
	for _, dir := range left {
		_ = os.RemoveAll(dir) // what stays costs space only
	}
	atomicfile.Sweep(b.o.Out)
}

func (b *builder) clean() {
	if b.blocks != nil {
		_ = b.blocks.Close() // it has no name and is not needed
	}
	_ = os.RemoveAll(b.stage) // the next build removes it
}

func (b *builder) say(text string) { b.tell("", app.Message{Text: text, Notice: true}) }

func (b *builder) tell(dir string, m app.Message) {
	if b.o.Report != nil {
		b.o.Report(dir, m)
	}
}

// all makes the packages and puts them in place.
func (b *builder) all(ctx context.Context, all []target) (*Built, error) {
	there, missing, err := b.available(ctx, all)
	if err != nil {
		return nil, err
	}
	out := &Built{Dir: b.o.Out, Missing: missing}
	for _, t := range there {
		p, err := b.build(ctx, t)
		if err != nil {
			return nil, fmt.Errorf("making the package for %s: %w", t.Docker, err)
		}
		out.Packages = append(out.Packages, *p)
	}
	for _, p := range out.Packages {
		if err := b.place(&p); err != nil {
			return nil, err
		}
	}
	return out, b.record(out.Packages)
}

// available looks for all images before anything is made of one, and returns the targets for which there
// are, and the names of the other platforms.
func (b *builder) available(ctx context.Context, all []target) (there []target, missing []string, err error) {
	lacks := map[string][]string{} // platforms, by what the image has
	for _, t := range all {
		lack, err := b.lack(ctx, t)
		switch {
		case err != nil:
			return nil, nil, err
		case lack == "":
			there = append(there, t)
		default:
			lacks[lack] = append(lacks[lack], t.Docker)
			missing = append(missing, t.Docker)
		}
	}
	var texts []string
	for _, lack := range slices.Sorted(maps.Keys(lacks)) {
		texts = append(texts, fmt.Sprintf(lack, strings.Join(lacks[lack], ", ")))
	}
	switch {
	case len(missing) == 0:
		return there, nil, nil
	case len(there) == 0 || !b.o.SkipMissing:
		return nil, nil, fault.New(fault.Missing, "%s; nothing was made: push images for all platforms, or leave some out with --platform or --skip-missing", strings.Join(texts, "; "))
	}
	for _, text := range texts {
		b.say("WARN: left out: " + text)
	}
	return there, missing, nil
}

// lack returns what the images of a target lack, a format for the names of the platforms; "" for nothing.
func (b *builder) lack(ctx context.Context, t target) (string, error) {
	for _, c := range t.apps {
		err := b.look(ctx, c)
		var p *image.PlatformError
		switch {
		case errors.As(err, &p):
			return strings.ReplaceAll(c.from, "%", "%%") + " has no image for %s (it has " + strings.ReplaceAll(strings.Join(p.Has, ", "), "%", "%%") + ")", nil
		case err != nil:
			return "", fmt.Errorf("looking for the image of %s for %s: %w", c.name, t.Docker, err)
		}
	}
	return "", nil
}

// look looks for the image of a container.
func (b *builder) look(ctx context.Context, c source) error {
	o := b.o.Images
	o.Platforms = []string{c.platform}
	if len(o.Origins) == 0 {
		var err error
		if o.Origins, err = image.ParseOrigins(c.origins); err != nil {
			return err
		}
	}
	i, err := image.Resolve(ctx, c.from, o)
	if err != nil {
		return err
	}
	i.Close()
	return nil
}

// file returns the name of a platform's package without its extension.
func (b *builder) file(dir string) string {
	return b.desc.Name + "-" + b.desc.Version + "-" + b.o.Build + "." + dir
}

// build makes the checkout, the export and the bill of materials of a platform.
func (b *builder) build(ctx context.Context, t target) (*Package, error) {
	dir := filepath.Join(b.stage, t.Dir)
	if err := copyManifests(ctx, filepath.Join(b.o.Dir, sourceDir, t.Dir), dir); err != nil {
		return nil, err
	}
	if err := repo.Init(dir, repo.InitOptions{}); err != nil {
		return nil, err
	}
	r, err := repo.Open(ctx, dir, repo.Options{Write: true})
	if err != nil {
		return nil, err
	}
	defer r.Close()
	w := &app.Workspace{
		Dir: dir, Images: b.o.Images, CheckConfig: b.o.CheckConfig, Blocks: b.blocks,
		Report: func(m app.Message) { b.tell(t.Dir, m) },
	}
	p := &Package{Name: b.desc.Name, Version: b.desc.Version, Build: b.o.Build, Arch: t.Dir, Platform: t.Docker, Created: b.time, Signed: b.signer != nil}
	for _, c := range t.apps {
		if _, err := w.Update(ctx, c.name, app.UpdateOptions{SBOM: true}); err != nil {
			return nil, err
		}
		p.Containers = append(p.Containers, c.name)
	}
	if err := b.commit(ctx, r, p.Containers); err != nil {
		return nil, err
	}
	if err := b.export(ctx, r, p); err != nil {
		return nil, err
	}
	return p, b.bill(ctx, r, p)
}

// copyManifests copies a platform's manifests and the files beside them.
func copyManifests(ctx context.Context, from, to string) error {
	return filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return fault.Wrap(fault.IO, err, "reading the manifests")
		}
		rel, err := filepath.Rel(from, path)
		dst := filepath.Join(to, rel)
		switch {
		case err != nil:
			return fault.Wrap(fault.Internal, err, "copying %s", path)
		case strings.HasPrefix(e.Name(), ".") && e.IsDir():
			return filepath.SkipDir
		case strings.HasPrefix(e.Name(), "."):
			return nil // notes of other programs, such as .gitkeep
		case e.IsDir():
			return fault.Wrap(fault.IO, os.MkdirAll(dst, 0o755), "copying %s", path)
		case !e.Type().IsRegular():
			return fault.New(fault.BadInput, "%s is not a regular file", path)
		}
		return fault.Wrap(fault.IO, filecopy.File(ctx, dst, path, 0o644), "copying %s", path)
	})
}

// commit commits the containers, and signs each of them.
func (b *builder) commit(ctx context.Context, r *repo.Repo, names []string) error {
	if _, err := r.Add(ctx, nil, false); err != nil {
		return err
	}
	if err := r.Commit(ctx, repo.CommitOptions{}); err != nil || b.signer == nil {
		return err
	}
	rules := map[string]state.Rule{}
	for _, name := range names {
		rules[name] = sign.PartRule(name, nil, nil, false)
	}
	if _, err := r.Sign(rules, *b.signer); err != nil {
		return fmt.Errorf("signing: %w", err)
	}
	var keys []string
	for _, name := range names {
		keys = append(keys, repo.SignatureKey(name))
	}
	if err := r.AddFiles(ctx, keys); err != nil {
		return err
	}
	return r.Commit(ctx, repo.CommitOptions{})
}

// export writes the package.
func (b *builder) export(ctx context.Context, r *repo.Repo, p *Package) (err error) {
	p.URL = b.file(p.Arch) + exportSuffix
	p.SHA256, p.Size, err = b.write(p.URL, func(w io.Writer) error {
		return r.Export(ctx, w, archive.ExportOptions{Gzip: true, Time: b.time})
	})
	return err
}

// bill writes the bill of materials beside the package.
func (b *builder) bill(ctx context.Context, r *repo.Repo, p *Package) error {
	store, err := r.Objects()
	if err != nil {
		return err
	}
	d, warnings, err := container.Revision(ctx, container.Options{
		Of: b.file(p.Arch), Version: p.Version, Time: b.time, State: r.Committed(), Objects: store.Dir(),
	})
	if err != nil {
		return fmt.Errorf("making the bill of materials: %w", err)
	}
	for _, w := range warnings {
		b.tell(p.Arch, app.Message{Text: "WARN: " + w, Notice: true})
	}
	f := &File{URL: b.file(p.Arch) + billSuffix}
	f.SHA256, f.Size, err = b.write(f.URL, func(w io.Writer) error { return spdx2.Write(w, d) })
	p.SBOM = f
	return err
}

// write makes a file where packages are made, and returns its SHA-256 and size.
func (b *builder) write(name string, content func(io.Writer) error) (sum string, size int64, err error) {
	f, err := os.OpenFile(filepath.Join(b.stage, name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return "", 0, fault.Wrap(fault.IO, err, "making %s", name)
	}
	h := sha256.New()
	if err := errors.Join(content(io.MultiWriter(f, h)), f.Sync()); err != nil {
		return "", 0, errors.Join(fmt.Errorf("making %s: %w", name, err), f.Close())
	}
	info, err := f.Stat()
	if err := errors.Join(err, f.Close()); err != nil {
		return "", 0, fault.Wrap(fault.IO, err, "making %s", name)
	}
	return hex.EncodeToString(h.Sum(nil)), info.Size(), nil
}

// place gives the checkout and the files of a package their names.
func (b *builder) place(p *Package) error {
	final := filepath.Join(b.o.Out, p.Arch)
	if err := os.Rename(final, filepath.Join(b.stage, "former-"+p.Arch)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fault.Wrap(fault.IO, err, "replacing the checkout %s", final)
	}
	for _, name := range []string{p.Arch, p.SBOM.URL, p.URL} {
		if err := atomicfile.Rename(filepath.Join(b.stage, name), filepath.Join(b.o.Out, name)); err != nil {
			return fault.Wrap(fault.IO, err, "placing %s", name)
		}
	}
	return fault.Wrap(fault.IO, atomicfile.SyncDir(b.o.Out), "placing the package for %s", p.Platform)
}

// record puts the packages into the index of their directory.
func (b *builder) record(made []Package) error {
	old, err := readIndex(filepath.Join(b.o.Out, indexName))
	if err != nil {
		b.say(fmt.Sprintf("WARN: the index is made anew: %v", err))
		old = nil
	}
	old = slices.DeleteFunc(old, func(p Package) bool {
		_, err := os.Stat(filepath.Join(b.o.Out, filepath.FromSlash(p.URL)))
		return err != nil
	})
	text, err := encodeIndex(join(old, made))
	if err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(b.o.Out, indexName), text, 0o644)
}

// Keychain returns the credentials for registries: those of the docker configuration, else in a pipeline of
// GitLab those of the project's registry (CI_REGISTRY, CI_REGISTRY_USER, CI_REGISTRY_PASSWORD).
func Keychain(env func(string) string) authn.Keychain {
	return authn.NewMultiKeychain(authn.DefaultKeychain, pipeline{env("CI_REGISTRY"), env("CI_REGISTRY_USER"), env("CI_REGISTRY_PASSWORD")})
}

// pipeline are the credentials that a pipeline has for one registry.
type pipeline struct{ registry, user, password string }

// Resolve implements authn.Keychain.
func (p pipeline) Resolve(r authn.Resource) (authn.Authenticator, error) {
	if p.registry == "" || p.user == "" || r.RegistryStr() != p.registry {
		return authn.Anonymous, nil
	}
	return authn.FromConfig(authn.AuthConfig{Username: p.user, Password: p.password}), nil
}
