package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// fromRegistry asks the registry that a reference names.
func fromRegistry(ctx context.Context, reference string, opts Options) (*Image, error) {
	var nameOptions []name.Option
	if opts.Insecure {
		nameOptions = append(nameOptions, name.Insecure)
	}
	ref, err := name.ParseReference(reference, nameOptions...)
	if err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "reading the reference")
	}
	desc, err := remote.Get(ref, remoteOptions(ctx, opts)...)
	if err != nil {
		return nil, registryError(err)
	}
	i := &Image{opts: opts}
	i.Name, i.Tag = splitReference(reference)
	base, _ := cutDigest(reference)
	if base == reference {
		base = i.Name
	}
	if !desc.MediaType.IsIndex() {
		i.img, err = desc.Image()
		i.Digest = base + "@" + desc.Digest.String()
		return i, registryError(err)
	}
	index, err := desc.ImageIndex()
	if err != nil {
		return nil, registryError(err)
	}
	digest, err := i.fromIndex(index)
	i.Digest = base + "@" + digest
	return i, err
}

// fromIndex chooses an image of an index and returns its digest.
func (i *Image) fromIndex(index v1.ImageIndex) (string, error) {
	manifest, err := index.IndexManifest()
	if err != nil {
		return "", registryError(err)
	}
	chosen, platform, err := choose(manifest, i.opts.Platforms)
	if err != nil {
		return "", err
	}
	if chosen == nil {
		chosen = only(manifest, len(i.opts.Platforms) > 0)
	}
	if chosen == nil {
		return "", noPlatform(manifest, i.opts.Platforms)
	}
	i.Platform = platform
	if chosen.MediaType.IsIndex() {
		inner, err := index.ImageIndex(chosen.Digest)
		if err != nil {
			return "", registryError(err)
		}
		return i.fromInner(inner)
	}
	i.img, err = index.Image(chosen.Digest)
	return chosen.Digest.String(), registryError(err)
}

// only returns the single manifest of an index, not counting attestations, unless it is
// for another platform than those wanted.
func only(index *v1.IndexManifest, wanted bool) *v1.Descriptor {
	var found *v1.Descriptor
	for i, m := range index.Manifests {
		if m.Platform != nil && m.Platform.OS == "unknown" {
			continue
		}
		if found != nil || wanted && m.Platform != nil {
			return nil
		}
		found = &index.Manifests[i]
	}
	return found
}

// fromInner reads an index inside an index, as layout directories have; deeper nesting
// is an error.
func (i *Image) fromInner(index v1.ImageIndex) (string, error) {
	manifest, err := index.IndexManifest()
	if err != nil {
		return "", registryError(err)
	}
	for _, m := range manifest.Manifests {
		if m.MediaType.IsIndex() {
			return "", fault.New(fault.Unsupported, "an index within an index within an index")
		}
	}
	return i.fromIndex(index)
}

func remoteOptions(ctx context.Context, opts Options) []remote.Option {
	list := []remote.Option{remote.WithContext(ctx)}
	switch {
	case opts.Username != "" || opts.Password != "":
		list = append(list, remote.WithAuth(authn.FromConfig(authn.AuthConfig{Username: opts.Username, Password: opts.Password})))
	case opts.Keychain != nil:
		list = append(list, remote.WithAuthFromKeychain(opts.Keychain))
	default:
		list = append(list, remote.WithAuthFromKeychain(authn.DefaultKeychain))
	}
	if opts.Transport != nil {
		list = append(list, remote.WithTransport(opts.Transport))
	}
	return list
}

// registryError gives an error of a registry or of the connection its kind.
func registryError(err error) error {
	var answer *transport.Error
	var network net.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &answer) && answer.StatusCode >= 400 && answer.StatusCode < 500:
		return fault.Wrap(fault.Missing, errors.Join(errNotFound, err), "asking the registry (for a private image use --username and --password or docker login)")
	case errors.As(err, &answer), errors.As(err, &network):
		return fault.Wrap(fault.Unreachable, err, "asking the registry")
	}
	return fmt.Errorf("asking the registry: %w", err)
}

// fromLayout opens an OCI image layout (OCI image specification, image-layout.md).
func fromLayout(path, digest string, opts Options) (*Image, error) {
	i := &Image{Name: layoutPrefix + path, opts: opts}
	directory, err := layout.FromPath(opts.join(path))
	if err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "opening the OCI layout %s", path)
	}
	if digest != "" {
		hash, err := v1.NewHash(digest)
		if err != nil {
			return nil, fault.Wrap(fault.BadInput, err, "reading the digest")
		}
		i.Digest = i.Name + "@" + digest
		i.img, err = directory.Image(hash)
		return i, err
	}
	index, err := directory.ImageIndex()
	if err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "opening the OCI layout %s", path)
	}
	digest, err = i.fromIndex(index)
	i.Digest = i.Name + "@" + digest
	return i, err
}

// fromArchive opens a file written by docker save.
func fromArchive(path string, opts Options) (*Image, error) {
	i := &Image{Name: archivePrefix + path, opts: opts, direct: true}
	var err error
	if i.img, err = tarball.ImageFromPath(opts.join(path), nil); err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "opening the docker archive %s", path)
	}
	return i, i.identify()
}

// identify makes the image's ID its digest.
func (i *Image) identify() error {
	id, err := i.img.ConfigName()
	if err != nil {
		return fault.Wrap(fault.BadInput, err, "reading the image's configuration")
	}
	i.Digest = id.String()
	return nil
}

const defaultSocket = "/var/run/docker.sock"

func (o Options) socket() string {
	if o.Socket != "" {
		return o.Socket
	}
	if path, ok := strings.CutPrefix(os.Getenv("DOCKER_HOST"), "unix://"); ok {
		return path
	}
	return defaultSocket
}

// fromDaemon reads an image from the Docker daemon (Docker Engine API,
// /images/NAME/json and /images/NAME/get).
func fromDaemon(ctx context.Context, reference string, opts Options) (*Image, error) {
	socket := opts.socket()
	if _, err := os.Stat(socket); err != nil {
		return nil, fault.New(fault.Missing, "connecting to the Docker daemon at unix://%s: nothing is there (is it running? choose --source=remote to do without)", socket)
	}
	d := &daemon{client: &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}}
	defer d.client.CloseIdleConnections()
	id, digests, err := d.inspect(ctx, reference)
	if err != nil {
		return nil, err
	}
	saved, err := d.save(ctx, id, opts.limit())
	if err != nil {
		return nil, err
	}
	i, err := fromArchive(saved, opts)
	if err != nil {
		return nil, errors.Join(err, os.Remove(saved))
	}
	i.cleanup = func() { _ = os.Remove(saved) }
	i.Name, i.Tag = splitReference(reference)
	if len(digests) > 0 {
		i.Digest = digests[0]
	}
	return i, nil
}

type daemon struct{ client *http.Client }

func (d *daemon) get(ctx context.Context, path string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://docker"+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := d.client.Do(req)
	if err != nil {
		return nil, fault.Wrap(fault.Unreachable, err, "asking the Docker daemon")
	}
	switch {
	case resp.StatusCode == http.StatusOK:
		return resp.Body, nil
	case resp.StatusCode == http.StatusNotFound:
		err = fault.Wrap(fault.Missing, errNotFound, "asking the Docker daemon")
	default:
		err = fault.New(fault.Unreachable, "asking the Docker daemon: %s", resp.Status)
	}
	return nil, errors.Join(err, resp.Body.Close())
}

const maxInspect = 4 << 20 // bytes of a daemon's description of an image

func (d *daemon) inspect(ctx context.Context, reference string) (id string, digests []string, err error) {
	body, err := d.get(ctx, "/images/"+url.PathEscape(reference)+"/json")
	if err != nil {
		return "", nil, err
	}
	defer body.Close()
	var found struct {
		ID          string `json:"Id"`
		RepoDigests []string
	}
	if err := json.NewDecoder(io.LimitReader(body, maxInspect)).Decode(&found); err != nil {
		return "", nil, fault.Wrap(fault.Unreachable, err, "reading the Docker daemon's answer")
	}
	return found.ID, found.RepoDigests, nil
}

// save writes the daemon's archive of an image to a temporary file.
func (d *daemon) save(ctx context.Context, id string, limit int64) (path string, err error) {
	body, err := d.get(ctx, "/images/"+url.PathEscape(id)+"/get")
	if err != nil {
		return "", err
	}
	defer body.Close()
	f, err := os.CreateTemp("", "pvr-image-")
	if err != nil {
		return "", fmt.Errorf("creating a file for the image: %w", err)
	}
	_, err = io.Copy(f, &bounded{body, limit})
	if err = errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(fmt.Errorf("saving the image of the Docker daemon: %w", err), os.Remove(f.Name()))
	}
	return f.Name(), nil
}
