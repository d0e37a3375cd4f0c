package remote

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/net/publicsuffix"
)

// Challenge is the demand of a reply 401: a token of an authentication endpoint for a
// realm.
type Challenge struct {
	Realm    string
	Endpoint string // base URL; "/login" below it issues tokens
}

// Key returns the name of the challenge's token in auth.json.
func (c Challenge) Key() string { return c.Endpoint + " realm=" + c.Realm }

// maxChallenge bounds the length of the header.
const maxChallenge = 8 << 10

// parseChallenge reads one WWW-Authenticate header (RFC 9110, section 11.6.1) of
// the scheme JWT or Bearer with the parameters realm and ph-aeps. Of several
// endpoints in ph-aeps the first counts.
func parseChallenge(header string) (Challenge, error) {
	if len(header) > maxChallenge {
		return Challenge{}, fmt.Errorf("reading WWW-Authenticate: %d bytes, at most %d are allowed", len(header), maxChallenge)
	}
	scheme, rest, _ := strings.Cut(strings.TrimSpace(header), " ")
	if !strings.EqualFold(scheme, "JWT") && !strings.EqualFold(scheme, "Bearer") {
		return Challenge{}, fmt.Errorf("reading WWW-Authenticate: scheme %.40q is not JWT or Bearer", scheme)
	}
	params, err := parseParams(rest)
	if err != nil {
		return Challenge{}, fmt.Errorf("reading WWW-Authenticate: %w", err)
	}
	endpoint, _, _ := strings.Cut(params["ph-aeps"], ",")
	if _, err := ParseURL(strings.TrimSpace(endpoint)); err != nil {
		return Challenge{}, fmt.Errorf("reading WWW-Authenticate: endpoint %.200q: %w", endpoint, err)
	}
	return Challenge{Realm: params["realm"], Endpoint: strings.TrimRight(strings.TrimSpace(endpoint), "/")}, nil
}

// parseParams reads name=value and name="value", separated by commas and white space.
// Names are returned in lower case; the first of equal names counts.
func parseParams(text string) (map[string]string, error) {
	params := map[string]string{}
	for {
		text = strings.TrimLeft(text, " \t,")
		if text == "" {
			return params, nil
		}
		name, rest, ok := strings.Cut(text, "=")
		name = strings.ToLower(strings.TrimSpace(name))
		if !ok || name == "" || strings.ContainsAny(name, " \t,\"") {
			return nil, fmt.Errorf("parameter %.40q has no value", name)
		}
		value, after, err := paramValue(strings.TrimLeft(rest, " \t"))
		if err != nil {
			return nil, fmt.Errorf("parameter %.40q: %w", name, err)
		}
		if _, dup := params[name]; !dup {
			params[name] = value
		}
		text = after
	}
}

// paramValue reads a token or a quoted string (RFC 9110, section 5.6.4).
func paramValue(text string) (value, rest string, err error) {
	if !strings.HasPrefix(text, `"`) {
		end := strings.IndexAny(text, " \t,")
		if end < 0 {
			end = len(text)
		}
		return text[:end], text[end:], nil
	}
	var b strings.Builder
	for i := 1; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			return b.String(), text[i+1:], nil
		case c == '\\' && i+1 < len(text):
			i++
			b.WriteByte(text[i])
		default:
			b.WriteByte(c)
		}
	}
	return "", "", fmt.Errorf("the closing quote is missing")
}

// challengeOf returns the first usable challenge of a reply.
func challengeOf(h http.Header) (Challenge, bool) {
	for _, line := range h.Values("WWW-Authenticate") {
		if ch, err := parseChallenge(line); err == nil {
			return ch, true
		}
	}
	return Challenge{}, false
}

// origin returns the part of a URL that a token belongs to.
func origin(u *url.URL) string { return u.Scheme + "://" + strings.ToLower(u.Host) }

// related reports whether a token of an authentication endpoint may go to a host:
// it is the endpoint's own host or has the same registrable domain, and an
// endpoint with TLS does not give its tokens to a host without it.
func related(target, endpoint *url.URL) bool {
	if endpoint.Scheme == "https" && target.Scheme != "https" {
		return false
	}
	a, b := strings.ToLower(target.Hostname()), strings.ToLower(endpoint.Hostname())
	if a == b {
		return true
	}
	da, errA := publicsuffix.EffectiveTLDPlusOne(a)
	db, errB := publicsuffix.EffectiveTLDPlusOne(b)
	return errA == nil && errB == nil && da == db && !isAddress(a) && !isAddress(b)
}
