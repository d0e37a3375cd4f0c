package remote

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// Options configure a [Client]. The zero value uses the public Hub and keeps no tokens.
type Options struct {
	// BaseURL is the Hub's API; empty for https://api.pantahub.com.
	BaseURL string
	// RepoBaseURL is where nick/device names are looked up; empty for
	// https://pvr.pantahub.com.
	RepoBaseURL string
	// ConfigDir is the directory of auth.json; when it is empty, tokens are not
	// saved.
	ConfigDir string
	// AccessToken is sent with every call, and nothing else is tried.
	AccessToken string
	// Proxy is "system" (also when empty: HTTP_PROXY, HTTPS_PROXY, NO_PROXY),
	// "no", or a proxy's URL.
	Proxy string
	// Insecure leaves the certificates of API calls unverified. Signed URLs
	// are verified all the same.
	Insecure bool
	// RootCAs are the trusted certificate authorities; nil for the system's.
	RootCAs *x509.CertPool
	// UserAgent is sent with API calls; empty for "pvr". The Hub refuses calls
	// without one.
	UserAgent string

	// Credentials asks the user for a name and password; nil when nobody can
	// be asked. It is called at most three times, and never concurrently for
	// one endpoint.
	Credentials func(context.Context, Challenge) (Credentials, error)
	// Progress is called with each event, by one goroutine at a time. The work
	// waits while it runs.
	Progress func(Event)
	// Warn is called with errors that do not make the work fail.
	Warn func(error)
	// Debug is written one line for each request and reply, without secrets.
	Debug io.Writer

	// Downloads and Uploads bound the parallel transfers; 0 for 4 and 5.
	Downloads, Uploads int
	// Attempts bounds how often a request is made; 0 for 4.
	Attempts int
	// Backoff is the pause before the second attempt, doubled for each further
	// one, varied by a quarter; 0 for 500 ms.
	Backoff time.Duration
	// Timeout bounds the time in which a connection moves no KiB; 0 for 60 s.
	Timeout time.Duration
	// MaxObject bounds the bytes of an object that is downloaded; 0 for no bound but
	// the file system's.
	MaxObject int64
}

// Credentials are what a user logs in with.
type Credentials struct {
	Username string // nick, e-mail or prn
	Password string
}

func (o *Options) setDefaults() {
	setDefault(&o.BaseURL, defaultBaseURL)
	setDefault(&o.RepoBaseURL, defaultRepoBaseURL)
	setDefault(&o.Proxy, "system")
	setDefault(&o.UserAgent, "pvr")
	setDefault(&o.Downloads, 4)
	setDefault(&o.Uploads, 5)
	setDefault(&o.Attempts, 4)
	setDefault(&o.Backoff, 500*time.Millisecond)
	setDefault(&o.Timeout, time.Minute)
	setDefault(&o.MaxObject, 1<<62)
	if o.Progress == nil {
		o.Progress = func(Event) {}
	}
	if o.Warn == nil {
		o.Warn = func(error) {}
	}
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// check validates the settings that come from the user.
func (o *Options) check() error {
	var errs []error
	for name, text := range map[string]string{"base URL": o.BaseURL, "repository base URL": o.RepoBaseURL} {
		if _, err := ParseURL(text); err != nil {
			errs = append(errs, fmt.Errorf("%s %.200q: %w", name, withoutCredentials(text), err))
		}
	}
	if o.Downloads < 0 || o.Uploads < 0 || o.Attempts < 0 || o.Backoff < 0 || o.Timeout < 0 || o.MaxObject < 0 {
		errs = append(errs, errors.New("parallel transfers, attempts, back-off, time-out and size must not be negative"))
	}
	_, err := proxyFunc(o.Proxy)
	errs = append(errs, err)
	return fault.Wrap(fault.BadInput, errors.Join(errs...), "reading the settings of remotes")
}

func proxyFunc(setting string) (func(*http.Request) (*url.URL, error), error) {
	switch setting {
	case "system":
		return http.ProxyFromEnvironment, nil
	case "no":
		return nil, nil
	}
	u, err := url.Parse(setting)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "socks5" {
		return nil, fmt.Errorf("proxy %.200q: system, no or a URL of http, https or socks5 is expected", setting)
	}
	return http.ProxyURL(u), nil
}
