package devices

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/filelock"
	"github.com/pantavisor/pantavisor/revision/app"
	"github.com/pantavisor/pantavisor/revision/app/image"
	"github.com/pantavisor/pantavisor/revision/canon"
	"github.com/pantavisor/pantavisor/revision/compat"
	"github.com/pantavisor/pantavisor/revision/manifest"
	"github.com/pantavisor/pantavisor/revision/pvs/sign"
	"github.com/pantavisor/pantavisor/revision/pvs/trust"
	"github.com/pantavisor/pantavisor/revision/repo"
	"github.com/pantavisor/pantavisor/revision/state"
)

// workName is the directory below the project for what can be made again: the checkouts of the
// devices with their objects, exports and layers of images. Pipelines keep it as a cache.
const workName = ".pvci"

// Environment variables with the files of the key that signs what changed, as pvr sig has them.
const (
	envKey   = "PVR_SIG_KEY"
	envChain = "PVR_X5C_PATH"
)

const bspPart = "bsp"

// work is the checkout of a device.
type work struct {
	*repo.Repo
	run *run
}

// lock keeps other commands in this clone from the checkout of a device.
func (r *run) lock(ctx context.Context, id string) (*filelock.Lock, error) {
	dir := filepath.Join(r.Dir, workName, "devices")
	err := os.MkdirAll(dir, 0o755)
	if err != nil {
		return nil, fault.Wrap(fault.IO, err, "locking the checkout of %s", id)
	}
	lock, err := filelock.Acquire(ctx, filepath.Join(dir, id+".lock"), filelock.Options{Create: 0o644})
	return lock, fault.Wrap(fault.IO, err, "locking the checkout of %s", id)
}

// checkout opens the checkout of a device, which is locked until it is closed, with a revision of a place.
func (r *run) checkout(ctx context.Context, id string, at place, has *revision) (*work, error) {
	dir := filepath.Join(r.Dir, workName, "devices", id)
	if err := repo.Init(dir, repo.InitOptions{}); err != nil {
		if _, statErr := os.Stat(filepath.Join(dir, repo.Dir, "json")); statErr != nil {
			return nil, fault.Wrap(fault.IO, err, "making the checkout of %s", id)
		}
	}
	w, err := repo.Open(ctx, dir, repo.Options{Write: true, Cache: filepath.Join(r.Dir, workName, "sums")})
	if err != nil {
		return nil, fault.Wrap(fault.IO, err, "opening the checkout of %s", id)
	}
	if err := fill(ctx, w, &origin{at: at, has: has}); err != nil {
		w.Close()
		return nil, err
	}
	return &work{w, r}, nil
}

// fill gives a checkout the whole state of a source and exactly its files.
func fill(ctx context.Context, w *repo.Repo, src repo.Source) error {
	if _, err := w.Get(ctx, src, repo.Ref{}, false); err != nil {
		return err
	}
	if err := w.Checkout(ctx, repo.CheckoutOptions{}); err != nil {
		return fault.Wrap(fault.IO, err, "writing the checkout %s", w.Dir())
	}
	return fault.Wrap(fault.IO, w.Clean(ctx), "cleaning the checkout %s", w.Dir())
}

// workspace prepares work on applications of a state.
func (r *run) workspace(dir string, st *state.State) *app.Workspace {
	w := &app.Workspace{
		Dir: dir, Images: r.images(), Repository: r.places, CheckConfig: r.CheckConfig,
		Report: func(m app.Message) {
			if strings.HasPrefix(m.Text, "WARN") {
				r.say("%s: %s", m.App, m.Text)
			}
		},
	}
	w.DockerConfig, _ = st.Get("_hostconfig/pvr/docker.json")
	w.Groups, _ = st.Get("groups.json")
	w.Device, _ = st.Get("device.json")
	return w
}

// images says how images are found: layers that were downloaded are kept.
func (r *run) images() image.Options {
	return image.Options{Cache: filepath.Join(r.Dir, workName, "layers"), Insecure: r.Insecure}
}

// sourced are the parts of a state with a source manifest, sorted.
func sourced(st *state.State) []string {
	var names []string
	for _, key := range st.Inlines() {
		if name, file := path.Split(key); file == app.SourceName && strings.Count(name, "/") == 1 && !strings.HasPrefix(name, "_") {
			names = append(names, strings.TrimSuffix(name, "/"))
		}
	}
	return names
}

// stale returns the parts of a state that are not made of what their sources have now. It reads
// states and manifests only.
func (r *run) stale(ctx context.Context, st *state.State) (parts []string, err error) {
	w := r.workspace(r.Dir, st)
	for _, name := range sourced(st) {
		newest := false
		if name == bspPart {
			newest, err = r.newestBSP(ctx, st)
		} else {
			newest, err = w.Newest(ctx, st, name)
		}
		if err != nil {
			return nil, err
		}
		if !newest {
			parts = append(parts, name)
		}
	}
	return parts, nil
}

// source is the repository of a BSP, and the parts to take of it.
type source struct {
	text     string // as bsp/src.json has it
	name     string
	fragment state.Fragment
}

// bspSource returns the source of a state's BSP; nil when bsp/src.json names none.
func bspSource(st *state.State) (*source, error) {
	text := ""
	if v, ok := st.Value(bspPart + "/" + app.SourceName); ok {
		if from, ok := v.Get("pvr"); ok {
			text, _ = from.Text()
		}
	}
	if text == "" {
		return nil, nil
	}
	name, fragment, given := strings.Cut(text, "#")
	if !given {
		fragment = bspPart + "," + repo.SignatureKey(bspPart)
	}
	f, err := state.ParseFragment(fragment)
	if err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "reading the source of the BSP, %s", text)
	}
	if len(f.Take) == 0 {
		return nil, fault.New(fault.BadInput, "the source of the BSP, %s, takes no part; #bsp does", text)
	}
	return &source{text, name, f}, nil
}

// bspFrom returns the state with the BSP of another state, whose bsp/src.json gets our source.
func (s *source) bspFrom(st, theirs *state.State) (*state.State, error) {
	f := s.fragment
	f.Take = slices.DeleteFunc(slices.Clone(f.Take), func(part string) bool { return len(state.Fragment{Take: []string{part}}.Unmatched(theirs)) > 0 })
	if !slices.ContainsFunc(theirs.Keys(), func(key string) bool { return state.Within(bspPart, key) && f.Takes(key) }) {
		return nil, fault.New(fault.BadInput, "%s, which bsp/src.json names, has no BSP", s.text)
	}
	cut, err := state.Get(st, theirs, f)
	if err != nil {
		return nil, err
	}
	own := canon.Obj(canon.Member{Name: "#spec", Value: canon.Str("bsp-manifest-src@1")})
	if v, ok := st.Value(bspPart + "/" + app.SourceName); ok {
		own = v
	}
	return cut, cut.Set(bspPart+"/"+app.SourceName, own.Encode())
}

func (r *run) newestBSP(ctx context.Context, st *state.State) (bool, error) {
	from, err := bspSource(st)
	if from == nil || err != nil {
		return err == nil, err
	}
	theirs, err := r.places.State(ctx, from.name)
	if err != nil {
		return false, fmt.Errorf("reading the source of the BSP, %s: %w", from.text, err)
	}
	now, err := from.bspFrom(st, theirs)
	if err != nil {
		return false, err
	}
	return state.Equal(st, now), nil
}

// renew brings parts of the checkout to what their sources have, and commits it.
func (w *work) renew(ctx context.Context, parts []string) error {
	before := w.Committed().Clone()
	apps := slices.DeleteFunc(slices.Clone(parts), func(p string) bool { return p == bspPart })
	if len(apps) < len(parts) {
		if err := w.renewBSP(ctx); err != nil {
			return err
		}
	}
	space := w.run.workspace(w.Dir(), w.Committed())
	for _, name := range apps {
		done, err := space.Update(ctx, name, app.UpdateOptions{})
		if err != nil {
			return err
		}
		if err := w.AddFiles(ctx, done.Tracked); err != nil {
			return err
		}
	}
	if err := w.Commit(ctx, repo.CommitOptions{}); err != nil {
		return fault.Wrap(fault.IO, err, "committing in %s", w.Dir())
	}
	if err := w.sign(ctx, before); err != nil {
		return err
	}
	return compatible(w.Committed())
}

func (w *work) renewBSP(ctx context.Context) error {
	from, err := bspSource(w.Committed())
	if err != nil {
		return err
	}
	src, err := w.run.places.source(from.name)
	if err != nil {
		return err
	}
	to, err := w.Objects()
	if err != nil {
		return err
	}
	pulled, err := src.Pull(ctx, to, from.fragment.Takes)
	if err != nil {
		return fmt.Errorf("getting the BSP from %s: %w", from.text, err)
	}
	now, err := from.bspFrom(w.Committed(), pulled.State)
	if err != nil {
		return err
	}
	return fill(ctx, w.Repo, &given{posting{state: now, store: to}})
}

// sign makes the signatures anew of parts that changed and whose signatures did not.
func (w *work) sign(ctx context.Context, before *state.State) error {
	var keys []string
	now := w.Committed()
	for _, c := range state.Compare(before, now, func(string) (int64, bool) { return 0, true }).Parts {
		key := repo.SignatureKey(c.Part)
		old, had := before.Get(key)
		if has, ok := now.Get(key); had && ok && bytes.Equal(old, has) {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return nil
	}
	opt, err := w.run.signer()
	if err != nil {
		return fmt.Errorf("signing %s anew, whose parts changed: %w", strings.Join(keys, ", "), err)
	}
	for _, key := range keys {
		if err := w.Resign(key, opt); err != nil {
			return fmt.Errorf("signing %s anew: %w", key, err)
		}
	}
	return fault.Wrap(fault.IO, w.Commit(ctx, repo.CommitOptions{}), "committing in %s", w.Dir())
}

// maxPEM bounds files of keys and certificates, in bytes.
const maxPEM = 1 << 20

func (r *run) signer() (sign.Options, error) {
	var opt sign.Options
	file := r.env.get(envKey)
	if file == "" {
		return opt, fault.New(fault.BadInput, "the variable %s, which names the file of the key, is not set", envKey)
	}
	text, err := bounded.ReadRegular(file, maxPEM)
	if err != nil {
		return opt, fault.New(fault.Missing, "reading the key that %s names: %w", envKey, err)
	}
	if opt.Key, err = sign.ParseKey(text); err != nil {
		return opt, fault.Wrap(fault.BadInput, err, "reading the key that %s names", envKey)
	}
	if file = r.env.get(envChain); file == "" || file == "no" {
		return opt, nil
	}
	if text, err = bounded.ReadRegular(file, maxPEM); err != nil {
		return opt, fault.New(fault.Missing, "reading the certificates that %s names: %w", envChain, err)
	}
	if opt.Chain, err = trust.ParseCertificates(text); err != nil {
		return opt, fault.Wrap(fault.BadInput, err, "reading the certificates that %s names", envChain)
	}
	return opt, sign.CheckChain(opt.Key, opt.Chain)
}

// compatible returns an error for a state whose parts do not go together.
func compatible(st *state.State) error {
	parts, err := manifest.Declared(st)
	if err != nil {
		return err
	}
	if bad := compat.Check(parts); bad != nil {
		return bad
	}
	return nil
}
