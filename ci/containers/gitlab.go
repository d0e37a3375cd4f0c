package containers

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// Registry is the registry of generic packages of a project at GitLab (GitLab: API, generic packages
// repository). Each build of a package is a version there, with its own index.
type Registry struct {
	project string // URL of the project in the API
	header  string // with the token
	token   string
	client  *http.Client
}

var _ Destination = (*Registry)(nil)

// OpenRegistry opens the registry of a project by its URL in the API, as
// https://gitlab.com/api/v4/projects/42; default is the project of the pipeline (CI_API_V4_URL,
// CI_PROJECT_ID). The token is GITLAB_TOKEN, else that of the job (CI_JOB_TOKEN).
func OpenRegistry(project string, env func(string) string, client *http.Client) (*Registry, error) {
	if project == "" && env("CI_API_V4_URL") != "" && env("CI_PROJECT_ID") != "" {
		project = env("CI_API_V4_URL") + "/projects/" + env("CI_PROJECT_ID")
	}
	u, err := url.Parse(project)
	switch {
	case project == "":
		return nil, fault.New(fault.BadInput, "gitlab: CI_API_V4_URL and CI_PROJECT_ID are not set; outside of a pipeline name the project, as gitlab:https://gitlab.com/api/v4/projects/42")
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.RawQuery != "":
		return nil, fault.New(fault.BadInput, "gitlab: the URL of a project in the API is expected, as https://gitlab.com/api/v4/projects/42")
	}
	r := &Registry{project: strings.TrimSuffix(project, "/"), header: "PRIVATE-TOKEN", token: env("GITLAB_TOKEN")}
	if r.token == "" {
		r.header, r.token = "JOB-TOKEN", env("CI_JOB_TOKEN")
	}
	if r.token == "" {
		return nil, fault.New(fault.BadInput, "gitlab: neither GITLAB_TOKEN nor CI_JOB_TOKEN is set")
	}
	own := *client
	own.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		if req.URL.Host != via[0].URL.Host || req.URL.Scheme != via[0].URL.Scheme {
			req.Header.Del(r.header) // storage that GitLab sends readers to has no business with the token
		}
		if len(via) >= maxRedirects {
			return fault.New(fault.Unreachable, "more than %d redirections", maxRedirects)
		}
		return nil
	}
	r.client = &own
	return r, nil
}

const (
	maxRedirects = 5
	attempts     = 3           // of a request that the server cannot answer at the moment
	pause        = time.Second // before the second attempt, and twice as long before the next
)

func (r *Registry) address(p *Package, name string) string {
	version := p.Version
	if p.Build != "" {
		version += "-" + p.Build
	}
	return r.project + "/packages/generic/" + url.PathEscape(p.Name) + "/" + url.PathEscape(version) + "/" + url.PathEscape(name)
}

// ask sends a request; body makes its body anew for each attempt and may be nil.
func (r *Registry) ask(ctx context.Context, method, address string, size int64, body func() (io.ReadCloser, error)) (*http.Response, error) {
	for n := 1; ; n++ {
		req, err := http.NewRequestWithContext(ctx, method, address, nil)
		if err != nil {
			return nil, fault.Wrap(fault.BadInput, err, "asking GitLab")
		}
		req.Header.Set(r.header, r.token)
		if body != nil {
			if req.Body, err = body(); err != nil {
				return nil, fault.Wrap(fault.IO, err, "reading what is published")
			}
			req.ContentLength = size
		}
		resp, err := r.client.Do(req)
		if err == nil && resp.StatusCode < http.StatusInternalServerError && resp.StatusCode != http.StatusTooManyRequests {
			return resp, nil
		}
		if err == nil {
			resp.Body.Close()
			err = fault.New(fault.Unreachable, "%s: the server answers %s", address, resp.Status)
		}
		if n == attempts || ctx.Err() != nil {
			return nil, fault.Wrap(fault.Unreachable, err, "asking GitLab")
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(pause << (n - 1)):
		}
	}
}

// wrong returns the error for an answer that is not the expected one.
func (r *Registry) wrong(resp *http.Response, address string) error {
	said, _ := io.ReadAll(io.LimitReader(resp.Body, 500)) // whatever there is
	kind, hint := fault.Unreachable, ""
	if resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden {
		kind, hint = fault.BadInput, fmt.Sprintf(" (the token of %s must be allowed to write packages)", r.header)
	}
	return fault.New(kind, "%s: the server answers %s%s: %s", address, resp.Status, hint, strings.ReplaceAll(strings.TrimSpace(string(said)), r.token, "***"))
}

func (r *Registry) has(ctx context.Context, p *Package, f *File) (same, other bool, err error) {
	address := r.address(p, f.URL)
	resp, err := r.ask(ctx, http.MethodGet, address, 0, nil)
	if err != nil {
		return false, false, err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusNotFound:
		return false, false, nil
	case http.StatusOK:
	default:
		return false, false, r.wrong(resp, address)
	}
	h := sha256.New()
	if _, err := io.Copy(h, io.LimitReader(resp.Body, f.Size+1)); err != nil {
		return false, false, fault.Wrap(fault.Unreachable, err, "reading %s", address)
	}
	same = hex.EncodeToString(h.Sum(nil)) == f.SHA256
	return same, !same, nil
}

func (r *Registry) put(ctx context.Context, p *Package, f *File, path string, _ bool) error {
	return r.send(ctx, r.address(p, f.URL), f.Size, func() (io.ReadCloser, error) { return os.Open(path) })
}

func (r *Registry) send(ctx context.Context, address string, size int64, body func() (io.ReadCloser, error)) error {
	resp, err := r.ask(ctx, http.MethodPut, address, size, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusCreated {
		return r.wrong(resp, address)
	}
	return nil
}

// record writes an index for each build. Nobody else writes that of this build.
func (r *Registry) record(ctx context.Context, list []Package) error {
	for _, b := range builds(list) {
		text, err := encodeIndex(b)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(text)
		f := &File{URL: indexName, SHA256: hex.EncodeToString(sum[:]), Size: int64(len(text))}
		same, _, err := r.has(ctx, &b[0], f)
		if err != nil {
			return err
		}
		if same {
			continue
		}
		err = r.send(ctx, r.address(&b[0], indexName), f.Size, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text)), nil })
		if err != nil {
			return err
		}
	}
	return nil
}
