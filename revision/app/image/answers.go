package image

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// answers passes requests to a registry on and notes what errors of the registry library
// do not have: when the registry wants to be asked again.
type answers struct {
	base http.RoundTripper

	mu    sync.Mutex
	after string // of the last answer that had it
}

// listen returns answers over a transport; nil is the default one.
func listen(base http.RoundTripper) *answers {
	if base == nil {
		base = remote.DefaultTransport
	}
	return &answers{base: base}
}

// errWebPage is the error for an answer that is a page for people.
var errWebPage = errors.New("it answers with a web page: the host is not a registry, or a proxy or the login page of a network is in between")

// RoundTrip does one request. A page in place of a manifest is an error.
func (a *answers) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := a.base.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if after := resp.Header.Get("Retry-After"); after != "" {
		a.mu.Lock()
		a.after = after
		a.mu.Unlock()
	}
	page := strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html")
	if page && resp.StatusCode == http.StatusOK && strings.Contains(req.URL.Path, "/manifests/") {
		return nil, errors.Join(errWebPage, resp.Body.Close())
	}
	return resp, nil
}

// again returns when the registry may be asked again, as a part of a message: Retry-After
// is a number of seconds or a date (RFC 9110, section 10.2.3).
func (a *answers) again() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.after == "":
		return "; try again later"
	case strings.Trim(a.after, "0123456789") == "":
		return fmt.Sprintf("; try again in %s seconds", a.after)
	}
	return fmt.Sprintf("; try again after %.40s", a.after)
}

// explain says what an error of a registry or of the connection is, and gives it its kind.
// On a nil pointer it does nothing: there is no registry.
func (a *answers) explain(err error) error {
	var answer *transport.Error
	var network net.Error
	switch {
	case err == nil || a == nil:
		return err
	case errors.Is(err, errWebPage):
		return fault.Wrap(fault.Unreachable, errWebPage, "asking the registry")
	case errors.As(err, &answer):
		return a.refusal(answer)
	case errors.As(err, &network):
		return fault.Wrap(fault.Unreachable, err, "asking the registry")
	}
	return fmt.Errorf("asking the registry: %w", err)
}

// refusal is the error for an answer with an HTTP status that is not a success.
func (a *answers) refusal(answer *transport.Error) error {
	said := describe(answer)
	switch code := answer.StatusCode; {
	case code == http.StatusUnauthorized:
		return fault.Wrap(fault.Missing, errNotFound, "asking the registry: %s; for a private image use --username and --password or docker login", said)
	case code == http.StatusForbidden:
		return fault.New(fault.Missing, "asking the registry: it denies access: %s; for a private image use --username and --password or docker login", said)
	case code == http.StatusNotFound:
		return fault.Wrap(fault.Missing, errNotFound, "asking the registry: %s", said)
	case code == http.StatusTooManyRequests:
		return fault.New(fault.Unreachable, "asking the registry: it limits how often it is asked: %s%s, or with docker login for a higher limit", said, a.again())
	case code == http.StatusServiceUnavailable:
		return fault.New(fault.Unreachable, "asking the registry: it is not available at the moment: %s%s", said, a.again())
	case code >= 500:
		return fault.New(fault.Unreachable, "asking the registry: it has an error of its own: %s", said)
	}
	return fault.New(fault.Missing, "asking the registry: %s", said)
}

// describe returns the status and the messages of an answer, not its body, which may be a
// page.
func describe(answer *transport.Error) string {
	text := fmt.Sprintf("%d %s", answer.StatusCode, http.StatusText(answer.StatusCode))
	for _, d := range answer.Errors {
		text += fmt.Sprintf(", %s: %.200s", d.Code, d.Message)
	}
	return text
}

// checkManifestType returns an error for what is neither an image nor an index of images.
func checkManifestType(t types.MediaType) error {
	switch {
	case t.IsImage() || t.IsIndex():
		return nil
	case t.IsSchema1():
		return fault.New(fault.Unsupported, "its manifest has version 2, schema 1, which registries no longer accept: push the image again with a current program")
	}
	return fault.New(fault.Unsupported, "it is of type %.100q, not a container image", t)
}
