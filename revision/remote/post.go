package remote

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/canon"
	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/revision/state"
)

// NextRevision lets the remote number a revision.
const NextRevision = -1

// PostOptions are sent along with a state.
type PostOptions struct {
	// Message is the revision's commit message; empty for none.
	Message string
	// Revision is its number, NextRevision for the next one; 0 leaves the
	// member out.
	Revision int
	// Envelope is a JSON object whose members are sent along; empty for none.
	Envelope string
	// Force also sends objects that the remote already has.
	Force bool
}

// Posted is a remote's receipt for a revision.
type Posted struct {
	// Revision is its number as text, or the name of a local revision.
	Revision string
	StateSum string // SHA-256 of the state as the remote keeps it, hexadecimal
	Trail    string // the device's id
	Doc      canon.Value
}

// String describes what was posted in one line.
func (p *Posted) String() string {
	return fmt.Sprintf("Successfully posted Revision %s (%.8s) to device id %s", p.Revision, p.StateSum, p.Trail)
}

// Post makes a state the newest revision of a remote. Objects that its current
// state names are not announced again.
func (c *Client) Post(ctx context.Context, ref Reference, st *state.State, store *objects.Store, opt PostOptions) (*Posted, error) {
	if _, err := envelope(opt.Envelope); err != nil {
		return nil, err
	}
	info, err := c.sync(ctx, ref, st, store, opt.Force)
	if err != nil {
		return nil, err
	}
	return c.PostState(ctx, info, st, opt)
}

// Put replaces the state of a remote's current revision.
func (c *Client) Put(ctx context.Context, ref Reference, st *state.State, store *objects.Store, force bool) error {
	info, err := c.sync(ctx, ref, st, store, force)
	if err != nil {
		return err
	}
	k := &call{method: http.MethodPut, url: info.StateURL, body: st.Encode(), ctype: jsonType}
	_, err = c.do(ctx, k, http.StatusOK)
	if err != nil {
		err = fmt.Errorf("replacing the state of %s: %w", ref, err)
	}
	return c.result(Event{Phase: PhasePost, Name: ref.String()}, err)
}

// sync sends a remote the objects of a state that the remote's state does not name.
func (c *Client) sync(ctx context.Context, ref Reference, st *state.State, store *objects.Store, force bool) (*Info, error) {
	info, err := c.RemoteInfo(ctx, ref)
	if err != nil {
		return nil, err
	}
	baseline, err := c.State(ctx, info)
	if err != nil {
		return nil, err
	}
	known := map[string]bool{}
	for _, sum := range baseline.Sums() {
		known[sum] = true
	}
	var list []state.Object
	for _, o := range st.Objects() {
		if !known[o.Sum] {
			list = append(list, o)
		}
	}
	_, err = c.PutObjects(ctx, info.ObjectsURL, list, store, force)
	return info, err
}

// PostState posts a state whose objects the remote holds.
func (c *Client) PostState(ctx context.Context, info *Info, st *state.State, opt PostOptions) (*Posted, error) {
	posted, err := c.postState(ctx, info, st, opt)
	if err != nil {
		err = fmt.Errorf("posting the state: %w", err)
	}
	return posted, c.result(Event{Phase: PhasePost}, err)
}

func (c *Client) postState(ctx context.Context, info *Info, st *state.State, opt PostOptions) (*Posted, error) {
	if info.PostURL == nil {
		return nil, fault.New(fault.Unsupported, "the remote names no post-url")
	}
	body, err := postBody(info.StateKey, st, opt)
	if err != nil {
		return nil, err
	}
	k := &call{method: http.MethodPost, url: info.PostURL, body: body, ctype: textType, once: true}
	var r *reply
	err = c.attempts(ctx, func() (time.Duration, error) {
		r, err = c.do(ctx, k, http.StatusOK)
		var refused *StatusError
		if errors.As(err, &refused) && refused.Status == http.StatusInternalServerError && opt.Revision == NextRevision {
			return 0, err // a concurrent post took the number
		}
		return stop, err
	})
	if err != nil {
		return nil, err
	}
	posted, err := readPosted(r.body)
	return posted, fault.Wrap(fault.Unreachable, err, "reading the receipt of %s", shown(info.PostURL))
}

// envelope reads the members that are sent along with a state.
func envelope(text string) ([]canon.Member, error) {
	if text == "" {
		return nil, nil
	}
	v, err := canon.Parse([]byte(text))
	if err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "reading the envelope")
	}
	if v.Kind() != canon.Object {
		return nil, fault.New(fault.BadInput, "reading the envelope: an object is expected, not a value of type %s", v.Kind())
	}
	return v.Members(), nil
}

func postBody(key string, st *state.State, opt PostOptions) ([]byte, error) {
	given, err := envelope(opt.Envelope)
	if err != nil {
		return nil, err
	}
	// Of members with the same name the last counts.
	members := append([]canon.Member(nil), given...)
	if opt.Message != "" {
		members = append(members, canon.Member{Name: "commit-msg", Value: canon.Str(opt.Message)})
	}
	if opt.Revision != 0 {
		rev, err := canon.First([]byte(strconv.Itoa(opt.Revision)))
		if err != nil {
			return nil, fault.Wrap(fault.Internal, err, "encoding the revision")
		}
		members = append(members, canon.Member{Name: "rev", Value: rev})
	}
	doc, err := canon.First(st.Encode())
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "encoding the state")
	}
	return canon.Obj(append(members, canon.Member{Name: key, Value: doc})...).Encode(), nil
}

func readPosted(body []byte) (*Posted, error) {
	doc, err := canon.First(body)
	if err != nil {
		return nil, err
	}
	p := &Posted{Doc: doc, StateSum: textMember(doc, "state-sha"), Trail: textMember(doc, "trail-id")}
	rev, _ := doc.Get("rev")
	p.Revision, _ = rev.Number()
	if p.Revision == "-1" {
		p.Revision = textMember(doc, "revlocal")
	}
	var errs []error
	for name, text := range map[string]string{"rev": p.Revision, "state-sha": p.StateSum, "trail-id": p.Trail} {
		if text == "" {
			errs = append(errs, fmt.Errorf("%q is missing", name))
		}
	}
	return p, errors.Join(errs...)
}
