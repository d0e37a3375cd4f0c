package devices

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/pantavisor/pantavisor/ci/store"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/revision/repo"
	"github.com/pantavisor/pantavisor/revision/state"
)

// errMoved is the error for a device that got another revision since it was read.
func errMoved(name string) error {
	return fault.New(fault.Different, "%s got another revision meanwhile; run the command again", name)
}

// directory is a device that is the repository of a directory, its .pvr. Former objects stay in it.
type directory struct{ dir string }

var _ place = (*directory)(nil)

func (d *directory) read(ctx context.Context) (*revision, error) {
	r, err := repo.Open(ctx, d.dir, repo.Options{})
	if errors.Is(err, fs.ErrNotExist) {
		return &revision{state: state.New("")}, nil
	}
	if err != nil {
		return nil, fault.Wrap(fault.IO, err, "reading the device %s", d.dir)
	}
	defer r.Close()
	if !r.Exists() {
		return &revision{state: state.New("")}, nil
	}
	return &revision{state: r.Committed().Clone()}, nil
}

func (d *directory) fetch(ctx context.Context, rev *revision, to *objects.Store) error {
	if len(to.Missing(rev.state)) == 0 {
		return nil
	}
	r, err := repo.Open(ctx, d.dir, repo.Options{})
	if err != nil {
		return fault.Wrap(fault.IO, err, "reading the device %s", d.dir)
	}
	defer r.Close()
	from, err := r.Objects()
	if err != nil {
		return err
	}
	return move(ctx, rev.state, to, d.dir, func(sum string) (io.ReadCloser, error) { return from.Open(sum) })
}

// move copies the objects of a state that a store lacks.
func move(ctx context.Context, st *state.State, to *objects.Store, where string, open func(sum string) (io.ReadCloser, error)) error {
	batch := to.Batch()
	defer batch.Abort()
	for _, sum := range to.Missing(st) {
		r, err := open(sum)
		if errors.Is(err, fs.ErrNotExist) {
			return fault.Wrap(fault.Missing, err, "%s lacks an object of its revision", where)
		}
		if err != nil {
			return fault.Wrap(fault.IO, err, "reading an object of %s", where)
		}
		_, err = batch.Put(ctx, r, sum)
		if err := errors.Join(err, r.Close()); err != nil {
			return fault.Wrap(fault.Digest, err, "reading the object %s of %s", sum, where)
		}
	}
	return fault.Wrap(fault.IO, batch.Commit(), "storing objects of %s", where)
}

func (d *directory) post(ctx context.Context, p posting) (string, error) {
	r, err := d.openWritable(ctx)
	if err != nil {
		return "", fault.Wrap(fault.IO, err, "opening the device %s", d.dir)
	}
	defer r.Close()
	if p.base != nil && !equal(p.base, r.Committed()) {
		return "", errMoved(d.dir)
	}
	config := r.Config()
	if _, err := r.Get(ctx, &given{p}, repo.Ref{}, false); err != nil {
		return "", fault.Wrap(fault.IO, err, "posting to %s", d.dir)
	}
	return "", r.SetConfig(config) // the checkout's remotes stay
}

// openWritable opens the repository of the device, which is made when there is none.
func (d *directory) openWritable(ctx context.Context) (*repo.Repo, error) {
	r, err := repo.Open(ctx, d.dir, repo.Options{Write: true})
	if err == nil && r.Exists() {
		return r, nil
	}
	if err == nil {
		r.Close()
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := repo.Init(d.dir, repo.InitOptions{}); err != nil {
		return nil, err
	}
	return repo.Open(ctx, d.dir, repo.Options{Write: true})
}

// given is a posting as the source of a repository.
type given struct{ posting }

var _ repo.Source = (*given)(nil)

// State implements repo.Source.
func (g *given) State(context.Context) (*state.State, error) { return g.state, nil }

// Pull implements repo.Source.
func (g *given) Pull(ctx context.Context, dst *objects.Store, _ func(string) bool) (*repo.Pulled, error) {
	err := move(ctx, g.state, dst, "the working directory", func(sum string) (io.ReadCloser, error) { return g.store.Open(sum) })
	return &repo.Pulled{State: g.state}, err
}

// equal reports whether two states are the same; one without keys is that of a device without a
// revision, whatever its format version.
func equal(a, b *state.State) bool {
	return isEmpty(a) && isEmpty(b) || state.Equal(a, b)
}

func isEmpty(s *state.State) bool { return len(s.Parts()) == 0 }

// bucket is a device in a store: its state is the file json, its objects are objects/SUM. Former
// objects stay in it.
type bucket struct{ store *store.Store }

var _ place = (*bucket)(nil)

const (
	bucketState   = "json"
	bucketObjects = "objects/"
	maxState      = 64 << 20
)

func (b *bucket) read(ctx context.Context) (*revision, error) {
	data, _, err := b.store.Get(ctx, bucketState, maxState)
	if errors.Is(err, fs.ErrNotExist) {
		return &revision{state: state.New("")}, nil
	}
	if err != nil {
		return nil, err
	}
	st, err := state.Parse(data)
	if err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "reading the state of %s", b.store)
	}
	return &revision{state: st}, nil
}

func (b *bucket) fetch(ctx context.Context, r *revision, to *objects.Store) error {
	return move(ctx, r.state, to, b.store.String(), func(sum string) (io.ReadCloser, error) {
		return b.store.Open(ctx, bucketObjects+sum)
	})
}

func (b *bucket) post(ctx context.Context, p posting) (string, error) {
	known := map[string]bool{}
	if p.base != nil {
		for _, sum := range p.base.Sums() {
			known[sum] = true
		}
	}
	for _, sum := range p.state.Sums() {
		if known[sum] {
			continue
		}
		path, err := p.store.Path(sum)
		if err != nil {
			return "", err
		}
		if _, err := b.store.PutFile(ctx, bucketObjects+sum, store.File{Path: path, SHA256: sum}); err != nil {
			return "", fmt.Errorf("posting to %s: %w", b.store, err)
		}
	}
	doc, err := p.state.Document()
	if err != nil {
		return "", err
	}
	return "", b.store.Update(ctx, bucketState, maxState, func(old []byte) ([]byte, error) {
		return b.replace(old, doc, p.base)
	})
}

// replace returns the new state unless the old one is not the base.
func (b *bucket) replace(old, doc []byte, base *state.State) ([]byte, error) {
	if base == nil || string(old) == string(doc) {
		return doc, nil
	}
	has := state.New("")
	if old != nil {
		var err error
		if has, err = state.Parse(old); err != nil {
			return nil, fault.Wrap(fault.BadInput, err, "reading the state of %s", b.store)
		}
	}
	if !equal(has, base) {
		return nil, errMoved(b.store.String())
	}
	return doc, nil
}
