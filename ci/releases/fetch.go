package releases

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/internal/attest"
	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/ctxio"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/filelock"
	"github.com/pantavisor/pantavisor/internal/signing"
)

// Place is where a catalogue is read: a directory, or an address.
type Place struct {
	dir    string   // "" for an address
	base   *url.URL // of the catalogue's file
	client *http.Client

	// open, if not nil, opens files of a store by their names, which are those of files of the
	// catalogue that have a relative address or one that begins with public.
	open   func(ctx context.Context, name string) (io.ReadCloser, int64, error)
	public string
}

// StorePlace returns the place of a catalogue in a store, whose files open opens by their names. Others
// read them at public, "" for relative addresses.
func StorePlace(name, public string, open func(ctx context.Context, name string) (io.ReadCloser, int64, error)) *Place {
	return &Place{dir: name, client: client, open: open, public: public}
}

// stored returns the name that a reference has in the store.
func (p *Place) stored(ref string) (string, bool) {
	if p.open == nil {
		return "", false
	}
	if rest, ok := strings.CutPrefix(ref, p.public+"/"); ok && p.public != "" {
		ref = rest
	}
	u, err := url.Parse(ref)
	if err != nil {
		return "", false
	}
	return strings.TrimPrefix(path.Clean("/"+u.Path), "/"), !u.IsAbs() && u.Host == ""
}

// client gives a server a minute to begin its answer.
var client = func() *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.ResponseHeaderTimeout = time.Minute
	return &http.Client{Transport: t}
}()

// OpenPlace returns the place of a catalogue: the address of releases.json or of its directory, or the
// path of one of them.
func OpenPlace(place string) (*Place, error) {
	if !strings.Contains(place, "://") {
		info, err := os.Stat(place)
		if err != nil {
			return nil, noFile(err, "looking for the catalogue")
		}
		if !info.IsDir() {
			place = filepath.Dir(place)
		}
		return &Place{dir: place, client: client}, nil
	}
	u, err := url.Parse(place)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
		return nil, fault.New(fault.BadInput, "%s is not a catalogue: it must be https://HOST/PATH, or the path of a directory", attest.WithoutPassword(place))
	}
	if path.Ext(u.Path) != ".json" {
		u = u.JoinPath(CatalogueName)
	}
	return &Place{base: u, client: client}, nil
}

// noFile gives an error of opening a file its kind.
func noFile(err error, doing string) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fault.New(fault.Missing, "%s: %w", doing, err)
	}
	return fault.Wrap(fault.IO, err, "%s", doing)
}

// String returns the place without a password.
func (p *Place) String() string {
	if p.dir != "" {
		return p.dir
	}
	return p.base.Redacted()
}

// Catalogue reads the catalogue.
func (p *Place) Catalogue(ctx context.Context) (Catalogue, error) {
	name := CatalogueName
	if p.base != nil {
		name = p.base.String()
	}
	text, err := p.Read(ctx, name, MaxCatalogue)
	if err != nil {
		return nil, fault.Wrap(fault.Unreachable, err, "reading the catalogue of %s", p)
	}
	c, err := ParseCatalogue(text)
	return c, fault.Wrap(fault.BadInput, err, "reading the catalogue of %s", p)
}

// resolve returns where a reference of the catalogue leads: a path of this machine, or an address.
func (p *Place) resolve(ref string) (file, address string, err error) {
	u, err := url.Parse(ref)
	if err != nil {
		return "", "", fault.New(fault.BadInput, "%.200q is not an address", ref)
	}
	if p.dir != "" && !u.IsAbs() {
		name := filepath.FromSlash(u.Path)
		if u.Host != "" || !filepath.IsLocal(name) {
			return "", "", fault.New(fault.BadInput, "%.200q leads out of the directory of the catalogue", ref)
		}
		return filepath.Join(p.dir, name), "", nil
	}
	if p.base != nil {
		u = p.base.ResolveReference(u)
	}
	if u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
		return "", "", fault.New(fault.BadInput, "%.200q is not an address of HTTP", ref)
	}
	return "", u.String(), nil
}

// Open opens what a reference of the catalogue leads to. The size in bytes is -1 when it is not known.
func (p *Place) Open(ctx context.Context, ref string) (io.ReadCloser, int64, error) {
	if name, ok := p.stored(ref); ok {
		return p.open(ctx, name)
	}
	file, address, err := p.resolve(ref)
	if err != nil {
		return nil, 0, err
	}
	if file != "" {
		info, err := os.Stat(file)
		if err != nil {
			return nil, 0, noFile(err, "reading a release")
		}
		if !info.Mode().IsRegular() {
			return nil, 0, fault.New(fault.BadInput, "%s is not a regular file", file)
		}
		f, err := os.Open(file)
		return f, info.Size(), fault.Wrap(fault.IO, err, "reading a release")
	}
	resp, err := p.ask(ctx, http.MethodGet, address, 0)
	if err != nil {
		return nil, 0, err
	}
	return resp.Body, resp.ContentLength, nil
}

// Reach asks whether what a reference leads to is there, without reading it.
func (p *Place) Reach(ctx context.Context, ref string) error {
	if name, ok := p.stored(ref); ok {
		r, _, err := p.open(ctx, name)
		if err != nil {
			return err
		}
		return r.Close()
	}
	file, address, err := p.resolve(ref)
	if err != nil {
		return err
	}
	if file != "" {
		_, err := os.Stat(file)
		return noFile(err, "reading a release")
	}
	resp, err := p.ask(ctx, http.MethodHead, address, 0)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// statusError is the answer of a server that is not good.
type statusError struct{ code int }

func (e *statusError) Error() string {
	return fmt.Sprintf("the server answers %d %s", e.code, http.StatusText(e.code))
}

// ask sends a request for a file from an offset, and returns the good answer.
func (p *Place) ask(ctx context.Context, method, address string, from int64) (*http.Response, error) {
	shown := attest.WithoutPassword(address)
	req, err := http.NewRequestWithContext(ctx, method, address, nil)
	if err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "asking for %s", shown)
	}
	req.Header.Set("Accept-Encoding", "identity") // the digest is that of the file as the server has it
	if from > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", from))
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, fault.Wrap(fault.Unreachable, err, "asking for %s", shown)
	}
	if resp.StatusCode == http.StatusOK || from > 0 && resp.StatusCode == http.StatusPartialContent {
		return resp, nil
	}
	kind := fault.Unreachable
	if resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusGone {
		kind = fault.Missing
	}
	return nil, errors.Join(fault.New(kind, "asking for %s: %w", shown, &statusError{resp.StatusCode}), resp.Body.Close())
}

// Read reads a file of at most limit bytes.
func (p *Place) Read(ctx context.Context, ref string, limit int64) ([]byte, error) {
	r, size, err := p.Open(ctx, ref)
	if err != nil {
		return nil, err
	}
	text, err := bounded.ReadSized(ctxio.Reader(ctx, r), size, limit)
	return text, fault.Wrap(fault.Unreachable, errors.Join(err, r.Close()), "reading %.200s", ref)
}

// ReadLink reads a file of at most limit bytes, and compares its digest.
func (p *Place) ReadLink(ctx context.Context, l *Link, limit int64) ([]byte, error) {
	text, err := p.Read(ctx, l.URL, limit)
	if err != nil {
		return nil, err
	}
	if got := sha256.Sum256(text); hex.EncodeToString(got[:]) != l.SHA256 {
		return nil, fault.New(fault.Digest, "%.200s has the SHA-256 %x, and the catalogue says %.64s", l.URL, got, l.SHA256)
	}
	return text, nil
}

// Index reads the index of a release, which catalogues of other programs do not have. It must be that of the
// device and the version: who changes a catalogue can name an older release there, whose signature is right.
func (p *Place) Index(ctx context.Context, d *Device, version string) (*Index, error) {
	text, err := p.ReadLink(ctx, d.Release, MaxIndex)
	if err != nil {
		return nil, err
	}
	x, err := ParseIndex(text)
	if err == nil && x.Target != d.Name {
		err = fault.New(fault.BadInput, "it is that of %.100q", x.Target)
	}
	if err == nil && x.Version != version {
		err = fault.New(fault.Digest, "it is that of the version %.100q, not of %.100q", x.Version, version)
	}
	return x, fault.Wrap(fault.BadInput, err, "reading the index of %s", d.Name)
}

// Beside returns the reference of a file of a release, whose index has the reference index.
func Beside(index, name string) string {
	u, err := url.Parse(index)
	if err != nil {
		return name
	}
	if !u.IsAbs() && u.Host == "" {
		return (&url.URL{Path: path.Join(path.Dir(u.Path), name)}).EscapedPath()
	}
	return u.ResolveReference(&url.URL{Path: "./" + name}).String()
}

// maxSignature bounds a file with a signature, in bytes.
const maxSignature = 16 << 20

// Verify verifies with a public key that a release was signed with its index, and so all files that
// the index names.
func (p *Place) Verify(ctx context.Context, index *Link, key *signing.Public) (*attest.Verified, error) {
	dir, err := os.MkdirTemp("", "pv-release-")
	if err != nil {
		return nil, fault.Wrap(fault.IO, err, "verifying signatures")
	}
	defer os.RemoveAll(dir)
	text, err := p.ReadLink(ctx, index, MaxIndex)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, IndexName), text, 0o600); err != nil {
		return nil, fault.Wrap(fault.IO, err, "verifying signatures")
	}
	for _, name := range build.SignatureNames() {
		text, err := p.Read(ctx, Beside(index.URL, name), maxSignature)
		if fault.Of(err) == fault.Missing { // which ones must be there, is known to attest
			continue
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), text, 0o600)
		}
		if err != nil {
			return nil, fault.Wrap(fault.IO, err, "reading the signatures")
		}
	}
	v, err := attest.Verify(ctx, dir, IndexName, key)
	return v, fault.Wrap(fault.Digest, err, "verifying the release with the index %.200s", index.URL)
}

// Download is a file that is to be there with its digest.
type Download struct {
	Ref    string // in the catalogue
	Name   string // that the file gets
	SHA256 string
	Bytes  int64 // 0 when it is not known
	// Progress, if not nil, is told how many bytes are there.
	Progress func(done, total int64)
}

// attempts is how often a download is tried, with pauses between.
const attempts = 4

var retryPause = time.Second

// Fetch returns the path of a file with the digest that the catalogue says. A file of this machine is
// where it is; another is downloaded to a directory of its own below dir, or found there. A download
// that was interrupted goes on where it stopped, and begins anew when what is there does not fit.
func (p *Place) Fetch(ctx context.Context, dir string, d Download) (string, error) {
	if !isDigest(d.SHA256) || !validName(d.Name) || strings.Contains(d.Name, "/") {
		return "", fault.New(fault.BadInput, "the catalogue has no SHA-256 or no valid name for %.200q", d.Ref)
	}
	file, address, err := p.resolve(d.Ref)
	if err != nil {
		return "", err
	}
	if file != "" {
		return file, compareFile(ctx, file, d.SHA256)
	}
	own := filepath.Join(dir, d.SHA256)
	if err := os.MkdirAll(own, 0o755); err != nil {
		return "", fault.Wrap(fault.IO, err, "making a directory for downloads")
	}
	lock, err := filelock.Acquire(ctx, filepath.Join(own, ".lock"), filelock.Options{Create: 0o644})
	if err != nil {
		return "", fault.Wrap(fault.IO, err, "locking %s", own)
	}
	defer lock.Unlock()
	to := filepath.Join(own, d.Name)
	now := time.Now()
	_ = os.Chtimes(own, now, now) // it is in use; a file system without times only keeps it for less long
	if compareFile(ctx, to, d.SHA256) == nil {
		return to, nil
	}
	if err := p.download(ctx, address, to+".part", d); err != nil {
		return "", fault.Wrap(fault.Unreachable, err, "downloading %s", d.Name)
	}
	return to, fault.Wrap(fault.IO, os.Rename(to+".part", to), "downloading %s", d.Name)
}

// download downloads a file until it has the digest.
func (p *Place) download(ctx context.Context, address, to string, d Download) error {
	for try := 1; ; try++ {
		resumed, err := p.receive(ctx, address, to, d)
		if err == nil {
			if err = compareFile(ctx, to, d.SHA256); err == nil {
				return nil
			}
			if err2 := os.Remove(to); err2 != nil {
				return errors.Join(err, err2)
			}
			if !resumed { // what the server has is another file
				return err
			}
		}
		var status *statusError
		if try == attempts || ctx.Err() != nil || errors.As(err, &status) && status.code < 500 && status.code != http.StatusTooManyRequests && !resumed {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(time.Duration(try) * retryPause):
		}
	}
}

// receive downloads what is missing of a file, and reports whether something of it was there.
func (p *Place) receive(ctx context.Context, address, to string, d Download) (resumed bool, err error) {
	f, err := os.OpenFile(to, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return false, err
	}
	at, err := f.Seek(0, io.SeekEnd)
	if err == nil && (d.Bytes == 0 || at < d.Bytes || at == 0) {
		err = p.goOn(ctx, address, f, at, d)
	}
	return at > 0, errors.Join(err, f.Close())
}

// goOn appends to a file from an offset, or writes it anew when the server sends all of it.
func (p *Place) goOn(ctx context.Context, address string, f *os.File, at int64, d Download) error {
	resp, err := p.ask(ctx, http.MethodGet, address, at)
	var status *statusError
	if errors.As(err, &status) && status.code == http.StatusRequestedRangeNotSatisfiable {
		return nil // all is there, or more: the digest tells
	}
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusPartialContent || !strings.HasPrefix(resp.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", at)) {
		if resp.StatusCode == http.StatusPartialContent {
			return fault.New(fault.Unreachable, "the server sends another range than it was asked for")
		}
		at = 0
		if err := f.Truncate(0); err != nil {
			return err
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return err
		}
	}
	total := d.Bytes
	if total == 0 && resp.ContentLength >= 0 {
		total = at + resp.ContentLength
	}
	w := &counter{f, at, total, d.Progress}
	limit := int64(1) << 40
	if d.Bytes > 0 {
		limit = d.Bytes - at + 1 // one more shows that it is another file
	}
	_, err = io.Copy(w, io.LimitReader(ctxio.Reader(ctx, resp.Body), limit))
	return err
}

// counter tells how much was written.
type counter struct {
	io.Writer
	done, total int64
	tell        func(done, total int64)
}

// Write implements io.Writer.
func (c *counter) Write(p []byte) (int, error) {
	n, err := c.Writer.Write(p)
	c.done += int64(n)
	if c.tell != nil {
		c.tell(c.done, c.total)
	}
	return n, err
}

// compareFile compares the digest of a file.
func compareFile(ctx context.Context, file, want string) error {
	got, err := build.SumFile(ctx, file)
	if err != nil {
		return noFile(err, "reading a release")
	}
	if got != want {
		return fault.New(fault.Digest, "%s has the SHA-256 %s, and the catalogue says %s", file, got, want)
	}
	return nil
}
