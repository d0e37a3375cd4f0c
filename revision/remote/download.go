package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/revision/state"
)

// Fetched is the result of Get.
type Fetched struct {
	Info  *Info
	State *state.State // the whole state of the remote, whatever the fragment selects
	// Objects counts the objects that were downloaded.
	Objects int
}

// GetOptions control which objects [Client.Get] fetches.
type GetOptions struct {
	// Merge also fetches the objects of parts that the fragment drops, because a merge
	// drops them from the local state only.
	Merge bool
	// Trust assumes that the objects of the store are undamaged, without reading them.
	Trust bool
}

// Get reads a remote's state and fetches those objects of the parts that the reference
// selects which are missing or damaged in the store. Objects that arrived are kept when
// others fail.
func (c *Client) Get(ctx context.Context, ref Reference, store *objects.Store, opt GetOptions) (*Fetched, error) {
	info, err := c.RemoteInfo(ctx, ref)
	if err != nil {
		return nil, err
	}
	st, err := c.State(ctx, info)
	if err != nil {
		return nil, err
	}
	n, err := c.Fetch(ctx, info, wanted(st, ref.Fragment, opt.Merge), store, opt.Trust)
	return &Fetched{info, st, n}, err
}

// wanted returns the objects that a fragment selects.
func wanted(st *state.State, f state.Fragment, merge bool) []state.Object {
	if len(f.Take) > 0 {
		st = st.Select(f.Take...)
	}
	if !merge && len(f.Drop) > 0 {
		st = st.Without(f.Drop...)
	}
	return st.Objects()
}

// Fetch downloads objects of a repository that the store lacks and returns their number.
// Unless trust is set it reads the objects of the store to find damaged ones.
func (c *Client) Fetch(ctx context.Context, info *Info, list []state.Object, store *objects.Store, trust bool) (int, error) {
	missing, err := c.missing(ctx, unique(list), store, trust)
	if err != nil {
		return 0, err
	}
	records := make([]*record, len(missing))
	err = parallel(ctx, c.opt.Downloads, len(missing), func(ctx context.Context, i int) error {
		var err error
		records[i], err = c.record(ctx, info, missing[i].Sum, missing[i].Path)
		return c.result(Event{Phase: PhaseObject, Path: missing[i].Path, Sum: missing[i].Sum}, err)
	})
	if err != nil {
		return 0, err
	}
	m := c.meter(PhaseDownload, totalSize(records))
	done := make([]bool, len(missing))
	err = parallel(ctx, c.opt.Downloads, len(missing), func(ctx context.Context, i int) error {
		err := c.download(ctx, info, missing[i], records[i], store, m)
		done[i] = err == nil
		return err
	})
	return count(done), err
}

func totalSize(records []*record) int64 {
	var sum int64
	for _, r := range records {
		sum += max(r.size, 0)
	}
	return sum
}

func count(list []bool) int {
	n := 0
	for _, b := range list {
		if b {
			n++
		}
	}
	return n
}

// unique returns each object once, with the first of its paths.
func unique(list []state.Object) []state.Object {
	seen := map[string]bool{}
	var out []state.Object
	for _, o := range list {
		if !seen[o.Sum] {
			seen[o.Sum] = true
			out = append(out, o)
		}
	}
	return out
}

// missing returns the objects that the store does not hold, or holds damaged.
func (c *Client) missing(ctx context.Context, list []state.Object, store *objects.Store, trust bool) ([]state.Object, error) {
	need := make([]bool, len(list))
	err := parallel(ctx, 4, len(list), func(ctx context.Context, i int) error {
		need[i] = !store.Has(list[i].Sum)
		if need[i] || trust {
			return nil
		}
		err := store.Verify(ctx, list[i].Sum)
		need[i] = errors.Is(err, objects.ErrMismatch)
		if need[i] {
			return nil
		}
		return fault.Wrap(fault.IO, err, "checking %s", list[i].Path)
	})
	var out []state.Object
	for i, o := range list {
		if need[i] {
			out = append(out, o)
			continue
		}
		c.tell(Event{Phase: PhaseDownload, Status: OKCached, Path: o.Path, Sum: o.Sum})
	}
	return out, err
}

// parallel calls work for 0 to n-1, at most limit at a time. The first call ends before
// the others begin, so that they share the login that it caused. The first error ends
// all.
func parallel(ctx context.Context, limit, n int, work func(context.Context, int) error) error {
	if n == 0 {
		return nil
	}
	if err := work(ctx, 0); err != nil {
		return err
	}
	g, within := errgroup.WithContext(ctx)
	g.SetLimit(limit)
	for i := 1; i < n && within.Err() == nil; i++ {
		g.Go(func() error { return work(within, i) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return context.Cause(ctx)
}

// fetch is the download of one object.
type fetch struct {
	c      *Client
	info   *Info
	object state.Object
	rec    *record // nil: to be asked for again
	part   *partial
	bar    *bar
	try    int
	ranged bool // the remote can begin in the middle
	wrong  int  // how often the content was another
}

func (c *Client) download(ctx context.Context, info *Info, o state.Object, rec *record, store *objects.Store, m *meter) error {
	part, err := openPartial(store, o.Sum)
	if err != nil {
		return fault.Wrap(fault.IO, err, "downloading %s", o.Path)
	}
	defer part.close()
	f := &fetch{c: c, info: info, object: o, rec: rec, part: part, bar: m.bar(o.Path, rec.name, o.Sum, rec.size)}
	err = part.load()
	if err == nil {
		f.try = f.bar.set(part.size)
		err = c.attempts(ctx, func() (time.Duration, error) { return f.attempt(ctx) })
	}
	if err != nil {
		err = fault.Wrap(faultOf(err), err, "downloading %s (object %s)", o.Path, o.Sum)
		f.bar.end(Failed, err)
		return err
	}
	f.bar.end(f.status(), nil)
	return nil
}

func faultOf(err error) fault.Kind {
	var write *writeError
	switch {
	case errors.As(err, &write):
		return fault.IO
	case errors.Is(err, objects.ErrMismatch):
		return fault.Digest
	}
	return fault.Unreachable
}

func (f *fetch) status() Status {
	if f.rec != nil && f.rec.link {
		return Linked
	}
	return OK
}

// attempt downloads the missing bytes, verifies the object and gives it its name.
func (f *fetch) attempt(ctx context.Context) (time.Duration, error) {
	if f.rec == nil {
		rec, err := f.c.record(ctx, f.info, f.object.Sum, f.object.Path)
		if err != nil {
			return stop, err
		}
		f.rec = rec
	}
	if f.rec.size > f.c.opt.MaxObject {
		return stop, fault.New(fault.BadInput, "%d bytes; an object has at most %d", f.rec.size, f.c.opt.MaxObject)
	}
	if f.part.size > f.limit() {
		if err := f.restart(); err != nil {
			return stop, err
		}
	}
	fresh := f.part.size == 0
	if fresh || f.rec.size < 0 || f.part.size < f.rec.size {
		if after, err := f.stream(ctx); err != nil {
			return after, err
		}
	}
	if f.part.sum() != f.object.Sum {
		return f.mismatch(fresh)
	}
	return stop, f.part.commit()
}

// mismatch restarts the download after wrong content, because the resumed part may be
// the cause. The second time the remote is at fault.
func (f *fetch) mismatch(fresh bool) (time.Duration, error) {
	err := fmt.Errorf("%w: got %s", objects.ErrMismatch, f.part.sum())
	if e := f.restart(); e != nil {
		return stop, e
	}
	if fresh {
		f.wrong++
	}
	if f.wrong > 1 {
		return stop, err
	}
	return 0, err
}

// limit returns the maximum size of the object in bytes.
func (f *fetch) limit() int64 {
	if f.rec.size < 0 {
		return f.c.opt.MaxObject
	}
	return f.rec.size
}

func (f *fetch) restart() error {
	f.try = f.bar.set(0)
	return f.part.reset()
}

// stream requests the missing bytes and appends them.
func (f *fetch) stream(ctx context.Context) (time.Duration, error) {
	req, err := http.NewRequest(http.MethodGet, f.rec.get.String(), nil)
	if err != nil {
		return stop, err
	}
	req.Header.Set("User-Agent", "PVR client")
	if f.part.size > 0 {
		req.Header.Set("Range", "bytes="+strconv.FormatInt(f.part.size, 10)+"-")
	}
	resp, err := f.c.send(ctx, f.c.data, req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if after, err := f.accept(resp); err != nil {
		return after, err
	}
	before := f.part.size
	if err := f.copy(resp.Body); err != nil {
		var write *writeError
		if errors.As(err, &write) || errors.Is(err, objects.ErrMismatch) {
			return stop, err
		}
		if f.ranged && f.rec.size >= 0 && f.part.size >= before+leastMove {
			err = &movedError{err}
		}
		return 0, err
	}
	return stop, nil
}

// accept adjusts the partial file to the range that the reply holds.
func (f *fetch) accept(resp *http.Response) (time.Duration, error) {
	f.ranged = resp.StatusCode == http.StatusPartialContent || resp.Header.Get("Accept-Ranges") == "bytes"
	switch resp.StatusCode {
	case http.StatusOK:
		if f.part.size > 0 {
			return stop, f.restart()
		}
		return stop, nil
	case http.StatusPartialContent:
		if begins(resp.Header.Get("Content-Range")) == f.part.size {
			return stop, nil
		}
		return 0, errors.Join(errors.New("the remote sent another range than asked for"), f.restart())
	case http.StatusRequestedRangeNotSatisfiable:
		return 0, errors.Join(errors.New("the remote has less than is here"), f.restart())
	}
	err := error(&StatusError{Method: http.MethodGet, URL: shown(f.rec.get), Status: resp.StatusCode})
	if resp.StatusCode == http.StatusForbidden {
		f.rec = nil // the signature has expired
		return 0, err
	}
	if retryStatus(resp.StatusCode) {
		after, _ := retryAfter(resp.Header)
		return after, err
	}
	return stop, fault.Wrap(kindOf(resp.StatusCode), err, "asking for the content")
}

// begins returns the first byte of a Content-Range, -1 if there is none.
func begins(header string) int64 {
	text, _, _ := strings.Cut(strings.TrimPrefix(header, "bytes "), "-")
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return -1
	}
	return n
}

// copyBuffer is the buffer size of one transfer, in bytes.
const copyBuffer = 128 << 10

// copy appends a reply's body up to the object's size.
func (f *fetch) copy(body io.Reader) error {
	body = io.LimitReader(body, f.limit()-f.part.size+1)
	buf := make([]byte, copyBuffer)
	for {
		n, err := body.Read(buf)
		if _, err := f.part.Write(buf[:n]); err != nil {
			return err
		}
		f.bar.moved(f.try, n)
		if err == io.EOF {
			return f.checkSize()
		}
		if err != nil {
			return fmt.Errorf("after %d of %d bytes: %w", f.part.size, f.rec.size, err)
		}
	}
}

func (f *fetch) checkSize() error {
	switch size := f.part.size; {
	case size == f.rec.size || f.rec.size < 0 && size <= f.limit():
		return nil
	case size < f.rec.size:
		return fmt.Errorf("after %d of %d bytes: %w", size, f.rec.size, io.ErrUnexpectedEOF)
	}
	err := fmt.Errorf("%w: more than %d bytes", objects.ErrMismatch, f.limit())
	return errors.Join(err, f.restart())
}
