package catalogue

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/ci/releases"
	"github.com/pantavisor/pantavisor/ci/store"
	"github.com/pantavisor/pantavisor/internal/ctxio"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/signing"
)

// CheckOptions are those of [Check].
type CheckOptions struct {
	// Version, Name and Channel restrict what is checked; "" does not.
	Version, Name, Channel string
	// Quick asks whether files are there and reads none but the indexes.
	Quick bool
	// Key, if not nil, is the key that every release must be signed with.
	Key *signing.Public
	// Tell, if not nil, is told each release when it was checked.
	Tell func(Checked)
}

// Checked is a release that was checked.
type Checked struct {
	Channel string `json:"channel"`
	Version string `json:"version"`
	Name    string `json:"name"`
	Files   int    `json:"files"`
	Bytes   int64  `json:"bytes"` // that were read
	// Signed is set when the signatures were verified.
	Signed   bool     `json:"signed,omitempty"`
	Problems []string `json:"problems,omitempty"`
}

// OpenPlace opens a catalogue to read it: at its address, or in a store with the settings of env.
func OpenPlace(place string, o Options, env []string) (*releases.Place, error) {
	if strings.HasPrefix(place, "https://") || strings.HasPrefix(place, "http://") {
		return releases.OpenPlace(place)
	}
	s, err := store.Open(place, env)
	if err != nil {
		return nil, err
	}
	return placeOf(s, o), nil
}

// placeOf returns the place at which a store is read as a catalogue.
func placeOf(s *store.Store, o Options) *releases.Place {
	return releases.StorePlace(s.String(), o.public(s), func(ctx context.Context, name string) (io.ReadCloser, int64, error) {
		obj, err := s.Open(ctx, name)
		if err != nil {
			return nil, 0, err
		}
		return obj, obj.Size, nil
	})
}

// Check reads a catalogue and compares digests and sizes of all files that it names, and verifies
// signatures. The error joins all problems and has the kind of the first one.
func Check(ctx context.Context, p *releases.Place, o CheckOptions) ([]Checked, error) {
	c, err := p.Catalogue(ctx)
	if err != nil {
		return nil, err
	}
	var out []Checked
	var errs []error
	for _, channel := range slices.Sorted(maps.Keys(c)) {
		for _, version := range slices.SortedFunc(maps.Keys(c[channel]), releases.Compare) {
			for _, d := range c[channel][version].Devices {
				if !o.matches(channel, version, d.Name) {
					continue
				}
				k := &checker{p, o, Checked{Channel: channel, Version: version, Name: d.Name}, nil, map[string]bool{}}
				k.device(ctx, &d)
				if err := ctx.Err(); err != nil {
					return out, fault.Wrap(fault.Cancelled, context.Cause(ctx), "checking the catalogue")
				}
				if o.Tell != nil {
					o.Tell(k.Checked)
				}
				out, errs = append(out, k.Checked), append(errs, k.errs...)
			}
		}
	}
	if len(out) == 0 {
		return nil, fault.New(fault.Missing, "the catalogue of %s has no such release", p)
	}
	return out, errors.Join(errs...)
}

func (o CheckOptions) matches(channel, version, name string) bool {
	fits := func(want, have string) bool { return want == "" || want == have }
	return fits(o.Channel, channel) && fits(o.Version, version) && fits(o.Name, name)
}

// checker checks one release.
type checker struct {
	place *releases.Place
	CheckOptions
	Checked
	errs []error
	seen map[string]bool // references that were checked
}

// fail notes a problem.
func (k *checker) fail(err error, format string, args ...any) {
	if err == nil {
		return
	}
	err = fault.Wrap(fault.Digest, err, "%s %s (%s): %s", k.Checked.Name, k.Checked.Version, k.Checked.Channel, fmt.Sprintf(format, args...))
	k.errs = append(k.errs, err)
	k.Problems = append(k.Problems, err.Error())
}

func (k *checker) device(ctx context.Context, d *releases.Device) {
	var index *releases.Index
	if d.Release != nil {
		var err error
		index, err = k.place.Index(ctx, d, k.Checked.Version)
		k.fail(err, "index")
	}
	if k.Key != nil {
		if d.Release == nil {
			k.fail(fault.New(fault.Missing, "another program has added it, without an index"), "signature")
		} else {
			_, err := k.place.Verify(ctx, d.Release, k.Key)
			k.fail(err, "signature")
			k.Signed = err == nil
		}
	}
	links := d.Links()
	if len(links) == 0 {
		k.fail(fault.New(fault.Missing, "it has no files"), "catalogue")
	}
	for _, key := range slices.Sorted(maps.Keys(links)) {
		k.fail(k.file(ctx, links[key].URL, links[key].SHA256, -1), "%s", key)
	}
	if index != nil {
		for _, f := range index.Files {
			k.fail(k.file(ctx, releases.Beside(d.Release.URL, f.Name), f.SHA256, f.Bytes), "%s", f.Name)
		}
	}
}

// file checks a file of which digest and, if it is not negative, size are known.
func (k *checker) file(ctx context.Context, ref, sum string, size int64) error {
	if k.seen[ref+" "+sum] {
		return nil
	}
	k.seen[ref+" "+sum] = true
	k.Files++
	if k.Quick {
		return k.place.Reach(ctx, ref)
	}
	r, _, err := k.place.Open(ctx, ref)
	if err != nil {
		return err
	}
	hash := sha256.New()
	n, err := io.Copy(hash, ctxio.Reader(ctx, r))
	k.Bytes += n
	if err = errors.Join(err, r.Close()); err != nil {
		return fault.Wrap(fault.Unreachable, err, "reading %.200s", ref)
	}
	if got := hex.EncodeToString(hash.Sum(nil)); got != sum {
		return fault.New(fault.Digest, "%.200s has the SHA-256 %s, and should have %.64s", ref, got, sum)
	}
	if size >= 0 && n != size {
		return fault.New(fault.Digest, "%.200s has %d bytes, and should have %d", ref, n, size)
	}
	return nil
}
