package appengine

import (
	"cmp"
	"context"
	"os"
	"path/filepath"
	"strings"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/revision/remote"
	"github.com/pantavisor/pantavisor/revision/repo"
	"github.com/pantavisor/pantavisor/revision/state"
)

// isRemote tells a clone URL of the network from a place on this machine.
func isRemote(url string) bool {
	return strings.HasPrefix(url, "http://") || strings.HasPrefix(url, "https://")
}

// fetch brings what a clone URL selects from the network into the store and returns
// the state there. Nobody is asked for a password: pvr login is before it, and
// PVR_ACCESSTOKEN, PVR_CONFIG_DIR, PVR_HTTP_PROXY and PVR_INSECURE mean what they do to pvr.
func fetch(ctx context.Context, url string, store *objects.Store) (*state.State, error) {
	config := os.Getenv("PVR_CONFIG_DIR")
	if home, err := os.UserHomeDir(); err == nil {
		config = cmp.Or(config, filepath.Join(home, ".pvr"))
	}
	if ref, err := repo.ParseRef(url, ""); err == nil && ref.Export != "" {
		return fetchExport(ctx, ref, filepath.Join(config, "cache"), store)
	}
	opt := remote.Environment()
	opt.ConfigDir, opt.AccessToken = config, os.Getenv("PVR_ACCESSTOKEN")
	client, err := remote.New(opt)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	ref, err := client.Reference(url)
	if err != nil {
		return nil, err
	}
	got, err := client.Get(ctx, ref, store, remote.GetOptions{})
	if err != nil {
		return nil, fault.Wrap(fault.Unreachable, err, "fetching it; without a network, clone it (pvr clone) and name its directory .pvr")
	}
	return got.State, nil
}

// fetchExport takes the parts that a test names of the export that a URL serves.
func fetchExport(ctx context.Context, ref repo.Ref, cache string, store *objects.Store) (*state.State, error) {
	client, err := remote.HTTPClient(remote.Environment())
	if err != nil {
		return nil, err
	}
	src, err := repo.Web(ref.Export, cache, client)
	if err != nil {
		return nil, err
	}
	got, err := src.Pull(ctx, store, ref.Fragment.Takes)
	if err != nil {
		return nil, err
	}
	return got.State, nil
}
