// Package debian takes parts from Debian's archive: it pins packages by version and
// SHA-256 in a lock file, fetches them through the machine's own apt into private package
// roots, unpacks them, and runs helper programs from them.
//
// A [Request] of the target is resolved to entries of the [Lock] ("mage lock"). Before a
// build, [Store.Refresh] makes sure that each entry is in the download cache or still in
// the archive. The steps [Fetch], [Unpack] and [Toolbox] use the packages.
package debian

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/filelock"
)

// Store is the download cache in front of an archive. It holds package files by their
// SHA-256 and is separate from the cache of steps, so that a build after "mage clean"
// needs no network.
type Store struct {
	// Dir is the directory of the files, PV_CACHE_DIR/downloads.
	Dir string
	// Archive provides what the directory does not have; nil for a build without network.
	Archive Archive
}

// Open returns the store in a cache directory (PV_CACHE_DIR), with the machine's apt as
// its archive.
func Open(cache string, warn func(string)) *Store {
	return &Store{
		Dir:     filepath.Join(cache, "downloads"),
		Archive: &Apt{Dir: filepath.Join(cache, "apt"), Warn: warn},
	}
}

func (s *Store) file(e Entry) string { return filepath.Join(s.Dir, e.SHA256+".deb") }

// Has reports whether the entry's file is in the cache, by name and size; the content is
// checked when the file is used.
func (s *Store) Has(e Entry) bool {
	info, err := os.Stat(s.file(e))
	return err == nil && info.Mode().IsRegular() && info.Size() == e.Size
}

// touch marks a file as used, at most once a day.
func touch(file string) {
	if info, err := os.Stat(file); err == nil && time.Since(info.ModTime()) > 24*time.Hour {
		_ = os.Chtimes(file, time.Time{}, time.Now())
	}
}

// Prune removes packages, and recorded substitutes, that no build has asked for in the
// given time.
func (s *Store) Prune(unused time.Duration) error {
	names, err := os.ReadDir(s.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fault.Wrap(fault.IO, err, "pruning the download cache")
	}
	for _, n := range names {
		info, err := n.Info()
		kind := filepath.Ext(n.Name())
		if err != nil || kind != ".deb" && kind != ".choice" || time.Since(info.ModTime()) < unused {
			continue
		}
		if err := os.Remove(filepath.Join(s.Dir, n.Name())); err != nil {
			return fault.Wrap(fault.IO, err, "pruning the download cache")
		}
	}
	return nil
}

// Get returns the path of the entry's file with verified content, fetching it if needed.
// The file is shared: do not write to it.
func (s *Store) Get(ctx context.Context, e Entry) (string, error) {
	if err := e.check(); err != nil {
		return "", fault.Wrap(fault.BadInput, err, "fetching a package")
	}
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		return "", fault.Wrap(fault.IO, err, "making the download cache")
	}
	file := s.file(e)
	lock, err := filelock.Acquire(ctx, file+".lock", filelock.Options{Create: 0o644})
	if err != nil {
		return "", fault.Wrap(fault.IO, err, "fetching %s", e)
	}
	defer lock.Unlock()
	if !s.Has(e) {
		return file, s.download(ctx, e, file)
	}
	damage := verify(file, e)
	if damage == nil {
		return file, nil
	}
	if err := s.download(ctx, e, file); err != nil {
		return file, fault.New(fault.Of(err), "%w; the copy in the download cache, %s, is damaged", err, file)
	}
	return file, nil
}

// download fetches to a temporary name; only verified content gets its final name.
func (s *Store) download(ctx context.Context, e Entry, file string) error {
	if s.Archive == nil {
		return fault.New(fault.Unreachable, "fetching %s: it is not in the download cache, and this build may not use the network", e)
	}
	part := file + ".part"
	defer os.Remove(part)
	if err := s.Archive.Download(ctx, e, part); err != nil {
		return fault.Wrap(fault.Unreachable, err, "fetching %s", e)
	}
	if err := verify(part, e); err != nil {
		return err
	}
	if err := syncFile(part); err != nil {
		return fault.Wrap(fault.IO, err, "keeping %s", e)
	}
	if err := os.Rename(part, file); err != nil {
		return fault.Wrap(fault.IO, err, "keeping %s", e)
	}
	return fault.Wrap(fault.IO, atomicfile.SyncDir(s.Dir), "keeping %s", e)
}

func syncFile(file string) error {
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// verify compares a file with the entry's digest.
func verify(file string, e Entry) error {
	f, err := os.Open(file)
	if err != nil {
		return fault.Wrap(fault.IO, err, "verifying %s", e)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, io.LimitReader(f, e.Size+1)); err != nil {
		return fault.Wrap(fault.IO, err, "verifying %s", e)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != e.SHA256 {
		return fault.New(fault.Digest, "verifying %s: the file's SHA-256 is %s, the lock says %s", e, got, e.SHA256)
	}
	return nil
}

// Replacement reports that the pinned packages of a request were replaced because some
// have left the archive, or that the request was not pinned at all.
type Replacement struct {
	Request string `json:"request"`       // NAME/ARCH
	Old     string `json:"old,omitempty"` // the first pinned package that is gone; empty if none was pinned
	New     string `json:"new"`           // the package used instead
}

// String is the warning for the user.
func (r Replacement) String() string {
	if r.Old == "" {
		return fmt.Sprintf("parts of %s are not locked: taking %s", r.Request, r.New)
	}
	return fmt.Sprintf("pinned %s has left the archive: taking %s (parts of %s)", r.Old, r.New, r.Request)
}

// Options of [Store.Refresh].
type Options struct {
	// Locked forbids packages other than those that the lock pins.
	Locked bool
	// Target is the name for messages: "mage lock TARGET".
	Target string
	// Progress is called before each file is fetched, from several goroutines; may be
	// nil.
	Progress func(Entry)
}

// Refresh returns the lock to build with: all its packages are available. Pinned packages
// in the download cache are used without any network access. If a package of a request
// has left the archive, or the lock does not have the request, the newest packages of the
// same suite are used, as few as possible: what a request of the same name pins stays. This
// choice is stored in the cache, so that the next build needs no network either. With Locked it is an error of kind Locked instead.
func (s *Store) Refresh(ctx context.Context, lock *Lock, requests []Request, o Options) (*Lock, []Replacement, error) {
	out := lock.clone()
	var replaced []Replacement
	progress := o.Progress
	if progress == nil {
		progress = func(Entry) {}
	}
	for _, r := range requests {
		entries := out.Entries(r)
		gone, err := s.gone(ctx, entries, progress)
		if err != nil && fault.Of(err) == fault.Unreachable && !o.Locked {
			gone, err = s.goneBefore(r, entries, err)
		}
		if err != nil {
			return nil, nil, err
		}
		if len(entries) > 0 && gone == nil {
			continue
		}
		if o.Locked {
			return nil, nil, lockedError(r, gone, o)
		}
		ask, kept := r, []Entry(nil)
		if gone == nil {
			ask, kept = s.partly(ctx, out, r, progress)
		}
		fresh, err := s.substitute(ctx, ask, entries)
		if err != nil {
			return nil, nil, err
		}
		out.replace(r, slices.Concat(kept, fresh))
		replaced = append(replaced, describe(r, gone, fresh))
	}
	return out, replaced, nil
}

// partly returns the request for the packages that a request of the same name does not pin,
// and the pinned packages, if all of those can be had; else the whole request.
func (s *Store) partly(ctx context.Context, lock *Lock, r Request, progress func(Entry)) (Request, []Entry) {
	pinned, missing := lock.pinned(r)
	if len(pinned) == 0 {
		return r, nil
	}
	if gone, err := s.gone(ctx, pinned, progress); err != nil || gone != nil {
		return r, nil
	}
	r.Packages = missing
	return r, pinned
}

func lockedError(r Request, gone *Entry, o Options) error {
	if gone == nil {
		return fault.New(fault.Locked, "parts of %s (%s of %s) are not in the lock: \"mage lock %s\" adds them",
			r.id(), strings.Join(r.Packages, ", "), r.Suite, o.Target)
	}
	return fault.New(fault.Locked, "pinned %s has left the archive: \"mage lock %s\" moves the lock to the newest", gone, o.Target)
}

func describe(r Request, gone *Entry, fresh []Entry) Replacement {
	out := Replacement{Request: r.id(), New: fresh[0].String()}
	if gone != nil {
		out.Old = gone.String()
		for _, e := range fresh {
			if family(e.Package) == family(gone.Package) {
				out.New = e.String()
			}
		}
	}
	return out
}

// family returns a package name without its ABI number: a newer kernel has another name.
func family(name string) string {
	if rest, ok := strings.CutPrefix(name, "linux-image-"); ok {
		if _, flavour, ok := strings.Cut(rest, "-"); ok {
			return "linux-image " + strings.TrimLeft(flavour, "0123456789-")
		}
	}
	return name
}

// parallel is how many files are fetched at once.
const parallel = 4

// gone returns the first entry that is neither in the cache nor in the archive. It
// downloads the others: asking costs as much as fetching, and fetching needs no package
// lists, which may be outdated.
func (s *Store) gone(ctx context.Context, entries []Entry, progress func(Entry)) (*Entry, error) {
	missing := make([]bool, len(entries))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for i, e := range entries {
		if s.Has(e) {
			touch(s.file(e))
			continue
		}
		g.Go(func() error {
			progress(e)
			_, err := s.Get(ctx, e)
			if fault.Of(err) == fault.Missing {
				missing[i] = true
				return nil
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	if i := slices.Index(missing, true); i >= 0 {
		return &entries[i], nil
	}
	return nil, nil
}

// goneBefore replaces gone for an unreachable archive: an earlier build that found a
// pinned package gone has stored its choice of another one in the cache.
func (s *Store) goneBefore(r Request, pinned []Entry, unreachable error) (*Entry, error) {
	memo, err := s.memo(r, pinned)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(pinned, func(e Entry) bool { return !s.Has(e) })
	if i < 0 || s.recall(memo) == nil {
		return nil, unreachable
	}
	return &pinned[i], nil
}

// substitute resolves a request anew, or returns the previous choice if its files are all
// in the cache.
func (s *Store) substitute(ctx context.Context, r Request, pinned []Entry) ([]Entry, error) {
	memo, err := s.memo(r, pinned)
	if err != nil {
		return nil, err
	}
	if kept := s.recall(memo); kept != nil {
		return kept, nil
	}
	if s.Archive == nil {
		return nil, fault.New(fault.Unreachable, "resolving parts of %s: the lock does not have them, and this build may not use the network", r.id())
	}
	fresh, err := s.Archive.Resolve(ctx, r)
	if err != nil {
		return nil, err
	}
	data, err := json.Marshal(fresh)
	if err != nil {
		return nil, fmt.Errorf("keeping the choice for %s: %w", r.id(), err)
	}
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		return nil, fault.Wrap(fault.IO, err, "making the download cache")
	}
	return fresh, fault.Wrap(fault.IO, atomicfile.Write(memo, data, 0o644), "keeping the choice for %s", r.id())
}

// memo returns the file that stores the choice for a request with these pinned packages.
func (s *Store) memo(r Request, pinned []Entry) (string, error) {
	key, err := json.Marshal(struct {
		R Request
		P []Entry
	}{r, pinned})
	if err != nil {
		return "", fmt.Errorf("naming the choice for %s: %w", r.id(), err)
	}
	sum := sha256.Sum256(key)
	return filepath.Join(s.Dir, hex.EncodeToString(sum[:])+".choice"), nil
}

func (s *Store) recall(memo string) []Entry {
	data, err := os.ReadFile(memo)
	if err != nil {
		return nil
	}
	touch(memo)
	var kept []Entry
	if json.Unmarshal(data, &kept) != nil {
		return nil
	}
	for _, e := range kept {
		if e.check() != nil || !s.Has(e) {
			return nil
		}
	}
	return kept
}

// Resolve resolves all requests to the newest packages of the archive: what "mage lock"
// writes. Requests are independent: the errors of all failed ones are joined.
func (s *Store) Resolve(ctx context.Context, requests []Request) (*Lock, error) {
	out := &Lock{}
	var all []error
	for _, r := range requests {
		entries, err := s.Archive.Resolve(ctx, r)
		if err != nil {
			all = append(all, err)
			continue
		}
		out.replace(r, entries)
	}
	if err := errors.Join(distinct(all)...); err != nil {
		return nil, fault.Wrap(fault.Of(all[0]), err, "resolving the parts")
	}
	return out, nil
}

// distinct drops errors with the same text as an earlier one: requests of one suite and
// architecture fail in the same way.
func distinct(all []error) []error {
	var out []error
	for _, err := range all {
		if !slices.ContainsFunc(out, func(o error) bool { return o.Error() == err.Error() }) {
			out = append(out, err)
		}
	}
	return out
}
