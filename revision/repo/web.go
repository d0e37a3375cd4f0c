package repo

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/filelock"
	"github.com/pantavisor/pantavisor/revision/archive"
	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/revision/state"
)

// pin stands between the URL of an export and its SHA-256.
const pin = "@sha256:"

// exportURL returns the http or https URL of an export, and the SHA-256 to which the
// user pinned it; ok is false for other names.
func exportURL(name string) (address, sum string, ok bool) {
	address, sum, pinned := strings.Cut(name, pin)
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return "", "", false
	}
	return address, sum, pinned || isArchiveName(u.Path)
}

// Web returns the export that an http or https URL serves, "URL[@sha256:HEX]". It is
// kept in a directory, which is made when it is missing: an interrupted download goes on
// where it was, and one that has not changed on the server is not repeated.
func Web(name, dir string, client *http.Client) (Source, error) {
	address, sum, ok := exportURL(name)
	if !ok {
		return nil, fmt.Errorf("%w: %s: the URL of an export ends in one of %s, or is pinned by %sHEX", errRef, name, strings.Join(archiveNames, ", "), pin)
	}
	if sum != "" && !state.IsSum(sum) {
		return nil, fmt.Errorf("%w: %s: a SHA-256 of 64 lower-case hexadecimal digits is expected behind %s", errRef, name, pin)
	}
	shown, err := url.Parse(address)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errRef, err)
	}
	id := sha256.Sum256([]byte(address))
	return &web{address: address, shown: shown.Redacted(), sum: sum, file: filepath.Join(dir, "export-"+hex.EncodeToString(id[:16])), client: client}, nil
}

// Download downloads the export that a URL serves, see [Web], and returns its file. A
// name that is not such a URL is returned as it is.
func Download(ctx context.Context, name, dir string, client *http.Client) (string, error) {
	if _, _, ok := exportURL(name); !ok {
		return name, nil
	}
	src, err := Web(name, dir, client)
	if err != nil {
		return "", err
	}
	w := src.(*web)
	return w.file, w.with(ctx, func(packed) error { return nil })
}

type web struct {
	address, sum string
	shown        string // the address without its password
	file         string // what arrived; beside it .json with a record, and .lock
	client       *http.Client
}

// arrived is what is known of the file.
type arrived struct {
	Validator string // ETag or Last-Modified (RFC 9110 section 8.8); empty for none
	Complete  bool
	Size      int64 // in bytes, when it is complete
}

// State implements Source.
func (w *web) State(ctx context.Context) (st *state.State, err error) {
	err = w.with(ctx, func(p packed) error {
		st, err = p.State(ctx)
		return err
	})
	return st, err
}

// Pull implements Source.
func (w *web) Pull(ctx context.Context, dst *objects.Store, want func(string) bool) (out *Pulled, err error) {
	err = w.with(ctx, func(p packed) error {
		out, err = p.Pull(ctx, dst, want)
		return err
	})
	return out, err
}

// Bounds of the attempts at a download.
const (
	webAttempts = 5
	webPause    = time.Second // before the second attempt, then longer
)

// with downloads the export and calls do while no other process changes the file.
func (w *web) with(ctx context.Context, do func(packed) error) error {
	if err := os.MkdirAll(filepath.Dir(w.file), 0o700); err != nil {
		return fmt.Errorf("downloading %s: %w", w.shown, err)
	}
	lock, err := filelock.Acquire(ctx, w.file+".lock", filelock.Options{Create: 0o600})
	if err != nil {
		return fmt.Errorf("downloading %s: %w", w.shown, err)
	}
	defer lock.Unlock()
	if err := w.download(ctx); err != nil {
		return fmt.Errorf("downloading %s: %w", w.shown, err)
	}
	err = do(packed{w.file})
	if errors.Is(err, archive.ErrArchive) {
		return errors.Join(err, os.Remove(w.file)) // the next command asks for it again
	}
	return err
}

func (w *web) download(ctx context.Context) error {
	if rec, _ := w.record(); rec.Complete && w.sum != "" && w.verify() == nil {
		return nil // there is nothing to ask the server
	}
	for try := 1; ; try++ {
		again, err := w.attempt(ctx)
		if err == nil {
			return w.verify()
		}
		if !again || try == webAttempts || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Duration(try) * webPause):
		}
	}
}

// attempt asks for the file, or for what is missing of it, and reports whether another
// attempt may help.
func (w *web) attempt(ctx context.Context) (again bool, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.address, nil)
	if err != nil {
		return false, err
	}
	req.Header.Set("Accept-Encoding", "identity") // offsets are those of the file as the server has it
	rec, size := w.record()
	switch {
	case rec.Validator == "":
		size = 0
	case rec.Complete:
		setValidator(req, "If-None-Match", "If-Modified-Since", rec.Validator)
	case size > 0:
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", size))
		req.Header.Set("If-Range", rec.Validator)
	}
	resp, err := w.client.Do(req)
	if err != nil {
		_, untrusted := errors.AsType[*tls.CertificateVerificationError](err)
		return !untrusted, fault.Wrap(fault.Unreachable, err, "asking the server")
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotModified && rec.Complete:
		return false, nil
	case resp.StatusCode == http.StatusPartialContent && strings.HasPrefix(resp.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", size)):
		return true, w.receive(resp, size)
	case resp.StatusCode == http.StatusOK:
		return true, w.receive(resp, 0)
	case resp.StatusCode == http.StatusRequestedRangeNotSatisfiable:
		return true, errors.Join(fault.New(fault.Unreachable, "the server answers %s", resp.Status), os.Remove(w.file))
	}
	return resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests, fault.New(fault.Unreachable, "the server answers %s", resp.Status)
}

func setValidator(req *http.Request, etag, date, validator string) {
	if strings.HasPrefix(validator, `"`) {
		req.Header.Set(etag, validator)
		return
	}
	req.Header.Set(date, validator)
}

// receive writes a reply's body to the file, from an offset. The file is cut before the
// record names another validator, and synced before the record calls it complete: whatever
// a kill or a power cut leaves, bytes of two versions are never joined.
func (w *web) receive(resp *http.Response, offset int64) error {
	rec := arrived{Validator: resp.Header.Get("ETag")}
	if !strings.HasPrefix(rec.Validator, `"`) { // a weak one does not name bytes
		rec.Validator = resp.Header.Get("Last-Modified")
	}
	f, err := os.OpenFile(w.file, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	err = f.Truncate(offset)
	if err == nil {
		err = w.keep(rec)
	}
	if err == nil {
		_, err = f.Seek(offset, io.SeekStart)
	}
	if err == nil {
		rec.Size, err = io.Copy(f, resp.Body)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	rec.Size += offset
	rec.Complete = true
	return w.keep(rec)
}

// verify compares the file with the SHA-256 that it is pinned to; another file is removed.
func (w *web) verify() error {
	if w.sum == "" {
		return nil
	}
	f, err := os.Open(w.file)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != w.sum {
		return errors.Join(fault.New(fault.Digest, "its SHA-256 is %s, not %s", got, w.sum), os.Remove(w.file))
	}
	return nil
}

// maxRecord bounds the record of a download, in bytes.
const maxRecord = 64 << 10

// record returns what is known of the file, and its size; nothing of a complete file that
// has not the size that it had.
func (w *web) record() (rec arrived, size int64) {
	info, err := os.Stat(w.file)
	if err != nil {
		return arrived{}, 0
	}
	text, err := bounded.ReadFile(w.file+".json", maxRecord)
	if err != nil || json.Unmarshal(text, &rec) != nil {
		return arrived{}, 0
	}
	if rec.Complete && rec.Size != info.Size() {
		return arrived{}, 0
	}
	return rec, info.Size()
}

func (w *web) keep(rec arrived) error {
	text, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	return atomicfile.Replace(w.file+".json", text, 0o600)
}
