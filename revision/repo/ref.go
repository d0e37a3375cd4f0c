package repo

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/pantavisor/pantavisor/revision/state"
)

// ErrNick is the error for a single word that is not a path: devices are named with
// their owner.
var ErrNick = errors.New("Device nick is missing. (syntax:pvr get <USER_NICK>/<DEVICE_NICK>). See --help. ") //nolint:revive,staticcheck // scripts know the text

// errRef is wrapped by the errors for words that do not name a repository.
var errRef = errors.New("not a valid URL")

// Ref is a repository's name, as users write it.
type Ref struct {
	// Text is the name as it was written, with its fragment.
	Text string
	// Path is a local directory or archive; empty for a remote.
	Path string
	// URL is a remote without its fragment; empty for a local repository.
	URL string
	// Export is the URL of an export without its fragment, see [Web]; empty for others.
	Export string
	// Fragment selects parts.
	Fragment state.Fragment
}

// ParseRef reads a repository's name: a bare IP address (a device in the local
// network), a URL, an existing path, or nick/device below base, the address of the
// hub. Parts follow after '#'.
func ParseRef(text, base string) (Ref, error) {
	name, frag, _ := strings.Cut(text, "#")
	fragment, err := state.ParseFragment(frag)
	if err != nil {
		return Ref{}, fmt.Errorf("reading repository name %q: %w", text, err)
	}
	ref := Ref{Text: text, Fragment: fragment}
	if _, _, ok := exportURL(name); ok {
		ref.Export = name
		return ref, nil
	}
	ref.Path, ref.URL, err = place(name, base)
	return ref, err
}

// place returns the path or the URL of a repository.
func place(name, base string) (path, remote string, err error) {
	if remote := address(name); remote != "" {
		return "", remote, nil
	}
	info, err := os.Stat(name)
	isDir := err == nil && info.IsDir()
	switch {
	case err == nil && (!isDir || holdsState(name)):
		return name, "", nil
	case isDir && holdsState(filepath.Join(name, Dir)):
		return "", "", fmt.Errorf("%w: %s is a checkout; its repository is %s", errRef, name, filepath.Join(name, Dir))
	case isArchiveName(name):
		return "", "", fmt.Errorf("%w: %s: no such file", errRef, name)
	case name == "":
		return "", "", fmt.Errorf("%w: the repository's name is empty", errRef)
	case !strings.Contains(name, "/"):
		return "", "", ErrNick
	case isNick(name):
		return "", strings.TrimSuffix(base, "/") + "/" + name, nil
	}
	return "", "", fmt.Errorf("%w: %s: no such path, and neither a URL nor nick/device", errRef, name)
}

// address returns the URL of a bare IP address or a URL, empty for another name.
func address(name string) string {
	if ip, err := netip.ParseAddr(name); err == nil {
		host := ip.String()
		if ip.Is6() {
			host = "[" + host + "]"
		}
		return "http://" + host + ":12368/cgi-bin/pvr"
	}
	if u, err := url.Parse(name); err == nil && u.Scheme != "" && u.Host != "" {
		return name
	}
	return ""
}

// isArchiveName reports whether a name is that of an archive and cannot be meant for a
// device.
func isArchiveName(name string) bool {
	for _, ext := range archiveNames {
		if strings.HasSuffix(strings.ToLower(name), ext) {
			return true
		}
	}
	return false
}

var archiveNames = []string{".tgz", ".tar", ".tar.gz", ".tar.zst", ".tar.xz", ".tar.bz2"}

// isNick reports whether a name has the form nick/device.
func isNick(name string) bool {
	nick, device, ok := strings.Cut(name, "/")
	return ok && nick != "" && nick[0] != '.' && device != "" && !strings.Contains(device, "/")
}

// holdsState reports whether a directory is a repository or an unpacked export.
func holdsState(dir string) bool {
	info, err := os.Stat(filepath.Join(dir, "json"))
	return err == nil && info.Mode().IsRegular()
}

// Base returns the name's last path element without the fragment, which is where
// clone puts its checkout; for an archive in the working directory, whose name is
// taken, without its extension.
func (r Ref) Base() string {
	name, _, _ := strings.Cut(r.Text, "#")
	if r.Export != "" {
		name, _, _ = strings.Cut(name, pin)
		name, _, _ = strings.Cut(name, "?")
		return withoutArchiveName(filepath.Base(name))
	}
	base := filepath.Base(strings.TrimRight(name, "/"))
	if info, err := os.Lstat(base); err == nil && !info.IsDir() {
		base = withoutArchiveName(base)
	}
	return base
}

func withoutArchiveName(base string) string {
	for _, ext := range archiveNames {
		if stem := base[:max(0, len(base)-len(ext))]; stem != "" && strings.EqualFold(base[len(stem):], ext) {
			return stem
		}
	}
	return base
}
