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
	"github.com/google/go-containerregistry/pkg/v1/remote"

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
	repository := ref.Context()
	i := &Image{opts: opts, answers: listen(opts.Transport), from: &repository}
	desc, err := remote.Get(ref, remoteOptions(ctx, opts, i.answers)...)
	if err != nil {
		return nil, i.answers.explain(err)
	}
	i.Name, i.Tag = splitReference(reference)
	base, _ := cutDigest(reference)
	if base == reference {
		base = i.Name
	}
	if err := checkManifestType(desc.MediaType); err != nil {
		return nil, err
	}
	if !desc.MediaType.IsIndex() {
		i.manifest = desc.Digest
		i.img, err = desc.Image()
		i.Digest = base + "@" + desc.Digest.String()
		return i, i.answers.explain(err)
	}
	index, err := desc.ImageIndex()
	if err != nil {
		return nil, i.answers.explain(err)
	}
	digest, err := i.fromIndex(index, "", "")
	i.Digest = base + "@" + digest
	return i, err
}

func remoteOptions(ctx context.Context, opts Options, through *answers) []remote.Option {
	list := []remote.Option{remote.WithContext(ctx), remote.WithTransport(through)}
	switch {
	case opts.Username != "" || opts.Password != "":
		list = append(list, remote.WithAuth(authn.FromConfig(authn.AuthConfig{Username: opts.Username, Password: opts.Password})))
	case opts.Keychain != nil:
		list = append(list, remote.WithAuthFromKeychain(opts.Keychain))
	default:
		list = append(list, remote.WithAuthFromKeychain(authn.DefaultKeychain))
	}
	return list
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
	i := &Image{opts: opts}
	if err := i.fromSavedBy(ctx, d, id); err != nil {
		i.Close()
		return nil, err
	}
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

// fromSavedBy has a daemon save an image and opens that.
func (i *Image) fromSavedBy(ctx context.Context, d *daemon, id string) error {
	body, err := d.get(ctx, "/images/"+url.PathEscape(id)+"/get")
	if err != nil {
		return err
	}
	defer body.Close()
	f, err := i.spool(&bounded{body, i.opts.limit()})
	if err != nil {
		return fmt.Errorf("saving the image of the Docker daemon: %w", err)
	}
	m, err := i.list(ctx, f)
	if err == nil {
		err = i.fromMembers(m, location{})
	}
	return fault.Wrap(fault.BadInput, err, "opening what the Docker daemon saved")
}
