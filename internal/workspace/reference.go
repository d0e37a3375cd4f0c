package workspace

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/pantavisor/pantavisor/debian"
	"github.com/pantavisor/pantavisor/images"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/filelock"
	"github.com/pantavisor/pantavisor/revision/fragment"
	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/revision/remote"
	"github.com/pantavisor/pantavisor/revision/repo"
	"github.com/pantavisor/pantavisor/revision/state"
)

// mergeSource is what PVR_MERGE_SRC names: a path, or the URL of an export or of a
// repository, which is fetched into the cache.
type mergeSource struct {
	name   string
	cache  string // the build's cache
	bsp    bool   // PVR_USE_SRC_BSP
	locked bool   // PV_LOCKED
	warn   func(string)
	remote remote.Options
}

func (w *Workspace) mergeSource(cache string, warn func(string)) mergeSource {
	o := remote.Environment()
	o.Warn = func(err error) { warn(err.Error()) }
	return mergeSource{w.Options.MergeSource, cache, w.Options.UseSourceBSP, w.Locked || w.Options.Locked, warn, o}
}

// fetch returns the path of a .pvr directory or of an export, and what it was, nil for what
// has no need of a pin. What a lock pins is that from the cache or from the network; anything
// else is what the server has now.
func (m mergeSource) fetch(ctx context.Context, pin *debian.Reference) (path string, got *debian.Reference, err error) {
	if !m.needsPin() {
		path, err = m.export(ctx, m.name)
		return path, nil, err
	}
	if pin != nil && pin.Source != m.name {
		pin = nil
	}
	if pin == nil && m.locked {
		return "", nil, fault.New(fault.Locked, "looking for the reference device: the lock does not pin %s (PVR_MERGE_SRC): mage lock pins it", m.name)
	}
	ref, err := repo.ParseRef(m.name, m.remote.RepoBaseURL)
	if err == nil && ref.Export != "" {
		path, got, err = m.pinnedExport(ctx, pin)
	} else if err == nil {
		path, got, err = m.clone(ctx, pin)
	}
	if err != nil {
		return "", nil, fault.Wrap(fault.BadInput, err, "fetching the reference device (PVR_MERGE_SRC)")
	}
	if pin == nil {
		m.warn(m.name + " (PVR_MERGE_SRC) may change; this build has SHA-256 " + got.SHA256 + "; mage lock pins it")
	}
	return path, got, nil
}

// pin returns the pin of what the server has now; that of before when there is nothing to
// pin.
func (m mergeSource) pin(ctx context.Context, before *debian.Reference) (*debian.Reference, error) {
	if !m.needsPin() {
		return before, nil
	}
	m.locked, m.warn = false, func(string) {}
	_, got, err := m.fetch(ctx, nil)
	return got, err
}

// needsPin reports whether the name is a URL without a digest, or the address of a device.
func (m mergeSource) needsPin() bool {
	_, notAddress := netip.ParseAddr(m.name)
	return notAddress == nil || strings.Contains(m.name, "://") && !strings.Contains(m.name, "@sha256:")
}

// export returns the path of an export; other names are returned as they are.
func (m mergeSource) export(ctx context.Context, name string) (string, error) {
	client, err := remote.HTTPClient(m.remote)
	if err != nil {
		return "", err
	}
	return repo.Download(ctx, name, filepath.Join(m.cache, "exports"), client)
}

func (m mergeSource) pinnedExport(ctx context.Context, pin *debian.Reference) (string, *debian.Reference, error) {
	name := m.name
	if pin != nil {
		name += "@sha256:" + pin.SHA256
	}
	path, err := m.export(ctx, name)
	if err != nil || pin != nil {
		return path, pin, err
	}
	sum, err := fragment.Digest(ctx, path)
	return path, &debian.Reference{Source: m.name, SHA256: sum}, err
}

// clone fetches a repository of the Hub or of a device.
func (m mergeSource) clone(ctx context.Context, pin *debian.Reference) (string, *debian.Reference, error) {
	dir := filepath.Join(m.cache, "references")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", nil, fault.Wrap(fault.IO, err, "making the cache of reference devices")
	}
	lock, err := filelock.Acquire(ctx, filepath.Join(dir, "lock"), filelock.Options{Create: 0o600})
	if err != nil {
		return "", nil, fault.Wrap(fault.IO, err, "locking the cache of reference devices")
	}
	defer lock.Unlock()
	if pin != nil {
		if at := m.place(dir, pin); isDirectory(at) {
			return at, pin, nil
		}
	}
	client, err := remote.New(m.remote)
	if err != nil {
		return "", nil, err
	}
	defer client.Close()
	return m.receive(ctx, client, dir, pin)
}

// place is the directory of a reference in the cache: it exists only when it is complete.
func (m mergeSource) place(dir string, r *debian.Reference) string {
	what := m.name // its fragment selects parts
	if m.bsp {
		what += " bsp"
	}
	sum := sha256.Sum256([]byte(what))
	return filepath.Join(dir, r.SHA256+"-"+hex.EncodeToString(sum[:8]))
}

func isDirectory(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// receive reads the state of a repository and fetches those of its objects that the image
// takes.
func (m mergeSource) receive(ctx context.Context, client *remote.Client, dir string, pin *debian.Reference) (string, *debian.Reference, error) {
	ref, err := client.Reference(m.name)
	if err != nil {
		return "", nil, err
	}
	info, st, err := m.ask(ctx, client, ref, pin)
	if err != nil {
		return "", nil, err
	}
	sum := sha256.Sum256(st.Encode())
	got := &debian.Reference{Source: m.name, Step: step(info), SHA256: hex.EncodeToString(sum[:])}
	if pin != nil && got.SHA256 != pin.SHA256 {
		return "", nil, fault.New(fault.Digest, "%s has a state with SHA-256 %s, the lock pins %s: mage lock takes what is there now", m.name, got.SHA256, pin.SHA256)
	}
	at := m.place(dir, got)
	if isDirectory(at) {
		return at, got, nil
	}
	store, err := objects.Create(filepath.Join(dir, fragment.Objects))
	if err != nil {
		return "", nil, err
	}
	st = m.wanted(st, ref.Fragment)
	if _, err := client.Fetch(ctx, info, st.Objects(), store, false); err != nil {
		return "", nil, err
	}
	return at, got, place(ctx, at, st, store)
}

// ask reads the description and the state of a repository, in the revision that is pinned.
func (m mergeSource) ask(ctx context.Context, client *remote.Client, ref remote.Reference, pin *debian.Reference) (*remote.Info, *state.State, error) {
	if pin != nil && pin.Step != "" {
		u, err := remote.ParseURL(pin.Step)
		if err != nil {
			return nil, nil, err
		}
		ref.URL = u
	}
	info, err := client.RemoteInfo(ctx, ref)
	if err != nil {
		return nil, nil, err
	}
	st, err := client.State(ctx, info)
	return info, st, err
}

// wanted returns the parts of a state that the image takes.
func (m mergeSource) wanted(st *state.State, f state.Fragment) *state.State {
	if len(f.Take) > 0 {
		st = st.Select(f.Take...)
	}
	if len(f.Drop) > 0 {
		st = st.Without(f.Drop...)
	}
	if !m.bsp {
		st = images.WithoutBSP(st)
	}
	return st
}

// step returns the URL of the step that a description's state belongs to, "" when that URL
// names none: a device has only its latest revision.
func step(info *remote.Info) string {
	path, ok := strings.CutSuffix(info.StateURL.Path, "/state")
	u := &url.URL{Scheme: info.StateURL.Scheme, Host: info.StateURL.Host, Path: path}
	if !ok || (remote.Reference{URL: u}).Revision() == "" {
		return ""
	}
	return u.String()
}

// place writes a state with links to its objects, all of it or nothing.
func place(ctx context.Context, at string, st *state.State, store *objects.Store) error {
	tmp, err := os.MkdirTemp(filepath.Dir(at), ".new-*")
	if err != nil {
		return fault.Wrap(fault.IO, err, "storing the reference device")
	}
	defer os.RemoveAll(tmp)
	w, err := fragment.Create(tmp)
	if err != nil {
		return err
	}
	w.State = st
	for _, sum := range st.Sums() {
		file, err := store.Path(sum)
		if err == nil {
			err = w.LinkObject(ctx, file, sum)
		}
		if err != nil {
			return fault.Wrap(fault.IO, err, "storing the reference device")
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	return fault.Wrap(fault.IO, os.Rename(tmp, at), "storing the reference device")
}
