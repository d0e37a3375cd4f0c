package remote

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/canon"
)

// authMode selects the tokens that a call may use.
type authMode int

const (
	authUser  authMode = iota // a user's token, asked for if needed
	authRead                  // an anonymous token will do
	authKept                  // a kept or refreshed token, or nothing
	authToken                 // call.token, whatever the answer
)

// anonymousAccount may read what is public.
const anonymousAccount = "prn:pantahub.com:auth:/anon"

const anonymousScope = "devices.readonly objects.readonly trails.readonly"

// maxPrompts bounds the password prompts of a login, maxRounds the attempts of a call
// that is refused with every token.
const (
	maxPrompts = 3
	maxRounds  = 8
)

// session is the login state of one endpoint and realm. Its lock is held while a token
// is obtained, so that parallel calls cause one login.
type session struct {
	mu        sync.Mutex
	challenge Challenge
	token     string
	rejected  map[string]bool // tokens that were refused
	refreshed map[string]bool // tokens that were refreshed, or could not be
	anonymous string          // the token for reading, if one was asked for
	tried     bool            // whether it was asked for
	prompts   int
}

// authorised makes a call and repeats it with other tokens until it is accepted or no
// token is left.
func (c *Client) authorised(ctx context.Context, k *call) (*reply, error) {
	if k.auth == authToken {
		return c.repeat(ctx, k, k.token)
	}
	if c.opt.AccessToken != "" {
		return c.repeat(ctx, k, c.opt.AccessToken)
	}
	token := c.tokenFor(k.url)
	for range maxRounds {
		r, err := c.repeat(ctx, k, token)
		if err != nil || r.status != http.StatusUnauthorized && r.status != http.StatusForbidden {
			return r, err
		}
		s, challenged, err := c.sessionFor(k.url, r)
		if err != nil {
			return nil, err
		}
		if s == nil || !challenged && token != "" && !s.isAnonymous(token) {
			return r, nil // who is logged in may not do this
		}
		next, err := c.nextToken(ctx, s, k.auth, token, challenged)
		if errors.Is(err, ErrAuth) && r.status == http.StatusForbidden {
			return r, nil // logged in, but not allowed
		}
		if err != nil {
			return nil, err
		}
		token = next
	}
	return nil, fault.New(fault.BadInput, "asking %s: refused with every token: %w", shown(k.url), ErrAuth)
}

// tokenFor returns the token that calls to the URL's origin were let in with.
func (c *Client) tokenFor(u *url.URL) string {
	c.mu.Lock()
	s := c.origins[origin(u)]
	c.mu.Unlock()
	if s == nil {
		return ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.token
}

// sessionFor returns the session that a refusal names; nil if it names none and the
// origin had none before.
func (c *Client) sessionFor(u *url.URL, r *reply) (s *session, challenged bool, err error) {
	ch, ok := challengeOf(r.header)
	if ok {
		if err := c.checkTrust(u, ch); err != nil {
			return nil, true, err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !ok {
		return c.origins[origin(u)], false, nil
	}
	return c.join(u, ch), true, nil
}

// join returns the session of a challenge and lets the origin use it. The client's
// lock is held.
func (c *Client) join(u *url.URL, ch Challenge) *session {
	s := c.sessions[ch.Key()]
	if s == nil {
		s = &session{challenge: ch, rejected: map[string]bool{}, refreshed: map[string]bool{}}
		c.sessions[ch.Key()] = s
	}
	c.origins[origin(u)] = s
	return s
}

// checkTrust rejects a host that asks for the token of an unrelated endpoint: otherwise
// any repository could collect the tokens of the Hub. The Hub and the repository host
// that the user configured are trusted to belong together.
func (c *Client) checkTrust(u *url.URL, ch Challenge) error {
	endpoint, err := ParseURL(ch.Endpoint)
	if err != nil {
		return err
	}
	if related(u, endpoint) || c.configured(u) && c.configured(endpoint) {
		return nil
	}
	return fault.New(fault.BadInput, "asking %s: %w: it wants one of %s; to allow it set PVR_BASEURL and PVR_REPO_BASEURL, or pass an access token",
		shown(u), errUntrusted, shown(endpoint))
}

func (c *Client) configured(u *url.URL) bool {
	for _, text := range []string{c.opt.BaseURL, c.opt.RepoBaseURL} {
		if base, err := ParseURL(text); err == nil && origin(base) == origin(u) {
			return true
		}
	}
	return false
}

// nextToken returns the next token to try after one was refused.
func (c *Client) nextToken(ctx context.Context, s *session, mode authMode, used string, challenged bool) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if used != "" {
		s.rejected[used] = true
	}
	if s.token != used && s.token != "" && !s.rejected[s.token] {
		return s.token, nil // another call obtained it meanwhile
	}
	for _, source := range []func(context.Context, *session, authMode, bool) (string, error){
		c.keptToken, c.refreshedToken, c.anonymousToken, c.promptedToken,
	} {
		token, err := source(ctx, s, mode, challenged)
		if err != nil {
			return "", err
		}
		if token != "" {
			s.token = token
			return token, nil
		}
	}
	return "", fault.New(fault.BadInput, "logging in at %s (realm=%s): %w", s.challenge.Endpoint, s.challenge.Realm, ErrAuth)
}

func (c *Client) kept(s *session) (Token, error) {
	if c.tokens == nil {
		return Token{}, nil
	}
	return c.tokens.Get(s.challenge.Key())
}

// keptToken returns the token of auth.json. It reads the file again, because another
// command may have refreshed the token.
func (c *Client) keptToken(_ context.Context, s *session, _ authMode, _ bool) (string, error) {
	t, err := c.kept(s)
	if err != nil || s.rejected[t.Access] {
		return "", err
	}
	return t.Access, nil
}

// refreshedToken refreshes an expired token. A refusal without a challenge does not
// mean that the token has expired.
func (c *Client) refreshedToken(ctx context.Context, s *session, _ authMode, challenged bool) (string, error) {
	t, err := c.kept(s)
	old := t.Refresh
	if old == "" {
		old = s.token
	}
	if err != nil || !challenged || old == "" || s.refreshed[old] {
		return "", err
	}
	s.refreshed[old] = true
	u, err := loginURL(s.challenge.Endpoint)
	if err != nil {
		return "", err
	}
	token, err := c.loginCall(ctx, &call{method: http.MethodGet, url: u, auth: authToken, token: old})
	var refused *StatusError
	if errors.Is(err, errNoToken) || errors.As(err, &refused) && refused.Status < 500 {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("refreshing the token: %w", err)
	}
	s.refreshed[token] = token == old
	return token, c.keep(ctx, s, token)
}

func (c *Client) anonymousToken(ctx context.Context, s *session, mode authMode, _ bool) (string, error) {
	if mode != authRead || s.tried {
		return "", nil
	}
	s.tried = true
	token, err := c.login(ctx, s.challenge.Endpoint, Credentials{anonymousAccount, anonymousAccount}, anonymousScope)
	var refused *StatusError
	if errors.As(err, &refused) && refused.Status < 500 {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("logging in to read only: %w", err)
	}
	s.anonymous = token
	return token, c.keep(ctx, s, token)
}

func (c *Client) promptedToken(ctx context.Context, s *session, mode authMode, _ bool) (string, error) {
	if mode == authKept || c.opt.Credentials == nil {
		return "", nil
	}
	for s.prompts < maxPrompts {
		s.prompts++
		who, err := c.opt.Credentials(ctx, s.challenge)
		if err != nil {
			return "", fault.Wrap(fault.BadInput, err, "asking for name and password")
		}
		token, err := c.login(ctx, s.challenge.Endpoint, who, "")
		var refused *StatusError
		if errors.As(err, &refused) && refused.Status == http.StatusUnauthorized {
			c.opt.Warn(fmt.Errorf("logging in at %s: name or password is wrong, or the e-mail address is not confirmed yet", s.challenge.Endpoint))
			continue
		}
		if err != nil {
			return "", err
		}
		return token, c.keep(ctx, s, token)
	}
	return "", nil
}

// keep stores a token. A failure is only a warning: the token can be used all the same.
func (c *Client) keep(ctx context.Context, s *session, token string) error {
	if c.tokens == nil {
		return nil
	}
	if err := c.tokens.Put(ctx, s.challenge.Key(), token); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		c.opt.Warn(err)
	}
	return nil
}

func loginURL(endpoint string) (*url.URL, error) {
	u, err := ParseURL(endpoint)
	if err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "reading authentication endpoint %.200q", endpoint)
	}
	return u.JoinPath("login"), nil
}

// login exchanges a name and password for a token.
func (c *Client) login(ctx context.Context, endpoint string, who Credentials, scope string) (string, error) {
	u, err := loginURL(endpoint)
	if err != nil {
		return "", err
	}
	members := []canon.Member{{Name: "username", Value: canon.Str(who.Username)}, {Name: "password", Value: canon.Str(who.Password)}}
	if scope != "" {
		members = append(members, canon.Member{Name: "scope", Value: canon.Str(scope)})
	}
	k := &call{method: http.MethodPost, url: u, body: canon.Obj(members...).Encode(), ctype: jsonType, auth: authToken}
	return c.loginCall(ctx, k)
}

func (c *Client) loginCall(ctx context.Context, k *call) (string, error) {
	r, err := c.do(ctx, k, http.StatusOK)
	if err != nil {
		return "", fmt.Errorf("logging in: %w", err)
	}
	doc, err := canon.First(r.body)
	if err != nil {
		return "", fault.Wrap(fault.Unreachable, err, "reading the answer to the login")
	}
	token, _ := doc.Get("token")
	if text, _ := token.Text(); text != "" && strings.IndexFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }) < 0 {
		return text, nil
	}
	return "", fault.New(fault.BadInput, "logging in at %s: %w", shown(k.url), errNoToken)
}

func (s *session) isAnonymous(token string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return token == s.anonymous || isAnonymous(token)
}

// isAnonymous reports whether a token (a JWT) belongs to the anonymous account. It does
// not verify the token: the Hub does.
func isAnonymous(token string) bool {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return false
	}
	claims, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return false
	}
	doc, err := canon.First(claims)
	return err == nil && textMember(doc, "prn") == anonymousAccount
}
