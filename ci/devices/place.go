package devices

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"

	"github.com/pantavisor/pantavisor/ci/store"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/revision/remote"
	"github.com/pantavisor/pantavisor/revision/repo"
	"github.com/pantavisor/pantavisor/revision/state"
)

// revision is what a device has.
type revision struct {
	state *state.State // of a device without a revision: one without keys
	// name is its number or name; "" where revisions have none.
	name string
}

// posting is a revision to be posted.
type posting struct {
	state   *state.State
	store   *objects.Store // has its objects
	base    *state.State   // what the device had; nil replaces whatever it has now
	message string
}

// place is a device: where revisions are posted to.
type place interface {
	// read returns the newest revision.
	read(ctx context.Context) (*revision, error)
	// fetch gets objects of a revision that the store lacks.
	fetch(ctx context.Context, r *revision, to *objects.Store) error
	// post makes a state the newest revision and returns its name. Where a device can be
	// compared and changed at once, another base than the given one is a fault.Different.
	post(ctx context.Context, p posting) (name string, err error)
}

// Environment variables of the Hub's account.
const (
	envUser     = "PHUSER"
	envPassword = "PHPASS"
)

// places opens devices by their names.
type places struct {
	dir    string // relative directories are below it
	env    environment
	client *remote.Client // of the Hub and of devices in the network
	web    *http.Client   // of exports
	cache  string         // directory of exports
	base   string         // of the Hub's devices
}

// environment looks variables up in the form of os.Environ.
type environment []string

func (e environment) get(name string) string {
	for i := len(e) - 1; i >= 0; i-- {
		if value, ok := strings.CutPrefix(e[i], name+"="); ok {
			return value
		}
	}
	return ""
}

// openPlaces prepares the ways to devices. Nothing is sent yet.
func openPlaces(dir string, env environment, warn func(string)) (*places, error) {
	opt := remote.Environment()
	opt.ConfigDir = "" // the account of a pipeline is in its variables only
	opt.Credentials = credentials(env)
	opt.UserAgent = "pvci"
	opt.Warn = func(err error) { warn(err.Error()) }
	client, err := remote.New(opt)
	if err != nil {
		return nil, err
	}
	web, err := remote.HTTPClient(opt)
	if err != nil {
		return nil, err
	}
	return &places{dir: dir, env: env, client: client, web: web, base: opt.RepoBaseURL, cache: filepath.Join(dir, workName, "exports")}, nil
}

// credentials gives the client the Hub's account, once: a wrong password does not become right.
func credentials(env environment) func(context.Context, remote.Challenge) (remote.Credentials, error) {
	refused := map[string]bool{}
	return func(_ context.Context, c remote.Challenge) (remote.Credentials, error) {
		who := remote.Credentials{Username: env.get(envUser), Password: env.get(envPassword)}
		for name, value := range map[string]string{envUser: who.Username, envPassword: who.Password} {
			if value == "" {
				return who, fault.New(fault.BadInput, "%s wants a login, and the variable %s is not set", c.Endpoint, name)
			}
		}
		if refused[c.Key()] {
			return who, fault.New(fault.BadInput, "%s refuses the account %s with the password that %s has", c.Endpoint, who.Username, envPassword)
		}
		refused[c.Key()] = true
		return who, nil
	}
}

// open returns a device by its name in device-ci.conf.json.
func (p *places) open(name string) (place, error) {
	if err := checkPlace(name); err != nil {
		return nil, err
	}
	switch {
	case isDirectory(name):
		return &directory{dir: p.path(name)}, nil
	case strings.HasPrefix(name, "s3://"):
		s, err := store.Open(name, p.env)
		if err != nil {
			return nil, err
		}
		return &bucket{store: s}, nil
	case hubName.MatchString(name) && !strings.Contains(name, "/") && !isAddress(name):
		user := p.env.get(envUser)
		if user == "" {
			return nil, fault.New(fault.BadInput, "%s is a device of the Hub, and the variable %s, which names its owner, is not set", name, envUser)
		}
		name = user + "/" + name
	}
	ref, err := p.client.Reference(name)
	if err != nil {
		return nil, err
	}
	if !ref.IsRemote() {
		return nil, fault.New(fault.BadInput, "%s is a path of this machine; ./%[1]s names a directory", name)
	}
	return &hub{client: p.client, ref: ref}, nil
}

// path is a directory of the project.
func (p *places) path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(p.dir, name)
}

// isAddress reports whether a name is an IP address.
func isAddress(name string) bool {
	ref, err := repo.ParseRef(name, "")
	return err == nil && ref.URL != "" && !strings.Contains(name, "/")
}

// source opens a repository from which a BSP or an application comes, by its name as pvr takes
// it, without parts. s3://BUCKET/PREFIX is one, too.
func (p *places) source(name string) (repo.Source, error) {
	if strings.HasPrefix(name, "s3://") {
		at, err := p.open(name)
		if err != nil {
			return nil, err
		}
		return &origin{at: at}, nil
	}
	if strings.HasPrefix(name, "./") || strings.HasPrefix(name, "../") {
		return repo.Local(p.path(name), false)
	}
	ref, err := repo.ParseRef(name, p.base)
	switch {
	case err != nil:
		return nil, fault.Wrap(fault.BadInput, err, "reading the name of a repository")
	case ref.Export != "":
		return repo.Web(ref.Export, p.cache, p.web)
	case ref.Path != "":
		return repo.Local(ref.Path, false)
	}
	far, err := p.client.Reference(ref.URL)
	if err != nil {
		return nil, err
	}
	return &origin{at: &hub{client: p.client, ref: far}}, nil
}

// origin is a device as a source. Its state may be another than the newest one.
type origin struct {
	at  place
	has *revision // nil for the newest
}

var _ repo.Source = (*origin)(nil)

// State implements repo.Source.
func (o *origin) State(ctx context.Context) (*state.State, error) {
	if o.has != nil {
		return o.has.state, nil
	}
	r, err := o.at.read(ctx)
	if err != nil {
		return nil, err
	}
	return r.state, nil
}

// Pull implements repo.Source.
func (o *origin) Pull(ctx context.Context, dst *objects.Store, want func(string) bool) (*repo.Pulled, error) {
	r := o.has
	if r == nil {
		var err error
		if r, err = o.at.read(ctx); err != nil {
			return nil, err
		}
	}
	part := r.state.Clone()
	for _, key := range part.Keys() {
		if key != state.SpecKey && !want(key) {
			part.Delete(key)
		}
	}
	before := len(dst.Missing(part))
	if err := o.at.fetch(ctx, &revision{state: part, name: r.name}, dst); err != nil {
		return nil, err
	}
	return &repo.Pulled{State: r.state, Count: before}, nil
}

// Fetch implements app.Repository.
func (p *places) Fetch(ctx context.Context, name string, f state.Fragment) (*state.State, *objects.Store, error) {
	src, err := p.source(name)
	if err != nil {
		return nil, nil, err
	}
	to, err := objects.Create(filepath.Join(p.dir, workName, "parts"))
	if err != nil {
		return nil, nil, err
	}
	pulled, err := src.Pull(ctx, to, f.Takes)
	if err != nil {
		return nil, nil, err
	}
	return pulled.State, to, nil
}

// State returns the state of a repository without its objects.
func (p *places) State(ctx context.Context, name string) (*state.State, error) {
	src, err := p.source(name)
	if err != nil {
		return nil, err
	}
	return src.State(ctx)
}

// hub is a device of a Hub, or one in the network, which serves the same protocol.
type hub struct {
	client *remote.Client
	ref    remote.Reference
}

var _ place = (*hub)(nil)

// step returns the revision's name in the URL of a state: .../steps/N/state.
func step(path string) string {
	words := strings.Split(strings.Trim(path, "/"), "/")
	for i := len(words) - 2; i > 0; i-- {
		if words[i-1] == "steps" && words[i+1] == "state" {
			return words[i]
		}
	}
	return ""
}

func (h *hub) read(ctx context.Context) (*revision, error) {
	info, err := h.client.RemoteInfo(ctx, h.ref)
	if err != nil {
		return nil, err
	}
	st, err := h.client.State(ctx, info)
	if err != nil {
		return nil, err
	}
	return &revision{st, step(info.StateURL.Path)}, nil
}

func (h *hub) fetch(ctx context.Context, r *revision, to *objects.Store) error {
	if len(to.Missing(r.state)) == 0 {
		return nil
	}
	ref := h.ref
	if r.name != "" && ref.Revision() == "" {
		ref.URL = ref.URL.JoinPath("steps", r.name)
	}
	info, err := h.client.RemoteInfo(ctx, ref)
	if fault.Of(err) == fault.Missing { // a server that keeps no former revisions
		info, err = h.client.RemoteInfo(ctx, h.ref)
	}
	if err != nil {
		return err
	}
	_, err = h.client.Fetch(ctx, info, r.state.Objects(), to, true)
	return err
}

func (h *hub) post(ctx context.Context, p posting) (string, error) {
	posted, err := h.client.Post(ctx, h.ref, p.state, p.store, remote.PostOptions{Message: p.message, Revision: remote.NextRevision})
	if err != nil {
		return "", fmt.Errorf("posting to %s: %w", h.ref, err)
	}
	return posted.Revision, nil
}
