package remote

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/canon"
	"github.com/pantavisor/pantavisor/revision/state"
)

// Info is a repository's description, .pvrremote.
type Info struct {
	StateURL   *url.URL // "json-get-url"
	ObjectsURL *url.URL // "objects-endpoint", without a slash at the end
	PostURL    *url.URL // "post-url"; nil if nothing can be posted
	StepURL    *url.URL // "step-get-url", else StateURL without its last element
	StateKey   string   // "json-key": the state's member in a post, "post" if it is empty
	Doc        canon.Value
}

// RemoteInfo reads the description of a remote repository.
func (c *Client) RemoteInfo(ctx context.Context, ref Reference) (*Info, error) {
	if ref.URL == nil {
		return nil, fault.New(fault.BadInput, "reading repository %s: it is on this machine, a remote is expected", ref.Path)
	}
	info, err := c.remoteInfo(ctx, ref.URL)
	return info, c.result(Event{Phase: PhaseInfo, Name: ref.URL.String()}, err)
}

func (c *Client) remoteInfo(ctx context.Context, repo *url.URL) (*Info, error) {
	doc, base, err := c.getDocument(ctx, repo.JoinPath(".pvrremote"))
	if err != nil {
		return nil, fmt.Errorf("reading the description of %s: %w", shown(repo), err)
	}
	info, err := readInfo(doc, base)
	return info, fault.Wrap(fault.Unreachable, err, "reading the description of %s", shown(repo))
}

// getDocument reads JSON that an anonymous user may see.
func (c *Client) getDocument(ctx context.Context, u *url.URL) (canon.Value, *url.URL, error) {
	r, err := c.do(ctx, &call{method: http.MethodGet, url: u, auth: authRead}, http.StatusOK)
	if err == nil {
		err = c.checkLanding(u, r.from)
	}
	if err != nil {
		return canon.Value{}, nil, err
	}
	doc, err := canon.First(r.body)
	return doc, u, fault.Wrap(fault.Unreachable, err, "reading the answer of %s", shown(u))
}

// checkLanding rejects a redirect to another host while there is an access token: it is
// sent with every call to the URLs that a description names, and the user gave it to
// the original host only.
func (c *Client) checkLanding(u, from *url.URL) error {
	if c.opt.AccessToken == "" || related(from, u) || c.configured(u) && c.configured(from) {
		return nil
	}
	return fault.New(fault.BadInput, "asking %s: %w: it leads to %s, which would get the access token; name the remote by its final URL",
		shown(u), errRedirect, shown(from))
}

func readInfo(doc canon.Value, base *url.URL) (*Info, error) {
	if doc.Kind() != canon.Object {
		return nil, fmt.Errorf("an object is expected, not a value of type %s; is this the URL of a repository?", doc.Kind())
	}
	info := &Info{Doc: doc, StateKey: "post"}
	if key, _ := doc.Get("json-key"); key.Kind() == canon.String {
		if text, _ := key.Text(); text != "" {
			info.StateKey = text
		}
	}
	var err error
	if info.StateURL, err = memberURL(doc, "json-get-url", base); err != nil {
		return nil, err
	}
	if info.ObjectsURL, err = memberURL(doc, "objects-endpoint", base); err != nil {
		return nil, err
	}
	info.PostURL, _ = memberURL(doc, "post-url", base)
	if info.StepURL, err = memberURL(doc, "step-get-url", base); err != nil {
		info.StepURL = parent(info.StateURL)
	}
	return info, nil
}

func memberURL(doc canon.Value, name string, base *url.URL) (*url.URL, error) {
	v, _ := doc.Get(name)
	text, ok := v.Text()
	if !ok || text == "" {
		return nil, fmt.Errorf("%q is missing; is this the URL of a repository?", name)
	}
	rel, err := url.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%q is %.200q: %w", name, text, bareURLError(err))
	}
	u, err := ParseURL(base.ResolveReference(rel).String())
	if err != nil {
		return nil, fmt.Errorf("%q is %.200q: %w", name, text, err)
	}
	return u, nil
}

func parent(u *url.URL) *url.URL {
	up := *u
	up.Path, _ = cutLast(u.Path)
	up.RawPath, _ = cutLast(u.RawPath)
	return &up
}

// State reads the state of a repository; numbers keep all their digits.
func (c *Client) State(ctx context.Context, info *Info) (*state.State, error) {
	st, err := c.readState(ctx, info.StateURL)
	return st, c.result(Event{Phase: PhaseState, Name: info.StateURL.String()}, err)
}

func (c *Client) readState(ctx context.Context, u *url.URL) (*state.State, error) {
	r, err := c.do(ctx, &call{method: http.MethodGet, url: u, auth: authRead}, http.StatusOK)
	if err != nil {
		return nil, fmt.Errorf("reading the state of the remote: %w", err)
	}
	st, err := state.Parse(r.body)
	if err != nil {
		return nil, fault.Wrap(fault.Unreachable, err, "reading the state at %s", shown(u))
	}
	if st.Spec() == "" && isRefusal(st) {
		return nil, fault.New(fault.Unreachable, "reading the state at %s: %w: it is an error report", shown(u), state.ErrFormat)
	}
	return st, nil
}

// isRefusal reports whether a reply with status 200 is an error report and not a state.
func isRefusal(st *state.State) bool {
	for _, name := range []string{"error", "Error"} {
		if v, ok := st.Value(name); ok && v.Kind() == canon.String {
			return len(st.Objects()) == 0
		}
	}
	return false
}

// StepInfo reads the step that a reference names, the latest if it names none:
// its state with message, progress and times.
func (c *Client) StepInfo(ctx context.Context, ref Reference) (canon.Value, error) {
	info, err := c.RemoteInfo(ctx, ref)
	if err != nil {
		return canon.Value{}, err
	}
	doc, _, err := c.getDocument(ctx, info.StepURL)
	if err != nil {
		return canon.Value{}, fmt.Errorf("reading step %s: %w", shown(info.StepURL), err)
	}
	return doc, nil
}

// objectURL returns the URL of an object's record.
func (i *Info) objectURL(sum string) *url.URL { return i.ObjectsURL.JoinPath(sum) }

// announceURL returns the URL where objects are announced. It ends in a slash, because a
// redirected POST would turn into a GET.
func announceURL(endpoint *url.URL) *url.URL {
	u := *endpoint
	u.Path = strings.TrimRight(u.Path, "/") + "/"
	if u.RawPath != "" {
		u.RawPath = strings.TrimRight(u.RawPath, "/") + "/"
	}
	return &u
}
