package remote

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/canon"
	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/revision/state"
)

// Summary is a row of the device list.
type Summary struct {
	ID           string    `json:"deviceid"`
	PRN          string    `json:"device"`
	Nick         string    `json:"device-nick"`
	Revision     int64     `json:"revision"`
	Progress     int64     `json:"progress"` // percent
	ProgressRev  int64     `json:"progress-revision"`
	Status       string    `json:"status"`
	Message      string    `json:"status-msg"`
	StateSum     string    `json:"state-sha"`
	Seen         time.Time `json:"timestamp"`
	StepTime     time.Time `json:"step-time"`
	ProgressTime time.Time `json:"progress-time"`
	Address      string    `json:"real-ip"`
	Public       bool      `json:"public"`
}

// api returns a URL below the Hub's base.
func (c *Client) api(elems ...string) (*url.URL, error) {
	u, err := ParseURL(c.opt.BaseURL)
	if err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "reading the base URL %.200q", c.opt.BaseURL)
	}
	escaped := make([]string, len(elems))
	for i, e := range elems {
		escaped[i] = url.PathEscape(e)
	}
	return u.JoinPath(escaped...), nil
}

// Devices lists the user's devices.
func (c *Client) Devices(ctx context.Context) ([]Summary, error) {
	u, err := c.api("trails", "summary")
	if err != nil {
		return nil, err
	}
	r, err := c.do(ctx, &call{method: http.MethodGet, url: u}, http.StatusOK)
	if err != nil {
		return nil, fmt.Errorf("listing devices: %w", err)
	}
	var list []Summary
	err = json.Unmarshal(r.body, &list)
	return list, fault.Wrap(fault.Unreachable, err, "reading the list of devices")
}

// deviceAt returns a device's path and the query that names the nick's owner.
// The name is a nick, an id, or owner/nick.
func (c *Client) deviceAt(name string, below ...string) (*url.URL, error) {
	owner, nick, foreign := strings.Cut(name, "/")
	if !foreign {
		nick, owner = name, ""
	}
	if !isNick(nick) || foreign && !isNick(owner) {
		return nil, fault.New(fault.BadInput, "device %.100q: its nick, its id or owner/nick is expected", name)
	}
	u, err := c.api(append([]string{"devices", nick}, below...)...)
	if err == nil && foreign {
		u.RawQuery = url.Values{"owner-nick": {owner}}.Encode()
	}
	return u, err
}

// Device returns the Hub's record of a device, named by its nick, its id, or owner/nick
// for another user's public device.
func (c *Client) Device(ctx context.Context, name string) (canon.Value, error) {
	u, err := c.deviceAt(name)
	if err != nil {
		return canon.Value{}, err
	}
	doc, err := c.document(ctx, &call{method: http.MethodGet, url: u})
	if err != nil {
		return canon.Value{}, fmt.Errorf("asking for device %s: %w", name, err)
	}
	return doc, nil
}

func (c *Client) document(ctx context.Context, k *call) (canon.Value, error) {
	r, err := c.do(ctx, k, http.StatusOK)
	if err != nil {
		return canon.Value{}, err
	}
	doc, err := canon.First(r.body)
	return doc, fault.Wrap(fault.Unreachable, err, "reading the answer of %s", shown(k.url))
}

// SetDevice changes fields of a device's metadata: with a user's token what the user
// sets for the device ("user-meta"), with a device's token what the device reports
// ("device-meta"). A field without "=VALUE" is set to null. It returns the kind of
// metadata and the Hub's answer, the changed fields.
func (c *Client) SetDevice(ctx context.Context, name string, fields []string) (kind string, doc canon.Value, err error) {
	patch, err := metaPatch(fields)
	if err != nil {
		return "", doc, err
	}
	status, err := c.StatusURL("")
	if err != nil {
		return "", doc, err
	}
	who, err := c.whoAmI(ctx, status, authUser)
	if err != nil {
		return "", doc, err
	}
	kind = "user-meta"
	if who.Type == "DEVICE" {
		kind = "device-meta"
	}
	u, err := c.deviceAt(name, kind)
	if err != nil {
		return "", doc, err
	}
	doc, err = c.document(ctx, &call{method: http.MethodPatch, url: u, body: patch.Encode(), ctype: jsonType})
	if err != nil {
		err = fmt.Errorf("setting %s of device %s: %w", kind, name, err)
	}
	return kind, doc, err
}

func metaPatch(fields []string) (canon.Value, error) {
	var members []canon.Member
	for _, f := range fields {
		key, text, ok := strings.Cut(f, "=")
		if key == "" {
			return canon.Value{}, fault.New(fault.BadInput, "field %.100q: KEY=VALUE or KEY is expected", f)
		}
		m := canon.Member{Name: key}
		if ok {
			m.Value = canon.Str(text)
		}
		members = append(members, m)
	}
	if len(members) == 0 {
		return canon.Value{}, fault.New(fault.BadInput, "setting metadata: at least one KEY=VALUE is expected")
	}
	return canon.Obj(members...), nil
}

// CreateDevice creates a device with a nick (empty lets the Hub choose one) and a
// factory state, and returns the Hub's record of it. The record holds the device's
// secret. When the state cannot be set, the record is returned with the error, because
// the device exists.
func (c *Client) CreateDevice(ctx context.Context, nick string, st *state.State, store *objects.Store) (canon.Value, error) {
	endpoint, err := c.api("objects")
	if err != nil {
		return canon.Value{}, err
	}
	if _, err := c.PutObjects(ctx, endpoint, st.Objects(), store, true); err != nil {
		return canon.Value{}, err
	}
	record, err := c.newDevice(ctx, nick)
	if err != nil {
		return canon.Value{}, fmt.Errorf("creating device %s: %w", nick, err)
	}
	if err := c.firstState(ctx, record, st); err != nil {
		return record, fmt.Errorf("device %s (id %s) was created, but has no state: %w", nick, textMember(record, "id"), err)
	}
	return record, nil
}

func (c *Client) newDevice(ctx context.Context, nick string) (canon.Value, error) {
	u, err := c.api("devices")
	if err != nil {
		return canon.Value{}, err
	}
	body := canon.Obj()
	if nick != "" {
		body = canon.Obj(canon.Member{Name: "nick", Value: canon.Str(nick)})
	}
	return c.document(ctx, &call{method: http.MethodPost, url: announceURL(u), body: body.Encode(), ctype: jsonType, once: true})
}

// firstState creates the trail of a new device, which only the device itself may do.
func (c *Client) firstState(ctx context.Context, record canon.Value, st *state.State) error {
	status, err := c.StatusURL("")
	if err != nil {
		return err
	}
	device := Credentials{textMember(record, "prn"), textMember(record, "secret")}
	token, err := c.login(ctx, parent(status).String(), device, "")
	if err != nil {
		return err
	}
	u, err := c.api("trails")
	if err != nil {
		return err
	}
	k := &call{method: http.MethodPost, url: announceURL(u), body: st.Encode(), ctype: jsonType, auth: authToken, token: token, once: true}
	_, err = c.do(ctx, k, http.StatusOK)
	return err
}

// Claim makes the user the owner of an unowned device. The device is named by its URL,
// nick or id; the challenge is what the device shows (manual: Claim a Device).
func (c *Client) Claim(ctx context.Context, device, challenge string) (canon.Value, error) {
	u, err := c.claimURL(device)
	if err != nil {
		return canon.Value{}, err
	}
	if challenge == "" {
		return canon.Value{}, fault.New(fault.BadInput, "claiming %s: the challenge is missing", device)
	}
	u.RawQuery = url.Values{"challenge": {challenge}}.Encode()
	k := &call{method: http.MethodPut, url: u}
	r, err := c.do(ctx, k, http.StatusOK, http.StatusForbidden)
	if err != nil {
		return canon.Value{}, fmt.Errorf("claiming %s: %w", device, err)
	}
	if r.status == http.StatusForbidden {
		return canon.Value{}, fault.New(fault.BadInput, "claiming %s: the challenge is wrong, or somebody else owns the device: %w", device, statusError(k, r))
	}
	doc, err := canon.First(r.body)
	return doc, fault.Wrap(fault.Unreachable, err, "reading the answer of %s", shown(u))
}

func (c *Client) claimURL(device string) (*url.URL, error) {
	if !strings.Contains(device, "://") {
		return c.deviceAt(device)
	}
	u, err := ParseURL(device)
	return u, fault.Wrap(fault.BadInput, err, "reading device URL %.200q", withoutCredentials(device))
}
