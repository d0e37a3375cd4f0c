package remote

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/canon"
)

// Client is a client of remotes. It is safe for concurrent use.
type Client struct {
	opt    Options
	web    *http.Client // calls with tokens
	data   *http.Client // signed URLs
	tokens *tokenStore  // nil: not kept

	mu       sync.Mutex
	sessions map[string]*session // by Challenge.Key
	origins  map[string]*session // by origin of calls

	progressMu sync.Mutex
	debugMu    sync.Mutex
}

// New returns a client. Call Close when it is not needed any more.
func New(opt Options) (*Client, error) {
	opt.setDefaults()
	if err := opt.check(); err != nil {
		return nil, err
	}
	c := &Client{opt: opt, sessions: map[string]*session{}, origins: map[string]*session{}}
	c.web, c.data = newHTTP(opt, opt.Insecure), newHTTP(opt, false)
	if opt.ConfigDir != "" {
		c.tokens = newTokens(opt.ConfigDir)
	}
	return c, nil
}

// Close drops idle connections.
func (c *Client) Close() {
	c.web.CloseIdleConnections()
	c.data.CloseIdleConnections()
}

// Reference reads a repository's name with the client's base URL, see
// [parseReference].
func (c *Client) Reference(text string) (Reference, error) {
	return parseReference(text, c.opt.RepoBaseURL)
}

// HTTPClient returns a client for other requests than those of a remote, such as for the
// URL of an export: opt gives proxy, certificates and whether they are verified. Redirects
// do not drop TLS.
func HTTPClient(opt Options) (*http.Client, error) {
	opt.setDefaults()
	if err := opt.check(); err != nil {
		return nil, err
	}
	return newHTTP(opt, opt.Insecure), nil
}

// Environment returns the settings that pvr's variables give ($PVR_HTTP_PROXY and others),
// for programs that have no flags for them: with the tokens that pvr login has stored.
func Environment() Options {
	insecure, _ := strconv.ParseBool(os.Getenv("PVR_INSECURE"))
	return Options{
		BaseURL: os.Getenv("PVR_BASEURL"), RepoBaseURL: os.Getenv("PVR_REPO_BASEURL"),
		ConfigDir: cmp.Or(os.Getenv("PVR_CONFIG_DIR"), DefaultConfigDir()), AccessToken: os.Getenv("PVR_ACCESSTOKEN"),
		Proxy: os.Getenv("PVR_HTTP_PROXY"), Insecure: insecure,
	}
}

// DefaultConfigDir returns ~/.pvr, by the password file when HOME is empty. On Windows the
// home directory is USERPROFILE.
func DefaultConfigDir() string {
	home, err := os.UserHomeDir()
	if err != nil {
		if u, err := user.Current(); err == nil {
			home = u.HomeDir
		}
	}
	return filepath.Join(home, ".pvr")
}

func newHTTP(opt Options, insecure bool) *http.Client {
	proxy, _ := proxyFunc(opt.Proxy)
	return &http.Client{
		CheckRedirect: checkRedirect,
		Transport: &http.Transport{
			Proxy:               proxy,
			DialContext:         (&net.Dialer{Timeout: min(opt.Timeout, 20*time.Second), KeepAlive: 30 * time.Second}).DialContext,
			TLSClientConfig:     &tls.Config{RootCAs: opt.RootCAs, InsecureSkipVerify: insecure, MinVersion: tls.VersionTLS12},
			ForceAttemptHTTP2:   true,
			MaxIdleConnsPerHost: max(opt.Downloads, opt.Uploads),
			IdleConnTimeout:     30 * time.Second,
			// A ranged or counted body must arrive as it is stored.
			DisableCompression: true,
		},
	}
}

var errRedirect = errors.New("unusable redirect")

// checkRedirect follows redirects that keep the method and do not drop TLS.
func checkRedirect(req *http.Request, via []*http.Request) error {
	first := via[0]
	switch {
	case len(via) >= 10:
		return fmt.Errorf("%w: more than %d in a row", errRedirect, len(via))
	case req.Method != first.Method:
		return fmt.Errorf("%w: %s to %s turns %s into %s; name the remote by its final URL",
			errRedirect, shown(first.URL), shown(req.URL), first.Method, req.Method)
	case req.URL.Scheme != "https" && first.URL.Scheme == "https":
		return fmt.Errorf("%w: %s leads to %s, which has no TLS", errRedirect, shown(first.URL), shown(req.URL))
	}
	if origin(req.URL) != origin(first.URL) {
		req.Header.Del("Authorization")
	}
	return nil
}

// call is one request of the API.
type call struct {
	method string
	url    *url.URL
	body   []byte
	ctype  string
	auth   authMode
	token  string // sent as it is with authToken
	once   bool   // not to be repeated once it may have reached the remote
}

// reply is a complete answer.
type reply struct {
	status int
	header http.Header
	body   []byte
	from   *url.URL // the URL that answered, after all redirects
}

// Content types as all tools in use send them.
const (
	jsonType = "application/json; charset=utf-8"
	textType = "text/plain; charset=utf-8"
)

// maxReply bounds a reply of the API, which may hold a state and its envelope.
const maxReply = canon.MaxSize + 1<<20

// do makes a call with the token that it needs, repeats it while that may help, and
// returns the reply if its status is one of those wanted.
func (c *Client) do(ctx context.Context, k *call, want ...int) (*reply, error) {
	r, err := c.authorised(ctx, k)
	if err != nil {
		return nil, err
	}
	for _, status := range want {
		if r.status == status {
			return r, nil
		}
	}
	return nil, statusError(k, r)
}

// repeat makes a call until the answer is final.
func (c *Client) repeat(ctx context.Context, k *call, token string) (*reply, error) {
	var r *reply
	err := c.attempts(ctx, func() (time.Duration, error) {
		var err error
		if r, err = c.once(ctx, k, token); err != nil {
			if k.once && !unheard(err) {
				return stop, err
			}
			return 0, err
		}
		if k.once || !retryStatus(r.status) {
			return stop, nil
		}
		after, _ := retryAfter(r.header)
		return after, errRepeat
	})
	if errors.Is(err, errRepeat) {
		return r, nil
	}
	return r, fault.Wrap(fault.Unreachable, err, "asking %s", shown(k.url))
}

// errRepeat marks a reply that is worth another attempt.
var errRepeat = errors.New("temporary refusal")

// stop, returned by an attempt, makes its error the last one.
const stop = time.Duration(-1)

// attempts calls try until it succeeds, its error is final or stop, or the number of
// attempts is reached. try returns the least time to wait before the next attempt.
func (c *Client) attempts(ctx context.Context, try func() (time.Duration, error)) error {
	backoff := c.opt.Backoff
	for n := 1; ; n++ {
		after, err := try()
		if ctx.Err() != nil && err != nil {
			return context.Cause(ctx)
		}
		if err == nil || after == stop || final(err) {
			return err
		}
		var headway *movedError
		if errors.As(err, &headway) {
			n, backoff = 1, c.opt.Backoff
		}
		if n >= c.opt.Attempts {
			return gaveUp(err, n)
		}
		if err := wait(ctx, max(jitter(backoff), min(after, c.opt.Timeout))); err != nil {
			return err
		}
		backoff = min(2*backoff, 10*time.Second)
	}
}

// movedError is an error after which the next attempt continues at a later offset. Such
// attempts are not counted, because each makes progress.
type movedError struct{ error }

// Unwrap returns the error itself.
func (e *movedError) Unwrap() error { return e.error }

func gaveUp(err error, attempts int) error {
	return fmt.Errorf("giving up after attempt %d: %w", attempts, err)
}

// jitter spreads the retries of clients that were interrupted at the same time.
func jitter(d time.Duration) time.Duration {
	return d*3/4 + rand.N(d/2+1)
}

// unheard reports whether a request cannot have reached the remote.
func unheard(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

func retryAfter(h http.Header) (time.Duration, bool) {
	text := h.Get("Retry-After")
	if n, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(n) * time.Second, true
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, time.Until(at)), true
	}
	return 0, false
}

// once makes one request and reads the whole answer.
func (c *Client) once(ctx context.Context, k *call, token string) (*reply, error) {
	req, err := http.NewRequest(k.method, k.url.String(), bytes.NewReader(k.body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", c.opt.UserAgent)
	if k.ctype != "" {
		req.Header.Set("Content-Type", k.ctype)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := c.send(ctx, c.web, req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := bounded.Read(resp.Body, maxReply)
	if err != nil {
		return nil, fmt.Errorf("reading the answer of %s: %w", shown(k.url), err)
	}
	return &reply{resp.StatusCode, resp.Header, body, resp.Request.URL}, nil
}

// send makes a request and cancels it when its body or the reply's body stalls. The
// caller closes the reply's body.
func (c *Client) send(ctx context.Context, hc *http.Client, req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	g := &guard{timeout: c.opt.Timeout, cancel: cancel, ctx: ctx}
	g.timer = time.AfterFunc(g.timeout, func() { cancel(errStalled) })
	if req.Body != nil && req.Body != http.NoBody {
		req.Body = &guarded{ReadCloser: req.Body, guard: g}
		if getBody := req.GetBody; getBody != nil {
			req.GetBody = func() (io.ReadCloser, error) {
				body, err := getBody()
				return &guarded{ReadCloser: body, guard: g}, err
			}
		}
	}
	start := time.Now()
	resp, err := hc.Do(req.WithContext(ctx))
	if err != nil {
		err = g.explain(bareURLError(err))
		g.end()
		c.trace(req, 0, time.Since(start), err)
		return nil, err
	}
	c.trace(req, resp.StatusCode, time.Since(start), nil)
	g.touch()
	resp.Body = &guarded{ReadCloser: resp.Body, guard: g, last: true}
	return resp, nil
}

// trace writes a line about the request and the reply.
func (c *Client) trace(req *http.Request, status int, took time.Duration, err error) {
	if c.opt.Debug == nil {
		return
	}
	result := strconv.Itoa(status)
	if err != nil {
		result = err.Error()
	}
	c.debugMu.Lock()
	defer c.debugMu.Unlock()
	fmt.Fprintf(c.opt.Debug, "%s %s token=%t length=%d -> %s (%s)\n", req.Method, shown(req.URL),
		req.Header.Get("Authorization") != "", req.ContentLength, result, took.Round(time.Millisecond))
}

// leastMove is the number of bytes that a connection must move within the time-out; one
// that moves fewer has stalled.
const leastMove = 1 << 10

// guard cancels a request that has stalled or nearly so.
type guard struct {
	timeout time.Duration
	moved   atomic.Int64 // bytes since the timer was restarted
	timer   *time.Timer
	ctx     context.Context
	cancel  context.CancelCauseFunc
}

func (g *guard) touch() {
	g.moved.Store(0)
	g.timer.Reset(g.timeout)
}

func (g *guard) count(n int) {
	if g.moved.Add(int64(n)) >= leastMove {
		g.touch()
	}
}

func (g *guard) end() {
	g.timer.Stop()
	g.cancel(context.Canceled)
}

// explain replaces "context canceled" with the reason.
func (g *guard) explain(err error) error {
	if cause := context.Cause(g.ctx); errors.Is(cause, errStalled) {
		return fmt.Errorf("%w for %s", errStalled, g.timeout)
	}
	return err
}

type guarded struct {
	io.ReadCloser
	guard *guard
	last  bool // closing ends the exchange
}

// Read implements io.Reader.
func (b *guarded) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.guard.count(n)
	if err != nil && !errors.Is(err, io.EOF) {
		err = b.guard.explain(err)
	}
	return n, err
}

// Close implements io.Closer.
func (b *guarded) Close() error {
	err := b.ReadCloser.Close()
	if b.last {
		b.guard.end()
	}
	return err
}
