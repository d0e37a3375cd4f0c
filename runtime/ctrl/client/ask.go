package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/revision/canon"
	"github.com/pantavisor/pantavisor/revision/state"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
)

// MaxReply bounds, in bytes, an answer or a state that is held in memory.
const MaxReply = canon.MaxSize

// Refused is the error of an answer other than 200.
type Refused struct {
	Method, Path string
	Status       int
	Body         string        // a [api.Refusal] as JSON, or empty
	RetryAfter   time.Duration // when the server says that the request may succeed later
}

// Error returns the body as it came.
func (r *Refused) Error() string {
	if r.Body == "" {
		return fmt.Sprintf("nothing to do (status %d)", r.Status)
	}
	return r.Body
}

// Text returns what the server says, without the JSON around it; each of its details is a
// line.
func (r *Refused) Text() string {
	var told api.Refusal
	if json.Unmarshal([]byte(r.Body), &told) != nil || told.Error == "" {
		return r.Error()
	}
	return strings.Join(append([]string{told.Error}, told.Details...), "\n  ")
}

// The exit codes of the tools for what the device does not accept (manual: pvcontrol,
// return value).
const (
	exitSpace    = 48
	exitChecksum = 60
	exitStep     = 70
	exitBusy     = 75
	exitUnknown  = 255
)

// ExitCode returns the exit code of a tool that gets this answer.
func (r *Refused) ExitCode() int {
	switch {
	case r.Status == 503:
		return exitBusy
	case strings.Contains(r.Body, "disk space"):
		return exitSpace
	case strings.Contains(r.Body, "bad checksum"):
		return exitChecksum
	case strings.Contains(r.Body, "State verification has failed"), r.Status == 422 && r.Method == "PUT" && strings.HasPrefix(r.Path, "/steps/"):
		return exitStep
	}
	return exitUnknown
}

// Ask sends a request and returns a good answer, which the caller must close. The error
// for another one is a [Refused].
func (c *Client) Ask(ctx context.Context, req *Request) (*Response, error) {
	if err := checkPath(req.Path); err != nil {
		return nil, err
	}
	resp, err := c.Do(ctx, req)
	if err != nil || resp.Status == 200 {
		return resp, err
	}
	defer resp.Close()
	body, err := bounded.Read(resp, MaxReply)
	if err != nil {
		return nil, fmt.Errorf("reading the answer: %w", err)
	}
	seconds, _ := strconv.ParseUint(resp.Get("Retry-After"), 10, 31)
	return nil, &Refused{
		Method: req.method(), Path: req.Path, Status: resp.Status,
		Body: string(body), RetryAfter: time.Duration(seconds) * time.Second,
	}
}

// checkPath rejects names that cannot stand in a request line.
func checkPath(path string) error {
	if strings.ContainsFunc(path, func(c rune) bool { return c <= ' ' || c == 0x7f }) {
		return fmt.Errorf("a name has a space or a control character: %q", path)
	}
	return nil
}

// Send is [Client.Ask] for requests whose answer says no more than that it is good.
func (c *Client) Send(ctx context.Context, req *Request) error {
	resp, err := c.Ask(ctx, req)
	if err != nil {
		return err
	}
	return resp.Close()
}

// Text returns the whole body of the answer to a GET.
func (c *Client) Text(ctx context.Context, path string) ([]byte, error) {
	return c.body(ctx, &Request{Path: path})
}

func (c *Client) body(ctx context.Context, req *Request) ([]byte, error) {
	resp, err := c.Ask(ctx, req)
	if err != nil {
		return nil, err
	}
	defer resp.Close()
	body, err := bounded.Read(resp, MaxReply)
	if err != nil {
		return nil, fmt.Errorf("reading the answer to %s: %w", req.Path, err)
	}
	return body, nil
}

// Fetch decodes the JSON answer to a GET into v.
func (c *Client) Fetch(ctx context.Context, path string, v any) error {
	return c.decode(ctx, &Request{Path: path}, v)
}

// decode decodes the JSON answer to a request into v.
func (c *Client) decode(ctx context.Context, req *Request, v any) error {
	body, err := c.body(ctx, req)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("reading the answer to %s: %w", req.Path, err)
	}
	return nil
}

// WithBody returns a request with a text as its body.
func WithBody(method, path, body string) *Request {
	return &Request{Method: method, Path: path, Body: strings.NewReader(body), Size: int64(len(body))}
}

// WithJSON returns a request whose body is v as JSON.
func WithJSON(method, path string, v any) (*Request, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("writing the request: %w", err)
	}
	r := WithBody(method, path, string(body))
	r.Header = []string{"Content-Type: application/json"}
	return r, nil
}

// Objects returns the size in bytes of every stored object by its SHA-256.
func (c *Client) Objects(ctx context.Context) (map[string]int64, error) {
	var list []api.Object
	if err := c.Fetch(ctx, "/objects", &list); err != nil {
		return nil, err
	}
	have := make(map[string]int64, len(list))
	for _, o := range list {
		size, err := strconv.ParseInt(o.Size, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("reading the size of object %s: %w", o.SHA256, err)
		}
		have[o.SHA256] = size
	}
	return have, nil
}

// PutObject stores size bytes of r as an object. The server hashes them: an error for
// content that differs from sum is a [Refused]. Nothing reads r when PutObject has
// returned, also when the server did not want all of it.
func (c *Client) PutObject(ctx context.Context, r io.Reader, sum string, size int64) error {
	body := &lent{r: r}
	defer body.end()
	req := &Request{Method: "PUT", Path: "/objects/" + sum, Body: body, Size: size}
	if err := c.Send(ctx, req); err != nil {
		return fmt.Errorf("sending object %s: %w", sum, err)
	}
	return nil
}

// Hold keeps the objects of a state, which may be that of an open transaction, from being
// collected as garbage for as long as a week. It replaces an earlier hold of this name. A runtime
// that has no holds answers with status 400.
func (c *Client) Hold(ctx context.Context, name string, doc []byte) error {
	return c.Send(ctx, WithBody("PUT", "/holds/"+name, string(doc)))
}

// Release ends a hold.
func (c *Client) Release(ctx context.Context, name string) error {
	return c.Send(ctx, &Request{Method: "DELETE", Path: "/holds/" + name})
}

// Upload returns a function that stores the objects of a new revision, as [Client.PutObject]
// does. It does not send what the running revision has, unless the device has it with
// another size because its storage is damaged. Other objects on the device are sent again,
// because they are garbage that is due to be collected until somebody sends them.
func (c *Client) Upload(ctx context.Context) func(r io.Reader, sum string, size int64) error {
	var have map[string]int64
	return func(r io.Reader, sum string, size int64) error {
		if have == nil {
			var err error
			if have, err = c.kept(ctx); err != nil {
				return err
			}
		}
		if stored, ok := have[sum]; ok && stored == size {
			return nil
		}
		have[sum] = size
		return c.PutObject(ctx, r, sum, size)
	}
}

// kept returns the sizes of the running revision's objects.
func (c *Client) kept(ctx context.Context) (map[string]int64, error) {
	all, err := c.Objects(ctx)
	if err != nil {
		return nil, err
	}
	doc, err := c.Text(ctx, "/steps/current")
	var none *Refused
	if errors.As(err, &none) && none.Status == 404 {
		return map[string]int64{}, nil
	}
	if err != nil {
		return nil, err
	}
	st, err := state.Parse(doc)
	if err != nil {
		return nil, fmt.Errorf("reading the running revision: %w", err)
	}
	kept := map[string]int64{}
	for _, sum := range st.Sums() {
		if size, ok := all[sum]; ok {
			kept[sum] = size
		}
	}
	return kept, nil
}

// lent is a reader that can be taken back.
type lent struct {
	mu    sync.Mutex
	r     io.Reader
	ended bool
}

// Read implements io.Reader.
func (l *lent) Read(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return 0, io.ErrClosedPipe
	}
	return l.r.Read(p)
}

// end waits for a read in progress.
func (l *lent) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
}
