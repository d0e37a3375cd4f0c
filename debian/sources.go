package debian

import (
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// source is one entry of apt's source lists, in either format
// (sources.list(5)).
type source struct {
	uris     []string
	suites   []string
	parts    []string // components
	signedBy string   // verbatim: a path, fingerprints or an embedded key with its indented lines
	trusted  bool
	enabled  bool
	binary   bool
}

// parseList reads the one-line format.
func parseList(text string) []source {
	var out []source
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		if s, ok := parseListLine(strings.TrimSpace(line)); ok {
			out = append(out, s)
		}
	}
	return out
}

var listLine = regexp.MustCompile(`^deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)((?:\s+\S+)*)$`)

func parseListLine(line string) (source, bool) {
	m := listLine.FindStringSubmatch(line)
	if m == nil {
		return source{}, false
	}
	s := source{uris: []string{m[2]}, suites: []string{m[3]}, parts: strings.Fields(m[4]), enabled: true, binary: true}
	for _, option := range strings.Fields(m[1]) {
		key, value, _ := strings.Cut(option, "=")
		switch strings.ToLower(key) {
		case "signed-by":
			s.signedBy = value
		case "trusted":
			s.trusted = value == "yes"
		}
	}
	return s, true
}

// parseStanzas reads the deb822 format.
func parseStanzas(text string) []source {
	var out []source
	for _, fields := range stanzas(text) {
		enabled := strings.ToLower(fields["enabled"])
		out = append(out, source{
			uris: strings.Fields(fields["uris"]), suites: strings.Fields(fields["suites"]),
			parts: strings.Fields(fields["components"]), signedBy: fields["signed-by"],
			trusted: strings.ToLower(fields["trusted"]) == "yes",
			enabled: enabled != "no" && enabled != "false" && enabled != "0",
			binary:  slices.Contains(strings.Fields(fields["types"]), "deb"),
		})
	}
	return out
}

// stanzas reads deb822 paragraphs: field names in lower case, continuation lines
// kept with their indentation.
func stanzas(text string) []map[string]string {
	var out []map[string]string
	var cur map[string]string
	last := ""
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		switch {
		case strings.TrimSpace(line) == "":
			cur = nil
		case line[0] == '#':
		case (line[0] == ' ' || line[0] == '\t') && cur != nil:
			cur[last] += "\n" + line
		default:
			key, value, ok := strings.Cut(line, ":")
			if !ok {
				continue
			}
			if cur == nil {
				cur = map[string]string{}
				out = append(out, cur)
			}
			last = strings.ToLower(strings.TrimSpace(key))
			cur[last] = strings.TrimSpace(value)
		}
	}
	return out
}

// debianSuite matches Debian's own suites but not those of third parties such as
// "bookworm-pgdg".
var debianSuite = regexp.MustCompile(`^(?:bullseye|bookworm|trixie|forky|duke|sid|oldoldstable|oldstable|stable|testing|unstable)(-updates|-backports|-security|/updates)?$`)

// mirrors are the machine's sources for Debian's two archives.
type mirrors struct{ main, security *source }

// findMirrors picks from the machine's sources the one that most looks like Debian's own,
// for each archive.
func findMirrors(all []source) (mirrors, error) {
	var m mirrors
	bestMain, bestSecurity := 0, 0
	for i, s := range all {
		for _, suite := range s.suites {
			score, security := rate(s, suite)
			if security && score > bestSecurity {
				m.security, bestSecurity = &all[i], score
			}
			if !security && score > bestMain {
				m.main, bestMain = &all[i], score
			}
		}
	}
	if m.main == nil {
		return m, fault.New(fault.Missing, "looking for Debian's archive among this machine's apt sources: "+
			"not found; add it to /etc/apt/sources.list.d (a line \"deb MIRROR bookworm main\")")
	}
	return m, nil
}

func rate(s source, suite string) (score int, security bool) {
	m := debianSuite.FindStringSubmatch(suite)
	if m == nil || !s.enabled || !s.binary || len(s.uris) == 0 || !slices.Contains(s.parts, "main") {
		return 0, false
	}
	security = m[1] == "-security" || m[1] == "/updates"
	score = 1
	if strings.Contains(s.signedBy, "debian-archive") {
		score += 4
	}
	if u, err := url.Parse(s.uris[0]); err == nil && strings.HasPrefix(path.Base(u.Path), "debian") {
		score += 2
	}
	return score, security
}

// components lists where packages may come from. Loaders and firmware of many boards are
// in the non-free ones.
var components = []string{"main", "contrib", "non-free", "non-free-firmware"}

// text renders the sources of a private root for one suite and architecture.
func (m mirrors) text(suite, arch string) string {
	suites := []string{suite}
	if suite != "sid" && suite != "unstable" {
		suites = append(suites, suite+"-updates")
	}
	var b strings.Builder
	for _, s := range suites {
		m.main.stanza(&b, s, arch)
	}
	if m.security != nil && len(suites) > 1 {
		m.security.stanza(&b, suite+"-security", arch)
	}
	return b.String()
}

func (s *source) stanza(b *strings.Builder, suite, arch string) {
	b.WriteString("Types: deb\nURIs: " + strings.Join(s.uris, " ") + "\nSuites: " + suite +
		"\nComponents: " + strings.Join(components, " ") + "\nArchitectures: " + arch + "\n")
	if s.signedBy != "" {
		b.WriteString("Signed-By: " + s.signedBy + "\n")
	}
	if s.trusted {
		b.WriteString("Trusted: yes\n")
	}
	b.WriteString("\n")
}

// bases lists the base addresses for a path of the pool. The path determines the archive:
// Debian's security archive keeps its pool below pool/updates.
func (m mirrors) bases(poolPath string) []string {
	if m.security != nil && strings.HasPrefix(poolPath, "pool/updates/") {
		return m.security.uris
	}
	return m.main.uris
}
