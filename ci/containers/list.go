package containers

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/ci/store"
	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// listTimeout bounds the download of an index.
const listTimeout = time.Minute

// FromURL returns the packages of the index at a URL; one that does not end in .json is that of its
// directory. Their URLs are absolute.
func FromURL(ctx context.Context, address string, client *http.Client) ([]Package, error) {
	if !strings.HasSuffix(address, ".json") {
		address = strings.TrimSuffix(address, "/") + "/" + indexName
	}
	base, err := url.Parse(address)
	if err != nil || base.Scheme != "https" && base.Scheme != "http" || base.Host == "" {
		return nil, fault.New(fault.BadInput, "index %q: an http or https URL is expected", address)
	}
	ctx, stop := context.WithTimeout(ctx, listTimeout)
	defer stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "asking for the index")
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fault.Wrap(fault.Unreachable, err, "asking for the index")
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fault.New(fault.Unreachable, "asking for the index: %s: the server answers %s", address, resp.Status)
	}
	text, err := bounded.Read(resp.Body, maxIndex)
	if err != nil {
		return nil, fault.Wrap(fault.Unreachable, err, "reading the index %s", address)
	}
	list, err := parseIndex(text)
	if err != nil {
		return nil, err
	}
	for i := range list {
		if err := list[i].resolve(base); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// resolve makes the URLs of a package absolute.
func (p *Package) resolve(base *url.URL) error {
	for _, u := range p.urls() {
		full, err := base.Parse(*u)
		if err != nil || full.Scheme != "https" && full.Scheme != "http" {
			return fault.New(fault.BadInput, "reading the index of packages: the url %.200q of %s cannot be used", *u, p.Name)
		}
		*u = full.String()
	}
	return nil
}

func (p *Package) urls() []*string {
	if p.SBOM == nil {
		return []*string{&p.URL}
	}
	return []*string{&p.URL, &p.SBOM.URL}
}

// FromStore returns the packages of the index of a store. Their URLs are those at which the store publishes
// files, where it does, else places in it.
func FromStore(ctx context.Context, s *store.Store) ([]Package, error) {
	text, _, err := s.Get(ctx, indexName, maxIndex)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(fault.Missing, "%s has no %s; pvci container publish or index makes it", s, indexName)
	}
	if err != nil {
		return nil, err
	}
	list, err := parseIndex(text)
	if err != nil {
		return nil, err
	}
	for i := range list {
		for _, u := range list[i].urls() {
			if !strings.Contains(*u, "://") {
				*u = inStore{s}.address(nil, *u)
			}
		}
	}
	return list, nil
}

// Reference returns the package as pvr get and pvr merge take it: with the digest that it must have.
func (p *Package) Reference() string {
	if !strings.HasPrefix(p.URL, "http") {
		return p.URL
	}
	return p.URL + "@sha256:" + p.SHA256
}
