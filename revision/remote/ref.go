package remote

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/state"
)

// Default addresses.
const (
	defaultBaseURL     = "https://api.pantahub.com"
	defaultRepoBaseURL = "https://pvr.pantahub.com"
)

// devicePort and devicePath make up a device's own endpoint.
const (
	devicePort = 12368
	devicePath = "/cgi-bin/pvr"
)

// Reference is a repository as the user names it, with the selected parts.
type Reference struct {
	// Path is a local repository: a directory that holds a file json, or an
	// archive. Empty for a remote.
	Path string
	// URL is a remote without its fragment; nil for a local repository.
	URL *url.URL
	// Fragment selects parts; its zero value is all of them.
	Fragment state.Fragment
}

// parseReference reads one of
//
//	192.168.1.2, fe80::1    a device's own endpoint on port 12368
//	https://host/path       a remote; http works, too
//	path                    a directory with a file json, or an archive, if it exists
//	nick/device             a device of the Hub, below the URL repoBase
//
// each with an optional #PART,-PART. An empty repoBase means
// defaultRepoBaseURL.
func parseReference(text, repoBase string) (Reference, error) {
	name, frag, _ := strings.Cut(text, "#")
	ref, err := parseName(name, repoBase)
	if err != nil {
		return Reference{}, fault.Wrap(fault.BadInput, err, "reading repository name %.200q", withoutCredentials(text))
	}
	ref.Fragment, err = state.ParseFragment(unescape(frag))
	if err != nil {
		return Reference{}, fault.Wrap(fault.BadInput, err, "reading repository name %.200q", withoutCredentials(text))
	}
	return ref, nil
}

// withoutCredentials returns a name for messages, which may end up in the log of a CI: one of
// a URL without its name and password.
func withoutCredentials(text string) string {
	scheme, rest, _ := strings.Cut(text, "://")
	authority := rest
	if end := strings.IndexAny(rest, "/?#"); end >= 0 {
		authority = rest[:end]
	}
	at := strings.LastIndexByte(authority, '@')
	if at < 0 {
		return text
	}
	return scheme + "://...@" + rest[at+1:]
}

// unescape decodes percent encoding; a text without it, or with a malformed one, is
// returned unchanged.
func unescape(text string) string {
	if plain, err := url.PathUnescape(text); err == nil {
		return plain
	}
	return text
}

func parseName(name, repoBase string) (Reference, error) {
	if u, ok := deviceURL(name); ok {
		return Reference{URL: u}, nil
	}
	if strings.Contains(name, "://") {
		u, err := ParseURL(name)
		return Reference{URL: u}, err
	}
	if isLocal(name) {
		return Reference{Path: name}, nil
	}
	u, err := hubURL(name, repoBase)
	return Reference{URL: u}, err
}

// zone is the network interface of a link-local address, "" for others.
var zone = regexp.MustCompile(`^[A-Za-z0-9._-]{0,15}$`)

// deviceURL expands an IP address to the endpoint of the device there.
func deviceURL(name string) (*url.URL, bool) {
	addr, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(name, "["), "]"))
	if err != nil || !zone.MatchString(addr.Zone()) {
		return nil, false
	}
	host := netip.AddrPortFrom(addr, devicePort).String()
	return &url.URL{Scheme: "http", Host: host, Path: devicePath}, true
}

// ParseURL reads an absolute http or https URL; a fragment and slashes at the end
// are cut off. A password in a URL is rejected, because it would end up in
// configuration files and logs.
func ParseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("not a valid URL: %w", bareURLError(err))
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("not a valid URL: scheme %q is not http or https", u.Scheme)
	case u.Hostname() == "":
		return nil, fmt.Errorf("not a valid URL: it names no host")
	case u.User != nil:
		return nil, fmt.Errorf("a name or password in a URL is not supported; log in, or pass an access token")
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return nil, fmt.Errorf("not a valid URL: port %.20q", port)
		}
	}
	u.Fragment, u.RawFragment = "", ""
	u.Path, u.RawPath = strings.TrimRight(u.Path, "/"), strings.TrimRight(u.RawPath, "/")
	return u, nil
}

// bareURLError removes the URL that the message would repeat.
func bareURLError(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

// isLocal reports whether a name is a local repository. A checkout is not one: its
// repository is the directory .pvr in it.
func isLocal(name string) bool {
	info, err := os.Stat(name)
	if err != nil {
		return false
	}
	if info.Mode().IsRegular() {
		return true
	}
	doc, err := os.Stat(filepath.Join(name, "json"))
	return err == nil && doc.Mode().IsRegular()
}

// hubURL expands nick/device.
func hubURL(name, repoBase string) (*url.URL, error) {
	nick, device, ok := strings.Cut(strings.TrimSuffix(name, "/"), "/")
	switch {
	case name == "":
		return nil, fmt.Errorf("it is empty")
	case isNick(nick) && isNick(device):
		return belowBase(repoBase, nick, device)
	case isLocal(filepath.Join(name, ".pvr")):
		return nil, fmt.Errorf("%s is a checkout; its repository is %s", name, filepath.Join(name, ".pvr"))
	case !ok && nick != "":
		return nil, fmt.Errorf("no such file, and as the name of a remote the device nick is missing: write nick/device")
	}
	return nil, fmt.Errorf("not a valid URL, and no such file")
}

func belowBase(repoBase, nick, device string) (*url.URL, error) {
	if repoBase == "" {
		repoBase = defaultRepoBaseURL
	}
	base, err := ParseURL(repoBase)
	if err != nil {
		return nil, fmt.Errorf("reading the base URL of repositories %.200q: %w", repoBase, err)
	}
	return base.JoinPath(url.PathEscape(nick), url.PathEscape(device)), nil
}

// isNick reports whether a name can be one path element of the Hub.
func isNick(name string) bool {
	if name == "" || name == "." || name == ".." || len(name) > state.MaxElement {
		return false
	}
	return strings.IndexFunc(name, func(r rune) bool { return r <= ' ' || r == 0x7f || strings.ContainsRune(`/\:?#`, r) }) < 0
}

// IsRemote reports whether the repository is reached over the network.
func (r Reference) IsRemote() bool { return r.URL != nil }

// Revision returns the revision that a trail's URL names: the REV of
// ".../steps/REV", "" for the latest.
func (r Reference) Revision() string {
	if r.URL == nil {
		return ""
	}
	rest, rev := cutLast(r.URL.Path)
	if _, last := cutLast(rest); last == "steps" {
		return rev
	}
	return ""
}

func cutLast(path string) (before, last string) {
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return "", path
	}
	return path[:i], path[i+1:]
}

// Name returns the last path element, which names the directory of a clone.
func (r Reference) Name() string {
	if r.URL == nil {
		return filepath.Base(r.Path)
	}
	_, last := cutLast(r.URL.Path)
	return last
}

// String returns the normalised name with its fragment, as a checkout's
// configuration remembers it.
func (r Reference) String() string {
	name := r.Path
	if r.URL != nil {
		name = r.URL.String()
	}
	if frag := r.Fragment.String(); frag != "" {
		name += "#" + frag
	}
	return name
}
