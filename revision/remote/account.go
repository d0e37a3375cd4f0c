package remote

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/canon"
)

// Identity is the account that a token belongs to.
type Identity struct {
	Nick     string
	PRN      string
	Type     string // USER, DEVICE, SESSION, SERVICE or CLIENT
	Endpoint string
	Doc      canon.Value // the Hub's complete answer
}

// String returns the identity in one line.
func (i Identity) String() string { return fmt.Sprintf("%s(%s) at %s", i.Nick, i.PRN, i.Endpoint) }

// StatusURL returns the URL of /auth_status for a login: text itself when it ends in
// /auth_status, otherwise below an authentication endpoint (".../auth") or another base
// URL; an empty text means the Hub of the options.
func (c *Client) StatusURL(text string) (*url.URL, error) {
	if text == "" {
		text = c.opt.BaseURL
	}
	u, err := ParseURL(text)
	if err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "reading login URL %.200q", withoutCredentials(text))
	}
	switch {
	case strings.HasSuffix(u.Path, "/auth_status"):
		return u, nil
	case strings.HasSuffix(u.Path, "/auth"):
		return u.JoinPath("auth_status"), nil
	}
	return u.JoinPath("auth", "auth_status"), nil
}

// Login ensures that there is a user's token for an endpoint (see StatusURL), asking
// for name and password if needed, and returns its identity.
func (c *Client) Login(ctx context.Context, endpoint string) (*Identity, error) {
	u, err := c.StatusURL(endpoint)
	if err != nil {
		return nil, err
	}
	who, err := c.whoAmI(ctx, u, authUser)
	if err == nil && who.PRN == anonymousAccount && c.opt.AccessToken == "" {
		return c.relogin(ctx, u)
	}
	return who, err
}

// relogin replaces an anonymous token, which does not count as a login.
func (c *Client) relogin(ctx context.Context, u *url.URL) (*Identity, error) {
	c.mu.Lock()
	s := c.origins[origin(u)]
	c.mu.Unlock()
	s.mu.Lock()
	token, err := c.promptedToken(ctx, s, authUser, true)
	if err == nil && token == "" {
		err = fault.New(fault.BadInput, "logging in at %s: %w", s.challenge.Endpoint, ErrAuth)
	}
	if err == nil {
		s.token = token
	}
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return c.whoAmI(ctx, u, authKept)
}

func (c *Client) whoAmI(ctx context.Context, u *url.URL, mode authMode) (*Identity, error) {
	r, err := c.do(ctx, &call{method: http.MethodGet, url: u, auth: mode}, http.StatusOK)
	if err != nil {
		return nil, fmt.Errorf("asking who is logged in: %w", err)
	}
	doc, err := canon.First(r.body)
	if err != nil {
		return nil, fault.Wrap(fault.Unreachable, err, "reading the answer of %s", shown(u))
	}
	endpoint := strings.TrimSuffix(u.String(), "/auth_status")
	return &Identity{textMember(doc, "nick"), textMember(doc, "prn"), textMember(doc, "type"), endpoint, doc}, nil
}

// WhoAmI asks every endpoint that has a token for the token's identity. The error joins
// those of the endpoints that refuse; the identities of the others are returned with it.
func (c *Client) WhoAmI(ctx context.Context) ([]Identity, error) {
	if c.tokens == nil {
		return nil, nil
	}
	keys, err := c.tokens.Keys()
	if err != nil {
		return nil, err
	}
	var out []Identity
	var errs []error
	for _, key := range keys {
		endpoint, _, _ := strings.Cut(key, " realm=")
		u, err := ParseURL(endpoint)
		if err != nil {
			errs = append(errs, fault.Wrap(fault.BadInput, err, "reading the key %.200q of %s", key, c.tokens.Path()))
			continue
		}
		who, err := c.whoAmI(ctx, u.JoinPath("auth_status"), authKept)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		out = append(out, *who)
	}
	return out, errors.Join(errs...)
}

// Account is the data of a registration.
type Account struct {
	Email    string `json:"email"`
	Nick     string `json:"nick"` // 3 to 23 characters
	Password string `json:"password"`
}

// Register creates an account. The user completes it in a browser, at the returned
// URL or, when that is empty, at the link that the Hub sends by e-mail. An empty base
// URL means the Hub of the options.
func (c *Client) Register(ctx context.Context, base string, a Account) (finish string, err error) {
	if n := len([]rune(a.Nick)); n < 3 || n > 23 || a.Email == "" || a.Password == "" {
		return "", fault.New(fault.BadInput, "registering: a nick of 3 to 23 characters, an e-mail address and a password are needed")
	}
	u, err := c.StatusURL(base)
	if err != nil {
		return "", err
	}
	body := canon.Obj(
		canon.Member{Name: "email", Value: canon.Str(a.Email)},
		canon.Member{Name: "nick", Value: canon.Str(a.Nick)},
		canon.Member{Name: "password", Value: canon.Str(a.Password)},
	).Encode()
	k := &call{method: http.MethodPost, url: parent(u).JoinPath("accounts"), body: body, ctype: jsonType, auth: authToken, once: true}
	r, err := c.do(ctx, k, http.StatusOK)
	if err != nil {
		return "", fmt.Errorf("registering %s: %w", a.Nick, err)
	}
	doc, err := canon.First(r.body)
	return textMember(doc, "redirect-uri"), fault.Wrap(fault.Unreachable, err, "reading the answer of %s", shown(k.url))
}
