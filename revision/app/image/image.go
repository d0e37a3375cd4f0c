// Package image finds container images (OCI image specification; Docker image manifest
// version 2, schema 2) in registries, OCI layouts in directories and archives, archives of
// docker save and the local Docker daemon, and provides their configuration and layers. Every layer
// is checked against its digest before it is used; layers from a registry are cached by
// digest.
package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/canon"
)

// Origin is a source of images.
type Origin string

// The origins that src.json names in docker_source.
const (
	Remote Origin = "remote" // a registry
	Local  Origin = "local"  // the Docker daemon of this machine
)

// ParseOrigins reads a list such as "remote,local"; "" is that list.
func ParseOrigins(text string) ([]Origin, error) {
	if text == "" {
		return []Origin{Remote, Local}, nil
	}
	var list []Origin
	for _, word := range strings.Split(text, ",") {
		switch o := Origin(strings.TrimSpace(word)); o {
		case Remote, Local:
			list = append(list, o)
		default:
			return nil, fault.New(fault.BadInput, "source %q: only remote and local are accepted, e.g. --source=remote,local", word)
		}
	}
	return list, nil
}

// Options control how images are found. The zero value asks public registries with the
// credentials of the docker configuration and caches nothing.
type Options struct {
	// Origins are asked in this order; default remote, then local.
	Origins []Origin
	// Platforms are the wanted platforms in order of preference, in the form
	// os/architecture[/variant]. Empty takes the image that the reference names.
	Platforms []string
	// Cache is the directory of downloaded layers, created when missing. Empty keeps
	// them in a temporary directory for one use.
	Cache string
	// Unpacked is a directory of layers without their compression, for images that have some in common.
	// Only this program may write to it, because they are not checked again. Empty keeps none.
	Unpacked string
	// Username and Password are those for the registry; empty takes those of the
	// docker configuration (docker login).
	Username, Password string
	// Transport makes the HTTPS requests; nil for the default one. Tests and private
	// certificate authorities set it.
	Transport http.RoundTripper
	// Insecure allows a registry without TLS.
	Insecure bool
	// Socket is the socket of the Docker daemon; default $DOCKER_HOST when that names
	// a socket, else /var/run/docker.sock.
	Socket string
	// Jobs is how many layers are downloaded at once; default 4.
	Jobs int
	// LayerLimit bounds one layer as it is stored, in bytes; default 8 GiB.
	LayerLimit int64
	// Dir is the directory that paths of layouts and archives are relative to; default
	// the working directory.
	Dir string
	// AnyPlatform accepts an image for another architecture or system than those wanted.
	AnyPlatform bool
	// Keychain overrides the docker configuration; nil is authn.DefaultKeychain.
	Keychain authn.Keychain
}

const (
	defaultJobs       = 4
	defaultLayerLimit = 8 << 30
)

func (o Options) limit() int64 {
	if o.LayerLimit > 0 {
		return o.LayerLimit
	}
	return defaultLayerLimit
}

// Prefixes of references to layouts and archives.
const (
	layoutPrefix  = "oci:"
	archivePrefix = "docker-archive:"
	// layoutArchivePrefix is of a layout in a tar archive.
	layoutArchivePrefix = "oci-archive:"
)

// errNotFound is wrapped by the errors for images that no origin has or lets the user
// read.
var errNotFound = errors.New("image not found or you do not have access")

// Image is an image that was found.
type Image struct {
	// Name and Tag are the two parts of the reference, split at the colon before the
	// tag; a reference without tag has "latest". A reference by digest is split
	// before the digits, as src.json has it.
	Name, Tag string
	// Digest is NAME@sha256:... of the image's manifest; for an archive or a local
	// image without it the image's ID, sha256:...
	Digest string
	// Platform is the wanted platform that was chosen; "" when the reference itself
	// named an image. Forced is the platform of an image that is for none of the wanted
	// ones (see [Options.AnyPlatform]), else "".
	Platform, Forced string
	// Origin that had it; "" for a directory or file.
	Origin Origin
	// Config is the member "config" of the image's configuration, unchanged.
	Config canon.Value

	img      v1.Image
	index    v1.ImageIndex    // that the image was chosen of; nil for one without
	manifest v1.Hash          // of img; zero for an archive of docker save
	from     *name.Repository // of the registry; nil without one
	direct   bool             // layers lie on this machine and have no compressed form worth keeping
	opts     Options
	answers  *answers // of the registry; nil without one
	form     string   // how a reference chooses one of several images
	closers  []func()
}

// Close closes the files of an image.
func (i *Image) Close() {
	for _, c := range slices.Backward(i.closers) {
		c()
	}
	i.closers = nil
}

func (i *Image) onClose(do func()) { i.closers = append(i.closers, do) }

// Resolve finds an image by reference: that of a registry or daemon,
// "oci:DIRECTORY[:TAG]" or the path of an OCI layout directory,
// "docker-archive:FILE[:TAG]", "oci-archive:FILE[:TAG]" or the path of such a file, each
// with or without "@sha256:DIGEST" for one manifest. The error joins what each origin said. An image for
// another platform than those wanted, or not for Linux, is an error.
func Resolve(ctx context.Context, reference string, opts Options) (*Image, error) {
	i, err := resolve(ctx, reference, opts)
	if err != nil {
		return nil, fmt.Errorf("finding the image %s: %w", reference, err)
	}
	if err := i.inspect(); err != nil {
		i.Close()
		return nil, fmt.Errorf("finding the image %s: %w", reference, err)
	}
	return i, nil
}

// inspect reads the configuration and checks that the image is one for the device.
func (i *Image) inspect() (err error) {
	if err := i.checkKind(); err != nil {
		return err
	}
	if i.Config, err = configOf(i.img); err != nil {
		return i.answers.explain(err)
	}
	return i.checkPlatform()
}

func resolve(ctx context.Context, reference string, opts Options) (*Image, error) {
	if l, ok := opts.layout(reference); ok {
		return fromLayout(l, opts)
	}
	if l, ok := opts.archive(reference); ok {
		return fromArchive(ctx, l, opts)
	}
	if err := opts.missingFile(reference); err != nil {
		return nil, err
	}
	if len(opts.Origins) == 0 {
		opts.Origins = []Origin{Remote, Local}
	}
	var errs []error
	for _, o := range opts.Origins {
		from := fromRegistry
		if o == Local {
			from = fromDaemon
		}
		i, err := from(ctx, reference, opts)
		if err == nil {
			i.Origin = o
			return i, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", o, err))
	}
	return nil, errors.Join(errs...)
}

// cutDigest splits PATH@sha256:HEX.
func cutDigest(reference string) (path, digest string) {
	if at := strings.LastIndex(reference, "@sha256:"); at >= 0 {
		return reference[:at], reference[at+1:]
	}
	return reference, ""
}

func (o Options) join(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(o.Dir, path)
}

// location is a reference to an image in a directory or file.
type location struct {
	path, tag, digest string
	layout            bool // the layout in an archive is meant
}

// layout reports whether a reference is to an OCI layout directory.
func (o Options) layout(reference string) (location, bool) {
	return locate(reference, layoutPrefix, func(path string) bool {
		_, err := os.Stat(o.join(filepath.Join(path, "oci-layout")))
		return err == nil
	})
}

// archive reports whether a reference is to a file of docker save or to a layout in an
// archive.
func (o Options) archive(reference string) (l location, ok bool) {
	for _, prefix := range []string{archivePrefix, layoutArchivePrefix} {
		prefixed := strings.HasPrefix(reference, prefix)
		l, ok = locate(reference, prefix, func(path string) bool {
			info, err := os.Stat(o.join(path))
			return err == nil && info.Mode().IsRegular() && (prefixed || isArchiveName(path))
		})
		if l.layout = prefix == layoutArchivePrefix; ok && (prefixed || !l.layout) {
			return l, true
		}
	}
	return location{}, false
}

// isArchiveName reports whether a path without a prefix may be that of an archive, and
// not the name of an image.
func isArchiveName(path string) bool {
	for _, suffix := range []string{".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.xz", ".tar.bz2"} {
		if strings.HasSuffix(path, suffix) {
			return true
		}
	}
	return false
}

// locate splits [PREFIX]PATH[:TAG][@sha256:HEX]; the path ends at the first colon before
// which something exists, since both paths and tags may have colons. With the prefix
// nothing needs to exist.
func locate(reference, prefix string, exists func(path string) bool) (location, bool) {
	text, digest := cutDigest(reference)
	path, prefixed := strings.CutPrefix(text, prefix)
	if exists(path) {
		return location{path: path, digest: digest}, true
	}
	for i, c := range []byte(path) {
		if c == ':' && exists(path[:i]) {
			return location{path: path[:i], tag: path[i+1:], digest: digest}, true
		}
	}
	return location{path: path, digest: digest}, prefixed
}

// missingFile returns an error for a reference that is written as a URL, or as a path of
// this machine: no registry has a name that begins with a slash, a dot or a tilde.
func (o Options) missingFile(reference string) error {
	path, _ := cutDigest(reference)
	if strings.HasPrefix(path, "http://") || strings.HasPrefix(path, "https://") {
		return fault.New(fault.BadInput, "%s is a URL; pvr app add --type rootfs takes a root file system from one, an image has the name it has in its registry", path)
	}
	if path == "" || !strings.ContainsRune("/.~", rune(path[0])) && !isArchiveName(path) {
		return nil
	}
	info, err := os.Stat(o.join(path))
	switch {
	case err != nil:
		return fault.Wrap(fault.BadInput, err, "opening the image file")
	case info.IsDir():
		return fault.New(fault.BadInput, "%s is a directory without the file oci-layout; pvr app add --type rootfs takes a root file system", path)
	}
	return fault.New(fault.BadInput, "%s is neither a file of docker save or with an OCI layout (.tar, .tgz, .tar.zst ...) nor a directory with an OCI layout", path)
}

// splitReference cuts a reference into name and tag, see [Image].
func splitReference(reference string) (name, tag string) {
	if colon := strings.LastIndexByte(reference, ':'); colon > strings.LastIndexByte(reference, '/') {
		return reference[:colon], reference[colon+1:]
	}
	return reference, "latest"
}

// RecordedReference returns the name and the tag under which src.json has a reference that nobody has looked
// up; of a layout or an archive without a tag there is none.
func RecordedReference(reference string) (name, tag string) {
	for _, prefix := range []string{layoutPrefix, archivePrefix, layoutArchivePrefix} {
		path, ok := strings.CutPrefix(reference, prefix)
		switch {
		case !ok:
		case strings.LastIndexByte(path, ':') > strings.LastIndexByte(path, '/'):
			name, tag = splitReference(path)
			return prefix + name, tag
		default:
			return reference, ""
		}
	}
	return splitReference(reference)
}

// JoinReference returns the reference of a name with a tag or digest.
func JoinReference(name, tag string) string {
	if tag == "" {
		return name
	}
	return name + ":" + tag
}

// configOf reads the member "config", keeping members that no Go type knows.
func configOf(img v1.Image) (canon.Value, error) {
	raw, err := img.RawConfigFile()
	if err != nil {
		return canon.Value{}, fmt.Errorf("reading the image's configuration: %w", err)
	}
	file, err := canon.First(raw)
	if err != nil {
		return canon.Value{}, fault.Wrap(fault.BadInput, err, "reading the image's configuration")
	}
	config, _ := file.Get("config")
	return config, nil
}

// ParsePlatforms reads _hostconfig/pvr/docker.json: {"platforms": [...]}, best
// first (manual: pvr app). No text gives no platforms.
func ParsePlatforms(text []byte) ([]string, error) {
	if len(text) == 0 {
		return nil, nil
	}
	var file struct{ Platforms []string }
	if err := json.Unmarshal(text, &file); err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "reading _hostconfig/pvr/docker.json")
	}
	for _, p := range file.Platforms {
		if _, err := parsePlatform(p); err != nil {
			return nil, fmt.Errorf("reading _hostconfig/pvr/docker.json: %w", err)
		}
	}
	return file.Platforms, nil
}

// bounded fails at the first byte beyond a limit.
type bounded struct {
	r    io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, fault.New(fault.BadInput, "more bytes than its limit or its manifest says")
	}
	return n, err
}
