package remote

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/canon"
)

// Exit codes of the commands that use remotes (manual: pvr): the code of a failed
// transfer depends on the command.
const (
	ExitTransfer = 3 // get, merge, post, remoteinfo, stepinfo, fastcopy
	ExitHub      = 4 // put, putobjects, claim, login, register, whoami, device
)

// ErrAuth is wrapped by the errors for calls that need a login when there is none.
var ErrAuth = errors.New("not logged in; run 'pvr login', or pass --access-token or PVR_ACCESSTOKEN")

// errUntrusted is wrapped by the error for a host that asks for the token of an
// unrelated endpoint.
var errUntrusted = errors.New("the token of this authentication endpoint does not belong to this host")

// errNoToken is wrapped by the error for a login that is answered without a token,
// which happens for a few of the device secrets that a Hub generates.
var errNoToken = errors.New("the login was answered without a token; for a device, register it anew")

// errStalled ends a connection that hardly moves any data.
var errStalled = errors.New("the remote sends nothing more")

// StatusError is a reply that refuses the request.
type StatusError struct {
	Method   string
	URL      string // without query and secrets
	Status   int
	Incident string // number of the Hub's log entry about the reason
	Message  string // the remote's message, if any
}

// Error implements error.
func (e *StatusError) Error() string {
	text := fmt.Sprintf("%s %s: %d %s", e.Method, e.URL, e.Status, http.StatusText(e.Status))
	if e.Message != "" {
		text += ": " + e.Message
	}
	if e.Incident != "" {
		text += " (" + e.Incident + ")"
	}
	return text
}

// NotReadyError is a remote's request to try again later (503 with Retry-After).
type NotReadyError struct{ After time.Duration }

// Error implements error.
func (e *NotReadyError) Error() string {
	return fmt.Sprintf("Endpoint reported %q; retry in: %d seconds", "Not ready", int(e.After.Seconds()))
}

// statusError reads the body of a refusal. Bodies have five forms and may consist of
// two concatenated documents.
func statusError(c *call, r *reply) error {
	e := &StatusError{Method: c.method, URL: shown(c.url), Status: r.status}
	if doc, err := canon.First(r.body); err == nil {
		e.Incident = textMember(doc, "error")
		for _, name := range []string{"msg", "message", "Error"} {
			if e.Message == "" {
				e.Message = textMember(doc, name)
			}
		}
	} else if r.status == http.StatusServiceUnavailable || r.status < 500 {
		e.Message = firstLine(string(r.body))
	}
	if !strings.HasPrefix(e.Incident, "REST-ERR-ID-") && e.Message == "" {
		e.Message, e.Incident = e.Incident, ""
	}
	if after, ok := retryAfter(r.header); ok && r.status == http.StatusServiceUnavailable {
		return fault.New(fault.Unreachable, "%w", &NotReadyError{after})
	}
	return fault.New(kindOf(r.status), "%w", e)
}

func textMember(v canon.Value, name string) string {
	m, _ := v.Get(name)
	text, _ := m.Text()
	return firstLine(text)
}

// firstLine shortens a foreign text, so that it cannot fill or control a terminal.
func firstLine(text string) string {
	text, _, _ = strings.Cut(strings.TrimSpace(text), "\n")
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, text)
	return fmt.Sprintf("%.200s", text)
}

func kindOf(status int) fault.Kind {
	switch {
	case status == http.StatusNotFound || status == http.StatusGone:
		return fault.Missing
	case status >= 500 || retryStatus(status):
		return fault.Unreachable
	}
	return fault.BadInput
}

// retryStatus reports whether the same request may succeed later.
func retryStatus(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests,
		http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// final reports whether a transport error will occur again on the next attempt.
func final(err error) bool {
	var (
		cert    *tls.CertificateVerificationError
		unknown x509.UnknownAuthorityError
		record  tls.RecordHeaderError
		dns     *net.DNSError
	)
	switch {
	case errors.Is(err, errRedirect), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, errStalled):
		return true
	case errors.As(err, &cert), errors.As(err, &unknown), errors.As(err, &record):
		return true
	}
	return errors.As(err, &dns) && dns.IsNotFound
}

// shown returns a URL for messages: without query and user name, and without the long
// path elements that are tokens.
func shown(u *url.URL) string {
	elems := strings.Split("/"+strings.TrimPrefix(u.EscapedPath(), "/"), "/")
	for i, e := range elems {
		if len(e) > 100 {
			elems[i] = e[:12] + "..."
		}
	}
	return u.Scheme + "://" + u.Host + strings.Join(elems, "/")
}

func isAddress(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}
