package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/revision/state"
)

// announcement is the body that asks for the upload URL of a new object. All members
// are sent, as all tools in use do.
type announcement struct {
	ID         string `json:"id"`
	StorageID  string `json:"storage-id"`
	Owner      string `json:"owner"`
	ObjectName string `json:"objectname"`
	Sha256     string `json:"sha256sum"`
	Size       string `json:"size"`
	MimeType   string `json:"mime-type"`
	PutURL     string `json:"signed-puturl"`
	GetURL     string `json:"signed-geturl"`
	Now        string `json:"now"`
	ExpireTime string `json:"expire-time"`
}

// upload is the upload of one object.
type upload struct {
	object state.Object
	size   int64
	rec    *record
	need   bool // the remote lacks the content
}

// PutObjects announces objects at an endpoint and sends those that the remote lacks;
// with force also those that it has, unless they belong to another owner. It returns
// the number of objects sent. All objects are verified before the first is announced;
// the error lists all missing and damaged ones.
func (c *Client) PutObjects(ctx context.Context, endpoint *url.URL, list []state.Object, store *objects.Store, force bool) (int, error) {
	if err := verifyAll(ctx, list, store); err != nil {
		return 0, err
	}
	return c.putObjects(ctx, endpoint, list, store, force)
}

// verifyAll reads all objects and reports every one that is missing or damaged.
func verifyAll(ctx context.Context, list []state.Object, store *objects.Store) error {
	distinct := unique(list)
	errs := make([]error, len(distinct))
	err := parallel(ctx, 4, len(distinct), func(ctx context.Context, i int) error {
		err := store.Verify(ctx, distinct[i].Sum)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			errs[i] = fmt.Errorf("%s: %w", distinct[i].Path, err)
		}
		return nil
	})
	if err != nil {
		return fault.Wrap(fault.IO, err, "checking the objects to send")
	}
	all := errors.Join(errs...)
	kind := fault.Digest
	if errors.Is(all, fs.ErrNotExist) {
		kind = fault.Missing
	}
	if all == nil {
		return nil
	}
	return fault.New(kind, "checking the objects to send: %w", all)
}

func (c *Client) putObjects(ctx context.Context, endpoint *url.URL, list []state.Object, store *objects.Store, force bool) (int, error) {
	announced, err := c.announceAll(ctx, endpoint, list, store, force)
	if err != nil {
		return 0, err
	}
	todo, total := toSend(announced)
	m := c.meter(PhaseUpload, total)
	done := make([]bool, len(todo))
	err = parallel(ctx, c.opt.Uploads, len(todo), func(ctx context.Context, i int) error {
		err := c.upload(ctx, endpoint, todo[i], store, m)
		done[i] = err == nil
		return err
	})
	return count(done), err
}

// announceAll announces every path, including those that share an object, because the
// remote may keep their names.
func (c *Client) announceAll(ctx context.Context, endpoint *url.URL, list []state.Object, store *objects.Store, force bool) ([]*upload, error) {
	first := map[string]int{}
	for i, o := range list {
		if _, ok := first[o.Sum]; !ok {
			first[o.Sum] = i
		}
	}
	out := make([]*upload, len(list))
	err := parallel(ctx, c.opt.Uploads, len(list), func(ctx context.Context, i int) error {
		u := &upload{object: list[i]}
		out[i] = u
		status, err := c.announce(ctx, endpoint, u, store, force)
		e := Event{Phase: PhaseAnnounce, Status: status, Path: u.object.Path, Sum: u.object.Sum, Total: u.size}
		if err != nil {
			return c.result(e, err)
		}
		if first[u.object.Sum] != i {
			e.Status = OKDuplicate
		}
		c.tell(e)
		return nil
	})
	return out, err
}

// announce announces an object; status 409 means that the remote has it.
func (c *Client) announce(ctx context.Context, endpoint *url.URL, u *upload, store *objects.Store, force bool) (Status, error) {
	path, err := store.Path(u.object.Sum)
	if err != nil {
		return Failed, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return Failed, fault.Wrap(fault.Missing, err, "announcing %s", u.object.Path)
	}
	u.size = info.Size()
	body, err := json.Marshal(announcement{ObjectName: u.object.Path, Sha256: u.object.Sum,
		Size: strconv.FormatInt(u.size, 10), MimeType: "application/octet-stream"})
	if err != nil {
		return Failed, fault.Wrap(fault.Internal, err, "announcing %s", u.object.Path)
	}
	k := &call{method: http.MethodPost, url: announceURL(endpoint), body: body, ctype: jsonType}
	r, err := c.do(ctx, k, http.StatusOK, http.StatusConflict)
	if err != nil {
		return Failed, fmt.Errorf("announcing %s (object %s): %w", u.object.Path, u.object.Sum, err)
	}
	return u.answer(r, k.url, force)
}

// answer reads whether and where to send the content.
func (u *upload) answer(r *reply, base *url.URL, force bool) (Status, error) {
	there := r.status == http.StatusConflict
	linked := r.header.Get(objectType) == "link"
	u.need = !there || force && !linked
	status := OK
	if linked {
		status = Linked
	} else if there && !force {
		status = OKCached
	}
	if !u.need {
		return status, nil
	}
	rec, err := readRecord(r, u.object.Sum, base)
	if err == nil && rec.put == nil {
		err = errors.New("the answer has no signed-puturl")
	}
	u.rec = rec
	return status, fault.Wrap(fault.Unreachable, err, "announcing %s (object %s)", u.object.Path, u.object.Sum)
}

// toSend returns the objects that the remote lacks, each once.
func toSend(announced []*upload) (todo []*upload, total int64) {
	seen := map[string]bool{}
	for _, u := range announced {
		if u.need && !seen[u.object.Sum] {
			seen[u.object.Sum] = true
			todo = append(todo, u)
			total += u.size
		}
	}
	return todo, total
}

func (c *Client) upload(ctx context.Context, endpoint *url.URL, u *upload, store *objects.Store, m *meter) error {
	b := m.bar(u.object.Path, "", u.object.Sum, u.size)
	err := c.attempts(ctx, func() (time.Duration, error) {
		after, err := c.transfer(ctx, u, store, b)
		if expired(err) {
			// The signature has expired: ask for a new one, whatever the remote has.
			if _, e := c.announce(ctx, endpoint, u, store, true); e != nil {
				return stop, e
			}
		}
		return after, err
	})
	if err != nil {
		err = fault.Wrap(fault.Unreachable, err, "uploading %s (object %s)", u.object.Path, u.object.Sum)
		b.end(Failed, err)
		return err
	}
	b.end(OK, nil)
	return nil
}

func expired(err error) bool {
	var status *StatusError
	return errors.As(err, &status) && status.Status == http.StatusForbidden
}

// transfer sends the content once.
func (c *Client) transfer(ctx context.Context, u *upload, store *objects.Store, b *bar) (time.Duration, error) {
	if !u.need {
		return stop, nil // it has become a link
	}
	req, err := http.NewRequest(http.MethodPut, u.rec.put.String(), http.NoBody)
	if err != nil {
		return stop, err
	}
	if u.size > 0 {
		req.GetBody = func() (io.ReadCloser, error) {
			f, err := store.Open(u.object.Sum)
			return &counted{f, b, b.set(0)}, err
		}
		if req.Body, err = req.GetBody(); err != nil {
			return stop, fault.Wrap(fault.IO, err, "reading the content")
		}
		req.ContentLength = u.size
	}
	resp, err := c.send(ctx, c.data, req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 8<<10))
	if resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusCreated || resp.StatusCode == http.StatusNoContent {
		return stop, nil
	}
	k := &call{method: http.MethodPut, url: u.rec.put}
	err = statusError(k, &reply{resp.StatusCode, resp.Header, body, resp.Request.URL})
	if retryStatus(resp.StatusCode) || resp.StatusCode == http.StatusForbidden {
		after, _ := retryAfter(resp.Header)
		return after, err
	}
	return stop, err
}

// counted counts the bytes that are read.
type counted struct {
	io.ReadCloser
	b   *bar
	try int
}

// Read implements io.Reader.
func (c *counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.b.moved(c.try, n)
	return n, err
}
