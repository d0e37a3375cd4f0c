package vulns

import (
	"cmp"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/sbom"
)

// purl is a package URL in parts.
type purl struct {
	kind, namespace, name, version string
	qualifiers                     map[string]string
}

// maxPURL bounds a package URL, in bytes.
const maxPURL = 4096

// parsePURL reads a package URL (https://github.com/package-url/purl-spec).
func parsePURL(text string) (p purl, ok bool) {
	rest, ok := strings.CutPrefix(text, "pkg:")
	if !ok || len(text) > maxPURL {
		return p, false
	}
	rest, _, _ = strings.Cut(rest, "#")
	rest, query, _ := strings.Cut(rest, "?")
	rest = strings.Trim(rest, "/")
	kind, rest, ok := strings.Cut(rest, "/")
	if !ok {
		return p, false
	}
	if i := strings.LastIndexByte(rest, '@'); i > 0 && !strings.Contains(rest[i:], "/") {
		p.version, rest = rest[i+1:], rest[:i]
	}
	p.kind, p.name = strings.ToLower(kind), rest
	if i := strings.LastIndexByte(rest, '/'); i >= 0 {
		p.namespace, p.name = rest[:i], rest[i+1:]
	}
	for _, part := range []*string{&p.namespace, &p.name, &p.version} {
		var err error
		if *part, err = url.PathUnescape(*part); err != nil {
			return p, false
		}
	}
	p.qualifiers = map[string]string{}
	for pair := range strings.SplitSeq(query, "&") {
		key, value, _ := strings.Cut(pair, "=")
		if value, err := url.PathUnescape(value); err == nil && key != "" {
			p.qualifiers[strings.ToLower(key)] = value
		}
	}
	return p, p.name != ""
}

// covers reports whether a package URL of a statement names a package: a version or a qualifier that it
// does not have may be any.
func (p purl) covers(o purl) bool {
	if p.kind != o.kind || p.namespace != o.namespace || p.name != o.name || p.version != "" && p.version != o.version {
		return false
	}
	for key, value := range p.qualifiers {
		if o.qualifiers[key] != value {
			return false
		}
	}
	return true
}

// identity is what data call a package.
type identity struct {
	// ecosystem is that of OSV without the release, and name the package's name there.
	ecosystem, name string
	// release is that of a distribution in OSV's form; empty when it is not known.
	release string
	// version is empty when it is not known; order is nil when versions of the ecosystem cannot be
	// compared.
	version string
	order   order
	// upstream is set where a distribution has another identity, whose data go first: it mends
	// vulnerabilities without another upstream version.
	upstream bool
}

// The ecosystems of OSV with data of other forms too.
const (
	debian = "Debian"
	linux  = "Linux" // the kernel; its package is named Kernel
)

// distribution is how OSV names the packages of a distribution.
type distribution struct {
	kind, namespace string
	ecosystem       string
	order           order
	// release makes OSV's release of the qualifier distro; nil when the ecosystem has none.
	release func(distro string) string
}

var distributions = []distribution{
	{"deb", "debian", debian, debOrder, debianRelease},
	{"deb", "ubuntu", "Ubuntu", debOrder, ubuntuRelease},
	{"apk", "alpine", "Alpine", apkOrder, alpineRelease},
	{"apk", "wolfi", "Wolfi", apkOrder, nil},
	{"apk", "chainguard", "Chainguard", apkOrder, nil},
	{"rpm", "redhat", "Red Hat", rpmOrder, firstNumber},
	{"rpm", "rocky", "Rocky Linux", rpmOrder, firstNumber},
	{"rpm", "rockylinux", "Rocky Linux", rpmOrder, firstNumber},
	{"rpm", "almalinux", "AlmaLinux", rpmOrder, firstNumber},
	{"rpm", "alma", "AlmaLinux", rpmOrder, firstNumber},
	{"rpm", "opensuse", "openSUSE", rpmOrder, firstNumber},
	{"rpm", "suse", "SUSE", rpmOrder, firstNumber},
	{"rpm", "mageia", "Mageia", rpmOrder, firstNumber},
	{"rpm", "openeuler", "openEuler", rpmOrder, firstNumber},
}

// languages are the ecosystems of package URLs of other types. Those without an order have a rule of
// their own, of which nothing here knows.
var languages = map[string]struct {
	ecosystem string
	order     order
}{
	"golang": {"Go", semverOrder}, "npm": {"npm", semverOrder}, "pypi": {"PyPI", pep440Order}, "cargo": {"crates.io", semverOrder},
	"hex": {"Hex", semverOrder}, "pub": {"Pub", semverOrder}, "gem": {"RubyGems", nil}, "maven": {"Maven", nil}, "nuget": {"NuGet", nil},
	"composer": {"Packagist", nil}, "cran": {"CRAN", nil}, "hackage": {"Hackage", nil},
}

// identities returns what data may call a package; none when it has no package URL of a known type.
func identities(p sbom.Package) []identity {
	var out []identity
	u, ok := parsePURL(p.PURL)
	if ok {
		u.version = cmp.Or(u.version, p.Version)
		if id, ok := distributed(u, p); ok {
			out = append(out, id)
		} else if l, ok := languages[u.kind]; ok {
			out = append(out, identity{ecosystem: l.ecosystem, name: languageName(u), version: u.version, order: l.order})
		}
	}
	if version, ok := kernelVersion(p.CPE); ok {
		out = append(out, identity{ecosystem: linux, name: "Kernel", version: version, order: kernelOrder, upstream: len(out) > 0})
	}
	return out
}

// distributed returns the identity of a distribution's package: that of its source package, which
// data name.
func distributed(u purl, p sbom.Package) (identity, bool) {
	i := slices.IndexFunc(distributions, func(d distribution) bool { return d.kind == u.kind && d.namespace == strings.ToLower(u.namespace) })
	if i < 0 {
		return identity{}, false
	}
	d := distributions[i]
	id := identity{ecosystem: d.ecosystem, name: u.name, version: u.version, order: d.order}
	if d.release != nil {
		id.release = d.release(u.qualifiers["distro"])
	}
	switch d.kind {
	case "rpm":
		if epoch := u.qualifiers["epoch"]; epoch != "" && !strings.Contains(id.version, ":") {
			id.version = epoch + ":" + id.version
		}
	case "deb":
		id.version = rebuilt.ReplaceAllString(id.version, "")
		id.source(u, p)
		if id.ecosystem == debian && (id.release == "" || strings.Contains(id.version, "~bpo")) {
			id.release = debianRelease(suffixed.FindString(id.version))
		}
	default:
		id.source(u, p)
	}
	return id, true
}

var (
	// rebuilt is the suffix of a package that was built again from the same source.
	rebuilt = regexp.MustCompile(`\+b[0-9]+$`)
	// suffixed is the release that Debian's updates have in their versions.
	suffixed = regexp.MustCompile(`[+~]deb[0-9]+u[0-9]+|~bpo[0-9]+`)
	// signedGRUB and signedKernel are source packages whose binary packages are those of another one,
	// signed.
	signedGRUB   = regexp.MustCompile(`^grub-efi-[a-z0-9]+-signed$`)
	signedKernel = regexp.MustCompile(`^linux-signed(-[a-z0-9]+)?$`)
	// grubVersion is that of signed packages: 1+2.06+13+deb12u1 is 2.06-13+deb12u1.
	grubVersion = regexp.MustCompile(`^[0-9]+\+([0-9][^+]*)\+(.*)$`)
)

// source puts the source package in place of the binary one.
func (id *identity) source(u purl, p sbom.Package) {
	name, version := p.SourceName, p.SourceVersion
	if upstream := u.qualifiers["upstream"]; name == "" && upstream != "" {
		name, version, _ = strings.Cut(upstream, "@")
	}
	switch {
	case name == "":
	case signedKernel.MatchString(name):
		id.name = "linux"
	case signedGRUB.MatchString(name):
		id.name = "grub2"
		if m := grubVersion.FindStringSubmatch(id.version); m != nil {
			id.version = m[1] + "-" + m[2]
		}
	default:
		id.name, id.version = name, cmp.Or(version, id.version)
	}
}

// separators are what PyPI's names have between words.
var separators = regexp.MustCompile(`[-_.]+`)

// languageName returns OSV's name of a package: namespace and name.
func languageName(u purl) string {
	name := u.name
	switch {
	case u.kind == "pypi":
		return separators.ReplaceAllString(strings.ToLower(name), "-")
	case u.namespace != "" && u.kind == "maven":
		return u.namespace + ":" + name
	case u.namespace != "":
		return u.namespace + "/" + name
	}
	return name
}

// kernelVersion returns the version of a CPE name that is the Linux kernel's.
func kernelVersion(cpe string) (string, bool) {
	rest, ok := strings.CutPrefix(cpe, "cpe:2.3:o:linux:linux_kernel:")
	version, _, _ := strings.Cut(rest, ":")
	if version == "*" || version == "-" {
		version = ""
	}
	return version, ok
}

// codenames are Debian's releases.
var codenames = []struct{ name, number string }{
	{"stretch", "9"}, {"buster", "10"}, {"bullseye", "11"}, {"bookworm", "12"}, {"trixie", "13"}, {"forky", "14"}, {"duke", "15"},
}

var (
	number    = regexp.MustCompile(`[0-9]+`)
	pointed   = regexp.MustCompile(`([0-9]+)\.([0-9]+)`)
	backports = regexp.MustCompile(`^~?bpo([0-9]+)$|-backports$`)
)

// debianRelease returns the number of a release, as 12, of the qualifier distro: bookworm, debian-12,
// 12. What is from backports was made for the release behind, with whose versions it is compared.
func debianRelease(distro string) string {
	name := strings.TrimPrefix(strings.ToLower(distro), "debian-")
	back := backports.MatchString(name)
	for _, suffix := range []string{"-security", "-updates", "-proposed-updates", "-backports"} {
		name = strings.TrimSuffix(name, suffix)
	}
	i := slices.IndexFunc(codenames, func(c struct{ name, number string }) bool {
		return c.name == name || c.number == number.FindString(name)
	})
	switch {
	case name == "sid" || name == "unstable":
		return "sid"
	case i < 0:
		return ""
	case back && i+1 < len(codenames):
		i++
	}
	return codenames[i].number
}

// debianCodename returns the name of a release by its number.
func debianCodename(number string) string {
	for _, c := range codenames {
		if c.number == number {
			return c.name
		}
	}
	return number
}

func ubuntuRelease(distro string) string { return pointed.FindString(distro) }

func alpineRelease(distro string) string {
	if m := pointed.FindString(distro); m != "" {
		return "v" + m
	}
	return ""
}

func firstNumber(distro string) string { return number.FindString(distro) }

// ofRelease reports whether data about an ecosystem of OSV, as Debian:12, are about an identity. sure is
// false when it cannot be told.
func (id *identity) ofRelease(ecosystem string) (yes, sure bool) {
	base, release, _ := strings.Cut(ecosystem, ":")
	switch {
	case base != id.ecosystem:
		return false, true
	case release == "":
		return true, true
	case id.release == "":
		return true, false
	}
	switch base {
	case debian:
		return debianRelease(release) == id.release, true
	case "Alpine":
		return release == id.release, true
	case "Ubuntu":
		// Versions of the extended maintenance are of machines that have it.
		if strings.HasPrefix(release, "Pro") != strings.Contains(id.version, "esm") {
			return false, true
		}
		return ubuntuRelease(release) == id.release, true
	case "openSUSE", "SUSE", "openEuler":
		return firstNumber(release) == id.release, false
	}
	return firstNumber(release) == id.release, true
}
